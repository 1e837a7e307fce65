"""The command line's idea of `aip.client` against the real one: the double would hide a difference otherwise."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from platform_double import Double

import aip.client
from aip.cli import contract


def functions(protocol: Any) -> list[str]:
    return [
        name
        for name, value in vars(protocol).items()
        if inspect.isfunction(value) and not name.startswith("_")
    ]


def named(function: Any) -> list[str]:
    """Parameters as a caller may name them; a function's own further ones come last and have defaults."""
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize("name", functions(contract.Platform))
@pytest.mark.parametrize("real", [aip.client.Platform, Double])
def test_a_platform_has_every_method_the_command_line_calls(name: str, real: type) -> None:
    wanted = named(getattr(contract.Platform, name))
    assert named(getattr(real, name))[: len(wanted)] == wanted


@pytest.mark.parametrize("name", functions(contract.Client))
@pytest.mark.parametrize("real", [aip.client, Double])
def test_the_client_has_every_function_the_command_line_calls(name: str, real: Any) -> None:
    wanted = [one for one in named(getattr(contract.Client, name)) if one != "options"]
    found = named(getattr(real, name))
    assert found[: len(wanted)] == wanted


def test_a_platform_can_be_started_with_what_aip_up_asks_for() -> None:
    assert {"options", "idle_stop_s"} <= set(named(aip.client.connect))
