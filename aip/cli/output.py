"""Data on stdout: as a table for a person, as JSON for a program.

In a terminal a table fits the terminal and may cut long cells. In a pipe nothing is cut: columns are padded with spaces, so that
`grep` and `awk` see whole values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import text
from .session import Format, Session

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its title, and the cell of a row. `style` names a style by the cell's text."""

    title: str
    cell: Callable[[Row], object]
    style: Callable[[str], str] = lambda _: ""
    right: bool = False


def show_rows(session: Session, rows: Iterable[Row], columns: Sequence[Column], *, nothing: str) -> None:
    """A list of things: an array as json, an object a line as ndjson, else a table (or, for no rows, `nothing` as chatter)."""
    if session.format is Format.NDJSON:
        for row in rows:
            session.write(text.compact_json(row))
        return
    found = list(rows)
    if session.format is Format.JSON:
        session.write(text.pretty_json(found))
    elif not found:
        session.say(nothing)
    else:
        cells = [[text.line(column.cell(row)) for column in columns] for row in found]
        if session.out.file.isatty():
            _rich_table(session, cells, columns)
        else:
            _plain_table(session, cells, columns)


def show_value(session: Session, value: Any, render: Callable[[], None]) -> None:
    """One thing: its JSON for a program, `render()` for a person."""
    if session.format is Format.TABLE:
        render()
    else:
        session.write(
            text.compact_json(value) if session.format is Format.NDJSON else text.pretty_json(value)
        )


def _plain_table(session: Session, cells: list[list[str]], columns: Sequence[Column]) -> None:
    lines = [[column.title for column in columns], *cells]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        padded = (
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        )
        session.write("  ".join(padded).rstrip())


def _rich_table(session: Session, cells: list[list[str]], columns: Sequence[Column]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(
            column.title, justify="right" if column.right else "left", overflow="ellipsis", no_wrap=True
        )
    for row in cells:
        table.add_row(*(Text(cell, column.style(cell)) for cell, column in zip(row, columns, strict=True)))
    session.out.print(table)
