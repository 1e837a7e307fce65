"""What earlier runs say of how long work takes and what it costs.

Read from the events of runs, as `aip run events` tells them, and the plan that each run carries. Kept by agent code and
capability, so that a task that was renamed keeps its past; what belongs to a plan's shape (how many items, how often an `if`
holds, how long a person takes) by the task's name.

Service, not waiting: an attempt starts in the journal when it is dispatched, and an agent does one thing at a time. Where the
replica was still at work on an earlier one, the attempt counts from that one's end. Only attempts that succeeded count.

Means are exponentially weighted, newest heaviest (SHARE); the spread is the root of the mean squared distance, weighted alike
(West, "Updating mean and variance estimates", CACM 22(9), 1979, in its exponential form).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..plan import Plan, TaskSpec
from ..run_ballots import voter_of

SHARE = 0.2  # Of the newest value: the last ten measurements or so decide.
RUNS_MAX = 50  # Older ones weigh nothing any more.

Work = tuple[str, str]  # An agent's code (`use`; "" for whoever the registry found) and the capability.


@dataclass(slots=True)
class Estimate:
    """A running mean and spread of a number that is not negative."""

    mean: float = 0.0
    variance: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        self.count += 1
        if self.count == 1:
            self.mean = value
            return
        share = max(
            SHARE, 1 / self.count
        )  # The first few count alike: the very first is no better than the second.
        distance = value - self.mean
        self.mean += share * distance
        self.variance = (1 - share) * (self.variance + share * distance * distance)

    @property
    def spread(self) -> float:
        return math.sqrt(self.variance)


@dataclass(slots=True)
class Measured:
    """All that is known. Empty where there were no runs."""

    seconds: dict[Work, Estimate] = field(default_factory=dict)
    costs: dict[Work, dict[str, Estimate]] = field(default_factory=dict)
    items: dict[str, Estimate] = field(default_factory=dict)
    taken: dict[str, Estimate] = field(
        default_factory=dict
    )  # 1 where a task's `if` held, 0 where it did not.
    decisions_s: dict[str, Estimate] = field(default_factory=dict)
    runs: int = 0


def work_of(plan: Plan, task: TaskSpec, unit: int = 0) -> Work:
    """Who does a unit of the task, and what."""
    agent = task.vote.voters[voter_of(task, unit)] if task.vote else task.agent
    spec = plan.agents.get(agent or "")
    return (spec.use if spec else "", task.capability or "")


def measure(runs: Iterable[tuple[Plan, Iterable[Mapping[str, Any]]]]) -> Measured:
    """What these runs say, oldest first."""
    found = Measured()
    for plan, events in runs:
        _Reading(plan, found).read(events)
        found.runs += 1
    return found


class _Reading:
    """One run's events, folded into what is measured."""

    def __init__(self, plan: Plan, found: Measured) -> None:
        self._plan = plan
        self._found = found
        self._open: dict[int, tuple[TaskSpec, int, tuple[str, int], float]] = {}
        self._free_at: dict[tuple[str, int], float] = {}
        self._gates: dict[str, float] = {}

    def read(self, events: Iterable[Mapping[str, Any]]) -> None:
        for event in events:
            task = self._plan.tasks.get(str(event.get("task", "")))
            match event["event"]:
                case "attempt_started" if task is not None:
                    agent = task.vote.voters[voter_of(task, event["unit"])] if task.vote else task.agent or ""
                    place = (agent, event["replica"])
                    self._open[event["lease"]] = (task, event["unit"], place, event["at_s"])
                case "attempt_succeeded":
                    self._succeeded(event)
                case "attempt_failed" | "attempt_fenced":
                    ended = self._open.pop(event["lease"], None)
                    if ended is not None:
                        self._free_at[ended[2]] = event["at_s"]
                case "map_expanded" if task is not None:
                    self._found.items.setdefault(task.name, Estimate()).add(event["count"])
                    self._condition(task, True)
                case "task_ready" if task is not None:
                    self._condition(task, True)
                case "task_skipped" if task is not None and event.get("reason") == "its `if` is false":
                    self._condition(task, False)
                case "gate_opened" if task is not None:
                    self._gates[task.name] = event["at_s"]
                case "gate_decided" if task is not None and task.name in self._gates:
                    waited_s = event["at_s"] - self._gates.pop(task.name)
                    self._found.decisions_s.setdefault(task.name, Estimate()).add(waited_s)
                case _:
                    pass

    def _succeeded(self, event: Mapping[str, Any]) -> None:
        opened = self._open.pop(event["lease"], None)
        if opened is None:
            return
        task, unit, place, started_s = opened
        at_s = event["at_s"]
        began_s = max(started_s, self._free_at.get(place, started_s))
        self._free_at[place] = at_s
        work = work_of(self._plan, task, unit)
        self._found.seconds.setdefault(work, Estimate()).add(max(at_s - began_s, 0.0))
        costs = self._found.costs.setdefault(work, {})
        for name in costs.keys() | event.get("spent", {}).keys():
            costs.setdefault(name, Estimate()).add(event.get("spent", {}).get(name, 0))

    def _condition(self, task: TaskSpec, held: bool) -> None:
        if task.condition is not None:
            self._found.taken.setdefault(task.name, Estimate()).add(float(held))
