"""The audit log: one ordered, hash-chained journal of what was refused, done, killed and admitted.

An entry is one line of JSON. Its `hash` is SHA-256 over the canonical JSON (sorted keys, no spaces, UTF-8) of everything else in
it, and `previous` is the hash of the entry before, so a changed, removed, added or re-ordered entry breaks the chain from there
on. Anyone can verify the file with nothing but a JSON reader and SHA-256; `verify` here is one way.

Producers number what they send (`producer`, `number`). A number that is missing becomes an `audit.gap` entry: loss is recorded,
never silent. Ordinary admissions come as one `flush` entry per flush of a cell, with their count and the Merkle root (RFC 6962)
of their digests.

What it does not do yet: sign tree heads, keep bodies, index for queries. It detects tampering with the middle; someone who can
rewrite the whole file can rewrite the whole chain, until a head is kept elsewhere (`aip audit verify` prints it).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

GENESIS = "0" * 64
PROBLEMS_MAX = 100
LINE_BYTES_MAX = 1 << 20


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


def canonical(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(
        entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def entry_hash(entry: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical({k: v for k, v in entry.items() if k != "hash"})).hexdigest()


class AuditChain:
    """Turns notes into chained lines. Pure: whoever calls it writes the lines, in order."""

    def __init__(self, index: int = 0, head: str = GENESIS) -> None:
        self.index = index
        self.head = head
        self._producers: dict[str, int] = {}

    def lines(self, batch: Batch) -> bytes:
        lines = []
        expected = self._producers.get(batch.producer)
        for note in batch.notes:
            if expected is not None and note.number < expected:
                continue  # Sent twice: its first copy is in the log.
            if expected is not None and note.number > expected:
                lost = {"from": expected, "to": note.number - 1}
                lines.append(self._line(batch.producer, -1, note.at, "audit.gap", batch.producer, lost))
            lines.append(
                self._line(batch.producer, note.number, note.at, note.kind, note.subject, note.detail)
            )
            expected = note.number + 1
        if expected is not None:
            self._producers[batch.producer] = expected
        return b"".join(lines)

    def _line(
        self, producer: str, number: int, at: float, kind: str, subject: str, detail: Mapping[str, Any]
    ) -> bytes:
        entry: dict[str, Any] = {
            "index": self.index,
            "at": round(at, 6),
            "producer": producer,
            "number": number,
            "kind": kind,
            "subject": subject,
            "detail": detail,
            "previous": self.head,
        }
        self.head = entry["hash"] = entry_hash(entry)
        self.index += 1
        return canonical(entry) + b"\n"


@dataclass(slots=True)
class Report:
    """What verification found. `ok` means: every entry's hash holds, each names the one before it, none is missing."""

    entries: int = 0
    ok: bool = True
    problems: list[str] = field(default_factory=list)
    head: str = GENESIS
    first_at: float | None = None
    last_at: float | None = None
    gaps: int = 0
    torn: bool = False

    def problem(self, text: str) -> None:
        self.ok = False
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(text)


def log_path(folder: Path) -> Path:
    return folder / "audit.jsonl"


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.readline(LINE_BYTES_MAX), b"")


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Entries in order, as they stand; a torn last line is left out."""
    for line in _lines(path):
        if line.endswith(b"\n"):
            yield json.loads(line)


def verify(path: Path) -> Report:
    """Check the whole chain. Needs nothing but the file."""
    report = Report()
    for number, line in enumerate(_lines(path), 1):
        if len(line) == LINE_BYTES_MAX:
            report.problem(f"line {number}: longer than an entry can be; what follows was not checked")
            break
        if not line.endswith(b"\n"):
            report.torn = True  # The writer died inside the last line; nobody was told that it stands.
            break
        try:
            entry = json.loads(line)
            stated, previous, index = entry["hash"], entry["previous"], entry["index"]
        except (ValueError, KeyError, TypeError) as error:
            report.problem(f"line {number}: not an entry ({type(error).__name__}: {error})")
            continue
        if index != number - 1:
            report.problem(
                f"line {number}: entry says it is number {index}; entries are missing, added or moved"
            )
        if previous != report.head:
            report.problem(f"line {number}: does not follow the entry before it")
        if entry_hash(entry) != stated:
            report.problem(f"line {number}: its content does not have its hash; it was changed")
        report.head = stated
        report.entries += 1
        report.gaps += entry.get("kind") == "audit.gap"
        report.first_at = entry.get("at") if report.first_at is None else report.first_at
        report.last_at = entry.get("at", report.last_at)
    return report


def resume(path: Path) -> tuple[AuditChain, int]:
    """The chain as it goes on after the last whole entry, and the size in bytes up to it."""
    if not path.exists():
        return AuditChain(), 0
    chain, size = AuditChain(), 0
    last: dict[str, Any] | None = None
    producers: dict[str, int] = {}
    for line in _lines(path):
        if not line.endswith(b"\n"):
            break
        size += len(line)
        last = json.loads(line)
        if last["number"] >= 0:
            producers[last["producer"]] = last["number"] + 1
    if last is not None:
        chain = AuditChain(last["index"] + 1, last["hash"])
        chain._producers = producers
    return chain, size


def select(
    entries: Iterable[dict[str, Any]], kinds: Iterable[str] = (), subject: str = ""
) -> Iterator[dict[str, Any]]:
    """Entries of these kinds (by prefix) and with this text in their subject."""
    prefixes = tuple(kinds)
    for entry in entries:
        if (not prefixes or entry["kind"].startswith(prefixes)) and subject in entry["subject"]:
            yield entry
