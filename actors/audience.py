"""A client on the road: a process that is no actor of ours and calls agents as a principal, without Ray.

It has a cell without agents, an endpoint where replies arrive, the fence, and an audit feed: its messages pass kill and principal
checks and are accounted for like everybody's.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from aip.errors import AIPError
from aip.governance.audit import Batch
from aip.governance.feed import AuditFeed
from aip.governance.kill import Fence, KillCheck
from aip.runtime import cell as road
from aip.runtime import codec
from aip.runtime.checkpoint import MemoryCheckpoints
from aip.runtime.guard import Guard
from aip.runtime.placement import Placement

from .link import Endpoint
from .membership import adopt, decode
from .peers import Peers, PeerTransport
from .principal import PrincipalCheck

ROOT = "orchestrator"
RENEW_EVERY_S = 5.0

_encode = msgspec.msgpack.Encoder().encode


class Audience:
    def __init__(self, sockets: Path, name: str, fence: Fence) -> None:
        self.name = name
        self.address = f"client/{name}"
        self._peers = Peers(sockets)
        self._fence = fence
        self._sequence = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def join(self) -> None:
        payload = await self._join()
        self._placement = Placement(decode(payload))
        self._feed = AuditFeed(self.name, self._account, time.time)
        self._cell = road.Cell(
            self.name,
            1,
            types={},
            locator=self._placement,
            transport=PeerTransport(self._peers),
            checkpoints=MemoryCheckpoints(),
            audit=self._feed,
            guard=Guard(KillCheck(self._fence.revision, self._fence.orders), [PrincipalCheck()]),
            clock=time.time,
            rng=random.Random(os.urandom(16)),
            homeless=self._wake,
        )
        self._cell.start()
        self._endpoint = Endpoint({"deliver": self._cell.deliver, "membership": self._membership})
        await self._endpoint.open(self._peers.socket(self.name))
        self._tasks = [asyncio.ensure_future(self._feed.run()), asyncio.ensure_future(self._renew())]

    async def call(self, target: str, capability: str, arguments: Mapping[str, Any], timeout_s: float) -> Any:
        self._sequence += 1
        envelope = self._cell.request(
            self.address, self._sequence, target, capability, arguments, timeout_s=timeout_s
        )
        return codec.decode(await self._cell.ask(envelope) or b"\xc0")

    async def _join(self) -> bytes:
        payload: bytes = msgspec.msgpack.decode(
            await self._peers.insist(ROOT, "join", _encode({"name": self.name}))
        )
        return payload

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            adopt(self._placement, self._cell, await self._join())

    async def _membership(self, payload: bytes) -> bytes:
        adopt(self._placement, self._cell, payload)
        return b""

    def _wake(self, address: str) -> None:
        self._tasks.append(asyncio.ensure_future(self._wake_now(address)))

    async def _wake_now(self, address: str) -> None:
        await self._peers.insist(ROOT, "wake", _encode({"address": address}))

    async def _account(self, batch: Batch) -> None:
        await self._peers.insist("audit", "append", _encode(batch), timeout_s=5.0)

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        try:
            await self._feed.flush()
        except AIPError:
            self._feed.dropped += (
                1  # The platform is gone; the log will show the gap when this client returns.
            )
        await self._endpoint.close()
        await self._cell.stop()
        self._peers.close()
