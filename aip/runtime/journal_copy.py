"""A journal read beside its writer: from a copy of its files in memory, as they are now.

It takes no lock and changes nothing: the writer may be at work, and a torn tail is its to cut (the copy's is cut in
the copy). What is read is a prefix of what was written. A writer that takes a snapshot meanwhile removes old
segments; then the copy is begun anew.
"""

from __future__ import annotations

import random
from pathlib import Path

from .disk import JournalHeld
from .journal import Journal
from .simulated_disk import SimulatedDisk

TRIES_MAX = (
    5  # A journal snapshots every few thousand records: it does not do so twice while a folder is read.
)


def open_copy(folder: Path) -> Journal:
    """The journal of `folder`; an empty one where there is no folder yet. Raises `Corrupt` as the journal does."""
    for _ in range(TRIES_MAX):
        disk = SimulatedDisk(random.Random(0))  # It is never made to fail: no chance is drawn from it.
        try:
            for path in files(folder):
                disk.write(path.name, path.read_bytes())
        except FileNotFoundError:
            continue
        return Journal(disk)
    raise JournalHeld(f"{folder} changes faster than it can be read", hint="try again in a moment")


def files(folder: Path) -> list[Path]:
    """What a journal consists of: all but its lock and what somebody else left there."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in found if path.is_file() and not path.name.startswith((".", "lock"))]
