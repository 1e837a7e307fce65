"""The audit log as files: one that grows, and sealed ones before it.

    audit.jsonl                  the active segment: what is entered goes to its end
    audit-000000000000.jsonl     a sealed segment, named for the index of its first entry; never changed again
    audit.checkpoint             the last signed checkpoint        audit.vkey     the public key it is verified with
    audit.witnessed              the last one that witnesses cosigned
    audit.tree/0, 1, …           hashes of the Merkle tree by level (`tree.py`)

A log of before segments is an active segment that was never sealed. All names derive from the active file's, so that a copy under
another name is a log too. Sealing is one rename, and a reader opens the active file before it looks for sealed ones: it sees
every entry that stood when it began, once, however often the log is sealed meanwhile.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from ..errors import Corrupt
from .entry import LINE_BYTES_MAX, AuditChain, Head, decode_head
from .retention import Kept

INDEX_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Segment:
    """A sealed segment."""

    path: Path
    first: int


def log_path(folder: Path) -> Path:
    """The active segment. Where a path stands for a log, it is this one."""
    return folder / "audit.jsonl"


def sealed_path(path: Path, first: int) -> Path:
    return path.with_name(f"{path.stem}-{first:0{INDEX_DIGITS}d}{path.suffix}")


def checkpoint_path(path: Path) -> Path:
    return path.with_suffix(".checkpoint")


def verifier_path(path: Path) -> Path:
    return path.with_suffix(".vkey")


def witnessed_path(path: Path) -> Path:
    return path.with_suffix(".witnessed")


def tree_path(path: Path) -> Path:
    return path.with_suffix(".tree")


def sealed(path: Path) -> list[Segment]:
    """The sealed segments of a log, in order."""
    form = re.compile(re.escape(path.stem) + rf"-(\d{{{INDEX_DIGITS}}})" + re.escape(path.suffix))
    names = os.listdir(path.parent) if path.parent.is_dir() else []
    found = [(match, name) for name in names if (match := form.fullmatch(name))]
    return sorted(
        (Segment(path.parent / name, int(match[1])) for match, name in found), key=lambda s: s.first
    )


def kept_segments(path: Path) -> list[Kept]:
    """The sealed segments as retention sees them. Where one ends, the next begins, or the active one."""
    files = [segment.path for segment in sealed(path)] + [path]
    heads = [head for file in files if (head := first_head(file)) is not None]
    return [Kept(here.index, after.index, after.at) for here, after in pairwise(heads)]


def first_head(path: Path) -> Head | None:
    """None where there is no file, or no whole line in it: an active segment that nothing was entered in yet."""
    try:
        with path.open("rb") as file:
            line = file.readline(LINE_BYTES_MAX)
    except FileNotFoundError:
        return None
    if not line.endswith(b"\n"):
        return None
    try:
        return decode_head(line)
    except msgspec.DecodeError as error:
        raise Corrupt(f"{path}: not an entry: {error}", hint="see `aip audit verify`") from None


def lines(path: Path, first: int = 0) -> Iterator[bytes]:
    """Every line of the log from entry `first` on, with its newline; a torn or overlong one comes as what there is of it."""
    for file in open_segments(path, first):
        yield from iter(lambda file=file: file.readline(LINE_BYTES_MAX), b"")  # type: ignore[misc]


def open_segments(path: Path, first: int = 0) -> Iterator[BinaryIO]:
    """The log's files in order, each set to entry `first` or to its beginning. Each is closed when the next one is asked for."""
    with _opened(path) as active:
        inode = os.fstat(active.fileno()).st_ino if active else -1
        before = sealed(path)
        for number, segment in enumerate(before, 1):
            if number < len(before) and before[number].first <= first:
                continue  # It ends before `first`.
            with segment.path.open("rb") as file:
                if os.fstat(file.fileno()).st_ino == inode:
                    continue  # Sealed since we opened it: it is the active one to us.
                seek(file, first)
                yield file
        if active:
            seek(active, first)
            yield active


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO | None]:
    """The active file, or nothing where it is not there: between sealing and the first line behind it."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        yield None
        return
    with file:
        yield file


def seek(file: BinaryIO, index: int) -> None:
    """To the first line whose entry is number `index` or later: by halves, for entries are in order."""
    low, high = 0, os.fstat(file.fileno()).st_size
    if index <= 0 or _index_behind(file, 0) >= index:
        file.seek(0)
        return
    while (
        low < high
    ):  # The line that begins behind byte `low` is before `index`; the one behind `high` is not.
        middle = (low + high) // 2
        if _index_behind(file, middle) < index:
            low = middle + 1
        else:
            high = middle
    file.seek(low)
    file.readline(LINE_BYTES_MAX)


def _index_behind(file: BinaryIO, offset: int) -> int:
    """The index of the first whole line that begins at the start of the file, or behind the line at `offset`."""
    file.seek(offset)
    if offset:
        file.readline(LINE_BYTES_MAX)
    line = file.readline(LINE_BYTES_MAX)
    if not line.endswith(b"\n"):
        return 2**63  # A torn last line is behind every entry.
    try:
        return decode_head(line).index
    except msgspec.DecodeError as error:
        raise Corrupt(f"{file.name}: not an entry: {error}", hint="see `aip audit verify`") from None


def entries(folder: Path, first: int = 0, last: int | None = None) -> Iterator[dict[str, Any]]:
    """Entries `first` to `last`, both included, across segments, as far as their bodies are kept."""
    for entry in _decoded(lines(log_path(folder), first)):
        if last is not None and entry["index"] > last:
            return
        yield entry


def read(path: Path) -> Iterator[dict[str, Any]]:
    """All entries in order, as they stand, sealed segments included; a torn last line is left out."""
    return _decoded(lines(path))


def _decoded(found: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    for line in found:
        if line.endswith(b"\n"):
            yield json.loads(line)


def resume(path: Path) -> tuple[AuditChain, int]:
    """The chain as it goes on after the last whole entry, and the size in bytes of the active segment up to there.

    A segment begins with what has to be known of those before it, so that no more than one is read.
    """
    chain = AuditChain()
    if path.exists() and (size := _follow(chain, path)):
        return chain, size
    if before := sealed(path):
        _follow(chain, before[-1].path)
    return chain, 0


def _follow(chain: AuditChain, path: Path) -> int:
    size = 0
    with path.open("rb") as file:
        for line in iter(lambda: file.readline(LINE_BYTES_MAX), b""):
            if not line.endswith(b"\n"):
                break
            try:
                chain.follow(line)
            except (msgspec.DecodeError, KeyError, TypeError) as error:
                raise Corrupt(
                    f"{path}, byte {size}: not an entry: {error}", hint="see `aip audit verify`"
                ) from None
            size += len(line)
    return size
