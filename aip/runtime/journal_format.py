"""The bytes of a journal: records, segments, snapshots. `journal.py` says what they guarantee together.

Files of a journal's folder (numbers are little-endian; CRC is zlib's CRC-32)
    segment-<first index>.log
        head       magic 8s | first index u64 | term u64 | CRC of the record before u32 | CRC of this head u32
        records    mark 2s | CRC u32 | length u32 | term u64 | index u64 | kind
                                 u8 | payload
    snapshot-<index>.snap
        magic 8s | index u64 | term u64 | length u64 | CRC u32 | state

A record's CRC covers all that follows it and starts from the CRC of its segment's head, so that a record is
valid in its own segment only; each head names the CRC of the record before it, so that a segment is valid
in its own journal only. The mark lets the search for valid records behind a bad one run at the speed of
`bytes.find`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from struct import Struct
from zlib import crc32

import msgspec

from ..errors import Corrupt

INDEX_MAX = 2**63 - 1
SEARCH_BYTES_MAX = (
    2**30
)  # CRC work on a bad tail. Only contents made to look like records need more, and they are refused.

_SEGMENT_MAGIC = b"AIPjrnl1"
_SNAPSHOT_MAGIC = b"AIPsnap1"
_MARK = b"\xa1\x9e"
_SEGMENT_HEAD = Struct("<8sQQI")
_SNAPSHOT_HEAD = Struct("<8sQQQ")
_PREFIX = Struct("<2sI")  # mark, CRC
_BODY = Struct("<IQQB")  # length, term, index, kind
_CRC = Struct("<I")

SEGMENT_HEAD_BYTES = _SEGMENT_HEAD.size + _CRC.size
RECORD_HEAD_BYTES = _PREFIX.size + _BODY.size


class Record(msgspec.Struct, frozen=True, gc=False):
    """One thing that happened. `kind` (0 to 255) belongs to the journal's owner, as does the payload."""

    term: int
    index: int
    kind: int
    payload: bytes


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """The state that the records up to `index`, the last of them written in `term`, lead to."""

    term: int
    index: int
    state: bytes


class Found(msgspec.Struct, frozen=True, gc=False):
    """A valid record in a segment, its CRC, and the offset of the byte behind it."""

    record: Record
    crc: int
    end: int


def corrupt(name: str, offset: int, why: str) -> Corrupt:
    return Corrupt(
        f"{name} at byte {offset}: {why}",
        hint="restore the folder from a replica or a backup; AIP does not guess at state",
        file=name,
        offset=offset,
    )


# Names


def segment_name(first_index: int) -> str:
    return f"segment-{first_index:020d}.log"


def snapshot_name(index: int) -> str:
    return f"snapshot-{index:020d}.snap"


def segments(names: Iterable[str]) -> dict[int, str]:
    """The segments among these names by their first index, ascending."""
    return _numbered(names, "segment-", ".log")


def snapshots(names: Iterable[str]) -> dict[int, str]:
    """The snapshots among these names by their index, ascending."""
    return _numbered(names, "snapshot-", ".snap")


def needed(by_first_index: dict[int, str], base: int) -> dict[int, str]:
    """The segments that may hold records behind `base`. A segment ends where the next begins."""
    firsts = list(by_first_index)
    return {
        first: by_first_index[first]
        for first, next_first in zip(firsts, [*firsts[1:], INDEX_MAX + 1], strict=False)
        if next_first > base + 1
    }


def _numbered(names: Iterable[str], prefix: str, suffix: str) -> dict[int, str]:
    found = {}
    for name in names:
        digits = name[len(prefix) : -len(suffix)]
        if name == f"{prefix}{digits}{suffix}" and digits.isascii() and digits.isdigit():
            found[int(digits)] = name
    return dict(sorted(found.items()))


# Records


def encode_record(parts: list[bytes], seed: int, record: tuple[int, int, int, bytes]) -> int:
    """Adds the bytes of a (term, index, kind, payload) to `parts`; returns its CRC."""
    term, index, kind, payload = record
    body = _BODY.pack(len(payload), term, index, kind)
    crc = crc32(payload, crc32(body, seed))
    parts += (_PREFIX.pack(_MARK, crc), body, payload)
    return crc


def record_at(data: bytes, offset: int, seed: int) -> Found | None:
    """The record that starts here, if it is whole and its CRC holds."""
    payload_at = offset + RECORD_HEAD_BYTES
    if payload_at > len(data):
        return None
    mark, crc = _PREFIX.unpack_from(data, offset)
    body_at = offset + _PREFIX.size
    length, term, index, kind = _BODY.unpack_from(data, body_at)
    end = payload_at + length
    if mark != _MARK or end > len(data):
        return None
    payload = data[payload_at:end]
    if crc32(payload, crc32(data[body_at:payload_at], seed)) != crc:
        return None
    return Found(Record(term, index, kind, payload), crc, end)


def valid_behind(data: bytes, offset: int, seed: int) -> int | None:
    """Offset of the first valid record behind `offset`, where the record at `offset` itself is bad."""
    budget_bytes = SEARCH_BYTES_MAX
    at = data.find(_MARK, offset + 1)
    while at >= 0:
        if at + RECORD_HEAD_BYTES <= len(data):
            (length,) = _CRC.unpack_from(data, at + _PREFIX.size)
            budget_bytes -= length if at + length <= len(data) else 0
        if budget_bytes < 0 or record_at(data, at, seed) is not None:
            return at
        at = data.find(_MARK, at + 1)
    return None


# Segments


@dataclass(frozen=True, slots=True)
class SegmentHead:
    first_index: int
    term: int  # of the record before the first
    previous_crc: int  # of the record before the first

    def encode(self) -> bytes:
        head = _SEGMENT_HEAD.pack(_SEGMENT_MAGIC, self.first_index, self.term, self.previous_crc)
        return head + _CRC.pack(crc32(head))

    @property
    def seed(self) -> int:
        """Where the CRCs of the segment's records start."""
        return _CRC.unpack_from(self.encode(), _SEGMENT_HEAD.size)[0]  # type: ignore[no-any-return]


def decode_head(name: str, first_index: int, data: bytes) -> SegmentHead:
    """The head of a segment. A head is published whole, so that a bad one is damage, never a crash."""
    if len(data) < SEGMENT_HEAD_BYTES:
        raise corrupt(name, 0, "the head of the segment is cut off")
    magic, first, term, previous_crc = _SEGMENT_HEAD.unpack_from(data)
    head = SegmentHead(first, term, previous_crc)
    if magic != _SEGMENT_MAGIC or head.encode() != data[:SEGMENT_HEAD_BYTES]:
        raise corrupt(name, 0, "the head of the segment does not verify")
    if first != first_index:
        raise corrupt(name, 0, f"the head says first index {first}, the name says {first_index}")
    return head


@dataclass(slots=True)
class Chain:
    """The end of the log while its segments are walked in order: what the next record must continue."""

    term: int
    index: int
    crc: int

    def enter(self, name: str, head: SegmentHead) -> None:
        if head.first_index != self.index + 1:
            raise corrupt(
                name, 0, f"the segment begins at record {head.first_index}, the log ends at {self.index}"
            )
        if head.previous_crc != self.crc or head.term != self.term:
            raise corrupt(name, 0, "the segment does not continue the one before it")

    def walk(self, name: str, data: bytes, seed: int) -> Iterator[Found]:
        """The valid records from the start of the segment, up to the first bad byte or the end."""
        offset = SEGMENT_HEAD_BYTES
        while (found := record_at(data, offset, seed)) is not None:
            record = found.record
            if record.index != self.index + 1 or record.term < self.term:
                raise corrupt(
                    name,
                    offset,
                    f"record {record.index} of term {record.term} follows {self.index} of {self.term}",
                )
            self.term, self.index, self.crc, offset = record.term, record.index, found.crc, found.end
            yield found


# Snapshots


def encode_snapshot(snapshot: Snapshot) -> tuple[bytes, bytes]:
    """Head and state, apart, so that a large state is not copied."""
    head = _SNAPSHOT_HEAD.pack(_SNAPSHOT_MAGIC, snapshot.index, snapshot.term, len(snapshot.state))
    return head + _CRC.pack(crc32(snapshot.state, crc32(head))), snapshot.state


def decode_snapshot(data: bytes, index: int) -> Snapshot | None:
    """The snapshot, or None where its bytes do not verify."""
    if len(data) < _SNAPSHOT_HEAD.size + _CRC.size:
        return None
    magic, own_index, term, length = _SNAPSHOT_HEAD.unpack_from(data)
    snapshot = Snapshot(term, own_index, data[_SNAPSHOT_HEAD.size + _CRC.size :])
    if magic != _SNAPSHOT_MAGIC or own_index != index or length != len(snapshot.state):
        return None
    return snapshot if encode_snapshot(snapshot)[0] == data[: _SNAPSHOT_HEAD.size + _CRC.size] else None
