"""A vote on each item of a list."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
from run_kit import ONCE, PERMANENT, TRANSIENT, World, agent, plan, task

from aip.errors import AIPError, ErrorRecord
from aip.orchestration import graph
from aip.orchestration import run_commands as cmd
from aip.orchestration import run_events as ev
from aip.orchestration import run_inputs as inp
from aip.orchestration.artifact import ArtifactRef
from aip.orchestration.plan import TaskSpec, Vote
from aip.orchestration.run_ballots import Ballots
from aip.orchestration.run_view import DECISIONS_SHOWN_MAX, view
from aip.orchestration.vote import Tally
from aip.runtime import codec

JURY = Vote(("ann", "bob", "cy"), quorum=2)
NO_ANSWER = "no opinion"


class Gone(AIPError):
    code = "test.gone"


def judge(rule: Vote = JURY, **fields: Any) -> TaskSpec:
    with_ = fields.pop("with_", {"case": "${{ item }}", "n": "${{ index }}"})
    fields = {"agent": None, "retry": ONCE, **fields}
    return task("judge", for_each="${{ inputs.cases }}", vote=rule, with_=with_, **fields)


def trial(cases: list[Any], *after: TaskSpec, spec: TaskSpec | None = None, **limits: Any) -> World:
    agents = [agent(name, 2) for name in ("ann", "bob", "cy", "worker")]
    return World(plan(spec or judge(), *after, agents=agents, **limits), inputs={"cases": cases})


def answered(votes: list[list[Any]]) -> Any:
    """A voter's answer to each item, from a table: a row for each item, None where the voter fails."""

    def answer(one: cmd.Dispatch) -> Any:
        vote = votes[one.unit // 3][one.unit % 3]
        return PERMANENT if vote is None else vote if vote == NO_ANSWER else {"vote": vote}

    return answer


# What is asked and what comes of it


def test_every_voter_is_asked_about_every_item_under_a_key_of_its_own() -> None:
    world = trial(["x", "y"])
    assert [(one.agent, one.arguments, one.idempotency_key) for one in world.dispatched] == [
        ("ann", {"case": "x", "n": 0}, "r-1/judge/0"),
        ("bob", {"case": "x", "n": 0}, "r-1/judge/1"),
        ("cy", {"case": "x", "n": 0}, "r-1/judge/2"),
        ("ann", {"case": "y", "n": 1}, "r-1/judge/3"),
        ("bob", {"case": "y", "n": 1}, "r-1/judge/4"),
        ("cy", {"case": "y", "n": 1}, "r-1/judge/5"),
    ]


def test_the_output_is_the_decision_on_each_item_in_the_items_order() -> None:
    sink = task(
        "sink", "judge", with_={"all": "${{ tasks.judge.outputs }}", "one": "${{ tasks.judge.output[1] }}"}
    )
    world = trial(["x", "y"], sink)
    for unit in (5, 0, 3, 1, 4, 2):
        world.succeed("judge", {"vote": "ship" if unit < 3 else unit == 5, "unit": unit}, unit)
    given = world.asked("sink").arguments
    assert given["all"] == [
        {
            "decision": "ship",
            "votes": [{"vote": "ship", "unit": n, "voter": name} for n, name in enumerate(JURY.voters)],
            "counts": {"ship": 3},
            "quorum": 2,
        },
        {
            "decision": False,
            "votes": [{"vote": n == 5, "unit": n, "voter": JURY.voters[n - 3]} for n in (3, 4, 5)],
            "counts": {"false": 2, "true": 1},
            "quorum": 2,
        },
    ]
    assert given["one"] == given["all"][1]


@pytest.mark.parametrize(
    ("votes", "state", "code", "index"),
    [
        ([["a", "a", "a"], ["b", "b", "b"]], "succeeded", None, None),
        ([["a", "a", "b"], ["b", None, "b"]], "succeeded", None, None),
        ([["a", NO_ANSWER, "a"], ["b", "b", None]], "succeeded", None, None),
        ([["a", "a", "a"], ["b", None, None]], "failed", "vote.no_quorum", 1),
        ([["a", NO_ANSWER, NO_ANSWER], ["b", "b", "b"]], "failed", "vote.no_quorum", 0),
        ([["a", "b", "c"], ["b", "b", "b"]], "failed", "vote.undecided", 0),
        ([["a", "a", "a"], ["a", "b", None]], "failed", "vote.undecided", 1),
        ([], "succeeded", None, None),
    ],
)
def test_one_item_without_a_decision_fails_the_task_and_is_named(
    votes: list[list[Any]], state: str, code: str | None, index: int | None
) -> None:
    world = trial(["x"] * len(votes))
    world.run_through(answered(votes))
    assert world.states() == {"judge": state}
    error = world.machine.run.tasks["judge"].error
    assert (error and error.code, error and error.details.get("index")) == (code, index)
    if state == "succeeded":
        assert [one["decision"] for one in world.machine.output("judge")] == [row[0] for row in votes]


def test_an_item_without_a_decision_lets_running_votes_end_and_starts_no_other() -> None:
    world = trial(["x", "y", "z"], concurrency=4)
    for unit in range(3):
        world.fail("judge", PERMANENT, unit)
    asked = {(one.unit // 3, one.unit % 3) for one in world.dispatched}
    assert asked == {(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)}
    for unit in (3, 4):
        assert world.states() == {"judge": "running"}
        world.succeed("judge", {"vote": "a"}, unit)
    world.succeed("judge", {"vote": "a"}, 5)
    assert world.states() == {"judge": "failed"}
    assert len(world.dispatched) == 6
    assert world.error("judge").details["index"] == 0


def test_of_several_items_without_a_decision_the_first_is_named() -> None:
    world = trial(["x", "y", "z"], concurrency=9)
    for unit in (8, 7, 6, 5, 4, 3, 2, 1, 0):
        world.fail("judge", PERMANENT, unit)
    assert world.error("judge").details["index"] == 2


def test_each_voter_of_each_item_retries_on_its_own() -> None:
    world = trial(["x", "y"], spec=judge(retry=replace(ONCE, attempts=2)))
    world.fail("judge", TRANSIENT, 4)
    for unit in (0, 1, 2, 3, 5):
        world.succeed("judge", {"vote": "a"}, unit)
    assert world.states() == {"judge": "ready"}
    world.wait(2.0)
    again = world.asked("judge", 4)
    assert (again.number, again.agent, again.arguments["n"]) == (2, "bob", 1)
    assert again.idempotency_key == "r-1/judge/4"
    world.fail("judge", TRANSIENT, 4)
    assert world.states() == {"judge": "succeeded"}
    assert world.machine.output("judge")[1]["votes"][1] == {"voter": "bob", "answer": None, "invalid": True}


def test_a_voter_that_cannot_be_asked_is_named_with_its_item() -> None:
    world = trial([{"ok": 1}, {}], spec=judge(with_={"x": "${{ item.ok }}"}))
    failed = [event for event in map(ev.decode, world.journal) if isinstance(event, ev.UnitFailed)]
    assert [(one.error.details["index"], one.error.details["voter"]) for one in failed] == [
        (1, "ann"),
        (1, "bob"),
        (1, "cy"),
    ]
    for unit in range(3):
        world.succeed("judge", {"vote": "a"}, unit)
    assert (world.error("judge").code, world.error("judge").details["index"]) == ("vote.no_quorum", 1)


def test_an_answer_that_cannot_be_read_back_fails_the_task_and_is_no_abstention() -> None:
    world = trial(["x"])

    def broken(ref: ArtifactRef) -> Any:
        raise Gone("gone")

    world.machine._scopes._load = broken
    world.succeed("judge", {"vote": "a"}, 0)
    world.succeed("judge", {"vote": "a"}, 1)
    one = world.open.pop(world.asked("judge", 2).lease)
    world.tell(inp.Succeeded(one.attempt, one.lease, ArtifactRef.of(b"lost")))
    assert (world.error("judge").code, world.error("judge").details["index"]) == ("test.gone", 0)


@pytest.mark.parametrize(("cases", "fits"), [(33, True), (34, False)])
def test_the_fan_out_limit_counts_votes(cases: int, fits: bool) -> None:
    world = World(plan(judge(), agents=[agent(name) for name in JURY.voters]), start=False)
    world.machine._limits = world.machine._scopes._limits = world.machine._limits.but(fan_out_max=100)
    world.take(world.machine.accept("r-1", "text", codec.encode({"cases": [0] * cases}), "ada", 1.0))
    assert (world.states()["judge"] == "running") is fits
    if not fits:
        assert "34 items; the limit is 33 with 3 voters" in world.error("judge").message


# Where votes go


def test_votes_of_one_agent_on_one_item_never_meet_at_a_replica_and_all_replicas_work() -> None:
    rule = Vote(("worker",) * 2, quorum=2)
    spec = judge(rule, agent="worker")
    world = World(plan(spec, agents=[agent("worker", 3)]), inputs={"cases": list(range(4))})
    pairs = [tuple(one.replica for one in world.dispatched if one.unit // 2 == item) for item in range(4)]
    assert pairs == [(0, 1), (2, 0), (1, 2), (0, 1)]


def test_voters_with_one_vote_each_are_asked_at_their_least_busy_replica() -> None:
    world = trial(["x", "y", "z"], concurrency=9)
    assert [one.replica for one in world.dispatched if one.agent == "ann"] == [0, 1, 0]


# What is shown


def test_the_view_counts_items_not_votes_and_sums_up_the_decisions() -> None:
    world = trial(["w", "x", "y", "z"], concurrency=9)
    for unit in range(4):
        world.succeed("judge", {"vote": "hold" if unit else "ship"}, unit)
    shown = view(world.machine)["tasks"]["judge"]
    assert shown["items"] == {"total": 4, "done": 1, "failed": 0, "running": 3, "waiting_for_retry": 0}
    assert shown["votes"] == {
        "decisions": {"hold": 1},
        "others": 0,
        "undecided": 0,
        "voters": ["ann", "bob", "cy"],
    }
    assert "vote" not in shown
    world.run_through(lambda one: {"vote": one.unit % 3 == 0 if one.unit < 9 else str(one.unit)})
    shown = view(world.machine)["tasks"]["judge"]
    assert shown["items"] == {"total": 4, "done": 3, "failed": 1, "running": 0, "waiting_for_retry": 0}
    assert (shown["votes"]["decisions"], shown["votes"]["undecided"]) == ({"hold": 1, "false": 2}, 1)


def test_the_summary_of_decisions_is_bounded() -> None:
    count = DECISIONS_SHOWN_MAX + 5
    world = trial([*range(count)], concurrency=200)
    world.run_through(lambda one: {"vote": f"answer {one.unit // 3}"})
    votes = view(world.machine)["tasks"]["judge"]["votes"]
    assert (len(votes["decisions"]), votes["others"]) == (DECISIONS_SHOWN_MAX, 5)


def test_a_drawing_says_who_votes_on_what() -> None:
    a_plan = trial([]).plan
    assert "judge: work by 3 voters for each item" in graph.as_text(a_plan)
    assert 't_judge[["judge: work by 3 voters for each item"]]' in graph.as_mermaid(a_plan)


# Crashes and again


@pytest.mark.parametrize("seed", range(10))
def test_votes_come_to_the_same_with_and_without_crashes_and_no_finished_vote_is_asked_again(
    seed: int,
) -> None:
    rng = random.Random(seed)

    def answer(one: cmd.Dispatch) -> Any:
        return {"vote": "a" if (one.unit * 7 + seed) % 3 else "b", "why": one.arguments}

    quiet, stormy = trial([*range(5)]), trial([*range(5)])
    quiet.run_through(answer)
    finished: set[int] = set()
    while not (stormy.machine.run.state and stormy.machine.run.state.terminal):
        if rng.random() < 0.3:
            stormy.crash()
            assert finished.isdisjoint(one.unit for one in stormy.open.values())
        if stormy.open:
            one = stormy.open.pop(rng.choice(list(stormy.open)))
            finished.add(one.unit)
            stormy.tell(inp.Succeeded(one.attempt, one.lease, codec.encode(answer(one))))
    assert stormy.state == quiet.state
    assert stormy.machine.output("judge") == quiet.machine.output("judge")
    assert stormy.replayed().run.snapshot() == stormy.machine.run.snapshot()


def test_a_crash_between_the_last_vote_and_its_tally_counts_it_after() -> None:
    world = trial(["x", "y"])
    world.run_through(lambda _: {"vote": "a"})
    kinds = [type(ev.decode(record)) for record in world.journal]
    world.crash(events=kinds.index(ev.VoteTallied))
    assert sum(isinstance(ev.decode(record), ev.VoteTallied) for record in world.journal) == 1
    world.run_through(lambda _: {"vote": "a"})
    assert [one["decision"] for one in world.machine.output("judge")] == ["a", "a"]


def test_a_retry_from_the_vote_asks_everybody_again() -> None:
    world = trial(["x"])
    world.run_through(lambda one: {"vote": str(one.unit)})
    assert world.error("judge").code == "vote.undecided"
    world.tell(inp.RetryFrom("judge", "ada"))
    world.run_through(lambda _: {"vote": "a"})
    assert world.machine.output("judge")[0]["counts"] == {"a": 3}


# Limits


def test_a_long_list_of_items_takes_little_memory() -> None:
    items, voters = 30_000, 3
    tracemalloc.start()
    ballots = Ballots(items, voters)
    for unit in range(items * voters):
        ballots.voter_ended(unit)
        if unit % voters == voters - 1:
            ballots.count(unit // voters, Tally("allow", {"allow": 2 + unit % 2}, 3), None)
    size_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size_bytes < 20 * items


def test_an_item_is_counted_once_and_only_when_its_voters_have_ended() -> None:
    ballots = Ballots(2, 2)
    ballots.voter_ended(2)
    with pytest.raises(KeyError):
        ballots.count(1, Tally("a", {"a": 1}, 1), None)
    ballots.voter_ended(3)
    assert ballots.complete == {1}
    ballots.count(1, Tally(None, {}, 0), ErrorRecord("vote.no_quorum", "none"))
    assert (ballots.decided, ballots.undecided, ballots.complete) == (0, 1, set())
    with pytest.raises(KeyError):
        ballots.count(1, Tally("a", {"a": 1}, 1), None)
