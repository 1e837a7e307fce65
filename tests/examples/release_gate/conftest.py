"""The gate's package stands beside its plan, not on the path of the installed platform; the tests put it there."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from gate_kit import EXAMPLE

sys.path.insert(0, str(EXAMPLE))

from gate.audit import Audit, audit


def load(path: Path, name: str) -> ModuleType:
    """A module under a name of its own: two examples both have an `agents.py`."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def make() -> ModuleType:
    return load(EXAMPLE / "planted" / "make.py", "release_gate_planted_make")


@pytest.fixture(scope="session")
def agents() -> ModuleType:
    return load(EXAMPLE / "agents.py", "release_gate_agents")


@pytest.fixture(scope="session")
def planted() -> Audit:
    return audit(str(EXAMPLE / "planted"))


@pytest.fixture
def planted_copy(tmp_path: Path) -> Path:
    target = tmp_path / "planted"
    shutil.copytree(EXAMPLE / "planted", target, symlinks=True)
    return target


@pytest.fixture
def environment(tmp_path: Path, make: ModuleType) -> Callable[..., Path]:
    """Writes one distribution into an otherwise empty environment and returns its prefix."""

    def build(**planted: Any) -> Path:
        planted.setdefault("name", "demo")
        site = tmp_path / "env" / make.SITE
        site.mkdir(parents=True, exist_ok=True)
        make._install(site, make.Planted(**planted))
        return tmp_path / "env"

    return build
