"""How often, and how soon, a server that died is started again. Pure.

The first start again is at once, as a single crash deserves; each further one within the window waits twice as long as the one
before. After `RESTARTS_MAX` within the window it is given up until the window has moved on.
"""

from __future__ import annotations

from collections import deque

from .limits import BACKOFF_INITIAL_S, BACKOFF_MAX_S, RESTART_WINDOW_S, RESTARTS_MAX


class Revival:
    __slots__ = ("_failures",)

    def __init__(self) -> None:
        self._failures: deque[float] = deque(maxlen=RESTARTS_MAX + 1)

    def failed(self, now_s: float) -> None:
        """The server died, or could not be started."""
        self._failures.append(now_s)

    def recent(self, now_s: float) -> int:
        """Failures within the window."""
        while self._failures and self._failures[0] <= now_s - RESTART_WINDOW_S:
            self._failures.popleft()
        return len(self._failures)

    def given_up(self, now_s: float) -> bool:
        return self.recent(now_s) > RESTARTS_MAX

    def due_s(self, now_s: float) -> float:
        """The moment from which it may be started again."""
        count = self.recent(now_s)
        if count <= 1:
            return now_s
        wait_s = min(BACKOFF_INITIAL_S * 2.0 ** (count - 2), BACKOFF_MAX_S)
        return max(now_s, self._failures[-1] + wait_s)
