"""What every test of models stands on: a key to look for, and pauses too short to wait for."""

from __future__ import annotations

import pytest
from model_kit import KEY


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("WRITER_KEY", KEY)
    return KEY


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between attempts are the same draws, a hundred times shorter."""
    monkeypatch.setattr("aip.models.retry.INITIAL_S", 0.005)
