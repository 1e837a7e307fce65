"""Ballots and auctions by themselves: the properties that their rules are chosen for."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.orchestration.swarm.auction import award, drawn, valid_bid
from aip.orchestration.swarm.ballot import duel_winner, leader, plurality, run_off

NAMES = ["ada", "bob", "cy", "dee"]
bids = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 20), min_size=1)
rankings = st.lists(st.lists(st.sampled_from("abcd"), min_size=1, unique=True), min_size=1, max_size=15)


# Auctions


def gain(cost: int, bid: int, others: dict[str, int], max_price: int) -> int:
    """What a bidder has of the auction when it bids so: what it is paid less what the work costs it."""
    found = award({**others, "me": bid} if bid <= max_price else others, max_price, "occasion")
    return found.price - cost if found is not None and found.winner == "me" else 0


@given(bids, st.integers(0, 20), st.integers(0, 25))
def test_no_bid_serves_better_than_the_true_cost(others: dict[str, int], cost: int, bid: int) -> None:
    max_price = 20
    assert gain(cost, bid, others, max_price) <= gain(cost, cost, others, max_price)


@given(bids, st.integers(0, 20), st.text())
def test_the_lowest_bid_wins_and_is_paid_the_next_one(
    offered: dict[str, int], more: int, occasion: str
) -> None:
    max_price = max(offered.values()) + more
    found = award(offered, max_price, occasion)
    assert found is not None
    prices = sorted(offered.values())
    assert offered[found.winner] == prices[0]
    assert found.price == (prices[1] if len(prices) > 1 else max_price)
    assert award(dict(reversed(offered.items())), max_price, occasion) == found, (
        "the order of bids tells nothing"
    )


def test_nobody_bids_and_nobody_wins() -> None:
    assert award({}, 10, "occasion") is None


def test_equal_bids_are_drawn_evenly_and_the_same_again() -> None:
    wins = Counter(drawn(["ada", "bob", "cy"], f"run/task/{n}/1") for n in range(3_000))
    assert all(900 < count < 1_100 for count in wins.values())
    assert drawn(["ada", "bob"], "x") == drawn(["ada", "bob"], "x")


@pytest.mark.parametrize(
    ("answer", "price"),
    [
        (3, 3),
        ({"price": 0, "why": "idle"}, 0),
        (10, 10),
        (11, None),
        (-1, None),
        (True, None),
        (2.5, None),
        ("3", None),
        (None, None),
        ({"cost": 3}, None),
    ],
)
def test_a_bid_is_a_whole_number_within_the_highest_price(answer: object, price: int | None) -> None:
    assert valid_bid(answer, 10) == price


# Ballots


@given(rankings, st.randoms())
def test_the_order_of_ballots_tells_nothing(ballots: list[list[str]], rng: random.Random) -> None:
    shuffled = list(ballots)
    rng.shuffle(shuffled)
    assert run_off(shuffled) == run_off(ballots)
    assert plurality([one[0] for one in shuffled], [1] * len(ballots)) == plurality(
        [one[0] for one in ballots], [1] * len(ballots)
    )


@given(rankings)
def test_whom_more_than_half_rank_first_wins_at_once(ballots: list[list[str]]) -> None:
    first, count = Counter(one[0] for one in ballots).most_common(1)[0]
    if count * 2 > len(ballots):
        assert len(run_off(ballots)) == 1
        assert leader(run_off(ballots)[-1], 0.5) == first


@given(rankings)
def test_rounds_strike_out_one_answer_each_and_lose_no_ballot_that_still_ranks_one(
    ballots: list[list[str]],
) -> None:
    rounds = run_off(ballots)
    for before, after in itertools.pairwise(rounds):
        (struck,) = set(before) - set(after)
        assert before[struck] == min(before.values())
        assert sum(after.values()) == sum(any(one in after for one in ballot) for ballot in ballots)


@given(rankings)
def test_nobody_wins_whom_another_beats_in_the_last_duel(ballots: list[list[str]]) -> None:
    last = run_off(ballots)[-1]
    winner = leader(last, 0.5)
    if winner is not None and len(last) == 2:
        assert last[winner] > min(last.values())


TENNESSEE = (  # The capital of Tennessee: the usual table for comparing voting rules.
    [["memphis", "nashville", "chattanooga", "knoxville"]] * 42
    + [["nashville", "chattanooga", "knoxville", "memphis"]] * 26
    + [["chattanooga", "knoxville", "nashville", "memphis"]] * 15
    + [["knoxville", "chattanooga", "nashville", "memphis"]] * 17
)


def test_a_known_election_comes_to_its_known_end() -> None:
    rounds = run_off(TENNESSEE)
    assert [list(counts) for counts in rounds] == [
        ["memphis", "nashville", "knoxville", "chattanooga"],
        ["memphis", "knoxville", "nashville"],
        ["knoxville", "memphis"],
    ]
    assert rounds[-1] == {"knoxville": 58, "memphis": 42}
    assert leader(rounds[-1], 0.5) == "knoxville"
    assert duel_winner(TENNESSEE) == "nashville", (
        "run-off passes over the winner of every duel, as it is known to"
    )


def test_a_circle_of_preferences_has_no_winner_of_every_duel() -> None:
    assert duel_winner([["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]]) is None


@pytest.mark.parametrize(
    ("ballots", "threshold", "expected"),
    [
        ([["a", "b"], ["a", "b"], ["b", "a"]], 0.5, "a"),
        ([["a", "b"], ["a", "b"], ["b", "a"]], 0.7, None),
        ([["a"], ["b"]], 0.5, None),
        ([["a"], ["b"], ["c", "b"]], 0.5, "b"),
        ([["a"]], 0.9, "a"),
    ],
)
def test_the_last_round_decides_or_nobody_does(
    ballots: list[list[str]], threshold: float, expected: str | None
) -> None:
    assert leader(run_off(ballots, threshold)[-1], threshold) == expected


def test_a_tie_for_the_last_place_is_broken_by_the_rounds_before() -> None:
    ballots = [["a"]] * 4 + [["b"]] * 3 + [["c"]] * 2 + [["d", "c"]]
    assert [set(counts) for counts in run_off(ballots)] == [set("abcd"), set("abc"), set("ab")]


def test_weights_decide() -> None:
    assert plurality(["yes", "no", "no"], [5, 2, 2]) == {"yes": 5, "no": 4}
