"""A stretch of an audit log: some whole lines that are checked as one.

`examined` says of a block of lines what a reader has to know to go on behind it, if every line in it is an entry that has its
hash, is numbered one above the line before, and names that one's hash. If anything in it is not so it says nothing (None), and
`verification.py` goes over the same bytes line by line, for the words. So the quick look decides nothing that the slow one would
decide otherwise: it uses the same decoder, and compares the same hashes and numbers.

A stretch depends on nothing before it, so several processes can each take every so many-th of a file (`stretches`). What must
hold *between* stretches - number, chain, tree, roots - is left to who asked. The others are forked, so that they have the file
that is open here, whatever it is called by now; a process with threads of its own forks none and does all of it itself. One that
dies is done without.

Not checked: that a line is canonical JSON. Its hash and its leaf are over the bytes as they stand, so that another spelling of
the same values is another entry; and logs of before RFC 8785 was followed are verified as they were written.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing.connection import Connection
from typing import BinaryIO

import msgspec

from .entry import DROPPED, GAP, LINE_BYTES_MAX, OWN, decode_head, line_hash

STRETCH_BYTES = 2**20  # Three thousand entries, a hundredth of a second.
PROCESSES_MAX = 8  # What folds the tree behind them keeps up with five or six.
ALONE_BYTES_MAX = 8 * 2**20  # A tenth of a second of work: not worth a fork.
COUNTED = frozenset({GAP, DROPPED})  # Kinds whose content verification reads, where they are the log's own.


@dataclass(frozen=True, slots=True)
class Span:
    """Where a stretch stands in its file."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """What is known of lines that hold among themselves."""

    count: int
    first: int
    previous: str  # What the first of them says is the hash of the entry before it.
    head: str
    first_at: float
    last_at: float
    leaves: bytes  # Their leaf hashes, one behind the other.
    counted: tuple[bytes, ...]  # Those of the kinds above.


def examined(block: bytes) -> Stretch | None:
    """None: something in it does not hold, or is no whole line."""
    lines = block.split(b"\n")
    if lines.pop() or not lines or max(map(len, lines)) >= LINE_BYTES_MAX:
        return None
    leaves, counted = [], []
    try:
        first = head = decode_head(lines[0])
        index, previous = first.index, first.previous
        for line in lines:
            head = decode_head(line)
            if head.index != index or head.previous != previous or line_hash(line) != head.hash:
                return None
            if head.number == OWN and head.kind in COUNTED:
                counted.append(line)
            leaves.append(sha256(b"\x00" + line).digest())
            index, previous = index + 1, head.hash
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    whole = b"".join(leaves)
    return Stretch(
        len(lines), first.index, first.previous, previous, first.at, head.at, whole, tuple(counted)
    )


def stretches(file: BinaryIO, processes: int) -> Iterator[tuple[Span, Stretch | None]]:
    """The file in order, as far as it goes now, examined in so many processes."""
    spans = list(_spans(file))
    size = sum(span.size for span in spans)
    many = min(processes, PROCESSES_MAX, len(spans))
    if many < 2 or size <= ALONE_BYTES_MAX or threading.active_count() > 1:
        for span in spans:
            yield span, _examined(file.fileno(), span)
        return
    with _forked(file.fileno(), [spans[first::many] for first in range(many)]) as readers:
        for number, span in enumerate(spans):
            try:
                found = readers[number % many].recv()
            except (EOFError, OSError):
                found = _examined(file.fileno(), span)
            yield span, found


def _spans(file: BinaryIO) -> Iterator[Span]:
    """Each ends behind a newline, if there is one within reach; `verification.py` knows what to say where there is none."""
    offset, end = 0, os.fstat(file.fileno()).st_size
    while offset < end:
        behind = file.seek(offset + STRETCH_BYTES) + len(file.readline(LINE_BYTES_MAX))
        behind = min(behind, end)
        yield Span(offset, behind - offset)
        offset = behind


def _examined(fd: int, span: Span) -> Stretch | None:
    return examined(os.pread(fd, span.size, span.offset))


@contextmanager
def _forked(fd: int, shares: Sequence[Sequence[Span]]) -> Iterator[list[Connection]]:
    """A process for each share, which says what it found on a pipe of its own and waits while nobody reads it."""
    context = multiprocessing.get_context("fork")
    readers, children = [], []
    try:
        for share in shares:
            reader, writer = context.Pipe(duplex=False)
            readers.append(reader)
            child = context.Process(target=_examine, args=(fd, share, readers[:], writer), daemon=True)
            child.start()
            children.append(child)
            writer.close()
        yield readers
    finally:
        for reader in readers:
            reader.close()
        for child in children:
            child.kill()
            child.join()


def _examine(fd: int, share: Sequence[Span], readers: Sequence[Connection], writer: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, who ends this process.
    for reader in readers:
        reader.close()  # So that the parent holds the only reading end: without it a write fails, and this ends.
    try:
        for span in share:
            writer.send(_examined(fd, span))
    except BrokenPipeError:
        return
