"""Counting votes."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.orchestration.plan import Method, Vote
from aip.orchestration.vote import VOTE_CHARS_MAX, ballot, output, problem, tally, voter_names

YES, NO = {"vote": "yes"}, {"vote": "no"}


def test_reputation_is_looked_up_when_votes_are_counted() -> None:
    rule = Vote(("ada", "bob", "cy"), 2, 0.5, Method.WEIGHTED, None, by_reputation=True)
    assert tally([YES, NO, NO], rule, reputation={"ada": 900, "bob": 300}).counts == {"yes": 900, "no": 301}
    assert tally([YES, NO, NO], rule).decision == "no", "whom nobody has weighed counts once"


@pytest.mark.parametrize("vote", [["a", "a"], ["a", 1], [], "a", True, ["x" * 201], list("abc") * 20])
def test_a_ranking_names_each_answer_once(vote: Any) -> None:
    assert ballot({"vote": vote}, Vote(("a",), 1, 0.5, Method.RANKED)) is None


@pytest.mark.parametrize(
    ("answers", "quorum", "threshold", "decision", "code"),
    [
        ([YES, YES, NO], 3, 0.5, "yes", None),
        ([YES, YES, None], 2, 0.5, "yes", None),
        ([YES, YES, None], 3, 0.5, None, "vote.no_quorum"),
        ([None, None, None], 0, 0.5, None, "vote.no_quorum"),
        ([YES, NO], 2, 0.5, None, "vote.undecided"),
        ([YES, YES, NO, NO], 2, 0.3, None, "vote.undecided"),
        ([YES, YES, YES, NO], 4, 0.75, None, "vote.undecided"),
        ([YES, YES, YES, YES], 4, 0.75, "yes", None),
        ([{"vote": True}, {"vote": False}, {"vote": True}], 3, 0.5, True, None),
        ([{"vote": False}], 1, 0.5, False, None),
        ([{"vote": "true"}, {"vote": True}], 2, 0.5, True, None),
        ([YES, "yes", {"vote": 1}, {"verdict": "yes"}], 2, 0.5, None, "vote.no_quorum"),
    ],
)
def test_a_decision_needs_quorum_and_more_than_the_threshold(
    answers: list[Any], quorum: int, threshold: float, decision: Any, code: str | None
) -> None:
    vote = Vote(("a",) * len(answers), quorum, threshold)
    result = tally(answers, vote)
    found = problem(result, vote)
    assert result.decision is decision or result.decision == decision
    assert (found.code if found else None) == code


@pytest.mark.parametrize(
    "answer", [None, "yes", 1, [], {}, {"vote": None}, {"vote": 1}, {"vote": "x" * (VOTE_CHARS_MAX + 1)}]
)
def test_an_answer_without_a_string_or_boolean_vote_is_no_vote(answer: Any) -> None:
    assert ballot(answer) is None


@given(
    st.lists(st.sampled_from([YES, NO, {"vote": True}, {"vote": "true"}, None, "odd"]), max_size=9),
    st.randoms(),
)
def test_the_order_of_answers_never_matters(answers: list[Any], rng: random.Random) -> None:
    vote = Vote(("a",) * len(answers), 1)
    shuffled = list(answers)
    rng.shuffle(shuffled)
    assert tally(shuffled, vote) == tally(answers, vote)


def test_the_output_keeps_every_answer_under_its_voter() -> None:
    vote = Vote(("ann", "bob", "bob", "cy"), 2)
    answers = [{"vote": "yes", "why": "tested", "voter": "someone else"}, YES, None, "odd"]
    assert voter_names(vote) == ("ann", "bob/0", "bob/1", "cy")
    assert output(tally(answers, vote), answers, vote) == {
        "decision": "yes",
        "votes": [
            {"voter": "ann", "vote": "yes", "why": "tested"},
            {"voter": "bob/0", "vote": "yes"},
            {"voter": "bob/1", "answer": None, "invalid": True},
            {"voter": "cy", "answer": "odd", "invalid": True},
        ],
        "counts": {"yes": 2},
        "quorum": 2,
    }
