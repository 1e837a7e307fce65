"""One HTTP/1.1 request and its answer, in the two movements of a connector.

An exchange opens a connection to an address that was looked at, and closes it: an idle connection that the other side closes
just as we write would put effects in doubt for nothing. Whoever knows how long the other side keeps idle connections may have
them kept for less than that (`Kept`). Redirects are answers like any other; nobody follows them here.

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
from dataclasses import dataclass
from typing import Any

import h11

from .failure import EffectFailed, NotAllowed
from .place import Place

HEAD_BYTES_MAX = (
    64 * 2**10
)  # Of an answer; the largest that well-known servers and proxies send fit in a quarter.
INTERIM_MAX = 8  # Answers of the 1xx kind before the real one.
READ_BYTES = 64 * 2**10
KEPT_MAX = 256  # Idle connections of one connector: sockets that nobody uses.
CONNECT_S = 10.0  # For one address; a name with a dead one goes on to the next.

Hide = Callable[[Any], Any]


@dataclass(slots=True, eq=False)
class Wire:
    """A connection, and where HTTP stands on it."""

    place: tuple[str, str, str]  # Scheme, authority, address: whose certificate was looked at belongs to it.
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    http: h11.Connection
    timer: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        return not self.reader.at_eof() and not self.writer.transport.is_closing()

    @property
    def is_done(self) -> bool:
        """Whether both sides have said all of theirs and no more, and neither wants to end it."""
        said_all = self.http.our_state is self.http.their_state is h11.DONE
        return said_all and self.is_open and self.http.trailing_data == (b"", False)

    async def is_quiet(self) -> bool:
        """Whether nothing came that nobody asked for: it would be read as the answer to what is asked next."""
        try:
            async with asyncio.timeout(0):
                await self.reader.read(1)
        except TimeoutError:
            return self.is_open
        except OSError:
            return False
        return False

    def drop(self) -> None:
        self.writer.transport.abort()


class Kept:
    """Connections of one connector that wait to be used again, each for `keep_s` at most."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._wires: dict[tuple[str, str, str], list[Wire]] = {}
        self._count = 0

    async def take(self, place: Place, addresses: Sequence[str]) -> Wire | None:
        """The one that was used last, at one of these addresses: they were looked at just now."""
        for address in addresses:
            wires = self._wires.get((place.scheme, place.authority, address), [])
            while wires:
                wire = wires.pop()
                assert wire.timer is not None
                wire.timer.cancel()
                self._count -= 1
                if await wire.is_quiet():
                    wire.http.start_next_cycle()
                    return wire
                wire.drop()
        return None

    def give(self, wire: Wire) -> bool:
        """Whether it is kept."""
        if not self._keep_s or self._count >= KEPT_MAX or not wire.is_done:
            return False
        wire.timer = asyncio.get_running_loop().call_later(self._keep_s, self._let_go, wire)
        self._wires.setdefault(wire.place, []).append(wire)
        self._count += 1
        return True

    def _let_go(self, wire: Wire) -> None:
        wires = self._wires[wire.place]
        wires.remove(wire)
        if not wires:
            del self._wires[wire.place]
        self._count -= 1
        wire.drop()


class Exchange:
    """A request that is ready to go out."""

    def __init__(
        self, wire: Wire, kept: Kept, request: bytes, body_bytes_max: int, body_s: float, hide: Hide
    ) -> None:
        self._wire = wire
        self._kept = kept
        self._request = request
        self._body_bytes_max = body_bytes_max
        self._body_s = body_s
        self._hide = hide

    def commit(self) -> None:
        """The transport sends what the socket takes at once; the first byte is the irreversible one."""
        if not self._wire.is_open:
            raise EffectFailed("the server closed the connection before the request")
        self._wire.writer.write(self._request)

    async def result(self) -> dict[str, Any]:
        await self._wire.writer.drain()
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
        if self._kept.give(self._wire):
            return
        self._wire.drop()
        with contextlib.suppress(OSError):  # It was ours to end, and how it ends is nobody's outcome.
            await self._wire.writer.wait_closed()

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
        http = self._wire.http
        while (event := http.next_event()) is h11.NEED_DATA:
            http.receive_data(await self._wire.reader.read(READ_BYTES))
        return event


async def open_exchange(
    place: Place,
    addresses: Sequence[str],
    context: ssl.SSLContext | None,
    method: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    kept: Kept,
    body_bytes_max: int,
    body_s: float,
    hide: Hide,
) -> Exchange:
    """Connect and write the request down; nothing of it is sent. Raises `EffectFailed`."""
    wire = await kept.take(place, addresses) or await _connect(place, addresses, context)
    http, told = wire.http, [("Host", place.authority), *headers.items(), ("Content-Length", str(len(body)))]
    try:
        request = http.send(h11.Request(method=method, target=place.target, headers=told)) or b""
        request += http.send(h11.Data(data=body)) or b""
        request += http.send(h11.EndOfMessage()) or b""
    except h11.LocalProtocolError as error:
        wire.drop()
        raise NotAllowed(f"not a well-formed request: {error}") from None
    return Exchange(wire, kept, request, body_bytes_max, body_s, hide)


async def _connect(place: Place, addresses: Sequence[str], context: ssl.SSLContext | None) -> Wire:
    problem = "it has no address"
    for address in addresses:
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_connection(
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
        else:
            http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES_MAX)
            return Wire((place.scheme, place.authority, address), reader, writer, http)
    raise EffectFailed(f"{place.authority} cannot be reached: {problem}")
