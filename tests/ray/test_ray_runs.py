"""Runs of plans on the real platform: results, deaths on the way, people's acts, money.

Two runs that only wait are submitted with the first test and looked at by the last two: they need half a minute to come to rest.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from ray_kit import AGENTS, kill9, pids, until

from actors import launch, owned
from aip.client import connect
from aip.errors import UsageError
from aip.records import stored_events, stored_run
from aip.settings import Home

pytestmark = pytest.mark.ray

ITEMS = list("abcdefghijkl")


def last(views):
    *_, view = views
    return view


def marks(path):
    return path.read_text().split() if path.exists() else []


class Waiting(NamedTuple):
    for_a_person: str
    for_the_clock: str


@pytest.fixture(scope="module")
def waiting(running):
    return Waiting(*(running.submit(AGENTS / f"{plan}.yaml", {}) for plan in ("gate", "expiring")))


def test_a_run_that_only_waits_is_held(platform, waiting):
    assert [last(platform.watch(run))["state"] for run in waiting] == ["held", "held"]


def test_a_plan_runs_to_its_outputs(platform, tmp_path):
    run = platform.submit(AGENTS / "marks.yaml", {"path": str(tmp_path / "m"), "seconds": 0.0})
    view = last(platform.watch(run))
    assert view["state"] == "succeeded"
    assert view["outputs"] == {"all": ITEMS, "last": "l!"}
    assert sorted(marks(tmp_path / "m")) == sorted([*ITEMS, "l!"])


def finished_before(home, run):
    """Items whose success stands in the journal."""
    started = {}
    done = set()
    for event in stored_events(home, run):
        if event["event"] == "attempt_started" and event["task"] == "fan":
            started[event["lease"]] = event["unit"]
        elif event["event"] == "attempt_succeeded" and event["lease"] in started:
            done.add(ITEMS[started[event["lease"]]])
    return done


@pytest.mark.parametrize("victim", ["cell-", "run-", "checkpoint-0", "orchestrator"])
def test_kill_9_on_the_way_changes_no_result_and_repeats_nothing_finished(platform, tmp_path, victim):
    path = tmp_path / "m"
    run = platform.submit(AGENTS / "marks.yaml", {"path": str(path)})
    until(lambda: len(marks(path)) >= 4)
    before = pids(platform)
    done = finished_before(platform.home, run)
    name = next(n for n in before if n == f"run-{run}" or (victim != "run-" and n.startswith(victim)))
    kill9(before[name])
    view = last(platform.watch(run))
    assert view["state"] == "succeeded", view
    assert view["outputs"] == {"all": ITEMS, "last": "l!"}
    found = marks(path)
    assert set(found) == {*ITEMS, "l!"}
    assert all(found.count(item) == 1 for item in done), (done, found)


def test_a_gate_holds_the_run_until_a_person_decides(platform):
    run = platform.submit(AGENTS / "gate.yaml", {})
    view = last(platform.watch(run))
    assert view["state"] == "held"
    assert view["gates"][0]["question"] == "go on with 1?"
    platform.decide(run, "approve", True, by="user:ada", comment="fine")
    view = last(platform.watch(run))
    assert view["state"] == "succeeded"
    assert view["outputs"] == {"total": 2}
    assert view["tasks"]["approve"]["gate"]["by"] == "user:ada"


def test_a_denied_gate_fails_the_run_and_a_retry_may_go_on_from_it(platform):
    run = platform.submit(AGENTS / "gate.yaml", {})
    last(platform.watch(run))
    platform.decide(run, "approve", False, by="user:ada")
    view = until(lambda: (v := platform.run(run))["state"] == "failed" and v)
    assert view["tasks"]["approve"]["error"]["code"] == "gate.denied"
    until(lambda: run not in platform.status()["active_runs"])
    platform.retry(run, "approve")
    until(lambda: platform.run(run)["state"] == "held")
    platform.decide(run, "approve", True, by="user:ada")
    assert last(platform.watch(run))["state"] == "succeeded"


def test_cancel_reaches_the_agents(platform, tmp_path):
    run = platform.submit(AGENTS / "marks.yaml", {"path": str(tmp_path / "m"), "seconds": 60.0})
    until(lambda: [a for a in platform.agents(run) if a["running"]])
    platform.cancel(run, "test")
    started = time.monotonic()
    assert last(platform.watch(run))["state"] == "cancelled"
    assert time.monotonic() - started < 8
    until(lambda: not platform.agents(run), 10)
    assert marks(tmp_path / "m") == []


def test_pause_starts_nothing_new_and_resume_goes_on(platform, tmp_path):
    path = tmp_path / "m"
    run = platform.submit(AGENTS / "marks.yaml", {"path": str(path)})
    until(lambda: len(marks(path)) >= 2)
    platform.pause(run)
    until(lambda: platform.run(run)["in_flight"] == 0)
    count = len(marks(path))
    time.sleep(0.6)
    assert len(marks(path)) == count < 13
    platform.resume(run)
    assert last(platform.watch(run))["state"] == "succeeded"


def test_a_killed_run_ends_and_nothing_of_it_starts_any_more(platform, tmp_path):
    path = tmp_path / "m"
    run = platform.submit(AGENTS / "marks.yaml", {"path": str(path), "seconds": 0.5})
    until(lambda: len(marks(path)) >= 1)
    platform.kill(f"run/{run}", "test")
    count = len(marks(path))
    assert last(platform.watch(run))["state"] == "killed"
    time.sleep(1.0)
    assert len(marks(path)) == count


def test_a_budget_that_many_agents_share_is_never_overspent(platform):
    run = platform.submit(AGENTS / "money.yaml", {})
    view = until(lambda: (v := platform.run(run))["state"] == "paused" and not v["in_flight"] and v, 30)
    assert view["spend"]["spent"]["tokens"] <= 1000
    platform.resume(run, {"tokens": 4000})
    view = last(platform.watch(run))
    assert view["state"] == "succeeded", view
    assert 2000 <= view["spend"]["spent"]["tokens"] <= 4000


def test_an_edited_agent_is_another_agent(platform, tmp_path):
    (tmp_path / "plan.yaml").write_text((AGENTS / "gate.yaml").read_text().split("  approve:")[0])
    for text in ("one", "two"):
        (tmp_path / "agents.py").write_text(
            "import aip\nclass Counter(aip.Agent):\n    @aip.capability\n"
            f"    async def add(self, amount: int) -> str:\n        return '{text}'\n"
        )
        plan = (tmp_path / "plan.yaml").read_text() + "outputs: {total: '${{ tasks.first.output }}'}\n"
        (tmp_path / "now.yaml").write_text(plan)
        run = platform.submit(tmp_path / "now.yaml", {})
        assert last(platform.watch(run))["outputs"] == {"total": text}


def test_wrong_inputs_are_named(platform):
    with pytest.raises(UsageError, match="path"):
        platform.submit(AGENTS / "marks.yaml", {})


def test_after_all_of_ray_is_killed_the_run_goes_on_where_it_was(tmp_path):
    """Its own platform: this one dies."""
    home = Home(Path(tempfile.mkdtemp(prefix="aip-test-")))
    path = tmp_path / "m"
    try:
        with connect(home, start=True, idle_stop_s=0) as first:
            run = first.submit(AGENTS / "marks.yaml", {"path": str(path)})
            until(lambda: len(marks(path)) >= 4)
            for use in owned.processes(home):
                kill9(use.pid)
        done = finished_before(home, run)
        assert done
        assert stored_run(home, run)["state"] == "running"
        with connect(home, start=True, idle_stop_s=0) as second:
            view = last(second.watch(run))
            assert view["outputs"] == {"all": ITEMS, "last": "l!"}
        found = marks(path)
        assert set(found) == {*ITEMS, "l!"}
        assert all(found.count(item) == 1 for item in done)
    finally:
        launch.stop(home)
        shutil.rmtree(home.root, ignore_errors=True)


@pytest.mark.slow
def test_a_run_that_only_waits_for_a_person_holds_no_process_and_comes_back_for_the_decision(
    platform, waiting
):
    run = waiting.for_a_person
    until(lambda: f"run-{run}" not in pids(platform), timeout_s=90)
    assert platform.run(run)["state"] == "held"
    assert last(platform.watch(run))["state"] == "held"
    platform.decide(run, "approve", True, by="user:ada")
    assert last(platform.watch(run))["outputs"] == {"total": 2}


@pytest.mark.slow
def test_the_clock_wakes_a_run_that_rests(platform, waiting):
    run = waiting.for_the_clock
    until(lambda: platform.run(run)["state"] == "succeeded", timeout_s=120)
    assert platform.run(run)["tasks"]["approve"]["gate"]["by"] == "aip"
