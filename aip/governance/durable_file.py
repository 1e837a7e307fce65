"""Small files that are there whole or not at all, also after a power cut, and for their owner's eyes only."""

from __future__ import annotations

import os
from pathlib import Path


def replace(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    write(temporary, text.encode(), os.O_CREAT | os.O_TRUNC)
    os.rename(temporary, path)
    sync_folder(path.parent)


def append(path: Path, data: bytes) -> None:
    write(path, data, os.O_CREAT | os.O_APPEND)


def write(path: Path, data: bytes, flags: int) -> None:
    """Written and fsynced when it returns. `flags`: how the file is opened, besides for writing."""
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC | flags, 0o600)
    try:
        if os.write(file, data) != len(data):
            raise OSError(f"{path}: not all of {len(data)} bytes were written")
        os.fsync(file)
    finally:
        os.close(file)


def sync_folder(folder: Path) -> None:
    """A rename or an unlink in it is durable when this returns."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
