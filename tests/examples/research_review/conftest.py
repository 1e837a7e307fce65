"""The example's package stands beside its plan, not on the path of the installed platform; the tests put it there."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import pytest
from research_kit import EXAMPLE

sys.path.insert(0, str(EXAMPLE))


@pytest.fixture(scope="session")
def agents() -> ModuleType:
    """Under a name of its own: every example has an `agents.py`."""
    spec = importlib.util.spec_from_file_location("research_review_agents", EXAMPLE / "agents.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
