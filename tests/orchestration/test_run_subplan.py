"""A task whose work is a run of another plan: started once, reported as any attempt is, taken up after a crash."""

from __future__ import annotations

from run_kit import ONCE, PERMANENT, QUICK, TRANSIENT, World, plan, task, undo

from aip.orchestration import run_commands as cmd
from aip.orchestration import run_inputs as inp
from aip.orchestration.plan import Plan

OTHER = {"agent": None, "capability": None, "plan": "./other.yaml"}


def sub_plan(**fields: object) -> Plan:
    return plan(
        task("sub", with_={"n": "${{ inputs.n }}"}, **{**OTHER, **fields}),
        task("end", "sub", with_={"got": "${{ tasks.sub.output.sum }}"}),
    )


def test_its_work_is_a_run_with_its_arguments_as_inputs_and_its_outputs_as_result() -> None:
    world = World(sub_plan(budget={"tokens": 9}, labels={"team": "x"}), inputs={"n": 3})
    (started,) = world.issued(cmd.StartRun)
    assert (started.plan, started.arguments, started.budget) == ("./other.yaml", {"n": 3}, {"tokens": 9})
    assert (started.budget_account, dict(started.labels)) == ("r-1/sub", {"team": "x"})
    world.succeed("sub", {"sum": 7}, tokens=4)
    assert world.asked("end").arguments == {"got": 7}
    assert world.machine.run.spent == {"tokens": 4}


def test_a_crash_takes_the_same_run_up_again() -> None:
    world = World(sub_plan(), inputs={"n": 3})
    world.crash()
    first, second = world.issued(cmd.StartRun)
    assert first.idempotency_key == second.idempotency_key
    assert first.lease < second.lease


def test_a_run_that_fails_is_retried_like_an_attempt_under_the_same_key() -> None:
    world = World(sub_plan(retry=QUICK), inputs={"n": 3})
    world.fail("sub", TRANSIENT)
    world.wait(1.0)
    assert [one.number for one in world.issued(cmd.StartRun)] == [1, 2]
    world.fail("sub", PERMANENT)
    assert world.state == "failed"


def test_a_cancellation_and_a_timeout_reach_it() -> None:
    world = World(sub_plan(timeout_s=60.0, retry=ONCE), inputs={"n": 3})
    assert world.asked("sub").deadline_s == 160.0
    world.wait(60.0)
    assert [one.reason for one in world.issued(cmd.CancelAttempt)] == ["timeout"]
    other = World(sub_plan(), inputs={"n": 3})
    other.tell(inp.Cancel("ada"))
    assert len(other.issued(cmd.CancelAttempt)) == 1


def test_each_item_is_a_run_of_its_own_and_the_whole_can_be_undone() -> None:
    mapped = task("sub", for_each=[1, 2], with_={"n": "${{ item }}"}, compensate=undo(), **OTHER)
    world = World(plan(mapped, task("end", "sub", retry=ONCE)))
    keys = {one.idempotency_key for one in world.issued(cmd.StartRun)}
    assert keys == {"r-1/sub/0", "r-1/sub/1"}
    world.run_through(lambda one: PERMANENT if one.task == "end" else None)
    assert world.states()["sub.compensate"] == "succeeded"
