"""The rate of a throttle, shared by all processes of a node: the generic cell rate algorithm (ITU-T I.371) on one word an order.

The word holds, in microseconds, when the next turn is due if all of them kept the rate. A turn may begin up to `EARLY_S` before
that: cells look at mail that waits ten times a second, and a rate above ten would otherwise never be reached.

What it does not guarantee: the word is read and written, not compared and swapped. Two processes that take in the same
microsecond count as one, so the rate may be exceeded by what lies within such a race.
"""

from __future__ import annotations

from collections.abc import MutableSequence

from .orders import KillOrder

EARLY_S = 0.25
RATE_MIN = 0.01  # One turn in 100 s. Who wants less wants a pause.
RATE_MAX = 1_000_000.0
_MICRO = 1_000_000


class Pace:
    def __init__(self, words: MutableSequence[int]) -> None:
        self._words = words

    def due(self, order: KillOrder, now: float) -> float:
        """When the next turn under this order may begin; not after `now` if it may begin."""
        due = self._words[order.epoch % len(self._words)] / _MICRO
        # A word that is further ahead than the rate can bring it is another order's, or the clock was set back.
        return due - EARLY_S if due - now <= EARLY_S + 1 / order.rate + 1e-3 else now

    def take(self, order: KillOrder, now: float) -> None:
        due = max(now, self.due(order, now) + EARLY_S)
        self._words[order.epoch % len(self._words)] = int((due + 1 / order.rate) * _MICRO)
