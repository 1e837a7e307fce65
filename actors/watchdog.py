"""The watchdog of a cell: a thread that notices when the loop stands still, and names the agent that holds it.

An agent that computes or sleeps inside `async def` stops every agent of its cell. After `loop_warn_s` without a beat the thread
looks at the loop's stack, finds the turn on it and the user's own line, and says so: on the health page, in the process's
stderr, and - when the loop runs again - in the audit log. After `loop_fatal_s` it ends the process: its neighbours come back in a
new generation from their checkpoints, and the caller of the blocking agent is told. (Code that holds the interpreter lock stops
this thread too; then the node agent, another process, does the ending.)
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable

from aip.runtime.host import Host
from aip.runtime.turn import CellTurn

from .health import HealthPage

LOOK_EVERY_S = 0.1
EXIT_BLOCKED = 77


class Watchdog:
    def __init__(
        self, page: HealthPage, warn_s: float, fatal_s: float, on_blocked: Callable[[str, str, float], None]
    ) -> None:
        self._page = page
        self._warn_s = warn_s
        self._fatal_s = fatal_s
        self._on_blocked = on_blocked
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._beat = time.monotonic()
        threading.Thread(target=self._watch, name="aip-watchdog", daemon=True).start()

    def beat(self) -> None:
        self._beat = time.monotonic()

    def _watch(self) -> None:
        named = ""
        while True:
            time.sleep(LOOK_EVERY_S)
            silent_s = time.monotonic() - self._beat
            if silent_s < self._warn_s:
                if named:
                    self._page.blocked("")
                    named = ""
                continue
            agent, where = self._who()
            if agent != named:
                named = agent
                text = f"{agent} blocks its cell's loop at {where}"
                self._page.blocked(text)
                print(f"aip: {text}", file=sys.__stderr__, flush=True)
                self._loop.call_soon_threadsafe(self._on_blocked, agent, where, silent_s)
            if silent_s >= self._fatal_s:
                print(
                    f"aip: {agent} held the loop for {silent_s:.0f} s; this cell ends",
                    file=sys.__stderr__,
                    flush=True,
                )
                os._exit(EXIT_BLOCKED)

    def _who(self) -> tuple[str, str]:
        """The agent whose turn is on the loop's stack, and the line it is at."""
        frame = sys._current_frames().get(self._loop_thread)
        innermost = frame
        while frame is not None:
            turn = frame.f_locals.get("turn")
            if frame.f_code is Host._perform.__code__ and isinstance(turn, CellTurn):
                return turn.agent, self._line(innermost, turn.activation.kind.code_root)
            frame = frame.f_back
        return "something that is no agent", self._line(innermost, "")

    @staticmethod
    def _line(frame: object, code_root: str) -> str:
        lines = traceback.extract_stack(frame)  # type: ignore[arg-type]
        own = [line for line in lines if code_root and line.filename.startswith(code_root)]
        if not lines:
            return "an unknown line"
        line = (own or list(lines))[-1]
        return f"{os.path.basename(line.filename)}:{line.lineno}"
