"""What every peer's script shares: how it prints, how often it repeats, the shapes of the plans. Only the standard library."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version

STEPS = 1_000
ROUNDS = 3


def say(measure: str, values: list[float], unit: str, package: str, note: str = "") -> None:
    print(
        json.dumps(
            {"measure": measure, "values": values, "unit": unit, "version": version(package), "note": note}
        ),
        flush=True,
    )


def needs(shape: str, steps: int) -> list[list[int]]:
    """For each step the steps before it, as in our own plans: a chain, or a fan 1 -> steps - 2 -> 1."""
    if shape == "chain":
        return [[number - 1] if number else [] for number in range(steps)]
    middle = list(range(1, steps - 1))
    return [[], *([0] for _ in middle), middle]


def timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


async def timed_async(act: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await act()
    return time.perf_counter() - began
