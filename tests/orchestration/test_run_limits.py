"""What bounds a task beside its retries: priority, parallel items, labels, tolerated failures, heartbeats, its results."""

from __future__ import annotations

from typing import Any

import pytest
from run_kit import ONCE, PERMANENT, QUICK, World, plan, task

from aip.errors import ErrorRecord
from aip.orchestration import run_commands as cmd
from aip.orchestration import run_events as ev
from aip.orchestration import run_inputs as inp
from aip.orchestration.artifact import ArtifactRef
from aip.orchestration.output_rule import pointer
from aip.orchestration.plan import OutputRule, Position, Priority, Tolerance, Vote
from aip.orchestration.run_view import view
from aip.runtime import codec

HERE = Position("plan.yaml", 4, 2)
WRITES = {"effect": "write"}


def started(world: World) -> list[str]:
    return [one.task for one in world.dispatched]


# Priority


def test_a_high_priority_starts_before_a_longer_way_to_go() -> None:
    a_plan = plan(
        task("low", priority=Priority.LOW),
        task("long"),
        task("then", "long"),
        task("urgent", priority=Priority.HIGH),
        concurrency=1,
    )
    world = World(a_plan)
    world.run_through()
    assert started(world) == ["urgent", "long", "then", "low"]


# Items at the same time


def test_a_map_has_no_more_than_max_parallel_items_at_work() -> None:
    world = World(plan(task("m", for_each=[1, 2, 3, 4, 5], max_parallel=2), task("other"), concurrency=4))
    assert [(one.task, one.unit) for one in world.open.values()] == [("m", 0), ("m", 1), ("other", 0)]
    world.succeed("m", unit=1)
    assert [one.unit for one in world.open.values() if one.task == "m"] == [0, 2]
    world.run_through()
    assert world.state == "succeeded"


def test_a_retry_that_is_due_waits_for_a_place_of_its_own_task() -> None:
    world = World(plan(task("m", for_each=[1, 2], max_parallel=1, retry=QUICK)))
    world.fail("m", unit=0)
    assert [one.unit for one in world.open.values()] == [1]
    world.wait(1.0)
    assert [one.unit for one in world.open.values()] == [1]
    world.succeed("m", unit=1)
    assert [(one.unit, one.number) for one in world.open.values()] == [(0, 2)]


# Labels


def test_a_label_bounds_the_tasks_that_carry_it_and_no_other() -> None:
    writers = [task(f"w{n}", labels=WRITES) for n in range(3)]
    world = World(plan(*writers, task("free"), concurrency_by_label={"effect=write": 1}))
    assert started(world) == ["w0", "free"]
    world.succeed("w0")
    assert started(world) == ["w0", "free", "w1"]
    world.run_through()
    assert world.state == "succeeded"
    assert started(world)[-1] == "w2"


def test_of_those_that_wait_for_a_label_the_most_urgent_goes_first() -> None:
    world = World(
        plan(
            task("first", labels=WRITES, priority=Priority.HIGH),
            task("later", labels=WRITES),
            task("urgent", labels=WRITES, priority=Priority.HIGH),
            concurrency_by_label={"effect=write": 1},
        )
    )
    world.run_through()
    assert started(world) == ["first", "urgent", "later"]


def test_a_task_with_two_labels_waits_for_both() -> None:
    both = {"effect": "write", "host": "db"}
    limits = {"effect=write": 2, "host=db": 1}
    world = World(
        plan(
            *(task(f"b{n}", labels=both) for n in range(2)),
            task("w", labels=WRITES),
            concurrency_by_label=limits,
        )
    )
    assert started(world) == ["b0", "w"]
    world.succeed("w")
    assert started(world) == ["b0", "w"]
    world.succeed("b0")
    assert started(world) == ["b0", "w", "b1"]


def test_a_label_holds_across_a_crash() -> None:
    world = World(
        plan(*(task(f"w{n}", labels=WRITES) for n in range(3)), concurrency_by_label={"effect=write": 2})
    )
    world.crash()
    assert len(world.open) == 2
    world.run_through()
    assert world.state == "succeeded"


def test_labels_of_plan_and_task_stand_on_the_envelope() -> None:
    from dataclasses import replace

    world = World(replace(plan(task("a", labels=WRITES), task("b")), labels={"team": "x", "effect": "none"}))
    assert [dict(one.labels) for one in world.dispatched] == [
        {"team": "x", "effect": "write"},
        {"team": "x", "effect": "none"},
    ]


# Tolerated failures


@pytest.mark.parametrize(
    ("rule", "items", "allowed"),
    [
        (Tolerance(2), 5, 2),
        (Tolerance(0), 5, 0),
        (Tolerance(percent=20), 5, 1),
        (Tolerance(percent=20), 4, 0),
        (Tolerance(percent=29), 100, 29),
        (Tolerance(percent=100), 7, 7),
    ],
)
def test_a_part_of_the_items_is_rounded_down(rule: Tolerance, items: int, allowed: int) -> None:
    assert rule.of(items) == allowed


def test_a_map_succeeds_while_its_failures_are_tolerated() -> None:
    a_map = task(
        "m", for_each=[1, 2, 3, 4], allow_failures=Tolerance(1), with_={"n": "${{ item }}"}, retry=ONCE
    )
    world = World(plan(a_map, outputs={"all": "${{ tasks.m.outputs }}"}))
    world.run_through(lambda one: PERMANENT if one.arguments["n"] == 2 else one.arguments["n"])
    assert world.state == "succeeded"
    assert world.finish.outputs == {"all": [1, None, 3, 4]}


def test_one_failure_more_fails_the_map_and_starts_no_other_item() -> None:
    world = World(
        plan(task("m", for_each=[1, 2, 3, 4], allow_failures=Tolerance(1), retry=ONCE), concurrency=1)
    )
    world.fail("m", PERMANENT, unit=0)
    world.fail("m", PERMANENT, unit=1)
    assert world.state == "failed"
    assert not world.open
    assert world.error("m").details["index"] == 0


def test_an_item_without_a_decision_may_be_tolerated_too() -> None:
    voted = task(
        "v",
        for_each=["a", "b"],
        vote=Vote(("worker",), quorum=1),
        allow_failures=Tolerance(percent=50),
        retry=ONCE,
    )
    world = World(plan(voted, outputs={"all": "${{ tasks.v.outputs }}"}))
    world.fail("v", PERMANENT, unit=0)
    world.succeed("v", {"vote": "yes"}, unit=1)
    assert world.state == "succeeded"
    assert world.finish.outputs is not None
    first, second = world.finish.outputs["all"]
    assert (first, second["decision"]) == (None, "yes")


# Heartbeat


def test_an_attempt_that_falls_silent_is_lost_and_made_again() -> None:
    world = World(plan(task("a", heartbeat_s=30.0, retry=QUICK)))
    first = world.asked("a")
    assert world.issued(cmd.SetTimer)[0].at_s == 130.0
    world.wait(20.0)
    world.tell(inp.Progress(first.attempt, first.lease, "half"))
    world.wait(29.0)
    assert not world.issued(cmd.CancelAttempt)
    world.wait(1.0)
    assert [one.reason for one in world.issued(cmd.CancelAttempt)] == ["no heartbeat"]
    failed = next(one for one in map(ev.decode, world.journal) if isinstance(one, ev.AttemptFailed))
    assert (failed.error.code, failed.again_at_s) == ("undelivered.agent_lost", world.now_s + 1.0)
    world.wait(1.0)
    assert world.asked("a").number == 2


def test_progress_of_one_attempt_does_not_speak_for_another() -> None:
    world = World(plan(task("m", for_each=[1, 2], heartbeat_s=10.0, retry=ONCE)))
    world.wait(5.0)
    alive = world.asked("m", 1)
    world.tell(inp.Progress(alive.attempt, alive.lease))
    world.wait(5.0)
    assert [one.unit for one in world.machine.run.in_flight.values()] == [1]


# Results


RULE = OutputRule({"type": "array", "items": {"type": "string"}}, None, HERE)


def test_a_result_that_breaks_its_schema_fails_its_attempt_with_the_place() -> None:
    world = World(plan(task("a", output=RULE, retry=QUICK)))
    world.succeed("a", ["x", 3])
    failed = next(one for one in map(ev.decode, world.journal) if isinstance(one, ev.AttemptFailed))
    assert failed.error.code == "agent.output_invalid"
    assert failed.error.details == {"pointer": "/1", "position": "plan.yaml:4:2"}
    assert failed.error.message == "the result at /1 is an integer, not string"
    world.wait(1.0)
    world.succeed("a", ["x"])
    assert world.state == "succeeded"


def test_a_large_result_that_breaks_its_schema_is_let_go() -> None:
    world = World(plan(task("a", output=RULE, retry=ONCE)))
    ref = ArtifactRef.of(codec.encode({"not": "a list"}))
    world.artifacts[ref.sha256] = {"not": "a list"}
    one = world.open.pop(world.asked("a").lease)
    world.tell(inp.Succeeded(one.attempt, one.lease, ref))
    assert world.state == "failed"
    assert [one.refs for one in world.issued(cmd.CollectArtifacts)] == [(ref,)]


def test_each_item_is_held_to_the_schema_by_itself() -> None:
    rule = OutputRule({"type": "integer"}, None, HERE)
    world = World(plan(task("m", for_each=[1, 2], output=rule, retry=ONCE, allow_failures=Tolerance(1))))
    world.succeed("m", "one", unit=0)
    world.succeed("m", 2, unit=1)
    assert world.machine.output("m") == [None, 2]


@pytest.mark.parametrize(
    ("path", "expected"), [((), ""), (("a", 0), "/a/0"), (("a/b", "~c"), "/a~1b/~0c"), (("",), "/")]
)
def test_a_pointer_is_as_rfc_6901_writes_it(path: tuple[Any, ...], expected: str) -> None:
    assert pointer(path) == expected


def large(world: World, name: str, value: Any) -> ArtifactRef:
    """Let the task succeed with a result that is an artifact."""
    ref = ArtifactRef.of(codec.encode(value))
    world.artifacts[ref.sha256] = value
    one = world.open.pop(world.asked(name).lease)
    world.tell(inp.Succeeded(one.attempt, one.lease, ref))
    return ref


def test_a_result_is_let_go_after_its_ttl_once_nobody_needs_it() -> None:
    kept = OutputRule(None, 60.0, HERE)
    world = World(
        plan(task("a", output=kept), task("b", "a", with_={"x": "${{ tasks.a.output }}"}), task("c"))
    )
    ref = large(world, "a", "x" * 9)
    world.wait(100.0)
    assert not world.issued(cmd.CollectArtifacts), "b still needs it"
    world.succeed("b")
    world.wait(0.0)
    assert [one.refs for one in world.issued(cmd.CollectArtifacts)] == [(ref,)]
    world.crash()
    world.succeed("c")
    assert world.state == "succeeded"
    world.tell(inp.RetryFrom("b", "ada"))
    assert world.error("b").code == "result.expired"
    assert "retry from a" in world.error("b").hint


def test_a_result_that_the_outputs_tell_outlives_its_ttl() -> None:
    kept = OutputRule(None, 60.0, HERE)
    world = World(plan(task("a", output=kept), task("c"), outputs={"a": "${{ tasks.a.output }}"}))
    large(world, "a", "x")
    world.wait(100.0)
    world.succeed("c")
    assert world.finish.outputs == {"a": "x"}
    assert not world.issued(cmd.CollectArtifacts)


def test_a_ttl_counts_on_after_a_crash() -> None:
    world = World(plan(task("a", output=OutputRule(None, 60.0, HERE)), task("c")))
    ref = large(world, "a", "x")
    world.now_s += 10.0
    world.crash()
    assert min(one.at_s for one in world.issued(cmd.SetTimer)) == 160.0
    world.wait(50.0)
    assert [one.refs for one in world.issued(cmd.CollectArtifacts)] == [(ref,)]
    assert world.replayed().run.snapshot() == world.machine.run.snapshot()


def test_a_ttl_that_is_over_after_the_run_lets_the_result_go_when_the_run_is_looked_after() -> None:
    rules = {"a": 60.0, "b": 30.0, "out": 10.0}
    tasks = [task(name, output=OutputRule(None, ttl_s, HERE)) for name, ttl_s in rules.items()]
    world = World(plan(*tasks, outputs={"out": "${{ tasks.out.output }}"}))
    refs = {name: large(world, name, name) for name in rules}
    assert world.state == "succeeded"
    assert world.machine.next_expiry_s() == 130.0, "what the outputs tell never goes"
    world.now_s = 131.0
    world.crash()
    assert [one.refs for one in world.issued(cmd.CollectArtifacts)] == [(refs["b"],)]
    assert world.machine.next_expiry_s() == 160.0
    assert world.finish.outputs == {"out": "out"}
    world.now_s = 170.0
    world.crash()
    assert [one.refs for one in world.issued(cmd.CollectArtifacts)] == [(refs["b"],), (refs["a"],)]
    assert world.machine.next_expiry_s() is None
    assert world.replayed().run.snapshot() == world.machine.run.snapshot()


def test_the_view_counts_failed_items_of_a_map_that_succeeded() -> None:
    world = World(plan(task("m", for_each=[1, 2], allow_failures=Tolerance(1), retry=ONCE)))
    world.fail("m", ErrorRecord("payload.invalid", "bad"), unit=0)
    world.succeed("m", unit=1)
    shown = view(world.machine)["tasks"]["m"]
    assert (shown["state"], shown["items"]["failed"], shown["items"]["done"]) == ("succeeded", 1, 1)
