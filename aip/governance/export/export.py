"""Making an export: the entries that were asked for, in a form that others read, and the proof beside them.

What an export guarantees to whoever verifies it (`verify_export.py`)
  - every record was made of an entry of the log that the checkpoint signs, and of nothing else;
  - the records stand in the log's order, and where the export says *complete*, no entry of its range is missing;
  - the policy revision in force at its beginning, and those activated since, with the entries that say so.
What it does not
  - that what a filter left out does not fit the filter: gaps are hashes. Ask for a range without filters if that matters.
  - that a policy revision named as "in force at the beginning" is the latest before it: what lies between is a gap too.
  - that producers told the log everything. What they numbered and lost is counted (`lost`).

A range is a range of *entries*. Times choose it: from the first entry in time to the last one, with all that stands between,
since entries of several producers interleave. What retention dropped inside it is left out, as a gap. Everything streams: a
million entries need no more memory than ten.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

import msgspec

from ...errors import NotFound
from . import fact, proof_file
from .csv import Csv
from .form import Form, NotVerified
from .jsonl import JsonLines
from .ocsf import Ocsf
from .proof_file import CONTEXTS_MAX, Revision
from .pruned_tree import Frontier, Nodes, gap_nodes
from .selection import Selection

FORMS: dict[str, type[Form]] = {form.name: form for form in (JsonLines, Csv, Ocsf)}

COMPLETE = (
    "Every entry of the log from {first} to {last} is in this export, {entries} in all, in the log's order. "
    "The log had {size} entries when its checkpoint was signed."
)
PARTIAL = (
    "This export holds {entries} of the {range} entries of the log from {first} to {last}: those that fit what was asked for. "
    "The others are proved to exist, as hashes; that none of them fits is the word of whoever exported. "
    "The log had {size} entries when its checkpoint was signed."
)


class Log(Protocol):
    """The log as far as a signed checkpoint reaches."""

    @property
    def note(self) -> str:
        """The signed checkpoint."""

    @property
    def size(self) -> int: ...

    @property
    def root(self) -> bytes: ...

    @property
    def tree(self) -> Nodes: ...

    def lines(self, first: int, end: int) -> Iterator[bytes]:
        """Entries [first, end) as they stand, without their newlines."""


@dataclass(slots=True)
class Tally:
    """What was counted while entries passed by: by whoever writes an export, and again by whoever verifies it."""

    entries: int = 0
    lost: int = 0
    first_at: float | None = None
    last_at: float | None = None
    revisions: list[Revision] = field(default_factory=list)

    def entry(self, entry: fact.Entry) -> None:
        self.entries += 1
        at = float(entry["at"])
        self.first_at = at if self.first_at is None else min(self.first_at, at)
        self.last_at = at if self.last_at is None else max(self.last_at, at)
        if entry["kind"] == "audit.gap":
            detail = fact.detail_of(entry)
            self.lost += int(detail.get("to", 0)) - int(detail.get("from", 0)) + 1
        self.context(entry)

    def context(self, entry: fact.Entry) -> None:
        """An entry that tells of a policy revision, be it part of the export or beside it."""
        if (revision := fact.revision_of(entry)) and len(self.revisions) < CONTEXTS_MAX:
            self.revisions.append(Revision(int(entry["index"]), float(entry["at"]), revision))


@dataclass(frozen=True, slots=True)
class Scope:
    """Which entries an export is about: [first, end), and the policy revision that was in force before them."""

    first: int
    end: int
    revision_before: int | None


def scope_of(entries: Iterable[dict[str, Any]], selection: Selection) -> Scope:
    """The range that the times choose. Raises `NotFound` where no entry is in time."""
    first = end = revision = None
    for entry in entries:
        if selection.in_time(entry):
            index = int(entry["index"])
            first = index if first is None else first
            end = index + 1
        elif first is None and fact.revision_of(entry):
            revision = int(entry["index"])
    if first is None or end is None:
        raise NotFound("the log has no entry in that time", hint="see `aip audit query --since … --until …`")
    return Scope(first, end, revision)


def statement(entries: int, first: int, end: int, size: int) -> str:
    """What an export says of itself. Whoever verifies makes it anew from what he found."""
    text = COMPLETE if entries == end - first else PARTIAL
    return text.format(entries=entries, first=first, last=end - 1, range=end - first, size=size)


def ended(tally: Tally, first: int, end: int, size: int, written: int, sha256: str) -> proof_file.End:
    """The last word of a proof, from what was counted."""
    return proof_file.End(
        entries=tally.entries,
        left_out=end - first - tally.entries,
        lost=tally.lost,
        first_at=tally.first_at,
        last_at=tally.last_at,
        revisions=tally.revisions,
        statement=statement(tally.entries, first, end, size),
        bytes=written,
        sha256=sha256,
    )


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be exported."""

    selection: Selection
    form: str
    file: str
    made_at: float
    made_by: str


def export(log: Log, order: Order, out: BinaryIO, proof: BinaryIO) -> proof_file.End:
    """Write the export to `out` and its proof to `proof`. Raises `NotVerified` where the log is not what its checkpoint signs."""
    scope = scope_of(map(_decode, log.lines(0, log.size)), order.selection)
    form = FORMS[order.form]()
    everything = order.selection.everything_in_time
    proof_file.write(proof, _header(log, order, scope, form))
    work = _Export(log, form, _Hashing(out), proof)
    work.write(form.begin())
    if scope.revision_before is not None:
        before = next(log.lines(scope.revision_before, scope.revision_before + 1))
        work.context(scope.revision_before, before)
    for line in log.lines(scope.first, scope.end):
        entry = _decode(line)
        index = int(entry["index"])
        if everything or order.selection.in_kind(entry):
            work.record(index, line, entry)
        elif fact.revision_of(entry) and work.contexts < CONTEXTS_MAX:
            work.context(index, line)
    work.write(form.end(log.note, order.made_at))
    return work.end(scope)


def _header(log: Log, order: Order, scope: Scope, form: Form) -> proof_file.Header:
    return proof_file.Header(
        aip_export=proof_file.VERSION,
        form=form.name,
        form_version=form.version,
        file=order.file,
        made_at=order.made_at,
        made_by=order.made_by,
        asked=order.selection.stated(),
        first=scope.first,
        end=scope.end,
        checkpoint=log.note,
    )


def _decode(line: bytes) -> dict[str, Any]:
    try:
        entry = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise NotVerified(
            f"an entry of the log cannot be read: {error}", hint="see `aip audit verify`"
        ) from None
    if not isinstance(entry, dict):
        raise NotVerified("a line of the log is no entry", hint="see `aip audit verify`")
    return entry


class _Hashing:
    """A file that knows how much was written to it, and its digest."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self.sha256.update(data)
        self.size += len(data)


class _Export:
    """One export while it is written: the tree so far, and what was counted."""

    def __init__(self, log: Log, form: Form, out: _Hashing, proof: BinaryIO) -> None:
        self._log, self._form, self._out, self._proof = log, form, out, proof
        self._tree = Frontier()
        self._tally = Tally()
        self.contexts = 0

    def write(self, data: bytes) -> None:
        self._out.write(data)

    def record(self, index: int, line: bytes, entry: dict[str, Any]) -> None:
        self._skip_to(index)
        self._tree.leaf(line)
        self._tally.entry(entry)
        self.write(self._form.encode(line, entry))

    def context(self, index: int, line: bytes) -> None:
        self._skip_to(index)
        self._tree.leaf(line)
        self._tally.context(_decode(line))
        self.contexts += 1
        proof_file.write(self._proof, proof_file.Context(index, line.decode()))

    def _skip_to(self, index: int) -> None:
        first = self._tree.size
        if first > index:
            raise NotVerified(
                f"entry {index} of the log stands behind entry {first - 1}", hint="see `aip audit verify`"
            )
        if first < index:
            nodes = gap_nodes(self._log.tree, first, index)
            self._tree.gap(index, nodes)
            proof_file.write(self._proof, proof_file.gap(first, index, nodes))

    def end(self, scope: Scope) -> proof_file.End:
        self._skip_to(self._log.size)
        if self._tree.root() != self._log.root:
            raise NotVerified(
                "the log on disk is not what its checkpoint signs: nothing was exported",
                hint="see `aip audit verify`",
            )
        end = ended(
            self._tally, scope.first, scope.end, self._log.size, self._out.size, self._out.sha256.hexdigest()
        )
        proof_file.write(self._proof, end)
        return end
