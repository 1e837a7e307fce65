"""Each wall is what stops what it is said to stop: taken away, the attempt comes further; and where two stand, one is enough."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sandbox_kit import here, stranger

import aip.testing
from actors import sandboxed
from aip.compute.sandbox import Mean

LOCAL = {"family": 2, "kind": 1, "address": ["127.0.0.1", 9]}  # The discard port of nobody.


@pytest.mark.parametrize(
    ("without", "capability", "arguments", "said"),
    [
        ((), "fork", {}, "PermissionError"),
        ((Mean.SECCOMP,), "fork", {}, "done"),
        ((), "kill", {"pid": 99_999}, "PermissionError"),
        ((Mean.SECCOMP,), "kill", {"pid": 99_999}, "ProcessLookupError"),
        ((), "connect", LOCAL, "PermissionError"),
        ((Mean.SECCOMP, Mean.NETWORK), "connect", LOCAL, "PermissionError"),
        ((Mean.SECCOMP, Mean.LANDLOCK), "connect", LOCAL, "OSError"),
        ((Mean.SECCOMP, Mean.LANDLOCK, Mean.NETWORK), "connect", LOCAL, "ConnectionRefusedError"),
    ],
)
async def test_a_wall_is_what_stops_it(monkeypatch, without, capability, arguments, said):
    if Mean.LANDLOCK not in here().has or here().landlock_abi < 4:
        pytest.skip("Landlock of this kernel knows nothing of TCP")
    fewer = replace(here(), has=here().has - set(without))
    monkeypatch.setattr(sandboxed, "means_here", lambda: fewer)
    async with aip.testing.platform(stranger(demand=[])) as p:
        assert await p.call("stranger/a", capability, **arguments) == said
