"""How much of a connector may be in use: a rate, a number at the same time, and a bounded queue for that number.

The rate is a token bucket: `burst` tokens at most, `rate_per_s` more each second; without one an effect is refused at once,
because waiting for a rate only moves the flood. Places are waited for, in order, up to the deadline of who waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ...errors import Refused

WAITING_MAX = 1_000  # Effects that wait for a place of one connector; each holds its request in memory.


class ConnectorBusy(Refused):
    """Too many effects of one connector for its rate or its queue."""

    code = "refused.effect_busy"
    retryable = True
    default_hint = "ask for fewer effects at once, or raise rate_per_s or concurrency of the connector"


class Bucket:
    """Tokens at a rate. Pure: the time comes in."""

    __slots__ = ("_at", "_burst", "_rate_per_s", "_tokens")

    def __init__(self, rate_per_s: float, burst: int, now: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._tokens = float(burst)
        self._at = now

    def take(self, now: float) -> float:
        """0.0: taken. Otherwise the seconds until there will be one, and none is taken."""
        if now > self._at:  # A clock that was set back gives no tokens and takes none.
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate_per_s)
        self._at = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate_per_s


class Quota:
    """The bucket and the places of one connector."""

    def __init__(self, name: str, concurrency: int, rate_per_s: float, burst: int, now: float) -> None:
        self._name = name
        self._bucket = Bucket(rate_per_s, burst, now)
        self._places = asyncio.Semaphore(concurrency)
        self._waiting = 0

    def refuse_full(self) -> None:
        if self._waiting >= WAITING_MAX:
            raise ConnectorBusy(f"{WAITING_MAX} effects wait for {self._name} already")

    @asynccontextmanager
    async def place(self, now: float) -> AsyncIterator[None]:
        """Raises `ConnectorBusy`; otherwise holds a place."""
        wait_s = self._bucket.take(now)
        if wait_s:
            raise ConnectorBusy(f"{self._name} has used up its rate", retry_after_s=round(wait_s, 3))
        self.refuse_full()
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._places.release()


class Places:
    """Places by name, so many of each: what is asked of one connector does not hold up what is asked of another.

    For the asking side, a cell: its agents' requests wait there, each in its turn, and so their mail waits, and so their senders
    do. A gateway that is asked for more than it can do would spend its time on refusing.
    """

    def __init__(self, of_each: int) -> None:
        self._of_each = of_each
        self._places: dict[str, tuple[asyncio.Semaphore, list[None]]] = {}

    @asynccontextmanager
    async def one(self, name: str) -> AsyncIterator[None]:
        """Holds a place of this name, once there is one. A name is kept in mind only while somebody is there for it."""
        semaphore, present = self._places.setdefault(name, (asyncio.Semaphore(self._of_each), []))
        present.append(None)
        try:
            async with semaphore:
                yield
        finally:
            present.pop()
            if not present:
                del self._places[name]

    def __len__(self) -> int:
        return len(self._places)
