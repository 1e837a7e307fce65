"""Tasks that an agent adds to its run: who waits for them, what is refused, what a crash and a retry make of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_kit import ONCE, PERMANENT, TRANSIENT, World, closing, plan, task

from aip.errors import InvalidPayload, UsageError
from aip.orchestration import run_events as ev
from aip.orchestration import run_inputs as inp
from aip.orchestration.parse.added import ADDED_BYTES_MAX, source_of


def entry(*needs: str, **fields: Any) -> dict[str, Any]:
    more = {"needs": list(needs)} if needs else {}
    return {"agent": "worker", "capability": "work", **more, **fields}


def world(*tasks: Any, dynamic_tasks: int = 10, **fields: Any) -> World:
    return World(plan(*tasks, dynamic_tasks=dynamic_tasks, **fields))


def add(one: World, by: str, tasks: dict[str, Any], unit: int = 0) -> str:
    """What became of it: "" or the message of its refusal."""
    before = len(one.refusals)
    one.tell(inp.AddTasks(one.asked(by, unit).attempt, source_of(tasks)))
    fresh = one.refusals[before:]
    return fresh[0].error.message + str(fresh[0].error.details) if fresh else ""


def test_who_waits_for_the_adder_waits_for_what_it_adds_and_sees_it():
    one = world(task("p"), task("d", "p", with_={"all": "${{ tasks.p.added }}"}))
    assert not add(one, "p", {"x": entry(), "y": entry("x", **{"with": {"x": "${{ tasks.x.output }}"}})})
    one.succeed("p", "plan")
    assert one.states() == {"p": "succeeded", "d": "pending", "x": "running", "y": "pending"}
    one.succeed("x", 1)
    assert one.asked("y").arguments == {"x": 1}
    one.succeed("y", 2)
    expected = {"x": {"output": 1, "status": "succeeded"}, "y": {"output": 2, "status": "succeeded"}}
    assert one.asked("d").arguments == {"all": expected}
    one.succeed("d")
    assert one.state == "succeeded"


def test_what_is_added_starts_at_once_or_waits_for_its_adder():
    one = world(task("p"))
    add(one, "p", {"now": entry(), "later": entry(**{"with": {"plan": "${{ tasks.p.output }}"}})})
    assert one.states() == {"p": "running", "now": "running", "later": "pending"}
    one.succeed("p", "the plan")
    assert one.asked("later").arguments == {"plan": "the plan"}


def test_a_failure_of_what_was_added_is_told_by_the_rule_of_those_who_wait():
    one = world(task("p"), task("strict", "p"), task("lax", "p", when="always"))
    add(one, "p", {"x": entry(retry={"attempts": 1})})
    one.succeed("p")
    one.fail("x", PERMANENT)
    assert one.states()["strict"] == "skipped"
    one.succeed("lax")
    assert one.state == "failed"


def test_what_was_added_may_add_and_who_waits_for_it_waits_for_that_too():
    one = world(task("p"), task("d", "p"))
    add(one, "p", {"x": entry(), "y": entry("x")})
    add(one, "x", {"z": entry()})
    one.succeed("p")
    one.succeed("x")
    assert one.states() == {
        "p": "succeeded",
        "d": "pending",
        "x": "succeeded",
        "y": "pending",
        "z": "running",
    }
    one.succeed("z")
    one.succeed("y")
    one.succeed("d")
    assert one.state == "succeeded"


def test_features_of_a_plans_tasks_hold_for_added_ones():
    one = world(task("p"))
    added = {
        "each": entry(for_each="${{ [1, 2] }}", **{"with": {"n": "${{ item }}"}}),
        "ask": {"gate": {"question": "go on?"}, "needs": ["each"]},
        "never": entry(**{"if": "${{ false }}"}),
        "votes": entry(assign={"mode": "vote", "voters": 3, "quorum": 2}) | {"agent": "worker"},
    }
    assert not add(one, "p", added)
    one.succeed("p")
    assert [one.asked("each", unit).arguments for unit in (0, 1)] == [{"n": 1}, {"n": 2}]
    one.succeed("each", unit=0)
    one.succeed("each", unit=1)
    for unit in range(3):
        one.succeed("votes", {"vote": "yes"}, unit)
    ends = {"p": "succeeded", "each": "succeeded", "ask": "waiting", "never": "skipped", "votes": "succeeded"}
    assert one.states() == ends
    one.tell(inp.Decide("ask", "approve", "ada"))
    assert one.state == "succeeded"


@pytest.mark.parametrize(("tasks", "says"), [
    ({"x": entry(agent="nobody")}, "nobody"),
    ({"x": entry("d")}, "waits for p"),
    ({"x": entry("far")}, "waits for p"),
    ({"x": entry("ghost")}, "ghost"),
    ({"x": entry("y"), "y": entry("x")}, "wait for each other"),
    ({"p": entry()}, "already"),
    ({"other": entry()}, "already"),
    ({"end": entry()}, "already"),
    ({"Bad Name!": entry()}, "Bad Name!"),
    ({"x": entry(plan="./other.yaml")}, "submission"),
    ({"x": entry(compensate={"capability": "undo"})}, "undone"),
    ({"x": {"agent": "worker"}}, "capability"),
    ({"x": entry(unheard="of")}, "unheard"),
    ({"x": entry(**{"with": {"a": "${{ tasks.q_added.output }}"}})}, "q_added"),
    ({f"x{n}": entry() for n in range(11)}, "allows 10"),
])  # fmt: skip
def test_what_cannot_be_added_is_refused_and_nothing_of_it_is_added(tasks: dict[str, Any], says: str):
    one = world(
        task("p"), task("q"), task("other"), task("d", "p"), task("far", "d"), closing=[closing("end")]
    )
    assert not add(one, "q", {"q_added": entry()})
    before = one.states(), len(one.journal)
    assert says in add(one, "p", tasks)
    assert (one.states(), len(one.journal)) == before


def test_a_plan_that_says_nothing_allows_none():
    one = world(task("p"), dynamic_tasks=0)
    assert "allows 0" in add(one, "p", {"x": entry()})


def test_an_attempt_that_is_over_adds_nothing():
    one = world(task("p"), task("d", "p"))
    stale = one.asked("p").attempt
    one.succeed("p")
    one.tell(inp.AddTasks(stale, source_of({"x": entry()})))
    assert one.refusals[-1].error.code == "undelivered.fenced"
    assert "x" not in one.states()


def test_a_run_that_is_ending_takes_nothing_more():
    one = world(task("p"))
    one.tell(inp.Cancel("ada"))
    assert "ending" in add(one, "p", {"x": entry()})


def test_the_attempt_that_is_made_again_adds_the_same_again_and_nothing_else_by_that_name():
    one = world(task("p"), task("d", "p"))
    add(one, "p", {"x": entry()})
    one.crash()
    assert not add(one, "p", {"x": entry()})
    assert not add(one, "p", {"x": entry(), "y": entry()})
    assert "other content" in add(one, "p", {"x": entry(timeout="5s")})
    one.fail("p", TRANSIENT)
    one.wait(5)
    assert not add(one, "p", {"x": entry()})
    assert sum(isinstance(ev.decode(record), ev.TasksAdded) for record in one.journal) == 2
    assert one.machine.run.added_count == 2


def test_a_retry_of_the_adder_takes_back_what_it_had_added():
    one = world(task("p"), task("d", "p", with_={"all": "${{ tasks.p.added }}"}), task("e", "d"))
    add(one, "p", {"x": entry(), "y": entry("x")})
    add(one, "x", {"z": entry()})
    one.run_through(lambda each: PERMANENT if each.task == "d" else each.task)
    assert one.state == "failed"
    one.tell(inp.RetryFrom("p", "ada"))
    gone = {name for name in one.states() if "withdrawn" in name}
    assert {name.partition(".")[0] for name in gone} == {"x", "y", "z"}
    assert {one.states()[name] for name in gone} == {"skipped"}
    assert not add(one, "p", {"x": entry(timeout="9s")})
    one.succeed("p")
    one.succeed("x", "new")
    assert one.asked("d").arguments == {"all": {"x": {"output": "new", "status": "succeeded"}}}
    one.run_through()
    assert one.state == "succeeded"
    assert one.replayed().run.snapshot() == one.machine.run.snapshot()


def test_a_retry_of_what_was_added_leaves_its_adder_alone():
    one = world(task("p"), task("d", "p"))
    add(one, "p", {"x": entry(retry={"attempts": 1})})
    one.succeed("p")
    one.fail("x", PERMANENT)
    assert one.state == "failed"
    one.tell(inp.RetryFrom("x", "ada"))
    one.run_through()
    assert one.state == "succeeded"
    assert [each.task for each in one.dispatched] == ["p", "x", "x", "d"]


def test_what_was_added_is_undone_by_nothing_and_the_plan_still_is():
    one = world(task("p"), task("d", "p", retry=ONCE), closing=[closing("end")])
    add(one, "p", {"x": entry()})
    one.run_through(lambda each: PERMANENT if each.task == "d" else None)
    assert one.states() == {"p": "succeeded", "d": "failed", "x": "succeeded", "end": "succeeded"}


def test_an_added_task_is_ranked_as_far_from_the_end_as_its_adder():
    one = world(task("p"), task("far", "p"), task("farther", "far"), task("free"), concurrency=1)
    add(one, "p", {"x": entry()})
    one.succeed("p")
    assert [each.task for each in one.dispatched] == ["p", "x"]


@pytest.mark.parametrize(("tasks", "error"), [
    ({}, UsageError),
    ({"x": object()}, InvalidPayload),
    ({"x": {"with": {"n": float("nan")}}}, InvalidPayload),
    ({"x": {"with": {"t": "x" * ADDED_BYTES_MAX}}}, InvalidPayload),
])  # fmt: skip
def test_what_no_plan_could_hold_does_not_leave_the_agent(tasks: dict[str, Any], error: type[Exception]):
    with pytest.raises(error):
        source_of(tasks)


names = st.sampled_from([f"x{n}" for n in range(6)])


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_additions_with_crashes_end_the_run_and_replay_to_the_same(data: st.DataObject):
    one = world(task("p"), task("q", "p"), task("d", "p", "q"), dynamic_tasks=6)
    for _ in range(data.draw(st.integers(0, 30))):
        if not one.open:
            break
        lease = data.draw(st.sampled_from(sorted(one.open)))
        who = one.open[lease]
        what = data.draw(st.sampled_from(["add", "end", "crash", "retry"]))
        if what == "add":
            mine = [each.name for each in one.machine.run.tasks[who.task].added]
            needs = data.draw(st.lists(st.sampled_from(["q", *mine, who.task]), max_size=2, unique=True))
            one.tell(inp.AddTasks(who.attempt, source_of({data.draw(names): entry(*needs)})))
        elif what == "end":
            del one.open[lease]
            one.tell(inp.Succeeded(who.attempt, lease, b"\xa1x"))
        elif what == "crash":
            one.crash()
        else:
            one.tell(inp.RetryFrom(data.draw(st.sampled_from(sorted(one.states()))), "ada"))
            one.open = {lease: each for lease, each in one.open.items() if lease in one.machine.run.in_flight}
    one.run_through()
    assert one.state == "succeeded"
    assert set(one.states().values()) <= {"succeeded", "skipped"}
    assert one.replayed().run.snapshot() == one.machine.run.snapshot()
