"""An event loop without a world: time passes when nothing is left to do, and then exactly to the next timer.

Guarantees: no thread, no file, no socket, no real clock; callbacks run in the order in which they were scheduled, timers in order
of their time; two runs of the same program take the same steps. Work for an executor runs on the loop after a pause of its own,
so that whatever may happen while a real thread works can happen here too.

`Stalled` is raised where nothing will ever happen again although somebody waits. Source of the idea: trio's autojump clock.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")

EPOCH_S = 1_000_000.0  # What the cells take for the Unix epoch: small, so that floats stay exact to a tenth of a nanosecond.
RESOLUTION_S = 1e-9
THREAD_PAUSE_S = 0.002  # At most; before the work of a virtual thread and after it.


class Stalled(RuntimeError):
    """Nothing is scheduled any more, and the main task still waits."""


class _NoInput:
    """What stands where a loop keeps its selector: waiting for input is letting time pass."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout_s: float | None) -> list[Any]:
        if timeout_s is None:
            raise Stalled("nothing is left to happen")
        self._loop.pass_time(timeout_s)
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._rng = rng
        self._now_s = 0.0
        self._selector = _NoInput(self)
        self._clock_resolution = RESOLUTION_S

    def time(self) -> float:
        return self._now_s

    def clock(self) -> float:
        """Seconds since the epoch of this world."""
        return EPOCH_S + self._now_s

    def pass_time(self, seconds: float) -> None:
        self._now_s += max(0.0, seconds)

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """`func` as a virtual thread would run it: a little later, all at once, its result known a little later still."""
        future: asyncio.Future[T] = self.create_future()

        def work() -> None:
            if future.cancelled():
                return  # Not begun, so a real executor would not begin it either.
            try:
                result = func(*args)
            except BaseException as error:  # noqa: BLE001 - a future carries whatever its work raised
                self.call_later(self._pause_s(), _settle, future, None, error)
            else:
                self.call_later(self._pause_s(), _settle, future, result, None)

        self.call_later(self._pause_s(), work)
        return future

    def _pause_s(self) -> float:
        return self._rng.random() * THREAD_PAUSE_S

    # What a loop must have, and this one has no use for.

    def _process_events(self, event_list: list[Any]) -> None:
        assert not event_list

    def _write_to_self(self) -> None:
        """Nobody sleeps in another thread."""


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return  # Its waiter was cancelled; what the thread did is done.
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


class NoThreads(Executor):
    """An executor for those who ask for one; the loop itself runs the work."""
