"""Verifying an export with nothing but the two files and a key: no platform, no Ray, no network.

    1  the checkpoint in the proof is signed by a trusted key (C2SP signed note)
    2  every record holds its entry's line; the entry's own hash holds, and it follows the entry before where that is there
    3  every record is, byte for byte, what its entry gives in that form
    4  the entries at their places, and the nodes of the gaps, come to the root of the checkpoint
    5  what the proof says of itself (range, counts, times, policy revisions, digest) is what was found

The first thing that does not hold is named with its line and ends the work: behind it nothing can be trusted to be in step.
Memory is bounded by the longest record, whatever the length of the export.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from ...errors import NotFound
from .. import note
from ..entry import GENESIS, LINE_BYTES_MAX, line_hash
from ..tree import Unverified
from . import proof_file
from .export import FORMS, Tally, ended
from .form import Form, NotVerified
from .proof_file import Context, End, Gap, Header
from .pruned_tree import Frontier

RECORD_LINE_BYTES_MAX = (
    4 * LINE_BYTES_MAX
)  # An entry's line inside JSON or CSV, every byte escaped, and what is made of it.


@dataclass(frozen=True, slots=True)
class Verified:
    """What is certain of an export."""

    file: str
    form: str
    origin: str
    size: int
    root: str
    witnesses: dict[str, int]
    first: int
    end: int
    complete: bool
    entries: int
    left_out: int
    lost: int
    first_at: float | None
    last_at: float | None
    revisions: list[proof_file.Revision]
    statement: str
    asked: dict[str, Any]


def verify_export(export: Path, trusted: Sequence[note.Verifier], witnesses_min: int = 0) -> Verified:
    """Raises `NotVerified`, which says what does not hold and where."""
    proof = proof_file.path_of(export)
    for path in (export, proof):
        if not path.is_file():
            raise NotFound(
                f"there is no {path}",
                hint=f"an export and its proof lie side by side: FILE and FILE{proof_file.SUFFIX}",
            )
    with export.open("rb") as data, proof.open("rb") as file:
        parts = proof_file.read(file)
        header = next(parts, None)
        if not isinstance(header, Header):
            raise NotVerified("the proof is empty")
        signed = _signed(header.checkpoint, trusted, witnesses_min)
        return _Verification(export.name, data, header, signed).run(parts)


class _Verification:
    def __init__(self, name: str, data: BinaryIO, header: Header, signed: note.Opened) -> None:
        self._name = name
        self._header = header
        self._checkpoint, self._witnesses = signed.checkpoint, signed.witnessed
        self._records = _Records(data, _form(header))
        self._tree = Frontier()
        self._tally = Tally()
        self._last: tuple[int, str] = (-1, GENESIS)

    def run(self, parts: Iterator[Header | Gap | Context | End]) -> Verified:
        self._records.begin()
        for part in parts:
            if isinstance(part, Gap):
                self._gap(part)
            elif isinstance(part, Context):
                self._context(part)
            elif isinstance(part, End):
                return self._end(part)
        raise NotVerified("the proof has no end")  # `proof_file.read` says so before.

    def _gap(self, part: Gap) -> None:
        self._entries_to(part.first)
        if part.end > self._checkpoint.size:
            raise NotVerified("the proof leaves out more entries than the log had")
        try:
            self._tree.gap(part.end, part.digests())
        except ValueError:
            raise NotVerified(f"the gap before entry {part.end} has not as many nodes as it must") from None

    def _context(self, part: Context) -> None:
        self._entries_to(part.index)
        line = part.entry.encode()
        self._tally.context(self._entry(line, f"the context of entry {part.index}"))
        self._tree.leaf(line)

    def _entries_to(self, end: int) -> None:
        """The entries of the export up to the next thing that the proof speaks of."""
        if end < self._tree.size or end > self._checkpoint.size:
            raise NotVerified("the parts of the proof are not in the order of the log")
        header = self._header
        while self._tree.size < end:
            if not header.first <= self._tree.size < header.end:
                raise NotVerified(f"entry {self._tree.size} is outside the range that the export is about")
            line = self._records.next(self._tree.size, self._entry)
            self._tree.leaf(line)
            self._tally.entry(msgspec.json.decode(line))

    def _entry(self, line: bytes, where: str) -> dict[str, Any]:
        """An entry whose own hash holds, at the place where the tree is, behind the one before."""
        try:
            entry = msgspec.json.decode(line)
            index, stated, previous = int(entry["index"]), str(entry["hash"]), str(entry["previous"])
            str(entry["kind"]), float(entry["at"])
        except (ValueError, KeyError, TypeError, msgspec.DecodeError) as error:
            raise NotVerified(f"{where}: no entry of a log ({type(error).__name__})") from None
        if index != self._tree.size:
            raise NotVerified(
                f"{where}: entry {index} stands where entry {self._tree.size} must; entries are missing, added or moved"
            )
        if line_hash(line) != stated:
            raise NotVerified(f"{where}: entry {index} does not have its hash; it was changed")
        if self._last[0] == index - 1 and previous != self._last[1]:
            raise NotVerified(f"{where}: entry {index} does not follow the entry before it")
        self._last = (index, stated)
        found: dict[str, Any] = entry
        return found

    def _end(self, stated: End) -> Verified:
        checkpoint, header, tally = self._checkpoint, self._header, self._tally
        self._entries_to(checkpoint.size)
        size, digest = self._records.end(header)
        if self._tree.root() != checkpoint.root:
            raise NotVerified(
                "the entries do not come to the root that was signed: one was changed, or the proof is another log's"
            )
        found = ended(tally, header.first, header.end, checkpoint.size, size, digest)
        for name in End.__struct_fields__:
            if getattr(found, name) != getattr(stated, name):
                raise NotVerified(
                    f"the proof says {name} {getattr(stated, name)!r}, and it is {getattr(found, name)!r}"
                )
        return Verified(
            file=self._name,
            form=header.form,
            origin=checkpoint.origin,
            size=checkpoint.size,
            root=checkpoint.root.hex(),
            witnesses=self._witnesses,
            first=header.first,
            end=header.end,
            complete=not found.left_out,
            entries=found.entries,
            left_out=found.left_out,
            lost=found.lost,
            first_at=found.first_at,
            last_at=found.last_at,
            revisions=found.revisions,
            statement=found.statement,
            asked=header.asked,
        )


class _Records:
    """The export's file, record by record, each written again and compared."""

    def __init__(self, data: BinaryIO, form: Form) -> None:
        self._data, self._form = data, form
        self._sha256 = hashlib.sha256()
        self._size = self._line = 0

    def begin(self) -> None:
        self._same(self._form.begin(), "the beginning")

    def next(self, index: int, check: Any) -> bytes:
        """The line of the entry `index`, after its record was found to be what that line gives."""
        first = self._read()
        where = f"line {self._line} of the export"
        if not first:
            raise NotVerified(f"the export ends before entry {index}: it was cut off")
        try:
            line = self._form.extract(first)
        except ValueError as error:
            raise NotVerified(f"{where}: {error}") from None
        self._same(self._form.encode(line, check(line, where)), where, first)
        return line

    def end(self, header: Header) -> tuple[int, str]:
        self._same(self._form.end(header.checkpoint, header.made_at), "the end")
        if self._read():
            raise NotVerified(
                f"line {self._line} of the export is one more than the proof knows: it was added"
            )
        return self._size, self._sha256.hexdigest()

    def _same(self, wanted: bytes, where: str, found: bytes = b"") -> None:
        while len(found) < len(wanted) and (more := self._read()):
            found += more
        if found != wanted:
            raise NotVerified(f"{where}: the record is not what its entry gives; it was changed")

    def _read(self) -> bytes:
        line = self._data.readline(RECORD_LINE_BYTES_MAX)
        self._line += bool(line)
        self._size += len(line)
        self._sha256.update(line)
        return line


def _signed(text: str, trusted: Sequence[note.Verifier], witnesses_min: int) -> note.Opened:
    try:
        note.verify(text, trusted, witnesses_min)
        return note.opened(text, trusted)
    except Unverified as error:
        raise NotVerified(
            f"the checkpoint: {error.message}", hint="is --trust the key of this log?"
        ) from None


def _form(header: Header) -> Form:
    kind = FORMS.get(header.form)
    form = kind() if kind is not None else None
    if form is None or form.version != header.form_version:
        raise NotVerified(
            f"this AIP does not write {header.form} version {header.form_version}, so it cannot compare",
            hint="verify it with the version of AIP that made it",
        )
    return form
