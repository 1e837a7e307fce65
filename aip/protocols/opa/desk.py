"""The one thread in which the engine lives, and the way to it.

Regorus may be used, and even dropped, by the thread that made it only. So the server is made there, asked there and let go there;
answers come back as plain values, and errors without their tracebacks, whose frames would carry the engine out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from .failure import INTERNAL, Problem, Rejected
from .server import Server

# Of one request, its wait included: a decision takes a millisecond, a compilation a second.
DEADLINE_S = 10.0
PENDING_MAX = 256  # Requests that wait for the engine's one thread; more would only wait to be given up.

Decided = Callable[[dict[str, Any]], Awaitable[None]]


async def nobody(event: dict[str, Any]) -> None:
    """Where nobody wants to know of decisions."""


@dataclass
class Desk:
    """What the routes share. The server lives in the one thread of `thread`."""

    make: Callable[[], Server]
    token: str | None
    decided: Decided
    new_id: Callable[[], str]
    clock_ns: Callable[[], int]
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "opa"))
    server: Server | None = None
    pending: int = 0
    served: Counter[tuple[str, int]] = field(default_factory=Counter)
    spent_ns: int = 0

    async def ask(self, act: Callable[[Server], Any]) -> Any:
        """`act` in the engine's thread, its time counted. Raises `Rejected` where too many wait or it takes too long."""
        if self.pending >= PENDING_MAX:
            raise Rejected(503, INTERNAL, f"more than {PENDING_MAX} requests wait")
        self.pending += 1
        begun = self.clock_ns()
        work = asyncio.get_running_loop().run_in_executor(self.thread, self._answered, act)
        work.add_done_callback(lambda _: self._done())
        try:
            value, error = await asyncio.wait_for(asyncio.shield(work), DEADLINE_S)
        except TimeoutError:
            raise Rejected(503, INTERNAL, f"not answered within {DEADLINE_S:.0f} s") from None
        finally:
            self.spent_ns += self.clock_ns() - begun
        if error is not None:
            raise error
        return value

    def _answered(self, act: Callable[[Server], Any]) -> tuple[Any, Rejected | None]:
        """What `act` gave, or its error without its traceback: the frames in that hold the engine, which must end here."""
        try:
            return act(self._server()), None
        except BaseException as error:  # noqa: BLE001 - a panic of the engine is no Exception, and must not end the thread.
            return None, detached(error)

    def _done(self) -> None:
        self.pending -= 1  # Only now: what was given up still holds the thread.

    async def close(self) -> None:
        """Lets the engine go in the thread that made it: it may not even be dropped in another."""
        gone = asyncio.get_running_loop().run_in_executor(self.thread, self._let_go)
        with suppress(TimeoutError):  # An evaluation without end keeps its engine; it is not waited for.
            await asyncio.wait_for(gone, DEADLINE_S)
        self.thread.shutdown(wait=False, cancel_futures=True)

    def _let_go(self) -> None:
        self.server = None

    def _server(self) -> Server:
        if self.server is None:
            self.server = self.make()
        return self.server


def detached(error: BaseException) -> Rejected:
    """The error as an answer, with nothing left of where it came from."""
    if isinstance(error, Rejected):
        found = Rejected(error.status, error.opa_code, error.message, error.problems)
    else:
        problem = Problem("internal_error", f"{type(error).__name__}: {error}"[:500])
        found = Rejected(500, INTERNAL, "the request could not be served", [problem])
    rest: BaseException | None = error
    while rest is not None:
        rest.__traceback__ = None
        rest = rest.__cause__ or rest.__context__
    return found
