"""Processes that can die, and a network between them that loses, delays, repeats and reorders.

    process     alive until `crash`: first nothing of it gets out any more, then its tasks are cut off where they stand
    exchange    one request to one process and its answer, with these fates:

    fate            the sender sees    the receiver sees
    DELIVERED       the answer         the request
    NOT_SENT        `NotSent`          nothing
    LOST_BEFORE     `CellLost`         nothing
    LOST_AFTER      `CellLost`         the request
    LATE            `CellLost`         the request, after later ones
    TWICE           the answer         the request, and once more after later ones

LATE and TWICE are for frames only (they are numbered for it). Both reach the very process the request was meant for: a
connection does not outlive its process, so a successor of the same name never sees the mail of its predecessor. That is an
assumption about the transport, and the one place where it is written down.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from ..errors import AIPError
from ..runtime.ports import CellLost, NotSent

T = TypeVar("T")

DEATH_NOTICE_S = 0.01  # How soon the other end of a connection knows.


class Fate(Enum):
    DELIVERED = "delivered"
    NOT_SENT = "not_sent"
    LOST_BEFORE = "lost_before"
    LOST_AFTER = "lost_after"
    LATE = "late"
    TWICE = "twice"


@dataclass(frozen=True, slots=True)
class Weather:
    """How bad the network is. Probabilities are per exchange."""

    not_sent: float = 0.0
    lost_before: float = 0.0
    lost_after: float = 0.0
    late: float = 0.0
    twice: float = 0.0
    push_lost: float = 0.0  # A membership that does not arrive.
    delay_s: float = 0.002
    slow: float = 0.02  # How often an exchange takes ...
    slow_s: float = 0.2  # ... up to this long instead.

    def fate(self, rng: random.Random, *, frames: bool) -> Fate:
        draw = rng.random()
        odds = [
            (Fate.NOT_SENT, self.not_sent),
            (Fate.LOST_BEFORE, self.lost_before),
            (Fate.LOST_AFTER, self.lost_after),
        ]
        if frames:
            odds += [(Fate.LATE, self.late), (Fate.TWICE, self.twice)]
        for fate, odd in odds:
            if draw < odd:
                return fate
            draw -= odd
        return Fate.DELIVERED

    def delay(self, rng: random.Random) -> float:
        return rng.random() * (self.slow_s if rng.random() < self.slow else self.delay_s)


CALM = Weather()


class Process:
    """One process of the platform. Subclasses put something into it."""

    def __init__(self, name: str, generation: int) -> None:
        self.name = name
        self.generation = generation
        self.alive = True
        self.leaving = False
        self.died = asyncio.Event()  # Set when its supervisor can know.
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self.exchanges: dict[asyncio.Future[Any], None] = {}

    def task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.ensure_future(work)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
        return task

    def crash(self) -> None:
        """kill -9. Whoever waits for an answer of it learns that it is gone."""
        if not self.alive:
            return
        self.alive = False
        for task in [*self._tasks, *self.owned()]:
            task.cancel()
        loop = asyncio.get_running_loop()
        loop.call_later(DEATH_NOTICE_S, self.died.set)
        for future in list(self.exchanges):
            loop.call_later(DEATH_NOTICE_S, _fail, future, CellLost(self.name))

    async def leave(self) -> None:
        """End in good order. What is not over when its supervisor's patience is becomes a crash."""
        self.crash()

    def owned(self) -> list[asyncio.Task[Any]]:
        """Tasks that somebody else keeps for this process."""
        return []


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


async def never() -> None:
    """What a dead process's requests come to."""
    await asyncio.get_running_loop().create_future()


class Network:
    def __init__(
        self, rng: random.Random, weather: Weather, failed: Callable[[str, BaseException], None]
    ) -> None:
        self.weather = weather
        self.fates: Counter[Fate] = Counter()
        self._rng = rng
        self._failed = failed

    async def exchange(
        self,
        source: Process,
        find: Callable[[], Process | None],
        work: Callable[[Process], Awaitable[T]],
        *,
        frames: bool = False,
        always: bool = False,
    ) -> T:
        """Let `work` happen in the process that `find` finds; its result, or `NotSent` or `CellLost`."""
        if not source.alive:
            await never()
        fate = Fate.DELIVERED if always else self.weather.fate(self._rng, frames=frames)
        self.fates[fate] += 1
        await asyncio.sleep(self.weather.delay(self._rng))
        target = find()
        if target is None or not target.alive or fate is Fate.NOT_SENT:
            raise NotSent("nobody opens")
        if fate is Fate.LOST_BEFORE:
            raise CellLost(target.name)
        if fate in (Fate.LATE, Fate.TWICE):
            self._later(target, work)
        if fate is Fate.LATE:
            raise CellLost(target.name)
        answer = await self._answered(target, work)
        await asyncio.sleep(self.weather.delay(self._rng))
        if fate is Fate.LOST_AFTER:
            raise CellLost(target.name)
        return answer

    async def _answered(self, target: Process, work: Callable[[Process], Awaitable[T]]) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        target.exchanges[future] = None
        target.task(self._serve(target, work, future))
        try:
            return await future
        finally:
            target.exchanges.pop(future, None)

    async def _serve(
        self, target: Process, work: Callable[[Process], Awaitable[T]], future: asyncio.Future[T] | None
    ) -> None:
        """In the target's own task: it goes on if the sender dies, and is cut off if the target does."""
        try:
            answer = await work(target)
        except (AIPError, NotSent) as error:
            if future is not None and not future.done():
                future.set_exception(error)
        except Exception as error:  # noqa: BLE001 - a request must not break its receiver
            self._failed(f"{target.name} broke over a request", error)
            if future is not None and not future.done():
                future.set_exception(CellLost(target.name))
        else:
            if future is not None and not future.done():
                future.set_result(answer)

    def _later(self, target: Process, work: Callable[[Process], Awaitable[Any]]) -> None:
        def arrive() -> None:
            if target.alive:
                target.task(self._serve(target, work, None))

        pause_s = self._rng.choice([0.001, 0.01, 0.1, 1.0]) * (1 + self._rng.random())
        asyncio.get_running_loop().call_later(pause_s, arrive)
