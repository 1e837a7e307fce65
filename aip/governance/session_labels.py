"""Which labels of data each session has seen: on disk and visible to every process of the node at once.

A session is a run, or the conversation of those who work outside of one. That it has seen a label is a fact for good: labels are
only added, so there is nothing to order and nothing to lose but the last line, which is durable before the message that brings
the data goes on its way.

    file    one JSON line a fact, appended under a lock and fsynced; a torn last line is what nobody was told
    page    one 64-bit word in a memory-mapped file, the number of facts; whoever finds it moved reads what was added

A look costs a comparison of words. An addition costs an fsync, once for each session and label; the same again costs nothing.

What it does not guarantee: another node sees a fact only when it is told of it.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from pathlib import Path

import msgspec

from ..errors import Corrupt

LABELS_MAX = 64  # Of one session: names of classes of data, of which a company has a dozen.


class Fact(msgspec.Struct, frozen=True):
    session: str
    label: str
    at: float


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Fact)


class SessionLabels:
    """The facts in a folder. Any process of its user may read and add."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / "labels.jsonl"
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        fd = os.open(folder / "labels", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(fd).st_size < mmap.PAGESIZE:
                os.ftruncate(fd, mmap.PAGESIZE)
            # As words: a store of one is whole.
            self._words = memoryview(mmap.mmap(fd, mmap.PAGESIZE)).cast("Q")
        finally:
            os.close(fd)
        self._known = -1
        self._size = 0
        self._seen: dict[str, tuple[str, ...]] = {}

    def seen(self, session: str) -> tuple[str, ...]:
        """Labels of all data that this session has seen, sorted. Raises `Corrupt` where the file cannot be read."""
        if self._words[0] != self._known:
            self._read()
        return self._seen.get(session, ())

    def add(self, session: str, labels: tuple[str, ...], now: float) -> None:
        """Durable and visible when it returns."""
        if not set(labels) - set(self.seen(session)):
            return
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            self._cut_torn_line()
            self._read()
            known = set(self._seen.get(session, ()))
            fresh = sorted(set(labels) - known)[: LABELS_MAX - len(known)]
            if fresh:
                os.write(
                    self._fd, b"".join(_encoder.encode(Fact(session, one, now)) + b"\n" for one in fresh)
                )
                os.fdatasync(self._fd)
                self._words[0] += len(fresh)
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _cut_torn_line(self) -> None:
        size = os.fstat(self._fd).st_size
        if size and os.pread(self._fd, 1, size - 1) != b"\n":
            os.ftruncate(self._fd, os.pread(self._fd, size, 0).rfind(b"\n") + 1)

    def _read(self) -> None:
        """What was added since the last look. The word first: a fact that comes meanwhile makes us look again."""
        known = self._words[0]
        body = os.pread(self._fd, os.fstat(self._fd).st_size - self._size, self._size)
        whole = body.rfind(b"\n") + 1
        for number, line in enumerate(body[:whole].splitlines(), 1):
            try:
                fact = _decoder.decode(line)
            except msgspec.DecodeError as error:
                raise Corrupt(f"{self._path}, line {number} after byte {self._size}: {error}") from None
            seen = self._seen.get(fact.session, ())
            if fact.label not in seen:
                self._seen[fact.session] = tuple(sorted((*seen, fact.label)))
        self._size += whole
        self._known = known

    def close(self) -> None:
        os.close(self._fd)
