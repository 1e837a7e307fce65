"""A log with an entry of every kind, signed."""

from __future__ import annotations

from pathlib import Path

import pytest
from written_log import EVERY_KIND, WrittenLog


@pytest.fixture
def log(tmp_path: Path) -> WrittenLog:
    return WrittenLog(tmp_path / "audit").say(*EVERY_KIND).sign()
