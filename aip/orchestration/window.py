"""Sliding windows over the outcomes of calls: sums that are always ready, in O(1) a call.

    CountWindow    the last `size` calls            one byte a call
    TimeWindow     the calls of the last seconds    four numbers a second

As resilience4j's FixedSizeSlidingWindowMetrics and SlidingTimeWindowMetrics have them. A window judges nothing: rates are
`breaker.py`'s.
"""

from __future__ import annotations

from typing import Protocol

WINDOW_CALLS_MAX = 10_000  # One byte a call: a larger window reacts too late to be a breaker.
WINDOW_S_MAX = 3_600  # Four numbers a second; also what the first call after a long silence has to clear.

# An outcome is two bits, so that a count window needs one byte a call.
FAILED = 1
SLOW = 2


class Window(Protocol):
    """What a breaker reads: sums over the calls that lie in the window as of the last `record` or `move`."""

    calls: int
    failures: int
    slow: int
    slow_failures: int

    def record(self, now: float, outcome: int) -> None: ...

    def move(self, now: float) -> None:
        """Drop what time alone has put outside."""


class _Sums:
    """The sums themselves, and how one outcome enters or leaves them. `calls` is the window's own to count."""

    __slots__ = ("calls", "failures", "slow", "slow_failures")

    def __init__(self) -> None:
        self.calls = self.failures = self.slow = self.slow_failures = 0

    def _add(self, outcome: int, sign: int) -> None:
        if outcome & FAILED:
            self.failures += sign
        if outcome & SLOW:
            self.slow += sign
            if outcome & FAILED:
                self.slow_failures += sign


class CountWindow(_Sums):
    """The last `size` calls: a ring of one byte each."""

    __slots__ = ("_at", "_ring", "_size")

    def __init__(self, size: int) -> None:
        super().__init__()
        self._ring = bytearray(size)
        self._size = size
        self._at = 0

    def record(self, now: float, outcome: int) -> None:
        at = self._at
        before = self._ring[at]  # 0, as a fast success is, until the ring has gone round once.
        if before != outcome:
            self._ring[at] = outcome
            self._add(before, -1)
            self._add(outcome, 1)
        if self.calls < self._size:
            self.calls += 1
        at += 1
        self._at = at if at < self._size else 0

    def move(self, now: float) -> None:
        """Time alone puts no call outside: only `size` later ones do."""


class TimeWindow(_Sums):
    """The calls of the last `size_s` seconds, the running one included: a ring of one bucket a second.

    A clock that steps back counts into the latest bucket. Moving on costs the seconds passed, or `size_s`.
    """

    __slots__ = ("_at", "_buckets", "_second", "_size_s")

    def __init__(self, size_s: int) -> None:
        super().__init__()
        self._buckets = [[0, 0, 0, 0] for _ in range(size_s)]  # Calls by outcome.
        self._size_s = size_s
        self._at = 0
        self._second = 0

    def record(self, now: float, outcome: int) -> None:
        if int(now) > self._second:
            self.move(now)
        self._buckets[self._at][outcome] += 1
        self.calls += 1
        if outcome:
            self._add(outcome, 1)

    def move(self, now: float) -> None:
        second = int(now)
        for _ in range(min(max(second - self._second, 0), self._size_s)):
            self._at = (self._at + 1) % self._size_s
            bucket = self._buckets[self._at]
            self.calls -= sum(bucket)
            for outcome in (FAILED, SLOW, FAILED | SLOW):
                self._add(outcome, -bucket[outcome])
            bucket[:] = (0, 0, 0, 0)
        self._second = max(second, self._second)
