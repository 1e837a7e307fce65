"""An agent of any framework is an agent of AIP: the same road, the same money, the same end."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest
from adapter_kit import FRAMEWORKS, INSTRUCTIONS, Library, find, results
from model_kit import model
from scripted_server import Raw, Say, Stall, Status, scripted

from aip.adapters import StepsExhausted
from aip.errors import (
    AgentFailed,
    AIPError,
    BudgetExceeded,
    DeadlineExceeded,
    InvalidPayload,
    Killed,
    UnknownCapability,
    UsageError,
)
from aip.models import CallLimitReached, Garbage, RateLimited
from aip.runtime.envelope import Envelope
from aip.testing import configured, platform

each_framework = pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)


@each_framework
async def test_it_answers_with_the_model_of_the_plan(framework: Any) -> None:
    with scripted(Say("Paris")) as server:
        async with platform(framework.kind(tools=()), model(server)) as p:
            assert await p.call("reader/a", "ask", prompt="Capital of France?") == "Paris"
    (request,) = server.requests
    assert request["model"] == "small-1", "which model answers is the plan's to say"
    assert [(said["role"], said["content"]) for said in request["messages"]] == [
        ("system", INSTRUCTIONS),
        ("user", "Capital of France?"),
    ]


@each_framework
async def test_its_tools_are_capabilities_of_other_agents_called_through_the_guard(framework: Any) -> None:
    with scripted(Say(calls=(find("Moby Dick"),)), Say("1851")) as server:
        async with platform(framework.kind(), Library, model(server), budget={"tokens": 10_000}) as p:
            assert await p.call("reader/a", "ask", prompt="When?") == "1851"
            (key,) = await p.call("library/any", "keys_seen")
            assert p.spent["tool_calls"] == 1
    assert key, "a tool's effects need a key that a repeated attempt has too"
    (offered, _) = server.requests[0]["tools"]
    assert offered["function"]["name"] == "book_find"
    assert offered["function"]["description"] == "Find a book by its title."
    assert offered["function"]["parameters"]["required"] == ["title"]
    assert json.loads(results(server.requests[1])[0]) == {"title": "Moby Dick", "year": 1851}


@each_framework
async def test_a_repeated_attempt_calls_its_tools_under_the_same_keys(framework: Any) -> None:
    with scripted(
        Say(calls=(find("A"),)), Say(calls=(find("A"),)), Raw(b"?"), Say(calls=(find("A"),)), Say("x")
    ) as server:
        async with platform(framework.kind(), Library, model(server, retries=0)) as p:
            with pytest.raises(Garbage):
                await p.call("reader/a", "ask", prompt="x", fields={"idempotency_key": "task-1"})
            await p.call("reader/a", "ask", prompt="x", fields={"idempotency_key": "task-1"})
            first, second, *again = await p.call("library/any", "keys_seen")
    assert first != second, "of one attempt, the same call twice is two pieces of work"
    assert set(again) <= {first, second}


@each_framework
async def test_a_denial_goes_back_to_the_model_as_text(framework: Any) -> None:
    with scripted(Say(calls=(("book_burn", {"title": "X"}),)), Say("I may not")) as server:
        async with platform(framework.kind(), Library, model(server)) as p:
            assert await p.call("reader/a", "ask", prompt="Burn it") == "I may not"
    assert results(server.requests[1]) == ["refused: only the librarian burns books"]


@each_framework
async def test_arguments_that_a_tool_does_not_take_go_back_too(framework: Any) -> None:
    with scripted(Say(calls=(("book_find", {"name": "X"}),)), Say("well")) as server:
        async with platform(framework.kind(), Library, model(server)) as p:
            assert await p.call("reader/a", "ask", prompt="x") == "well"
            assert await p.call("library/any", "keys_seen") == []
    assert "title" in results(server.requests[1])[0]


@each_framework
async def test_a_stream_tells_texts_as_they_are_written_and_ends_with_the_answer(framework: Any) -> None:
    with scripted(Say(calls=(find("X"),)), Say("it is found")) as server:
        async with platform(framework.kind(), Library, model(server)) as p:
            parts = [part async for part in p.stream("reader/a", "ask_stream", prompt="x")]
    assert [part["delta"] for part in parts if "delta" in part] == ["it ", "is ", "found"]
    assert parts[-1] == {"answer": "it is found", "usage": {"tokens": 34, "usd_micro": 44, "requests": 2}}


@each_framework
async def test_a_reader_who_leaves_a_stream_closes_the_connection_to_the_model(framework: Any) -> None:
    with scripted(Stall("one two three")) as server:
        async with platform(framework.kind(tools=()), model(server)) as p:
            parts: Any = p.stream("reader/a", "ask_stream", prompt="x")
            assert "delta" in await anext(parts)
            await parts.aclose()
            assert await asyncio.to_thread(server.closed_early.wait, 10)


@each_framework
async def test_a_cancelled_ask_closes_the_connection_to_the_model(framework: Any) -> None:
    with scripted(Stall()) as server:
        async with platform(framework.kind(tools=()), model(server)) as p:
            asking = asyncio.ensure_future(p.call("reader/a", "ask", prompt="x"))
            while not server.requests:
                await asyncio.sleep(0.01)
            asking.cancel()
            assert await asyncio.to_thread(server.closed_early.wait, 10)


@each_framework
async def test_a_deadline_reaches_into_a_tool(framework: Any) -> None:
    with scripted(Say(calls=(("book_wait", {}),)), Say("late")) as server:
        async with platform(framework.kind(tools=["library.book.wait"]), Library, model(server)) as p:
            with pytest.raises(DeadlineExceeded):
                await p.call("reader/a", "ask", prompt="x", timeout_s=0.5)
    assert len(server.requests) == 1


# What ends it ---------------------------------------------------------------------------------------------------------


@each_framework
async def test_the_budget_ends_it_between_two_questions_to_the_model(framework: Any) -> None:
    dear = {"prompt_tokens": 3_000, "completion_tokens": 99}
    with scripted(Say(calls=(find("X"),), usage=dear), Say("no")) as server:
        async with platform(framework.kind(), Library, model(server), budget={"tokens": 3_500}) as p:
            with pytest.raises(BudgetExceeded):
                await p.call("reader/a", "ask", prompt="x")
            assert p.spent["tokens"] == 3_099
    assert len(server.requests) == 1


@each_framework
async def test_a_tool_that_the_budget_does_not_pay_for_ends_it_whatever_the_framework_catches(
    framework: Any,
) -> None:
    with scripted(Say(calls=(find("X"),)), Say("free after all")) as server:
        async with platform(framework.kind(), Library, model(server), budget={"tool_calls": 0}) as p:
            with pytest.raises(BudgetExceeded):
                await p.call("reader/a", "ask", prompt="x")
    assert len(server.requests) == 1, "no model is paid to talk about it"


class Warden:
    """A check of the guard, as policy and kill have theirs."""

    name = "warden"

    def peek(self, envelope: Envelope, now: float) -> AIPError | None:
        return Killed("the library is closed") if envelope.capability == "book.find" else None


@each_framework
async def test_a_kill_ends_it_and_is_not_told_to_the_model(framework: Any) -> None:
    with scripted(Say(calls=(find("X"),)), Say("never mind")) as server:
        async with platform(framework.kind(), Library, model(server), checks=[Warden()]) as p:
            with pytest.raises(Killed, match="the library is closed"):
                await p.call("reader/a", "ask", prompt="x")
    assert len(server.requests) == 1


@each_framework
async def test_it_stays_within_a_budget_of_its_own(framework: Any) -> None:
    dear = {"prompt_tokens": 3_000, "completion_tokens": 99}
    kind = configured(framework.kind(), budget={"tokens": 3_500})
    with scripted(Say(calls=(find("X"),), usage=dear), Say("no")) as server:
        async with platform(kind, Library, model(server)) as p:
            with pytest.raises(CallLimitReached):
                await p.call("reader/a", "ask", prompt="x")
    assert len(server.requests) == 1


@each_framework
async def test_a_model_that_always_finds_another_call_runs_out_of_steps(framework: Any) -> None:
    with scripted(lambda request: Say(calls=(find(f"book {len(request['messages'])}"),))) as server:
        async with platform(configured(framework.kind(), steps_max=4), Library, model(server)) as p:
            with pytest.raises(StepsExhausted) as caught:
                await p.call("reader/a", "ask", prompt="x")
    assert 2 <= len(server.requests) <= 4
    assert caught.value.details["framework"] == str(framework)
    assert "adapter_kit.py:" in caught.value.details["location"], "the author's own line"


@each_framework
@pytest.mark.parametrize(
    ("entry", "error"), [(Status(429), RateLimited), (Raw(b"\x00"), Garbage)], ids=["429", "garbage"]
)
async def test_what_the_endpoint_does_wrong_comes_out_as_the_model_agent_says_it(
    framework: Any, entry: Any, error: type[Exception]
) -> None:
    with scripted(entry) as server:
        async with platform(framework.kind(tools=()), model(server, retries=0)) as p:
            with pytest.raises(error):
                await p.call("reader/a", "ask", prompt="x")
    assert len(server.requests) == 1, "only the model agent tries again, and it reserves each attempt"


# Configuration --------------------------------------------------------------------------------------------------------


@each_framework
async def test_a_plan_may_say_which_model_and_which_tools(framework: Any) -> None:
    kind = configured(framework.kind(), "critic", model="big", tools=["library"])
    with scripted(Say("yes")) as server:
        async with platform(kind, Library, model(server, "models.big")) as p:
            assert await p.call("critic/a", "ask", prompt="x") == "yes"
    assert {tool["function"]["name"] for tool in server.requests[0]["tools"]} == {
        "book_find",
        "book_burn",
        "book_wait",
        "keys_seen",
    }


@each_framework
async def test_a_capability_of_whoever_has_it_is_a_tool_too(framework: Any) -> None:
    with scripted(Say(calls=(find("Omoo"),)), Say("1847")) as server:
        kind = configured(framework.kind(), tools=["capability:book.find"])
        async with platform(kind, Library, model(server)) as p:
            assert await p.call("reader/a", "ask", prompt="When?") == "1847"
            assert len(await p.call("library/any", "keys_seen")) == 1


@each_framework
@pytest.mark.parametrize("injected", ["book_wait", "keys_seen", "models.writer.chat", "tools.git.push"])
async def test_a_tool_that_was_injected_is_never_called(framework: Any, injected: str) -> None:
    """Whatever a model was talked into, only what was offered leads to a call: here the framework answers it by itself."""
    with scripted(Say(calls=((injected, {"title": "x"}),)), Say("no")) as server:
        async with platform(framework.kind(), Library, model(server)) as p:
            with contextlib.suppress(
                AgentFailed
            ):  # The OpenAI SDK ends the run instead of telling its model.
                assert await p.call("reader/a", "ask", prompt="x") == "no"
            assert await p.call("library/any", "keys_seen") == []
    assert injected not in [tool["function"]["name"] for tool in server.requests[0]["tools"]]


@each_framework
@pytest.mark.parametrize(
    ("config", "error", "says"),
    [
        ({"tools": ["a b"]}, UsageError, "names no tool"),
        ({"tools": ["library.book.write"]}, UnknownCapability, "has no capability 'book.write'"),
        ({"steps": 3}, InvalidPayload, "steps"),
    ],
)
async def test_a_wrong_configuration_is_told_before_a_model_is_paid(
    framework: Any, config: Any, error: type[Exception], says: str
) -> None:
    with scripted(Say("x")) as server:
        async with platform(configured(framework.kind(), **config), Library, model(server)) as p:
            with pytest.raises(error, match=says):
                await p.call("reader/a", "ask", prompt="x")
    assert server.requests == []


@each_framework
def test_what_agent_of_is_told_wrongly_is_refused_where_it_is_written(framework: Any) -> None:
    with pytest.raises(UsageError, match="names no tool"):
        framework.kind(tools=["not a tool"])
    with pytest.raises(UsageError, match="steps_max=0"):
        framework.kind(steps_max=0)
    with pytest.raises(UsageError, match="what one run may use"):
        framework.kind(model=None)
