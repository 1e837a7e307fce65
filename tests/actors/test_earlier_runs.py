"""A new run ranks its tasks by what earlier runs of the plan took, read from their journals as they lie on the disk."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from actors.earlier_runs import LOOKED_AT_MAX, RUNS_MAX, measured_weights
from aip.orchestration import run_commands as cmd
from aip.orchestration import run_events as ev
from aip.orchestration import run_inputs as inp
from aip.orchestration.parse import parse
from aip.orchestration.plan import Plan
from aip.orchestration.run import RunMachine
from aip.runtime import codec
from aip.runtime.disk import DiskStorage
from aip.runtime.journal import Journal
from aip.settings import Home

PLAN = """\
apiVersion: aip/v1
kind: Plan
metadata: {name: p}
agents: {a: {use: "m:A", replicas: 2}}
tasks:
  short: {agent: a, capability: short}
  long: {agent: a, capability: long}
"""
TOOK_S = {"short": 1.0, "long": 9.0}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def plan_of(text: str) -> Plan:
    return parse(text.encode(), "plan.yaml")


def an_earlier_run(home: Home, run: str, text: str = PLAN, slower: float = 1.0, ended: bool = True) -> Path:
    """A run whose agents took TOOK_S, as its process leaves it on the disk."""
    plan, folder = plan_of(text), home.runs / run
    machine = RunMachine(plan, load=lambda _: None, rng=random.Random(1))
    step = machine.accept(run, text, codec.encode({}), "ada", 100.0)
    events = list(step.events)
    for one in sorted(
        (one for one in step.commands if isinstance(one, cmd.Dispatch)), key=lambda one: TOOK_S[one.task]
    ):
        report = inp.Succeeded(one.attempt, one.lease, codec.encode(None))
        events += machine.handle(report, 100.0 + TOOK_S[one.task] * slower).events
    folder.mkdir(parents=True)
    journal = Journal(DiskStorage(folder / "journal", holder="test"))
    journal.append_many((1, ev.encode(event)) for event in events)
    journal.close()
    if ended:
        (folder / "view.json").write_text(json.dumps({"run": run, "plan": plan.name}))
    return folder


def test_what_a_task_took_is_what_it_weighs(home: Home) -> None:
    an_earlier_run(home, "r-1")
    assert measured_weights(home, "r-2", plan_of(PLAN), {}) == (pytest.approx(TOOK_S), {})


def test_an_edited_plan_keeps_what_its_agents_were_measured_at(home: Home) -> None:
    an_earlier_run(home, "r-1")
    edited = PLAN.replace("  long:", "  renamed:") + "  more: {agent: a, capability: short, needs: [short]}\n"
    found, _ = measured_weights(home, "r-2", plan_of(edited), {})
    assert found == pytest.approx({"short": 1.0, "renamed": 9.0, "more": 1.0})


@pytest.mark.parametrize("ended", [True, False])
def test_where_there_is_no_history_nothing_is_weighed(ended: bool, home: Home) -> None:
    assert measured_weights(home, "r-2", plan_of(PLAN), {}) == (None, {})
    an_earlier_run(home, "r-1", PLAN.replace("name: p", "name: other"), ended=ended)
    an_earlier_run(home, "r-2")  # Itself, at work or brought back.
    an_earlier_run(home, "r-3", ended=False)
    assert measured_weights(home, "r-2", plan_of(PLAN), {}) == (None, {})


def test_only_the_newest_runs_count(home: Home) -> None:
    an_earlier_run(home, "r-0", slower=1000.0)
    for number in range(1, RUNS_MAX + 1):
        an_earlier_run(home, f"r-{number}")
    found, _ = measured_weights(home, "r-x", plan_of(PLAN), {})
    assert found == pytest.approx(TOOK_S)


def test_no_more_runs_are_looked_at_than_a_start_may_wait_for(home: Home) -> None:
    an_earlier_run(home, "r-000")
    for number in range(1, LOOKED_AT_MAX):
        (home.runs / f"r-{number:03}").mkdir()
        (home.runs / f"r-{number:03}" / "view.json").write_text('{"plan": "other"}')
    assert measured_weights(home, "r-x", plan_of(PLAN), {})[0] is not None
    (home.runs / "r-999").mkdir()
    (home.runs / "r-999" / "view.json").write_text('{"plan": "other"}')
    assert measured_weights(home, "r-x", plan_of(PLAN), {})[0] is None


def test_a_run_that_cannot_be_read_is_left_out_and_told(home: Home) -> None:
    an_earlier_run(home, "r-1")
    broken = an_earlier_run(home, "r-2")
    segment = next(path for path in (broken / "journal").iterdir() if path.stat().st_size > 200)
    data = bytearray(segment.read_bytes())
    data[150] ^= 0xFF
    segment.write_bytes(bytes(data))
    (an_earlier_run(home, "r-3") / "view.json").write_text("{")
    found, unreadable = measured_weights(home, "r-x", plan_of(PLAN), {})
    assert found == pytest.approx(TOOK_S)
    assert sorted(unreadable) == ["r-2", "r-3"]


@pytest.mark.parametrize("other", [None, {"short": 9.0, "long": 1.0}, {"short": 1.0, "long": 9.0}])
def test_a_journal_folds_to_the_same_run_whatever_the_weights_are_by_then(
    other: dict[str, float] | None,
) -> None:
    text = PLAN.replace("tasks:", "limits: {concurrency: 1}\ntasks:")
    plan = plan_of(text)
    before = RunMachine(plan, load=lambda _: None, rng=random.Random(1), weights={"short": 1.0, "long": 9.0})
    step = before.accept("r-1", text, codec.encode({}), "ada", 0.0)
    (dispatch,) = [one for one in step.commands if isinstance(one, cmd.Dispatch)]
    assert dispatch.task == "long"
    machine, step = RunMachine.recover(
        plan, step.events, 1.0, load=lambda _: None, rng=random.Random(1), weights=other
    )
    done: dict[str, cmd.Dispatch] = {}
    commands = list(step.commands)
    while commands:
        one = commands.pop(0)
        if isinstance(one, cmd.Dispatch):
            done[one.task] = one
            report = inp.Succeeded(one.attempt, one.lease, codec.encode(None))
            commands += machine.handle(report, 2.0).commands
    assert str(machine.run.state) == "succeeded"
    assert sorted(done) == ["long", "short"]
    again = done["long"]  # What was cut off keeps its number, its key and its agent, early or late.
    kept = (dispatch.number, dispatch.idempotency_key, dispatch.replica)
    assert (again.number, again.idempotency_key, again.replica) == kept
