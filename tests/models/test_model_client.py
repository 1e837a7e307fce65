"""The way to an endpoint and back, over real HTTP: what goes out, what goes wrong, and what never shows."""

from __future__ import annotations

import asyncio
import logging
import pickle
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from model_kit import KEY
from scripted_server import Drop, Half, Raw, Say, Server, Stall, Status, scripted

from aip.models.chat import Answer, Request
from aip.models.client import Endpoint
from aip.models.failure import CutOff, Garbage, ModelFailed, RateLimited, Rejected, Unreachable
from aip.models.spec import ModelConfig

ASKED = Request(({"role": "user", "content": "hello"},))


@asynccontextmanager
async def endpoint(url: str, key: str = KEY, **config: Any) -> AsyncIterator[Endpoint]:
    one = Endpoint(ModelConfig.model_validate({"base_url": url, "model": "m", **config}), key)
    await asyncio.to_thread(one.load)
    try:
        yield one
    finally:
        await one.close()


async def sent(server: Server, timeout_s: float = 10.0, **config: Any) -> Answer:
    async with endpoint(server.url, **config) as one:
        return await one.send(ASKED, timeout_s)


async def test_a_request_says_all_that_was_asked_for() -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    asked = Request(ASKED.messages, (tool,), {"type": "integer"}, 7, 0.5, ("END",))
    with scripted(Say("7")) as server:
        async with endpoint(server.url, output_limit_field="max_completion_tokens") as one:
            await one.send(asked, 10.0)
    body = server.requests[0]
    assert body["model"] == "m"
    assert body["messages"] == [{"role": "user", "content": "hello"}]
    assert body["tools"] == [tool]
    assert body["response_format"]["json_schema"]["schema"] == {"type": "integer"}
    assert (body["max_completion_tokens"], body["temperature"], body["stop"]) == (7, 0.5, ["END"])
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


async def test_a_key_that_lies_around_is_not_sent_to_a_server_that_asks_for_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "not-for-you")
    with scripted(Say("hi")) as server:
        await sent(server, key="")
    assert "authorization" not in server.headers[0]
    assert "not-for-you" not in str(server.headers[0])


async def test_an_answer_with_text_calls_and_usage_is_read_whole_and_streamed_alike() -> None:
    said = Say("two words", calls=(("look", {"at": 1}), ("listen", '{"to": "x"}')))
    with scripted(said) as server:
        async with endpoint(server.url) as one:
            whole = await one.send(ASKED, 10.0)
            parts = [part async for part in one.stream(ASKED, 10.0)]
    assert [call.name for call in whole.tool_calls] == ["look", "listen"]
    assert parts == ["two ", "words", whole]
    assert server.requests[1]["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("entry", "error", "details"),
    [
        (Status(429, {"retry-after": "3"}), RateLimited, {"after_s": 3.0}),
        (Status(429), RateLimited, {"after_s": None}),
        (Status(500), Unreachable, {"cost_unknown": False}),
        (Status(503), Unreachable, {"cost_unknown": False}),
        (Status(408), Unreachable, {"cost_unknown": False}),
        (Status(400), Rejected, {"status": 400}),
        (Status(401), Rejected, {"status": 401}),
        (Status(404), Rejected, {"status": 404}),
        (Drop(), CutOff, {"cost_unknown": True}),
        (Raw(b"<html>hello</html>", "text/html"), Garbage, {"cost_unknown": True}),
        (Raw(b'{"choices": "none"}'), Garbage, {"cost_unknown": True}),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, Status) else str(value.status),
)
async def test_what_goes_wrong_has_a_class(
    entry: Any, error: type[ModelFailed], details: dict[str, Any]
) -> None:
    with scripted(entry) as server, pytest.raises(error) as caught:
        await sent(server)
    assert {name: getattr(caught.value, name) for name in details} == details
    assert len(server.requests) == 1, "each attempt is paid for by itself: the package must not retry"


async def test_a_port_where_nobody_listens_is_unreachable_and_costs_nothing() -> None:
    with scripted(Say()) as server:
        pass
    with pytest.raises(Unreachable, match="no connection") as caught:
        await sent(server)
    assert not caught.value.cost_unknown


async def test_a_stalled_endpoint_is_left_and_its_connection_closed() -> None:
    with scripted(Stall()) as server:
        with pytest.raises(CutOff, match="silent"):
            await sent(server, timeout_s=0.2)
        assert await asyncio.to_thread(server.closed_early.wait, 5.0)


async def test_a_stream_that_falls_silent_is_left_after_the_idle_time() -> None:
    with scripted(Stall("a few words")) as server:
        texts = []
        async with endpoint(server.url, idle_timeout_s=0.2) as one:
            with pytest.raises(CutOff, match="silent"):
                async for part in one.stream(ASKED, 60.0):
                    texts.append(part)
        assert texts == ["a ", "few ", "words"]
        assert await asyncio.to_thread(server.closed_early.wait, 5.0)


async def test_half_a_stream_is_not_an_answer() -> None:
    with scripted(Half("only half of")) as server:
        async with endpoint(server.url) as one:
            with pytest.raises(CutOff):
                async for _ in one.stream(ASKED, 10.0):
                    pass


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_cancelled_call_reaches_the_socket(streamed: bool) -> None:
    async def ask(one: Endpoint) -> None:
        if streamed:
            async for _ in one.stream(ASKED, 60.0):
                pass
        else:
            await one.send(ASKED, 60.0)

    with scripted(Stall("a few words" if streamed else "")) as server:
        async with endpoint(server.url) as one:
            task = asyncio.create_task(ask(one))
            while not server.requests:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(server.closed_early.wait, 5.0)


@pytest.mark.parametrize(
    "entry",
    [
        Status(401, message=f"Incorrect API key provided: {KEY}."),
        Status(429, message=f"{KEY} is over its limit"),
        Status(500, message="x" * 490 + KEY),  # Cut in its middle, half of it would be left.
        Drop(),
        Raw(KEY.encode()),
    ],
    ids=["denied", "limited", "cut", "dropped", "garbage"],
)
async def test_a_key_shows_in_no_error_no_log_and_no_repr(
    entry: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with scripted(entry) as server:
        async with endpoint(server.url) as one:
            with pytest.raises(ModelFailed) as caught:
                await one.send(ASKED, 10.0)
            shown = [repr(one), repr(one.__class__), *(record.getMessage() for record in caplog.records)]
    error = caught.value
    shown += ["".join(traceback.format_exception(error)), repr(error.__dict__), str(pickle.dumps(error))]
    # Else the request would hang on, with its headers.
    assert (error.__context__, error.__cause__) == (None, None)
    assert server.headers[0]["authorization"].endswith(KEY), "the test looks for the key that was really used"
    for text in shown:
        assert KEY not in text
        assert KEY[:12] not in text
