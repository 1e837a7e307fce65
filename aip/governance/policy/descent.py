"""How many agents one has spawned, and how many spawns lie between it and the run: what policies limit families by.

Read from where births are written down (`governance/kill/lineage.py`): one file a process, `PARENT CHILD` a line, appended before
the child lives. So a child that spawns in its turn is known as one, in whichever cell. Each look reads what was added since the
last one. A file that was begun anew is read from its beginning; births that it no longer holds are still counted here, until
there are so many that all is read again.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

BIRTHS_MAX = 200_000  # Some 40 MB. Beyond it the births that no file holds any more are forgotten.
DEPTH_MAX = 1_000  # No family is that old; whoever writes itself into a circle is as old as that.


class Descent:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._births_max = BIRTHS_MAX
        self._forget()

    def _forget(self) -> None:
        self._read_bytes: dict[int, int] = {}  # By inode: a file that is renamed stays what it is.
        self._parents: dict[str, str] = {}
        self._children: Counter[str] = Counter()

    def of(self, agent: str) -> tuple[int, int]:
        """Its depth, and how many children it has had."""
        self._look()
        depth, above = 0, self._parents.get(agent)
        while above is not None and depth < DEPTH_MAX:
            depth, above = depth + 1, self._parents.get(above)
        return depth, self._children[agent]

    def _look(self) -> None:
        if len(self._parents) > self._births_max:
            self._forget()
        fresh = not self._read_bytes
        try:
            paths = [Path(entry) for entry in os.scandir(self._folder)]
        except FileNotFoundError:
            return  # Nobody was born yet.
        for path in paths:
            self._read(path)
        if fresh:
            self._births_max = max(BIRTHS_MAX, 2 * len(self._parents))

    def _read(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                found = os.fstat(file.fileno())
                begin = self._read_bytes.get(found.st_ino, 0)
                if begin > found.st_size:
                    begin = 0  # Another file, under the number of one that is gone.
                body = os.pread(file.fileno(), found.st_size - begin, begin)
        except FileNotFoundError:
            return  # Renamed meanwhile: the next look finds it.
        whole = body.rfind(b"\n") + 1
        for line in body[:whole].decode(errors="replace").splitlines():
            parent, _, child = line.partition(" ")
            if child and child != parent and child not in self._parents:
                self._parents[child] = parent
                self._children[parent] += 1
        self._read_bytes[found.st_ino] = begin + whole
