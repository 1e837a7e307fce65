"""What the tests on real Ray share."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aip.client import Platform

AGENTS = Path(__file__).parent / "agents_one"


def pids(platform: Platform) -> dict[str, int]:
    """Process ids by name, out of the tree."""
    found: dict[str, int] = {}

    def walk(node: dict[str, Any]) -> None:
        if node["pid"]:
            found[node["name"]] = node["pid"]
        for child in node["children"]:
            walk(child)

    walk(platform.status()["tree"])
    return found


def kill9(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def until(condition: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """The condition's first true value."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"did not come true within {timeout_s} s")
        time.sleep(0.05)
