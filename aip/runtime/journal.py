"""The journal: the one way in which state becomes durable.

A state machine that must survive is fed from a journal: what happened is appended first, acted on
afterwards, and replayed after a crash. One replica is this, on a local disk; three replicas put the same
records behind a consensus protocol.

What it guarantees
  - `append` returns after one `write()` of the whole batch into the kernel and keeps no buffer of its own:
    the records survive kill -9 of the process. (A kill in the very middle of that `write()` leaves a prefix
    of a batch that nobody was told of.)
  - `sync` returns after `fdatasync`: the records survive a power cut. `group_commit.py` lets many wait for
    one `fdatasync`.
  - Replay gives back a gapless sequence of indexes from 1 (or from the snapshot), with terms that never
    fall, in the order of the appends: a prefix of what was appended that holds everything that was synced.
    Nothing is ever invented. All that replay returns is durable by then, so that nobody acts on a record
    which a power cut could still take back.
  - Damage is told apart from a crash. An append that a crash cut off leaves a bad tail with nothing valid
    behind it: that tail is cut. A bad record with a valid one behind it, or in any segment but the last, is
    `Corrupt`, with file and offset.
  - A snapshot or a new segment is there whole or not at all: temporary file, fsync, rename, fsync of the
    folder.
  - A full disk refuses the append (`DiskFull`) and leaves the journal as it was: go on once there is room.
  - A failed fsync ends this journal object (`JournalFailed`). It is never retried: the kernel may have
    dropped the pages, and a second fsync would report success over lost data (Rebello et al., "Can
    Applications Recover from fsync Failures?", ATC 2020).

What it does not guarantee
  - Records that nobody synced may be lost in a power cut; only ever from the end.
  - Where a file system wrote later pages of an unsynced tail before earlier ones and then lost power, the
    tail looks like damage and is refused. It cannot be told from damage to synced records, and to guess
    would be to lose those.
  - Files that somebody deletes from the end of a journal are not missed. A checksum finds damage, it does
    not find forgery.

States of a `Journal`
    state    append             sync               snapshot, install    may become
    open     record written     records durable    old segments go      failed, closed
    failed   JournalFailed      JournalFailed      JournalFailed        closed
    closed   UsageError         UsageError         UsageError           (the end: open the folder anew)

Threads: one thread appends (an actor's event loop) and installs; `sync` and `snapshot` may run beside it in
another, one snapshot at a time. Source: the write-ahead logs of etcd (`server/storage/wal`) and SQLite
("Write-Ahead Log File Format"); the bytes are in `journal_format.py`, real files in `disk.py`, a disk that
fails on purpose in `simulated_disk.py`.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NoReturn, Protocol
from zlib import crc32

from ..errors import AIPError, InvalidPayload, UsageError
from ..settings import DEFAULT_LIMITS, Limits
from .journal_format import (
    INDEX_MAX,
    RECORD_HEAD_BYTES,
    SEGMENT_HEAD_BYTES,
    Chain,
    Found,
    Record,
    SegmentHead,
    Snapshot,
    corrupt,
    decode_head,
    decode_snapshot,
    encode_record,
    encode_snapshot,
    needed,
    segment_name,
    segments,
    snapshot_name,
    snapshots,
    valid_behind,
)

SNAPSHOTS_KEPT = 2  # One to fall back on should the newest rot; the segments behind the older one stay too.
SNAPSHOT_BYTES_MAX = 2**30  # A state this large does not fit an actor's memory twice: shard it.

_TEMPORARY = ".tmp"
_DAMAGED = ".damaged"
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class DiskFull(AIPError):
    """There is no room for the write. Nothing of it was done, and the journal goes on once there is."""

    code = "journal.disk_full"
    retryable = True
    default_hint = "free space on the disk that holds AIP_HOME"


class JournalFailed(AIPError):
    """The disk failed under the journal. What was not synced is in doubt until the folder is opened anew."""

    code = "journal.failed"
    default_hint = "restart the actor that owns the journal; if it happens again, look at the disk"


class Storage(Protocol):
    """A folder of files on something that may crash. Failures are `OSError`s; names are plain file names.

    What is written survives the end of the process at once; it survives a power cut only after `sync`
    (contents) and `sync_folder` (names: new, renamed and removed files). `append` and `sync` speak of the
    file opened last.
    """

    def names(self) -> list[str]: ...

    def read(self, name: str) -> bytes: ...

    def write(self, name: str, *parts: bytes) -> None:
        """A file with this content, synced (its name is not)."""
        ...

    def rename(self, old: str, new: str) -> None: ...

    def remove(self, name: str) -> None: ...

    def truncate(self, name: str, size_bytes: int) -> None:
        """Cuts the file and syncs it."""
        ...

    def sync_folder(self) -> None: ...

    def open(self, name: str) -> int:
        """Makes this existing file the one that `append` and `sync` speak of; returns its size in bytes."""
        ...

    def append(self, data: bytes) -> None:
        """All of `data` in one write, or an `OSError` and none of it."""
        ...

    def sync(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the journal: right behind record `index`, which was written in `term`."""

    term: int
    index: int


@dataclass(frozen=True, slots=True)
class Recovery:
    """What opening found, for the log and for `aip doctor`."""

    snapshot_index: int
    last_index: int
    torn_file: str = ""
    torn_bytes: int = 0
    snapshots_damaged: tuple[str, ...] = ()


class Journal:
    """One writer's journal in one folder. To restore: `newest_snapshot()`, then `replay()`; then append."""

    def __init__(self, storage: Storage, limits: Limits = DEFAULT_LIMITS, name: str = "") -> None:
        """`name` tells this journal's files from another's, from the first one on; it matters when the folder is new."""
        if limits.segment_bytes_max < limits.record_bytes_max + RECORD_HEAD_BYTES:
            raise UsageError("segment_bytes_max must leave room for one record of record_bytes_max")
        self._storage = storage
        self._limits = limits
        self._state = "open"
        self._switching = threading.Lock()  # Held to sync a segment, and to go on to the next one.
        self._turn_page = False  # A snapshot asks the appending thread to begin a new segment.
        self._term = 0
        self._end = Chain(term=0, index=0, crc=crc32(name.encode()))
        self._durable_index = 0
        self._snapshot_index = 0
        self._size_bytes = 0
        self._seed = 0
        try:
            self.recovery = self._recover()
        except OSError as error:
            self._fail(error)

    # What it holds

    @property
    def last_index(self) -> int:
        return self._end.index

    @property
    def durable_index(self) -> int:
        return self._durable_index

    @property
    def snapshot_index(self) -> int:
        """The record that the newest snapshot stands behind; 0 without one."""
        return self._snapshot_index

    @property
    def position(self) -> Position:
        """The end of the journal. With a copy of the state as of now, `snapshot` can run off the loop."""
        return Position(self._end.term, self._end.index)

    @property
    def term(self) -> int:
        """The term that new records carry."""
        return self._term

    def advance_term(self, term: int) -> None:
        """New records carry this term: a new owner, a new leader. Terms never fall."""
        if not self._term <= term <= INDEX_MAX:
            raise UsageError(f"term {term} is behind {self._term}", hint="a newer owner has written here")
        self._term = term

    def newest_snapshot(self) -> Snapshot | None:
        """Read from storage at every call: the journal keeps no second copy of the state in memory."""
        if not self._snapshot_index:
            return None
        name = snapshot_name(self._snapshot_index)
        snapshot = decode_snapshot(self._storage.read(name), self._snapshot_index)
        if snapshot is None:
            raise corrupt(name, 0, "the snapshot verified before and no longer does")
        return snapshot

    def replay(self, after: int | None = None) -> Iterator[Record]:
        """The records behind the newest snapshot (or `after`), in order, as they stand at this call."""
        base = self._snapshot_index if after is None else after
        oldest = next(iter(segments(self._storage.names())))
        if base < oldest - 1:
            raise UsageError(f"the records before {oldest} are gone", hint="begin with the newest snapshot")
        return self._replay(base, self._end.index)

    # What it does

    def append(self, kind: int, payload: bytes) -> int:
        """Appends one record and returns its index. It survives the process; it is durable after `sync`."""
        return self.append_many(((kind, payload),))

    def append_many(self, batch: Iterable[tuple[int, bytes]]) -> int:
        """Appends (kind, payload) pairs in one write: all, or an error and none. Returns the last index."""
        self._check_open()
        batch = tuple(batch)
        sizes = [len(payload) for _, payload in batch]
        if not sizes:
            return self._end.index
        if max(sizes) > self._limits.record_bytes_max:
            raise InvalidPayload(
                f"a record of {max(sizes)} bytes; the limit is {self._limits.record_bytes_max}",
                hint="keep a large value as an artifact and journal its hash",
            )
        self._make_room(sum(sizes) + RECORD_HEAD_BYTES * len(sizes))
        first, term, seed = self._end.index + 1, self._term, self._seed
        parts: list[bytes] = []
        crc = 0
        for index, (kind, payload) in enumerate(batch, first):
            crc = encode_record(parts, seed, (term, index, kind, payload))
        data = b"".join(parts)
        try:
            self._storage.append(data)
        except OSError as error:
            self._refuse_or_fail(error, f"{len(sizes)} records")
        self._size_bytes += len(data)
        last = first + len(sizes) - 1
        self._end = Chain(term, last, crc)
        return last

    def sync(self) -> int:
        """Makes every record durable that was appended before the call; returns the durable index."""
        with self._switching:
            self._check_open()
            return self._sync_locked()

    def snapshot(self, state: bytes, at: Position | None = None) -> None:
        """Keeps `state` as what the records up to `at` (default: all) lead to; drops what it covers."""
        at = at or self.position
        if not self._snapshot_index <= at.index <= self._end.index:
            raise UsageError(
                f"a snapshot at {at.index}: the journal holds {self._snapshot_index} to {self._end.index}"
            )
        self.sync()  # A snapshot ahead of its log would hide that the log lost its end.
        self._write_snapshot(Snapshot(at.term, at.index, state))
        self._snapshot_index = at.index
        self._turn_page = True
        self._drop_covered(SNAPSHOTS_KEPT)

    def install(self, snapshot: Snapshot) -> None:
        """Takes over a state that is ahead of this journal: a replica's, or a backup's into a new folder."""
        if snapshot.index <= self._end.index or not self._term <= snapshot.term <= INDEX_MAX:
            raise UsageError(f"the snapshot at {snapshot.index} is not ahead of {self._end.index}")
        with self._switching:
            self._check_open()
            self._write_snapshot(snapshot)
            try:
                self._begin_segment_behind(snapshot)
            except DiskFull:
                # The snapshot is there, the segment behind it is not. Opening the folder anew mends that.
                self._state = "failed"
                raise
        self._drop_covered(1)  # The log behind the older snapshots does not lead up to this one.

    def close(self) -> None:
        """Lets go of the folder. Does not sync: what must be durable was waited for."""
        with self._switching:
            if self._state != "closed":
                self._state = "closed"
                self._storage.close()

    # Recovery

    def _recover(self) -> Recovery:
        for name in self._storage.names():
            if name.endswith(_TEMPORARY):
                self._storage.remove(name)
        snapshot, damaged = self._find_snapshot()
        torn_file, torn_bytes, last_name = "", 0, ""
        base = snapshot.index if snapshot else 0
        wanted = list(needed(segments(self._storage.names()), base).values())
        if damaged and not snapshot and not wanted:
            raise corrupt(
                damaged[0],
                0,
                "the snapshot does not verify and there are no records to rebuild its state from",
            )
        for name, data, found_records in self._read_segments(base):
            end = SEGMENT_HEAD_BYTES
            for found in found_records:
                end = found.end
            if end != len(data):
                self._cut_torn_tail(name, data, end, is_last=name == wanted[-1])
                torn_file, torn_bytes = name, len(data) - end
            last_name = name
        if last_name and self._end.index >= base:
            self._size_bytes = self._storage.open(last_name)
            self._sync_locked()  # Replay may return only what a power cut can no longer take back.
        elif snapshot:
            self._begin_segment_behind(snapshot)
        else:
            self._begin_segment(self._end)
        self._term = max(self._term, self._end.term)
        self._snapshot_index = base
        for name in damaged:
            self._storage.rename(name, name + _DAMAGED)
        return Recovery(base, self._end.index, torn_file, torn_bytes, damaged)

    def _find_snapshot(self) -> tuple[Snapshot | None, tuple[str, ...]]:
        """The newest that verifies. An older one is no guess: the records behind it must lead on."""
        damaged: list[str] = []
        for index, name in reversed(snapshots(self._storage.names()).items()):
            snapshot = decode_snapshot(self._storage.read(name), index)
            if snapshot is not None:
                return snapshot, tuple(damaged)
            damaged.append(name)
        return None, tuple(damaged)

    def _read_segments(self, base: int) -> Iterator[tuple[str, bytes, Iterator[Found]]]:
        """Name, bytes and records of every segment behind `base`; leaves the end of the log in `_end`."""
        chain: Chain | None = None
        for first, name in needed(segments(self._storage.names()), base).items():
            data = self._storage.read(name)
            head = decode_head(name, first, data)
            if chain is None and first > base + 1:
                raise corrupt(name, 0, f"records {base + 1} to {first - 1} are missing")
            chain = chain or Chain(head.term, first - 1, head.previous_crc)
            chain.enter(name, head)
            self._end, self._seed = chain, head.seed
            yield name, data, chain.walk(name, data, head.seed)

    def _cut_torn_tail(self, name: str, data: bytes, end: int, *, is_last: bool) -> None:
        if not is_last:
            raise corrupt(
                name, end, "a bad record in a segment that was synced before the next one was begun"
            )
        behind = valid_behind(data, end, self._seed)
        if behind is not None:
            raise corrupt(name, end, f"a bad record, and a valid one behind it at byte {behind}")
        self._storage.truncate(name, end)

    def _replay(self, base: int, last: int) -> Iterator[Record]:
        chain = Chain(0, 0, 0)
        for first, name in needed(segments(self._storage.names()), base).items():
            if first > last:
                return
            data = self._storage.read(name)
            head = decode_head(name, first, data)
            chain = Chain(head.term, first - 1, head.previous_crc)
            for found in chain.walk(name, data, head.seed):
                if found.record.index > last:
                    return
                if found.record.index > base:
                    yield found.record
        if chain.index < last:
            raise corrupt(
                segment_name(last), 0, f"record {chain.index + 1} verified before and no longer does"
            )

    # Files

    def _make_room(self, batch_bytes: int) -> None:
        room_bytes = self._limits.segment_bytes_max
        if batch_bytes > room_bytes:
            raise InvalidPayload(
                f"a batch of {batch_bytes} bytes; a segment holds {room_bytes}", hint="append it in parts"
            )
        has_records = self._size_bytes > SEGMENT_HEAD_BYTES
        if has_records and (self._turn_page or self._size_bytes + batch_bytes > room_bytes):
            # The loop waits for one fdatasync a segment; group commit has left it little to do.
            with self._switching:
                self._check_open()
                self._sync_locked()
                self._begin_segment(self._end)

    def _begin_segment_behind(self, snapshot: Snapshot) -> None:
        """The log continues behind a snapshot that it does not lead up to."""
        self._begin_segment(Chain(snapshot.term, snapshot.index, crc32(snapshot.state)))
        self._term = max(self._term, snapshot.term)
        self._snapshot_index = snapshot.index

    def _begin_segment(self, end: Chain) -> None:
        head = SegmentHead(end.index + 1, end.term, end.crc)
        name = segment_name(head.first_index)
        self._publish(name, head.encode())
        try:
            self._size_bytes = self._storage.open(name)
        except OSError as error:
            self._fail(error)
        self._end, self._seed, self._durable_index = end, head.seed, end.index
        self._turn_page = False

    def _write_snapshot(self, snapshot: Snapshot) -> None:
        if len(snapshot.state) > SNAPSHOT_BYTES_MAX:
            raise InvalidPayload(
                f"a snapshot of {len(snapshot.state)} bytes; the limit is {SNAPSHOT_BYTES_MAX}"
            )
        self._publish(snapshot_name(snapshot.index), *encode_snapshot(snapshot))

    def _publish(self, name: str, *parts: bytes) -> None:
        """A file that is there whole or not at all, under its name, after a power cut too."""
        temporary = name + _TEMPORARY
        try:
            self._storage.write(temporary, *parts)
        except OSError as error:
            self._refuse_or_fail(error, name)
        try:
            self._storage.rename(temporary, name)
            self._storage.sync_folder()
        except OSError as error:
            self._fail(error)

    def _drop_covered(self, snapshots_kept: int) -> None:
        """Removes older snapshots, and the segments that end before the oldest one kept."""
        present = snapshots(self._storage.names())
        kept = sorted(present)[-snapshots_kept:]
        by_first_index = segments(self._storage.names())
        still_needed = needed(by_first_index, kept[0] if len(kept) == snapshots_kept else 0)
        try:
            for name in [name for index, name in present.items() if index not in kept]:
                self._storage.remove(name)
            for name in [name for first, name in by_first_index.items() if first not in still_needed]:
                self._storage.remove(name)
        except OSError as error:
            self._fail(error)

    def _sync_locked(self) -> int:
        upto = self._end.index  # Read before the fdatasync: a record appended during it is not covered.
        try:
            self._storage.sync()
        except OSError as error:
            self._fail(error)
        self._durable_index = upto
        return upto

    def _check_open(self) -> None:
        if self._state == "failed":
            raise JournalFailed("the journal failed earlier and takes nothing more")
        if self._state == "closed":
            raise UsageError("the journal is closed")

    def _refuse_or_fail(self, error: OSError, what: str) -> NoReturn:
        if error.errno in _NO_ROOM:
            raise DiskFull(f"no room for {what}: {error.strerror}") from error
        self._fail(error)

    def _fail(self, error: OSError) -> NoReturn:
        self._state = "failed"
        raise JournalFailed(f"the disk failed under the journal: {error}") from error
