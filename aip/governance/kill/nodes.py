"""Which nodes have asked the kill switch for a lease, and when they last did: one small file each, read with no actor alive.

A node that was not heard for longer than a lease is unreachable: it may run, and then its effects have stopped (`lease.py`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .lease import LIFE_S

FORGOTTEN_AFTER_S = (
    86_400.0  # A node that is silent for a day is no news; its lease ended with the first two seconds.
)


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    silent_s: float

    @property
    def reachable(self) -> bool:
        return self.silent_s <= LIFE_S


class NodeBook:
    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder / "nodes"
        self._clock = clock

    def heard(self, name: str) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path, now = self._folder / name, self._clock()
        path.touch(mode=0o600)
        os.utime(path, (now, now))

    def nodes(self) -> list[Node]:
        """By name. The node of the kill switch itself holds no lease and is not among them."""
        if not self._folder.is_dir():
            return []
        now = self._clock()
        found = [Node(path.name, max(0.0, now - path.stat().st_mtime)) for path in self._folder.iterdir()]
        return sorted((one for one in found if one.silent_s <= FORGOTTEN_AFTER_S), key=lambda one: one.name)
