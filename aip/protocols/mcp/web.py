"""A tool server at a URL (MCP, "streamable HTTP" transport), with bounds on what it may send.

The SDK speaks the protocol and bounds the events of a stream. Here an answer in one piece is bounded as well, compressed answers
are refused (a few kilobytes may unpack to gigabytes), and the server's own requests are counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING

import anyio
import httpx2
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage

from .limits import LINE_BYTES_MAX
from .wire import Incoming, OpenRequests, Stream

if TYPE_CHECKING:
    from mcp.client._transport import ReadStream, WriteStream

CONNECT_S = 10.0
READ_S = 300.0  # Between two bytes of a stream; the SDK's own figure for streams that are kept open.


class Web:
    """The transport that the SDK speaks through."""

    def __init__(self, url: str, headers: Mapping[str, str], timeout_s: float) -> None:
        self._url = url
        self._client = httpx2.AsyncClient(
            headers={**headers, "Accept-Encoding": "identity"},
            timeout=httpx2.Timeout(CONNECT_S, read=max(READ_S, timeout_s + CONNECT_S)),
            event_hooks={"response": [_bound]},
        )
        self._stack = AsyncExitStack()
        self.requests = OpenRequests()
        self.ended = asyncio.Event()
        self.fault = ""

    @property
    def said(self) -> str:
        return ""  # What a server writes for people stays where it runs.

    def lose(self, fault: str) -> None:
        self.fault = self.fault or fault
        self.ended.set()

    async def __aenter__(self) -> tuple[FromWeb, ToWeb]:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(self._client)
            transport = streamable_http_client(
                self._url, http_client=client, max_sse_event_size=LINE_BYTES_MAX
            )
            read, write = await stack.enter_async_context(transport)
            self._stack = stack.pop_all()
        return FromWeb(self, read), ToWeb(self, write)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        await self._stack.__aexit__(kind, error, trace)


class FromWeb(Stream):
    def __init__(self, web: Web, inner: ReadStream[Incoming]) -> None:
        self._web = web
        self._inner = inner

    def __aiter__(self) -> FromWeb:
        return self

    async def __anext__(self) -> Incoming:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def receive(self) -> Incoming:
        item = await self._inner.receive()
        if isinstance(item, SessionMessage) and not self._web.requests.heard(item.message):
            self._web.lose("it sent requests faster than it read the answers")
            raise anyio.EndOfStream
        return item

    async def aclose(self) -> None:
        await self._inner.aclose()


class ToWeb(Stream):
    def __init__(self, web: Web, inner: WriteStream[SessionMessage]) -> None:
        self._web = web
        self._inner = inner

    async def send(self, item: SessionMessage, /) -> None:
        self._web.requests.answered(item.message)
        await self._inner.send(item)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._inner:
            size += len(chunk)
            if size > LINE_BYTES_MAX:
                raise httpx2.StreamError(f"the answer has more than {LINE_BYTES_MAX} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _bound(response: httpx2.Response) -> None:
    """Before a body is read: a stream of events goes on for as long as it likes, anything else ends somewhere."""
    if response.headers.get("content-encoding", "identity") != "identity":
        await response.aclose()
        raise httpx2.DecodingError(
            "the answer is compressed, which was not asked for", request=response.request
        )
    events = response.headers.get("content-type", "").lower().startswith("text/event-stream")
    if not events and isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _Bounded(response.stream)
