"""Work that is auctioned off: bids are asked, the lowest wins, and is paid the second price when it has done the work."""

from __future__ import annotations

from typing import Any

import pytest
from run_kit import ONCE, PERMANENT, World, agent, plan, task

from aip.errors import ErrorRecord
from aip.orchestration import run_events as ev
from aip.orchestration import run_inputs as inp
from aip.orchestration.parse import check, parse
from aip.orchestration.plan import Market, Method, Plan, Vote
from aip.orchestration.run_view import view

MARKET = Market(("ada", "bob", "cy"), 10, 5.0)


def market_plan(market: Market = MARKET, *more: Any, **fields: Any) -> Plan:
    limits = {key: fields.pop(key) for key in list(fields) if key in ("budget", "concurrency")}
    auctioned = task("x", agent=None, market=market, with_={"n": 1}, retry=ONCE, **fields)
    return plan(auctioned, *more, agents=[agent(name) for name in ("ada", "bob", "cy", "worker")], **limits)


def bids(**prices: Any) -> Any:
    """Answers of a world in which these agents bid so, and do whatever they have won."""

    def answer(one: Any) -> Any:
        if one.capability != "bid":
            return f"{one.agent} did it"
        price = prices.get(one.agent)
        return price if isinstance(price, ErrorRecord) else {"price": price}

    return answer


def test_the_lowest_bid_wins_and_is_paid_the_second_price() -> None:
    world = World(market_plan(budget={"credits": 100}))
    asked = [(one.agent, one.capability, one.arguments) for one in world.open.values()]
    about = {"capability": "work", "arguments": {"n": 1}, "max_price": 10}
    assert asked == [("ada", "bid", about), ("bob", "bid", about), ("cy", "bid", about)]
    world.run_through(bids(ada=7, bob=3, cy=5))
    last = world.dispatched[-1]
    assert (last.task, last.agent, last.capability, last.arguments) == ("x", "bob", "work", {"n": 1})
    assert world.machine.output("x") == "bob did it"
    assert world.machine.run.spent == {"credits": 5}
    assert world.state == "succeeded"


def test_a_single_bidder_is_paid_the_highest_price() -> None:
    world = World(market_plan())
    world.run_through(bids(ada=PERMANENT, bob=3, cy=11))
    assert world.machine.run.spent == {"credits": 10}


def test_without_a_valid_bid_the_task_fails_with_the_reason() -> None:
    world = World(market_plan())
    world.run_through(bids(ada=PERMANENT, bob=11, cy="cheap"))
    assert world.error("x").code == "market.no_bids"
    assert world.error("x").message == "none of 3 agents made a valid bid of at most 10 credits"
    assert world.state == "failed"


def test_who_does_not_bid_in_time_does_not_bid() -> None:
    world = World(market_plan())
    world.succeed("x.bids", {"price": 9}, unit=0)
    world.wait(5.0)
    assert world.asked("x").agent == "ada"


def test_each_item_has_an_auction_of_its_own() -> None:
    world = World(market_plan(for_each=[1, 2]))

    def answer(one: Any) -> Any:
        if one.capability != "bid":
            return one.agent
        return {
            "price": {"ada": 1, "bob": 2, "cy": 3}[one.agent]
            if one.unit < 3
            else {"ada": 6, "bob": 4, "cy": 5}[one.agent]
        }

    world.run_through(answer)
    assert world.machine.output("x") == ["ada", "bob"]
    assert world.machine.run.spent == {"credits": 2 + 5}


def test_an_item_that_nobody_bids_for_fails_alone() -> None:
    from aip.orchestration.plan import Tolerance

    world = World(market_plan(for_each=[1, 2], allow_failures=Tolerance(1)))
    world.run_through(lambda one: PERMANENT if one.capability == "bid" and one.unit < 3 else {"price": 1})
    assert world.machine.output("x") == [None, {"price": 1}]


def test_equal_bids_are_drawn_and_drawn_alike_after_a_crash() -> None:
    winners = set()
    for boundary in range(3):
        world = World(market_plan())
        for unit in range(2):
            world.succeed("x.bids", {"price": 4}, unit=unit)
        one = world.open.pop(world.asked("x.bids", 2).lease)
        if boundary:
            world.open[one.lease] = one
            world.crash()
        if boundary != 0:
            world.succeed("x.bids", {"price": 4}, unit=2)
        else:
            from aip.runtime import codec

            world.tell(inp.Succeeded(one.attempt, one.lease, codec.encode({"price": 4})))
        winners.add(world.asked("x").agent)
    assert len(winners) == 1


def test_a_winner_that_fails_is_not_paid() -> None:
    world = World(market_plan(budget={"credits": 100}))
    world.run_through(lambda one: {"price": 2} if one.capability == "bid" else PERMANENT)
    assert world.state == "failed"
    assert world.machine.run.spent == {}
    assert world.machine.run.promised_credits == 0


def test_what_a_winner_says_of_credits_counts_for_nothing() -> None:
    world = World(market_plan())
    for unit, price in enumerate((4, 6, 8)):
        world.succeed("x.bids", {"price": price}, unit=unit)
    world.succeed("x", "done", credits=999, tokens=3)
    assert world.machine.run.spent == {"credits": 6, "tokens": 3}


def test_awards_never_exceed_the_credits_of_the_plan() -> None:
    world = World(market_plan(for_each=[1, 2, 3], budget={"credits": 11}))
    for unit in range(9):
        world.succeed("x.bids", {"price": 5}, unit=unit)
    assert [one.unit for one in world.open.values()] == [0, 1], "a third award would not be covered"
    world.succeed("x", unit=0)
    world.succeed("x", unit=1)
    assert (world.state, world.machine.run.spent) == ("paused", {"credits": 10})
    assert "5 credits are promised for x, and 1 are left" in world.machine.run.reason
    world.tell(inp.Resume("ada", {"credits": 15}))
    world.succeed("x", unit=2)
    assert (world.state, world.machine.run.spent) == ("succeeded", {"credits": 15})


def test_a_crash_at_every_event_comes_to_the_same_award() -> None:
    a_plan = market_plan(for_each=[1, 2])
    prices = bids(ada=3, bob=3, cy=3)
    world = World(a_plan)
    world.run_through(prices)
    whole, expected = list(world.journal), world.machine.output("x")
    for boundary in range(1, len(whole)):
        again = World(a_plan, start=False)
        again.now_s = ev.decode(whole[boundary - 1]).at_s
        again.journal = whole[:boundary]
        again.crash()
        again.run_through(prices)
        assert again.machine.output("x") == expected
        assert again.replayed().run.snapshot() == again.machine.run.snapshot()


def test_a_retry_keeps_the_award() -> None:
    world = World(market_plan())
    world.run_through(
        lambda one: {"price": {"ada": 1}.get(one.agent, 9)} if one.capability == "bid" else PERMANENT
    )
    world.tell(inp.RetryFrom("x", "ada"))
    assert [(one.task, one.agent) for one in world.open.values()] == [("x", "ada")]
    world.tell(inp.RetryFrom("x.bids", "ada"))
    assert world.refusals[-1].error.code == "user.usage"


def test_the_view_shows_the_bids() -> None:
    world = World(market_plan())
    world.run_through(bids(ada=7, bob=3, cy=5))
    shown = view(world.machine)["tasks"]["x.bids"]
    assert (shown["role"], shown["vote"]["decision"], shown["vote"]["counts"]) == (
        "bids",
        "bob",
        {"ada": 7, "bob": 3, "cy": 5},
    )


# Votes that weigh, rank and close


def voted(rule: Vote) -> World:
    return World(
        plan(task("v", agent=None, vote=rule, retry=ONCE), agents=[agent(name) for name in rule.voters])
    )


def test_a_weighted_vote_counts_what_each_voter_weighs() -> None:
    world = voted(Vote(("ada", "bob", "cy"), 2, 0.5, Method.WEIGHTED, {"ada": 5, "bob": 2}))
    world.run_through(lambda one: {"vote": "yes" if one.agent == "ada" else "no"})
    assert world.machine.output("v")["decision"] == "yes"
    assert world.machine.output("v")["counts"] == {"yes": 5, "no": 3}


def test_a_ranked_vote_passes_ballots_on() -> None:
    ranks = {
        "ada": ["x", "y"],
        "bob": ["x", "y"],
        "cy": ["y", "x"],
        "dee": ["y", "x"],
        "eve": ["z", "y", "x"],
    }
    world = voted(Vote(tuple(ranks), 3, 0.5, Method.RANKED))
    world.run_through(lambda one: {"vote": ranks[one.agent]})
    assert world.machine.output("v")["decision"] == "y"


def test_a_vote_closes_at_its_deadline_with_what_has_come_in() -> None:
    world = voted(Vote(("ada", "bob", "cy"), 2, deadline_s=10.0))
    world.succeed("v", {"vote": "yes"}, unit=0)
    world.succeed("v", {"vote": "yes"}, unit=1)
    world.wait(10.0)
    assert world.state == "succeeded"
    assert [one.get("invalid") for one in world.machine.output("v")["votes"]] == [None, None, True]


def test_a_vote_that_closes_without_its_quorum_fails() -> None:
    world = voted(Vote(("ada", "bob", "cy"), 2, deadline_s=10.0))
    world.succeed("v", {"vote": "yes"}, unit=0)
    world.wait(4.0)
    world.crash()
    world.wait(6.0)
    assert world.error("v").code == "vote.no_quorum"


# In the file


FILE = """\
apiVersion: aip/v1
kind: Plan
metadata: {name: demo}
agents: {a: {use: 'm:A'}, b: {use: 'm:B'}}
models: {w: {base_url: 'http://h/v1', model: m}}
tasks:
  x: {capability: work, assign: {mode: market, auction: vickrey, max_price: 10, bid_timeout: 2s}}
  y: {capability: judge, assign: {mode: vote, voters: [a, b], weights: {a: 3}, deadline: 1m}}
  z: {capability: judge, assign: {mode: vote, voters: [a, b], method: ranked}}
"""


def test_a_market_asks_every_agent_of_the_plan_but_models_and_tools() -> None:
    tasks = parse(FILE.encode(), "plan.yaml").tasks
    assert tasks["x"].market == Market(("a", "b"), 10, 2.0)
    weighed, ranked = tasks["y"].vote, tasks["z"].vote
    assert weighed is not None
    assert (weighed.method, weighed.weights, weighed.deadline_s) == (Method.WEIGHTED, {"a": 3}, 60.0)
    assert ranked is not None
    assert ranked.method is Method.RANKED


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        ({"work": {}, "bid": {}, "judge": {}}, {"judge": {}}, []),
        ({"work": {}, "judge": {}}, {"judge": {}}, ["check.market"]),
        ({"bid": {}, "judge": {}}, {"judge": {}}, ["check.capability"]),
    ],
)
def test_somebody_must_be_able_to_bid_and_to_do_the_work(a: Any, b: Any, told: list[str]) -> None:
    plan_ = parse(FILE.encode(), "plan.yaml")
    found = check(plan_, {"a": {"capabilities": a}, "b": {"capabilities": b}})
    assert [one.code for one in found] == told
