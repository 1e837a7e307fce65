"""A cell's way to the effect gateway: each request under a stamp that proves which cell asks, and for whom."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from aip.errors import DeadlineExceeded, PlatformUnavailable

# Errors of the gateway arrive as their own class where that class is known.
from aip.governance.effects import failure as _failure  # noqa: F401
from aip.governance.effects import quota as _quota  # noqa: F401
from aip.governance.effects.quota import Places
from aip.governance.effects.stamp import Stamp, sealed, stamp_of
from aip.governance.kill import KillCheck
from aip.runtime import codec
from aip.runtime.envelope import Envelope
from aip.settings import Home

from .effect_key import own_key
from .peers import Peers

GATEWAY = "effects"
ROOT = "orchestrator"
AT_ONCE = (
    200  # Effects of one connector that a cell has at the gateway; four cells stay below what that lets wait.
)

_encode = msgspec.msgpack.Encoder().encode


class StampedEffects:
    """`Effects` of one generation of one cell.

    Its key is issued when the cell opens, and again when an order that revoked it was lowered: not before, for a stamp under the
    old one is refused for ever.
    """

    def __init__(
        self,
        peers: Peers,
        home: Home,
        cell: str,
        generation: int,
        revision: Callable[[], int],
        check: KillCheck,
    ) -> None:
        self._peers = peers
        self._home = home
        self._check = check
        self._cell = cell
        self._generation = generation
        self._revision = revision
        self._issue()
        self._wanted = False
        self._places = Places(AT_ONCE)

    def _issue(self) -> None:
        self._issued = self._check.orders.epoch
        self._key = own_key(self._home, self._cell, self._generation, self._issued)

    async def perform(
        self,
        cause: Envelope,
        agent: str,
        incarnation: int,
        connector: str,
        request: Any,
        key: str,
        until: float,
    ) -> Any:
        if not self._wanted:
            await self._peers.insist(ROOT, "want_effects")
            self._wanted = True
        body = codec.encode(request)
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(until - time.time()):
                    await stack.enter_async_context(self._places.one(connector))
            except TimeoutError:
                raise DeadlineExceeded(
                    f"not done: its time ended before {connector} had a place for it"
                ) from None
            # Made when it is sent: a stamp that waited would be stale.
            stamp = stamp_of(
                cause,
                cell=self._cell,
                generation=self._generation,
                agent=agent,
                incarnation=incarnation,
                epoch=self._revision(),
                at=time.time(),
                nonce=uuid.uuid4().hex,
                connector=connector,
                key=key,
                deadline=until,
            )
            stamp = self._issued_for(stamp)
            frame = _encode((sealed(stamp, self._key, body), body))
            left_s = max(1.0, until - stamp.at)
            try:
                return codec.decode(await self._peers.once(GATEWAY, "effect", frame, timeout_s=left_s))
            except PlatformUnavailable:
                self._wanted = False
                raise

    def _issued_for(self, stamp: Stamp) -> Stamp:
        """The stamp under the key at hand, or under the next one where that was revoked and the order lowered since."""
        told = stamp.told()
        void = self._check.credential(told, self._issued) is not None
        if void and self._check.peek(told, stamp.at) is None:
            self._issue()
        return msgspec.structs.replace(stamp, issued=self._issued)
