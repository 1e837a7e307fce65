"""A task of a run: its units in slots, its ballots, its gate, its counts of dependencies, its attempts in flight.

Plain data with the arithmetic that keeps it consistent; `run_state.Run` moves it, event by event.

    phase of a unit     may become
    IDLE                ACTIVE, FAILED (no attempt could be made)
    ACTIVE              DONE, FAILED, DELAYED
    DELAYED             ACTIVE, FAILED
    DONE, FAILED        for good, within a generation

Memory. A unit is a byte of phase, four bytes of attempt count and one slot for its result; nothing else is kept for an item that
is not in flight or waiting for a retry. A `for_each` over 100,000 items is about 1.3 MB and its results.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from ..errors import ErrorRecord
from ..runtime.task import TaskState
from . import run_events as ev
from .plan import TaskSpec
from .run_ballots import Ballots, voter_of, voters_of
from .swarm.auction import Award

IDLE, ACTIVE, DELAYED, DONE, FAILED = range(5)
"""Phases of a unit. DELAYED: it may start again at a known time."""


class Units:
    """The units of work of one generation of one task, in slots."""

    __slots__ = (
        "attempts",
        "count",
        "cursor",
        "delays",
        "done",
        "failed",
        "first_error",
        "phases",
        "running",
        "values",
    )

    def __init__(self, count: int) -> None:
        self.count = count
        self.phases = bytearray(count)
        self.attempts = array("I", bytes(4 * count))
        self.values: list[ev.Value | None] = [None] * count
        self.cursor = 0  # The first unit that never started.
        self.delays: dict[int, float] = {}
        self.running = 0
        self.done = 0
        self.failed = 0
        self.first_error: ErrorRecord | None = None

    @property
    def ended(self) -> bool:
        return self.done + self.failed == self.count

    def unanswered(self) -> list[int]:
        """Those that nobody is at work on and that have come to nothing yet."""
        return [unit for unit, phase in enumerate(self.phases) if phase in (IDLE, DELAYED)]

    def start(self, unit: int) -> None:
        if self.phases[unit] == IDLE:
            self.cursor = unit + 1
        else:
            del self.delays[unit]
        self.phases[unit] = ACTIVE
        self.attempts[unit] += 1
        self.running += 1

    def finish(self, unit: int, value: ev.Value) -> None:
        self.phases[unit] = DONE
        self.values[unit] = value
        self.running -= 1
        self.done += 1

    def fail(self, unit: int, error: ErrorRecord) -> None:
        """For good, from whichever phase."""
        if self.phases[unit] == ACTIVE:
            self.running -= 1
        elif self.phases[unit] == DELAYED:
            del self.delays[unit]
        else:
            self.cursor = unit + 1
        self.phases[unit] = FAILED
        self.failed += 1
        self.first_error = self.first_error or error

    def delay(self, unit: int, until_s: float, *, counted: bool) -> None:
        self.phases[unit] = DELAYED
        self.delays[unit] = until_s
        self.running -= 1
        if not counted:
            self.attempts[unit] -= 1


class GateState:
    """What is known of an open or decided gate."""

    __slots__ = ("by", "decided_at_s", "decision", "expires_at_s", "note", "question")

    def __init__(self, question: str, expires_at_s: float | None) -> None:
        self.question = question
        self.expires_at_s = expires_at_s
        self.decision: str | None = None
        self.by = ""
        self.note = ""
        self.decided_at_s = 0.0


class TaskRun:
    """One task of one run, in its present generation."""

    __slots__ = (
        "added",
        "adder",
        "ballots",
        "bids",
        "deadline_at_s",
        "dependants",
        "error",
        "expired",
        "failed_needs",
        "finished_at_s",
        "gate",
        "generation",
        "limited_by",
        "name",
        "needs",
        "number",
        "ok_needs",
        "open_needs",
        "reservation",
        "skip_reason",
        "skipped_needs",
        "source",
        "spec",
        "spent",
        "started_at_s",
        "state",
        "units",
        "worked_s",
    )

    def __init__(
        self, spec: TaskSpec, number: int, limited_by: tuple[str, ...] = (), generation: int = 1
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self.number = number
        self.limited_by = limited_by  # Its labels that the plan limits the concurrency of.
        self.needs: list[TaskRun] = []
        self.dependants: list[TaskRun] = []
        self.bids: TaskRun | None = None  # The round of bids for it, where it is auctioned off.
        self.adder: TaskRun | None = None  # Whose attempt has added it to the run.
        self.added: list[TaskRun] = []
        self.source = ""  # As its adder wrote it, in JSON.
        self.generation = generation - 1
        self.begin_generation()

    def begin_generation(self) -> None:
        self.generation += 1
        self.state = TaskState.PENDING
        self.units: Units | None = None
        self.ballots: Ballots | None = None  # Where the task is voted on.
        self.gate: GateState | None = None
        self.error: ErrorRecord | None = None
        self.skip_reason = ""
        self.started_at_s: float | None = None
        self.finished_at_s: float | None = None
        self.deadline_at_s: float | None = None
        self.worked_s = 0.0  # Seconds of all attempts together.
        self.spent: dict[str, int] = {}
        self.expired = False  # Its result was collected: its `ttl` is over.
        self.reservation = ""  # In the run's ledger; empty where the task has no budget of its own.
        self.count_needs()

    def make_units(self, items: int) -> None:
        """One unit for each item; of a vote, one for each item and voter."""
        voters = voters_of(self.spec)
        self.units = Units(items * voters)
        if self.spec.vote is not None:
            self.ballots = Ballots(items, voters)

    def unit_ended(self, unit: int) -> None:
        if self.ballots is not None:
            self.ballots.voter_ended(unit)

    def award(self, unit: int) -> Award | None:
        """Who won this unit's auction and at what price; None where nobody did."""
        bids = self.bids
        if bids is None or bids.ballots is None or bids.spec.vote is None:
            return None
        tally = bids.ballots.tallies[unit]
        if tally is None or not isinstance(tally.decision, str):
            return None
        others = [price for name, price in tally.counts.items() if name != tally.decision]
        return Award(tally.decision, min(others, default=bids.spec.vote.max_price))

    def agent_of(self, unit: int) -> str | None:
        """The plan's name of who does it."""
        if self.bids is None:
            return self.spec.agent if self.spec.vote is None else agent_of(self.spec, unit)
        award = self.award(unit)
        return None if award is None else award.winner

    @property
    def doomed(self) -> bool:
        """Nothing can save it: more items have failed than may. A voter that fails is a voter without a vote."""
        if self.ballots is not None:
            failed = self.ballots.undecided
        elif self.units is not None:
            failed = self.units.failed
        else:
            return False
        return failed > 0 and failed > self.failures_allowed

    @property
    def failures_allowed(self) -> int:
        rule = self.spec.allow_failures
        if rule is None or self.units is None:
            return 0
        return rule.of(self.units.count // voters_of(self.spec))

    @property
    def first_error(self) -> ErrorRecord | None:
        """Of what has doomed it."""
        made_of = self.ballots or self.units
        return made_of.first_error if made_of is not None else None

    def count_needs(self) -> None:
        self.open_needs = self.ok_needs = self.failed_needs = self.skipped_needs = 0
        for need in self.needs:
            if need.state.terminal:
                self._count(need.state)
            else:
                self.open_needs += 1

    @property
    def closes_at_s(self) -> float | None:
        """When a vote on it closes."""
        rule = self.spec.vote
        if rule is None or rule.deadline_s is None or self.started_at_s is None:
            return None
        return self.started_at_s + rule.deadline_s

    def need_ended(self, state: TaskState) -> None:
        self.open_needs -= 1
        self._count(state)

    def _count(self, state: TaskState) -> None:
        if state is TaskState.SUCCEEDED:
            self.ok_needs += 1
        elif state is TaskState.SKIPPED:
            self.skipped_needs += 1
        else:
            self.failed_needs += 1

    def downstream(self) -> list[TaskRun]:
        """This task and everything that waits for it, directly or not, in the plan's order."""
        return downstream([self])


def downstream(starts: Iterable[TaskRun]) -> list[TaskRun]:
    """These tasks and everything that waits for one of them, directly or not, in the plan's order."""
    found = {task.number: task for task in starts}
    open_tasks = list(found.values())
    while open_tasks:
        for task in open_tasks.pop().dependants:
            if task.number not in found:
                found[task.number] = task
                open_tasks.append(task)
    return [found[number] for number in sorted(found)]


class Attempt:
    """One attempt in flight. `lease` is its fencing incarnation: no other attempt of this run ever has it."""

    __slots__ = (
        "agent",
        "arguments_sha256",
        "expires_at_s",
        "heard_at_s",
        "id",
        "lease",
        "number",
        "price",
        "replica",
        "started_at_s",
        "task",
        "unit",
    )

    def __init__(
        self, run_id: str, task: TaskRun, event: ev.AttemptStarted, expires_at_s: float | None
    ) -> None:
        self.id = f"{run_id}/{task.name}/{event.unit}/{task.generation}.{event.attempt}"
        self.lease = event.lease
        self.task = task
        self.unit = event.unit
        self.agent = task.agent_of(event.unit)
        self.number = event.attempt
        self.replica = event.replica
        self.started_at_s = event.at_s
        self.heard_at_s = (
            event.at_s
        )  # Of its last progress. Not in the journal: a crash voids the attempt itself.
        self.expires_at_s = expires_at_s
        self.arguments_sha256 = event.arguments_sha256
        award = None if task.bids is None else task.award(event.unit)
        self.price = 0 if award is None else award.price  # In credits, paid when it succeeds.

    @property
    def silent_at_s(self) -> float | None:
        """When it counts as lost, should it report no progress until then."""
        heartbeat_s = self.task.spec.heartbeat_s
        return None if heartbeat_s is None else self.heard_at_s + heartbeat_s


def agent_of(spec: TaskSpec, unit: int) -> str | None:
    return spec.vote.voters[voter_of(spec, unit)] if spec.vote else spec.agent


def earliest(*times: float | None) -> float | None:
    return min((time for time in times if time is not None), default=None)
