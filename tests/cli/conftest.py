"""How the tests type commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from platform_double import T0, Double

from aip.cli.main import aip
from aip.cli.session import Session
from aip.settings import Home

Type = Callable[..., Result]


@pytest.fixture
def platform() -> Double:
    return Double()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def typed(platform: Double, home: Home) -> Type:
    """Types a command line: `typed("run list -o json")`, or its words one by one."""

    def type_words(*words: str) -> Result:
        args = words[0].split() if len(words) == 1 else list(words)
        one = Session(home=home, client=platform, clock=lambda: T0 + 60)
        return CliRunner().invoke(aip, args, obj=one)

    return type_words
