"""A disk in memory that fails on purpose, by a seed: the journal's `Storage` for tests and for the simulator.

It keeps two truths about every file: what the process sees, and what would be left after a power cut. Only
`sync` (contents) and `sync_folder` (names) move one into the other.

    crash                 what is left
    `kill()`              all that was written: the kernel outlives the process
    `power_cut()`         what was synced, and by chance more: of every file a prefix of its unsynced tail, torn
                          at any byte or followed by zeros; of the folder a prefix of its unsynced changes
    fault                 what happens
    `crash_after`         `Crash` in the middle of the operation after that many: a write is torn
    `fail_sync_after`     the fsync after that many raises EIO and drops its pages; later ones report success
                          over the hole, as Linux does
    `room_bytes`          ENOSPC once so much is stored; the write in question leaves nothing behind
    `flip_bit`            a bit of a stored file changes
"""

from __future__ import annotations

import errno
import random
from dataclasses import dataclass, field, replace


class Crash(BaseException):
    """The machine stops here. Not an `Exception`, so that nothing in the product can catch it."""


@dataclass(slots=True)
class _File:
    data: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    lost: bool = False  # A sync of it failed: what was dirty then never reaches the medium.

    def sync(self) -> None:
        if not self.lost:
            self.synced = bytes(self.data)


class SimulatedDisk:
    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._names: dict[str, _File] = {}
        self._synced_names: dict[str, _File] = {}
        self._unsynced_steps: list[dict[str, _File]] = []  # The folder after each change since it was synced.
        self._open: _File | None = None
        self.operations = 0
        self.syncs = 0
        self.crash_after: int | None = None
        self.fail_sync_after: int | None = None
        self.room_bytes: int | None = None

    # Storage

    def names(self) -> list[str]:
        return sorted(self._names)

    def read(self, name: str) -> bytes:
        return bytes(self._file(name).data)

    def write(self, name: str, *parts: bytes) -> None:
        self._operate()
        file = _File()
        self._rename_folder({**self._names, name: file})
        try:
            for part in parts:
                self._write(file, part)
            self._sync(file)
        except OSError:
            self.remove(name)
            raise

    def rename(self, old: str, new: str) -> None:
        self._operate()
        names = dict(self._names)
        names[new] = self._file(old)
        del names[old]
        self._rename_folder(names)

    def remove(self, name: str) -> None:
        self._operate()
        self._file(name)
        self._rename_folder({key: file for key, file in self._names.items() if key != name})

    def truncate(self, name: str, size_bytes: int) -> None:
        self._operate()
        file = self._file(name)
        del file.data[size_bytes:]
        self._sync(file)

    def sync_folder(self) -> None:
        self._operate()
        self._synced_names = dict(self._names)
        self._unsynced_steps.clear()

    def open(self, name: str) -> int:
        self._open = self._file(name)
        return len(self._open.data)

    def append(self, data: bytes) -> None:
        self._write(self._opened(), data)

    def sync(self) -> None:
        self._sync(self._opened())

    def close(self) -> None:
        self._open = None

    # Faults

    def kill(self) -> SimulatedDisk:
        """The disk as the next process finds it, where only the process ended."""
        return self._next(
            {name: replace(file, data=bytearray(file.data)) for name, file in self._names.items()}
        )

    def power_cut(self) -> SimulatedDisk:
        """The disk as it comes up again after a power cut."""
        names = self._rng.choice([self._synced_names, *self._unsynced_steps])
        left: dict[str, _File] = {}
        for name, file in names.items():
            data = bytearray(self._left_of(file))
            left[name] = _File(data, bytes(data))
        disk = self._next(left)
        disk._synced_names = dict(left)
        return disk

    def flip_bit(self, name: str, offset: int, bit: int = 0) -> None:
        file = self._file(name)
        file.data[offset] ^= 1 << bit
        file.synced = bytes(file.data)

    # How

    def _next(self, names: dict[str, _File]) -> SimulatedDisk:
        disk = SimulatedDisk(self._rng)
        disk._names = names
        disk._synced_names = {name: names[name] for name in self._synced_names if name in names}
        disk._unsynced_steps = [dict(names)]
        disk.room_bytes = self.room_bytes
        return disk

    def _left_of(self, file: _File) -> bytes:
        """The synced contents, then by chance a part of what was written after."""
        synced = file.synced
        if file.lost or not file.data.startswith(synced):
            return synced
        tail = bytes(file.data[len(synced) :])
        kept = self._rng.randint(0, len(tail))
        zeros = self._rng.randint(0, len(tail) - kept) if self._rng.random() < 0.3 else 0
        return synced + tail[:kept] + bytes(zeros)

    def _operate(self) -> None:
        self.operations += 1
        if self.crash_after is not None and self.operations > self.crash_after:
            raise Crash

    def _write(self, file: _File, data: bytes) -> None:
        try:
            self._operate()
        except Crash:
            file.data += data[: self._rng.randint(0, len(data))]
            raise
        stored_bytes = sum(len(each.data) for each in self._names.values())
        if self.room_bytes is not None and stored_bytes + len(data) > self.room_bytes:
            raise OSError(errno.ENOSPC, "no space left on the simulated disk")
        file.data += data

    def _sync(self, file: _File) -> None:
        self._operate()
        self.syncs += 1
        if self.fail_sync_after is not None and self.syncs > self.fail_sync_after:
            self.fail_sync_after = None
            file.lost = True
            raise OSError(errno.EIO, "the simulated disk failed to sync")
        file.sync()

    def _rename_folder(self, names: dict[str, _File]) -> None:
        self._names = names
        self._unsynced_steps.append(dict(names))

    def _file(self, name: str) -> _File:
        if name not in self._names:
            raise FileNotFoundError(errno.ENOENT, "no such file on the simulated disk", name)
        return self._names[name]

    def _opened(self) -> _File:
        if self._open is None:
            raise OSError(errno.EBADF, "no file is open")
        return self._open
