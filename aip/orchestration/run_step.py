"""One step of a run in the making: the events it states, the commands it gives, the times it wants to be woken at."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from heapq import heappush
from math import inf

import msgspec

from ..errors import AIPError, ErrorRecord, to_record
from ..settings import DEFAULT_LIMITS, Limits
from . import run_commands as cmd
from . import run_events as ev
from . import run_inputs as inp
from .artifact import ArtifactRef
from .graph import upward_ranks
from .plan import Plan
from .run_ballots import item_of, voter_of
from .run_implied import kept_to_the_end
from .run_scope import Load, Scopes
from .run_state import Run
from .run_task import TaskRun
from .schedule import ReadyQueue
from .vote import NO_REPUTATION, voter_name


class Stepper:
    """The state of a run, what is remembered beside it (all of it made again after a crash), and the step at hand."""

    def __init__(
        self,
        plan: Plan,
        *,
        load: Load,
        rng: random.Random,
        limits: Limits = DEFAULT_LIMITS,
        weights: Mapping[str, float] | None = None,
        reputation: Mapping[str, int] = NO_REPUTATION,
    ) -> None:
        self.plan = plan
        self.run = Run(plan)
        self.progress: dict[str, inp.Progress] = {}  # By task, the latest; for the screen only.
        self.stale_reports = 0
        self._rng = rng
        self._limits = limits
        self._reputation = reputation
        self._scopes = Scopes(self.run, load, limits)
        ranks = upward_ranks(plan, weights)
        if len(self.run.order) > len(ranks):  # A round of bids has all of its task before it, and itself.
            ranks |= {one.bids.name: 1.0 + ranks[one.name] for one in self.run.order if one.bids is not None}
        order = self.run.order
        self._ready = ReadyQueue([ranks[task.name] for task in order], [task.spec.priority for task in order])
        self._unsettled: deque[TaskRun] = deque()  # Whose state may have consequences that are not drawn yet.
        self._gates: list[TaskRun] = []  # Ready to be opened.
        self._short: list[TaskRun] = []  # Wait for budget that other tasks have reserved and may give back.
        self._due: dict[int, list[int]] = {}  # By task: delayed units whose time has come, as heaps.
        self._alarms: list[
            tuple[float, int, int, int]
        ] = []  # (when, task, generation, unit); unit -1: the task itself.
        self._unneeded: set[ArtifactRef] = (
            set()
        )  # Let go of in this step; needed again by its end, it may be.
        self._some_expire = any(one.output and one.output.ttl_s is not None for one in plan.tasks.values())
        self._kept = kept_to_the_end(plan) if self._some_expire else frozenset()
        self._now_s = 0.0
        self._timer_at_s = inf
        self._wanted_timer_at_s = inf
        self._step = cmd.Step()

    def _begin(self, now_s: float) -> None:
        self._now_s = max(
            self._now_s, now_s
        )  # A clock that was set back must not make a journal run backwards.
        self._step = cmd.Step()
        self._unneeded.clear()

    def _collect(self) -> None:
        """Name what this run no longer needs. Two attempts may come to one and the same content, and one of them counts."""
        if unneeded := self._unneeded.difference(self.run.refs):
            self._command(cmd.CollectArtifacts(tuple(sorted(unneeded, key=lambda ref: ref.sha256))))

    def _know_added(self) -> None:
        """Tasks that came to be in the run are ordered after its own, in the order in which they came."""
        for task in self.run.order[self._ready.known :]:
            # What an agent adds stands on the way from the adding task to those that wait for both.
            rank = 0.0 if task.adder is None else self._ready.rank(task.adder.number)
            self._ready.know(rank, task.spec.priority)
            if task.spec.output is not None and task.spec.output.ttl_s is not None:
                self._some_expire = True
                self._kept = kept_to_the_end(self.plan)

    def _take_up_added(self) -> None:
        added = self.run.order[self._ready.known :]
        self._know_added()
        self._unsettled.extend(added)

    def _emit(self, event: ev.AnyEvent) -> None:
        self.run.apply(event)
        self._step.events.append(event)

    def _command(self, command: cmd.Command) -> None:
        self._step.commands.append(command)

    def _want_timer(self, at_s: float | None) -> None:
        if at_s is not None and at_s < self._wanted_timer_at_s:
            self._wanted_timer_at_s = at_s

    def _alarm(self, at_s: float | None, task: TaskRun, unit: int = -1) -> None:
        """Look at this task (or at this delayed unit of it) again at that time."""
        if at_s is not None:
            heappush(self._alarms, (at_s, task.number, task.generation, unit))
            self._want_timer(at_s)

    def _record(self, task: TaskRun, error: AIPError, unit: int | None = None) -> ErrorRecord:
        return located(task, unit, to_record(error))


def located(task: TaskRun, unit: int | None, error: ErrorRecord) -> ErrorRecord:
    """The error with its place in the plan; in a `for_each` with the item's index, in a vote with the voter."""
    if unit is not None and task.spec.vote is not None:
        voter = voter_name(task.spec.vote, voter_of(task.spec, unit))
        error = msgspec.structs.replace(error, details={"voter": voter, **error.details})
    return located_item(task, None if unit is None else item_of(task.spec, unit), error)


def located_item(task: TaskRun, item: int | None, error: ErrorRecord) -> ErrorRecord:
    """The error with its place in the plan, and in a `for_each` the item's index."""
    details = {"task": task.name, "position": str(task.spec.position), **error.details}
    if item is not None and task.spec.for_each is not None:
        details.setdefault("index", item)
    return msgspec.structs.replace(error, details=details)
