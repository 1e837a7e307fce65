"""Ballots: how many voters' answers become one. Pure, and blind to the order in which they came.

    plurality        each ballot names one answer and counts with its weight
    instant run-off  each ballot ranks answers; while nobody has enough, the last is struck out and its ballots pass to the
                     next that they rank (Hare's rule for one seat; Robert's Rules of Order, 45:62). A ballot whose answers
                     are all struck out counts no more

Ties for the last place are broken by who was behind in the latest earlier round that tells them apart, and if no round does, by
name, the later one goes: by nothing that depends on chance or on the order of the ballots.

What this promises: an answer that more than half of the voters rank first wins; a ballot helps nobody whom it does not name. What
no rule of this kind can promise (Arrow, 1951): run-off may pass over an answer that would win against every other one in a
duel. `duel_winner` tells that one, for those who look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Ranking = Sequence[str]


def plurality(ballots: Sequence[str], weights: Sequence[int]) -> dict[str, int]:
    """The weight behind each answer, the heaviest first."""
    counts: dict[str, int] = {}
    for answer, weight in zip(ballots, weights, strict=True):
        counts[answer] = counts.get(answer, 0) + weight
    return ordered(counts)


def ordered(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def run_off(rankings: Sequence[Ranking], threshold: float = 0.5) -> list[dict[str, int]]:
    """The rounds, each with its counts; the last one has a leader with more than `threshold`, or no more than two answers."""
    remaining = {answer for ranking in rankings for answer in ranking}
    rounds: list[dict[str, int]] = []
    while remaining:
        counts = dict.fromkeys(remaining, 0)
        for ranking in rankings:
            choice = next((answer for answer in ranking if answer in remaining), None)
            if choice is not None:
                counts[choice] += 1
        rounds.append(ordered(counts))
        if len(remaining) <= 2 or leader(rounds[-1], threshold) is not None:
            break
        remaining.discard(_last(rounds))
    return rounds


def leader(counts: Mapping[str, int], threshold: float) -> str | None:
    """Who has more than `threshold` of all that is counted, and more than any other; None where nobody has."""
    if not counts:
        return None
    most = max(counts.values())
    first = [answer for answer, count in counts.items() if count == most]
    return first[0] if len(first) == 1 and most > threshold * sum(counts.values()) else None


def duel_winner(rankings: Sequence[Ranking]) -> str | None:
    """Who is preferred to every other answer by more voters than not (Condorcet, 1785); None where nobody is."""
    answers = sorted({answer for ranking in rankings for answer in ranking})
    places = [{answer: place for place, answer in enumerate(ranking)} for ranking in rankings]
    for one in answers:
        if all(
            _preferred(one, other, places) > _preferred(other, one, places)
            for other in answers
            if other != one
        ):
            return one
    return None


def _preferred(one: str, other: str, places: Sequence[Mapping[str, int]]) -> int:
    """How many rank `one` above `other`; what is not ranked stands below all that is."""
    return sum(one in place and place[one] < place.get(other, len(place)) for place in places)


def _last(rounds: Sequence[Mapping[str, int]]) -> str:
    """Who is struck out after the last of these rounds."""
    fewest = min(rounds[-1].values())
    tied = [answer for answer, count in rounds[-1].items() if count == fewest]
    for before in reversed(rounds[:-1]):
        behind = min(before[answer] for answer in tied)
        tied = [answer for answer in tied if before[answer] == behind]
    return max(tied)
