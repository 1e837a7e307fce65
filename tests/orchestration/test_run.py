"""What a run does, said by small plans."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from run_kit import ONCE, PERMANENT, TRANSIENT, World, agent, plan, task

from aip.errors import AgentLost, BudgetExceeded, Corrupt, DeadlineExceeded, ErrorRecord, to_record
from aip.orchestration import run_commands as cmd
from aip.orchestration import run_events as ev
from aip.orchestration import run_inputs as inp
from aip.orchestration.artifact import ArtifactRef
from aip.orchestration.budget import AMOUNT_MAX
from aip.orchestration.plan import Gate, OnExceeded, Vote, When
from aip.orchestration.run import CANCEL_GRACE_S
from aip.orchestration.run_lifecycle import RUN_TRANSITIONS, RunState
from aip.orchestration.run_view import view
from aip.orchestration.template import Template
from aip.runtime import codec

APPROVAL = Gate(Template("Publish ${{ inputs.what }}?"), (), None, "deny")


def names(commands: list[Any]) -> list[str]:
    return [one.task for one in commands]


# Order


def test_a_chain_runs_in_order_and_hands_results_on() -> None:
    world = World(
        plan(
            task("a", with_={"n": "${{ inputs.n }}"}),
            task("b", "a", with_={"n": "${{ tasks.a.output + 1 }}"}),
            outputs={"answer": "${{ tasks.b.output }}"},
        ),
        inputs={"n": 1},
    )
    world.run_through(lambda one: one.arguments["n"] * 10)
    assert [(one.task, one.arguments["n"]) for one in world.dispatched] == [("a", 1), ("b", 11)]
    assert world.finish.outputs == {"answer": 110}
    assert world.state == "succeeded"


def test_each_task_starts_as_soon_as_its_own_dependencies_are_done() -> None:
    world = World(plan(task("a"), task("b"), task("after_a", "a")))
    world.succeed("a")
    assert names(list(world.open.values())) == ["b", "after_a"]


def test_the_longest_way_to_go_starts_first() -> None:
    world = World(plan(task("short"), task("long"), task("then", "long"), concurrency=1))
    assert names(world.dispatched) == ["long"]


def test_no_more_than_concurrency_attempts_are_in_flight() -> None:
    world = World(plan(*(task(f"t{number}") for number in range(10)), concurrency=3))
    assert len(world.open) == 3
    world.succeed(next(iter(world.open.values())).task)
    assert len(world.open) == 3


def test_attempts_go_to_the_least_busy_replica() -> None:
    world = World(
        plan(*(task(f"t{number}") for number in range(6)), agents=[agent("worker", replicas_max=4)])
    )
    assert [one.replica for one in world.dispatched] == [0, 1, 2, 3, 0, 1]


# When and if

ENDS = {"ok": None, "failed": PERMANENT, "skipped": "skip"}


@pytest.mark.parametrize(
    ("when", "first", "second", "expected"),
    [
        (When.ALL_OK, "ok", "ok", "running"),
        (When.ALL_OK, "ok", "failed", "skipped"),
        (When.ALL_OK, "ok", "skipped", "skipped"),
        (When.NONE_FAILED, "ok", "skipped", "running"),
        (When.NONE_FAILED, "skipped", "skipped", "running"),
        (When.NONE_FAILED, "ok", "failed", "skipped"),
        (When.ANY_OK, "ok", "failed", "running"),
        (When.ANY_OK, "failed", "skipped", "skipped"),
        (When.ALWAYS, "failed", "failed", "running"),
        (When.ALWAYS, "skipped", "failed", "running"),
    ],
)
def test_when_decides_which_ends_release_a_task(when: When, first: str, second: str, expected: str) -> None:
    def source(name: str, end: str) -> Any:
        return task(name, condition="${{ false }}" if end == "skipped" else None)

    world = World(plan(source("a", first), source("b", second), task("c", "a", "b", when=when)))
    for name, end in (("a", first), ("b", second)):
        if end != "skipped":
            assert world.states()["c"] in ("pending", "skipped")
            world.succeed(name) if end == "ok" else world.fail(name, PERMANENT)
    assert world.states()["c"] == expected


def test_a_failure_skips_everything_that_needs_it_and_fails_the_run() -> None:
    world = World(plan(task("a"), task("b", "a"), task("c", "b"), task("other")))
    world.fail("a", PERMANENT)
    world.succeed("other")
    assert world.states() == {"a": "failed", "b": "skipped", "c": "skipped", "other": "succeeded"}
    assert world.state == "failed"
    assert view(world.machine)["tasks"]["c"]["skipped_because"] == "b was skipped"


def test_an_if_that_is_false_skips_and_one_that_cannot_be_told_fails() -> None:
    no = task("no", condition="${{ 1 > 2 }}")
    odd = task("odd", condition="${{ inputs.nothing.at_all }}")
    text = task("text", condition="${{ 'yes' }}")
    world = World(plan(no, odd, text))
    assert world.states() == {"no": "skipped", "odd": "failed", "text": "failed"}
    assert world.error("odd").code == "expression.failed"
    assert world.error("odd").details["position"] == "plan.yaml:1:1"


def test_arguments_that_cannot_be_told_fail_the_task_without_an_attempt() -> None:
    world = World(plan(task("a", with_={"x": "${{ inputs.missing }}"})))
    assert world.dispatched == []
    assert world.error("a").code == "expression.failed"
    assert world.state == "failed"


def test_an_output_that_refers_to_a_skipped_task_is_null() -> None:
    skipped = task("a", condition="${{ false }}")
    world = World(
        plan(skipped, task("b"), outputs={"a": "${{ tasks.a.output.url }}", "b": "${{ tasks.b.output }}"})
    )
    world.succeed("b", 5)
    assert world.finish.outputs == {"a": None, "b": 5}


# Retry


@pytest.mark.parametrize(
    ("code", "retryable", "on", "again"),
    [
        ("agent.failed", True, {"transient"}, True),
        ("agent.failed", True, {"timeout"}, False),
        ("agent.failed", False, {"transient"}, False),
        ("agent.failed", False, {"any"}, True),
        ("undelivered.deadline", True, {"timeout"}, True),
        ("undelivered.deadline", True, {"transient"}, False),
        ("undelivered.agent_lost", True, {"agent_lost"}, True),
        ("undelivered.agent_lost", True, {"transient"}, False),
        ("refused.circuit_open", True, {"transient"}, True),
        ("refused.killed", False, {"any"}, False),
        ("refused.denied", False, {"any"}, False),
        ("payload.invalid", False, {"any"}, False),
        ("user.usage", True, {"any"}, False),
        ("effect.in_doubt", False, {"any"}, False),
        ("shop.sold_out", True, {"transient"}, True),
    ],
)
def test_only_errors_of_the_named_families_are_tried_again(
    code: str, retryable: bool, on: set[str], again: bool
) -> None:
    spec = task("a")
    world = World(plan(replace(spec, retry=replace(spec.retry, on=frozenset(on)))))
    world.fail("a", ErrorRecord(code, "no", retryable))
    assert (world.states()["a"] == "ready") is again
    world.wait(1.0)
    assert (len(world.dispatched) == 2) is again


def test_retries_back_off_end_after_the_last_attempt_and_keep_the_key() -> None:
    world = World(plan(task("a")))
    for delay_s in (1.0, 2.0):
        world.fail("a")
        assert world.wait(delay_s - 0.01).commands[-1:] != []  # The timer is set again.
        assert world.open == {}
        world.wait(0.02)
    world.fail("a")
    assert world.states() == {"a": "failed"}
    assert [one.number for one in world.dispatched] == [1, 2, 3]
    assert {one.idempotency_key for one in world.dispatched} == {"r-1/a/0"}
    assert len({one.lease for one in world.dispatched}) == 3


def test_a_lost_agent_fails_its_attempts_only() -> None:
    world = World(plan(task("a"), task("b"), agents=[agent("worker", replicas_max=2)]))
    world.tell(inp.AgentLost("worker", 1))
    assert world.states() == {"a": "running", "b": "ready"}
    assert AgentLost.code in str(world.machine.run.tasks["b"].units and ev.decode(world.journal[-1]))


# Time


def test_an_attempt_that_takes_too_long_is_cancelled_and_tried_again() -> None:
    world = World(plan(task("a", timeout_s=5.0)))
    assert cmd.SetTimer(105.0) in world.commands
    first = world.asked("a")
    world.wait(5.0)
    assert world.issued(cmd.CancelAttempt)[0].lease == first.lease
    world.wait(1.0)
    assert world.asked("a").number == 2
    world.tell(inp.Succeeded(first.attempt, first.lease, codec.encode("late")))
    assert world.machine.stale_reports == 1
    world.succeed("a", "in time")
    assert world.machine.output("a") == "in time"


def test_a_task_past_its_deadline_fails_whether_it_runs_or_waits_for_a_retry() -> None:
    world = World(
        plan(
            task("runs", deadline_s=3.0),
            task("waits", deadline_s=3.0, retry=replace(task("x").retry, attempts=9)),
        )
    )
    world.wait(2.5)
    world.fail("waits")
    world.wait(0.5)
    assert world.states() == {"runs": "failed", "waits": "failed"}
    assert world.error("waits").code == DeadlineExceeded.code


def test_a_plan_past_its_deadline_fails_with_its_work_cancelled() -> None:
    world = World(plan(task("a"), task("b", "a"), deadline_s=10.0))
    world.wait(10.0)
    assert world.states() == {"a": "running", "b": "cancelled"}
    world.wait(CANCEL_GRACE_S)
    assert world.states() == {"a": "cancelled", "b": "cancelled"}
    assert world.state == "failed"
    assert world.finish.error is not None
    assert world.finish.error.code == DeadlineExceeded.code


# for_each


def test_a_map_runs_each_item_and_keeps_their_order() -> None:
    many = task("m", for_each="${{ inputs.list }}", with_={"n": "${{ item }}", "i": "${{ index }}"})
    world = World(
        plan(many, task("sum", "m", with_={"all": "${{ tasks.m.outputs }}"})), inputs={"list": [3, 1, 2]}
    )
    for unit in (2, 0, 1):
        world.succeed("m", world.asked("m", unit).arguments["n"] * 10, unit)
    assert world.asked("sum").arguments == {"all": [30, 10, 20]}


def test_an_empty_map_has_succeeded_with_nothing() -> None:
    world = World(
        plan(task("m", for_each="${{ inputs.list }}"), outputs={"o": "${{ tasks.m.output }}"}),
        inputs={"list": []},
    )
    assert world.finish.outputs == {"o": []}


def test_a_map_over_what_is_no_list_fails() -> None:
    world = World(plan(task("m", for_each="${{ inputs.list }}")), inputs={"list": 5})
    assert world.error("m").code == "payload.invalid"


def test_a_failed_item_fails_the_map_after_its_retries_and_starts_no_other() -> None:
    many = task("m", for_each="${{ inputs.list }}")
    world = World(plan(many, concurrency=2), inputs={"list": [0, 1, 2, 3]})
    world.fail("m", PERMANENT, 1)
    assert world.states() == {"m": "running"}
    assert len(world.dispatched) == 2
    world.succeed("m", None, 0)
    assert world.states() == {"m": "failed"}
    assert world.error("m").details["index"] == 1


def test_items_retry_on_their_own() -> None:
    world = World(plan(task("m", for_each="${{ inputs.list }}")), inputs={"list": ["x", "y"]})
    world.fail("m", TRANSIENT, 0)
    world.succeed("m", "Y", 1)
    world.wait(1.0)
    assert world.asked("m", 0).number == 2
    world.succeed("m", "X", 0)
    assert world.machine.output("m") == ["X", "Y"]


# Vote and gate


def test_voters_are_asked_once_each_and_the_output_is_the_tally() -> None:
    ballots = Vote(("ann", "bob", "cy"), quorum=2)
    agents = [agent(name, 1) for name in ballots.voters]
    world = World(plan(task("v", agent=None, vote=ballots, retry=ONCE), agents=agents))
    assert [one.agent for one in world.dispatched] == ["ann", "bob", "cy"]
    world.succeed("v", {"vote": "ship", "why": "fine"}, 0)
    world.fail("v", TRANSIENT, 1)
    world.succeed("v", {"vote": "ship"}, 2)
    output = world.machine.output("v")
    assert output["decision"] == "ship"
    assert output["counts"] == {"ship": 2}
    assert output["votes"][0] == {"vote": "ship", "why": "fine", "voter": "ann"}
    assert output["votes"][1]["invalid"] is True


def test_a_vote_without_quorum_fails() -> None:
    world = World(plan(task("v", vote=Vote(("worker",) * 3, quorum=3), retry=ONCE)))
    assert [one.replica for one in world.dispatched] == [0, 1, 2]
    for unit in range(3):
        world.succeed("v", {"vote": True} if unit else "no opinion", unit)
    assert world.error("v").code == "vote.no_quorum"


@pytest.mark.parametrize(
    ("decision", "state", "run"), [("approve", "succeeded", "succeeded"), ("deny", "failed", "failed")]
)
def test_a_gate_holds_the_run_until_a_person_decides(decision: str, state: str, run: str) -> None:
    world = World(plan(task("g", agent=None, gate=APPROVAL)), inputs={"what": "the report"})
    assert world.issued(cmd.OpenGate)[0].question == "Publish the report?"
    assert (world.states(), world.state) == ({"g": "waiting"}, "held")
    world.tell(inp.Decide("g", decision, "ada", "looked at it"))
    assert (world.states(), world.state) == ({"g": state}, run)
    assert view(world.machine)["tasks"]["g"]["gate"]["by"] == "ada"


@pytest.mark.parametrize(
    ("by", "state", "refusal"),
    [
        ("user:ada", "succeeded", None),
        ("user:eve", "waiting", "refused.denied"),
        ("", "waiting", "refused.denied"),
    ],
)
def test_only_those_whom_the_gate_names_may_decide_it(by: str, state: str, refusal: str | None) -> None:
    gate = replace(APPROVAL, approvers=("user:ada", "user:bob"), expires_s=60.0, default="approve")
    world = World(plan(task("g", gate=gate)), inputs={"what": "it"})
    assert view(world.machine)["gates"][0]["approvers"] == ["user:ada", "user:bob"]
    before = len(world.journal)
    world.tell(inp.Decide("g", "approve", by))
    assert world.states() == {"g": state}
    assert [one.error.code for one in world.refusals] == ([refusal] if refusal else [])
    if refusal:
        assert len(world.journal) == before
        assert "user:ada, user:bob" in world.refusals[0].error.hint
        world.wait(60.0)  # Its default needs nobody's leave.
        assert world.states() == {"g": "succeeded"}


def test_a_denied_gate_is_named_as_such_and_decided_once() -> None:
    world = World(plan(task("g", gate=APPROVAL), task("other")), inputs={"what": "it"})
    world.tell(inp.Decide("g", "deny", "ada"))
    assert world.error("g").code == "gate.denied"
    world.tell(inp.Decide("g", "approve", "bob"), inp.Decide("nothing", "approve", "bob"))
    assert [one.error.code for one in world.refusals] == ["user.usage", "user.not_found"]


@pytest.mark.parametrize(("default", "state"), [("approve", "succeeded"), ("deny", "failed")])
def test_a_gate_that_expires_takes_its_default(default: str, state: str) -> None:
    gate = replace(APPROVAL, expires_s=60.0, default=default)
    world = World(plan(task("g", gate=gate)), inputs={"what": "it"})
    world.wait(59.0)
    assert world.states() == {"g": "waiting"}
    world.wait(1.0)
    assert world.states() == {"g": state}


def test_a_run_is_not_held_while_other_work_goes_on() -> None:
    world = World(plan(task("g", gate=APPROVAL), task("a"), task("b", "g")), inputs={"what": "it"})
    assert world.state == "running"
    world.succeed("a")
    assert world.state == "held"
    world.tell(inp.Decide("g", "approve", "ada"))
    assert world.state == "running"
    assert names(list(world.open.values())) == ["b"]


# People


def test_pause_starts_nothing_new_and_lets_running_work_finish() -> None:
    world = World(plan(task("a"), task("b", "a")))
    world.tell(inp.Pause("ada"))
    world.succeed("a")
    assert (world.states(), world.state) == ({"a": "succeeded", "b": "ready"}, "paused")
    world.tell(inp.Resume("ada"))
    assert names(list(world.open.values())) == ["b"]


def test_cancel_reaches_running_attempts_and_waits_for_them() -> None:
    world = World(plan(task("a"), task("b"), task("c", "a")))
    world.tell(inp.Cancel("ada", "wrong topic"))
    assert len(world.issued(cmd.CancelAttempt)) == 2
    assert world.states()["c"] == "cancelled"
    world.succeed("a", "done anyway")
    world.fail("b", ErrorRecord("undelivered.cancelled", "stopped"))
    assert world.states() == {"a": "succeeded", "b": "failed", "c": "cancelled"}
    assert world.state == "cancelled"


def test_kill_waits_for_nobody() -> None:
    world = World(plan(task("a"), task("b", "a")))
    world.tell(inp.Cancel("ada"), inp.Kill("ada"))
    assert world.states() == {"a": "cancelled", "b": "cancelled"}
    assert world.state == "killed"


def test_retry_from_a_task_runs_it_and_all_after_it_again_and_nothing_else() -> None:
    world = World(plan(task("a"), task("b", "a"), task("c", "b"), task("d", "a")))
    world.succeed("a")
    world.succeed("d")
    world.fail("b", PERMANENT)
    assert world.state == "failed"
    world.tell(inp.RetryFrom("b", "ada"))
    world.run_through()
    assert names(world.dispatched) == ["a", "b", "d", "b", "c"]
    assert world.dispatched[3].idempotency_key == "r-1/b/0/g2"
    assert world.state == "succeeded"


def test_results_of_an_old_generation_are_collected_unless_others_share_them() -> None:
    world = World(plan(task("a"), task("b"), task("c")))
    shared, own = ArtifactRef.of(b"shared"), ArtifactRef.of(b"own")
    for name, ref in (("a", shared), ("b", shared), ("c", own)):
        one = world.open.pop(world.asked(name).lease)
        world.tell(inp.Succeeded(one.attempt, one.lease, ref))
    world.tell(inp.RetryFrom("a", "ada"))
    assert world.issued(cmd.CollectArtifacts) == []
    world.tell(inp.RetryFrom("c", "ada"))
    assert world.issued(cmd.CollectArtifacts) == [cmd.CollectArtifacts((own,))]


def test_a_retry_reaches_what_is_running_downstream() -> None:
    world = World(plan(task("a"), task("b", "a")))
    world.succeed("a")
    old = world.asked("b")
    world.tell(inp.RetryFrom("a", "ada"))
    assert world.issued(cmd.CancelAttempt)[-1].lease == old.lease
    world.tell(inp.Succeeded(old.attempt, old.lease, codec.encode("old")))
    assert world.states() == {"a": "running", "b": "pending"}


def test_what_has_not_ended_cannot_be_retried() -> None:
    world = World(plan(task("a")))
    world.tell(inp.RetryFrom("a", "ada"))
    assert world.refusals[0].error.code == "user.usage"


# Budget


def test_a_task_starts_only_when_its_budget_is_reserved() -> None:
    world = World(
        plan(task("a", budget={"tokens": 60}), task("b", budget={"tokens": 60}), budget={"tokens": 100})
    )
    assert names(world.dispatched) == ["a"]
    assert world.state == "running"
    world.succeed("a", tokens=30)
    assert names(world.dispatched) == ["a", "b"]
    assert view(world.machine)["spend"] == {
        "spent": {"tokens": 30},
        "reserved": {"tokens": 60},
        "limits": {"tokens": 100},
    }


def test_a_budget_that_is_used_up_pauses_and_a_raise_goes_on() -> None:
    world = World(plan(task("a"), task("b", "a", budget={"tokens": 60}), budget={"tokens": 100}))
    world.succeed("a", tokens=70)
    assert (world.state, names(world.dispatched)) == ("paused", ["a"])
    world.tell(inp.Resume("ada", {"tokens": 90}))
    assert world.refusals[-1].error.code == "user.usage"
    world.tell(inp.Resume("ada", {"tokens": 130}))
    assert names(world.dispatched) == ["a", "b"]


def test_an_attempt_that_ran_out_of_the_plans_budget_starts_again_after_a_raise() -> None:
    world = World(plan(task("a", retry=ONCE), budget={"tokens": 100}))
    world.fail("a", to_record(BudgetExceeded("out of tokens")), tokens=100)
    assert world.state == "paused"
    world.tell(inp.Resume("ada", {"tokens": 200}))
    assert world.asked("a").number == 1


@pytest.mark.parametrize(("rule", "cancels"), [(OnExceeded.FAIL, 1), (OnExceeded.FINISH_RUNNING, 0)])
def test_a_budget_may_also_end_the_run(rule: OnExceeded, cancels: int) -> None:
    world = World(
        plan(
            task("a"),
            task("slow"),
            task("b", "a", budget={"tokens": 60}),
            budget={"tokens": 50},
            on_exceeded=rule,
        )
    )
    world.succeed("a")
    assert len(world.issued(cmd.CancelAttempt)) == cancels
    world.succeed("slow")
    assert (world.state, world.states()["b"]) == ("failed", "cancelled")
    assert world.finish.error is not None
    assert world.finish.error.code == BudgetExceeded.code


def test_a_task_that_has_used_up_its_own_budget_fails_alone() -> None:
    world = World(plan(task("a", budget={"tokens": 10}), task("b")))
    world.fail("a", tokens=10)
    world.wait(1.0)
    assert (world.error("a").code, world.states()["b"]) == (BudgetExceeded.code, "running")


# Reports


def test_a_report_counts_once_and_only_under_its_own_lease() -> None:
    world = World(plan(task("a")))
    one = world.asked("a")
    world.tell(inp.Succeeded(one.attempt, one.lease + 1, codec.encode(1)))
    world.tell(inp.Succeeded("r-1/other/0/1.1", one.lease, codec.encode(2)))
    assert world.states() == {"a": "running"}
    world.succeed("a", 3)
    before = len(world.journal)
    world.tell(
        inp.Succeeded(one.attempt, one.lease, codec.encode(4)), inp.Failed(one.attempt, one.lease, PERMANENT)
    )
    assert (world.machine.output("a"), len(world.journal)) == (3, before)


def test_large_results_are_references_and_stale_ones_are_collected() -> None:
    world = World(plan(task("a"), task("b", "a", with_={"text": "${{ tasks.a.output }}"})))
    ref = ArtifactRef.of(b"x" * 9_000)
    world.artifacts[ref.sha256] = "opened"
    one = world.open.pop(world.asked("a").lease)
    world.tell(inp.Succeeded(one.attempt, one.lease, ref))
    assert world.asked("b").arguments == {"text": "opened"}
    assert max(map(len, world.journal)) < 1_000
    stale = ArtifactRef.of(b"other")
    world.tell(inp.Succeeded(one.attempt, one.lease, stale), inp.Succeeded(one.attempt, one.lease, ref))
    assert world.issued(cmd.CollectArtifacts) == [cmd.CollectArtifacts((stale,))]


def test_a_result_that_a_late_report_has_in_common_with_the_one_that_counts_is_kept() -> None:
    world = World(plan(task("a", timeout_s=5.0)))
    late = world.asked("a")
    world.wait(5.0)
    world.wait(1.0)
    live, ref = world.asked("a"), ArtifactRef.of(b"x" * 9_000)
    reports = [inp.Succeeded(one.attempt, one.lease, ref) for one in (late, live)]
    world.tell(*reports)
    world.tell(reports[0])
    assert world.states() == {"a": "succeeded"}
    assert world.issued(cmd.CollectArtifacts) == []


def test_spending_beyond_all_counting_neither_stops_the_run_nor_parts_it_from_its_journal() -> None:
    world = World(plan(task("a"), task("b", "a")))
    world.succeed("a", 1, tokens=AMOUNT_MAX)
    world.succeed("b", 1, tokens=AMOUNT_MAX + 1)
    assert (world.state, world.refusals) == ("succeeded", [])
    assert view(world.machine)["spend"]["spent"] == {"tokens": AMOUNT_MAX}
    assert world.replayed().run.snapshot() == world.machine.run.snapshot()


def test_an_inline_result_above_the_limit_never_reaches_the_journal() -> None:
    world = World(plan(task("a")))
    world.succeed("a", "x" * 5_000)
    assert world.error("a").code == "payload.invalid"
    assert max(map(len, world.journal)) < 1_000


def test_large_outputs_are_handed_over_under_their_reference() -> None:
    world = World(
        plan(task("a", for_each="${{ inputs.l }}"), outputs={"o": "${{ tasks.a.output }}"}),
        inputs={"l": [1, 2, 3]},
    )
    world.run_through(lambda _: "x" * 3_000)
    assert isinstance(world.finish.value, ArtifactRef)
    assert ArtifactRef.of(world.finish.data) == world.finish.value
    world.crash()
    assert world.finish.data == codec.encode({"o": ["x" * 3_000] * 3})


def test_progress_is_shown_and_not_journaled() -> None:
    world = World(plan(task("a")))
    one, before = world.asked("a"), len(world.journal)
    world.tell(inp.Progress(one.attempt, one.lease, "half way", 0.5))
    assert view(world.machine)["tasks"]["a"]["progress"] == {"text": "half way", "fraction": 0.5}
    assert len(world.journal) == before


# Crashes


def test_after_a_crash_what_was_in_flight_starts_again_under_a_new_lease_as_the_same_attempt() -> None:
    world = World(plan(task("a"), task("b", "a", retry=ONCE)))
    world.succeed("a", 1)
    before = world.asked("b")
    world.crash()
    after = world.asked("b")
    assert (after.number, after.idempotency_key) == (before.number, before.idempotency_key)
    assert after.lease > before.lease
    world.tell(inp.Succeeded(before.attempt, before.lease, codec.encode("stale")))
    assert world.states()["b"] == "running"
    world.succeed("b", "fresh")
    assert world.machine.output("b") == "fresh"


def test_after_a_crash_an_attempt_goes_back_to_the_replica_that_may_have_begun_it() -> None:
    world = World(plan(*(task(name) for name in "abc"), agents=[agent("worker", replicas_max=3)]))
    before = {one.task: one.replica for one in world.dispatched}
    world.succeed("a")
    world.crash()
    assert before == {"a": 0, "b": 1, "c": 2}
    assert {one.task: one.replica for one in world.open.values()} == {"b": 1, "c": 2}


def test_after_a_crash_gates_are_asked_again_and_timers_set() -> None:
    gate = replace(APPROVAL, expires_s=60.0)
    world = World(plan(task("g", gate=gate), task("a")), inputs={"what": "it"})
    world.fail("a")
    asked = len(world.issued(cmd.OpenGate))
    world.crash()
    assert len(world.issued(cmd.OpenGate)) == asked + 1
    assert world.issued(cmd.SetTimer)[-1].at_s == 101.0
    world.wait(1.0)
    assert world.asked("a").number == 2


def test_a_start_after_a_crash_that_comes_to_other_arguments_is_refused() -> None:
    world = World(plan(task("a"), task("b", "a", with_={"text": "${{ tasks.a.output }}"})))
    ref = ArtifactRef.of(b"x" * 9_000)
    world.artifacts[ref.sha256] = "as it was"
    one = world.open.pop(world.asked("a").lease)
    world.tell(inp.Succeeded(one.attempt, one.lease, ref))
    world.artifacts[ref.sha256] = "as it is not"
    world.crash()
    assert world.error("b").code == Corrupt.code


def test_a_run_that_was_paused_when_the_platform_fell_is_paused_when_it_stands_again() -> None:
    world = World(plan(task("a")))
    world.tell(inp.Pause("ada"))
    world.crash()
    assert (world.state, world.open) == ("paused", {})
    world.tell(inp.Resume("ada"))
    assert world.asked("a").number == 1


def test_a_clock_that_was_set_back_does_not_make_the_journal_run_backwards() -> None:
    world = World(plan(task("a"), task("b", "a")))
    world.now_s -= 50.0
    world.succeed("a")
    times = [ev.decode(record).at_s for record in world.journal]
    assert times == sorted(times)


def test_a_journal_of_another_plan_version_or_order_is_corrupt() -> None:
    world = World(plan(task("a")))
    other = World(replace(world.plan, digest="e" * 64), start=False)
    with pytest.raises(Corrupt, match="another plan"):
        other.machine.run.apply(ev.decode(world.journal[0]))
    with pytest.raises(Corrupt, match="not an event"):
        ev.decode(b"\x91\xa3abc")
    accepted = ev.decode(world.journal[0])
    assert isinstance(accepted, ev.RunAccepted)
    with pytest.raises(Corrupt, match="version 99"):
        ev.decode(ev.encode(ev.RunAccepted(0.0, 99, "r", "d", "s", b"", "ada")))
    with pytest.raises(Corrupt, match="contradicts"):
        world.machine.run.apply(ev.TaskSkipped(0.0, "a", "no"))


# Tables and views


def test_a_terminal_run_state_is_left_by_nothing_in_the_table() -> None:
    ends = {state for state in RunState if state.terminal}
    assert ends == {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.KILLED}
    assert all(
        ends <= after | {RunState.SUCCEEDED} for state, after in RUN_TRANSITIONS.items() if state not in ends
    )


def test_the_view_names_the_critical_path_and_how_near_the_bound_the_run_came() -> None:
    world = World(plan(task("a"), task("b", "a"), task("c", "a"), concurrency=2))
    world.now_s += 2.0
    world.succeed("a")
    world.now_s += 1.0
    world.succeed("b")
    world.now_s += 4.0
    world.succeed("c")
    seen = view(world.machine)
    assert [(step["task"], step["took_s"]) for step in seen["critical_path"]] == [("a", 2.0), ("c", 5.0)]
    assert seen["efficiency"] == 1.0


def test_events_read_as_json_lines_with_their_names() -> None:
    world = World(plan(task("a")))
    world.succeed("a", {"n": 1})
    lines = [ev.to_json(ev.decode(record)) for record in world.journal]
    assert [line["event"] for line in lines] == [
        "run_accepted",
        "run_moved",
        "task_ready",
        "attempt_started",
        "attempt_succeeded",
        "task_ended",
        "run_finished",
    ]
    assert lines[4]["value"] == {"n": 1}
