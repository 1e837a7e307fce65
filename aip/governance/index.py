"""Questions to the audit log: an SQLite index beside it, which can be thrown away at any time.

The index holds where each entry stands and what it is asked for by: time, kind, subject, run, tenant, producer, refused or not.
The log alone counts. An answer is read out of the log's own lines, checked to be the entry that was asked for; an index that is
missing, damaged, of an older format or of another log is made again from the log (some ten seconds a million entries).

Entries come newest first, by the time that their producers state. A question with one field, with or without a range of time, is
answered out of one index; of two fields the one that is listed first in `_FIELDS` is looked up and the other one looked for in
what that gives, `EXAMINED_MAX` entries at most: an answer that was cut short there says so (`complete`).

`tenant` is what the entry's detail says under that name; so is `run`, and where it says none, the run that the entry's subject is
(`fact.run_of`). An entry is *refused* where a part of its kind between dots is `refused` (`message.refused`, `effect.refused`).
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, Self

import msgspec

from ..errors import Corrupt, UsageError
from .entry import LINE_BYTES_MAX
from .export.fact import run_said
from .segments import first_head, log_path, open_segments, sealed, sealed_path

FORMAT = 2  # Another number, and the index is made again.
ROWS_AT_ONCE = 5_000  # A transaction of this many keeps another writer waiting for some 50 ms.
LIMIT_MAX = 10_000
EXAMINED_MAX = 100_000  # Entries that one question may look through: some 50 ms.
KINDS_MAX = 1_000  # Kinds are words of our own code; an outsider cannot make more of them.
BUSY_TIMEOUT_S = 30.0

_SCHEMA = f"""
CREATE TABLE entries (
    n INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, producer TEXT NOT NULL,
    run TEXT, tenant TEXT, refused INTEGER NOT NULL, segment INTEGER NOT NULL, byte INTEGER NOT NULL
);
CREATE INDEX by_at ON entries (at);
CREATE INDEX by_kind ON entries (kind, at);
CREATE INDEX by_subject ON entries (subject, at);
CREATE INDEX by_producer ON entries (producer, at);
CREATE INDEX by_run ON entries (run, at) WHERE run IS NOT NULL;
CREATE INDEX by_tenant ON entries (tenant, refused, at) WHERE tenant IS NOT NULL;
CREATE INDEX by_refused ON entries (refused, at);
PRAGMA user_version = {FORMAT};
"""
# The field that narrows most comes first: it chooses the index.
_FIELDS = {
    "run": "by_run",
    "subject": "by_subject",
    "producer": "by_producer",
    "kind": "by_kind",
    "tenant": "by_tenant",
    "refused": "by_refused",
}
_SAYS = {  # What no index is ordered by: looked for in what another one gives.
    "run_begins": "run >= :run_begins AND run < :run_below",
    "subject_has": "instr(subject, :subject_has) > 0",
}
_LAST = chr(0x10FFFF)  # No text that begins with another one sorts behind that one and this.
_INSERT = "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Question:
    """Fields that are given must all hold. `kind` covers what follows it behind a dot: `effect` is `effect.begun` too.

    `kinds`, `run_begins` and `subject_has` are for who types: beginnings of kinds, one of which is enough, the beginning of a
    run's id, and a part of a subject.
    """

    since: float | None = None
    until: float | None = None
    kind: str | None = None
    kinds: tuple[str, ...] = ()
    subject: str | None = None
    subject_has: str | None = None
    run: str | None = None
    run_begins: str | None = None
    tenant: str | None = None
    producer: str | None = None
    refused: bool | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """Newest first. Not `complete`: older entries may fit too, for the limit or the look-through was reached."""

    entries: list[dict[str, Any]]
    complete: bool


class _Detail(msgspec.Struct, frozen=True):
    run: Any = None
    tenant: Any = None


class _Indexed(msgspec.Struct, frozen=True):
    index: int
    at: float
    kind: str
    subject: str
    producer: str
    detail: _Detail


_decode = msgspec.json.Decoder(_Indexed).decode


def index_path(path: Path) -> Path:
    return path.with_suffix(".index")


class AuditIndex:
    """The index of the log in a folder. A context manager; for one thread."""

    def __init__(self, folder: Path) -> None:
        self._log = log_path(folder)
        self._path = index_path(self._log)
        self._database = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    def catch_up(self) -> int:
        """Index what was entered since. Returns how many entries are indexed."""
        try:
            if not self._fits():
                self._make_anew()
            return self._index_rest()
        except sqlite3.OperationalError:
            raise  # Busy or a full disk: the index is not to blame.
        except sqlite3.DatabaseError:
            self._make_anew()
            return self._index_rest()

    def answer(self, question: Question) -> Answer:
        """Out of what is indexed: `catch_up` before, where the last seconds matter."""
        if not 0 < question.limit <= LIMIT_MAX:
            raise UsageError(f"limit: {question.limit} is not within 1 and {LIMIT_MAX}")
        question = self._with_run(question)
        rows = [(n, segment, byte) for n, _, segment, byte in self._rows(question)]
        more = len(rows) > question.limit
        cut = len(rows) < question.limit and self._looked_through(question)
        with _Lines(self._log) as lines:
            found = [lines.entry(*row) for row in rows[: question.limit]]
        return Answer(found, not more and not cut)

    # Asking

    def _with_run(self, question: Question) -> Question:
        """Of the beginning of one run's id, as mostly typed, that run: it has an index. Of several, what it was."""
        if question.run_begins is None or question.run is not None:
            return question
        begins, below = question.run_begins, question.run_begins + _LAST
        statement = (
            "SELECT (SELECT min(run) FROM entries WHERE run >= :begins AND run < :below),"
            " (SELECT max(run) FROM entries WHERE run >= :begins AND run < :below)"
        )
        first, last = self._database.execute(statement, {"begins": begins, "below": below}).fetchone()
        return replace(question, run=first or begins) if first == last else question

    def _rows(self, question: Question) -> Iterator[tuple[int, float, int, int]]:
        """One more than the limit, newest first: (n, at, segment, byte)."""
        found = [self._rows_of(question, kind) for kind in self._kinds(question)]
        merged = heapq.merge(*found, key=itemgetter(1, 0), reverse=True)
        return islice(merged, question.limit + 1)

    def _rows_of(self, question: Question, kind: str | None) -> Iterator[tuple[int, float, int, int]]:
        index, inner, outer, values = _conditions(question, kind)
        # The inner select reads its index in order, so many entries at most; the outer one looks for the other fields in them.
        statement = (
            f"SELECT n, at, segment, byte FROM (SELECT * FROM entries INDEXED BY {index} WHERE {inner} "  # noqa: S608
            f"ORDER BY at DESC, n DESC LIMIT {EXAMINED_MAX}) WHERE {outer} LIMIT :rows"
        )
        return self._database.execute(statement, {**values, "rows": question.limit + 1})

    def _looked_through(self, question: Question) -> bool:
        """Whether there was more to look through for a second field than may be."""
        for kind in self._kinds(question):
            index, inner, outer, values = _conditions(question, kind)
            if outer == "1":
                continue
            statement = (
                f"SELECT 1 FROM entries INDEXED BY {index} WHERE {inner} LIMIT 1 OFFSET {EXAMINED_MAX}"  # noqa: S608
            )
            if self._database.execute(statement, values).fetchone():
                return True
        return False

    def _kinds(self, question: Question) -> list[str] | list[None]:
        """The kinds in the log that are asked for, each once; `[None]`: any."""
        wanted = question.kind
        if wanted is not None:
            ranges = [(wanted, f"{wanted}\0"), (f"{wanted}.", f"{wanted}/")]
        elif question.kinds:
            ranges = [(begins, begins + _LAST) for begins in question.kinds]
        else:
            return [None]
        found = set(self._kinds_within(ranges))
        return sorted(kind for kind in found if not question.kinds or kind.startswith(question.kinds))

    def _kinds_within(self, ranges: Iterable[tuple[str, str]]) -> Iterator[str]:
        """One step of the index each."""
        for lowest, below in ranges:
            at, inclusive = lowest, True
            for _ in range(KINDS_MAX):
                comparison = ">=" if inclusive else ">"
                row = self._database.execute(
                    f"SELECT min(kind) FROM entries WHERE kind {comparison} ? AND kind < ?",  # noqa: S608
                    (at, below),
                ).fetchone()
                if row[0] is None:
                    break
                at, inclusive = row[0], False
                yield at

    # Indexing

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        self._path.chmod(0o600)
        try:
            # Lost with the power is no harm: what is missing is indexed again.
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = OFF")
            (format_,) = database.execute("PRAGMA user_version").fetchone()
        except sqlite3.DatabaseError:
            database.close()
            self._remove()
            return self._open()
        if format_ != FORMAT:
            self._create(database)
        return database

    @staticmethod
    def _create(database: sqlite3.Connection) -> None:
        with _transaction(database):
            (format_,) = database.execute("PRAGMA user_version").fetchone()
            if format_ == FORMAT:
                return  # Somebody else was first.
            database.execute("DROP TABLE IF EXISTS entries")
            for statement in _SCHEMA.split(";"):
                database.execute(statement)

    def _remove(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def _make_anew(self) -> None:
        self.close()
        self._remove()
        self._database = self._open()

    def _fits(self) -> bool:
        """Whether the last indexed entry stands in the log where the index says."""
        row = self._database.execute(
            "SELECT n, segment, byte FROM entries ORDER BY n DESC LIMIT 1"
        ).fetchone()
        if row is None:
            return True
        try:
            with _Lines(self._log) as lines:
                lines.entry(*row)
        except Corrupt:
            return False
        return True

    def _index_rest(self) -> int:
        while self._index_some():
            pass
        self._forget_dropped()
        (count,) = self._database.execute("SELECT count(*) FROM entries").fetchone()
        return int(count)

    def _index_some(self) -> bool:
        """A transaction's worth of entries; False where there are none."""
        with _transaction(self._database):
            (last,) = self._database.execute("SELECT max(n) FROM entries").fetchone()
            rows = list(islice(_indexed(self._log, 0 if last is None else last + 1), ROWS_AT_ONCE))
            self._database.executemany(_INSERT, rows)
        return len(rows) == ROWS_AT_ONCE

    def _forget_dropped(self) -> None:
        files = [segment.path for segment in sealed(self._log)] + [self._log]
        head = first_head(files[0])
        if head is not None:
            self._database.execute("DELETE FROM entries WHERE n < ?", (head.index,))


def _conditions(question: Question, kind: str | None) -> tuple[str, str, str, dict[str, Any]]:
    """The index to read, what is looked up in it, what is looked for in the rows it gives, and the values of both."""
    fields = {name: getattr(question, name) for name in (*_FIELDS, *_SAYS)}
    fields["kind"] = kind
    given = {name: value for name, value in fields.items() if value is not None}
    says = {name: _SAYS.get(name, f"{name} = :{name}") for name in given}
    first = next((name for name in _FIELDS if name in given), "")
    looked_up = [name for name in (first,) if name]
    if first == "tenant" and "refused" in given:
        looked_up.append("refused")
    inner = [says[name] for name in looked_up]
    if question.since is not None:
        inner.append("at >= :since")
    if question.until is not None:
        inner.append("at < :until")
    outer = [says[name] for name in given if name not in looked_up]
    run_below = (question.run_begins or "") + _LAST
    values = {**given, "since": question.since, "until": question.until, "run_below": run_below}
    return _FIELDS.get(first, "by_at"), " AND ".join(inner) or "1", " AND ".join(outer) or "1", values


def _indexed(path: Path, first: int) -> Iterator[tuple[Any, ...]]:
    for file in open_segments(path, first):
        byte = file.tell()
        file.seek(0)
        try:
            segment = _decode(file.readline(LINE_BYTES_MAX)).index
        except msgspec.DecodeError:
            return  # A segment whose first line is not whole yet: it is the active one.
        file.seek(byte)
        for line in iter(lambda file=file: file.readline(LINE_BYTES_MAX), b""):  # type: ignore[misc]
            if not line.endswith(b"\n"):
                return
            try:
                yield _row(_decode(line), segment, byte)
            except msgspec.DecodeError as error:
                raise Corrupt(f"{file.name}, byte {byte}: {error}", hint="see `aip audit verify`") from None
            byte += len(line)


def _row(entry: _Indexed, segment: int, byte: int) -> tuple[Any, ...]:
    refused = "refused" in entry.kind and "refused" in entry.kind.split(".")
    said, tenant = (
        value if isinstance(value, str) else "" for value in (entry.detail.run, entry.detail.tenant)
    )
    return (
        entry.index,
        entry.at,
        entry.kind,
        entry.subject,
        entry.producer,
        run_said(said, entry.kind, entry.subject) or None,
        tenant or None,
        int(refused),
        segment,
        byte,
    )


class _Lines:
    """Single entries out of the log's files, by where the index says they stand."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[int, BinaryIO] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def entry(self, index: int, segment: int, byte: int) -> dict[str, Any]:
        file = self._files.get(segment)
        if file is None:
            file = self._files[segment] = self._open(segment)
        file.seek(byte)
        try:
            entry: dict[str, Any] = msgspec.json.decode(file.readline(LINE_BYTES_MAX))
            if entry["index"] == index:
                return entry
        except (msgspec.DecodeError, KeyError, TypeError):
            pass  # Not what the index says: told below.
        raise Corrupt(
            f"{file.name}, byte {byte}: not entry {index}, which the index has there",
            hint="see `aip audit verify`",
        )

    def _open(self, segment: int) -> BinaryIO:
        try:
            return sealed_path(self._path, segment).open("rb")
        except FileNotFoundError:
            return self._path.open("rb")  # Not sealed yet; or dropped, and then the entry is not found in it.


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    """At once for writing: two that catch up take turns, and the second one sees what the first has done."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")
