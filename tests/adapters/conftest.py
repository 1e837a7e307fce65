"""What every test of adapters stands on: the scripted endpoint and the model agent of the tests of models, and its key."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "models"))

from model_kit import KEY


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("WRITER_KEY", KEY)
    return KEY
