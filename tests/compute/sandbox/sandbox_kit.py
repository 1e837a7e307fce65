"""What the tests of sandboxes share: the machine's means, and a platform with an agent in a sandbox."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import aip.testing
from actors.sandboxed import Sandboxed
from aip.compute.sandbox import Demand, Mean, Means, inspect_sandboxed, probe
from aip.compute.sandbox.means import NAMESPACE, TRANSIENT

HOSTILE = Path(__file__).parent / "hostile"
ENTRY = "hostile_agents:Hostile"


@cache
def here() -> Means:
    return probe()


def needs_container() -> None:
    missing = here().missing(Demand())
    if missing:
        pytest.skip(
            f"this machine cannot close a sandbox: {', '.join(f'{m} ({here().why[m]})' for m in missing)}"
        )


def means_of(user: str) -> Means:
    """The machine's means with this way to a user of one's own; skips where it is not there."""
    needs_container()
    if user == TRANSIENT and here().user != TRANSIENT:
        pytest.skip("a transient uid takes root")
    return replace(here(), user=user)


@cache
def manifest() -> dict[str, Any]:
    with ThreadPoolExecutor(1) as pool:  # Tests have a loop of their own in this thread.
        found = pool.submit(inspect_sandboxed, HOSTILE, [ENTRY], here(), Demand(), random.Random(1))
        return found.result()[ENTRY]


def stranger(name: str = "stranger", **more: Any) -> Any:
    """The hostile agent under this name, in a sandbox."""
    needs_container()
    given = {"entry": ENTRY, "code_root": str(HOSTILE), "manifest": manifest(), **more}
    return aip.testing.configured(Sandboxed, name, given)


USERS = (TRANSIENT, NAMESPACE)
IS_ROOT = os.geteuid() == 0
__all__ = [
    "ENTRY",
    "HOSTILE",
    "IS_ROOT",
    "USERS",
    "Mean",
    "here",
    "manifest",
    "means_of",
    "needs_container",
    "stranger",
]
