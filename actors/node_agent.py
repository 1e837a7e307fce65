"""The node agent, one per node: watches the health pages of its node and ends what cannot be helped.

A cell's own watchdog names an agent that blocks the loop, and ends the cell after `loop_fatal_s`. It is a thread of that cell:
code that holds the interpreter lock stops it too. This process stands outside: it kills a cell whose page has been silent that
long, and its supervisor starts the next generation.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import msgspec

from aip.settings import DEFAULT_LIMITS

from .health import Health, read_all
from .process import Process, rpc

LOOK_EVERY_S = 1.0
GRACE_S = 5.0  # The watchdog inside the process goes first: it knows more to say.


class NodeAgent(Process):
    role = "node"

    async def opened(self) -> None:
        self.methods["health"] = rpc(self._health)
        self.task(self._look())

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

    def _end(self, page: Health) -> None:
        """SIGKILL: a process that is stopped inside native code hears nothing else."""
        detail = {"pid": page.pid, "silent_s": round(page.beat_age_s, 1), "blocked_by": page.blocked_by}
        self.feed.note("cell.killed_blocked", page.name, detail)
        try:
            os.kill(page.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
