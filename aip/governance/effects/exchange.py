"""One HTTP/1.1 request and its answer on a connection of its own, in the two movements of a connector.

Every exchange opens a connection to an address that was looked at, and closes it: an idle connection that the other side closes
just as we write would put effects in doubt for nothing. Redirects are answers like any other; nobody follows them here.

    before the first byte is written         nothing happened
    the head of an answer is complete        the outcome is known, whatever becomes of the body
    in between                               in doubt

A body that is too long or too slow is let go: the result says `complete: false` and has none of it. Compressed bodies are not
unpacked (a few kilobytes may become gigabytes). h11 reads what comes: its limits are ours.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import h11

from .failure import EffectFailed, NotAllowed
from .place import Place

HEAD_BYTES_MAX = (
    64 * 2**10
)  # Of an answer; the largest that well-known servers and proxies send fit in a quarter.
INTERIM_MAX = 8  # Answers of the 1xx kind before the real one.
READ_BYTES = 64 * 2**10
CONNECT_S = 10.0  # For one address; a name with a dead one goes on to the next.

Hide = Callable[[Any], Any]


class Exchange:
    """A request that is ready to go out."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        connection: h11.Connection,
        request: bytes,
        body_bytes_max: int,
        body_s: float,
        hide: Hide,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._connection = connection
        self._request = request
        self._body_bytes_max = body_bytes_max
        self._body_s = body_s
        self._hide = hide

    def commit(self) -> None:
        """The transport sends what the socket takes at once; the first byte is the irreversible one."""
        if self._reader.at_eof() or self._writer.transport.is_closing():
            raise EffectFailed("the server closed the connection before the request")
        self._writer.write(self._request)

    async def result(self) -> dict[str, Any]:
        await self._writer.drain()
        head = await self._head()
        headers: dict[str, str] = {}
        for raw, value in head.headers:
            name, text = raw.decode("latin-1").lower(), value.decode("latin-1")
            headers[name] = f"{headers[name]}, {text}" if name in headers else text
        answer = {"status": head.status_code, "headers": headers, "body": "", "encoding": "text"}
        try:
            async with asyncio.timeout(self._body_s):
                body = self._hide(await self._body())
        except (TimeoutError, OSError, EffectFailed, h11.RemoteProtocolError) as error:
            return {**answer, "complete": False, "problem": str(error) or f"not read in {self._body_s:g} s"}
        try:
            return {**answer, "body": body.decode(), "complete": True}
        except UnicodeDecodeError:
            return {**answer, "body": base64.b64encode(body).decode(), "encoding": "base64", "complete": True}

    async def discard(self) -> None:
        self._writer.transport.abort()
        with contextlib.suppress(OSError):  # It was ours to end, and how it ends is nobody's outcome.
            await self._writer.wait_closed()

    async def _head(self) -> h11.Response:
        for _ in range(INTERIM_MAX + 1):
            event = await self._event()
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise ConnectionError("the server closed the connection without an answer")
        raise ConnectionError(f"more than {INTERIM_MAX} interim answers")

    async def _body(self) -> bytes:
        body = bytearray()
        while True:
            event = await self._event()
            if not isinstance(event, h11.Data):
                return bytes(body)
            body += event.data
            if len(body) > self._body_bytes_max:
                raise EffectFailed(f"its body has more than {self._body_bytes_max} bytes")

    async def _event(self) -> Any:
        while (event := self._connection.next_event()) is h11.NEED_DATA:
            self._connection.receive_data(await self._reader.read(READ_BYTES))
        return event


async def open_exchange(
    place: Place,
    addresses: Sequence[str],
    context: ssl.SSLContext | None,
    method: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    body_bytes_max: int,
    body_s: float,
    hide: Hide,
) -> Exchange:
    """Connect and write the request down; nothing of it is sent. Raises `EffectFailed`."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES_MAX)
    try:
        told = [("Host", place.authority), *headers.items(), ("Content-Length", str(len(body)))]
        request = connection.send(h11.Request(method=method, target=place.target, headers=told)) or b""
        request += connection.send(h11.Data(data=body)) or b""
        request += connection.send(h11.EndOfMessage()) or b""
    except h11.LocalProtocolError as error:
        raise NotAllowed(f"not a well-formed request: {error}") from None
    reader, writer = await _connect(place, addresses, context)
    return Exchange(reader, writer, connection, request, body_bytes_max, body_s, hide)


async def _connect(
    place: Place, addresses: Sequence[str], context: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    problem = "it has no address"
    for address in addresses:
        try:
            async with asyncio.timeout(CONNECT_S):
                return await asyncio.open_connection(
                    address,
                    place.port,
                    ssl=context if place.scheme == "https" else None,
                    server_hostname=place.host if place.scheme == "https" else None,
                )
        except TimeoutError:
            problem = f"no connection in {CONNECT_S:g} s"
        except ssl.SSLError as error:  # Before OSError, which it is: a wrong certificate is no dead address.
            raise EffectFailed(f"{place.authority}: TLS failed: {error.reason or error}") from None
        except OSError as error:
            problem = error.strerror or str(error)
    raise EffectFailed(f"{place.authority} cannot be reached: {problem}")
