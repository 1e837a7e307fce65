"""A node's fence that follows the kill switch's: asks for its lease, merges what comes with it, and asks again.

The switch answers when there is news, or after `lease.WAIT_S`; so an order that is raised there stands here a moment later, and
one that is raised here is told within that time. What is granted and when it ends is `aip.governance.kill.lease`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from aip.errors import AIPError
from aip.governance.kill.lease import ASK_TIMEOUT_S, Grant, Holder, Renewal, boot_ns
from aip.runtime.ports import CellLost, NotSent

AGAIN_S = 0.1  # After a request that failed: a lease has room for some of them.

_encode = msgspec.msgpack.Encoder().encode
_grants = msgspec.msgpack.Decoder(Grant)
_renewals = msgspec.msgpack.Decoder(Renewal)


def decode_renewal(payload: bytes) -> Renewal:
    return _renewals.decode(payload)


class Following:
    def __init__(
        self,
        node: str,
        holder: Holder,
        ask: Callable[[bytes], Awaitable[bytes]],
        note: Callable[[str, str, Mapping[str, Any]], None],
    ) -> None:
        self._node = node
        self._holder = holder
        self._ask = ask
        self._note = note
        self._well = True

    async def run(self) -> None:
        while True:
            # The clock before the question: a term counts from when it was asked for.
            asked_ns = boot_ns()
            try:
                await self._renew(asked_ns)
            except (TimeoutError, AIPError, NotSent, CellLost, OSError) as error:
                self._say(False, f"{type(error).__name__}: {error}"[:500])
                await asyncio.sleep(AGAIN_S)
            else:
                self._say(True, "")

    async def _renew(self, asked_ns: int) -> None:
        renewal = await asyncio.to_thread(self._holder.renewal)
        async with asyncio.timeout(ASK_TIMEOUT_S):
            grant = _grants.decode(await self._ask(_encode(renewal)))
        await asyncio.to_thread(self._holder.take, grant, renewal, asked_ns)

    def _say(self, well: bool, why: str) -> None:
        """Each loss and each return once: what fails ten times a second would flood the log."""
        if well != self._well:
            self._well = well
            self._note("lease.renewed" if well else "lease.not_renewed", self._node, {"error": why})
