"""Tool servers over HTTP: the official SDK's server behind uvicorn on loopback, and hand-written ones that misbehave."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context, Image
from served import served

from aip.errors import AIPError, DeadlineExceeded, InvalidPayload
from aip.protocols.mcp.errors import ToolFailed, ToolServerLost
from aip.protocols.mcp.limits import LINE_BYTES_MAX

SEEN: list[dict[str, str]] = []
PIXEL = b"\x89PNG\r\n\x1a\n0000"


def server() -> MCPServer:
    app = MCPServer("web", version="1")

    @app.tool()
    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    @app.tool(structured_output=False)
    def picture() -> list[Any]:
        return ["a pixel", Image(data=PIXEL, format="png")]

    @app.tool()
    async def slow(ctx: Context, seconds: float) -> str:
        await ctx.report_progress(1, 2, "half")
        await asyncio.sleep(seconds)
        return "done"

    @app.tool()
    async def grow(ctx: Context) -> str:
        app.add_tool(add, name="grown")
        await ctx.notify_tools_changed()
        return "grown"

    return app


def heard(app: Any) -> Any:
    """The app, with the headers of each request kept."""

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            SEEN.append({key.decode(): value.decode() for key, value in scope["headers"]})
        await app(scope, receive, send)

    return asgi


@asynccontextmanager
async def listening(app: Any) -> AsyncIterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        running = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        task = asyncio.create_task(running.serve([listener]))
        try:
            while not running.started:
                await asyncio.sleep(0.01)
            yield f"http://127.0.0.1:{port}/mcp"
        finally:
            running.should_exit = True
            await task


def raw(answer: Callable[[dict[str, Any]], tuple[dict[str, str], bytes]]) -> Callable[..., Awaitable[None]]:
    """A server of the handshake protocol whose answers to calls are made by hand."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while (part := await receive())["type"] == "http.request":
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        request = json.loads(body or b"{}")
        headers, data = respond(request)
        await send(
            {
                "type": "http.response.start",
                "status": 202 if "id" not in request else 200,
                "headers": [(key.encode(), value.encode()) for key, value in headers.items()],
            }
        )
        await send({"type": "http.response.body", "body": data})

    def respond(request: dict[str, Any]) -> tuple[dict[str, str], bytes]:
        result: dict[str, Any] = {}
        match request.get("method"):
            case "initialize":
                info = {"name": "raw", "version": "1"}
                result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}
            case "tools/list":
                result = {"tools": [{"name": "greet", "inputSchema": {"type": "object"}}]}
            case "tools/call":
                return answer(request)
        body = json.dumps({"jsonrpc": "2.0", "id": request.get("id"), "result": result}).encode()
        return {"content-type": "application/json"}, body

    return app


async def refused(call: Awaitable[Any]) -> AIPError:
    with pytest.raises(AIPError) as caught:
        await call
    return caught.value


@pytest.mark.parametrize("protocol", ["auto", "2025-11-25"])
async def test_a_server_at_a_url_is_called_like_one_of_ours(protocol: str) -> None:
    async with listening(server().streamable_http_app()) as url, served(url=url, protocol=protocol) as x:
        assert await x.call("add", a=2, b=3) == {"result": 5}
        with pytest.raises(InvalidPayload, match=r"\$\.a"):
            await x.call("add", a="two", b=3)


async def test_content_that_is_not_text_comes_in_parts() -> None:
    async with listening(server().streamable_http_app()) as url, served(url=url) as x:
        text, image = await x.call("picture")
        assert text == {"type": "text", "text": "a pixel"}
        assert image["mime"] == "image/png"


async def test_a_secret_header_reaches_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_TOKEN", "t-98765")
    SEEN.clear()
    headers = {"Authorization": "Bearer secret:WEB_TOKEN"}
    async with listening(heard(server().streamable_http_app())) as url, served(url=url, headers=headers) as x:
        await x.call("add", a=1, b=1)
    assert {request["authorization"] for request in SEEN} == {"Bearer t-98765"}


async def test_a_slow_tool_reports_progress_and_ends_at_its_time() -> None:
    told: list[tuple[float | None, str]] = []
    app = server().streamable_http_app()
    async with listening(app) as url, served(url=url, timeout_s=0.5) as x:
        listener = lambda fraction, text: told.append((fraction, text))  # noqa: E731
        assert await x.platform.watch("tools.x/any", "slow", listener, seconds=0.1) == {"result": "done"}
        assert isinstance(await refused(x.call("slow", seconds=30)), DeadlineExceeded)
        assert await x.call("add", a=1, b=1) == {"result": 2}
    assert told[-1] == (0.5, "half")


async def test_a_server_that_learns_a_tool_is_listed_again() -> None:
    async with listening(server().streamable_http_app()) as url, served(url=url) as x:
        assert "grown" not in (await x.describe())["capabilities"]
        assert await x.call("grow") == {"result": "grown"}
        while "grown" not in (await x.describe())["capabilities"]:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("protocol", ["auto", "2025-11-25"])
async def test_a_server_that_went_away_and_came_back_is_used_again(protocol: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}/mcp"
    async with served(url=url, protocol=protocol) as x:
        assert isinstance(await refused(x.call("add", a=1, b=1)), ToolServerLost)
        async with at(port):
            assert await x.call("add", a=1, b=1) == {"result": 2}
        assert isinstance(await refused(x.call("add", a=1, b=1)), ToolServerLost)
        async with at(port):
            ends = [await answer_or_loss(x.call("add", a=1, b=n)) for n in range(3)]
            assert ends[-1] == {"result": 3}


async def answer_or_loss(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except ToolServerLost as lost:
        return lost


@asynccontextmanager
async def at(port: int) -> AsyncIterator[None]:
    app = server().streamable_http_app()
    config = uvicorn.Config(app, port=port, log_level="error", timeout_graceful_shutdown=1)
    running = uvicorn.Server(config)
    task = asyncio.create_task(running.serve())
    try:
        while not running.started:
            await asyncio.sleep(0.01)
        yield
    finally:
        running.should_exit = True
        await task


async def test_an_answer_too_large_to_read_fails_its_call() -> None:
    body = b'{"jsonrpc":"2.0","id":1,"result":"' + b"x" * LINE_BYTES_MAX + b'"}'
    app = raw(lambda _: ({"content-type": "application/json"}, body))
    async with listening(app) as url, served(url=url, protocol="2025-11-25") as x:
        error = await refused(x.call("greet"))
        assert isinstance(error, ToolFailed | ToolServerLost)
        assert f"more than {LINE_BYTES_MAX} bytes" in error.message


async def test_a_compressed_answer_is_not_unpacked() -> None:
    packed = gzip.compress(b" " * 50_000_000)
    app = raw(lambda _: ({"content-type": "application/json", "content-encoding": "gzip"}, packed))
    async with listening(app) as url, served(url=url, protocol="2025-11-25") as x:
        error = await refused(x.call("greet"))
        assert isinstance(error, ToolServerLost)
        assert "compressed" in error.message


async def test_an_answer_that_is_no_json_fails_its_call() -> None:
    app = raw(lambda _: ({"content-type": "application/json"}, b"<html>"))
    async with listening(app) as url, served(url=url, protocol="2025-11-25") as x:
        assert isinstance(await refused(x.call("greet")), ToolFailed)
        assert isinstance(await refused(x.call("greet")), ToolFailed)
