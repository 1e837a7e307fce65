"""Verifying a whole audit log, with nothing but its files: no platform, no key but public ones.

What is looked for, and the word that a problem begins with
    changed        a line's content does not have its hash; it is no entry; it is longer than one can be
    moved          an entry's number is not the one that is due: entries are missing, added or in another order
    broken chain   an entry does not follow the one before it
    missing        the log does not begin with entry 0, and no entry says that retention dropped what is not there
    cut tail       the log's own signed checkpoint covers more entries than there are
    rewritten      the entries do not have the root that a checkpoint states for them
    rollback       a checkpoint that was seen earlier covers more than the log now says it ever had: an older tree signed again
    split view     two signed checkpoints of one size with different roots
    tree           the kept leaf hashes are not those of the entries
    signature      the log's checkpoint is not signed with the key beside it

The last line without its newline is no problem but `torn`: the writer died inside it, and nobody was told that it stands. Is
it covered by a checkpoint, it is a cut tail all the same.

Lines are looked at a stretch at a time (`stretch.py`), in several processes where the caller allows it, and one by one where a
stretch does not hold.

`trusted` are checkpoints from elsewhere: a witness's, a print-out of last month. Without any, the log is held to its own last
checkpoint only, and who can rewrite the files and has the key can rewrite that too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec

from ..errors import UsageError
from .entry import DROPPED, GAP, GENESIS, LINE_BYTES_MAX, OWN, Head, decode_head, line_hash
from .note import Checkpoint, Unverified, Verifier
from .note import verify as verify_note
from .segments import checkpoint_path, open_segments, tree_path, verifier_path, witnessed_path
from .stretch import COUNTED, Span, Stretch, stretches
from .tree import HASH_BYTES, Frontier
from .tree_files import FileLevels

PROBLEMS_MAX = 100
LEAVES_AT_ONCE = 1_024  # Leaves that are compared with the kept ones, and folded, in one go.


@dataclass(slots=True)
class Report:
    """What verification found. `ok` means: every entry's hash holds, each names the one before it, none is missing, and all
    checkpoints that are known of the log hold."""

    entries: int = 0
    ok: bool = True
    problems: list[str] = field(default_factory=list)
    head: str = GENESIS
    first_at: float | None = None
    last_at: float | None = None
    gaps: int = 0
    torn: bool = False
    first: int = 0  # The first entry whose body is kept.
    root: str = ""
    checkpoint: int | None = None  # The size that the log's own checkpoint covers.
    checkpoints_held: int = 0  # Of the log's own and the trusted ones.

    def problem(self, text: str) -> None:
        self.ok = False
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(text)


def verify(path: Path, trusted: Iterable[Checkpoint] = (), *, processes: int = 1) -> Report:
    """Check the whole log whose active segment is `path`; raises OSError where it cannot be read."""
    report = Report()
    # In this order, and before the lines: what a writer adds meanwhile is only ever behind what was read.
    witnessed = _stated(witnessed_checkpoint, path, report)
    own = _stated(own_checkpoint, path, report)
    report.checkpoint = own.size if own else None
    known = _known(own, [*trusted, *([witnessed] if witnessed else [])], report)
    walk = _Walk(report, FileLevels(tree_path(path)), known)
    for file in open_segments(path):
        if not all(walk.stretch(file, *found) for found in stretches(file, processes)):
            break
    walk.end()
    _judge_sizes(report, own, known, walk)
    return report


def own_checkpoint(path: Path) -> Checkpoint | None:
    """The log's last checkpoint, if it signed one. Raises `Unverified` if that is not signed with a key beside it."""
    return _signed(checkpoint_path(path), verifiers(path))


def witnessed_checkpoint(path: Path) -> Checkpoint | None:
    """The last checkpoint that witnesses cosigned, as the log keeps it."""
    return _signed(witnessed_path(path), verifiers(path))


def _signed(file: Path, keys: list[Verifier]) -> Checkpoint | None:
    try:
        return verify_note(file.read_text(), keys)
    except FileNotFoundError:
        return None
    except (UnicodeDecodeError, Unverified) as error:
        raise Unverified(f"{file.name}: {error}") from None


def verifiers(path: Path) -> list[Verifier]:
    """The log's public keys, as they stand beside it, a line each."""
    try:
        text = verifier_path(path).read_text()
    except FileNotFoundError:
        return []
    try:
        return [Verifier.parse(line) for line in text.splitlines() if line]
    except UsageError as error:
        raise Unverified(f"{verifier_path(path).name}: {error}") from None


def _stated(read: Callable[[Path], Checkpoint | None], path: Path, report: Report) -> Checkpoint | None:
    try:
        return read(path)
    except Unverified as error:
        report.problem(f"signature: {error}")
        return None


def _known(own: Checkpoint | None, trusted: list[Checkpoint], report: Report) -> dict[int, Checkpoint]:
    """By size. Of two with different roots the trusted one counts."""
    known: dict[int, Checkpoint] = {}
    for checkpoint in [*trusted, *([own] if own else [])]:
        first = known.setdefault(checkpoint.size, checkpoint)
        if first.root != checkpoint.root:
            report.problem(
                f"split view: two signed checkpoints of size {checkpoint.size}, roots {first.root.hex()} and "
                f"{checkpoint.root.hex()}"
            )
    return known


def _judge_sizes(report: Report, own: Checkpoint | None, known: dict[int, Checkpoint], walk: _Walk) -> None:
    for size in known:
        if size <= walk.size:
            continue
        if own is not None and size > own.size:
            report.problem(
                f"rollback: a checkpoint of {size} entries was seen, and the log now signs {own.size} and has {walk.size}"
            )
        else:
            report.problem(f"cut tail: {size} entries were signed for, {walk.size} are there")
    if own is not None and walk.size >= (largest := max(known)) > own.size:
        report.problem(
            f"rollback: a checkpoint of {largest} entries was seen, and the log now signs {own.size}"
        )


class _Walk:
    """One pass over the log: chain, leaves, roots."""

    def __init__(self, report: Report, kept: FileLevels, known: dict[int, Checkpoint]) -> None:
        self._report = report
        self._kept = kept
        self._kept_size = kept.size(0)
        self._sizes = sorted(known)
        self._known = known
        self._frontier = Frontier()
        self._leaves: list[bytes] = []
        self._lines = 0
        self._expected = -1  # None was read yet.
        self._dropped_end = 0
        self._in_order = True
        self._check_roots()
        self._fold_at = self._room()

    @property
    def size(self) -> int:
        return self._frontier.size + len(self._leaves)

    def stretch(self, file: BinaryIO, span: Span, found: Stretch | None) -> bool:
        """False: what follows cannot be checked."""
        if found is None:
            return self._lines_of(file, span)
        if self._expected < 0:
            self._begin(found.first, found.previous, found.first_at)
        report = self._report
        if found.first != self._expected or found.previous != report.head:
            return self._lines_of(file, span)
        self._lines += found.count
        self._expected += found.count
        report.head, report.last_at = found.head, found.last_at
        report.entries += found.count
        for content in found.counted:
            self._count(decode_head(content), content)
        self._add(_hashes(found.leaves))
        return True

    def _lines_of(self, file: BinaryIO, span: Span) -> bool:
        offset = file.seek(span.offset)
        while offset < span.offset + span.size:
            line = file.readline(LINE_BYTES_MAX)
            offset += len(line)
            self._lines += 1
            if not line.endswith(b"\n"):
                self._broken_off(line)
                return False
            self._line(self._lines, line[:-1])
        return True

    def _broken_off(self, line: bytes) -> None:
        if len(line) == LINE_BYTES_MAX:
            self._report.problem(
                f"changed: line {self._lines} is longer than an entry can be; what follows was not checked"
            )
        else:
            self._report.torn = True

    def _line(self, number: int, content: bytes) -> None:
        report = self._report
        try:
            head = decode_head(content)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            report.problem(f"changed: line {number} is not an entry ({error})")
            self._in_order = False
            return
        if self._expected < 0:
            self._begin(head.index, head.previous, head.at)
        if head.index != self._expected or head.previous != report.head or line_hash(content) != head.hash:
            self._complain(number, head, content)
        self._expected = head.index + 1
        report.head, report.last_at = head.hash, head.at
        report.entries += 1
        if head.kind in COUNTED:
            self._count(head, content)
        self._add([hashlib.sha256(b"\x00" + content).digest()])

    def end(self) -> None:
        self._fold()
        report = self._report
        report.root = self._frontier.root().hex()
        if report.first > self._dropped_end:
            report.problem(
                f"missing: entries {self._dropped_end} to {report.first - 1} are gone, and no entry says that they were dropped"
            )

    def _complain(self, number: int, head: Head, content: bytes) -> None:
        report = self._report
        if head.index != self._expected:
            report.problem(
                f"moved: line {number} is entry {head.index}, {self._expected} was due; entries are missing, added or moved"
            )
            self._in_order = False
        if head.previous != report.head:
            report.problem(
                f"broken chain: line {number}, entry {head.index}, does not follow the entry before it"
            )
        if line_hash(content) != head.hash:
            report.problem(f"changed: line {number}, entry {head.index}: its content does not have its hash")

    def _room(self) -> int:
        """Leaves until the next root that has to be looked at, or until it is enough for one go."""
        to_root = self._sizes[0] - self._frontier.size if self._sizes else LEAVES_AT_ONCE
        return min(LEAVES_AT_ONCE, to_root)

    def _count(self, head: Head, content: bytes) -> None:
        if head.number != OWN:
            return  # A producer may call its entry what it likes; only the log's own words excuse anything.
        self._report.gaps += head.kind == GAP
        if head.kind == DROPPED:
            end = msgspec.json.decode(content)["detail"].get("end")
            self._dropped_end = max(self._dropped_end, end if isinstance(end, int) else 0)

    def _begin(self, first: int, previous: str, at: float) -> None:
        """A log whose beginning was dropped goes on from the leaf hashes that were kept of it."""
        report = self._report
        report.first_at = at
        report.first = self._expected = first if 0 <= first <= self._kept_size else 0
        if report.first:
            report.head = previous  # Its own hash is gone with its body; the leaf stands for it.
        for leaves in self._kept_leaves(0, report.first):
            self._add(leaves)

    def _kept_leaves(self, first: int, end: int) -> Iterator[list[bytes]]:
        while first < end:
            count = min(LEAVES_AT_ONCE, end - first)
            yield _hashes(self._kept.read(0, first, count))
            first += count

    def _add(self, leaves: list[bytes]) -> None:
        """Leaves that come next; folded up to each root that has to be looked at."""
        taken = 0
        while taken < len(leaves):
            some = leaves[taken : taken + self._fold_at - len(self._leaves)]
            taken += len(some)
            self._leaves += some
            if len(self._leaves) >= self._fold_at:
                self._fold()

    def _fold(self) -> None:
        leaves, self._leaves = self._leaves, []
        first = self._frontier.size
        if self._in_order and first < self._kept_size and leaves:
            kept = self._kept.read(0, first, min(len(leaves), self._kept_size - first))
            if kept != b"".join(leaves)[: len(kept)]:
                self._report.problem(
                    f"tree: among entries {first} to {first + len(leaves) - 1} are kept leaf hashes that are not the entries'"
                )
        self._frontier.append(leaves)
        self._check_roots()
        self._fold_at = self._room()

    def _check_roots(self) -> None:
        while self._sizes and self._sizes[0] <= self._frontier.size:
            size = self._sizes.pop(0)
            if size == self._frontier.size and self._frontier.root() == self._known[size].root:
                self._report.checkpoints_held += 1
            else:
                self._report.problem(
                    f"rewritten: the first {size} entries do not have the root {self._known[size].root.hex()} that was signed"
                )


def _hashes(joined: bytes) -> list[bytes]:
    return [joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES)]
