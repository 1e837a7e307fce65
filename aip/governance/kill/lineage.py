"""Who was born of whom: what lets an order on an agent or a run reach its descendants, wherever they live by now.

A birth is the first activation of an agent by somebody's `spawn`, or the start of a run for a task of another. It is written
down by the process in which it happens, before it looks at the fence for the last time. So a birth and an order meet in one of
two ways: the order stands, and the birth is refused; or the birth is written, and whoever reads the order reads it too.

One file a process, appended without fsync: it survives kill -9 of everything, as the births themselves do (semantics A2). At
`BYTES_MAX` a process begins anew and keeps one file of before; of births older than these only the run is known, which every
child inherits in its messages. An agent whose process dies in the very moment of its first activation is nobody's child.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

BYTES_MAX = (
    4 * 2**20
)  # Some 40,000 births; reading that many takes about 30 ms, and happens only when an order comes.
OLD = ".old"


class Lineage:
    def __init__(self, folder: Path, writer: str = "") -> None:
        self._folder = folder
        self._path = folder / (writer or f"pid-{os.getpid()}")
        self._fd: int | None = None

    def born(self, parent: str, child: str) -> None:
        line = f"{parent} {child}\n".encode()
        os.write(self._open(), line)

    def _open(self) -> int:
        if self._fd is not None and os.fstat(self._fd).st_size >= BYTES_MAX:
            os.close(self._fd)
            self._fd = None
            os.replace(self._path, f"{self._path}{OLD}")
        if self._fd is None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return self._fd

    def children(self) -> Mapping[str, Iterable[str]]:
        """The children of each parent, as far as it is known. A torn line is a birth that did not happen."""
        found: dict[str, set[str]] = {}
        for path in sorted(self._folder.iterdir()) if self._folder.is_dir() else []:
            whole, _, _ = path.read_bytes().rpartition(b"\n")
            for line in whole.decode(errors="replace").splitlines():
                parent, _, child = line.partition(" ")
                if child and child != parent:
                    found.setdefault(parent, set()).add(child)
        return found

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
