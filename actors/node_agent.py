"""The node agent, one per node: watches the health pages of its node and ends what cannot be helped.

A cell's own watchdog names an agent that blocks the loop, and ends the cell after `loop_fatal_s`. It is a thread of that cell:
code that holds the interpreter lock stops it too. This process stands outside: it kills a cell whose page has been silent that
long, and its supervisor starts the next generation.

It also sees that a kill order is obeyed. A turn that an order stopped and that goes on all the same - it catches its
cancellation, sits in a thread, holds the loop - is ended with its cell, `END_GRACE_S` after it was first seen. Its neighbours
come back from their checkpoints.

    a cell, under an order that ends turns     what it says, or shows             what follows
    answers                                    no covered turn, no thread         nothing more is asked until the next order
    answers                                    some                               SIGKILL after the grace
    does not answer                            its page names a covered agent     SIGKILL after the grace
    does not answer                            all of it is covered               SIGKILL after the grace
    silent, and did not answer since the order its pool can host the target       SIGKILL after the grace: frozen, it cannot say
    does not answer                            none of these                      `loop_fatal_s`, as ever

SIGKILL ends a stopped process, too. One that outlives it (an uninterruptible wait, or a Ray that lost it) is named in the audit
log, and to the root, which has `ray.kill` as its last means; so is a node agent that is silent itself (`last_resort.py`).

On a node that is not the kill switch's it renews the lease without which no effect begins there (`following.py`).

It also keeps a witness of the audit log (`witnessing.py`): a process that is not the log's own, and outlives it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from typing import Any

import msgspec

from aip.errors import AIPError
from aip.governance.kill import PLATFORM, Fate
from aip.governance.kill.lease import Holder
from aip.ids import base_type, pool_of, type_of
from aip.runtime.ports import CellLost, NotSent
from aip.settings import DEFAULT_LIMITS

from .following import Following
from .health import Health, read_all
from .membership import decode
from .process import NODE, Process, rpc
from .witnessing import serve_witness

KILL_SWITCH, ROOT = "kill", "orchestrator"
LOOK_EVERY_S = 1.0
END_GRACE_S = 5.0  # Long enough for a turn to clean up after its cancellation.
SIGKILL_GRACE_S = 5.0  # The kernel needs milliseconds, but for a process in an uninterruptible wait.
ASK_TIMEOUT_S = 1.0
AGENTS_NAMED_MAX = 20  # In the audit entry.
GRACE_S = 5.0  # The watchdog inside the process goes first: it knows more to say.


class NodeAgent(Process):
    role = "node"

    async def opened(self) -> None:
        self.methods["health"] = rpc(self._health)
        serve_witness(self.methods, self.site.home, self.name)
        self._overrun_since: dict[tuple[str, int], float] = {}  # cell and generation -> first seen
        self._obeys: set[tuple[str, int]] = (
            set()
        )  # Cells that had nothing covered under the orders as they stand.
        self.task(self._look())
        self.task(self._enforce())
        if self.name == NODE:
            self.fence.lease.needless()  # The control room's node: its fence is the authority.
        else:
            holder = Holder(self.name, self.fence, self.fence.lease)
            self.task(Following(self.name, holder, self._ask_switch, self.feed.note).run())

    async def _ask_switch(self, renewal: bytes) -> bytes:
        return await self.peers.call(KILL_SWITCH, "lease", renewal)

    async def _health(self) -> list[dict[str, Any]]:
        return [msgspec.to_builtins(page) for page in read_all(self.site.health)]

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            for page in read_all(self.site.health):
                if not alive(page.pid):
                    continue
                if page.name.startswith("cell-") and page.beat_age_s > DEFAULT_LIMITS.loop_fatal_s + GRACE_S:
                    self._end(page)

    # Kill orders ----------------------------------------------------------------------------------------------------

    async def _enforce(self) -> None:
        revision = -1
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if self.fence.revision() != revision:
                revision = self.fence.revision()
                self._obeys.clear()
            if not self.kill_check.standing:
                self._overrun_since.clear()
                continue
            cells = [page for page in read_all(self.site.health) if page.name.startswith("cell-")]
            await asyncio.gather(*(self._enforce_on(page) for page in cells if alive(page.pid)))

    async def _enforce_on(self, page: Health) -> None:
        cell = page.name, page.generation
        if cell in self._obeys:
            return
        working = await self._overrun(page)
        if working is None:
            working = self._covered_in_sight(page) or await self._cannot_say(page)
        elif not working:
            self._obeys.add(cell)
        if not working:
            self._overrun_since.pop(cell, None)
            return
        now = asyncio.get_running_loop().time()
        if now - self._overrun_since.setdefault(cell, now) >= END_GRACE_S:
            del self._overrun_since[cell]
            self._end(page, "cell.killed_by_order", agents=working[:AGENTS_NAMED_MAX])

    async def _overrun(self, page: Health) -> list[str] | None:
        """The agents that the cell says still work though they are stopped; None where it says nothing."""
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                answer = await self.peers.call(page.name, "overrun")
        except (TimeoutError, AIPError, NotSent, CellLost):
            return None
        return msgspec.msgpack.decode(answer, type=list[str])

    def _covered_in_sight(self, page: Health) -> list[str]:
        """What can be known of a cell that does not answer: who holds its loop, and orders on all that it has."""
        pool = pool_of(page.name)
        names = [f"pool:{pool}"]
        if page.blocked_by:
            names.append(page.blocked_by.partition(" ")[0])
        silent = not page.ok or bool(page.blocked_by)
        return names[-1:] if silent and self.kill_check.conduct(*names).turns >= Fate.STOPPED else []

    async def _cannot_say(self, page: Health) -> list[str]:
        """The ending orders that a cell without a heartbeat may be working against."""
        if page.ok:
            return []
        pool = pool_of(page.name)
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                types = decode(await self.peers.call(ROOT, "membership")).types
        except (TimeoutError, AIPError, NotSent, CellLost):
            types = None  # Nobody can say what it hosts, so it may host anything.
        return [target for target in self.kill_check.standing if may_host(pool, target, types)]

    # ----------------------------------------------------------------------------------------------------------------

    def _end(self, page: Health, kind: str = "cell.killed_blocked", **more: Any) -> None:
        """SIGKILL: a process that is stopped inside native code hears nothing else."""
        detail = {"pid": page.pid, "silent_s": round(page.beat_age_s, 1), "blocked_by": page.blocked_by}
        self.feed.note(kind, page.name, detail | more)
        try:
            os.kill(page.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.task(self._see_it_end(page))

    async def _see_it_end(self, page: Health) -> None:
        await asyncio.sleep(SIGKILL_GRACE_S)
        if not alive(page.pid):
            return
        self.feed.note("cell.outlived_sigkill", page.name, {"pid": page.pid, "generation": page.generation})
        outlived = {"child": page.name, "generation": page.generation}
        with contextlib.suppress(AIPError):  # A root that is away looks itself when it is back.
            await self.peers.insist(ROOT, "outlived", msgspec.msgpack.encode(outlived))


def may_host(pool: str, target: str, types: Mapping[str, str] | None) -> bool:
    """Whether cells of this pool can be at work for the target, as far as `types` (type -> pool) tells. Pure."""
    kind, colon, name = target.partition(":")
    if types is None or target == PLATFORM or target.startswith("run/"):
        return True
    if colon:
        return name == pool if kind == "pool" else True
    return any(pool == home for known, home in types.items() if type_of(target) in (known, base_type(known)))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
