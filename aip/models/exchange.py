"""One chat with a model from its request to its answer: attempts, pauses, a repair round, and each of them paid for.

    slot ─► reserve the bound ─► send ─┬─ answer ───────────► settle its usage ─► fits the schema? ─┬─ yes: done
      ▲      BudgetExceeded: nothing   │                                                            └─ no: one repair
      │      was sent                  ├─ failed, free ─────► settle nothing  ──┐
      │                                └─ failed, cost unknown ► all of it ─────┤
      └── pause, if retries and the deadline leave room ◄───────────────────────┘

Each attempt is its own reservation, because each may be charged by the endpoint: an account is never overspent by retrying. A
slot is taken before the reservation, so that money is not held by those who only wait in line.

A model without a price reserves, for a moment, more money than any budget has (`UNKNOWN_USD_MICRO`): under a budget that limits
money this is refused before anything is sent, under any other it is given back at once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..errors import BudgetExceeded, DeadlineExceeded, Refused
from . import meter, structure
from .chat import Answer, Request
from .failure import ModelFailed, RateLimited, Rejected, Unpriced, Unstructured
from .meter import Bound, Usage
from .retry import PAUSE_S_MAX, pause_s
from .spec import ModelConfig

UNKNOWN_USD_MICRO = 10**12  # A million dollars: what a call of unknown price may cost.
SCHEMA_UNKNOWN = (400, 404, 415, 422, 501)  # With which endpoints refuse a field they do not know.
ATTEMPT_S_MIN = 0.1  # With less time than this left, an attempt is a cost without a chance.


class Held(Protocol):
    def settle(self, **spent: int) -> None: ...


class Reserve(Protocol):
    """`Context.reserve`: what is not settled counts as spent in full."""

    def __call__(self, **amounts: int) -> AbstractAsyncContextManager[Held]: ...


class Sender(Protocol):
    """`client.Endpoint`, or what a test puts in its place."""

    async def send(self, request: Request, timeout_s: float) -> Answer: ...
    def stream(self, request: Request, timeout_s: float) -> AsyncGenerator[str | Answer, None]: ...


class CallLimitReached(Refused):
    """The caller's own limit for one call, not an account: raising a budget does not help."""

    code = "refused.call_limit"


@dataclass(slots=True)
class Line:
    """One model as its exchanges share it: its endpoint, its slots, and what was learnt about it."""

    sender: Sender
    config: ModelConfig
    slots: asyncio.Semaphore
    rng: random.Random
    knows_schemas: bool = True  # Until the endpoint refuses `response_format`.
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def __post_init__(self) -> None:
        self.knows_schemas = self.config.structured_output == "json_schema"


class _Way:
    """How a request with a schema is put: in the field for it, or in words, where the endpoint does not know the field.

    Why an endpoint refused a request cannot be told from outside. So one that was refused with the field is put in words; only if
    that is taken, it was the field, and this endpoint is not offered it again.
    """

    def __init__(self, line: Line, request: Request) -> None:
        self._line = line
        self._in_words = request.schema is not None and not line.knows_schemas
        self.request = structure.spelled_out(request) if self._in_words else request

    def other(self, error: ModelFailed) -> bool:
        """Whether there is another way to put what was refused; `request` is that way then."""
        if (
            not isinstance(error, Rejected)
            or error.status not in SCHEMA_UNKNOWN
            or self.request.schema is None
        ):
            return False
        self._in_words, self.request = True, structure.spelled_out(self.request)
        return True

    def worked(self) -> None:
        if self._in_words:
            self._line.knows_schemas = False


@dataclass(slots=True)
class Exchange:
    """One call of a caller. `used` is what all its attempts have cost so far."""

    line: Line
    reserve: Reserve
    remaining_s: Callable[[], float]
    limit: Mapping[str, int] = field(default_factory=dict)
    used: Usage = field(default_factory=Usage)

    async def chat(self, request: Request) -> dict[str, Any]:
        """The answer, whole. Raises a refusal, or an error of `failure.py`."""
        await self._check(request)
        answer = await self._answer(request)
        if request.schema is None or answer.tool_calls:
            return self._told(answer, None)
        value, problems = structure.parsed(answer.text, request.schema)
        if (
            problems and answer.finish != "length"
        ):  # Half a value is not mended by saying so: the limit is too low.
            answer = await self._answer(structure.repair(request, answer.text, problems))
            value, problems = structure.parsed(answer.text, request.schema)
        if problems:
            raise self._unstructured(answer, problems)
        return self._told(answer, value)

    async def stream(self, request: Request) -> AsyncGenerator[dict[str, Any], None]:
        """`{"delta": text}` as they come, then the whole.

        What was read cannot be unsaid: after the first text nothing is retried, and nothing repaired.
        """
        await self._check(request)
        way, failures, answer = _Way(self.line, request), 0, None
        while answer is None:
            begun = False
            try:
                async with aclosing(self._streamed(way.request)) as parts:
                    async for part in parts:
                        if isinstance(part, Answer):
                            answer = part
                        else:
                            begun = True
                            yield {"delta": part}
            except ModelFailed as error:
                if begun:
                    raise
                if not way.other(error):
                    failures += 1
                    await self._pause(error, failures)
        way.worked()
        if request.schema is None or answer.tool_calls:
            yield self._told(answer, None)
            return
        value, problems = structure.parsed(answer.text, request.schema)
        if problems:
            raise self._unstructured(answer, problems)
        yield self._told(answer, value)

    # Attempts -------------------------------------------------------------------------------------------------------

    async def _answer(self, request: Request) -> Answer:
        """An answer after as many attempts as it takes and the retries allow."""
        way, failures = _Way(self.line, request), 0
        while True:
            try:
                answer = await self._sent(way.request)
            except ModelFailed as error:
                if not way.other(error):
                    failures += 1
                    await self._pause(error, failures)
            else:
                way.worked()
                return answer

    async def _pause(self, error: ModelFailed, failures: int) -> None:
        """Wait for the next attempt, or raise `error` where there is to be none."""
        error.details["attempts"] = failures
        if self.used.tokens:
            error.details["usage"] = self.used.as_json()
        if not error.tried_again or failures > self.line.config.retries:
            raise error
        after = error.after_s if isinstance(error, RateLimited) else None
        seconds = pause_s(failures, after, self.line.rng)
        if seconds > PAUSE_S_MAX or seconds + ATTEMPT_S_MIN > self.remaining_s():
            raise error
        await self.line.sleep(seconds)

    async def _sent(self, request: Request) -> Answer:
        async with self.line.slots:
            bound, timeout_s = self._bound(request), self._timeout_s()
            async with self.reserve(**self._amounts(bound)) as held:
                try:
                    answer = await self.line.sender.send(request, timeout_s)
                except ModelFailed as error:
                    self._settle_failure(held, bound, error)
                    raise
                self._settle(held, bound, answer)
                return answer

    async def _streamed(self, request: Request) -> AsyncGenerator[str | Answer, None]:
        async with self.line.slots:
            bound, timeout_s = self._bound(request), self._timeout_s()
            async with self.reserve(**self._amounts(bound)) as held:
                try:
                    async with aclosing(self.line.sender.stream(request, timeout_s)) as parts:
                        async for part in parts:
                            if isinstance(part, Answer):
                                self._settle(held, bound, part)
                            yield part
                except ModelFailed as error:
                    self._settle_failure(held, bound, error)
                    raise

    def _timeout_s(self) -> float:
        left = self.remaining_s()
        if left < ATTEMPT_S_MIN:
            raise DeadlineExceeded(f"no time left to ask {self.line.config.model}")
        return min(left, self.line.config.timeout_s)

    # Money ----------------------------------------------------------------------------------------------------------

    async def _check(self, request: Request) -> None:
        """What can be refused before anything is reserved."""
        if request.schema is not None:
            structure.check_schema(request.schema)
        if self.line.config.prices is not None:
            return
        if "usd_micro" in self.limit:
            raise self._unpriced("this call limits usd_micro")
        try:
            async with self.reserve(usd_micro=UNKNOWN_USD_MICRO) as held:
                held.settle(usd_micro=0)
        except BudgetExceeded as error:
            if error.details.get("unit") not in (None, "usd_micro"):
                raise
            refusal = self._unpriced(error.message)
        else:
            return
        raise refusal

    def _unpriced(self, why: str) -> Unpriced:
        return Unpriced(
            f"{self.line.config.model} has no price, and money is limited: {why}",
            hint="give the model `prices: {input: …, output: …}`; zeros if it is free",
        )

    def _bound(self, request: Request) -> Bound:
        """The most this attempt can use. Raises where the caller's own limit has no room for it."""
        bound = meter.bound(request, self.line.config)
        for unit, spent, most in (
            ("tokens", self.used.tokens, bound.tokens),
            ("usd_micro", self.used.usd_micro, bound.usd_micro or 0),
        ):
            allowed = self.limit.get(unit)
            if allowed is not None and spent + most > allowed:
                raise CallLimitReached(
                    f"this call may use {allowed} {unit}, has used {spent}, and may need {most} more",
                    hint="raise the limit, or lower max_output_tokens",
                    unit=unit,
                    limit=allowed,
                    spent=spent,
                    wanted=most,
                )
        return bound

    @staticmethod
    def _amounts(bound: Bound) -> dict[str, int]:
        amounts = {"tokens": bound.tokens}
        return amounts if bound.usd_micro is None else {**amounts, "usd_micro": bound.usd_micro}

    def _settle(self, held: Held, bound: Bound, answer: Answer) -> None:
        usage = meter.measured(answer.usage, bound, self.line.config)
        self.used += usage
        spent = {"tokens": usage.tokens}
        held.settle(**(spent if bound.usd_micro is None else {**spent, "usd_micro": usage.usd_micro}))

    def _settle_failure(self, held: Held, bound: Bound, error: ModelFailed) -> None:
        if error.cost_unknown:
            self.used += bound.as_usage()  # Not settled: it counts as spent in full.
        else:
            held.settle(**dict.fromkeys(self._amounts(bound), 0))

    def _told(self, answer: Answer, value: Any) -> dict[str, Any]:
        return {
            "text": answer.text,
            "tool_calls": [call.as_json() for call in answer.tool_calls],
            "parsed": value,
            "finish": answer.finish,
            "usage": self.used.as_json(),
        }

    def _unstructured(self, answer: Answer, problems: list[str]) -> Unstructured:
        cut = answer.finish == "length"
        return Unstructured(
            f"{self.line.config.model} did not answer with what the schema asks for: {'; '.join(problems)}",
            hint="its answer was cut at the limit: raise max_output_tokens" if cut else "",
            problems=problems,
            usage=self.used.as_json(),
        )
