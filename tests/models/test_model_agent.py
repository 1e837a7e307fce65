"""A model as an agent: on the road, paid for, and silent about its key."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from model_kit import KEY, model
from scripted_server import Raw, Say, Stall, Status, scripted

import aip
from aip.errors import BudgetExceeded, InvalidPayload, NotFound, from_record, to_record
from aip.models import CallLimitReached, Garbage, RateLimited, Rejected, Unpriced, Unstructured
from aip.testing import platform

HELLO = [{"role": "user", "content": "hello"}]


class Asker(aip.Agent):
    @aip.capability
    async def word(self, ctx: aip.Context) -> str:
        answer = await ctx.model("writer").chat(messages=[{"role": "user", "content": "One word."}])
        return str(answer["text"])


async def test_an_agent_asks_a_model_of_its_plan_and_its_budget_pays() -> None:
    with scripted(Say("sea", usage={"prompt_tokens": 10, "completion_tokens": 2})) as server:
        async with platform(Asker, model(server), budget={"tokens": 10_000, "usd_micro": 10_000}) as p:
            assert await p.call("asker/a", "word") == "sea"
        assert (p.spent["tokens"], p.spent["usd_micro"]) == (12, 14)


async def test_without_room_in_the_budget_the_endpoint_hears_nothing() -> None:
    with scripted(Say("sea")) as server:
        async with platform(Asker, model(server), budget={"tokens": 100}) as p:
            with pytest.raises(BudgetExceeded):
                await p.call("asker/a", "word")
        assert server.requests == []


async def test_many_callers_share_one_account_and_never_overspend_it() -> None:
    async def one(p: Any) -> bool:
        try:
            await p.call("models.writer/any", "chat", messages=HELLO)
        except BudgetExceeded:
            return False
        return True

    # What each call reserves is far above what it uses: the account must let many in, and none too many.
    with scripted(Say("hi", usage={"prompt_tokens": 40, "completion_tokens": 10})) as server:
        async with platform(model(server, concurrency=4), budget={"usd_micro": 3_000}) as p:
            answered = sum(await asyncio.gather(*(one(p) for _ in range(60))))
        assert p.spent["usd_micro"] == answered * 60 <= 3_000
        assert answered == len(server.requests)
        assert 0 < answered < 60
        assert server.at_once_most <= 4


async def test_a_stream_comes_in_parts_and_ends_with_the_whole() -> None:
    with scripted(Say("one two")) as server:
        async with platform(model(server), budget={"tokens": 10_000, "usd_micro": 10_000}) as p:
            parts = [part async for part in p.stream("models.writer/any", "chat_stream", messages=HELLO)]
        assert [part.get("delta") for part in parts] == ["one ", "two", None]
        assert parts[-1]["usage"]["tokens"] == p.spent["tokens"] == 17


async def test_a_reader_who_leaves_a_stream_closes_the_connection_behind_it() -> None:
    with scripted(Stall("some words")) as server:
        async with platform(model(server)) as p:
            stream = p.stream("models.writer/any", "chat_stream", messages=HELLO)
            assert await anext(stream) == {"delta": "some "}
            await stream.aclose()
            assert await asyncio.to_thread(server.closed_early.wait, 5.0)


async def test_a_call_that_runs_out_of_time_closes_the_connection_behind_it() -> None:
    with scripted(Say("warm"), Stall()) as server:
        async with platform(model(server)) as p:
            await p.call("models.writer/any", "chat", messages=HELLO)
            with pytest.raises(aip.AIPError):
                await p.call("models.writer/any", "chat", timeout_s=0.3, messages=HELLO)
            assert await asyncio.to_thread(server.closed_early.wait, 5.0)


async def test_a_schema_is_held_to_and_a_wrong_answer_mended() -> None:
    with scripted(Say("about seven"), Say("7"), Say("eight"), Say("nine")) as server:
        async with platform(model(server)) as p:
            answer = await p.call("models.writer/any", "chat", messages=HELLO, schema={"type": "integer"})
            assert answer["parsed"] == 7
            with pytest.raises(Unstructured):
                await p.call("models.writer/any", "chat", messages=HELLO, schema={"type": "integer"})


async def test_an_endpoint_that_is_busy_is_asked_again_when_it_said() -> None:
    with scripted(Status(429, {"retry-after": "0.01"}), Status(503), Say("sea")) as server:
        async with platform(model(server)) as p:
            assert (await p.call("models.writer/any", "chat", messages=HELLO))["text"] == "sea"
        assert len(server.requests) == 3


async def test_an_endpoint_that_stays_busy_is_a_typed_error_that_says_a_retry_may_help() -> None:
    with scripted(Status(429, {"retry-after": "0"})) as server:
        async with platform(model(server, retries=1)) as p:
            with pytest.raises(RateLimited) as caught:
                await p.call("models.writer/any", "chat", messages=HELLO)
    assert caught.value.retryable
    assert caught.value.details["attempts"] == 2


async def test_garbage_is_a_typed_error_and_is_paid_in_full() -> None:
    with scripted(Raw(b"<html>")) as server:
        async with platform(model(server, retries=0), budget={"tokens": 10_000}) as p:
            with pytest.raises(Garbage):
                await p.call("models.writer/any", "chat", messages=HELLO)
        assert p.spent["tokens"] > 100


async def test_a_model_without_a_price_is_refused_under_a_budget_of_money() -> None:
    with scripted(Say("sea")) as server:
        async with platform(model(server, prices=None), budget={"usd_micro": 10**9}) as p:
            with pytest.raises(Unpriced, match="no price"):
                await p.call("models.writer/any", "chat", messages=HELLO)
        async with platform(model(server, prices=None), budget={"tokens": 10_000}) as p:
            await p.call("models.writer/any", "chat", messages=HELLO)
        assert len(server.requests) == 1


async def test_a_caller_may_limit_one_call() -> None:
    with scripted(Say("sea")) as server:
        async with platform(model(server)) as p:
            with pytest.raises(CallLimitReached, match="may use 50 tokens"):
                await p.call("models.writer/any", "chat", messages=HELLO, limit={"tokens": 50})
            with pytest.raises(InvalidPayload, match=r"limit\.words"):
                await p.call("models.writer/any", "chat", messages=HELLO, limit={"words": 50})
        assert server.requests == []


TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


@pytest.mark.parametrize(
    "choice", ["auto", "none", "required", {"type": "function", "function": {"name": "look"}}]
)
async def test_a_choice_of_tools_reaches_the_endpoint_as_it_was_made(choice: Any) -> None:
    asked = {"messages": HELLO, "tools": TOOLS, "tool_choice": choice}
    with scripted(Say("hi")) as server:
        async with platform(model(server)) as p:
            await p.call("models.writer/any", "chat", **asked)
            assert [part async for part in p.stream("models.writer/any", "chat_stream", **asked)]
            with pytest.raises(InvalidPayload, match="no tool 'hear'"):
                other = {"type": "function", "function": {"name": "hear"}}
                await p.call("models.writer/any", "chat", **{**asked, "tool_choice": other})
    assert [request["tool_choice"] for request in server.requests] == [choice, choice]


async def test_without_a_choice_the_endpoint_is_told_none() -> None:
    with scripted(Say("hi")) as server:
        async with platform(model(server)) as p:
            await p.call("models.writer/any", "chat", messages=HELLO, tools=TOOLS)
    assert "tool_choice" not in server.requests[0]


async def test_a_secret_that_is_not_there_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WRITER_KEY")
    with scripted(Say("sea")) as server:
        async with platform(model(server)) as p:
            with pytest.raises(NotFound, match="no secret WRITER_KEY"):
                await p.call("models.writer/any", "chat", messages=HELLO)


async def test_a_key_is_in_no_audit_entry_checkpoint_log_or_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with scripted(Say("sea"), Status(401, message=f"Incorrect API key provided: {KEY}")) as server:
        async with platform(model(server)) as p:
            answer = await p.call("models.writer/any", "chat", messages=HELLO)
            with pytest.raises(Rejected) as caught:
                await p.call("models.writer/any", "chat", messages=HELLO)
            described = await p.call("models.writer/any", "aip.describe")
        assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    record = to_record(caught.value)
    shown = [answer, described, record, from_record(record).__dict__, p.audit.entries, vars(p.checkpoints)]
    shown += [entry.getMessage() for entry in caplog.records]
    assert KEY not in json.dumps(shown, default=repr)


def test_the_errors_of_models_cross_the_wire_as_their_classes() -> None:
    for error in (
        RateLimited("later", after_s=3),
        Garbage("x"),
        Rejected("no", status=401),
        Unstructured("y"),
    ):
        again = from_record(to_record(error))
        assert type(again) is type(error)
        assert (again.message, again.hint, again.retryable) == (error.message, error.hint, error.retryable)
