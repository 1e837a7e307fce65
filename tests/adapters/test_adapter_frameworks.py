"""What is particular to pydantic-ai and to the OpenAI Agents SDK: output types, dependencies, own tools, own models, the trap."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import agents
import pydantic
import pydantic_ai
import pytest
from adapter_kit import Library, results
from model_kit import model
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.usage import RequestUsage
from scripted_server import Say, scripted

import aip
from aip.adapters import GuardrailTripped, Misbehaved, Unpriced, current_context, openai_agents
from aip.adapters import pydantic_ai as adapter
from aip.adapters.own_model import OwnModel
from aip.errors import AgentFailed, BudgetExceeded, InvalidPayload, UsageError
from aip.runtime.activation import AgentType
from aip.testing import platform


class Book(pydantic.BaseModel):
    title: str
    year: int


# pydantic-ai ----------------------------------------------------------------------------------------------------------


async def test_an_output_type_of_pydantic_ai_is_what_the_ask_answers_with() -> None:
    kind = adapter.agent_of(pydantic_ai.Agent(name="reader", output_type=Book))
    answer = Say(calls=(("final_result", {"title": "Omoo", "year": 1847}),))
    with scripted(answer) as server:
        async with platform(kind, model(server)) as p:
            assert await p.call("reader/a", "ask", prompt="x") == {"title": "Omoo", "year": 1847}
    assert server.requests[0]["tool_choice"] == "required", (
        "an answer in words would have to be asked for again"
    )


async def test_native_output_of_pydantic_ai_is_held_to_its_schema_by_the_model_agent() -> None:
    kind = adapter.agent_of(pydantic_ai.Agent(name="reader", output_type=pydantic_ai.NativeOutput(Book)))
    with scripted(Say("Omoo"), Say('{"title": "Omoo", "year": 1847}')) as server:
        async with platform(kind, model(server)) as p:
            assert await p.call("reader/a", "ask", prompt="x") == {"title": "Omoo", "year": 1847}
    assert "response_format" in server.requests[0]


async def test_a_model_that_never_gives_the_output_type_has_misbehaved() -> None:
    kind = adapter.agent_of(pydantic_ai.Agent(name="reader", output_type=Book))
    with scripted(Say("no")) as server:
        async with platform(kind, model(server)) as p:
            with pytest.raises(Misbehaved) as caught:
                await p.call("reader/a", "ask", prompt="x")
    assert caught.value.details["type"].endswith("UnexpectedModelBehavior")


async def test_own_tools_have_the_context_as_their_dependencies() -> None:
    agent = pydantic_ai.Agent(name="reader", deps_type=aip.Context)

    @agent.tool
    async def year(ctx: pydantic_ai.RunContext[aip.Context], title: str) -> int:
        found = await ctx.deps.call("library", "book.find", {"title": title})
        return int(found["year"])

    with scripted(Say(calls=(("year", {"title": "X"}),)), Say("1851")) as server:
        async with platform(adapter.agent_of(agent), Library, model(server)) as p:
            await p.call("reader/a", "ask", prompt="x")
    assert results(server.requests[1]) == ["1851"]


async def test_other_dependencies_are_made_of_the_context_or_refused() -> None:
    agent: Any = pydantic_ai.Agent(name="reader", deps_type=str)

    @agent.instructions
    def who(ctx: pydantic_ai.RunContext[str]) -> str:
        return f"You are {ctx.deps}."

    with pytest.raises(UsageError, match="dependencies of type str"):
        adapter.agent_of(agent)
    with scripted(Say("yes")) as server:
        async with platform(adapter.agent_of(agent, deps=lambda ctx: ctx.agent), model(server)) as p:
            await p.call("reader/a", "ask", prompt="x")
    assert server.requests[0]["messages"][0]["content"] == "You are reader/a."


async def test_a_setting_that_the_plans_model_does_not_take_is_refused_by_name() -> None:
    agent = pydantic_ai.Agent(name="reader", model_settings={"top_p": 0.1})
    with scripted(Say("x")) as server:
        async with platform(adapter.agent_of(agent), model(server)) as p:
            with pytest.raises(InvalidPayload, match="top_p"):
                await p.call("reader/a", "ask", prompt="x")
    assert server.requests == []


# A model of its own ---------------------------------------------------------------------------------------------------


def with_own_model(tokens: int, **prices: int) -> type[aip.Agent]:
    def answer(messages: Any, info: Any) -> ModelResponse:
        return ModelResponse([TextPart("yes")], usage=RequestUsage(input_tokens=100, output_tokens=10))

    agent = pydantic_ai.Agent(FunctionModel(answer), name="reader")
    return adapter.agent_of(agent, model=None, own_model=OwnModel(tokens=tokens, **prices))


async def test_what_a_model_of_its_own_has_used_is_charged_after_the_run() -> None:
    kind = with_own_model(1_000, input_price=1_000_000, output_price=2_000_000)
    async with platform(kind, budget={"tokens": 1_000, "usd_micro": 2_000}) as p:
        assert await p.call("reader/a", "ask", prompt="x") == "yes"
        assert (p.spent["tokens"], p.spent["usd_micro"]) == (110, 120)


async def test_a_run_that_its_account_has_no_room_for_does_not_begin() -> None:
    async with platform(with_own_model(1_000), budget={"tokens": 999}) as p:
        with pytest.raises(BudgetExceeded):
            await p.call("reader/a", "ask", prompt="x")
        assert p.spent.get("tokens", 0) == 0


async def test_a_model_of_its_own_without_prices_is_refused_where_money_is_limited() -> None:
    async with platform(with_own_model(1_000), budget={"usd_micro": 10_000_000}) as p:
        with pytest.raises(Unpriced):
            await p.call("reader/a", "ask", prompt="x")


async def test_a_run_that_says_nothing_of_its_cost_is_charged_in_full() -> None:
    def broken(messages: Any, info: Any) -> ModelResponse:
        raise ValueError("the provider is away")

    agent = pydantic_ai.Agent(FunctionModel(broken), name="reader")
    kind = adapter.agent_of(agent, model=None, own_model=OwnModel(tokens=500))
    async with platform(kind, budget={"tokens": 1_000}) as p:
        with pytest.raises(AgentFailed, match="away"):
            await p.call("reader/a", "ask", prompt="x")
        assert p.spent["tokens"] == 500


# The OpenAI Agents SDK ------------------------------------------------------------------------------------------------


async def test_an_output_type_of_the_sdk_is_what_the_ask_answers_with() -> None:
    kind = openai_agents.agent_of(agents.Agent(name="reader", output_type=Book))
    with scripted(Say('{"title": "Omoo", "year": 1847}')) as server:
        async with platform(kind, model(server)) as p:
            assert await p.call("reader/a", "ask", prompt="x") == {"title": "Omoo", "year": 1847}
    assert server.requests[0]["response_format"]["json_schema"]["schema"]["required"] == ["title", "year"]


async def test_an_agent_that_is_handed_over_to_asks_the_plans_model_too() -> None:
    poet = agents.Agent(name="poet", instructions="You rhyme.")
    kind = openai_agents.agent_of(agents.Agent(name="reader", handoffs=[poet]))
    with scripted(Say(calls=(("transfer_to_poet", {}),)), Say("a rhyme")) as server:
        async with platform(kind, model(server), budget={"tokens": 10_000}) as p:
            assert await p.call("reader/a", "ask", prompt="x") == "a rhyme"
            assert p.spent["tokens"] == 34
    assert server.requests[1]["messages"][0]["content"] == "You rhyme."


async def test_a_guardrail_of_the_sdk_is_a_typed_refusal_of_the_agent() -> None:
    @agents.input_guardrail
    async def closed(context: Any, agent: Any, given: Any) -> agents.GuardrailFunctionOutput:
        return agents.GuardrailFunctionOutput(output_info=None, tripwire_triggered=True)

    kind = openai_agents.agent_of(agents.Agent(name="reader", input_guardrails=[closed]))
    with scripted(Say("x")) as server:
        async with platform(kind, model(server)) as p:
            with pytest.raises(GuardrailTripped):
                await p.call("reader/a", "ask", prompt="x")


async def test_a_module_that_shadows_the_sdk_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shadow = types.ModuleType("agents")
    shadow.__file__ = str(tmp_path / "agents.py")
    monkeypatch.setitem(sys.modules, "agents", shadow)
    openai_agents.sdk.cache_clear()
    with pytest.raises(UsageError, match=r"agents\.py is called `agents`") as caught:
        openai_agents.agent_of(object())
    assert "my_agents.py" in caught.value.hint


# Own code of the author -----------------------------------------------------------------------------------------------

OWN = """
import agents, pydantic_ai
from aip.adapters import openai_agents, pydantic_ai as adapter

def shelf(number: int) -> str:
    raise ValueError(f"there is no shelf {number}")       # line 6

one = adapter.agent_of(pydantic_ai.Agent(tools=[shelf]))
two = openai_agents.agent_of(
    agents.Agent(name="two", tools=[agents.function_tool(shelf, failure_error_function=None)])
)
"""


@pytest.mark.parametrize("name", ["one", "two"])
async def test_an_own_tool_that_fails_is_the_authors_error_at_the_authors_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "agents_of_mine.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "agents_of_mine", raising=False)
    kind = AgentType("reader", f"agents_of_mine:{name}", code_root=str(tmp_path))
    with scripted(Say(calls=(("shelf", {"number": 7}),)), Say("x")) as server:
        async with platform(kind, model(server)) as p:
            with pytest.raises(AgentFailed, match="ValueError: there is no shelf 7") as caught:
                await p.call("reader/a", "ask", prompt="x")
    assert caught.value.details["location"] == "agents_of_mine.py:6"


def test_there_is_no_context_where_no_agent_works() -> None:
    with pytest.raises(UsageError, match="no agent is at work"):
        current_context()
