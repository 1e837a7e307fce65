"""The last means: `ray.kill`, by the root, for what a node agent could not end and for a node agent that is silent itself.

    a node agent says    a process outlived SIGKILL             ray.kill of that generation
    the root sees        a node agent's heartbeat is too old    ray.kill: its supervisor starts the next, which enforces

How old is too old: `SILENT_S` while an order stands that ends turns, `loop_fatal_s` otherwise. The root sees the pages of its own
node; that another node's agent is silent is seen by its lease, which ends by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from aip.settings import DEFAULT_LIMITS

from .health import read_all

LOOK_EVERY_S = 1.0
SILENT_S = (
    10.0  # Of a process that beats ten times a second; a machine that is merely busy lets it beat sooner.
)


class Shell(Protocol):
    """`SupervisorShell`, as far as it is asked here."""

    def end(self, name: str, generation: int) -> bool: ...


class LastResort:
    def __init__(
        self,
        health: Path,
        shells: Callable[[], Iterable[Shell]],
        ending: Callable[[], bool],
        note: Callable[[str, str, Mapping[str, Any]], None],
    ) -> None:
        self._health = health
        self._shells = shells
        self._ending = ending
        self._note = note

    async def keep(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self.look()

    def look(self) -> None:
        silent_s = SILENT_S if self._ending() else DEFAULT_LIMITS.loop_fatal_s
        for page in read_all(self._health):
            if page.name.startswith("node-") and page.beat_age_s > silent_s:
                self._end(page.name, page.generation, f"silent for {page.beat_age_s:.0f} s")

    async def outlived(self, child: str, generation: int) -> None:
        self._end(child, generation, "it outlived SIGKILL")

    def _end(self, child: str, generation: int, why: str) -> None:
        if any(shell.end(child, generation) for shell in self._shells()):
            self._note("process.killed_by_ray", child, {"generation": generation, "why": why})
