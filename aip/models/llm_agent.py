"""`LLMAgent`: an agent that thinks with a model and acts with tools, held to steps, to a budget and to the road.

From a plan alone:

    agents:
      analyst:
        use: aip.models:LLMAgent
        config:
          instructions: You read papers and answer in one paragraph.
          model: writer                                  # of `models:`
          tools: [researcher.web.search, tools.git]      # capabilities of other agents, tools of outside servers
          steps_max: 6
          budget: {usd_micro: 20000}                     # of one ask

or as a class, whose own capabilities are tools of its model too:

    class Analyst(aip.LLMAgent):
        instructions = "You answer with numbers."
        model = "writer"

        @aip.capability
        async def average(self, numbers: list[float]) -> float:
            \"\"\"The mean of some numbers.\"\"\"
            return sum(numbers) / len(numbers)

One ask: the model is asked; what it wants called is judged (`ask.py`) and called through the guard like any message of this
agent; it reads the results; until it answers, or something ends the ask. Each model call is paid for by the caller's budget, and
bounded by what is left of the ask's own.

Not promised: that a model does what it is told. What it may do at all is decided by the list of tools and by the guard, and no
text that it reads changes either.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ..agent import Agent, Context, capability
from ..errors import AgentFailed, AIPError, InvalidPayload, UsageError
from ..runtime import codec
from ..toolbox import Found, Reference, Tool, chosen, offered, told
from . import structure
from .ask import Ask, Wish
from .chat import ToolCall
from .conversation import BYTES_MAX, TURNS_MAX, Conversation

STEPS_MAX = 100  # However it is configured: each step pays for the whole conversation again.
CALL_S_MAX = 3_600.0  # Of one model call, where the turn itself has no deadline.


class Memory(BaseModel):
    """Off unless asked for: an agent that works for many tasks must not tell one what another said."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    turns_max: int = Field(default=0, ge=0, le=TURNS_MAX)
    bytes_max: int = Field(default=16_384, ge=256, le=BYTES_MAX)


class AskBudget(BaseModel):
    """The most that the model calls of one ask may use. What its tools spend counts in the budget of the run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: int | None = Field(default=None, ge=1)
    usd_micro: int | None = Field(default=None, ge=1)


class LLMConfig(BaseModel):
    """What a plan may say. What it leaves out is as the class has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    instructions: str | None = Field(default=None, max_length=200_000)
    model: str | None = None
    tools: list[str] | None = None
    output: dict[str, Any] | None = None  # JSON Schema of the answer; text without one.
    steps_max: int = Field(default=8, ge=1, le=STEPS_MAX)
    max_output_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    budget: AskBudget = AskBudget()
    memory: Memory = Memory()


class LLMAgent(Agent):
    """An agent that answers with a language model and calls tools."""

    instructions: ClassVar[str] = ""
    model: ClassVar[str] = ""
    tools: ClassVar[Sequence[str]] = ()
    output: ClassVar[Any] = None  # A JSON Schema, or a type that pydantic knows.

    Config: ClassVar[Any] = LLMConfig
    config: LLMConfig

    async def on_start(self, ctx: Context) -> None:
        config, kind = self.config, type(self)
        self._instructions = kind.instructions if config.instructions is None else config.instructions
        model = config.model or kind.model
        if not model:
            raise UsageError(
                f"{kind.__name__} has no model", hint="name one of the plan's models: `model: writer`"
            )
        self._model = model if "/" in model or model.startswith("models.") else f"models.{model}"
        self._references = [
            Reference.parse(text) for text in (kind.tools if config.tools is None else config.tools)
        ]
        self._schema = config.output or _schema_of(kind.output)
        if self._schema is not None:
            structure.check_schema(self._schema)
        self._offered: dict[str, Tool] | None = None
        self._memory = Conversation(config.memory.turns_max, config.memory.bytes_max)
        self._memory.restore(ctx.restored)

    @capability
    async def ask(self, prompt: str, ctx: Context) -> Any:
        """Answer a question, with tools if need be: text, or the value that the output schema asks for."""
        async with aclosing(self._ask(prompt, ctx, streamed=False)) as parts:
            async for part in parts:
                if "answer" in part:
                    return part["answer"]
        raise AssertionError("an ask ends in an answer or an error")

    @capability
    async def ask_stream(self, prompt: str, ctx: Context) -> AsyncGenerator[dict[str, Any], None]:
        """Answer as it is written: `{"delta"}` of texts, `{"tool", "result"}` of calls, `{"answer", "usage", "steps"}` last."""
        async with aclosing(self._ask(prompt, ctx, streamed=True)) as parts:
            async for part in parts:
                yield part

    async def _ask(
        self, prompt: str, ctx: Context, *, streamed: bool
    ) -> AsyncGenerator[dict[str, Any], None]:
        tools = await self._tools(ctx)
        ask = Ask(tools, self.config.steps_max)
        spent = _Spent(self.config.budget)
        messages = [*self._opening(), *self._memory.messages(), {"role": "user", "content": prompt}]
        while True:
            ask.begin_step()
            await ctx.progress(ask.steps / (ask.steps_max + 1), f"step {ask.steps}")
            request: dict[str, Any] = {
                "messages": messages,
                "tools": [tool.as_json() for tool in tools.values()] or None,
            }
            if not tools:
                request["schema"] = self._schema
            answer: dict[str, Any] = {}
            async with aclosing(self._think(ctx, request, spent, streamed)) as parts:
                async for part in parts:
                    if "delta" in part:
                        yield part
                    else:
                        answer = part
            calls = tuple(ToolCall(**call) for call in answer["tool_calls"])
            if not calls:
                break
            messages.append(_assistant(answer["text"], calls))
            wishes = ask.judge(calls)
            for wish, result in zip(wishes, await self._act(ctx, ask, wishes), strict=True):
                messages.append({"role": "tool", "tool_call_id": wish.call.id, "content": result})
                yield {"tool": wish.call.name, "result": result}
        value = answer["parsed"] if self._schema is not None and not tools else answer["text"]
        if self._schema is not None and tools:
            value = await self._structured(ctx, messages, answer["text"], spent)
        if answer["finish"] == "length":
            ctx.log.warning("the answer was cut at the model's limit of output tokens")
        await self._remember(ctx, prompt, value)
        yield {"answer": value, "usage": spent.as_json(), "steps": ask.steps, "refused": ask.refused}

    def _opening(self) -> list[dict[str, Any]]:
        words = [self._instructions] if self._instructions else []
        if self._schema is not None:
            words.append(
                f"Your final answer is one JSON value that fits this JSON Schema: {json.dumps(self._schema)}"
            )
        return [{"role": "system", "content": "\n\n".join(words)}] if words else []

    # Thinking -------------------------------------------------------------------------------------------------------

    async def _think(
        self, ctx: Context, request: dict[str, Any], spent: _Spent, streamed: bool
    ) -> AsyncGenerator[dict[str, Any], None]:
        """One model call: deltas where they are wanted, and the whole answer last."""
        given = {**request, "limit": spent.left()}
        for name in ("max_output_tokens", "temperature"):
            given[name] = getattr(self.config, name)
        given = {name: value for name, value in given.items() if value is not None}
        timeout_s = min(ctx.remaining_s, CALL_S_MAX)
        answer: dict[str, Any] = {}
        if streamed:
            # A stream is an async generator, so that leaving it early cancels it at its source.
            parts: Any = ctx.stream(self._model, "chat_stream", given, timeout_s=timeout_s)
            async with aclosing(parts):
                async for part in parts:
                    if "delta" in part:
                        yield part
                    else:
                        answer = part
        else:
            answer = await ctx.call(self._model, "chat", given, timeout_s=timeout_s)
        spent.add(answer["usage"])
        yield answer

    async def _structured(
        self, ctx: Context, messages: list[dict[str, Any]], text: str, spent: _Spent
    ) -> Any:
        """The value of an answer that was written with tools at hand: as it stands, or asked for once more without them.

        Few endpoints decode under a schema and call tools in the same answer, so the schema is not part of those steps.
        """
        assert self._schema is not None
        value, problems = structure.parsed(text, self._schema)
        if not problems:
            return value
        asked = [
            *messages,
            {"role": "assistant", "content": text},
            {"role": "user", "content": "Give that answer in the form that was asked for."},
        ]
        async with aclosing(
            self._think(ctx, {"messages": asked, "schema": self._schema}, spent, streamed=False)
        ) as parts:
            async for answer in parts:
                value = answer["parsed"]
        return value

    async def _remember(self, ctx: Context, prompt: str, value: Any) -> None:
        if self.config.memory.turns_max:
            self._memory.add(prompt, told(value))
            await ctx.checkpoint(self._memory.to_state())

    # Acting ---------------------------------------------------------------------------------------------------------

    async def _tools(self, ctx: Context) -> dict[str, Tool]:
        """What this agent offers its model. Asked for at the first ask: its tools' agents need not be there before."""
        if self._offered is None:
            found: list[Found] = list(self._own())
            for reference in self._references:
                described = None
                if reference.agent is not None:
                    described = await ctx.call(reference.agent, "aip.describe")
                found += chosen(reference, described)
            self._offered = offered(found)
        return self._offered

    def _own(self) -> list[Found]:
        return [
            ("", spec.name, {"doc": spec.doc, "input": spec.input_schema()})
            for spec in type(self).capabilities.values()
            if spec.name not in LLMAgent.capabilities and spec.kind != "stream"
        ]

    async def _act(self, ctx: Context, ask: Ask, wishes: list[Wish]) -> list[str]:
        """Make the calls at the same time; what the model reads of each, or the first error that ends the ask."""
        outcomes: list[Any] = [wish.reply for wish in wishes]

        async def make(index: int, wish: Wish) -> None:
            try:
                outcomes[index] = told(await self._call(ctx, wish))
            except AIPError as error:
                outcomes[index] = error

        async with asyncio.TaskGroup() as group:
            for index, wish in enumerate(wishes):
                if wish.tool is not None:
                    group.create_task(make(index, wish))
        return [
            ask.failed(wish, outcome) if isinstance(outcome, AIPError) else outcome
            for wish, outcome in zip(wishes, outcomes, strict=True)
        ]

    async def _call(self, ctx: Context, wish: Wish) -> Any:
        assert wish.tool is not None
        if wish.tool.agent == "":
            return await self._call_own(ctx, wish.tool.capability, wish.arguments)
        key = f"{ctx.idempotency_key}:{wish.key}"
        return await ctx.call(wish.tool.agent, wish.tool.capability, wish.arguments, idempotency_key=key)

    async def _call_own(self, ctx: Context, name: str, given: Any) -> Any:
        """A capability of this agent itself, in its own turn: a message to itself would wait for itself."""
        spec = type(self).capabilities[name]
        arguments = spec.bind(given)
        if spec.context_parameter is not None:
            arguments[spec.context_parameter] = ctx
        method = getattr(self, spec.method)
        try:
            if inspect.iscoroutinefunction(method):
                result = await method(**arguments)
            else:
                result = await asyncio.to_thread(method, **arguments)
        except AIPError:
            raise
        except Exception as error:  # Whatever the author's tool raises is the model's to read.
            raise AgentFailed(f"{type(error).__name__}: {error}") from error
        try:
            # By copy and as plain values, as from any other agent.
            return codec.decode(codec.encode(spec.promised(result)))
        except InvalidPayload as error:
            raise AgentFailed(f"its answer cannot be a message: {error.message}") from error


class _Spent:
    """What the model calls of one ask have used, and what is left of its own budget."""

    def __init__(self, budget: AskBudget) -> None:
        self._limits = budget.model_dump(exclude_none=True)
        self._used = {"tokens": 0, "usd_micro": 0, "requests": 0}

    def add(self, usage: dict[str, Any]) -> None:
        for unit in self._used:
            self._used[unit] += usage[unit]

    def left(self) -> dict[str, int] | None:
        return {unit: max(0, limit - self._used[unit]) for unit, limit in self._limits.items()} or None

    def as_json(self) -> dict[str, int]:
        return dict(self._used)


def _schema_of(output: Any) -> dict[str, Any] | None:
    if output is None or isinstance(output, dict):
        return output
    schema: dict[str, Any] = TypeAdapter(output).json_schema()
    return schema


def _assistant(text: str, calls: tuple[ToolCall, ...]) -> dict[str, Any]:
    wanted = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in calls
    ]
    return {"role": "assistant", "content": text or None, "tool_calls": wanted}
