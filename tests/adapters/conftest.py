"""What every test of adapters stands on: the scripted endpoint and the model agent of the tests of models, and its key."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

sys.path.append(str(Path(__file__).parents[1] / "models"))

from model_kit import KEY


def sdk() -> dict[str, ModuleType]:
    """The OpenAI Agents SDK, whose import name is that of many a plan's own module: other tests put theirs before it."""
    if not hasattr(sys.modules.get("agents"), "__path__"):  # Not yet imported, or a plan's single file.
        sys.modules.pop("agents", None)
        path = list(sys.path)
        sys.path[:] = [entry for entry in path if not Path(entry, "agents.py").exists()]
        importlib.import_module("agents")
        sys.path[:] = path
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "agents"}


SDK = sdk()


@pytest.fixture(autouse=True)
def the_sdk_is_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in SDK.items():
        monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("WRITER_KEY", KEY)
    return KEY
