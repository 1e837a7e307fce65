"""A journal's folder on a real file system (POSIX): the thin part that moves bytes. See `journal.Storage`.

One writer per folder: opening takes an exclusive `flock` on the file `lock`, which names its holder; the
kernel drops it with the process, however that ends. A network file system must support `flock` and `fsync`
for these words to hold.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ..errors import AIPError

_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW


class JournalHeld(AIPError):
    """Another writer has this folder open. Details: `folder`, `holder`."""

    code = "journal.held"
    retryable = True
    default_hint = "one writer at a time: stop the holder, or give this one a folder of its own"


class DiskStorage:
    """Files are for their owner's eyes only. `holder` names this writer to whoever is refused meanwhile."""

    def __init__(self, folder: Path, holder: str) -> None:
        self._folder = folder
        self._make_folder()
        self._file = -1
        self._size_bytes = 0
        self._folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._lock_fd = self._lock(f"{holder} (pid {os.getpid()})")
        except BaseException:
            os.close(self._folder_fd)
            raise

    def names(self) -> list[str]:
        return sorted(os.listdir(self._folder_fd))

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def write(self, name: str, *parts: bytes) -> None:
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _FLAGS, 0o600, dir_fd=self._folder_fd)
        try:
            for part in parts:
                _write_all(file, part)
            os.fsync(file)
        except OSError:
            self.remove(name)  # Half a file helps nobody, least of all where the disk is full.
            raise
        finally:
            os.close(file)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new, src_dir_fd=self._folder_fd, dst_dir_fd=self._folder_fd)

    def remove(self, name: str) -> None:
        os.unlink(name, dir_fd=self._folder_fd)

    def truncate(self, name: str, size_bytes: int) -> None:
        file = os.open(name, os.O_WRONLY | _FLAGS, dir_fd=self._folder_fd)
        try:
            os.ftruncate(file, size_bytes)
            os.fsync(file)
        finally:
            os.close(file)

    def sync_folder(self) -> None:
        os.fsync(self._folder_fd)

    def open(self, name: str) -> int:
        file = os.open(name, os.O_WRONLY | os.O_APPEND | _FLAGS, dir_fd=self._folder_fd)
        self._close_file()
        self._file = file
        self._size_bytes = os.fstat(file).st_size
        return self._size_bytes

    def append(self, data: bytes) -> None:
        try:
            _write_all(self._file, data)
        except OSError:
            os.ftruncate(self._file, self._size_bytes)
            raise
        self._size_bytes += len(data)

    def sync(self) -> None:
        os.fdatasync(self._file)

    def close(self) -> None:
        self._close_file()
        os.close(self._folder_fd)
        os.close(self._lock_fd)

    def _close_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _make_folder(self) -> None:
        """The folder and its missing parents, each one's name synced in the folder above it."""
        missing = [path for path in (self._folder, *self._folder.parents) if not path.exists()]
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in missing:
            parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(parent)
            finally:
                os.close(parent)

    def _lock(self, holder: str) -> int:
        file = os.open("lock", os.O_RDWR | os.O_CREAT | _FLAGS, 0o600, dir_fd=self._folder_fd)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.read(file, 1_000).decode(errors="replace").strip() or "a writer that is just starting"
            os.close(file)
            raise JournalHeld(
                f"{self._folder} is held by {other}", folder=str(self._folder), holder=other
            ) from None
        os.ftruncate(file, 0)
        _write_all(file, holder.encode() + b"\n")
        return file


def _write_all(file: int, data: bytes) -> None:
    """One write. Where the kernel took a part only, the next write says why: nearly always a full disk."""
    written = os.write(file, data)
    while written < len(data):
        written += os.write(file, memoryview(data)[written:])
