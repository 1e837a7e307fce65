"""The kill switch: raises and lifts orders, and sees that each is in the audit log, whoever wrote it.

The order itself is the fence's (`aip.governance.kill`): on disk and in shared memory before anybody is asked. `aip kill` writes
it directly, so killing needs no actor alive; this one makes the record, and catches up on orders that were written while it was
down.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from aip.governance.kill import KillOrder, check_target
from aip.runtime.disk import DiskStorage
from aip.runtime.journal import Journal

from .process import Process, rpc

LOOK_EVERY_S = 1.0
_AUDITED = 1


class KillSwitch(Process):
    role = "kill"

    async def opened(self) -> None:
        self._journal = Journal(
            DiskStorage(self.site.home.state / self.name, holder=f"{self.name}#{self.generation}")
        )
        self._audited = sum(1 for _ in self._journal.replay())
        self._auditing = asyncio.Lock()
        self.methods.update(kill=rpc(self._kill), orders=rpc(self._orders))
        self.task(self._follow())

    async def _kill(self, target: str, by: str, reason: str, lift: bool = False) -> dict[str, Any]:
        order = KillOrder(check_target(target), time.time(), by, reason, lift)
        await asyncio.to_thread(self.fence.write, order)
        await self._audit()
        answer: dict[str, Any] = msgspec.to_builtins(order)
        return answer

    async def _orders(self) -> list[dict[str, Any]]:
        return [msgspec.to_builtins(order) for order in self.fence.orders().standing.values()]

    async def _follow(self) -> None:
        seen = -1
        while True:
            if self.fence.revision() != seen:
                seen = self.fence.revision()
                await self._audit()
            await asyncio.sleep(LOOK_EVERY_S)

    async def _audit(self) -> None:
        """Every order of the fence's history that is not in the audit log yet goes there, in order, durably."""
        async with self._auditing:
            for order in list(self.fence.history())[self._audited :]:
                kind = "kill.lifted" if order.lifted else "kill"
                detail = {"by": order.by, "reason": order.reason, "ordered_at": order.at}
                await self.feed.record(kind, order.target, detail)
                self._journal.append(_AUDITED, order.target.encode())
                self._audited += 1

    async def closing(self) -> None:
        self._journal.close()
