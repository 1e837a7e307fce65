"""`aip audit verify | tail`: the record of what was refused, done, killed and admitted."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict
from pathlib import Path

import click

from ..errors import Corrupt, NotFound
from . import measure, text
from .command import Noun
from .output import Column, show_rows, show_value
from .session import Session, session

PATH = click.Path(path_type=Path)
PROBLEMS_SHOWN_MAX = 10


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
    aip audit tail -n 100 --kind refused -o ndjson
    """,
)
@click.argument("path", metavar="[FILE]", type=PATH, required=False)
@click.option(
    "-n", "--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="How many."
)
@click.option("--kind", "kinds", multiple=True, help="Only kinds that begin so; repeatable.")
@click.option("--subject", default="", help="Only entries whose subject has this in it.")
def tail(path: Path | None, limit: int, kinds: tuple[str, ...], subject: str) -> None:
    """Print the last entries of the log."""
    from ..governance.audit import read, select

    one = session()
    found = log_of(one, path)
    try:
        last = deque(select(read(found), kinds, subject), limit)
    except (ValueError, KeyError) as error:
        raise Corrupt(f"{found} cannot be read: {error}", hint="see `aip audit verify`") from None
    show_rows(one, last, ENTRY_COLUMNS, nothing="no such entries")
