"""When the work is over: what succeeded is undone if the run did not, and `finally` comes last, whatever happened."""

from __future__ import annotations

from typing import Any

import pytest
from run_kit import ONCE, PERMANENT, QUICK, TRANSIENT, World, closing, plan, task, undo

from aip.errors import ErrorRecord
from aip.orchestration import run_commands as cmd
from aip.orchestration import run_events as ev
from aip.orchestration import run_inputs as inp
from aip.orchestration.plan import OnExceeded, Plan
from aip.orchestration.run_view import view
from aip.orchestration.template import Template


def started(world: World) -> list[str]:
    return [one.task for one in world.dispatched]


def saga(**limits: Any) -> Plan:
    """Three steps that can be undone, and one that fails."""
    return plan(
        task("a", compensate=undo({"slot": "${{ tasks.a.output }}"})),
        task("b", "a", compensate=undo()),
        task("c", "b"),
        task("d", "c", compensate=undo(), retry=ONCE),
        **limits,
    )


def fails(*names: str) -> Any:
    return lambda one: PERMANENT if one.task in names else f"did {one.task}"


# Undoing


def test_a_failed_run_is_undone_in_reverse_order_of_success() -> None:
    world = World(saga())
    world.run_through(fails("d"))
    assert started(world) == ["a", "b", "c", "d", "b.compensate", "a.compensate"]
    last = world.dispatched[-1]
    assert (last.capability, last.arguments) == ("undo", {"slot": "did a"})
    assert world.state == "failed"
    assert world.finish.error is not None
    assert (world.finish.error.code, "not_undone" in world.finish.error.details) == ("payload.invalid", False)
    assert world.states()["a.compensate"] == "succeeded"


def test_the_order_is_that_of_success_not_of_the_plan() -> None:
    world = World(plan(*(task(name, compensate=undo()) for name in "abc"), task("end", *"abc", retry=ONCE)))
    for name in "cab":
        world.succeed(name)
    world.fail("end", PERMANENT)
    world.run_through()
    assert started(world)[-3:] == ["b.compensate", "a.compensate", "c.compensate"]


def test_a_run_that_succeeds_undoes_nothing() -> None:
    world = World(saga())
    world.run_through()
    assert world.state == "succeeded"
    assert set(world.states()) == {"a", "b", "c", "d"}


def test_one_thing_is_undone_at_a_time() -> None:
    world = World(saga())
    for name in "abc":
        world.succeed(name)
    world.fail("d", PERMANENT)
    assert [one.task for one in world.open.values()] == ["b.compensate"]
    assert len(world.open) == 1
    assert world.state == "compensating"


def test_what_cannot_be_undone_is_recorded_and_the_others_go_on() -> None:
    world = World(saga())
    world.run_through(fails("d", "b.compensate"))
    assert world.states()["b.compensate"] == "failed"
    assert world.states()["a.compensate"] == "succeeded"
    assert world.finish.error is not None
    assert world.finish.error.details["not_undone"] == ["b"]


def test_undoing_is_retried_like_any_work() -> None:
    world = World(plan(task("a", compensate=undo(retry=QUICK)), task("b", "a", retry=ONCE)))
    world.succeed("a")
    world.fail("b", PERMANENT)
    first = world.asked("a.compensate")
    world.fail("a.compensate", TRANSIENT)
    world.wait(1.0)
    again = world.asked("a.compensate")
    assert (again.number, again.idempotency_key) == (2, first.idempotency_key)
    world.succeed("a.compensate")
    assert world.state == "failed"
    assert world.states()["a.compensate"] == "succeeded"


def test_a_cancelled_run_is_undone_once_its_attempts_have_stopped() -> None:
    world = World(saga())
    world.succeed("a")
    world.tell(inp.Cancel("ada"))
    assert world.state == "running"
    world.fail("b", ErrorRecord("undelivered.cancelled", "stopped"))
    assert world.state == "compensating"
    world.run_through()
    assert world.state == "cancelled"
    assert started(world) == ["a", "b", "a.compensate"]


def test_a_killed_run_does_nothing_more() -> None:
    world = World(plan(task("a", compensate=undo()), task("b", "a"), closing=[closing("tidy")]))
    world.succeed("a")
    world.tell(inp.Kill("ada"))
    assert world.state == "killed"
    assert started(world) == ["a", "b"]


def test_a_kill_ends_undoing_too() -> None:
    world = World(saga())
    for name in "abc":
        world.succeed(name)
    world.fail("d", PERMANENT)
    world.tell(inp.Kill("ada"))
    assert world.state == "killed"
    assert world.states()["b.compensate"] == world.states()["a.compensate"] == "cancelled"


def test_neither_pause_nor_cancel_stops_undoing() -> None:
    world = World(saga())
    for name in "abc":
        world.succeed(name)
    world.fail("d", PERMANENT)
    world.tell(inp.Pause("ada"), inp.Cancel("ada"), inp.RetryFrom("d", "ada"))
    assert [refusal.error.code for refusal in world.refusals] == ["user.usage"] * 3
    assert "aip kill run/r-1" in world.refusals[1].error.hint
    world.run_through()
    assert world.state == "failed"


def test_a_paused_run_begins_to_undo_when_it_is_resumed() -> None:
    world = World(saga())
    for name in "abc":
        world.succeed(name)
    world.tell(inp.Pause("ada"))
    world.fail("d", PERMANENT)
    assert (world.state, len(world.open)) == ("paused", 0)
    world.tell(inp.Resume("ada"))
    assert world.state == "compensating"
    world.run_through()
    assert world.state == "failed"


def test_the_plans_deadline_bounds_the_work_and_not_its_undoing() -> None:
    world = World(saga(deadline_s=30.0))
    for name in "abc":
        world.succeed(name)
    world.wait(30.0)
    world.fail("d", ErrorRecord("undelivered.cancelled", "stopped"))
    assert world.asked("b.compensate").deadline_s == world.now_s + 60.0
    world.wait(40.0)
    world.run_through()
    assert world.states()["a.compensate"] == "succeeded"
    assert world.finish.error is not None
    assert world.finish.error.code == "undelivered.deadline"


def test_undoing_that_takes_too_long_fails_and_the_run_comes_to_its_end() -> None:
    world = World(saga())
    for name in "abc":
        world.succeed(name)
    world.fail("d", PERMANENT)
    world.wait(60.0)
    world.wait(60.0)
    assert world.state == "failed"
    assert world.finish.error is not None
    assert world.finish.error.details["not_undone"] == ["b", "a"]


def test_a_run_out_of_budget_is_undone_all_the_same() -> None:
    world = World(saga(budget={"tokens": 10}, on_exceeded=OnExceeded.FAIL))
    world.succeed("a", tokens=4)
    world.succeed("b", tokens=9)
    assert world.state == "compensating"
    world.run_through()
    assert started(world) == ["a", "b", "b.compensate", "a.compensate"]
    assert world.finish.error is not None
    assert world.finish.error.code == "refused.budget"


def test_a_run_whose_outputs_cannot_be_told_is_undone() -> None:
    a_plan = plan(task("a", compensate=undo()), outputs={"n": "${{ tasks.a.output.missing }}"})
    world = World(a_plan)
    world.run_through(lambda _: {"n": 1})
    assert started(world) == ["a", "a.compensate"]
    assert world.state == "failed"


def test_a_task_that_maps_is_undone_once_and_sees_all_of_it() -> None:
    mapped = task("m", for_each=[1, 2], compensate=undo({"ids": "${{ tasks.m.outputs }}"}))
    world = World(plan(mapped, task("end", "m", retry=ONCE)))
    world.run_through(lambda one: PERMANENT if one.task == "end" else one.unit)
    assert [one.arguments for one in world.dispatched if one.task == "m.compensate"] == [{"ids": [0, 1]}]


def test_a_retry_does_again_what_was_undone() -> None:
    world = World(saga())
    world.run_through(fails("d"))
    before = [one.idempotency_key for one in world.dispatched]
    del world.dispatched[:]
    world.tell(inp.RetryFrom("d", "ada"))
    assert set(world.states()) == {"a", "b", "c", "d"}
    world.run_through(fails("d"))
    assert started(world) == ["a", "b", "c", "d", "b.compensate", "a.compensate"]
    assert not set(before) & {one.idempotency_key for one in world.dispatched}, "all of it is new work"
    world.tell(inp.RetryFrom("d", "ada"))
    world.run_through()
    assert world.state == "succeeded"
    assert world.replayed().run.snapshot() == world.machine.run.snapshot()


def test_what_undoes_cannot_be_retried_by_name() -> None:
    world = World(saga())
    world.run_through(fails("d"))
    world.tell(inp.RetryFrom("a.compensate", "ada"))
    assert world.refusals[0].error.code == "user.usage"


# Finally


@pytest.mark.parametrize(("bad", "end"), [((), "succeeded"), (("a",), "failed")])
def test_finally_comes_last_whatever_happened(bad: tuple[str, ...], end: str) -> None:
    tidy = closing(
        "tidy", with_={"how": "${{ run.state }}", "why": "${{ run.error }}", "a": "${{ tasks.a.status }}"}
    )
    world = World(plan(task("a", retry=ONCE), closing=[tidy, closing("tell", "tidy")]))
    world.run_through(fails(*bad))
    assert started(world) == ["a", "tidy", "tell"]
    why = {"code": "payload.invalid", "message": "bad input"} if bad else None
    assert world.dispatched[1].arguments == {"how": end, "why": why, "a": end}
    assert world.state == end


def test_finally_comes_after_undoing_and_after_a_cancellation() -> None:
    world = World(plan(task("a", compensate=undo()), task("b", "a"), closing=[closing("tidy")]))
    world.succeed("a")
    world.tell(inp.Cancel("ada"))
    world.fail("b", ErrorRecord("undelivered.cancelled", "stopped"))
    world.run_through()
    assert started(world) == ["a", "b", "a.compensate", "tidy"]
    assert world.state == "cancelled"


def test_a_closing_task_that_fails_makes_a_success_a_failure_and_undoes_nothing() -> None:
    world = World(plan(task("a", compensate=undo()), closing=[closing("tidy", retry=ONCE)]))
    world.run_through(fails("tidy"))
    assert started(world) == ["a", "tidy"]
    assert world.finish.error is not None
    assert (world.state, world.finish.error.details["task"]) == ("failed", "tidy")


def test_the_error_of_the_work_outlives_an_error_of_closing() -> None:
    world = World(plan(task("a", retry=ONCE), closing=[closing("tidy", retry=ONCE)]))
    world.run_through(fails("a", "tidy"))
    assert world.finish.error is not None
    assert world.finish.error.details["task"] == "a"


def test_closing_tasks_wait_for_each_other_and_may_map() -> None:
    shelf = closing("shelf", for_each=Template("${{ tasks.a.output }}"), with_={"n": "${{ item }}"})
    world = World(plan(task("a"), closing=[closing("end", "shelf"), shelf]))
    world.run_through(lambda one: [1, 2] if one.task == "a" else None)
    assert started(world) == ["a", "shelf", "shelf", "end"]


def test_outputs_are_told_after_finally() -> None:
    world = World(plan(task("a"), closing=[closing("tidy")], outputs={"a": "${{ tasks.a.output }}"}))
    world.succeed("a", 7)
    assert not world.issued(cmd.Finish)
    world.succeed("tidy")
    assert world.finish.outputs == {"a": 7}


# Crashes


def test_a_crash_at_every_event_comes_to_the_same_end() -> None:
    a_plan = plan(
        task("a", compensate=undo({"slot": "${{ tasks.a.output }}"})),
        task("b", "a", compensate=undo(retry=QUICK)),
        task("c", "b", retry=ONCE),
        closing=[closing("tidy", with_={"how": "${{ run.state }}"})],
    )
    world = World(a_plan)
    world.run_through(fails("c"))
    whole, done = list(world.journal), world.states()
    for boundary in range(1, len(whole)):
        again = World(a_plan, start=False)
        again.now_s = ev.decode(whole[boundary - 1]).at_s
        again.journal = whole[:boundary]
        again.crash()
        again.run_through(fails("c"))
        assert (again.state, again.states()) == ("failed", done)
        undone = [one.task for one in map(ev.decode, again.journal) if isinstance(one, ev.TaskEnded)]
        assert [name for name in undone if name.endswith(".compensate")] == ["b.compensate", "a.compensate"]
        assert again.replayed().run.snapshot() == again.machine.run.snapshot()


def test_the_view_shows_what_undoes_and_what_closes() -> None:
    world = World(plan(task("a", compensate=undo()), task("b", "a", retry=ONCE), closing=[closing("tidy")]))
    assert set(view(world.machine)["tasks"]) == {"a", "b"}
    world.run_through(fails("b"))
    shown = view(world.machine)["tasks"]
    assert [(name, one.get("role")) for name, one in shown.items()] == [
        ("a", None),
        ("b", None),
        ("a.compensate", "undo"),
        ("tidy", "close"),
    ]
