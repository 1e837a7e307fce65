"""What the shell is offered when the Tab key is hit."""

from __future__ import annotations

import pytest
from click.shell_completion import ShellComplete
from platform_double import Double, run_view, task

from aip.cli.main import aip
from aip.cli.session import Session
from aip.errors import Corrupt
from aip.settings import Home


def offered(platform: Double, home: Home, *words: str) -> list[str]:
    completer = ShellComplete(aip, {"obj": Session(home=home, client=platform)}, "aip", "_AIP_COMPLETE")
    return [item.value for item in completer.get_completions(list(words[:-1]), words[-1])]


@pytest.fixture
def runs(platform: Double) -> Double:
    platform.up = False
    platform.views = {
        "r-01a": [run_view("r-01a", "succeeded", {"find": task()})],
        "r-02b": [run_view("r-02b", "failed", {"find": task(), "read": task(), "review": task()})],
    }
    return platform


@pytest.mark.parametrize(
    ("words", "offers"),
    [
        (("run", "sh"), ["show"]),
        (("run", "show", ""), ["r-02b", "r-01a", "last"]),
        (("run", "show", "r-01"), ["r-01a"]),
        (("cancel", "l"), ["last"]),
        (("logs", "r-02b/re"), ["r-02b/read", "r-02b/review"]),
        (("retry", "last/"), ["last/find", "last/read", "last/review"]),
        (("approve", "r-0/"), []),
        (("run", "show", "r-02b/"), []),
        (("plan", "graph", "--format", "m"), ["mermaid"]),
        (("-o", "nd"), ["ndjson"]),
    ],
)
def test_runs_and_tasks_are_completed_without_a_platform(
    words: tuple[str, ...], offers: list[str], runs: Double, home: Home
) -> None:
    assert offered(runs, home, *words) == offers


def test_a_completion_that_fails_offers_nothing_and_says_nothing(
    runs: Double, home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: Home) -> list[object]:
        raise Corrupt("a torn journal")

    monkeypatch.setattr(runs, "stored_runs", broken)
    assert offered(runs, home, "run", "show", "") == []
    assert capsys.readouterr() == ("", "")
