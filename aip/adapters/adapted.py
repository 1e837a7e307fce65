"""`Adapted`: what the agents of all frameworks have in common. Each framework's module says how it is asked.

An adapted agent takes `ask` and `ask_stream`, like an `LLMAgent`. What a plan may configure of it:

    agents:
      researcher:
        use: agents_of_mine:researcher            # researcher = aip.adapters.pydantic_ai.agent_of(…)
        config: {model: writer, tools: [library.book.find], steps_max: 6, budget: {usd_micro: 20000}}
"""

from __future__ import annotations

import re
import sys
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from ..agent import Agent, Context, capability
from ..errors import UsageError
from ..toolbox import Found, Reference, Tool, chosen, offered
from .failure import Table, translated
from .own_model import OwnModel, Report, charged
from .reins import Reins

STEPS_MAX = 100  # However it is configured: each step of a model pays for the whole conversation again.
STEPS = 12  # Where nobody says otherwise.

Kind = TypeVar("Kind", bound="Adapted")


class AskBudget(BaseModel):
    """The most that the plan's model may use in one ask."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: int | None = Field(default=None, ge=1)
    usd_micro: int | None = Field(default=None, ge=1)


class AdapterConfig(BaseModel):
    """What a plan may say. What it leaves out is as `agent_of` was told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = None
    tools: list[str] | None = None
    steps_max: int | None = Field(default=None, ge=1, le=STEPS_MAX)
    budget: AskBudget = AskBudget()


class Adapted(Agent):
    """An agent of another framework."""

    Config: ClassVar[Any] = AdapterConfig
    config: AdapterConfig

    framework: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = ()  # Whose exceptions are the framework's own.
    foreign: ClassVar[Any] = None  # The framework's agent.
    model: ClassVar[str | None] = None  # None: it brings its own.
    tools: ClassVar[Sequence[str]] = ()
    steps_max: ClassVar[int] = STEPS
    own_model: ClassVar[OwnModel | None] = None
    made_at: ClassVar[str] = ""  # file:line of the author's `agent_of`.

    async def on_start(self, ctx: Context) -> None:
        config, kind = self.config, type(self)
        self._model = config.model or kind.model or ""
        if self._model and kind.model is None:
            raise UsageError(
                f"model: {self._model}: this agent brings its own model",
                hint="give agent_of a model to make it ask the plan's",
            )
        self._references = [
            Reference.parse(text) for text in (kind.tools if config.tools is None else config.tools)
        ]
        self._steps_max = config.steps_max or kind.steps_max
        self._offered: dict[str, Tool] | None = None

    @capability
    async def ask(self, prompt: str, ctx: Context) -> Any:
        """Answer a question: text, or the value of the framework's output type."""
        async with self.working(ctx) as (reins, report):
            return await self.answer(prompt, reins, report)

    @capability
    async def ask_stream(self, prompt: str, ctx: Context) -> AsyncGenerator[dict[str, Any], None]:
        """Answer as it is written: `{"delta"}` of texts, `{"tool", "result"}` of calls, `{"answer", "usage"}` last."""
        async with self.working(ctx) as (reins, report), aclosing(self.parts(prompt, reins, report)) as parts:
            async for part in parts:
                reins.check()
                yield {**part, "usage": dict(reins.used)} if "answer" in part else part

    @abstractmethod
    async def answer(self, prompt: str, reins: Reins, report: Report) -> Any:
        """Ask the framework's agent."""

    @abstractmethod
    def parts(self, prompt: str, reins: Reins, report: Report) -> AsyncGenerator[dict[str, Any], None]:
        """Ask it and give `{"delta"}`, `{"tool", "result"}`, and `{"answer"}` last."""

    def failures(self) -> Table:
        """The framework's exceptions that have a name of their own here."""
        return {}

    @asynccontextmanager
    async def working(self, ctx: Context) -> AsyncIterator[tuple[Reins, Report]]:
        """A turn of the framework: its money held, its errors told as ours, and what ended it not explained away."""
        limits = self.config.budget.model_dump(exclude_none=True)
        reins = Reins(ctx, self._model, await self._tools(ctx), limits)
        reins.take()
        try:
            if self.own_model is None or self._model:
                yield reins, Report()
            else:
                async with charged(ctx, self.own_model) as report:
                    yield reins, report
        except Exception as error:
            reins.check()
            told = translated(error, self.framework, self.packages, self.failures(), self.made_at)
            if told is error:
                raise
            raise told from error
        finally:
            reins.drop()
        reins.check()

    async def _tools(self, ctx: Context) -> dict[str, Tool]:
        """What the framework is offered. Asked for at the first turn: the tools' agents need not be there before."""
        if self._offered is None:
            agents = dict.fromkeys(one.agent for one in self._references if one.agent is not None)
            described = {agent: await ctx.call(agent, "aip.describe") for agent in agents}
            found: list[Found] = []
            for one in self._references:
                found += chosen(one, described.get(one.agent or ""))
            self._offered = offered(found)
        return self._offered


def made(base: type[Kind], foreign: Any, name: str, doc: str, **said: Any) -> type[Kind]:
    """The class of one adapted agent. Called by each `agent_of`, whose caller is the author."""
    _check(said)
    frame = sys._getframe(2)
    words = re.findall(r"[A-Za-z0-9]+", name) or [base.framework]
    body = {
        "__doc__": doc or base.__doc__,
        "__module__": frame.f_globals.get("__name__", ""),
        "foreign": foreign,
        "made_at": f"{frame.f_code.co_filename}:{frame.f_lineno}",
        **said,
    }
    return type("".join(word[:1].upper() + word[1:] for word in words), (base,), body)


def _check(said: dict[str, Any]) -> None:
    if said["model"] is None and said["own_model"] is None:
        raise UsageError(
            "agent_of(model=None): an agent with a model client of its own says what one run may use",
            hint="own_model=OwnModel(tokens=50_000, input_price=…, output_price=…)",
        )
    if not 1 <= said["steps_max"] <= STEPS_MAX:
        raise UsageError(f"agent_of(steps_max={said['steps_max']}): give 1 to {STEPS_MAX}")
    for reference in said["tools"]:
        Reference.parse(reference)
