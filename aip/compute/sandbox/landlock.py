"""Landlock: the files a process may use, said a second time and held by another part of the kernel than mounts are.

    ABI   adds (as used here)
    1     files: all but the paths given are closed
    2     moving files between folders    3   truncating
    4     TCP: no binding, no connecting
    5     ioctl on devices
    6     abstract sockets and signals: only within the sandbox

What an ABI does not have is not held by this mean; `mounts`, `network` and `pids` hold the same. Source: Linux
`Documentation/userspace-api/landlock.rst`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from . import kernel

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_ALL_FILES = {1: 2**13 - 1, 2: 2**14 - 1, 3: 2**15 - 1, 4: 2**15 - 1}
_FILES_FROM_5 = 2**16 - 1
_TCP = 1 | 2  # Bind, connect.
_SCOPES = 1 | 2  # Abstract Unix sockets, signals.
_FILE_ONLY = _EXECUTE | _WRITE_FILE | _READ_FILE  # The kernel refuses a file's rule with rights of folders.
READ = _READ_FILE | _READ_DIR
USE = READ | _WRITE_FILE  # Of device files.


def handled(abi: int) -> int:
    """Everything about files that this ABI can refuse."""
    return _ALL_FILES.get(abi, _FILES_FROM_5)


def restrict(abi: int, readable: Iterable[str], usable: Iterable[str], writable: Iterable[str]) -> None:
    """From here on only these trees: to be read, to be read and written as they are, to be filled at will."""
    ruleset = kernel.landlock_ruleset(handled(abi), _TCP, _SCOPES, abi)
    try:
        for paths, rights in ((readable, READ), (usable, USE), (writable, handled(abi) & ~_EXECUTE)):
            for path in paths:
                _allow(ruleset, rights, path)
        kernel.landlock_restrict(ruleset)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, rights: int, path: str) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        kernel.landlock_beneath(ruleset, rights if os.path.isdir(path) else rights & _FILE_ONLY, place)
    finally:
        os.close(place)
