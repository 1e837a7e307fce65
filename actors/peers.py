"""How processes of ours reach each other: by name, over the node's socket where there is one, through Ray elsewhere.

Every actor of ours has a name (`checkpoint-0`, `cell-3f2a-1`, `run-r-…`), is the Ray actor of that name in namespace `aip`, and
answers the same named methods on both ways. A name outlives its process: the next incarnation of an actor opens the same socket.

Either way the other one knows who asks (`aip/runtime/speaker.py`): a line proves it when it opens, a call through Ray carries
a seal.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

from aip.errors import AIPError, PlatformUnavailable
from aip.runtime.ports import CellLost, NotSent
from aip.runtime.speaker import Voice

from .effect_key import visitor
from .link import Line

NAMESPACE = "aip"
RETRY_FIRST_S = 0.01
RETRY_MAX_S = 0.5
NONCE_BYTES = 16


class Peers:
    """Lines to other processes. `call` is one attempt; `insist` goes on until a deadline while the peer is being restarted.

    Without a `voice` it speaks as a client.
    """

    def __init__(
        self,
        sockets: Path,
        is_local: Callable[[str], bool] = lambda name: True,
        voice: Voice | None = None,
    ) -> None:
        self._sockets = sockets
        self._is_local = is_local
        self._voice = voice
        self._lines: dict[str, Line] = {}
        self._opening: dict[str, asyncio.Future[Line]] = {}

    async def call(self, name: str, method: str, payload: bytes = b"") -> bytes:
        """Raises `NotSent`, `CellLost`, or the peer's own typed error."""
        if not self._is_local(name):
            return await self._through_ray(name, method, payload)
        line = self._lines.get(name)
        if line is None or line.closed:
            line = await self._open(name)
        return await line.call(method, payload)

    async def insist(self, name: str, method: str, payload: bytes = b"", timeout_s: float = 30.0) -> bytes:
        """For idempotent requests to an actor that its supervisor brings back: tries again until the time is up."""
        return await self._try(name, method, payload, timeout_s, (NotSent, CellLost))

    async def once(self, name: str, method: str, payload: bytes = b"", timeout_s: float = 30.0) -> bytes:
        """For requests that must not arrive twice: tries again only while nothing was sent."""
        try:
            return await self._try(name, method, payload, timeout_s, (NotSent,))
        except CellLost as error:
            raise PlatformUnavailable(f"{name} ended while it had the request", peer=name) from error

    async def _try(
        self, name: str, method: str, payload: bytes, timeout_s: float, again: tuple[type[Exception], ...]
    ) -> bytes:
        deadline, pause_s = time.monotonic() + timeout_s, RETRY_FIRST_S
        while True:
            try:
                return await self.call(name, method, payload)
            except again as error:
                if time.monotonic() + pause_s > deadline:
                    raise PlatformUnavailable(
                        f"{name} did not answer for {timeout_s:g} s", peer=name
                    ) from error
            await asyncio.sleep(pause_s)
            pause_s = min(RETRY_MAX_S, pause_s * 2)

    async def _open(self, name: str) -> Line:
        opening = self._opening.get(name)
        if opening is None:
            opening = self._opening[name] = asyncio.ensure_future(
                Line.connect(self.socket(name), self._voice)
            )
            opening.add_done_callback(lambda _: self._opening.pop(name, None))
        line = await asyncio.shield(opening)
        self._lines[name] = line
        return line

    def socket(self, name: str) -> Path:
        return self._sockets / f"{name}.s"

    async def _through_ray(self, name: str, method: str, payload: bytes) -> bytes:
        import ray  # Not at the top: a client speaks over sockets only and starts ten times faster without.

        try:
            handle = await asyncio.to_thread(ray.get_actor, name, NAMESPACE)
        except ValueError as error:
            raise NotSent(name) from error
        voice = self._voice or visitor(self._sockets)
        seal = (
            b"" if voice is None else voice.seal(name, method, payload, time.time(), os.urandom(NONCE_BYTES))
        )
        try:
            answer: bytes = await handle.serve.remote(method, payload, seal)
        except ray.exceptions.RayActorError as error:
            raise CellLost(name) from error
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, AIPError):
                raise cause from None
            raise
        return answer

    def forget(self, name: str) -> None:
        line = self._lines.pop(name, None)
        if line is not None:
            line.close()

    def close(self) -> None:
        for name in list(self._lines):
            self.forget(name)


class PeerTransport:
    """`Transport` of a cell over `Peers`."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def deliver(self, cell: str, frame: bytes) -> bytes:
        return await self._peers.call(cell, "deliver", frame)
