"""A run that waits for processes which do not start says so: once for each reason, and only for what is its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.pool_spec import PoolSpec
from actors.run_spec import PoolUse, RunSpec, write_spec
from aip.cli import trouble
from aip.cli.audit import GrowingLog
from aip.cli.session import Session
from aip.cli.trouble import TOLD_MAX, Troubles, TroubleWatch
from aip.governance.audit import AuditChain, Batch, Noted, log_path
from aip.settings import Home

FULL = "RayActorError: no memory on node 3f2a9c01d2e4"


def entry(
    subject: str = "cell-ours-0", error: str = FULL, kind: str = "process.start_failed"
) -> dict[str, Any]:
    return {"kind": kind, "subject": subject, "detail": {"error": error}}


def told(*entries: dict[str, Any]) -> list[str]:
    return Troubles("r-1", ["ours", "c++"]).told(entries)


@pytest.mark.parametrize(
    ("subject", "own"),
    [
        ("cell-ours-0", True),
        ("cell-ours-p12", True),
        ("cell-c++-1", True),
        ("run-r-1", True),
        ("run-r-10", False),
        ("cell-theirs-0", False),
        ("cell-ours-0-other-0", False),
        ("registry", False),
    ],
)
def test_only_the_processes_of_this_run_are_told(subject: str, own: bool) -> None:
    lines = told(entry(subject), entry(subject))
    assert lines == ([f"warning: {subject} does not start: {FULL}"] if own else [])


def test_one_failure_heals_itself_and_the_same_one_is_told_once() -> None:
    assert told(entry()) == []
    assert len(told(*[entry()] * 10)) == 1


def test_another_id_is_the_same_failure_and_another_reason_is_not() -> None:
    assert len(told(entry(error="actor 0a1b2c3d4e is dead"), entry(error="actor 99887766ff is dead"))) == 1
    assert told(entry(error="no memory"), entry(error="no cores")) == []
    assert len(told(*[entry(error="no memory"), entry(error="no cores")] * 2)) == 2


def test_other_entries_are_not_failures() -> None:
    assert told(*[entry(kind="process.ended"), entry(kind="agent.start_failed")] * 3) == []


def test_what_a_failure_says_moves_no_cursor() -> None:
    assert "\x1b" not in told(*[entry(error="\x1b[2Jgone\nfake line")] * 2)[0]
    assert len(told(*[entry(error="\x1b[2Jgone\nfake line")] * 2)[0].splitlines()) == 1


@given(st.lists(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), max_size=200))
def test_however_many_reasons_there_are_the_screen_is_not_filled(reasons: list[str]) -> None:
    lines = told(*(entry(error=reason) for reason in reasons))
    assert len(lines) == min(sum(reasons.count(one) > 1 for one in set(reasons)), TOLD_MAX)


@pytest.fixture
def enter(home: Home) -> Callable[..., None]:
    """Adds entries to the audit log of this home."""
    chain = AuditChain()
    numbers = iter(range(1_000))

    def add(*subjects: str) -> None:
        home.audit.mkdir(parents=True, exist_ok=True)
        notes = [
            Noted(next(numbers), 1.0, "process.start_failed", subject, {"error": FULL})
            for subject in subjects
        ]
        with log_path(home.audit).open("ab") as file:
            file.write(chain.lines(Batch("root", notes)))

    return add


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(Session, "say", lambda _, words: lines.append(words))
    monkeypatch.setattr(trouble, "LOOK_EVERY_S", 0.001)
    return lines


def submitted(home: Home) -> Session:
    pools = [PoolUse(PoolSpec("ours", {}, "/code"), {})]
    write_spec(home, RunSpec("r-1", b"", "plan.yaml", b"", {}, pools, "user:ada", 0.0))
    return Session(home=home)


def until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


def test_failures_are_told_while_the_run_waits_and_those_of_before_are_not(
    home: Home, enter: Callable[..., None], said: list[str]
) -> None:
    enter("cell-ours-0", "cell-ours-0")
    log = GrowingLog.from_now(log_path(home.audit))
    with TroubleWatch(submitted(home), "r-1", log):
        enter("cell-ours-1")
        enter("cell-theirs-0", "cell-theirs-0", "cell-ours-1")
        until(lambda: said)
    assert said == [f"warning: cell-ours-1 does not start: {FULL}"]


def test_a_log_that_does_not_read_is_said_and_ends_nothing(
    home: Home, enter: Callable[..., None], said: list[str]
) -> None:
    enter("cell-ours-0")
    log = GrowingLog.from_now(log_path(home.audit))
    with TroubleWatch(submitted(home), "r-1", log):
        with log_path(home.audit).open("ab") as file:
            file.write(b"no entry\n")
        until(lambda: said)
    assert said[0].startswith("failed starts are not watched: ")


def test_a_platform_without_a_log_yet_has_no_trouble(home: Home, said: list[str], tmp_path: Path) -> None:
    with TroubleWatch(submitted(home), "r-1", GrowingLog.from_now(log_path(home.audit))):
        pass
    assert said == []
