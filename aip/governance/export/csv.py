"""CSV (RFC 4180, UTF-8, one line an entry), safe to open in a spreadsheet.

Agents choose what stands in subjects and details, and a spreadsheet runs a cell that begins like a formula. So such a cell gets
an apostrophe in front (OWASP, "CSV Injection"), every cell is quoted, and control characters become spaces. The
last column is the entry as the log has it: JSON, which begins with a brace.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from . import fact

COLUMNS = (
    *("index", "at", "number", "refused", "hash"),
    *("producer", "kind", "subject", "run", "agents", "tenant", "code", "by"),
    "entry",
)
# What spreadsheets take for the beginning of a formula, in their wide forms too.
FORMULA = ("=", "+", "-", "@", "|", "%", "\uff1d", "\uff0b", "\uff0d", "\uff20")
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
AGENTS_MAX = 20  # Of one cell; a `messages` entry can name thousands, and its line names them all.


class Csv:
    name = "csv"
    version = 1

    def begin(self) -> bytes:
        return row(COLUMNS)

    def encode(self, line: bytes, entry: dict[str, Any]) -> bytes:
        told = (
            entry["producer"],
            entry["kind"],
            entry["subject"],
            fact.run_of(entry),
            agents(entry),
            fact.tenant_of(entry),
            fact.code_of(entry),
            fact.person_of(entry),
        )
        refused = "yes" if fact.is_refusal(entry) else "no"
        own = (int(entry["index"]), moment(float(entry["at"])), int(entry["number"]), refused, entry["hash"])
        return row((*own, *(safe(str(text)) for text in told), line.decode()))

    def extract(self, record_line: bytes) -> bytes:
        try:
            cells = next(csv.reader([record_line.decode()], strict=True), [])
        except csv.Error as error:
            raise ValueError(f"not a row: {error}") from None
        if len(cells) != len(COLUMNS):
            raise ValueError(f"{len(cells)} columns instead of {len(COLUMNS)}")
        return cells[-1].encode()

    def end(self, checkpoint: str, at: float) -> bytes:
        return b""


def agents(entry: dict[str, Any]) -> str:
    found = list(dict.fromkeys(fact.agents_of(entry)))
    more = f" and {len(found) - AGENTS_MAX} more" if len(found) > AGENTS_MAX else ""
    return " ".join(found[:AGENTS_MAX]) + more


def moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def safe(text: str) -> str:
    """A text that no spreadsheet runs."""
    flat = CONTROLS.sub(" ", text)
    return f"'{flat}" if flat.lstrip(" '\u00a0\ufeff").startswith(FORMULA) else flat


def row(cells: Iterable[object]) -> bytes:
    """One line. The entry itself goes in as it is: it begins with a brace."""
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()
