"""A cell's way to the effect gateway: each request under a stamp that proves which cell asks, and for whom."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from aip.errors import PlatformUnavailable

# Errors of the gateway arrive as their own class where that class is known.
from aip.governance.effects import failure as _failure  # noqa: F401
from aip.governance.effects import quota as _quota  # noqa: F401
from aip.governance.effects.stamp import Stamp, cell_key, sealed
from aip.runtime import codec
from aip.runtime.envelope import Envelope
from aip.settings import Home

from .effect_key import platform_key
from .peers import Peers

GATEWAY = "effects"
ROOT = "orchestrator"

_encode = msgspec.msgpack.Encoder().encode


class StampedEffects:
    """`Effects` of one generation of one cell."""

    def __init__(
        self, peers: Peers, home: Home, cell: str, generation: int, revision: Callable[[], int]
    ) -> None:
        self._peers = peers
        self._cell = cell
        self._generation = generation
        self._revision = revision
        self._key = cell_key(platform_key(home), cell, generation)
        self._wanted = False

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
        stamp = Stamp(
            cell=self._cell,
            generation=self._generation,
            agent=agent,
            incarnation=incarnation,
            envelope=cause.id,
            epoch=self._revision(),
            at=time.time(),
            nonce=uuid.uuid4().hex,
            connector=connector,
            key=key,
            deadline=until,
            sender=cause.sender,
            chain=cause.chain,
            run=cause.run,
            tenant=cause.tenant,
            capability=cause.capability,
            labels=cause.labels,
        )
        frame = _encode((sealed(stamp, self._key, body), body))
        left_s = max(1.0, until - stamp.at)
        try:
            return codec.decode(await self._peers.once(GATEWAY, "effect", frame, timeout_s=left_s))
        except PlatformUnavailable:
            self._wanted = False
            raise
