"""One entry of the audit log: a line of canonical JSON that names the entry before it by its hash.

    {"at":1.5,"detail":{},"hash":"…","index":7,"kind":"effect.begun","number":3,"previous":"…","producer":"cell-1#2","subject":"…"}

`hash` is SHA-256 over the line without its newline and without its `hash` member; `previous` is the hash of the entry before. The
leaf of the Merkle tree is the RFC 6962 leaf hash of the whole line without its newline, so that who has a line has the leaf.
Both are taken over the bytes as they stand: lines of before RFC 8785 was followed (they differ in how numbers are spelt) keep
their hashes.

`number` counts a producer's notes; the log's own entries (`audit.…`) have -1. A missing number becomes an `audit.gap` entry, a
number that was there already is passed over. A note that has no canonical form, or is longer than a line may be, is entered as
well as it can be said: refusing it would keep its producer from saying anything after it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from json.encoder import encode_basestring
from typing import Any

import msgspec

from ..errors import InvalidPayload
from .canonical import NotCanonical, canonical, number, speakable

GENESIS = "0" * 64
LINE_BYTES_MAX = 1 << 20
PRODUCERS_MAX = 4_096  # Producers whose last number is remembered: a process that ended sends nothing twice.
PRODUCERS_BYTES_MAX = LINE_BYTES_MAX // 4  # Of them in the first line of a segment.
GAP = "audit.gap"
SEGMENT = "audit.segment"
DROPPED = "audit.dropped"
ERASED = "audit.erased"
OWN = -1  # The number of the log's own entries.

_HASH_MEMBER = b',"hash":"'
_HASH_MEMBER_BYTES = len(_HASH_MEMBER) + 64 + 1


class Noted(msgspec.Struct, frozen=True, array_like=True):
    """What a producer sends: not in the log yet."""

    number: int
    at: float
    kind: str
    subject: str
    detail: dict[str, Any]


class Batch(msgspec.Struct, frozen=True, array_like=True):
    producer: str
    notes: list[Noted]
    durable: bool = False


class Head(msgspec.Struct, frozen=True, gc=False):
    """The members of an entry that carry the chain; the others are passed over in reading."""

    at: float
    hash: str
    index: int
    kind: str
    number: int
    previous: str
    producer: str


decode_head = msgspec.json.Decoder(Head).decode


def entry_hash(entry: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical({k: v for k, v in entry.items() if k != "hash"})).hexdigest()


def line_hash(line: bytes) -> str:
    """`entry_hash` of a line without its newline, from its bytes.

    All members behind `hash` are numbers and strings, and in a string the quotes of `,"hash":"` would be escaped: the last
    occurrence is the member itself.
    """
    at = line.rfind(_HASH_MEMBER)
    return hashlib.sha256(line[:at] + line[at + _HASH_MEMBER_BYTES :]).hexdigest() if at >= 0 else ""


class AuditChain:
    """Turns notes into chained lines. Pure: whoever calls it writes the lines, in order."""

    def __init__(
        self, index: int = 0, head: str = GENESIS, producers: Mapping[str, int] | None = None
    ) -> None:
        self.index = index
        self.head = head
        self._producers = dict(producers or {})

    def segment(self, at: float, after: str) -> bytes:
        """The first line of a segment: what the chain has to know of those before it to go on without reading them."""
        producers: dict[str, int] = {}
        room = PRODUCERS_BYTES_MAX
        for producer, expected in reversed(self._producers.items()):  # The last heard of first.
            room -= len(producer.encode()) + 30
            if room > 0:
                producers[producer] = expected
        told = dict(reversed(producers.items()))
        return self.own(at, SEGMENT, after, {"begins": self.index, "producers": told})

    def lines(self, batch: Batch) -> bytes:
        return b"".join([line + b"\n" for line in self.entered(batch)])

    def entered(self, batch: Batch) -> list[bytes]:
        """The batch as lines without their newlines."""
        if any(note.number < 0 for note in batch.notes):
            raise InvalidPayload("the number of a note is 0 or more; below are the log's own entries")
        lines = []
        expected = self._producers.get(batch.producer)
        for note in batch.notes:
            if expected is not None and note.number < expected:
                continue  # Sent twice: its first copy is in the log.
            if expected is not None and note.number > expected:
                lost = {"from": expected, "to": note.number - 1}
                lines.append(self._line(batch.producer, OWN, note.at, GAP, batch.producer, lost))
            lines.append(
                self._line(batch.producer, note.number, note.at, note.kind, note.subject, note.detail)
            )
            expected = note.number + 1
        if expected is not None:
            self._expect(batch.producer, expected)
        return lines

    def own(self, at: float, kind: str, subject: str, detail: Mapping[str, Any]) -> bytes:
        """A line that the log says of itself."""
        return self._line("audit", OWN, at, kind, subject, detail)

    def mark(self, producer: str) -> tuple[int, str, str, int | None]:
        """Where the chain stands, for `back`: of the producers only this one's number will have changed."""
        return self.index, self.head, producer, self._producers.get(producer)

    def back(self, mark: tuple[int, str, str, int | None]) -> None:
        """The lines since the mark were not written."""
        self.index, self.head, producer, expected = mark
        if expected is None:
            self._producers.pop(producer, None)
        else:
            self._producers[producer] = expected

    def follow(self, line: bytes) -> Head:
        """Take over a line that stands already: the chain goes on behind it."""
        head = decode_head(line)
        self.index, self.head = head.index + 1, head.hash
        if head.number != OWN:
            self._expect(head.producer, head.number + 1)
        elif head.kind == SEGMENT:
            self._producers = dict(msgspec.json.decode(line)["detail"].get("producers", {}))
        return head

    def _expect(self, producer: str, next_number: int) -> None:
        self._producers.pop(producer, None)
        self._producers[producer] = next_number  # The last in the order of the dict is the last heard of.
        if len(self._producers) > PRODUCERS_MAX:
            del self._producers[next(iter(self._producers))]

    def _line(
        self, producer: str, number_: int, at: float, kind: str, subject: str, detail: Mapping[str, Any]
    ) -> bytes:
        try:
            told = canonical(detail)
        except NotCanonical:
            told = canonical(speakable(detail))
        if len(told) > LINE_BYTES_MAX - 8_000:  # What stays beside the detail is far below that.
            told = canonical({"cut_bytes": len(told), "sha256": hashlib.sha256(told).hexdigest()})
        before = b'{"at":%s,"detail":%s' % (_moment(at).encode(), told)
        after = (
            f',"index":{self.index},"kind":{_short(kind)},"number":{number_},"previous":"{self.head}",'
            f'"producer":{_short(producer)},"subject":{_short(subject)}}}'
        ).encode()
        self.head = hashlib.sha256(before + after).hexdigest()
        self.index += 1
        return before + b',"hash":"' + self.head.encode() + b'"' + after


def _moment(at: float) -> str:
    try:
        return number(round(at, 6))
    except NotCanonical:
        return "0"  # A clock that says NaN says nothing.


def _short(text: str) -> str:
    """A name as a JSON string of a bounded length, whatever a producer calls itself."""
    return encode_basestring(text[:1_000].encode("utf-8", "replace").decode())
