"""The least time that a plan can take on so many slots, whoever schedules it.

The usual bound, max(critical path, work / slots), sees no phases: where a plan narrows to one task and widens again, slots stand
idle in between and no schedule can help it. So the plan is cut at its *waists*, and the bounds of the pieces are added:

    waist       a task that every other one comes before or after. All before it has ended when it starts, nothing after it has
                begun before it ends: what lies between two waists is a plan of its own
    piece       max(critical path; the pigeonhole bound of all its units on the slots, and of each agent's on its replicas)
    pigeonhole  of the k·m + 1 longest units some slot of m does k + 1, at the least the k + 1 shortest of them; and all slots
                together do all the work (k = 0 and the mean are Graham's bounds, 1969)

Valid for units that are not interrupted and slots that are alike. A task that was skipped binds nobody: it ends when the first
reason to skip it is known, not when all that it needs has ended.

Linear but for sorting the units.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import inf

from ..graph import Edges, order


@dataclass(frozen=True, slots=True)
class Work:
    """What a task takes: its units' times, by whom they are done, and the least that it lasts as a whole."""

    least_s: float
    units_s: Sequence[float] = ()
    agent: str = ""


def lower_bound(needs: Edges, work: Mapping[str, Work], slots: int, replicas: Mapping[str, int]) -> float:
    """No schedule of these tasks is shorter. Edges to tasks that are not among `work` are none."""
    known = {
        name: [need for need in wanted if need in work] for name, wanted in needs.items() if name in work
    }
    return sum((_of_piece(piece, known, work, slots, replicas) for piece in pieces(known)), 0.0)


def pieces(needs: Edges) -> list[list[str]]:
    """The tasks in order, cut before and behind every waist."""
    names = order(needs)
    place = {name: index for index, name in enumerate(names)}
    first_after = [inf] * len(
        names
    )  # The nearest task that waits for it: none that is no waist's predecessor.
    last_before = [-1] * len(names)  # Where the last one stands that it waits for.
    for name, wanted in needs.items():
        at = place[name]
        for need in wanted:
            first_after[place[need]] = min(first_after[place[need]], at)
            last_before[at] = max(last_before[at], place[need])
    reached_from: list[float] = [inf] * (
        len(names) + 1
    )  # By place: the least `last_before` of those behind it.
    for index in reversed(range(len(names))):
        reached_from[index] = min(reached_from[index + 1], last_before[index])
    found: list[list[str]] = []
    piece: list[str] = []
    leads_to = -1.0  # The greatest `first_after` of those before.
    for index, name in enumerate(names):
        if leads_to <= index <= reached_from[index + 1]:
            found += [piece, [name]]
            piece = []
        else:
            piece.append(name)
        leads_to = max(leads_to, first_after[index])
    return [one for one in (*found, piece) if one]


def pigeonhole(units_s: Iterable[float], slots: int) -> float:
    """The least that units of these times take on so many slots, were there nothing to wait for."""
    longest = sorted(units_s, reverse=True)
    sums = list(accumulate(longest, initial=0.0))
    least = sums[-1] / slots
    for last in range(0, len(longest), slots):  # The k·m + 1 longest end here; k + 1 of them share a slot.
        least = max(least, sums[last + 1] - sums[last - last // slots])
    return least


def _of_piece(
    piece: Sequence[str], needs: Edges, work: Mapping[str, Work], slots: int, replicas: Mapping[str, int]
) -> float:
    ends: dict[str, float] = {}
    for name in piece:  # In order, and what it needs of other pieces has ended.
        ends[name] = work[name].least_s + max((ends.get(need, 0.0) for need in needs[name]), default=0.0)
    by_agent: dict[str, list[float]] = {}
    for name in piece:
        by_agent.setdefault(work[name].agent, []).extend(work[name].units_s)
    everything = [took_s for units_s in by_agent.values() for took_s in units_s]
    of_agents = (
        pigeonhole(units_s, replicas[name]) for name, units_s in by_agent.items() if name in replicas
    )
    return max(pigeonhole(everything, slots), *ends.values(), *of_agents)
