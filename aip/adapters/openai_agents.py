"""An agent of the OpenAI Agents SDK as an AIP agent.

    from agents import Agent
    from aip.adapters import openai_agents

    researcher = openai_agents.agent_of(Agent(name="researcher", instructions="You read."), tools=["library.book.find"])

It asks the plan's model through the SDK's own chat completions model, the agents it hands over to as well. The SDK's tracing is
off: by default it sends prompts and answers to OpenAI, past every guard.

Trap: the SDK's import name is `agents`. A module `agents.py` beside a plan shadows it; that is found out here and said.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import json
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .adapted import STEPS, Adapted, made
from .endpoint import client
from .failure import GuardrailTripped, Misbehaved, StepsExhausted, Table, expected, missing
from .own_model import OwnModel, Report
from .reins import Reins

DISTRIBUTION = "openai-agents"


class OpenAIAgentsAgent(Adapted):
    """An agent of the OpenAI Agents SDK."""

    framework = "openai-agents"
    packages = ("agents", "openai")

    async def answer(self, prompt: str, reins: Reins, report: Report) -> Any:
        result = None
        try:
            result = await sdk().Runner.run(self._armed(reins), prompt, **self._given(reins))
            return result.final_output
        except sdk().AgentsException as error:
            result = error.run_data
            raise
        finally:
            _tell(report, result)

    async def parts(self, prompt: str, reins: Reins, report: Report) -> AsyncGenerator[dict[str, Any], None]:
        result = sdk().Runner.run_streamed(self._armed(reins), prompt, **self._given(reins))
        names: dict[str, str] = {}
        try:
            async for event in result.stream_events():
                if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                    yield {"delta": event.data.delta}
                elif event.type == "run_item_stream_event" and event.name == "tool_called":
                    names[event.item.raw_item.call_id] = event.item.raw_item.name
                elif event.type == "run_item_stream_event" and event.name == "tool_output":
                    name = names.get(event.item.raw_item["call_id"], "")
                    yield {"tool": name, "result": str(event.item.output)}
            yield {"answer": result.final_output}
        finally:
            result.cancel()  # A reader who left must not leave the run behind.
            _tell(report, result)

    def failures(self) -> Table:
        agents = sdk()
        return {
            agents.MaxTurnsExceeded: StepsExhausted,
            agents.ModelBehaviorError: Misbehaved,
            agents.InputGuardrailTripwireTriggered: GuardrailTripped,
            agents.OutputGuardrailTripwireTriggered: GuardrailTripped,
        }

    def _armed(self, reins: Reins) -> Any:
        """The author's agent with the tools of this turn beside its own."""
        return self.foreign.clone(tools=[*self.foreign.tools, *(_tool(reins, name) for name in reins.tools)])

    def _given(self, reins: Reins) -> dict[str, Any]:
        agents = sdk()
        config = agents.RunConfig(tracing_disabled=True)
        if reins.model:
            config.model = agents.OpenAIChatCompletionsModel(reins.model, client(reins))
        return {"context": reins.ctx, "max_turns": self._steps_max, "run_config": config}


def agent_of(
    agent: Any,
    *,
    model: str | None = "writer",
    tools: Sequence[str] = (),
    steps_max: int = STEPS,
    own_model: OwnModel | None = None,
) -> type[OpenAIAgentsAgent]:
    """The class of AIP agents that answer with an `agents.Agent`; a plan names it as `use: "module:name"`.

    `model` is one of the plan's; None for an agent with a model of its own, whose `own_model` says what a run may use. `tools`
    are capabilities of other agents. The author's own tools have the turn's `aip.Context` as `wrapper.context`.
    """
    expected(agent, sdk().Agent, "an agents.Agent")
    return made(
        OpenAIAgentsAgent,
        agent,
        agent.name,
        agent.handoff_description or "",
        model=model,
        tools=tuple(tools),
        steps_max=steps_max,
        own_model=own_model,
    )


@functools.cache
def sdk() -> Any:
    """The SDK's module, and no other of the same name. Raises `UsageError`, `Unavailable`."""
    try:
        home = importlib.metadata.distribution(DISTRIBUTION).locate_file("agents")
    except importlib.metadata.PackageNotFoundError as error:
        raise missing(DISTRIBUTION) from error
    module = importlib.import_module("agents")
    found = Path(module.__file__ or "").resolve()
    if Path(str(home)).resolve() not in found.parents:
        raise UsageError(
            f"{found} is called `agents`, like the OpenAI Agents SDK, and is found before it",
            hint="give your module another name, such as my_agents.py",
        )
    return module


def _tool(reins: Reins, name: str) -> Any:
    tool = reins.tools[name]

    async def use(context: Any, arguments: str) -> str:
        try:
            given = json.loads(arguments or "{}")
        except ValueError:
            given = None
        if not isinstance(given, dict):
            return "error: the arguments must be one JSON object"
        return await reins.use(name, given)

    # Not strict: strict mode would make every optional parameter of the capability required.
    return sdk().FunctionTool(
        name=tool.name,
        description=tool.doc,
        params_json_schema=dict(tool.schema),
        on_invoke_tool=use,
        strict_json_schema=False,
    )


def _tell(report: Report, result: Any) -> None:
    if result is not None and (usage := result.context_wrapper.usage).requests:
        report.tokens = (usage.input_tokens, usage.output_tokens)
