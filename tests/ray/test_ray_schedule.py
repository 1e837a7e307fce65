"""Schedules on the real platform: made once, kept through kill -9 of the root, each time one run."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec
import pytest
from ray_kit import AGENTS, kill9, pids, until

from actors.run_spec import RunSpec
from actors.timetable import Timetable
from aip.errors import NotFound, UsageError
from aip.orchestration.timetable import CatchUp, Overlap, Schedule
from aip.runtime.disk import DiskStorage
from aip.runtime.journal import Journal
from aip.settings import Home

pytestmark = pytest.mark.ray

PLAN = """
apiVersion: aip/v1
kind: Plan
metadata: {name: stamped}
inputs:
  scheduled_at: {type: string}
  seconds: {type: number, default: 0}
agents:
  counter: {use: "agents:Counter", isolation: process}
tasks:
  sleep: {agent: counter, capability: sleep, with: {seconds: "${{ inputs.seconds }}"}}
outputs: {at: "${{ inputs.scheduled_at }}", slept: "${{ tasks.sleep.output }}"}
"""


def last(views):
    *_, view = views
    return view


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "agents.py").write_text((AGENTS / "agents.py").read_text())
    (tmp_path / "plan.yaml").write_text(PLAN)
    return tmp_path / "plan.yaml"


def yearly(name, **more):
    return Schedule(name, "0 0 1 1 *", time.time(), timezone="Europe/Zurich", **more)


def test_a_schedule_outlives_its_root_and_its_plans_folder(platform, plan):
    made = platform.create_schedule(plan, {}, yearly("kept"))
    assert (made["state"], len(made["next"])) == ("active", 5)
    for path in plan.parent.iterdir():
        path.unlink()  # What it submits was packed when it was made.
    first = platform.run_schedule("kept")
    kill9(pids(platform)["orchestrator"])
    until(platform.answers)
    shown = platform.schedule("kept")
    assert (shown["last_run"], shown["started"], shown["next"]) == (first, 1, made["next"])
    second = platform.run_schedule("kept")
    assert second != first
    for run in (first, second):
        view = last(platform.watch(run))
        assert view["state"] == "succeeded", view
        assert view["submitted_by"] == "schedule/kept"
        at = datetime.fromisoformat(view["outputs"]["at"])
        assert abs(at.astimezone(UTC).timestamp() - time.time()) < 120
    platform.remove_schedule("kept")
    kill9(pids(platform)["orchestrator"])
    until(platform.answers)
    with pytest.raises(NotFound):
        platform.schedule("kept")


def test_a_time_that_comes_twice_to_the_root_is_one_run(platform, plan):
    platform.create_schedule(plan, {}, yearly("once"))
    at = round(time.time(), 3)
    given = {"name": "once", "at": at}
    runs = {platform.ask("orchestrator", "schedule_run", **given) for _ in range(2)}
    kill9(pids(platform)["orchestrator"])
    until(platform.answers)
    runs |= {platform.ask("orchestrator", "schedule_run", **given) for _ in range(2)}
    assert len(runs) == 1
    assert platform.schedule("once")["started"] == 1
    platform.remove_schedule("once")


def test_a_time_that_was_missed_is_caught_up_once_and_waits_for_the_run_at_work(platform, plan):
    """Created as if an hour ago: the platform finds the times since then as it would after an absence."""
    long_ago = Schedule("late", "* * * * *", time.time() - 3600, overlap=Overlap.QUEUE)
    platform.create_schedule(plan, {"seconds": 2}, long_ago)
    shown = until(lambda: (one := platform.schedule("late"))["started"] and one)
    assert shown["missed"] >= 55
    assert platform.pause_schedule("late")["state"] == "paused"
    assert last(platform.watch(shown["last_run"]))["state"] == "succeeded"
    until(lambda: not platform.schedule("late")["running"])
    platform.remove_schedule("late")


def test_a_schedule_says_no_where_it_cannot_be(platform, plan):
    platform.create_schedule(plan, {}, yearly("taken"))
    with pytest.raises(UsageError, match="there is a schedule 'taken' already"):
        platform.create_schedule(plan, {}, yearly("taken"))
    with pytest.raises(UsageError, match="the schedule fills the input scheduled_at"):
        platform.create_schedule(plan, {"scheduled_at": "now"}, yearly("other"))
    platform.remove_schedule("taken")


# Killed anywhere: the shell itself over a real journal, without a platform.


class Death(BaseException):
    """kill -9, as the code sees it: nothing after it happens."""


class Fate:
    """Dies at its step number `last`; a step lies before and after everything that leaves a trace."""

    def __init__(self, last):
        self.left = last

    def step(self):
        self.left -= 1
        if not self.left:
            raise Death


class MortalJournal:
    def __init__(self, journal, fate):
        self.journal, self.fate = journal, fate

    def append(self, kind, payload):
        self.fate.step()
        self.journal.append(kind, payload)
        self.fate.step()


@asynccontextmanager
async def life(home: Home, runs: dict[str, str], fate: Fate) -> AsyncIterator[tuple[Timetable, asyncio.Task]]:
    """A root's timetable from its journal on. `runs` is what the root's own records hold: idempotency key -> run."""

    async def submit(spec):
        fate.step()
        run = runs.setdefault(spec["idempotency_key"], spec["run"])
        fate.step()
        return run

    async def durable():
        journal.sync()

    journal = Journal(DiskStorage(home.state / "root", holder="test"))
    timetable = Timetable(
        home,
        MortalJournal(journal, fate),
        durable,
        submit=submit,
        is_active=lambda run: True,
        note=lambda *_: None,
    )
    for record in journal.replay():
        timetable.fold(record.kind, record.payload)
    keeping = asyncio.create_task(timetable.keep())
    try:
        yield timetable, keeping
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError, Death):
            await keeping
        journal.close()


@pytest.mark.parametrize("deaths", [(n, m) for n in (1, 2, 3, 4, 5, 6, 11, 25) for m in (1, 2, 4, 7)])
async def test_a_root_that_dies_at_any_step_runs_every_time_once(tmp_path, deaths):
    home, runs = Home(tmp_path), {}
    schedule = Schedule(
        "poll", "* * * * *", time.time() - 540, "r-template", overlap=Overlap.ALLOW, catch_up=CatchUp.ALL
    )
    template = RunSpec("r-template", b"", "plan.yaml", msgspec.msgpack.encode({}), {}, [], "", 0.0)
    async with life(home, runs, Fate(-1)) as (timetable, keeping):
        keeping.cancel()
        await timetable.methods["schedule_create"](
            msgspec.to_builtins(schedule), msgspec.to_builtins(template, builtin_types=(bytes,))
        )
    for last in deaths:
        async with life(home, runs, Fate(last)) as (_, keeping):
            with pytest.raises(Death):
                await asyncio.wait_for(keeping, 10)
    async with life(home, runs, Fate(-1)) as (timetable, _):
        assert timetable.active
        while not (shown := await timetable.methods["schedule_show"]("poll"))["started"] or shown["waiting"]:
            await asyncio.sleep(0.001)
        await timetable.methods["schedule_pause"]("poll")
    assert shown["missed"] == shown["skipped"] == 0
    assert len(runs) == len(set(runs.values())) == shown["started"] >= 9
    assert sorted(shown["running"]) == sorted(runs.values())


async def test_only_a_schedule_with_a_time_to_come_keeps_the_platform_up(tmp_path):
    template = RunSpec("r-template", b"", "plan.yaml", msgspec.msgpack.encode({}), {}, [], "", 0.0)
    schedule = msgspec.to_builtins(Schedule("poll", "0 0 1 1 *", time.time(), "r-template"))
    async with life(Home(tmp_path), {}, Fate(-1)) as (timetable, _):
        assert not timetable.active
        await timetable.methods["schedule_create"](
            schedule, msgspec.to_builtins(template, builtin_types=(bytes,))
        )
        for verb, active in (("pause", False), ("resume", True), ("remove", False)):
            await timetable.methods[f"schedule_{verb}"]("poll")
            for _ in range(20):
                await asyncio.sleep(0)  # It looks again.
            assert timetable.active is active, verb
