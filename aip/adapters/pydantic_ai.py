"""A pydantic-ai agent as an AIP agent.

    from pydantic_ai import Agent
    from aip.adapters import pydantic_ai

    researcher = pydantic_ai.agent_of(Agent(instructions="You read."), tools=["library.book.find"])

It asks the plan's model through pydantic-ai's own chat model, so that output types, retries and tools of the author work as they
are documented there. An agent with `deps_type=aip.Context` has the turn's context as `ctx.deps`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from ..agent import Context
from ..errors import UsageError
from .adapted import STEPS, Adapted, made
from .endpoint import client
from .failure import Misbehaved, StepsExhausted, Table, expected, missing
from .own_model import OwnModel, Report
from .reins import Reins


class PydanticAIAgent(Adapted):
    """An agent of pydantic-ai."""

    framework = "pydantic-ai"
    packages = ("pydantic_ai", "openai")
    deps: Any = None  # A function of the context, or None.

    async def answer(self, prompt: str, reins: Reins, report: Report) -> Any:
        given = self._given(reins)
        try:
            return (await self.foreign.run(prompt, **given)).output
        finally:
            _tell(report, given["usage"])

    async def parts(self, prompt: str, reins: Reins, report: Report) -> AsyncGenerator[dict[str, Any], None]:
        from pydantic_ai import messages
        from pydantic_ai.run import AgentRunResultEvent

        given = self._given(reins)
        try:
            async with self.foreign.run_stream_events(prompt, **given) as events:
                async for event in events:
                    match event:
                        case messages.PartStartEvent(part=messages.TextPart(content=text)) if text:
                            yield {"delta": text}
                        case messages.PartDeltaEvent(delta=messages.TextPartDelta(content_delta=text)):
                            yield {"delta": text}
                        case messages.FunctionToolResultEvent(part=part):
                            yield {"tool": part.tool_name, "result": str(part.content)}
                        case AgentRunResultEvent(result=result):
                            yield {"answer": result.output}
        finally:
            _tell(report, given["usage"])

    def failures(self) -> Table:
        from pydantic_ai import exceptions

        return {
            exceptions.UsageLimitExceeded: StepsExhausted,
            exceptions.UnexpectedModelBehavior: Misbehaved,
        }

    def _given(self, reins: Reins) -> dict[str, Any]:
        """What a run is given beside its prompt."""
        from pydantic_ai.toolsets import FunctionToolset
        from pydantic_ai.usage import RunUsage, UsageLimits

        given: dict[str, Any] = {
            "deps": reins.ctx if self.deps is None else self.deps(reins.ctx),
            "usage": RunUsage(),
            "usage_limits": UsageLimits(request_limit=self._steps_max),
            "toolsets": [FunctionToolset([_tool(reins, name) for name in reins.tools])],
        }
        return {**given, "model": _model(reins)} if reins.model else given


def agent_of(
    agent: Any,
    *,
    model: str | None = "writer",
    tools: Sequence[str] = (),
    steps_max: int = STEPS,
    deps: Callable[[Context], Any] | None = None,
    own_model: OwnModel | None = None,
) -> type[PydanticAIAgent]:
    """The class of AIP agents that answer with a `pydantic_ai.Agent`; a plan names it as `use: "module:name"`.

    `model` is one of the plan's; None for an agent with a model of its own, whose `own_model` says what a run may use. `tools`
    are capabilities of other agents. `deps` makes the dependencies of a run.
    """
    try:
        from pydantic_ai.agent import AbstractAgent
    except ImportError as error:
        raise missing("pydantic-ai") from error
    expected(agent, AbstractAgent, "a pydantic_ai.Agent")
    if deps is None and agent.deps_type not in (type(None), Context, object):
        raise UsageError(
            f"agent_of: the agent wants dependencies of type {agent.deps_type.__name__}",
            hint="give agent_of deps=, a function from aip.Context to them, or declare deps_type=aip.Context",
        )
    said: Mapping[str, Any] = {
        "model": model,
        "tools": tuple(tools),
        "steps_max": steps_max,
        "own_model": own_model,
    }
    # As a static method: a function in a class body would become a method.
    bound = {"deps": None if deps is None else staticmethod(deps)}
    return made(PydanticAIAgent, agent, agent.name or "pydantic-ai-agent", "", **said, **bound)


def _model(reins: Reins) -> Any:
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    return OpenAIChatModel(reins.model, provider=OpenAIProvider(openai_client=client(reins)))


def _tool(reins: Reins, name: str) -> Any:
    from pydantic_ai import Tool

    async def use(**arguments: Any) -> str:
        return await reins.use(name, arguments)

    tool = reins.tools[name]
    return Tool.from_schema(use, tool.name, tool.doc, dict(tool.schema))


def _tell(report: Report, usage: Any) -> None:
    if usage.requests:
        report.tokens = (usage.input_tokens, usage.output_tokens)
