"""What a platform is at, on one screen."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result
from platform_double import T0, Double, run_view, task
from rich.console import Console

from aip.cli.top import SORTS, Screen, sample, samples

Type = Callable[..., Result]


class Busy(Double):
    """A platform at work: two cells, three agents, a run under a budget."""

    def __init__(self) -> None:
        super().__init__()
        self.cpu_s = 10.0
        self.pid = 21
        self.views = {
            "r-1": [
                run_view(
                    "r-1",
                    "running",
                    {"find": task("succeeded"), "read": task("running")},
                    in_flight=2,
                    spend={
                        "spent": {"usd_micro": 250_000},
                        "reserved": {},
                        "limits": {"usd_micro": 1_000_000},
                    },
                )
            ],
            "r-0": [run_view("r-0", "succeeded")],
        }

    def status(self) -> dict[str, Any]:
        cells = [{"name": "cell-a", "pid": self.pid}, {"name": "cell-b", "pid": 22}]
        used = [
            {"pid": self.pid, "rss_bytes": 100 * 2**20, "cpu_s": self.cpu_s},
            {"pid": 22, "rss_bytes": 2**20, "cpu_s": 1.0},
        ]
        tree = {"name": "root", "pid": 11, "children": [{"name": "pool", "pid": None, "children": cells}]}
        return {**super().status(), "tree": tree, "processes": used}

    def agents(self, run: str | None) -> list[dict[str, Any]]:
        def one(address: str, mailbox: int, running: list[str], cell: str) -> dict[str, Any]:
            told = {"address": address, "state": "active", "cell": cell, "mailbox": mailbox, "run": "r-1"}
            return {**told, "incarnation": 1, "running": running}

        return [
            one("a/1", 0, ["read", "read"], "cell-a"),
            one("b/1", 7, ["find"], "cell-a"),
            one("c/1", 0, [], "cell-b"),
        ]


class WithCircuits(Busy):
    def breakers(self) -> list[dict[str, Any]]:
        names = [("worker@0123456789ab/read", "open"), ("worker@0123456789ab/find", "closed")]
        return [
            {
                "name": name,
                "state": state,
                "cell": "cell-a",
                "failure_percent": 75.0,
                "refused": 3,
                "due_in_s": 4.0,
            }
            for name, state in names
        ]


def test_cells_count_their_agents_their_mail_and_their_turns() -> None:
    first, second = sample(Busy(), T0, "mailbox").cells
    assert (first["cell"], first["pid"], first["agents"], first["turns"], first["mailboxes"]) == (
        "cell-a",
        21,
        2,
        3,
        7,
    )
    assert (first["rss_bytes"], first["cpu_s"], first["cpu_percent"]) == (100 * 2**20, 10.0, None)
    assert second["agents"] == 1


def test_cpu_is_told_between_two_looks() -> None:
    platform, times = Busy(), iter([T0, T0 + 2.0])
    found = samples(platform, lambda: next(times), "mailbox", 2.0, pause=lambda _: None)
    next(found)
    platform.cpu_s += 1.5
    assert next(found).cells[0]["cpu_percent"] == 75.0


def test_the_cpu_of_a_cell_that_was_restarted_is_not_mixed_with_the_one_before() -> None:
    platform, times = Busy(), iter([T0, T0 + 2.0])
    found = samples(platform, lambda: next(times), "mailbox", 2.0, pause=lambda _: None)
    next(found)
    platform.pid, platform.cpu_s = 99, 0.1
    assert next(found).cells[0]["cpu_percent"] is None


def test_runs_that_are_over_are_not_shown_the_others_with_progress_and_spending() -> None:
    (run,) = sample(Busy(), T0, "mailbox").runs
    assert (run["run"], run["tasks_ended"], run["tasks"], run["in_flight"]) == ("r-1", 1, 2, 2)
    assert (run["spent"], run["limits"]) == ({"usd_micro": 250_000}, {"usd_micro": 1_000_000})


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("mailbox", ["b/1", "a/1", "c/1"]),
        ("turns", ["a/1", "b/1", "c/1"]),
        ("agent", ["a/1", "b/1", "c/1"]),
        ("cell", ["a/1", "b/1", "c/1"]),
    ],
)
def test_the_busiest_agents_come_first_or_as_asked(sort: str, order: list[str]) -> None:
    assert [row["address"] for row in sample(Busy(), T0, sort).agents] == order


def test_only_circuits_that_are_not_closed_are_shown() -> None:
    found = sample(WithCircuits(), T0, "mailbox").breakers
    assert found is not None
    assert [row["name"] for row in found] == ["worker@0123456789ab/read"]


def test_a_platform_that_does_not_tell_its_circuits_is_not_taken_for_one_without() -> None:
    assert sample(Busy(), T0, "mailbox").breakers is None


# The screen


def drawn(platform: Double, height: int | None = None, width: int = 160) -> str:
    console = Console(width=width, force_terminal=False, color_system=None)
    with console.capture() as shown:
        console.print(Screen(sample(platform, T0, "mailbox"), height))
    return shown.get()


def test_a_screen_shows_runs_circuits_cells_and_agents() -> None:
    shown = drawn(WithCircuits())
    for words in (
        "3 agents  2 cells  1 active run",
        "usd 0.25 of 1.00",
        "worker@0123456789ab/read",
        "75 %",
        "100 MiB",
    ):
        assert words in shown
    assert "read, read" in shown


def test_a_low_screen_cuts_the_agents_and_counts_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [dict(Busy().agents(None)[2], address=f"c/{number}") for number in range(100)]
    monkeypatch.setattr(Busy, "agents", lambda self, run: many)
    shown = drawn(Busy(), height=24)
    assert "more agents" in shown
    assert len(shown.splitlines()) <= 24


def test_what_an_agent_is_called_cannot_act_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    evil = dict(Busy().agents(None)[0], running=["\x1b[2J", "[red]x[/red]"])
    monkeypatch.setattr(Busy, "agents", lambda self, run: [evil])
    shown = drawn(Busy())
    assert "\x1b" not in shown
    assert "[red]x[/red]" in shown


# As it is typed


@pytest.fixture
def platform() -> Double:
    return WithCircuits()


@pytest.mark.parametrize("words", ["top --once", "top"])
def test_in_a_pipe_it_is_shown_once(words: str, typed: Type) -> None:
    result = typed(words)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("active run") == 1


def test_as_json_it_is_one_document_with_every_agent(typed: Type) -> None:
    found = json.loads(typed("top -o json --sort turns").stdout)
    assert set(found) == {"at_s", "runs", "cells", "agents", "breakers"}
    assert found["agents"][0]["address"] == "a/1"


def test_as_ndjson_it_goes_on_until_ctrl_c(typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    def status(self: Busy) -> dict[str, Any]:
        looks.append(1)
        if len(looks) == 3:
            raise KeyboardInterrupt
        return original(self)

    original = Busy.status
    monkeypatch.setattr(Busy, "status", status)
    result = typed("top -o ndjson --interval 200ms")
    assert result.exit_code == 0
    assert len([json.loads(line) for line in result.stdout.splitlines()]) == 2


def test_without_a_platform_there_is_nothing_to_see(typed: Type, platform: Double) -> None:
    platform.up = False
    assert typed("top --once").exit_code == 7


def test_every_order_can_be_asked_for(typed: Type) -> None:
    for sort in SORTS:
        assert typed(f"top --once --sort {sort}").exit_code == 0
