"""A run again from its journal, and a task of it again in this process."""

from __future__ import annotations

import io
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from platform_double import T0

from actors.pool_spec import PoolSpec
from actors.run_spec import PoolUse, RunSpec, folder, write_spec
from aip.cli.main import aip
from aip.cli.session import Session
from aip.compute.bundle import pack
from aip.errors import AgentFailed, ErrorRecord, to_record
from aip.orchestration import run_commands as cmd
from aip.orchestration import run_events as ev
from aip.orchestration import run_inputs as inp
from aip.orchestration.parse import parse
from aip.orchestration.run import RunMachine
from aip.orchestration.run_view import view
from aip.runtime import codec
from aip.runtime.checkpoint import ActivationRecord, EffectRecord, StateRecord, encode_record
from aip.runtime.disk import DiskStorage
from aip.runtime.journal import Journal
from aip.settings import DEFAULT_LIMITS, Home

RUN = "r-01m827981bz8swk3eh"
WORKER, HELPER, MODEL = "worker@0123456789ab", "helper@0123456789ab", "model-agent@fedcba987654"
SOURCE = """
apiVersion: aip/v1
kind: Plan
metadata: {name: halves}
inputs:
  count: {type: integer}
defaults:
  retry: {attempts: 2, backoff: {initial: 1s, jitter: 0}, on: [any]}
agents:
  worker: {use: "agents:Worker"}
  helper: {use: "agents:Helper"}
tasks:
  numbers: {agent: worker, capability: numbers, with: {count: "${{ inputs.count }}"}}
  halve:
    for_each: "${{ tasks.numbers.output }}"
    agent: worker
    capability: halve
    with: {number: "${{ item }}"}
  total: {agent: worker, capability: total, with: {numbers: "${{ tasks.numbers.output }}"}}
  relay: {agent: worker, capability: relay, with: {number: 4}}
  pay: {agent: worker, capability: pay, with: {amount: 5}}
  think: {agent: worker, capability: think}
"""
AGENTS = """
import aip


class Worker(aip.Agent):
    async def on_start(self, ctx: aip.Context) -> None:
        self.base = ctx.restored or 0

    @aip.capability
    async def numbers(self, count: int) -> list[int]:
        print("counting")
        return list(range(count))

    @aip.capability
    def halve(self, number: int) -> int:
        if number == 2:
            raise ValueError("two is too few")
        return number // 2

    @aip.capability
    async def total(self, numbers: list[int]) -> int:
        whole = sum(numbers)
        return self.base + whole

    @aip.capability
    async def relay(self, number: int, ctx: aip.Context) -> int:
        return await ctx.call("helper", "double", {"number": number})

    @aip.capability
    async def pay(self, amount: int, ctx: aip.Context) -> str:
        return await ctx.effect("pay", lambda: open("/nonexistent/paid", "w"))

    @aip.capability
    async def think(self, ctx: aip.Context) -> str:
        return await ctx.call("models.writer", "chat", {"messages": []})


class Helper(aip.Agent):
    @aip.capability
    async def double(self, number: int) -> int:
        return 2 * number
"""
TWO = ErrorRecord("agent.failed", "ValueError: two is too few", True)
ANSWERS: dict[str, Callable[[Any], Any]] = {
    "numbers": lambda given: list(range(given["count"])),
    "halve": lambda given: TWO if given["number"] == 2 else given["number"] // 2,
    "total": lambda given: sum(given["numbers"]),
    "relay": lambda given: 8,
    "pay": lambda given: "receipt 7",
    "think": lambda given: "hm",
}


def recorded(
    home: Home, tmp_path: Path, source: str = SOURCE, answers: Any = None, count: int = 3
) -> RunMachine:
    """A run on disk as its process leaves it: spec, journal, last view; its agents' answers are `answers`."""
    code = tmp_path / "plan"
    code.mkdir(exist_ok=True)
    (code / "agents.py").write_text(AGENTS)
    _, place = pack(code, home.code)
    own = PoolUse(
        PoolSpec("0123456789ab", {WORKER: "agents:Worker", HELPER: "agents:Helper"}, str(place)),
        {WORKER: {"capabilities": dict.fromkeys(ANSWERS)}},
    )
    ours = PoolUse(PoolSpec("fedcba987654", {MODEL: "aip.models.agent:ModelAgent"}, ""), {})
    types = {"worker": WORKER, "helper": HELPER, "models.writer": MODEL}
    inputs = codec.encode({"count": count})
    write_spec(home, RunSpec(RUN, source.encode(), "plan.yaml", inputs, types, [own, ours], "user:ada", T0))
    machine = RunMachine(
        parse(source.encode(), "plan.yaml", DEFAULT_LIMITS), load=no_artifacts, rng=random.Random(1)
    )
    journal = Journal(DiskStorage(folder(home, RUN) / "journal", holder="test"))
    steps = [machine.accept(RUN, source, inputs, "user:ada", T0)]
    waiting: list[cmd.Dispatch] = []
    for second in range(100):
        for step in steps:
            journal.append_many((1, ev.encode(event)) for event in step.events)
            waiting += [one for one in step.commands if isinstance(one, cmd.Dispatch)]
        if not waiting and machine.run.state is not None and machine.run.state.terminal:
            break
        reports, waiting = [answered(one, answers or ANSWERS) for one in waiting], []
        steps = [machine.handle_all([*reports, inp.Tick()], T0 + second + 1)]
    journal.close()
    shown = {**view(machine), "outputs": None, "plan_file": "plan.yaml", "version": 9, "fsyncs": 3}
    shown["outputs"] = machine.outputs() if str(machine.run.state) == "succeeded" else None
    (folder(home, RUN) / "view.json").write_text(json.dumps(shown))
    return machine


def no_artifacts(ref: Any) -> Any:
    raise AssertionError(f"nothing here is large enough to be an artifact: {ref}")


def answered(one: cmd.Dispatch, answers: Any) -> inp.Input:
    value = answers[one.capability](one.arguments)
    if isinstance(value, ErrorRecord):
        return inp.Failed(one.attempt, one.lease, value)
    return inp.Succeeded(one.attempt, one.lease, codec.encode(value))


def shard(home: Home, *records: Any) -> None:
    """What the checkpoint shard has on record."""
    journal = Journal(DiskStorage(home.state / "checkpoint-0", holder="test"))
    journal.append_many((1, encode_record(record)) for record in records)
    journal.close()


@pytest.fixture
def typed(home: Home, tmp_path: Path) -> Callable[..., Result]:
    """Types a command about the recorded run, with no platform there."""
    recorded(home, tmp_path)

    def type_words(words: str) -> Result:
        session = Session(home=home, clock=lambda: T0 + 60)
        return CliRunner().invoke(aip, words.split(), obj=session)

    return type_words


Type = Callable[..., Result]


# A run


def test_each_step_of_a_run_says_what_changed_and_what_follows(typed: Type) -> None:
    result = typed("run replay last")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "run_accepted" in lines[0]
    assert "run new -> accepted" in lines[0]
    assert any(
        "numbers running -> succeeded  nothing more to wait for: halve, total" in line for line in lines
    )
    assert any("worker.0 is asked for halve" in line for line in lines)
    assert any("two is too few; again in 1.0 s" in line for line in lines)
    assert "the last view is the journal's" in result.stderr


def test_the_steps_are_data_too(typed: Type) -> None:
    found = json.loads(typed("run replay last -o json").stdout)
    assert found["verified"] is True
    assert found["arguments_checked"] == len(
        [one for one in found["steps"] if one["event"] == "attempt_started"]
    )
    lines = typed("run replay last -o ndjson").stdout.splitlines()
    assert [json.loads(line) for line in lines] == found["steps"]


def test_a_view_that_the_journal_does_not_give_exits_with_8_and_says_where(typed: Type, home: Home) -> None:
    path = folder(home, RUN) / "view.json"
    path.write_text(path.read_text().replace('"state": "failed"', '"state": "succeeded"', 1))
    result = typed("run replay last")
    assert result.exit_code == 8
    assert 'view.state  "succeeded" | "failed"' in result.stderr
    assert json.loads(typed("run replay last -o json").stdout)["verified"] is False


def test_what_another_version_of_aip_writes_into_a_view_beside_is_no_difference(
    typed: Type, home: Home
) -> None:
    path = folder(home, RUN) / "view.json"
    shown = json.loads(path.read_text())
    del shown["efficiency"]
    path.write_text(json.dumps(shown))
    assert typed("run replay last").exit_code == 0


def test_a_plan_that_was_changed_after_the_run_breaks_its_record(
    typed: Type, home: Home, tmp_path: Path
) -> None:
    import msgspec

    from actors.run_spec import read_spec

    spec = read_spec(home, RUN)
    write_spec(home, msgspec.structs.replace(spec, plan_source=spec.plan_source + b"# touched\n"))
    assert typed("run replay last").exit_code == 8


def test_an_event_that_cannot_follow_exits_with_8(typed: Type, home: Home) -> None:
    journal = Journal(DiskStorage(folder(home, RUN) / "journal", holder="test"))
    journal.append(1, ev.encode(ev.TaskReady(T0 + 99, "numbers", 1)))
    journal.close()
    assert typed("run replay last").exit_code == 8


def test_of_a_run_at_work_it_says_how_it_would_be_taken_up(typed: Type, home: Home) -> None:
    for path in (folder(home, RUN) / "journal").iterdir():
        path.unlink()
    (folder(home, RUN) / "view.json").unlink()
    journal = Journal(DiskStorage(folder(home, RUN) / "journal", holder="test"))
    machine = RunMachine(
        parse(SOURCE.encode(), "plan.yaml", DEFAULT_LIMITS), load=no_artifacts, rng=random.Random(1)
    )
    step = machine.accept(RUN, SOURCE, codec.encode({"count": 3}), "user:ada", T0)
    journal.append_many((1, ev.encode(event)) for event in step.events)
    journal.close()
    result = typed("run replay last")
    assert result.exit_code == 0
    assert "taken up now, it would begin with attempt_fenced" in result.stderr


# A task


def test_a_task_that_does_the_same_again_is_told_so(typed: Type) -> None:
    result = typed("run replay last/numbers -o json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["arguments"] == {"count": 3}
    assert found["agent"] == f"{WORKER}/{RUN}.worker.0"
    assert found["idempotency_key"] == f"{RUN}/numbers/0"
    assert found["recorded"] == found["replayed"] == {"state": "succeeded", "value": [0, 1, 2]}


def test_what_the_agent_prints_is_chatter(typed: Type) -> None:
    result = typed("run replay last/numbers")
    assert "counting" in result.stderr
    assert "counting" not in result.stdout


def test_without_a_unit_the_one_that_failed_is_meant(typed: Type) -> None:
    result = typed("run replay last/halve")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"halve unit 2 attempt 2  {WORKER}")
    assert "agents.py:" in result.stdout
    assert typed("run replay last/halve/1").exit_code == 0
    assert json.loads(typed("run replay last/halve --attempt 1 -o json").stdout)["attempt"] == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("run replay last/halve/9", "its units are 0, 1, 2"),
        ("run replay last/halve/2 --attempt 7", "its attempts are 1, 2"),
        ("run replay last/halve/x", "units are numbered from 0"),
        ("run replay last/halves", "halve"),
        ("run replay last --pdb", "which task?"),
        ("run replay last/halve --pdb -o json", "leave out -o"),
    ],
)
def test_what_cannot_be_replayed_as_typed_is_usage(words: str, told: str, typed: Type) -> None:
    result = typed(words)
    assert result.exit_code == 2, result.output
    assert told in result.stderr


def test_another_result_than_the_recorded_exits_with_1_and_shows_where(
    home: Home, tmp_path: Path, typed: Type
) -> None:
    shard(
        home,
        ActivationRecord(f"{WORKER}/{RUN}.worker.0", 1, "cell-1"),
        StateRecord(f"{WORKER}/{RUN}.worker.0", codec.encode(100)),
    )
    result = typed("run replay last/total")
    assert result.exit_code == 1
    assert "$.value  3 | 103" in result.stdout  # It began from the checkpoint that is on record.
    assert "not what the run recorded" in result.stderr


def test_other_agents_of_the_plan_answer_by_their_names(typed: Type) -> None:
    assert json.loads(typed("run replay last/relay -o json").stdout)["replayed"]["value"] == 8


def test_an_effect_is_answered_from_its_record(typed: Type, home: Home) -> None:
    address = f"{WORKER}/{RUN}.worker.0"
    shard(
        home,
        ActivationRecord(address, 3, "cell-1"),
        EffectRecord(address, f"pay:{RUN}/pay/0", "begun"),
        EffectRecord(address, f"pay:{RUN}/pay/0", "done", codec.encode("receipt 7")),
    )
    result = typed("run replay last/pay -o json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["effects_answered"] == [f"pay:{RUN}/pay/0"]
    assert found["replayed"]["value"] == "receipt 7"


def test_an_effect_that_is_not_on_record_is_refused_and_not_performed(typed: Type) -> None:
    found = json.loads(typed("run replay last/pay -o json").stdout)
    assert found["replayed"]["code"] == "refused.not_replayed"
    assert found["effects_refused"] == [f"pay:{RUN}/pay/0"]


def test_a_model_is_not_asked_again(typed: Type) -> None:
    found = json.loads(typed("run replay last/think -o json").stdout)
    assert found["replayed"]["code"] == "refused.not_replayed"
    assert "its answers are not recorded" in found["replayed"]["message"]


def test_the_code_of_the_run_is_used_and_not_what_lies_beside_the_plan_now(
    typed: Type, tmp_path: Path
) -> None:
    (tmp_path / "plan" / "agents.py").write_text("raise AssertionError('this is the edited one')")
    assert typed("run replay last/numbers").exit_code == 0


def test_without_the_code_of_the_run_it_says_what_is_gone(typed: Type, home: Home) -> None:
    for path in sorted(home.code.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    result = typed("run replay last/numbers")
    assert result.exit_code == 2
    assert "the code of this run is gone" in result.stderr


# At the debugger


class Terminal:
    """Where click's runner lets a debugger read and write: behind the runner's own streams."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self.shown = io.StringIO()
        monkeypatch.setattr(sys, "__stdout__", self.shown)

    def type(self, *lines: str) -> None:
        self._patch.setattr(sys, "__stdin__", io.StringIO("".join(f"{line}\n" for line in lines)))


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    return Terminal(monkeypatch)


def test_pdb_stops_at_the_first_line_of_what_went_well(typed: Type, terminal: Terminal) -> None:
    terminal.type("p numbers", "n", "p whole + 39", "c")
    result = typed("run replay last/total --pdb")
    assert result.exit_code == 0, result.output
    shown = terminal.shown.getvalue()
    assert "-> whole = sum(numbers)" in shown
    assert "[0, 1, 2]" in shown
    assert "42" in shown
    assert "the same as in the run" in result.stderr


def test_pdb_stops_where_it_raises_with_its_variables(typed: Type, terminal: Terminal) -> None:
    terminal.type("p number + 40", "q")
    result = typed("run replay last/halve/2 --pdb")
    assert result.exit_code == 0, result.output
    shown = terminal.shown.getvalue()
    assert '-> raise ValueError("two is too few")' in shown
    assert "42" in shown


def test_who_quits_the_debugger_has_left_and_nothing_is_compared(typed: Type, terminal: Terminal) -> None:
    terminal.type("q")
    result = typed("run replay last/total --pdb")
    assert result.exit_code == 130
    assert "recorded" not in result.stdout


def test_where_nothing_is_raised_this_time_pdb_has_nothing_to_show(
    typed: Type, home: Home, tmp_path: Path
) -> None:
    failing = {**ANSWERS, "total": lambda given: TWO}
    for path in (folder(home, RUN) / "journal").iterdir():
        path.unlink()
    recorded(home, tmp_path, answers=failing)
    result = typed("run replay last/total --pdb")
    assert result.exit_code == 1
    assert "it raised nothing this time" in result.stderr


def test_an_error_of_the_agents_own_compares_by_code_and_message() -> None:
    from aip.cli.replay.work import outcome

    mine = to_record(AgentFailed("x", location="a.py:3"))
    elsewhere = to_record(AgentFailed("x", location="b.py:9"))
    assert outcome(None, mine) == outcome(None, elsewhere)
