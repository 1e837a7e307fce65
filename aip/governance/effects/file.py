"""The file connector: files below one folder, written whole or not at all.

    ctx.effect("reports", {"path": "2026/q3.md", "text": "…"})                          replace (or make) a file
    ctx.effect("reports", {"path": "log.jsonl", "text": "…\\n", "mode": "append"})
    {"mode": "create"}: refused where it exists; {"mode": "remove"}: no text
    → {"path": "2026/q3.md", "bytes": 120}

The path is walked part by part from the root's descriptor with O_NOFOLLOW: a symbolic link anywhere below the root is refused,
also one that is put there while we walk. A file that is replaced is written beside its place first, synced, and renamed at the
commit; `create` links the draft instead, which fails where the name is taken. An append is one `write` to a regular file with
one name: a pipe, a device or another name of a file from elsewhere is refused. The outcome is known when file and folder are
synced.

Not promised: that an append is not torn by a power cut, and anything about the root's own parents, which are the operator's.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from .connector import ConnectorConfig, Prepared, Request
from .failure import EffectFailed, NotAllowed
from .vault import Vault

DEPTH_MAX = 16
NAME_BYTES_MAX = 255  # What file systems take.
FILE_BYTES_MAX = 2**30
WRITE_BYTES_MAX = 8 * 2**20  # Nothing larger fits the message that asks.
FOLDER_MODE = 0o700
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
Mode = Literal["replace", "create", "append", "remove"]


class FileConfig(ConnectorConfig):
    connector: Literal["file"] = "file"
    root: Path
    modes: tuple[Mode, ...] = Field(default=("replace", "create", "append"), min_length=1)
    make_folders: bool = True
    write_bytes_max: int = Field(default=2**20, ge=0, le=WRITE_BYTES_MAX)
    file_bytes_max: int = Field(default=64 * 2**20, ge=0, le=FILE_BYTES_MAX)  # What appending may grow it to.
    permissions: int = Field(default=0o600, ge=0, le=0o777)

    @field_validator("root")
    @classmethod
    def _is_whole(cls, value: Path) -> Path:
        if not value.is_absolute():
            raise ValueError("write it from /")
        return value


class FileRequest(Request):
    path: str
    text: str | bytes | None = None
    mode: Mode = "replace"

    @field_validator("path")
    @classmethod
    def _stays_below(cls, value: str) -> str:
        parts = value.split("/")
        if len(parts) > DEPTH_MAX:
            raise ValueError(f"more than {DEPTH_MAX} folders deep")
        for part in parts:
            if part in ("", ".", "..") or not part.isprintable():
                raise ValueError("a path below the root: names joined by /, none of them empty, . or ..")
            if len(part.encode()) > NAME_BYTES_MAX:
                raise ValueError(f"a name of more than {NAME_BYTES_MAX} bytes")
        return value

    @model_validator(mode="after")
    def _has_its_text(self) -> FileRequest:
        if (self.text is None) is not (self.mode == "remove"):
            raise ValueError("text is what is written; remove has none")
        return self

    def content(self) -> bytes:
        return self.text.encode() if isinstance(self.text, str) else self.text or b""


class FileConnector:
    kind: ClassVar[str] = "file"

    def __init__(self, config: FileConfig, vault: Vault) -> None:
        self.config = config

    def check(self, request: Any) -> FileRequest:
        wish: FileRequest = FileRequest.of(request)
        if wish.mode not in self.config.modes:
            raise NotAllowed(f"{wish.mode} is not among the modes of this connector")
        size = len(wish.content())
        if size > self.config.write_bytes_max:
            raise NotAllowed(f"{size} bytes exceed {self.config.write_bytes_max}")
        return wish

    def describe(self, wish: FileRequest) -> str:
        size = "" if wish.mode == "remove" else f" with {len(wish.content())} bytes"
        return f"{wish.mode} file {self.config.root.name}/{wish.path}{size}"

    async def prepare(self, wish: FileRequest, key: str, now: float) -> Prepared:
        # The key names the draft: an attempt that was cut off leaves one file, which the next one writes anew.
        write = _Write(self.config, wish, f".aip-{key[:32]}")
        try:
            await asyncio.to_thread(write.open)
        except BaseException:
            await write.discard()
            raise
        return write


class _Write:
    """One change to one name. Its descriptors close in `discard`."""

    def __init__(self, config: FileConfig, wish: FileRequest, draft: str) -> None:
        self._config = config
        self._wish = wish
        self._name = wish.path.rpartition("/")[2]
        self._draft = draft
        self._data = wish.content()
        self._folder = self._file = -1
        self._has_draft = False

    def open(self) -> None:
        with _told(self._wish.path):
            self._folder = _walk(self._config, self._wish.path.split("/")[:-1])
            if self._wish.mode == "append":
                self._open_end()
            elif self._wish.mode != "remove":
                self._write_draft()

    def commit(self) -> None:
        folder, name = self._folder, self._name
        try:
            match self._wish.mode:
                case "replace":
                    os.rename(self._draft, name, src_dir_fd=folder, dst_dir_fd=folder)
                    self._has_draft = False
                case "create":
                    os.link(self._draft, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
                case "remove":
                    os.unlink(name, dir_fd=folder)
                case "append":
                    self._append()
        except OSError as error:
            # Each of these calls does all or nothing; a short append raises what is no OSError.
            raise EffectFailed(f"{self._wish.path}: {error.strerror}") from None

    async def result(self) -> dict[str, Any]:
        await asyncio.to_thread(self._sync)
        return {"path": self._wish.path, "bytes": len(self._data)}

    async def discard(self) -> None:
        await asyncio.to_thread(self._close)

    def _append(self) -> None:
        written = os.write(self._file, self._data)
        if written != len(self._data):
            raise RuntimeError(f"only {written} of {len(self._data)} bytes were written")

    def _sync(self) -> None:
        if self._wish.mode == "append":
            os.fsync(self._file)
        os.fsync(self._folder)

    def _close(self) -> None:
        if self._has_draft:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._draft, dir_fd=self._folder)
            self._has_draft = False
        for descriptor in (self._file, self._folder):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._folder = -1

    def _open_end(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        self._file = os.open(self._name, flags, self._config.permissions, dir_fd=self._folder)
        found = os.fstat(self._file)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise NotAllowed(f"{self._wish.path} is not a plain file with one name")
        if found.st_size + len(self._data) > self._config.file_bytes_max:
            raise NotAllowed(f"{self._wish.path} would exceed {self._config.file_bytes_max} bytes")

    def _write_draft(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._draft, dir_fd=self._folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(self._draft, flags, self._config.permissions, dir_fd=self._folder)
        self._has_draft = True
        view = memoryview(self._data)
        while view:
            view = view[os.write(self._file, view) :]
        os.fsync(self._file)


def _walk(config: FileConfig, folders: list[str]) -> int:
    """A descriptor of the folder, reached from the root without following a link."""
    at = os.open(config.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in folders:
        try:
            if config.make_folders:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, FOLDER_MODE, dir_fd=at)
            below = os.open(name, _FOLDER, dir_fd=at)
        finally:
            os.close(at)
        at = below
    return at


@contextmanager
def _told(path: str) -> Iterator[None]:
    """What the system refuses, as errors of ours. Nothing was changed but folders that were made."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
            raise NotAllowed(f"{path}: a part of it is a link, or not what it should be") from None
        raise EffectFailed(f"{path}: {error.strerror}") from None
