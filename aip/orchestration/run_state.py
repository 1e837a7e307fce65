"""The state of a run: what its journal adds up to.

`Run.apply(event)` is the fold, and the only thing that changes this state. It takes no decision: it believes the event, moves
tasks along the table in `runtime/task.py` (a move that the table forbids is a corrupt journal), and keeps the counts that the
machine decides by. Two runs with equal journals are equal (`Run.snapshot`).

    event               moves a task
    TaskReady           PENDING -> READY
    MapExpanded         PENDING -> READY; of no items: -> RUNNING, since nothing is left to start
    TaskSkipped         PENDING -> SKIPPED
    GateOpened          READY -> WAITING
    AttemptStarted      READY -> RUNNING
    AttemptFailed …     RUNNING -> READY where no other unit runs and some unit is left to start
    TaskEnded           -> SUCCEEDED, FAILED or CANCELLED

Tasks are the plan's, and those that a run comes to have: TasksAdded, CompensationBegan and ClosingBegan add theirs at the end of
the order. A retry by a person takes those of the last two away again; what a task has added that runs again is withdrawn: it
stands in the order as skipped, under a name that leaves its own free (run_added.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from ..errors import BudgetExceeded, Corrupt, ErrorRecord
from ..runtime.task import TaskState, allowed
from . import run_added
from . import run_events as ev
from .artifact import ArtifactRef
from .budget import Ledger, account_of
from .parse.added import entries_of
from .plan import Plan, Role, TaskSpec
from .run_ballots import Ballots
from .run_implied import BIDS_SUFFIX, UNDO_SUFFIX, undo_spec, with_bids
from .run_lifecycle import RUN_TRANSITIONS, RunState
from .run_task import DELAYED, IDLE, Attempt, GateState, TaskRun, Units, earliest


class Fenced(NamedTuple):
    """What the start after a crash must have in common with the one before it."""

    arguments_sha256: bytes
    replica: int


class Run:
    """Everything the journal says about one run."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.id = ""
        self.state: RunState | None = None
        self.reason = ""
        self.accepted_at_s = 0.0
        self.counted_from_s = (
            0.0  # Where the plan's deadline counts from: acceptance, or the last retry by a person.
        )
        self.finished_at_s: float | None = None
        self.submitted_by = ""
        self.inputs: ev.Value = b""
        self.outputs: ev.Value | None = None
        self.error: ErrorRecord | None = None
        self.ending: ev.RunEnding | None = None
        self.phase = (
            Role.WORK
        )  # Which tasks are at work: the plan's own, those that undo, those of `finally`.
        self.verdict: tuple[RunState, ErrorRecord | None] | None = None  # Of the work, once it is over.
        self.successes: list[int] = []  # Tasks by number, in the order in which they succeeded.
        self.generation = 1  # Of the run: one more with each retry by a person.
        self.lease_last = 0
        self.in_flight: dict[int, Attempt] = {}
        self.ledger = (
            Ledger()
        )  # By the recorded facts alone: what tasks reserved, and what attempts reported at their end.
        self.unreserved = (
            ""  # The reservation, of nothing, that tasks without a budget of their own are charged to.
        )
        self.unreserved_spent: dict[str, int] = {}
        self.spent: dict[str, int] = {}
        self.refs: dict[ArtifactRef, int] = {}
        self.replica_loads: dict[str, list[int]] = {}
        self.label_loads = dict.fromkeys(plan.limits.concurrency_by_label, 0)  # Attempts in flight.
        self.fenced: dict[tuple[int, int], Fenced] = {}  # By task and unit: those that are to start again.
        self.added_count = 0  # Tasks that agents have added, those that were withdrawn included.
        self.promised_credits = 0  # To the winners of auctions that are at work.
        self.delayed_count = 0
        self.waiting_count = 0
        self.order = [
            TaskRun(spec, number, self._limits_of(spec) if spec.labels else ())
            for number, spec in enumerate(with_bids(plan.tasks))
        ]
        self.tasks = {task.name: task for task in self.order}
        self.open_count = len(self.order)
        for task in self.order:
            task.needs = [self.tasks[name] for name in task.spec.needs]
            task.open_needs = len(task.needs)
            for need in task.needs:
                need.dependants.append(task)
            if task.spec.market is not None:
                task.bids = self.tasks[task.name + BIDS_SUFFIX]

    def _limits_of(self, spec: TaskSpec) -> tuple[str, ...]:
        labels = (f"{key}={value}" for key, value in spec.labels.items())
        return tuple(label for label in labels if label in self.label_loads)

    @property
    def deadline_at_s(self) -> float | None:
        """It bounds the work. What undoes work and puts things away has its own timeouts, and must not be cut off by it."""
        deadline_s = self.plan.limits.deadline_s
        return None if deadline_s is None or self.phase is not Role.WORK else self.counted_from_s + deadline_s

    def shortfall(self, amounts: Mapping[str, int]) -> str | None:
        """The first unit of which less than `amounts` is left, or of which none is; None where all is well."""
        for unit in {**self.plan.limits.budget, **amounts}:
            left = self.ledger.available(self.id, unit)
            if left is not None and left < max(amounts.get(unit, 0), 1):
                return unit
        return None

    def is_reserved(self, unit: str) -> bool:
        """Whether some of `unit` may come back when tasks end."""
        return self.ledger.statement(self.id).reserved.get(unit, 0) > 0

    def apply(self, event: ev.AnyEvent) -> None:
        """Fold one event in. Raises `Corrupt` for an event that cannot follow what came before it."""
        try:
            _FOLDS[type(event)](self, event)
        except (KeyError, IndexError, AttributeError) as error:
            raise Corrupt(f"the journal of run {self.id} does not fit its plan at {event!r}") from error

    # Run events

    def _accepted(self, event: ev.RunAccepted) -> None:
        if self.state is not None or event.plan_digest != self.plan.digest:
            raise Corrupt(f"run {event.run_id} was accepted for another plan, or twice")
        self.state = RunState.ACCEPTED
        self.id = event.run_id
        self.accepted_at_s = self.counted_from_s = event.at_s
        self.submitted_by = event.submitted_by
        self.inputs = event.inputs
        if isinstance(event.inputs, ArtifactRef):
            self.refs[event.inputs] = 1
        self.ledger.open(self.id, self.plan.limits.budget)
        self.unreserved = self._reserve(self.id, {})

    def _moved(self, event: ev.RunMoved) -> None:
        self._move(event.state, event)
        self.reason = event.reason

    def _move(self, state: RunState, event: ev.AnyEvent) -> None:
        if self.state is None or state not in RUN_TRANSITIONS[self.state]:
            self._corrupt(f"{self.state} cannot become {state}", event)
        self.state = state

    def _ending(self, event: ev.RunEnding) -> None:
        self.ending = event
        self.reason = event.error.message

    def _compensating(self, event: ev.CompensationBegan) -> None:
        self._begin_phase(Role.UNDO, event)
        self._move(RunState.COMPENSATING, event)
        before: TaskRun | None = None
        for name in event.tasks:
            undone = self.tasks[name]
            spec = undo_spec(undone.spec, () if before is None else (before.name,))
            before = self._add(spec, undone.generation, event)

    def _closing(self, event: ev.ClosingBegan) -> None:
        self._begin_phase(Role.CLOSE, event)
        self._move(RunState.CLOSING, event)
        for spec in self.plan.closing.values():
            self._add(spec, self.generation, event)
        for spec in self.plan.closing.values():
            self._link(self.tasks[spec.name])

    def _begin_phase(self, phase: Role, event: ev.CompensationBegan | ev.ClosingBegan) -> None:
        if self.open_count or self.in_flight:
            self._corrupt(f"{phase} began with work left", event)
        self.phase = phase
        self.verdict = (event.state, event.error)
        self.ending = None

    def _add(self, spec: TaskSpec, generation: int, event: ev.AnyEvent) -> TaskRun:
        """A task that the run comes to have while it runs. Its needs are linked once those are there."""
        if spec.name in self.tasks:
            self._corrupt(f"task {spec.name} came to be twice", event)
        task = TaskRun(spec, len(self.order), self._limits_of(spec), generation)
        self.order.append(task)
        self.tasks[task.name] = task
        self.open_count += 1
        if spec.role is Role.UNDO:
            self._link(task)
        return task

    def _added(self, event: ev.TasksAdded) -> None:
        adder = self.tasks[event.task]
        specs = run_added.specs(self, adder, event.source)
        self.added_count += len(specs)
        fresh = [self._add(spec, 1, event) for spec in with_bids(specs)]
        run_added.join(self, adder, fresh, entries_of(event.source))

    def _link(self, task: TaskRun) -> None:
        task.needs = [self.tasks[name] for name in task.spec.needs]
        for need in task.needs:
            need.dependants.append(task)
        task.count_needs()

    def again_from(self, name: str) -> list[TaskRun]:
        """What a retry runs again: the task, whatever was (or may have been) undone, and all that is downstream of those."""
        undone = [
            self.tasks[task.name.removesuffix(UNDO_SUFFIX)]
            for task in self.order
            if task.spec.role is Role.UNDO and task.started_at_s is not None
        ]
        return run_added.downstream_of([self.tasks[name], *undone])

    def _forget_last_phases(self) -> None:
        """Tasks that undid and closed stand at the end of the order, and stand there for the end that is taken back."""
        while self.order and self.order[-1].spec.role in (Role.UNDO, Role.CLOSE):
            task = self.order.pop()
            del self.tasks[task.name]
            self._forget(task)
            self.open_count -= 1
        self.phase, self.verdict = Role.WORK, None

    def _finished(self, event: ev.RunFinished) -> None:
        if self.open_count or self.in_flight:
            self._corrupt("finished with work left", event)
        self._move(event.state, event)
        self.finished_at_s = event.at_s
        self.outputs = event.outputs
        self.error = event.error

    def _retried(self, event: ev.RunRetried) -> None:
        again = self.again_from(event.task)
        self._forget_last_phases()
        self.generation += 1
        numbers = {task.number for task in again}
        for attempt in [one for one in self.in_flight.values() if one.task.number in numbers]:
            self._release(attempt)
        for task in again:
            self._forget(task)
            task.begin_generation()
        for task in [one for one in again if one.adder is not None and one.adder.number in numbers]:
            run_added.withdraw(self, task)
            self.open_count -= 1
        self.successes = [number for number in self.successes if number not in numbers]
        for task in again:
            task.count_needs()
        self.ending = None
        self.error = None
        self.outputs = None
        self.reason = ""
        self.finished_at_s = None
        self.counted_from_s = event.at_s
        self.state = RunState.PAUSED if self.state is RunState.PAUSED else RunState.RUNNING

    def _forget(self, task: TaskRun) -> None:
        if task.state.terminal:
            self.open_count += 1
        elif task.state is TaskState.WAITING:
            self.waiting_count -= 1
        if task.units:
            self.delayed_count -= len(task.units.delays)
            for unit in task.units.delays:
                self.fenced.pop((task.number, unit), None)
            for value in task.units.values:
                self._drop_ref(value)
        if not task.state.terminal:
            self._settle(task)

    def _raised(self, event: ev.BudgetRaised) -> None:
        for unit, amount in event.amounts.items():
            self.ledger.limit(self.id, unit, amount)

    # Task events

    def _ready(self, event: ev.TaskReady) -> None:
        task = self.tasks[event.task]
        self._move_task(task, TaskState.READY, event)
        task.make_units(1 if event.units else 0)  # A gate has none.

    def _expanded(self, event: ev.MapExpanded) -> None:
        task = self.tasks[event.task]
        self._move_task(task, TaskState.READY, event)
        task.make_units(event.count)
        if event.count == 0:
            task.started_at_s = event.at_s
            self._move_task(task, TaskState.RUNNING, event)

    def _skipped(self, event: ev.TaskSkipped) -> None:
        task = self.tasks[event.task]
        task.skip_reason = event.reason
        self._end(task, TaskState.SKIPPED, event)

    def _gate_opened(self, event: ev.GateOpened) -> None:
        task = self.tasks[event.task]
        self._move_task(task, TaskState.WAITING, event)
        self.waiting_count += 1
        task.started_at_s = event.at_s
        task.gate = GateState(event.question, event.expires_at_s)

    def _gate_decided(self, event: ev.GateDecided) -> None:
        task = self.tasks[event.task]
        if task.gate is None or task.gate.decision is not None:
            self._corrupt("a gate that is not open was decided", event)
        task.gate.decision = event.decision
        task.gate.by = event.by
        task.gate.note = event.note
        task.gate.decided_at_s = event.at_s

    def _tallied(self, event: ev.VoteTallied) -> None:
        ballots = self.tasks[event.task].ballots
        assert ballots is not None
        ballots.count(event.item, event.tally, event.error)

    def _task_ended(self, event: ev.TaskEnded) -> None:
        task = self.tasks[event.task]
        task.error = event.error
        if task.state is TaskState.PENDING and event.state is TaskState.FAILED:
            self._move_task(
                task, TaskState.READY, event
            )  # Its turn had come; its `if` or `for_each` could not be told.
        self._end(task, event.state, event)

    def _expired(self, event: ev.OutputExpired) -> None:
        task = self.tasks[event.task]
        if task.units is None or not task.state.terminal:
            self._corrupt("a result expired before its task had ended", event)
        for value in task.units.values:
            self._drop_ref(value)
        task.units.values = [None if isinstance(value, ArtifactRef) else value for value in task.units.values]
        task.expired = True

    def _end(self, task: TaskRun, state: TaskState, event: ev.AnyEvent) -> None:
        units = task.units
        if not state.terminal or (units is not None and units.running):
            self._corrupt("a task ended while an attempt of it runs", event)
        if task.state is TaskState.WAITING:
            self.waiting_count -= 1
        if units is not None and units.delays:
            self.delayed_count -= len(units.delays)
            for unit in units.delays:
                self.fenced.pop((task.number, unit), None)
            units.delays.clear()
        self._move_task(task, state, event)
        task.finished_at_s = event.at_s
        self.open_count -= 1
        if state is TaskState.SUCCEEDED and task.spec.role is Role.WORK:
            self.successes.append(task.number)
        for dependant in task.dependants:
            dependant.need_ended(state)
        self._settle(task)

    def _settle(self, task: TaskRun) -> None:
        """What was reserved and not spent is free again."""
        if task.reservation:
            self.ledger.release(task.reservation)
            self.ledger.close(account_of(self.id, task.name))
            task.reservation = ""

    def _reserve(self, account: str, amounts: Mapping[str, int]) -> str:
        reservation = self.ledger.reserve(account, amounts, holder=account)
        if isinstance(reservation, BudgetExceeded):
            raise Corrupt(
                f"the journal of run {self.id} started work that its budget does not allow: {reservation}"
            )
        return reservation.id

    def _move_task(self, task: TaskRun, state: TaskState, event: ev.AnyEvent) -> None:
        if not allowed(task.state, state):
            self._corrupt(f"task {task.name} is {task.state} and cannot become {state}", event)
        task.state = state

    # Units and attempts

    def _unit_failed(self, event: ev.UnitFailed) -> None:
        task = self.tasks[event.task]
        assert task.units is not None
        was_delayed = event.unit in task.units.delays
        task.units.fail(event.unit, event.error)
        self.delayed_count -= was_delayed
        self.fenced.pop((task.number, event.unit), None)
        task.unit_ended(event.unit)
        if task.units.ended and task.state is TaskState.READY:
            self._move_task(task, TaskState.RUNNING, event)  # A vote goes on to its tally without this voter.

    def _started(self, event: ev.AttemptStarted) -> None:
        task = self.tasks[event.task]
        units = task.units
        if units is None or units.phases[event.unit] not in (IDLE, DELAYED) or event.lease <= self.lease_last:
            self._corrupt("an attempt started where none could", event)
        if task.started_at_s is None:
            self._first_start(task, event.at_s)
        if task.state is not TaskState.RUNNING:
            self._move_task(task, TaskState.RUNNING, event)
        if units.phases[event.unit] == DELAYED:
            self.delayed_count -= 1
            self.fenced.pop((task.number, event.unit), None)
        units.start(event.unit)
        self.lease_last = event.lease
        spec = task.spec
        timeout_at_s = None if spec.timeout_s is None else event.at_s + spec.timeout_s
        expires_at_s = earliest(timeout_at_s, task.deadline_at_s, self.deadline_at_s)
        attempt = self.in_flight[event.lease] = Attempt(self.id, task, event, expires_at_s)
        self.promised_credits += attempt.price
        agent = attempt.agent
        if agent is not None:
            loads = self.replica_loads.setdefault(agent, [])
            while len(loads) <= event.replica:
                loads.append(0)
            loads[event.replica] += 1
        for label in task.limited_by:
            self.label_loads[label] += 1

    def _first_start(self, task: TaskRun, at_s: float) -> None:
        task.started_at_s = at_s
        if task.spec.deadline_s is not None:
            task.deadline_at_s = at_s + task.spec.deadline_s
        if task.spec.budget:
            account = account_of(self.id, task.name)
            self.ledger.open(account, task.spec.budget)
            task.reservation = self._reserve(account, task.spec.budget)

    def _succeeded(self, event: ev.AttemptSucceeded) -> None:
        attempt = self._report(event, event.spent)
        units = attempt.task.units
        assert units is not None
        units.finish(attempt.unit, event.value)
        attempt.task.unit_ended(attempt.unit)
        if isinstance(event.value, ArtifactRef):
            self.refs[event.value] = self.refs.get(event.value, 0) + 1
        self._rest(attempt.task, event)

    def _failed(self, event: ev.AttemptFailed) -> None:
        attempt = self._report(event, event.spent)
        units = attempt.task.units
        assert units is not None
        if event.again_at_s is None:
            units.fail(attempt.unit, event.error)
            attempt.task.unit_ended(attempt.unit)
        else:
            units.delay(attempt.unit, event.again_at_s, counted=event.counted)
            self.delayed_count += 1
        self._rest(attempt.task, event)

    def _fenced(self, event: ev.AttemptFenced) -> None:
        attempt = self._report(event, {})
        units = attempt.task.units
        assert units is not None
        units.delay(attempt.unit, event.at_s, counted=False)
        self.delayed_count += 1
        self.fenced[attempt.task.number, attempt.unit] = Fenced(attempt.arguments_sha256, attempt.replica)
        self._rest(attempt.task, event)

    def _report(
        self, event: ev.AttemptSucceeded | ev.AttemptFailed | ev.AttemptFenced, spent: Mapping[str, int]
    ) -> Attempt:
        attempt = self.in_flight[event.lease]
        task = attempt.task
        task.worked_s += event.at_s - attempt.started_at_s
        if spent:
            for unit, amount in spent.items():
                task.spent[unit] = task.spent.get(unit, 0) + amount
                self.spent[unit] = self.spent.get(unit, 0) + amount
                if not task.reservation:
                    self.unreserved_spent[unit] = self.unreserved_spent.get(unit, 0) + amount
            if task.reservation:
                self.ledger.report(task.reservation, task.spent)
            else:
                self.ledger.report(self.unreserved, self.unreserved_spent)
        self._release(attempt)
        return attempt

    def _release(self, attempt: Attempt) -> None:
        del self.in_flight[attempt.lease]
        self.promised_credits -= attempt.price
        agent = attempt.agent
        if agent is not None:
            self.replica_loads[agent][attempt.replica] -= 1
        for label in attempt.task.limited_by:
            self.label_loads[label] -= 1

    def _rest(self, task: TaskRun, event: ev.AnyEvent) -> None:
        """A task none of whose units run is READY again, unless it has nothing left to start."""
        assert task.units is not None
        if not task.units.running and not task.units.ended:
            self._move_task(task, TaskState.READY, event)

    def _drop_ref(self, value: ev.Value | None) -> None:
        if isinstance(value, ArtifactRef):
            self.refs[value] -= 1
            if not self.refs[value]:
                del self.refs[value]

    def _corrupt(self, why: str, event: ev.AnyEvent) -> NoReturn:
        raise Corrupt(f"the journal of run {self.id} contradicts itself: {why}, at {event!r}")

    def snapshot(self) -> dict[str, Any]:
        """The whole state as plain values, to compare two runs by."""
        plain = {name: value for name, value in vars(self).items() if name not in _OPENED}
        plain["ledger"] = self.ledger.to_state()
        plain["in_flight"] = {
            lease: (one.id, one.expires_at_s, one.replica) for lease, one in self.in_flight.items()
        }
        plain["tasks"] = {task.name: _task_snapshot(task) for task in self.order}
        return plain


_OPENED = frozenset({"plan", "order", "tasks", "in_flight", "ledger"})


def _task_snapshot(task: TaskRun) -> dict[str, Any]:
    skip = ("spec", "needs", "dependants", "bids", "adder", "added", "units", "ballots", "gate")
    plain = {name: getattr(task, name) for name in TaskRun.__slots__ if name not in skip}
    plain["needs"] = [need.name for need in task.needs]
    plain["added"] = [one.name for one in task.added]
    plain["units"] = task.units and {name: getattr(task.units, name) for name in Units.__slots__}
    plain["ballots"] = task.ballots and {name: getattr(task.ballots, name) for name in Ballots.__slots__}
    plain["gate"] = task.gate and {name: getattr(task.gate, name) for name in GateState.__slots__}
    return plain


_FOLDS: dict[type, Any] = {
    ev.RunAccepted: Run._accepted,
    ev.RunMoved: Run._moved,
    ev.RunEnding: Run._ending,
    ev.CompensationBegan: Run._compensating,
    ev.ClosingBegan: Run._closing,
    ev.RunFinished: Run._finished,
    ev.RunRetried: Run._retried,
    ev.BudgetRaised: Run._raised,
    ev.TaskReady: Run._ready,
    ev.MapExpanded: Run._expanded,
    ev.TaskSkipped: Run._skipped,
    ev.GateOpened: Run._gate_opened,
    ev.GateDecided: Run._gate_decided,
    ev.VoteTallied: Run._tallied,
    ev.TaskEnded: Run._task_ended,
    ev.OutputExpired: Run._expired,
    ev.TasksAdded: Run._added,
    ev.UnitFailed: Run._unit_failed,
    ev.AttemptStarted: Run._started,
    ev.AttemptSucceeded: Run._succeeded,
    ev.AttemptFailed: Run._failed,
    ev.AttemptFenced: Run._fenced,
}
