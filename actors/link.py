"""The fast path between processes of one node: requests and answers over a Unix socket.

A Ray call costs about a millisecond; the same frame over a Unix socket costs some tens of microseconds. Every actor of ours
therefore opens an `Endpoint` beside its Ray methods, and `peers.Peers` takes it where both ends are on one node. The folder of
the sockets belongs to its user alone (0700): nobody else can open one.

A packet is `length u32 | request u64 | verb u8 | method length u8 | method | payload`, little endian; verb 0 asks, 1 answers, 2
fails with an `ErrorRecord`. Requests of one line are answered in any order. A line that breaks fails its open requests with
`CellLost` (they may have been handled); one that cannot be opened raises `NotSent` (nothing was).

Who speaks is proven once, when the line opens (`aip/runtime/speaker.py`): the endpoint sends a challenge (verb 3), empty where
it does not care; the line answers with its proof (verb 4) and goes on without waiting for the verdict. A handler finds the
speaker in `SPEAKER`. An endpoint with a door fails every request of a line that has proven nothing, or whose speaker was
replaced.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import cast

import msgspec

from aip.errors import AIPError, ErrorRecord, NotFound, from_record, to_record
from aip.runtime.ports import CellLost, NotSent
from aip.runtime.speaker import CHALLENGE_BYTES, SPEAKER, Door, Speaker, Unproven, Voice

from .effect_key import visitor

Handler = Callable[[bytes], Awaitable[bytes]]
Refusals = Callable[[Unproven], None]

_HEAD = struct.Struct("<IQBB")
ASK, ANSWER, FAIL, CHALLENGE, PROOF = range(5)
PACKET_BYTES_MAX = 64 * 2**20  # A frame is at most 16 MiB; more than this is not one of ours.

_records = msgspec.msgpack.Encoder()
_record = msgspec.msgpack.Decoder(ErrorRecord)


class _Wire(asyncio.Protocol):
    """Cuts the byte stream into packets."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start, size = 0, len(buffer)
        while size - start >= _HEAD.size:
            length, request, verb, name_size = _HEAD.unpack_from(buffer, start)
            if length > PACKET_BYTES_MAX:
                self._refuse()
                return
            end = start + _HEAD.size + length
            if size < end:
                break
            body = start + _HEAD.size
            method = buffer[body : body + name_size].decode("ascii", "replace")
            self.packet(request, verb, method, bytes(buffer[body + name_size : end]))
            start = end
        if start:
            del buffer[:start]

    def _refuse(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def write(self, request: int, verb: int, method: bytes, payload: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            head = _HEAD.pack(len(method) + len(payload), request, verb, len(method))
            self.transport.write(b"".join((head, method, payload)))

    def packet(self, request: int, verb: int, method: str, payload: bytes) -> None:
        raise AssertionError("every wire has an end that handles its packets")


class _Served(_Wire):
    """The answering end of one line."""

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        tasks: set[asyncio.Task[None]],
        door: Door | None,
        on_refusal: Refusals,
    ) -> None:
        super().__init__()
        self._handlers = handlers
        self._tasks = tasks
        self._door = door
        self._on_refusal = on_refusal
        self._challenge = b"" if door is None else os.urandom(CHALLENGE_BYTES)
        self._speaker: Speaker | None = None
        self._refusal = Unproven("a request without a proof of who speaks", reason="unproven")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.write(0, CHALLENGE, b"", self._challenge)

    def packet(self, request: int, verb: int, method: str, payload: bytes) -> None:
        if verb == ASK:
            door = self._door
            if door is not None and not (self._speaker is not None and door.hears(self._speaker)):
                self._fail(request)
                return
            SPEAKER.set(self._speaker)  # The task below takes it along.
            task = asyncio.ensure_future(self._handle(request, method, payload))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif verb == PROOF and self._door is not None and self._challenge:
            challenge, self._challenge = self._challenge, b""  # It is good for one answer.
            try:
                self._speaker = self._door.enter(challenge, payload)
            except Unproven as refusal:
                self._refusal = refusal

    def _fail(self, request: int) -> None:
        if self._speaker is not None:
            self._refusal = Unproven(f"{self._speaker} was replaced", reason="stale")
            self._speaker = None
        self._on_refusal(self._refusal)
        self.write(request, FAIL, b"", _records.encode(to_record(self._refusal)))

    async def _handle(self, request: int, method: str, payload: bytes) -> None:
        handler = self._handlers.get(method)
        try:
            if handler is None:
                raise NotFound(f"no method {method!r} here")
            answer = await handler(payload)
        except Exception as error:  # noqa: BLE001 - every failure of a handler is its caller's answer
            self.write(request, FAIL, b"", _records.encode(to_record(error)))
        else:
            self.write(request, ANSWER, b"", answer)


class Endpoint:
    """A server for named methods on a Unix socket. Opening it again at the same path takes the path over.

    With a `door`, whoever asks has to prove who it is; `on_refusal` is told of each request that was refused for want of that.
    """

    def __init__(
        self, handlers: Mapping[str, Handler], door: Door | None = None, on_refusal: Refusals = lambda _: None
    ) -> None:
        self._handlers = handlers
        self._door = door
        self._on_refusal = on_refusal
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.AbstractServer | None = None
        self.path: Path | None = None

    async def open(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._served, str(fresh))
        os.replace(fresh, path)  # Whoever connects finds the old listener or the new one, never neither.
        self.path = path

    def _served(self) -> _Served:
        return _Served(self._handlers, self._tasks, self._door, self._on_refusal)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self.path is not None:
            self.path.unlink(missing_ok=True)


class Line(_Wire):
    """The asking end: `await line.call(method, payload)`, many at once. Without a voice of its own it speaks as a client."""

    def __init__(self, path: Path, voice: Voice | None) -> None:
        super().__init__()
        self.path = str(path)
        self._hearer = path.stem
        self._voice = voice
        self._open: dict[int, asyncio.Future[bytes]] = {}
        self._count = 0
        self.closed = False
        self._greeted: asyncio.Future[None] | None = asyncio.get_running_loop().create_future()

    @classmethod
    async def connect(cls, path: Path, voice: Voice | None = None) -> Line:
        voice = voice or visitor(path.parent)
        try:
            _, line = await asyncio.get_running_loop().create_unix_connection(
                lambda: cls(path, voice), str(path)
            )
        except OSError as error:
            raise NotSent(f"{path.name}: {error.strerror or error}") from None
        return line

    async def call(self, method: str, payload: bytes) -> bytes:
        if self._greeted is not None:
            await asyncio.shield(self._greeted)  # Of many who wait, one may be cancelled.
        if self.closed:
            raise NotSent(self.path)
        self._count += 1
        request = self._count
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._open[request] = future
        self.write(request, ASK, method.encode("ascii"), payload)
        try:
            return await future
        finally:
            self._open.pop(request, None)

    def packet(self, request: int, verb: int, method: str, payload: bytes) -> None:
        if verb == CHALLENGE:
            if payload and self._voice is not None:
                self.write(0, PROOF, b"", self._voice.prove(self._hearer, payload))
            self._greet()
            return
        future = self._open.get(request)
        if future is None or future.done():
            return
        if verb == ANSWER:
            future.set_result(payload)
        else:
            future.set_exception(_error(payload))

    def _greet(self) -> None:
        """From now on calls leave at once; those that waited for this leave now, or learn that there is no line."""
        greeted, self._greeted = self._greeted, None
        if greeted is not None and not greeted.done():
            greeted.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._greet()
        for future in self._open.values():
            if not future.done():
                future.set_exception(CellLost(self.path))

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()


def _error(payload: bytes) -> AIPError:
    return from_record(_record.decode(payload))
