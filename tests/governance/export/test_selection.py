"""Who asks for a run, an agent or a refusal gets the entries that say so, wherever they say it."""

from __future__ import annotations

from typing import Any

import pytest
from written_log import ADA, EVERY_KIND, T0

from aip.governance.export import fact
from aip.governance.export.selection import Selection

ENTRIES: list[dict[str, Any]] = [
    {
        "index": n,
        "at": T0 + n,
        "producer": "cell-1",
        "number": n,
        "kind": kind,
        "subject": subject,
        "detail": detail,
    }
    for n, (kind, subject, detail) in enumerate(EVERY_KIND)
]


@pytest.mark.parametrize(
    ("kind", "subject", "detail", "run"),
    [
        ("effect.done", ADA, {"run": "r-1"}, "r-1"),
        ("run.ended", "r-1", {}, "r-1"),
        ("gate.opened", "r-1", {}, "r-1"),
        ("messages", "r-1", {}, "r-1"),
        ("kill", "run/r-1", {}, "r-1"),
        ("schedule.started", "nightly", {"run": "r-7"}, "r-7"),
        ("schedule.trouble", "nightly", {}, ""),
        ("agent.started", ADA, {}, ""),
    ],
)
def test_the_run_of_an_entry(kind: str, subject: str, detail: dict[str, Any], run: str) -> None:
    assert fact.run_of({"kind": kind, "subject": subject, "detail": detail}) == run


@pytest.mark.parametrize(
    ("address", "wanted", "is_it"),
    [
        ("greeter@3f2a9c01d2e4/ada", "greeter/ada", True),
        ("greeter@3f2a9c01d2e4/ada", "greeter@3f2a9c01d2e4/ada", True),
        ("greeter@3f2a9c01d2e4/ada", "greeter", True),
        ("greeter@3f2a9c01d2e4/ada", "greeter/bob", False),
        ("greeter@3f2a9c01d2e4/ada", "greeter@000000000000/ada", False),
        ("greeter2/ada", "greeter", False),
    ],
)
def test_an_agent_is_named_with_or_without_its_key_and_digest(address: str, wanted: str, is_it: bool) -> None:
    assert fact.names_agent(address, wanted) is is_it


@pytest.mark.parametrize(
    ("selection", "count"),
    [
        (Selection(), len(ENTRIES)),
        (Selection(kinds=("effect", "kill")), 6),
        (Selection(refused=True), 3),
        (Selection(tenant="acme"), 1),
        (Selection(agent="mallory"), 1),
        (Selection(run="r-7"), 1),
        (Selection(since=T0 + 3, until=T0 + 5), 2),
        (Selection(subject="nobody"), 1),
    ],
)
def test_only_what_fits_is_given(selection: Selection, count: int) -> None:
    assert len(list(selection.of(ENTRIES))) == count


def test_an_agent_is_found_among_the_calls_of_a_run() -> None:
    found = list(Selection(agent="greeter", kinds=("messages",)).of(ENTRIES))
    assert [entry["kind"] for entry in found] == ["messages"]


def test_only_times_leave_a_range_whole() -> None:
    assert Selection(since=T0).everything_in_time
    assert not Selection(since=T0, refused=True).everything_in_time


def test_what_was_not_asked_for_is_not_stated() -> None:
    assert Selection(refused=True, since=0.0).stated() == {"refused": True, "since": 0.0}
