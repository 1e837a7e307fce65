"""Counting votes. Pure: answers in, tally out.

A *valid* vote is an object with a `vote` that is a string or a boolean; the rest of the object is the voter's evidence and is
kept. Everything else (a voter that failed, an answer of another shape) is not counted and not hidden: it stands in the output
as invalid. `true` and `"true"` are the same answer, since JSON keys know no booleans.

    valid < quorum                                    no decision: vote.no_quorum
    leader has <= threshold of the valid votes        no decision: vote.undecided
    leader is level with another answer               no decision: vote.undecided
    otherwise                                         the leader's answer

The order of the answers never matters. This is agreement among honest voters; for voters that lie about each other see
aip/consensus.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from ..errors import AIPError
from .plan import Vote

VOTE_CHARS_MAX = 200  # An answer to choose among, not an essay; tallies stand in the journal.


class NoQuorum(AIPError):
    code = "vote.no_quorum"
    default_hint = "look at why voters failed or answered without a `vote`, then retry from this task"


class Undecided(AIPError):
    code = "vote.undecided"
    default_hint = "an odd number of voters or a lower threshold decides more often"


class Tally(msgspec.Struct, frozen=True, array_like=True):
    """`decision` is None where there is none."""

    decision: str | bool | None
    counts: dict[str, int]
    valid: int


NOTHING_COUNTED = Tally(None, {}, 0)


def ballot(answer: Any) -> str | bool | None:
    """The vote in one voter's answer, or None where it is not a valid one."""
    vote = answer.get("vote") if isinstance(answer, dict) else None
    if isinstance(vote, bool) or (isinstance(vote, str) and len(vote) <= VOTE_CHARS_MAX):
        return vote
    return None


def tally(answers: Sequence[Any], vote: Vote) -> Tally:
    """Count `answers`, one for each voter; None where a voter gave none."""
    counts: dict[str, int] = {}
    originals: dict[str, str | bool] = {}
    for answer in answers:
        choice = ballot(answer)
        if choice is not None:
            key = word(choice)
            counts[key] = counts.get(key, 0) + 1
            # A boolean stays one, also where another voter wrote the same as a word.
            if isinstance(choice, bool) or key not in originals:
                originals[key] = choice
    ordered = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    valid = sum(counts.values())
    leaders = [key for key, count in ordered.items() if count == max(ordered.values())]
    decided = valid >= vote.quorum and len(leaders) == 1 and ordered[leaders[0]] > vote.threshold * valid
    return Tally(originals[leaders[0]] if decided else None, ordered, valid)


def problem(result: Tally, vote: Vote) -> AIPError | None:
    """Why there is no decision; None where there is one."""
    if result.decision is not None:
        return None
    if result.valid < vote.quorum or result.valid == 0:
        return NoQuorum(
            f"{result.valid} valid votes of {len(vote.voters)} voters; the quorum is {vote.quorum}",
            counts=result.counts,
        )
    counted = ", ".join(f"{key}: {count}" for key, count in result.counts.items())
    return Undecided(
        f"no answer has more than {vote.threshold:g} of {result.valid} valid votes ({counted})",
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
        votes.append(entry if ballot(answer) is not None else {**entry, "invalid": True})
    return {"decision": result.decision, "votes": votes, "counts": result.counts, "quorum": vote.quorum}


def word(choice: str | bool) -> str:
    """A vote as it stands in counts."""
    return ("true" if choice else "false") if isinstance(choice, bool) else choice
