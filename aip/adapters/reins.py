"""The reins of one turn: what a framework may do while it works for an AIP agent, and what ends it.

Everything that leaves a framework passes here: its questions to the plan's model (`chat`, `chat_stream`) and its calls of other
agents (`use`). Each is a message of this agent, so the guard, the budget, the deadline, the audit and a kill reach it.

    a call of another agent                                     what its model reads
    is answered                                                 the answer
    is refused (Denied, a breaker, a bulkhead)                  `refused: …`
    fails                                                       `error: …`
    runs into a budget, a kill, a cancellation, a doubt         nothing: the turn ends with that error

Frameworks catch exceptions: to retry, to fall back, to let their model explain them away. So an error that ends the turn is kept:
every later call raises it again, and it is what the caller gets, whatever the framework answers after it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections import Counter
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, NoReturn, TypeVar

from ..agent import Context
from ..errors import AIPError, UsageError
from ..runtime.turn import CURRENT
from ..toolbox import ENDS_THE_TURN, Tool, digest, told, told_error
from .completion import distinct

CALL_S_MAX = 3_600.0  # Of one model call, where the turn itself has no deadline.

T = TypeVar("T")
_REINS: ContextVar[Reins | None] = ContextVar("aip_reins", default=None)


def current_context() -> Context:
    """The context of the turn that works here: for the author's own tools and nodes, in threads of a framework too."""
    turn = CURRENT.get()
    if turn is None:
        raise UsageError(
            "no agent is at work here", hint="call it from a tool or a node while its agent answers"
        )
    return turn.context


def current_reins() -> Reins:
    """The reins of the turn that works here: for models and tools that were made before there was a turn."""
    reins = _REINS.get()
    if reins is None:
        raise UsageError(
            "the plan's model is asked outside an agent",
            hint="give the graph to agent_of, and call that agent",
        )
    return reins


class Reins:
    """One turn of an adapted agent. `model` is "" where the framework brings its own model."""

    def __init__(
        self, ctx: Context, model: str, tools: Mapping[str, Tool], limits: Mapping[str, int] | None = None
    ) -> None:
        self.ctx = ctx
        self.model = model
        self.tools = tools
        self.ended: AIPError | None = None
        self.used: Counter[str] = Counter(tokens=0, usd_micro=0, requests=0)  # Of the plan's model.
        self._limits = dict(limits or {})
        self._made: Counter[str] = Counter()
        self._loop = asyncio.get_running_loop()
        self._from_threads: set[concurrent.futures.Future[Any]] = set()

    def take(self) -> None:
        """These are the reins from here on, in this task and whatever it starts."""
        _REINS.set(self)

    def drop(self) -> None:
        """The turn is over: what threads still wait for is cancelled. They themselves cannot be."""
        for waiting in list(self._from_threads):
            waiting.cancel()

    def from_thread(self, work: Coroutine[Any, Any, T]) -> T:
        """Do on the loop what a synchronous tool or node asks for from its thread."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            waiting = asyncio.run_coroutine_threadsafe(work, self._loop)
        else:
            work.close()
            raise UsageError(
                "a synchronous call of the plan's model would block its cell",
                hint="await `ainvoke`, or make the node a plain `def`: it runs in a thread",
            )
        self._from_threads.add(waiting)
        try:
            return waiting.result()
        finally:
            self._from_threads.discard(waiting)

    async def chat(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Ask the plan's model: what `ModelAgent.chat` takes and answers."""
        self.check()
        try:
            answer: dict[str, Any] = await self.ctx.call(
                self._address(), "chat", self._limited(arguments), timeout_s=self._timeout_s()
            )
        except ENDS_THE_TURN as error:
            self._end(error)
        self._count(answer)
        return distinct(answer, arguments["messages"])

    async def chat_stream(self, arguments: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The same as it is written: `{"delta"}` again and again, and the answer last."""
        self.check()
        parts: Any = self.ctx.stream(
            self._address(), "chat_stream", self._limited(arguments), timeout_s=self._timeout_s()
        )
        try:
            async with aclosing(parts):
                async for part in parts:
                    if "delta" not in part:
                        self._count(part)
                        part = distinct(part, arguments["messages"])
                    yield part
        except ENDS_THE_TURN as error:
            self._end(error)

    async def use(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Call the capability behind an offered name; what the model reads of it."""
        self.check()
        tool = self.tools[name]
        call_digest = digest(name, arguments)
        self._made[call_digest] += 1
        # The same for the same call of the same task: a repeated attempt does not do its effects again.
        key = f"{self.ctx.idempotency_key}:{call_digest}-{self._made[call_digest]}"
        try:
            return told(await self.ctx.call(tool.agent, tool.capability, arguments, idempotency_key=key))
        except ENDS_THE_TURN as error:
            self._end(error)
        except AIPError as error:
            return told_error(error)

    def check(self) -> None:
        """Raises what ended the turn, if something did."""
        if self.ended is not None:
            raise self.ended

    def _end(self, error: AIPError) -> NoReturn:
        self.ended = self.ended or error
        raise self.ended

    def _address(self) -> str:
        if not self.model:
            raise UsageError(
                "this agent has no model of the plan", hint="name one of the plan's models: `model: writer`"
            )
        whole = "/" in self.model or self.model.startswith("models.")
        return self.model if whole else f"models.{self.model}"

    def _limited(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        if not self._limits:
            return dict(arguments)
        left = {unit: max(0, most - self.used[unit]) for unit, most in self._limits.items()}
        return {**arguments, "limit": left}

    def _timeout_s(self) -> float:
        return min(self.ctx.remaining_s, CALL_S_MAX)

    def _count(self, answer: Mapping[str, Any]) -> None:
        for unit in self.used:
            self.used[unit] += answer["usage"][unit]
