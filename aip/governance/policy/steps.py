"""Amounts in steps of 1, 2, 5, 10, 20, 50, …: how facts that change with every message are told to a policy.

A rate or a budget told to the last unit never repeats, so no decision could ever be used again, and every message would pay for
an evaluation. Told in steps it takes a few dozen values in all.

Guaranteed: **a step never opens a door.** What must not grow is rounded up, what must not run out is rounded down; so a limit
that is itself a step is held exactly, and any other as the next stricter step would be.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import product

MAGNITUDES = 17  # Amounts of budgets end at 2**53, some 9 * 10**15.
STEPS: tuple[int, ...] = tuple(first * 10**power for power, first in product(range(MAGNITUDES), (1, 2, 5)))
OVERDRAWN = -1


def up(amount: float) -> int:
    """The least step that is not below this; 0 for nothing."""
    return STEPS[min(bisect_left(STEPS, amount), len(STEPS) - 1)] if amount > 0 else 0


def down(amount: float) -> int:
    """The greatest step that is not above this; 0 for less than 1, `OVERDRAWN` for less than nothing."""
    if amount < 1:
        return 0 if amount >= 0 else OVERDRAWN
    return STEPS[bisect_right(STEPS, amount) - 1]
