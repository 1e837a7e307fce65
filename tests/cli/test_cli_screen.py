"""The picture of a run, as text of a fixed width: one for every state a run and a task can be in."""

from __future__ import annotations

import io
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from platform_double import T0, Double, failed, run_view, task
from rich.cells import cell_len
from rich.console import Console

from aip.cli.screen import MARKS, STATE_STYLES, RunScreen, bar, changes
from aip.cli.session import Session
from aip.cli.view import read
from aip.orchestration.run_lifecycle import RunState
from aip.runtime.task import TaskState

NOW = T0 + 42


def drawn(view: dict[str, Any], width: int = 80, height: int = 40, encoding: str = "utf-8") -> list[str]:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(
        file=file,
        width=width,
        height=height,
        markup=False,
        highlight=False,
        emoji=False,
        legacy_windows=False,
    )
    console.print(RunScreen(read(view), NOW))
    file.seek(0)
    return [line.rstrip() for line in file.read().splitlines()]


ALL_STATES = run_view(
    tasks={
        "find": task("succeeded", started_at_s=T0, finished_at_s=T0 + 4.2, attempts=1),
        "read": task(
            "running",
            started_at_s=T0 + 4,
            items={"total": 60, "done": 41, "failed": 2, "running": 8, "waiting_for_retry": 0},
            progress={"text": "reading page 3", "fraction": 0.5},
        ),
        "index": task("running", started_at_s=T0 + 40, attempts=2, progress={"text": "", "fraction": 0.25}),
        "judge": task(
            "succeeded",
            started_at_s=T0,
            finished_at_s=T0 + 1,
            vote={"decision": "allow", "counts": {"allow": 3}},
        ),
        "ask": task("waiting", started_at_s=T0 + 30),
        "sign": task("succeeded", gate={"decision": "approve", "by": "ada", "note": ""}),
        "draft": task("ready"),
        "publish": task(),
        "tidy": task("skipped", skipped_because="`if` is false"),
        "send": task("failed", started_at_s=T0, finished_at_s=T0 + 0.5, error=failed()),
        "late": task("cancelled", error=failed("undelivered.cancelled", "Ctrl-C")),
    },
    critical_path=[{"task": "find", "took_s": 4.2}, {"task": "read", "took_s": 0.0}],
    gates=[
        {
            "task": "ask",
            "question": "Publish this report?",
            "approvers": [],
            "expires_at_s": None,
            "default": "deny",
        }
    ],
    spend={
        "spent": {"tokens": 120_000, "usd_micro": 1_250_000},
        "reserved": {"tokens": 5_000},
        "limits": {"tokens": 500_000},
    },
)


@pytest.mark.parametrize(
    ("votes", "told"),
    [
        ({"decisions": {"allow": 9, "block": 2}, "others": 0, "undecided": 0}, "9 allow, 2 block"),
        (
            {"decisions": {"allow": 1}, "others": 3, "undecided": 2, "voters": ["a"]},
            "1 allow, 3 others, 2 undecided",
        ),
        ({"decisions": {}, "others": 0, "undecided": 1}, "1 undecided"),
        ({"decisions": {}, "others": 0, "undecided": 0}, ""),
    ],
)
def test_a_vote_on_many_items_tells_what_they_came_to(votes: dict[str, Any], told: str) -> None:
    items = {"total": 14, "done": 12, "failed": 2, "running": 0, "waiting_for_retry": 0}
    view = run_view(tasks={"judge": task("succeeded", items=items, votes=votes)})
    assert read(view).tasks[0].text == told
    assert drawn(view, width=120)[1].endswith(f"12/14, 2 failed  {told}".rstrip())


def test_a_run_at_work_is_one_picture_of_80_columns() -> None:
    assert drawn(ALL_STATES) == [
        "market-report  r-1  running  42 s  6/11 tasks",
        "* ✓ find       4.2 s  reader",
        "* ● read        38 s  ███████████░░░░░ 41/60, 2 failed  reading page 3",
        "  ● index      2.0 s  ████░░░░░░░░░░░░ 25%  reader  attempt 2",
        "  ✓ judge      1.0 s  allow (3 allow)",
        "  ? ask         12 s",
        "  ✓ sign              approved by ada",
        "  ○ draft",
        "  · publish",
        "  – tidy              `if` is false",
        "  ✗ send      500 ms  ValueError: no page",
        "  ⊘ late              Ctrl-C",
        "Publish this report?  → aip approve r-1/ask",
        "tokens ██░░░░░░░░ 120,000 of 500,000, 5,000 reserved",
        "usd 1.25 spent",
    ]


def test_a_narrow_terminal_loses_the_right_side_first() -> None:
    lines = drawn(ALL_STATES, width=40)
    assert lines[2] == "* ● read        38 s  ███████████░░░░░ …"
    assert lines[3] == "  ● index      2.0 s  ████░░░░░░░░░░░░ …"


@pytest.mark.parametrize("state", list(RunState))
def test_a_run_is_drawn_in_every_state(state: RunState) -> None:
    lines = drawn(run_view(state=str(state), reason="because of that"))
    assert lines[0] == f"market-report  r-1  {state}  42 s  0/0 tasks"
    told = state in (RunState.PAUSED, RunState.HELD, RunState.CANCELLED, RunState.KILLED)
    assert ("because of that" in lines) == told


def test_every_state_has_a_mark_and_a_style() -> None:
    assert set(MARKS) == {str(state) for state in TaskState}
    assert set(STATE_STYLES) == {str(state) for state in [*TaskState, *RunState]}


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = drawn(ALL_STATES, width=width)
    assert max(cell_len(line) for line in lines) <= width
    assert len(lines) == 15


def test_a_terminal_without_unicode_gets_ascii() -> None:
    assert (
        drawn(ALL_STATES, encoding="ascii")[2]
        == "* > read        38 s  ##########!..... 41/60, 2 failed  reading page 3"
    )
    assert "".join(drawn(ALL_STATES, width=30, encoding="ascii")).isascii()


@pytest.mark.parametrize("height", [10, 24, 50])
def test_a_frame_is_never_higher_than_the_terminal_and_shows_what_matters(height: int) -> None:
    tasks = {f"t{n:05}": task("succeeded") for n in range(10_000)}
    tasks |= {"broken": task("failed", error=failed()), "busy": task("running"), "far": task()}
    lines = drawn(run_view(tasks=tasks), height=height)
    shown = "\n".join(lines)
    assert len(lines) < height
    assert "broken" in shown
    assert "busy" in shown
    assert f"and {10_003 - max(height - 8, 3):,} more".replace(",", "") in shown


def test_names_and_words_of_strangers_stay_in_their_place() -> None:
    evil = "\x1b[2J[red]\nx" + "y" * 500
    view = run_view(
        tasks={
            "read": task("failed", error=failed(message=evil)),
            "日本": task("running", progress={"text": evil}),
        }
    )
    lines = drawn(view)
    assert len(lines) == 3
    assert "\x1b" not in "".join(lines)
    assert max(cell_len(line) for line in lines) <= 80


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_bar_has_its_width_and_hides_no_failure(done: int, failures: int, rest: int) -> None:
    drawing = bar(done, failures, done + failures + rest, ascii_only=True).plain
    assert len(drawing) == 16
    assert ("!" in drawing) == (failures > 0)
    assert not (rest and not failures and drawing == "#" * 16)


def test_only_what_changed_is_told_where_no_picture_can_be_drawn() -> None:
    def at(done: int, bad: int = 0) -> Any:
        items = {"total": 100, "done": done, "failed": bad}
        return read(run_view(tasks={"read": task("running", items=items)}))

    assert changes(None, at(0)) == ["read running", "run r-1 running"]
    assert changes(at(0), at(9)) == []
    assert changes(at(9), at(10)) == ["read 10/100"]
    assert changes(at(10), at(28, 2)) == ["read 28/100, 2 failed"]
    assert changes(at(28, 2), at(28, 2)) == []
    held = read(run_view(state="held", gates=ALL_STATES["gates"], tasks={"read": task("running")}))
    assert changes(at(1), held) == ["ask asks: Publish this report? (aip approve r-1/ask)", "run r-1 held"]


def test_a_picture_that_was_cut_is_told_so() -> None:
    assert drawn(run_view(tasks={"read": task("running", progress={"text": "y" * 200})}), width=60)[
        1
    ].endswith("yy…")


def test_a_view_of_another_version_is_read_as_far_as_it_goes() -> None:
    assert drawn(
        {"run": "r-1", "state": "dreaming", "tasks": {"a": {"state": "new", "surprise": 1}}, "more": {}}
    ) == [
        "  r-1  dreaming    0/1 tasks",
        "  ? a",
    ]


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


def test_in_a_terminal_the_picture_is_redrawn_in_place(tmp_path: Any) -> None:
    from aip.cli.main import aip
    from aip.settings import Home

    platform = Double()
    platform.next_views = [
        run_view("r-new", tasks={"find": task("running", started_at_s=T0)}),
        run_view(
            "r-new", "succeeded", tasks={"find": task("succeeded", started_at_s=T0, finished_at_s=T0 + 1)}
        ),
    ]
    screen = Terminal()
    one = Session(home=Home(tmp_path), client=platform, clock=lambda: NOW)
    one.err = Console(file=screen, width=80, height=24, force_terminal=True, markup=False, highlight=False)
    runner = CliRunner()
    assert runner.invoke(aip, ["init", str(tmp_path / "p")], obj=one).exit_code == 0
    result = runner.invoke(aip, ["submit", str(tmp_path / "p" / "plan.yaml")], obj=one)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    frames = screen.getvalue()
    assert "\x1b[?25l" in frames  # The cursor is hidden while frames are drawn,
    assert frames.rindex("\x1b[?25h") > frames.rindex("succeeded")  # and shown again after the last one.
    assert "\x1b[2K" in frames  # Lines are overwritten in place: the screen is never cleared.
    assert "\x1b[2J" not in frames
