"""The levels of a Merkle tree as files: `0` holds the leaf hashes, `1` a hash for each 256 of them, and so on."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import Corrupt
from .tree import HASH_BYTES, Tree

LEVELS_MAX = 8  # 256^8 leaves: no log gets there.


class FileLevels:
    """`Levels` in a folder. A torn hash at the end of a level is none: the next `cut` removes it."""

    def __init__(self, folder: Path, *, writable: bool = False) -> None:
        self._folder = folder
        self._flags = os.O_RDWR | os.O_CREAT | os.O_APPEND if writable else os.O_RDONLY
        self._open: dict[int, int] = {}
        if writable:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def size(self, level: int) -> int:
        if level not in self._open and not (self._folder / str(level)).exists():
            return 0
        return os.fstat(self._file(level)).st_size // HASH_BYTES

    def read(self, level: int, first: int, count: int) -> bytes:
        try:
            return os.pread(self._file(level), count * HASH_BYTES, first * HASH_BYTES)
        except FileNotFoundError:
            raise Corrupt(f"{self._folder / str(level)} is not there", hint="`aip audit verify`") from None

    def append(self, level: int, hashes: bytes) -> None:
        written = os.write(self._file(level), hashes)
        if written != len(hashes):
            raise OSError(f"wrote {written} of {len(hashes)} bytes of the tree's level {level}")

    def cut(self, level: int, size: int) -> None:
        file = self._file(level)
        if os.fstat(file).st_size > size * HASH_BYTES:
            os.ftruncate(file, size * HASH_BYTES)

    def sync(self) -> None:
        for file in list(self._open.values()):
            os.fdatasync(file)

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def _file(self, level: int) -> int:
        file = self._open.get(level)
        if file is None:
            file = self._open[level] = os.open(self._folder / str(level), self._flags | os.O_CLOEXEC, 0o600)
        return file


def open_tree(folder: Path, size: int) -> Tree:
    """The tree that the first `size` entries are, out of the files that its writer may still append to."""
    return Tree.view(FileLevels(folder), size)
