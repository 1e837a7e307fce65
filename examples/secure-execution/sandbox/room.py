"""The file system that a snippet sees: the interpreter, its libraries, and an empty folder. Nothing else has a name in there.

Only within a mount namespace of one's own. The folder is a file system in memory, so one bound holds for all that is written;
what is shown of the machine is shown read-only, under the path that it has outside.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from . import kernel

WORK = "/work"
WALLS_BYTES, PLACES_MAX = 2**20, 256  # Of the room itself: empty folders to show things at.


def enter(folder: str, user: tuple[int, int], shown: Sequence[str], disk_bytes: int, files_max: int) -> None:
    """Make the room at `folder`, a mount point that only this namespace sees, and go in."""
    kernel.mount_memory(folder, WALLS_BYTES, PLACES_MAX)
    for path in shown:
        if os.path.exists(path):
            place = folder + path
            _make_place(place, os.path.isdir(path))
            kernel.show(os.path.realpath(path), place)
    work = folder + WORK
    os.mkdir(work)
    kernel.mount_memory(work, disk_bytes, files_max, user)
    kernel.enter_root(folder)


def _make_place(place: str, is_folder: bool) -> None:
    if os.path.exists(place):
        return  # Below something that is shown already.
    os.makedirs(place if is_folder else os.path.dirname(place), 0o755, exist_ok=True)
    if not is_folder:
        os.close(os.open(place, os.O_CREAT | os.O_WRONLY, 0o444))
