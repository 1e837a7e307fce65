"""`aip audit verify | tail`: the record of what was refused, done, killed and admitted."""

from __future__ import annotations

import io
import json
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from ..errors import Corrupt, NotFound
from . import measure, text
from .command import Noun
from .contract import Json
from .output import Column, show_rows, show_value
from .session import Session, session

PATH = click.Path(path_type=Path)
PROBLEMS_SHOWN_MAX = 10
FOLLOW_EVERY_S = 0.3  # Soon enough for an eye; one `stat` of a file each time.


@click.group(
    "audit",
    cls=Noun,
    examples="""
    aip audit verify
    aip audit tail -n 50
    """,
)
def audit() -> None:
    """Look at the audit log: verify, tail."""


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
    aip audit verify copy-of-audit.jsonl -o json
    """,
)
@click.argument("path", metavar="[FILE]", type=PATH, required=False)
def verify(path: Path | None) -> None:
    """Check the hash chain of the whole log.

    Prints its head; keep it elsewhere, and a later rewrite of the whole file shows too. Exit code 8 if the chain does not hold.
    """
    from ..governance.audit import verify as examine

    one = session()
    found = log_of(one, path)
    report = examine(found)

    def tell() -> None:
        one.write(f"{'holds' if report.ok else 'DOES NOT HOLD'}: {report.entries} entries")
        if report.entries:
            one.write(f"from  {measure.moment(report.first_at)} to {measure.moment(report.last_at)}")
        one.write(f"head  {report.head}")

    show_value(one, {"path": str(found), **asdict(report)}, tell)
    if not report.ok:
        some = report.problems[:PROBLEMS_SHOWN_MAX]
        raise Corrupt(
            f"the audit log {found} is not what was written",
            hint="compare it with a copy, or with a head that was kept elsewhere",
            problems=some,
        )


ENTRY_COLUMNS = (
    Column("ENTRY", lambda row: row.get("index", ""), right=True),
    Column("AT", lambda row: measure.moment(row.get("at"))),
    Column("KIND", lambda row: row.get("kind", "")),
    Column("SUBJECT", lambda row: row.get("subject", "")),
    Column("DETAIL", lambda row: text.compact_json(row.get("detail") or {})),
)


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
    "-n", "--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="How many."
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
    """The log while it is written. `new()` gives the entries behind those it gave before, whole ones only."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self._path = path
        self._offset = offset

    @classmethod
    def from_now(cls, path: Path) -> GrowingLog:
        return cls(path, path.stat().st_size if path.exists() else 0)

    def new(self) -> Iterator[Json]:
        from ..governance.audit import LINE_BYTES_MAX

        if not self._path.exists():
            return  # Nothing was ever entered yet.
        with self._path.open("rb") as file:
            if file.seek(0, io.SEEK_END) < self._offset:
                raise Corrupt(f"{self._path} became shorter: it was rewritten", hint="see `aip audit verify`")
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
