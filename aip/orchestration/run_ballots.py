"""The votes of a task by item: which items have all their answers in, and what was decided on each.

With `assign: {mode: vote}` a task's units are items times voters: unit u is voter `u % voters` on item `u // voters`. A vote
without `for_each` is a vote on one item, so there is one rule for both:

    an item's last voter has answered or failed for good    it is to be counted (`complete`)
    its tally is recorded                                   it is decided, or it has failed the task

A voter that fails is a voter without a vote; an item without a decision fails the task as a failed item of a `for_each` does.

Memory. An item is four bytes of votes outstanding until it is counted, and its tally after that. Equal tallies are kept once, and
on a long list most are equal.
"""

from __future__ import annotations

from array import array
from collections import Counter

from ..errors import ErrorRecord
from .plan import TaskSpec
from .vote import Tally, word


class Ballots:
    """The counting of one generation of one task that is voted on."""

    __slots__ = (
        "_outstanding",
        "_seen",
        "complete",
        "decisions",
        "first_error",
        "tallies",
        "undecided",
        "voters",
    )

    def __init__(self, items: int, voters: int) -> None:
        self.voters = voters
        self.complete: set[int] = set()  # Items whose voters have all ended and that are not counted yet.
        self.tallies: list[Tally | None] = [None] * items
        self.decisions: Counter[str] = Counter()  # How many items came to each, by its word.
        self.undecided = 0
        self.first_error: ErrorRecord | None = None
        self._outstanding = array("I", [voters]) * items
        self._seen: dict[tuple[object, ...], Tally] = {}

    def voter_ended(self, unit: int) -> None:
        item = unit // self.voters
        self._outstanding[item] -= 1
        if not self._outstanding[item]:
            self.complete.add(item)

    def count(self, item: int, tally: Tally, error: ErrorRecord | None) -> None:
        """Record an item's tally; `error` says why there is no decision. Raises KeyError for one that is not complete."""
        self.complete.remove(item)
        key = (tally.decision.__class__, tally.decision, *tally.counts.items())
        self.tallies[item] = self._seen.setdefault(key, tally)
        if tally.decision is None:
            self.undecided += 1
            self.first_error = self.first_error or error
        else:
            self.decisions[word(tally.decision)] += 1

    @property
    def decided(self) -> int:
        return self.decisions.total()


def voters_of(spec: TaskSpec) -> int:
    """How many are asked about each item: 1 where nobody votes."""
    return len(spec.vote.voters) if spec.vote else 1


def item_of(spec: TaskSpec, unit: int) -> int:
    return unit // voters_of(spec)


def voter_of(spec: TaskSpec, unit: int) -> int:
    return unit % voters_of(spec)
