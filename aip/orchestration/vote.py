"""Counting votes. Pure: answers in, tally out.

A *valid* vote is an object with a `vote` as the method asks for it; the rest of the object is the voter's evidence and is
kept. Everything else (a voter that failed, an answer of another shape) is not counted and not hidden: it stands in the output
as invalid. `true` and `"true"` are the same answer, since JSON keys know no booleans.

    method      a valid vote                     what is counted
    majority    a string or a boolean            votes
    weighted    the same                         the weights of the voters who gave it (as the plan says, or their reputation)
    ranked      a list of strings, the best first   votes in the last round of an instant run-off (swarm/ballot.py)
    auction     a price (swarm/auction.py)       bids: the decision is the bidder who wins

    valid < quorum                                    no decision: vote.no_quorum; of an auction: market.no_bids
    leader has <= threshold of what is counted        no decision: vote.undecided
    leader is level with another answer               no decision: vote.undecided
    otherwise                                         the leader's answer

The order of the answers never matters. This is agreement among honest voters; for voters that lie about each other see
aip/consensus.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from ..errors import AIPError
from .plan import Method, Vote
from .swarm.auction import award, valid_bid
from .swarm.ballot import leader, ordered, run_off

VOTE_CHARS_MAX = 200  # An answer to choose among, not an essay; tallies stand in the journal.


RANKED_MAX = 50  # Answers that one voter ranks.
NO_REPUTATION: Mapping[str, int] = MappingProxyType({})


class NoQuorum(AIPError):
    code = "vote.no_quorum"
    default_hint = "look at why voters failed or answered without a `vote`, then retry from this task"


class Undecided(AIPError):
    code = "vote.undecided"
    default_hint = "an odd number of voters or a lower threshold decides more often"


class NoBids(AIPError):
    code = "market.no_bids"
    default_hint = "raise max_price, or look at why the agents made no valid bid"


class Tally(msgspec.Struct, frozen=True, array_like=True):
    """`decision` is None where there is none."""

    decision: str | bool | None
    counts: dict[str, int]
    valid: int


NOTHING_COUNTED = Tally(None, {}, 0)


def ballot(answer: Any, rule: Vote | None = None) -> str | bool | tuple[str, ...] | int | None:
    """The vote in one voter's answer, or None where it is not a valid one."""
    method = Method.MAJORITY if rule is None else rule.method
    if rule is not None and method is Method.AUCTION:
        return valid_bid(answer, rule.max_price)
    vote = answer.get("vote") if isinstance(answer, dict) else None
    if isinstance(vote, bool) or (isinstance(vote, str) and len(vote) <= VOTE_CHARS_MAX):
        return vote if method is not Method.RANKED else None
    if method is Method.RANKED and isinstance(vote, list) and 0 < len(vote) <= RANKED_MAX:
        named = [one for one in vote if isinstance(one, str) and len(one) <= VOTE_CHARS_MAX]
        return tuple(named) if len(set(named)) == len(vote) else None
    return None


def tally(
    answers: Sequence[Any], vote: Vote, *, reputation: Mapping[str, int] = NO_REPUTATION, occasion: str = ""
) -> Tally:
    """Count `answers`, one for each voter; None where a voter gave none.

    `reputation` weighs the voters where the plan leaves it to that; `occasion` names what is decided, for draws between equals.
    """
    match vote.method:
        case Method.RANKED:
            return _ranked(answers, vote)
        case Method.AUCTION:
            return _auctioned(answers, vote, occasion)
    weights = _weights(vote, reputation)
    counts: dict[str, int] = {}
    originals: dict[str, str | bool] = {}
    valid = 0
    for answer, weight in zip(answers, weights, strict=True):
        choice = ballot(answer)
        if isinstance(choice, str | bool):
            valid += 1
            key = word(choice)
            counts[key] = counts.get(key, 0) + weight
            # A boolean stays one, also where another voter wrote the same as a word.
            if isinstance(choice, bool) or key not in originals:
                originals[key] = choice
    first = leader(counts, vote.threshold) if valid >= vote.quorum else None
    return Tally(None if first is None else originals[first], ordered(counts), valid)


def _ranked(answers: Sequence[Any], vote: Vote) -> Tally:
    rankings = [ranking for answer in answers if isinstance(ranking := ballot(answer, vote), tuple)]
    rounds = run_off(rankings, vote.threshold)
    last = rounds[-1] if rounds else {}
    return Tally(leader(last, vote.threshold) if len(rankings) >= vote.quorum else None, last, len(rankings))


def _auctioned(answers: Sequence[Any], vote: Vote, occasion: str) -> Tally:
    """The bids by bidder; the decision is the winner, whom `swarm.auction.award` tells with its price."""
    bids = {
        name: price
        for name, answer in zip(vote.voters, answers, strict=True)
        if isinstance(price := ballot(answer, vote), int)
    }
    found = award(bids, vote.max_price, occasion)
    return Tally(None if found is None else found.winner, bids, len(bids))


def _weights(vote: Vote, reputation: Mapping[str, int]) -> list[int]:
    """Of each voter. Whom nobody has weighed has weight 1, the least that counts."""
    if vote.method is not Method.WEIGHTED:
        return [1] * len(vote.voters)
    table = reputation if vote.by_reputation else vote.weights or {}
    return [max(table.get(name, 1), 0) for name in vote.voters]


def problem(result: Tally, vote: Vote) -> AIPError | None:
    """Why there is no decision; None where there is one."""
    if result.decision is not None:
        return None
    if vote.method is Method.AUCTION:
        return NoBids(
            f"none of {len(vote.voters)} agents made a valid bid of at most {vote.max_price} credits"
        )
    if result.valid < vote.quorum or result.valid == 0:
        return NoQuorum(
            f"{result.valid} valid votes of {len(vote.voters)} voters; the quorum is {vote.quorum}",
            counts=result.counts,
        )
    counted = ", ".join(f"{key}: {count}" for key, count in result.counts.items())
    return Undecided(
        f"no answer has more than {vote.threshold:g} of {sum(result.counts.values())} counted votes ({counted})"
        if vote.method is not Method.MAJORITY
        else f"no answer has more than {vote.threshold:g} of {result.valid} valid votes ({counted})",
        counts=result.counts,
    )


def voter_names(vote: Vote) -> tuple[str, ...]:
    """One name for each voter: the agent's, and `agent/0`, `agent/1`, … where one agent's replicas vote."""
    times, seen = Counter(vote.voters), Counter[str]()
    names = []
    for agent in vote.voters:
        names.append(f"{agent}/{seen[agent]}" if times[agent] > 1 else agent)
        seen[agent] += 1
    return tuple(names)


def voter_name(vote: Vote, voter: int) -> str:
    agent = vote.voters[voter]
    return f"{agent}/{vote.voters[:voter].count(agent)}" if vote.voters.count(agent) > 1 else agent


def output(result: Tally, answers: Sequence[Any], vote: Vote) -> dict[str, Any]:
    """What tasks after the vote see. Each voter's whole answer is kept, under the voter's name."""
    votes = []
    for voter, answer in zip(voter_names(vote), answers, strict=True):
        entry = {**answer, "voter": voter} if isinstance(answer, dict) else {"voter": voter, "answer": answer}
        votes.append(entry if ballot(answer, vote) is not None else {**entry, "invalid": True})
    return {"decision": result.decision, "votes": votes, "counts": result.counts, "quorum": vote.quorum}


def word(choice: str | bool) -> str:
    """A vote as it stands in counts."""
    return ("true" if choice else "false") if isinstance(choice, bool) else choice
