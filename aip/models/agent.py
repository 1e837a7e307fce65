"""`ModelAgent`: a language model as an agent. Plans write it as `models: {writer: {…}}`; agents call it as `ctx.model("writer")`.

    answer = await ctx.model("writer").chat(messages=[{"role": "user", "content": "One word for the sea."}])
    answer["text"], answer["usage"]["usd_micro"]

It stands on the road like any agent: the guard decides who may ask it, a kill reaches it, its calls are accounted for. What it
adds is that a call is paid for: the most it can cost is reserved in the caller's budget before a byte is sent, and what it did
cost is settled after (`meter.py`, `exchange.py`). The key lives in this agent's process only, which runs no code of a plan's
author.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, ClassVar

from typing_extensions import TypedDict

from .. import secret
from ..agent import Agent, Context, capability
from ..errors import BulkheadFull, InvalidPayload
from .chat import ToolChoice, checked_request
from .client import Endpoint
from .exchange import Exchange, Line
from .spec import ModelConfig

WAITING_MAX = (
    10_000  # Calls in line for one model; at that length the last of them would miss its deadline anyway.
)
LIMIT_UNITS = ("tokens", "usd_micro")


class ChatAnswer(TypedDict):
    """`parsed` is the value that fits the schema, where one was given. `usage` is of all attempts together."""

    text: str
    tool_calls: list[dict[str, Any]]
    parsed: Any
    finish: str
    usage: dict[str, Any]


class ModelAgent(Agent):
    """A language model behind an OpenAI-compatible endpoint."""

    reentrant = True
    Config: ClassVar[Any] = ModelConfig
    config: ModelConfig

    async def on_start(self, ctx: Context) -> None:
        # In threads: a keyring may ask another process, and the import takes about a second.
        key = await asyncio.to_thread(secret.resolve, self.config.api_key) if self.config.api_key else ""
        self._endpoint = Endpoint(self.config, key)
        await asyncio.to_thread(self._endpoint.load)
        slots = asyncio.Semaphore(self.config.concurrency)
        self._line = Line(self._endpoint, self.config, slots, random.Random())
        self._in_line = 0

    async def on_stop(self, ctx: Context) -> None:
        await self._endpoint.close()

    @capability
    async def chat(
        self,
        messages: list[dict[str, Any]],
        ctx: Context,
        tools: list[dict[str, Any]] | None = None,
        schema: dict[str, Any] | None = None,
        max_output_tokens: int | None = None,
        temperature: float | None = None,
        stop: list[str] | None = None,
        tool_choice: ToolChoice | None = None,
        limit: dict[str, int] | None = None,
    ) -> ChatAnswer:
        """Answer a conversation. `schema` is the JSON Schema of the answer, `limit` the most that this call may use."""
        request = checked_request(messages, tools, schema, max_output_tokens, temperature, stop, tool_choice)
        with self._exchange(ctx, limit) as exchange:
            answer: ChatAnswer = await exchange.chat(request)  # type: ignore[assignment]
            return answer

    @capability
    async def chat_stream(
        self,
        messages: list[dict[str, Any]],
        ctx: Context,
        tools: list[dict[str, Any]] | None = None,
        schema: dict[str, Any] | None = None,
        max_output_tokens: int | None = None,
        temperature: float | None = None,
        stop: list[str] | None = None,
        tool_choice: ToolChoice | None = None,
        limit: dict[str, int] | None = None,
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Answer a conversation as it is written: `{"delta": text}` again and again, and at the end what `chat` answers."""
        request = checked_request(messages, tools, schema, max_output_tokens, temperature, stop, tool_choice)
        with self._exchange(ctx, limit) as exchange:
            async with aclosing(exchange.stream(request)) as parts:
                async for part in parts:
                    yield part

    @contextmanager
    def _exchange(self, ctx: Context, limit: dict[str, int] | None) -> Iterator[Exchange]:
        """A place in the line, for as long as the call takes."""
        wrong = [unit for unit, amount in (limit or {}).items() if unit not in LIMIT_UNITS or amount < 0]
        if wrong:
            raise InvalidPayload(f"limit.{wrong[0]}: limits are whole numbers of {' and '.join(LIMIT_UNITS)}")
        if self._in_line >= WAITING_MAX:
            raise BulkheadFull(f"{WAITING_MAX} calls wait for {self.config.model}")
        self._in_line += 1
        try:
            yield Exchange(self._line, ctx.reserve, lambda: ctx.remaining_s, limit or {})
        finally:
            self._in_line -= 1
