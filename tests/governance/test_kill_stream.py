"""The event stream of kill orders, asked by a real HTTP client over a real server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
import uvicorn
from kill_kit import order

from aip.errors import UsageError
from aip.governance.kill import Fence, Level
from aip.governance.notify import stream
from aip.governance.notify.stream import EventStream, Watch
from aip.settings import Home

ROOT = Path(__file__).parents[2]
TOKEN = "a token for the tests only"
BEARS = {"authorization": f"Bearer {TOKEN}"}


@asynccontextmanager
async def served(fence: Fence, quiet_s: float = 15.0) -> AsyncIterator[httpx2.AsyncClient]:
    application = EventStream(Watch(fence), TOKEN, quiet_s)
    config = uvicorn.Config(
        application, lifespan="off", log_level="critical", timeout_graceful_shutdown=1, access_log=False
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as place:
        running = asyncio.ensure_future(server.serve([place]))
        url = f"http://127.0.0.1:{place.getsockname()[1]}"
        async with httpx2.AsyncClient(base_url=url, timeout=20, trust_env=False) as client:
            yield client
        server.should_exit = True
        await running


@asynccontextmanager
async def listening(client: httpx2.AsyncClient, path: str = "/events", **headers: str):
    async with client.stream("GET", path, headers=BEARS | headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        yield messages(answer)


async def messages(answer: httpx2.Response) -> AsyncIterator[dict[str, str]]:
    """As a browser reads them (WHATWG HTML, 9.2.6), as far as this stream goes."""
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif fields:
            yield fields
            fields = {}


async def nexts(listener: AsyncIterator[dict[str, str]], number: int) -> list[dict[str, str]]:
    found = []
    async for message in listener:
        if "data" in message:
            found.append(message)
        if len(found) == number:
            break
    return found


@pytest.fixture
def fence(tmp_path: Path) -> Fence:
    return Fence(tmp_path)


async def test_a_listener_hears_each_order_as_it_is_raised_and_lowered(fence: Fence) -> None:
    fence.write(order("yesterday"))
    async with served(fence) as client, listening(client) as listener:
        assert await anext(listener) == {"retry": "1000"}
        fence.write(order("greeter", Level.PAUSE, reason='it\n"loops"'))
        fence.write(order("greeter", lifted=True))
        raised, lowered = await nexts(listener, 2)
    assert (raised["event"], lowered["event"]) == ("dev.aip.kill.raised", "dev.aip.kill.lowered")
    event = json.loads(raised["data"])
    assert event["id"] == raised["id"] == f"{fence.identity()}-2"
    assert event["data"]["reason"] == 'it\n"loops"'


async def test_a_listener_that_comes_back_goes_on_behind_the_last_event_it_had(fence: Fence) -> None:
    for number in range(5):
        fence.write(order(f"greeter/{number}"))
    async with served(fence) as client:
        async with listening(client, "/events?after=0") as listener:
            first = await nexts(listener, 2)
        fence.write(order("late"))
        async with listening(client, **{"last-event-id": first[-1]["id"]}) as listener:
            rest = await nexts(listener, 4)
        async with listening(client, **{"last-event-id": "another-fence-3"}) as listener:
            again = await nexts(listener, 6)
    assert [json.loads(one["data"])["subject"] for one in first + rest] == [
        "greeter/0", "greeter/1", "greeter/2", "greeter/3", "greeter/4", "late",
    ]  # fmt: skip
    assert len({one["id"] for one in again}) == 6


async def test_a_stream_that_has_nothing_to_say_says_so(fence: Fence) -> None:
    async with served(fence, quiet_s=0.05) as client, listening(client) as listener:
        await anext(listener)
        assert await anext(listener) == {"": ""}


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/events", {}, 401),
        ("GET", "/events", {"authorization": "Bearer wrong"}, 401),
        ("GET", "/events", {"authorization": TOKEN}, 401),
        ("GET", "/", BEARS, 404),
        ("POST", "/events", BEARS, 405),
        ("GET", "/events?after=-1", BEARS, 400),
        ("GET", "/events?after=", BEARS, 400),
        ("GET", "/events?after=²", BEARS, 400),
        ("GET", "/events", BEARS | {"last-event-id": "nothing"}, 400),
    ],
)
async def test_what_is_refused(
    fence: Fence, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    async with served(fence) as client:
        assert (await client.request(method, path, headers=headers)).status_code == status


async def test_no_more_listen_than_are_let(fence: Fence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "LISTENERS_MAX", 1)
    async with served(fence) as client:
        async with listening(client) as listener:
            await anext(listener)
            assert (await client.get("/events", headers=BEARS)).status_code == 503
        async with asyncio.timeout(10):
            while True:
                async with client.stream("GET", "/events", headers=BEARS) as answer:
                    if answer.status_code == 200:
                        break
                await asyncio.sleep(0.01)


def test_a_short_token_is_none(fence: Fence) -> None:
    with pytest.raises(UsageError, match="16 characters"):
        EventStream(Watch(fence), "short")


# What a shell starts in the background ignores Ctrl-C, and hands that down.
HEARS_CTRL_C = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"


def test_watching_prints_what_was_ordered_and_leaves_with_ctrl_c(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()
    Fence(home.state / "kill").write(order("greeter", Level.PAUSE, at=1.0))
    watch = [sys.executable, "-m", "aip.cli", "kill", "watch", "--after", "0", "-o", "ndjson"]
    command = [sys.executable, "-c", HEARS_CTRL_C, *watch]
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "AIP_HOME": str(home.root), "PYTHONPATH": paths}
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            assert running.stdout is not None
            assert json.loads(running.stdout.readline())["data"]["level"] == "pause"
            running.send_signal(signal.SIGINT)
            assert running.wait(20) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                running.kill()
