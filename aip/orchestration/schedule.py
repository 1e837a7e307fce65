"""Which ready task goes first: the one with the longest way still to go.

*Upward rank* of a task is its own weight plus the largest rank among its dependants: the length of the longest path from it to
an end of the plan. Starting the highest rank first is list scheduling as in HEFT (Topcuoglu, Hariri, Wu, "Performance-effective
and low-complexity task scheduling for heterogeneous computing", IEEE TPDS 13(3), 2002); for equal workers it is never worse than
twice the optimum (Graham 1969) and mostly within a tenth of it. There are no waves: a task is ready the moment its own
dependencies are done.

Release, as a task's dependencies end (`when`; a cancelled dependency counts as failed):

    when            starts                                          is skipped
    all_ok          all succeeded                                   as soon as one did not succeed
    none_failed     all ended, none failed; skipped ones are fine   as soon as one failed
    any_ok          all ended, at least one succeeded               all ended, none succeeded
    always          all ended                                       never

`any_ok` waits for the stragglers too: what a task is given may not depend on who came first, or a run could not be repeated.

Weights are seconds. Where nothing was measured yet every task weighs 1, and rank counts tasks.
"""

from __future__ import annotations

from enum import Enum
from heapq import heappop, heappush

from .plan import When


class Release(Enum):
    WAIT = "wait"
    START = "start"
    SKIP = "skip"


def release(when: When, *, ok: int, failed: int, skipped: int, waiting: int) -> Release:
    """Whether a task may start, by the counts of its dependencies' ends."""
    if (when is When.ALL_OK and failed + skipped) or (when is When.NONE_FAILED and failed):
        return Release.SKIP
    if waiting:
        return Release.WAIT
    if when is When.ANY_OK and not ok and failed + skipped:
        return Release.SKIP
    return Release.START


class ReadyQueue:
    """Numbers of tasks that have work to start, highest rank first; the plan's own order among equals.

    A task stands in it once, however many units it can start; it is taken out when it has none left.
    """

    __slots__ = ("_heap", "_ranks", "_standing")

    def __init__(self, ranks: list[float]) -> None:
        self._ranks = ranks
        self._heap: list[tuple[float, int]] = []
        self._standing: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._heap)

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, number: int) -> None:
        if number not in self._standing:
            self._standing.add(number)
            heappush(self._heap, (-self._ranks[number], number))

    def first(self) -> int:
        return self._heap[0][1]

    def pop(self) -> int:
        number = heappop(self._heap)[1]
        self._standing.discard(number)
        return number
