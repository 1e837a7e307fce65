"""Health pages: how each process of ours is, readable by anyone on the node without asking it.

A process writes its page ten times a second: a beat (CLOCK_MONOTONIC, the same for all processes of a node), its counts, and, if
its watchdog finds the loop blocked, who blocks it. A reader maps the page and copies 64 bytes: some microseconds, whether or not
the process has time to answer anybody. Written under a sequence counter (odd while writing), so no reader sees half a page.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

_COUNTS = struct.Struct(
    "<QQQQQQQ"
)  # Behind the sequence: beat_ns, pid, generation, agents, turns, waiting, calls
_TEXT_AT = 128
_TEXT_BYTES = 1024
STALE_AFTER_S = 2.0  # Twenty missed beats.
READ_TRIES = 100


@dataclass(frozen=True, slots=True)
class Health:
    name: str
    beat_age_s: float
    pid: int
    generation: int
    agents: int
    turns: int
    waiting: int
    calls: int
    blocked_by: str

    @property
    def ok(self) -> bool:
        return self.beat_age_s < STALE_AFTER_S


class HealthPage:
    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.name = name
        self.path = folder / name
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(fd).st_size < mmap.PAGESIZE:
                os.ftruncate(fd, mmap.PAGESIZE)
            self._page = mmap.mmap(fd, mmap.PAGESIZE)
        finally:
            os.close(fd)
        self._words = memoryview(self._page).cast(
            "Q"
        )  # A word is stored whole; struct clears what it packs into first.
        self._sequence = self._words[0] & ~1

    def write(self, generation: int, agents: int, turns: int, waiting: int, calls: int) -> None:
        self._sequence += 2
        pid, now_ns = os.getpid(), time.monotonic_ns()
        self._words[0] = self._sequence - 1
        _COUNTS.pack_into(self._page, 8, now_ns, pid, generation, agents, turns, waiting, calls)
        self._words[0] = self._sequence

    def blocked(self, text: str) -> None:
        """Who holds the loop, or "" when it is free again. Called by the watchdog's thread."""
        data = text.encode()[: _TEXT_BYTES - 1]
        self._page[_TEXT_AT : _TEXT_AT + _TEXT_BYTES] = data.ljust(_TEXT_BYTES, b"\0")

    def read(self) -> Health | None:
        """None for a page that was never written."""
        for _ in range(READ_TRIES):
            sequence = self._words[0]
            if sequence == 0:
                return None
            beat_ns, pid, generation, agents, turns, waiting, calls = _COUNTS.unpack_from(self._page, 8)
            if sequence % 2 == 0 and sequence == self._words[0]:
                text = self._page[_TEXT_AT : _TEXT_AT + _TEXT_BYTES].rstrip(b"\0").decode(errors="replace")
                age_s = (time.monotonic_ns() - beat_ns) / 1e9
                return Health(self.name, age_s, pid, generation, agents, turns, waiting, calls, text)
        return None  # Its writer died in the middle of a write.

    def close(self) -> None:
        self._words.release()
        self._page.close()


def read_all(folder: Path) -> list[Health]:
    """Every page of the node, by name."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        page = HealthPage(folder, path.name)
        health = page.read()
        page.close()
        if health is not None:
            found.append(health)
    return found
