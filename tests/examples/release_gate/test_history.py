"""The course of a run, out of its records: what began, in order, and what was lost on the way."""

from __future__ import annotations

from typing import Any

import pytest
from gate.report.history import LOSSES_SHOWN_MAX, history

T0 = 1_000.0


def task(started_at_s: float | None, finished_at_s: float | None = None, **more: Any) -> dict[str, Any]:
    return {
        "state": "succeeded",
        "attempts": 1,
        "started_at_s": started_at_s,
        "finished_at_s": finished_at_s,
    } | more


def view(**tasks: dict[str, Any]) -> dict[str, Any]:
    return {"run": "r-1", "accepted_at_s": T0, "critical_path": [{"task": "scan"}], "tasks": tasks}


def entry(at: float, kind: str = "process.ended", subject: str = "cell-1", **detail: Any) -> dict[str, Any]:
    return {"at": at, "kind": kind, "subject": subject, "detail": detail}


def lost(*entries: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = history(view(), entries)["killed"]
    return found


def test_tasks_stand_in_the_order_in_which_they_began_by_name_among_equals() -> None:
    told = history(
        view(z=task(T0 + 1, T0 + 2), scan=task(T0 + 1, T0 + 3), first=task(T0, T0 + 1), never=task(None)), ()
    )
    assert told["id"] == "r-1"
    assert [row["name"] for row in told["tasks"]] == ["first", "scan", "z"]
    assert [row["critical"] for row in told["tasks"]] == [False, True, False]


@pytest.mark.parametrize(
    ("given", "start_s", "end_s"),
    [
        (task(T0 + 1.23456, T0 + 2.5), 1.235, 2.5),
        (task(T0 + 4), 4.0, 4.0),
        (task(T0 + 4, T0 + 3), 4.0, 4.0),
    ],
    ids=["ended", "still at work: it writes this very report", "a clock that stepped back"],
)
def test_a_task_is_told_from_the_beginning_of_the_run(
    given: dict[str, Any], start_s: float, end_s: float
) -> None:
    row = history(view(one=given), ())["tasks"][0]
    assert (row["start_s"], row["end_s"]) == (start_s, end_s)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (entry(T0 + 1, exit="abnormal"), True),
        (entry(T0 + 1), True),
        (entry(T0 + 1, exit="normal"), False),
        (entry(T0 + 1, exit="shutdown"), False),
        (entry(T0 + 1, "cell.killed_blocked"), True),
        (entry(T0 + 1, "supervisor.gave_up"), True),
        (entry(T0 + 1, "process.started"), False),
        (entry(T0 + 1, "message.refused"), False),
        (entry(T0 - 1, exit="abnormal"), False),
    ],
)
def test_only_what_nobody_asked_for_since_the_run_began_counts_as_lost(
    given: dict[str, Any], told: bool
) -> None:
    assert bool(lost(given)) is told


def test_a_loss_says_what_and_when() -> None:
    assert lost(entry(T0 + 2.5, subject="run-r-1", exit="abnormal")) == [
        {"what": "run-r-1, process.ended", "at_s": 2.5}
    ]


def test_a_crash_loop_does_not_fill_the_page() -> None:
    many = [entry(T0 + n, subject=f"cell-{n}") for n in range(LOSSES_SHOWN_MAX + 50)]
    told = lost(*many)
    assert len(told) == LOSSES_SHOWN_MAX
    assert told[0]["what"].startswith("cell-0,")
