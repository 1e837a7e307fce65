"""Where one platform lives on one node: what every process of ours is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aip.settings import Home


@dataclass(frozen=True, slots=True)
class Site:
    platform_id: str
    root: str  # AIP_HOME
    sockets: str  # A short path: the name of a Unix socket has 107 bytes at most.

    @property
    def home(self) -> Home:
        return Home(Path(self.root))

    @property
    def health(self) -> Path:
        return self.home.platform / "health"

    @property
    def fence(self) -> Path:
        """Not under `platform`: an order stands across restarts (semantics K4)."""
        return self.home.state / "kill"
