"""`aip audit`: the record of what was refused, done, killed and admitted - looking at it, and checking it.

Exports, proofs and reports are `audit_export.py`'s, witnessing is `audit_witness.py`'s, erasing and retention `audit_keep.py`'s.
"""

from __future__ import annotations

import heapq
import io
import json
import os
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import Corrupt, NotFound
from . import measure, text
from .audit_options import PATH, filters, selection_of, trust, verifiers_of
from .command import Noun
from .contract import Json
from .output import Column, show_rows, show_value
from .records import records
from .run_address import RUN, RunAddress
from .session import Session, session

if TYPE_CHECKING:
    from ..governance.audit import Report
    from ..governance.export.selection import Selection
    from ..governance.note import Checkpoint, Verifier

PROBLEMS_SHOWN_MAX = 10
FOLLOW_EVERY_S = 0.3  # Soon enough for an eye; one `stat` of a file each time.
ROWS_MAX = 100_000  # Of one answer: it is collected before it is printed as a table.
NOTE_BYTES_MAX = 64 * 2**10


@click.group(
    "audit",
    cls=Noun,
    examples="""
    aip audit tail -f
    aip audit query --refused --since 24h
    aip audit verify --trust audit.vkey
    """,
)
def audit() -> None:
    """Look at the audit log, verify it, export it: tail, query, verify, export, report."""


def log_of(one: Session, path: Path | None) -> Path:
    from ..governance.audit import log_path

    found = path or log_path(one.folder.audit)
    if not found.is_file():
        raise NotFound(
            f"there is no audit log at {found}", hint="a platform writes one; start it with `aip up`"
        )
    return found


@audit.command(
    "verify",
    examples="""
    aip audit verify
    aip audit verify --trust audit.vkey --checkpoint january.checkpoint
    aip audit verify copy-of-audit.jsonl -o json
    """,
)
@click.argument("path", metavar="[FILE]", type=PATH, required=False)
@trust
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    type=PATH,
    help="A signed checkpoint that was kept elsewhere: the log must continue it. Repeatable.",
)
def verify(path: Path | None, keys: tuple[str, ...], checkpoints: tuple[Path, ...]) -> None:
    """Check the whole log: hash chain, Merkle tree, signed checkpoint.

    With --trust its checkpoint must be signed with that key; without, with the key that lies beside it, which proves less. With
    --checkpoint a cut tail, a rollback and a rewritten past show too. Exit code 8 if anything does not hold.
    """
    one = session()
    found = log_of(one, path)
    report = examined(found, verifiers_of(keys), checkpoints)

    def tell() -> None:
        one.write(f"{'holds' if report.ok else 'DOES NOT HOLD'}: {report.entries} entries")
        if report.entries:
            one.write(f"from  {measure.moment(report.first_at)} to {measure.moment(report.last_at)}")
        one.write(f"head  {report.head}")
        one.write(f"root  {report.root}")
        one.write(f"checkpoints that hold: {report.checkpoints_held}")

    show_value(one, {"path": str(found), **asdict(report)}, tell)
    if not report.ok:
        some = report.problems[:PROBLEMS_SHOWN_MAX]
        raise Corrupt(
            f"the audit log {found} is not what was written",
            hint="compare it with a copy, or with a checkpoint that was kept elsewhere",
            problems=some,
        )


def examined(log: Path, trusted: list[Verifier], checkpoints: tuple[Path, ...] = ()) -> Report:
    """The whole log, held to the checkpoints, and to the keys where some are trusted."""
    from ..governance import note
    from ..governance.audit import verify as examine
    from ..governance.segments import checkpoint_path
    from ..governance.verification import verifiers

    keys = trusted or verifiers(log)
    known, unsigned = [], []
    for path in checkpoints:
        try:
            known.append(_checkpoint(path, keys))
        except note.Unverified as error:
            unsigned.append(f"signature: {path}: {error.message}")
    report = examine(log, known, processes=len(os.sched_getaffinity(0)))
    for problem in unsigned:
        report.problem(problem)
    if trusted:
        try:
            _checkpoint(checkpoint_path(log), trusted)
        except note.Unverified as error:
            report.problem(f"signature: the log's own checkpoint: {error.message}")
        except NotFound:
            report.problem("signature: the log has no signed checkpoint")
    return report


def _checkpoint(path: Path, keys: list[Verifier]) -> Checkpoint:
    from ..governance import note

    if not path.is_file():
        raise NotFound(f"there is no checkpoint {path}", hint="`aip audit witness` and `cp` keep one")
    with path.open("rb") as file:
        return note.verify(file.read(NOTE_BYTES_MAX + 1).decode("utf-8", "replace"), keys)


ENTRY_COLUMNS = (
    Column("ENTRY", lambda row: row.get("index", ""), right=True),
    Column("AT", lambda row: measure.moment(row.get("at"))),
    Column("KIND", lambda row: row.get("kind", "")),
    Column("SUBJECT", lambda row: row.get("subject", "")),
    Column("DETAIL", lambda row: text.compact_json(row.get("detail") or {})),
)


@audit.command(
    "query",
    examples="""
    aip audit query --refused --since 24h
    aip audit query --run r-01m8 --kind effect -o ndjson
    aip audit query --agent greeter --since 2027-01-01 --until 2027-02-01 -n 1000
    """,
)
@click.argument("path", metavar="[FILE]", type=PATH, required=False)
@filters
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(1, ROWS_MAX),
    default=100,
    show_default=True,
    help="The last so many.",
)
def query(path: Path | None, limit: int, **asked: Any) -> None:
    """Print the entries that fit, oldest first by the time that whoever made them states."""
    one = session()
    fitting = asked_for(one, log_of(one, path), selection_of(asked), limit)
    show_rows(one, fitting, ENTRY_COLUMNS, nothing="no such entries")


def asked_for(one: Session, log: Path, selection: Selection, limit: int) -> list[Json]:
    """The last entries that fit by their time, oldest first: out of the index, or, where that cannot tell and which is said, out
    of every line."""
    try:
        return _indexed(log, selection, limit)
    except _NotIndexed as why:
        one.say(f"reading the whole log: {why}")
        last = heapq.nlargest(limit, selection.of(GrowingLog(log).new()), key=_when)
        return last[::-1]


def _when(entry: Json) -> tuple[float, int]:
    return float(entry["at"]), int(entry["index"])


class _NotIndexed(Exception):
    """Why the index does not answer."""


def _indexed(log: Path, selection: Selection, limit: int) -> list[Json]:
    import sqlite3

    from ..governance.audit import log_path
    from ..governance.index import LIMIT_MAX, AuditIndex, Question, index_path

    if selection.agent:
        raise _NotIndexed("the index does not know every agent that an entry names")
    if limit > LIMIT_MAX:
        raise _NotIndexed(f"the index answers with {LIMIT_MAX:,} entries at most")
    # To make one takes longer than to read the log once; and what is looked at, a copy say, is left as it is.
    if log != log_path(log.parent) or not index_path(log).is_file():
        raise _NotIndexed("there is no index beside it; a platform keeps one")
    question = Question(
        since=selection.since,
        until=selection.until,
        kinds=selection.kinds,
        subject_has=selection.subject or None,
        run_begins=selection.run or None,
        tenant=selection.tenant or None,
        refused=selection.refused or None,
        limit=limit,
    )
    try:
        with AuditIndex(log.parent) as index:
            index.catch_up()
            answer = index.answer(question)
    except (sqlite3.Error, OSError) as error:
        raise _NotIndexed(f"its index cannot be used ({error})") from None
    if not answer.complete and len(answer.entries) < limit:
        raise _NotIndexed("too much would have to be looked through in the index")
    return answer.entries[::-1]


@audit.command(
    "trace",
    examples="""
    aip audit trace last
    aip audit trace r-01m8 -o ndjson
    """,
)
@click.argument("address", metavar="RUN", type=RUN)
def trace(address: RunAddress) -> None:
    """Print everything that the log has of a run, stop orders on it included; `aip run trace` shows what caused what."""
    from ..governance.export.selection import Selection

    one = session()
    with records(one) as known:
        run = known.id_of(address)
    fitting = Selection(run=run).of(GrowingLog(log_of(one, None)).new())
    show_rows(one, deque(fitting, ROWS_MAX), ENTRY_COLUMNS, nothing="the log has nothing of that run")


@audit.command(
    "tail",
    examples="""
    aip audit tail
    aip audit tail -f --kind process
    aip audit tail -n 100 --kind refused -o ndjson
    """,
)
@click.argument("path", metavar="[FILE]", type=PATH, required=False)
@click.option(
    "-n", "--limit", type=click.IntRange(1, ROWS_MAX), default=20, show_default=True, help="How many."
)
@click.option("--kind", "kinds", multiple=True, help="Only kinds that begin so; repeatable.")
@click.option("--subject", default="", help="Only entries whose subject has this in it.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is entered from now on, until Ctrl-C.")
def tail(path: Path | None, limit: int, kinds: tuple[str, ...], subject: str, follow: bool) -> None:
    """Print the last entries of the log."""
    from ..governance.audit import select

    one = session()
    log = GrowingLog(log_of(one, path))
    last = deque(select(log.new(), kinds, subject), limit)
    if not follow:
        show_rows(one, last, ENTRY_COLUMNS, nothing="no such entries")
        return
    try:
        while True:
            for entry in last:
                show_entry(one, entry)
            time.sleep(FOLLOW_EVERY_S)
            last = deque(select(log.new(), kinds, subject))
    except KeyboardInterrupt:
        return  # How a look that has no end of its own ends: no failure.


class GrowingLog:
    """The log while it is written. `new()` gives the entries behind those it gave before, whole ones only.

    The file that grows is sealed now and then: it gets another name, and a new one takes its place. So a look remembers which
    file it was in, and first reads that one to its end.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode: int | None = None
        self._offset = 0

    @classmethod
    def from_now(cls, path: Path) -> GrowingLog:
        log = cls(path)
        if path.exists():
            stat = path.stat()
            log._inode, log._offset = stat.st_ino, stat.st_size
        return log

    def new(self) -> Iterator[Json]:
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return  # Nothing was ever entered yet, or it was sealed this moment.
        with file:
            inode = os.fstat(file.fileno()).st_ino
            if inode != self._inode:
                yield from self._sealed(inode)
                self._inode, self._offset = inode, 0
            if file.seek(0, io.SEEK_END) < self._offset:
                raise Corrupt(f"{self._path} became shorter: it was rewritten", hint="see `aip audit verify`")
            yield from self._rest(file)

    def _sealed(self, active: int) -> Iterator[Json]:
        """What was sealed since: the rest of the file that the last look was in, and those behind it."""
        from ..governance.segments import sealed

        reached = self._inode is None
        for segment in sealed(self._path):
            with segment.path.open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                if inode == self._inode:
                    reached = True
                elif reached:
                    self._offset = 0
                if reached and inode != active:
                    yield from self._rest(file)
        if not reached:
            raise Corrupt(
                f"{self._path} is another file than before: it was replaced", hint="see `aip audit verify`"
            )

    def _rest(self, file: io.BufferedReader) -> Iterator[Json]:
        from ..governance.audit import LINE_BYTES_MAX

        file.seek(self._offset)
        while (line := file.readline(LINE_BYTES_MAX)).endswith(b"\n"):
            self._offset += len(line)
            yield self._entry(line)

    def _entry(self, line: bytes) -> Json:
        try:
            entry = json.loads(line)
            return {**entry, "kind": str(entry["kind"]), "subject": str(entry["subject"])}
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(f"{self._path} cannot be read: {error}", hint="see `aip audit verify`") from None


def show_entry(one: Session, entry: Json) -> None:
    """An entry as a line of its own: the width of what comes next is not known."""
    cells = [text.line(column.cell(entry)) for column in ENTRY_COLUMNS]
    one.write(text.compact_json(entry) if one.machine else "  ".join(cells))


def _join_the_rest() -> None:
    from . import audit_export, audit_keep, audit_witness

    for command in (*audit_export.COMMANDS, audit_witness.witness, *audit_keep.COMMANDS):
        audit.add_command(command)


_join_the_rest()
