"""One real platform for the whole session, in a home of its own; every test leaves it answering."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ray_kit import AGENTS, until

from actors import launch
from aip.client import Platform, connect
from aip.settings import Home


@pytest.fixture(scope="session")
def home() -> Iterator[Home]:
    place = Path(tempfile.mkdtemp(prefix="aip-test-"))
    home = Home(place)
    yield home
    launch.stop(home)
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="session")
def running(home: Home) -> Iterator[Platform]:
    with connect(home, start=True, idle_stop_s=0) as platform:
        yield platform


@pytest.fixture
def platform(running: Platform) -> Platform:
    until(running.answers)
    return running


@pytest.fixture
def deploy(platform: Platform) -> Callable[[str], str]:
    return lambda target: platform.deploy(AGENTS, target)
