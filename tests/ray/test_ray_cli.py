"""The command line against a real platform: a run is paused, paid for, followed; the dashboard answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray_kit import AGENTS, until

from actors import launch
from aip.settings import Home

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
POOL = Path(__file__).parent / "agents_pool"
OUT_OF_BUDGET = 6
SLOWLY_S = (
    2.0  # Twelve, four at once: a command takes a second to start, and there must be something left to pause.
)
TALK = """apiVersion: aip/v1
kind: Plan
metadata: {name: talk}
agents:
  one: {use: "agents:One"}
tasks:
  first: {agent: one, capability: tell, with: {words: [bees, wasps, hornets], seconds: 0.5}}
  second: {agent: one, capability: tell, with: {words: ["${{ string(tasks.first.output) }}"], seconds: 0.0}}
"""


def command(home: Home, *words: object) -> list[str]:
    return [
        sys.executable,
        "-c",
        f"import os, sys; os.environ['AIP_HOME'] = {str(home.root)!r}; sys.path.insert(0, {str(ROOT)!r}); "
        "from aip.cli.main import main; main()",
        *map(str, words),
    ]


def typed(home: Home, *words: object, code: int = 0) -> str:
    done = subprocess.run(command(home, *words), capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == code, done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def aip(platform: Any) -> Callable[..., str]:
    return lambda *words, code=0: typed(platform.home, *words, code=code)


def state(aip: Callable[..., str], run: str) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(aip("run", "show", run, "-o", "json"))
    return shown


def test_pause_starts_nothing_new_and_resume_goes_on(aip, platform, tmp_path):
    marks = tmp_path / "m"
    run = aip(
        "submit", AGENTS / "marks.yaml", "-i", f"path={marks}", "-i", f"seconds={SLOWLY_S}", "--detach"
    ).strip()
    until(lambda: platform.run(run).get("in_flight"))
    aip("pause", run)
    until(lambda: platform.run(run)["in_flight"] == 0)
    paused = state(aip, run)
    assert paused["state"] == "paused"
    count = len(marks.read_text().split())
    assert count < 13
    assert state(aip, run)["tasks"]["fan"]["items"]["done"] == count
    aip("resume", run)
    until(lambda: platform.run(run)["state"] == "succeeded")
    assert sorted(marks.read_text().split()) == sorted([*"abcdefghijkl", "l!"])


def test_a_run_out_of_budget_says_so_and_more_budget_brings_it_to_its_end(aip):
    aip("submit", AGENTS / "money.yaml", code=OUT_OF_BUDGET)
    (run,) = [row["run"] for row in json.loads(aip("run", "list", "-n", "1", "-o", "json"))]
    assert state(aip, run)["spend"]["spent"]["tokens"] <= 1000
    aip("resume", run, "--budget", "tokens=4000")
    until(lambda: state(aip, run)["state"] == "succeeded")
    assert state(aip, run)["spend"]["limits"]["tokens"] == 4000


def test_logs_are_followed_line_by_line_to_the_end_of_the_run(aip, platform, tmp_path):
    shutil.copy(POOL / "agents.py", tmp_path)
    (tmp_path / "plan.yaml").write_text(TALK)
    run = aip("submit", tmp_path / "plan.yaml", "--detach").strip()
    following = subprocess.Popen(
        command(platform.home, "logs", "-f", run, "-o", "ndjson"), stdout=subprocess.PIPE, text=True
    )
    assert following.stdout is not None
    first = json.loads(following.stdout.readline())
    rest = [json.loads(line) for line in following.stdout.read().splitlines()]
    assert following.wait(60) == 0
    assert [(line["task"], line["text"]) for line in (first, *rest)] == [
        ("first", "saying bees"),
        ("first", "saying wasps"),
        ("first", "saying hornets"),
        ("second", "saying 3"),
    ]
    assert [
        json.loads(line)["text"] for line in aip("logs", f"{run}/second", "-o", "ndjson").splitlines()
    ] == ["saying 3"]


@pytest.mark.slow
def test_up_with_the_dashboard_gives_an_address_that_answers_here_only():
    """Its own platform: whether there is a dashboard is decided when it starts."""
    home = Home(Path(tempfile.mkdtemp(prefix="aip-test-")))
    try:
        url = json.loads(typed(home, "up", "--dashboard", "-o", "json"))["dashboard_url"]
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.status == 200
        assert json.loads(typed(home, "status", "-o", "json"))["dashboard_url"] == url
    finally:
        typed(home, "down")
        assert launch.find(home) is None
        shutil.rmtree(home.root, ignore_errors=True)
    assert not os.path.exists(home.root)
