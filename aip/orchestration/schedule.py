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

A task's `priority` comes before its rank: low, normal or high, as the author says. It orders what is ready; it never stops what
runs.

Weights are seconds. Where nothing was measured yet every task weighs 1, and rank counts tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from heapq import heapify, heappop, heappush

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
    """Numbers of tasks that have work to start, by priority, then highest rank first; the plan's own order among equals.

    A task stands in it once, however many units it can start; it is taken out when it has none left. One whose label has no room
    is set aside under that label, so that a thousand of them do not stand in the way of one that may start.
    """

    __slots__ = ("_heap", "_keys", "_standing", "aside")

    def __init__(self, ranks: Sequence[float] = (), priorities: Sequence[int] = ()) -> None:
        urgency = priorities or [0] * len(ranks)
        order = zip(urgency, ranks, range(len(ranks)), strict=True)
        self._keys = [(-int(priority), -rank, number) for priority, rank, number in order]
        self._heap: list[tuple[int, float, int]] = []
        self._standing: set[int] = set()
        self.aside: dict[str, list[tuple[int, float, int]]] = {}  # By label: those that wait for its room.

    def know(self, rank: float, priority: int = 0) -> None:
        """The next task by number, and what it is ordered by."""
        self._keys.append((-priority, -rank, len(self._keys)))

    def rank(self, number: int) -> float:
        return -self._keys[number][1]

    @property
    def known(self) -> int:
        return len(self._keys)

    def __bool__(self) -> bool:
        return bool(self._heap)

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, number: int) -> None:
        if number not in self._standing:
            self._standing.add(number)
            heappush(self._heap, self._keys[number])

    def first(self) -> int:
        return self._heap[0][2]

    def pop(self) -> int:
        number = heappop(self._heap)[2]
        self._standing.discard(number)
        return number

    def forget(self, known: int) -> None:
        """There are no more tasks than this many: the last ones have ended, and their numbers are free."""
        del self._keys[known:]
        for heap in (self._heap, *self.aside.values()):
            heap[:] = [key for key in heap if key[2] < known]
            heapify(heap)
        self._standing = {number for number in self._standing if number < known}

    def set_aside(self, label: str) -> None:
        """The first task waits until its label has room; `take_back` brings it back. It goes on standing in the queue."""
        heappush(self.aside.setdefault(label, []), heappop(self._heap))

    def take_back(self, room: Callable[[str], int]) -> None:
        """Of those set aside under each label as many as it has room for, the first ones first."""
        for label in list(self.aside):
            waiting = self.aside[label]
            for _ in range(min(room(label), len(waiting))):
                heappush(self._heap, heappop(waiting))
            if not waiting:
                del self.aside[label]
