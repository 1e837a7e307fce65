"""What follows from the state of a run: release, start, count. The middle of the machine, between `run.py` and `run_end.py`.

Nothing here looks at an input or needs to know one. `_conclude` settles every task whose state may have consequences, starts
what may start, and repeats until nothing follows any more; so the same state always comes to the same place, by whichever road
it was reached: by a report, or by the replay of a journal that a crash has cut off.
"""

from __future__ import annotations

import hashlib
from heapq import heappop, heappush
from typing import Any

import msgspec

from ..errors import AIPError, BudgetExceeded, Corrupt, InvalidPayload, Refused, to_record
from ..runtime.task import TaskState
from . import run_commands as cmd
from . import run_events as ev
from . import vote
from .budget import account_of
from .plan import OnExceeded, Role
from .run_ballots import item_of, voter_of, voters_of
from .run_end import Ending
from .run_implied import CREDITS
from .run_lifecycle import RunState
from .run_step import located_item
from .run_task import DELAYED, Attempt, TaskRun
from .schedule import Release, release

_arguments_encoder = msgspec.msgpack.Encoder(order="deterministic")


_AT_WORK = (RunState.RUNNING, RunState.HELD, RunState.COMPENSATING, RunState.CLOSING)


class GateDenied(Refused):
    code = "gate.denied"


class Flow(Ending):
    """Draws the consequences."""

    def _conclude(self) -> cmd.Step:
        """Draw consequences until there are none, then say how the run as a whole stands."""
        while True:
            while self._unsettled:
                self._settle(self._unsettled.popleft())
            self._start_ready()
            if not self._unsettled:
                self._judge()
                if not self._unsettled:
                    break
        self._collect()
        if self._wanted_timer_at_s < self._timer_at_s:
            self._timer_at_s = self._wanted_timer_at_s
            self._command(cmd.SetTimer(self._timer_at_s))
        return self._step

    def _judge(self) -> None:
        run = self.run
        if run.state is None or run.state.terminal:
            return
        if run.open_count == 0:
            self._close()
        elif run.state is RunState.RUNNING and not run.in_flight and not run.delayed_count:
            # With nothing running, nothing due and nothing startable, only a person can be what is waited for.
            assert run.waiting_count, f"run {run.id} is stuck"
            assert not self._ready, f"run {run.id} forgot work that could start"
            self._emit(ev.RunMoved(self._now_s, RunState.HELD, "aip", f"waits for {self._open_gates()}"))

    def _open_gates(self) -> str:
        return ", ".join(task.name for task in self.run.order if task.state is TaskState.WAITING)

    # A task: what follows from its state

    def _settle(self, task: TaskRun) -> None:
        if task.state.terminal:
            return
        if task.state is TaskState.PENDING:
            self._release(task)
        elif task.spec.gate is not None:
            self._settle_gate(task)
        else:
            self._settle_units(task)

    def _settle_units(self, task: TaskRun) -> None:
        self._count_votes(task)
        if task.units is not None and not task.units.running:
            if task.units.ended or task.doomed:
                self._complete(task)
            elif self.run.ending:
                self._end(task, TaskState.CANCELLED)
            else:
                self._ready.push(task.number)
        elif not self.run.ending:
            self._ready.push(task.number)

    def _release(self, task: TaskRun) -> None:
        """A task whose dependencies may all have ended."""
        if self.run.ending:
            self._end(task, TaskState.CANCELLED)
            return
        verdict = release(
            task.spec.when,
            ok=task.ok_needs,
            failed=task.failed_needs,
            skipped=task.skipped_needs,
            waiting=task.open_needs,
        )
        if verdict is Release.SKIP:
            self._skip(task, _skip_reason(task))
        elif verdict is Release.START:
            try:
                self._prepare(task)
            except AIPError as error:
                self._end(task, TaskState.FAILED, self._record(task, error))

    def _prepare(self, task: TaskRun) -> None:
        """Evaluate `if` and `for_each`; the task is READY, or skipped."""
        spec = task.spec
        if spec.condition is not None:
            holds = spec.condition.evaluate(self._scopes.base(task))
            if not isinstance(holds, bool):
                raise InvalidPayload(
                    f"`if` of task {task.name} is a {type(holds).__name__}, not true or false"
                )
            if not holds:
                self._skip(task, "its `if` is false")
                return
        if spec.for_each is not None:
            self._emit(ev.MapExpanded(self._now_s, task.name, len(self._scopes.items(task))))
        else:
            units = 0 if spec.gate else voters_of(spec)
            self._emit(ev.TaskReady(self._now_s, task.name, units))
        self._settle(task)

    def _complete(self, task: TaskRun) -> None:
        """No unit of the task runs, and none will: its end follows from them."""
        if task.doomed:
            self._end(task, TaskState.FAILED, task.first_error)
        else:
            self._end(task, TaskState.SUCCEEDED)

    def _count_votes(self, task: TaskRun) -> None:
        """State the tally of each item whose voters have all ended, in the items' order."""
        if task.ballots is not None:
            for item in sorted(task.ballots.complete):
                self._count(task, item)

    def _count(self, task: TaskRun, item: int) -> None:
        ballots = task.spec.vote
        assert ballots is not None
        result = vote.NOTHING_COUNTED
        problem: AIPError | None
        try:
            result = vote.tally(
                self._scopes.answers(task, item),
                ballots,
                reputation=self._reputation,
                occasion=f"{self.run.id}/{task.name}/{item}/{task.generation}",
            )
            problem = vote.problem(result, ballots)
        except (
            AIPError
        ) as unreadable:  # An answer that cannot be read back is no vote, and no abstention either.
            problem = unreadable
        error = None if problem is None else located_item(task, item, to_record(problem))
        self._emit(ev.VoteTallied(self._now_s, task.name, result, item, error))

    def _settle_gate(self, task: TaskRun) -> None:
        gate = task.gate
        if gate is not None and gate.decision == "approve":
            self._end(task, TaskState.SUCCEEDED)
        elif gate is not None and gate.decision is not None:
            denied = GateDenied(f"{task.name} was denied by {gate.by}", by=gate.by, note=gate.note)
            self._end(task, TaskState.FAILED, self._record(task, denied))
        elif self.run.ending:
            self._end(task, TaskState.CANCELLED)
        elif gate is None:
            self._gates.append(task)

    # Starting

    @property
    def _may_start(self) -> bool:
        return self.run.state in _AT_WORK and self.run.ending is None

    def _start_ready(self) -> None:
        """Open gates, then fill free slots, highest rank first."""
        if not self._may_start:
            return
        gates, self._gates = self._gates, []
        for task in gates:
            if task.state is TaskState.READY and task.gate is None:
                self._open_gate(task)
        slots = self.plan.limits.concurrency
        while (self._ready or self._ready.aside) and len(self.run.in_flight) < slots and self._may_start:
            if self._ready.aside:
                self._ready.take_back(self._room)
                if not self._ready:
                    break
            task = self.run.order[self._ready.first()]
            unit = self._next_unit(task)
            if unit is None:
                self._ready.pop()
            elif task.limited_by and (full := self._full_label(task)):
                self._ready.set_aside(full)
            else:
                self._start(task, unit)

    def _room(self, label: str) -> int:
        """How many more attempts with this label may be in flight."""
        return self.plan.limits.concurrency_by_label[label] - self.run.label_loads[label]

    def _full_label(self, task: TaskRun) -> str | None:
        return next((label for label in task.limited_by if self._room(label) <= 0), None)

    def _open_gate(self, task: TaskRun) -> None:
        gate = task.spec.gate
        assert gate is not None
        try:
            question = _text(gate.question.evaluate(self._scopes.base(task)), self._limits.inline_bytes_max)
        except AIPError as error:
            self._end(task, TaskState.FAILED, self._record(task, error))
            return
        expires_at_s = None if gate.expires_s is None else self._now_s + gate.expires_s
        self._emit(ev.GateOpened(self._now_s, task.name, question, expires_at_s))
        self._ask(task)

    def _ask(self, task: TaskRun) -> None:
        gate = task.gate
        assert gate is not None
        assert task.spec.gate is not None
        self._command(cmd.OpenGate(task.name, gate.question, task.spec.gate.approvers, gate.expires_at_s))
        self._alarm(gate.expires_at_s, task)

    def _next_unit(self, task: TaskRun) -> int | None:
        """The next unit to start: one whose retry is due, else the next that never started."""
        units = task.units
        if task.state.terminal or units is None or task.doomed:
            return None
        most = task.spec.max_parallel
        if most is not None and units.running >= most:
            return None  # Looked at again when one of them ends.
        due = self._due.get(task.number)
        while due:
            if units.phases[due[0]] == DELAYED:
                return due[0]
            heappop(due)
        return units.cursor if units.cursor < units.count else None

    def _start(self, task: TaskRun, unit: int) -> None:
        assert task.units is not None
        if task.bids is not None and not self._can_pay(task, unit):
            return
        missing = self._missing_budget(task)
        if missing is not None:
            self._refuse_for_budget(task, unit, missing)
            return
        number = task.units.attempts[unit] + 1
        try:
            scope = self._scopes.unit(task, unit, number)
            arguments = task.spec.arguments.evaluate(scope)
            key = self._scopes.idempotency_key(task, unit, scope)
            digest = self._digest(task, unit, arguments)
        except AIPError as error:
            self._emit(ev.UnitFailed(self._now_s, task.name, unit, self._record(task, error, unit)))
            self._unsettled.append(task)
            return
        if self.run.state is RunState.HELD:
            self._emit(ev.RunMoved(self._now_s, RunState.RUNNING, "aip"))
        self._dispatch(task, unit, number, arguments, key, digest)

    def _dispatch(
        self, task: TaskRun, unit: int, number: int, arguments: Any, key: str, digest: bytes
    ) -> None:
        run, spec = self.run, task.spec
        lease = run.lease_last + 1
        agent = task.agent_of(unit)
        replica = self._replica(task, unit, agent)
        first = task.started_at_s is None
        self._emit(ev.AttemptStarted(self._now_s, task.name, unit, number, lease, replica, digest))
        attempt = run.in_flight[lease]
        self._want_timer(attempt.expires_at_s)
        if spec.heartbeat_s is not None:
            self._want_timer(attempt.silent_at_s)
        if first:
            self._alarm(task.deadline_at_s, task)
            if spec.vote is not None:
                self._alarm(task.closes_at_s, task)
        self._command(self._order(attempt, agent, arguments, key))

    def _order(
        self, attempt: Attempt, agent: str | None, arguments: Any, key: str
    ) -> cmd.Dispatch | cmd.StartRun:
        """What the shell is told to do for this attempt: send an envelope, or start a run of another plan."""
        task, spec = attempt.task, attempt.task.spec
        account = account_of(self.run.id, task.name)
        labels = {**self.plan.labels, **spec.labels} if spec.labels else self.plan.labels
        if spec.plan is not None:
            return cmd.StartRun(
                attempt=attempt.id,
                lease=attempt.lease,
                task=task.name,
                unit=attempt.unit,
                number=attempt.number,
                plan=spec.plan,
                arguments=arguments,
                idempotency_key=key,
                deadline_s=attempt.expires_at_s,
                budget_account=account,
                budget=_left(task),
                labels=labels,
            )
        return cmd.Dispatch(
            attempt=attempt.id,
            lease=attempt.lease,
            task=task.name,
            unit=attempt.unit,
            number=attempt.number,
            agent=agent,
            replica=attempt.replica,
            capability=spec.capability,
            arguments=arguments,
            idempotency_key=key,
            deadline_s=attempt.expires_at_s,
            timeout_s=spec.timeout_s,
            budget_account=account,
            budget=_left(task),
            labels=labels,
        )

    def _digest(self, task: TaskRun, unit: int, arguments: Any) -> bytes:
        """The arguments' hash. A start after a crash must come to the same arguments, or the journal tells another story."""
        try:
            data = _arguments_encoder.encode(arguments)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidPayload(f"arguments of task {task.name} cannot be serialised: {error}") from None
        if len(data) > self._limits.payload_bytes_max:
            raise InvalidPayload(
                f"arguments of task {task.name} take {len(data)} bytes; the limit is {self._limits.payload_bytes_max}",
                hint="pass a reference instead of the value",
            )
        digest = hashlib.sha256(data).digest()
        before = self.run.fenced.get((task.number, unit))
        if before is not None and before.arguments_sha256 != digest:
            raise Corrupt(f"after the crash task {task.name} would be given other arguments than before it")
        return digest

    def _replica(self, task: TaskRun, unit: int, agent: str | None) -> int:
        """The least busy replica, the lowest number among equals; each of one agent's votes at a replica of its own."""
        spec = self.plan.agents.get(agent or "")
        if spec is None or agent is None:
            return 0
        before = self.run.fenced.get((task.number, unit))
        if before is not None:
            # It may still be at work there; and that agent alone has the record of the effects it has begun.
            return before.replica
        if task.spec.vote is not None:
            voters, voter = task.spec.vote.voters, voter_of(task.spec, unit)
            siblings = voters.count(agent)
            if siblings > 1 or task.spec.for_each is None:
                # As many replicas in a row as the agent has votes: no two of one item meet at the same replica.
                return (item_of(task.spec, unit) * siblings + voters[:voter].count(agent)) % spec.replicas_max
        loads = self.run.replica_loads.get(agent, [])
        free = loads.index(min(loads)) if loads else 0
        if loads and loads[free] and len(loads) < spec.replicas_max:
            return len(loads)
        return free

    # Budget

    def _can_pay(self, task: TaskRun, unit: int) -> bool:
        """Whether the unit's auction has a winner and there are credits to pay it; if not, what follows from that."""
        award = task.award(unit)
        if award is None:
            self._no_award(task, unit)
            return False
        left = self.run.ledger.available(self.run.id, CREDITS)
        if left is None or left - self.run.promised_credits >= award.price:
            return True
        if self.run.promised_credits:
            self._ready.pop()
            self._short.append(task)
        else:
            self._exceeded(f"{award.price} {CREDITS} are promised for {task.name}, and {left} are left")
        return False

    def _no_award(self, task: TaskRun, unit: int) -> None:
        bids = task.bids
        assert bids is not None
        assert bids.spec.vote is not None
        error = vote.problem(vote.NOTHING_COUNTED, bids.spec.vote)
        assert error is not None
        self._emit(ev.UnitFailed(self._now_s, task.name, unit, self._record(task, error, unit)))
        self._unsettled.append(task)

    def _missing_budget(self, task: TaskRun) -> str | None:
        """The unit of which there is too little to start an attempt of this task. To undo and to close starts always."""
        if task.reservation:
            return next((unit for unit, left in _left(task).items() if left <= 0), None)
        if not self.plan.limits.budget or task.spec.role in (Role.UNDO, Role.CLOSE):
            return None
        return self.run.shortfall(task.spec.budget)

    def _refuse_for_budget(self, task: TaskRun, unit: int, missing: str) -> None:
        if task.reservation:
            spent = BudgetExceeded(f"task {task.name} has used up its {missing}", unit=missing)
            self._emit(ev.UnitFailed(self._now_s, task.name, unit, self._record(task, spent, unit)))
            self._unsettled.append(task)
        elif self.run.is_reserved(missing):
            self._ready.pop()
            self._short.append(task)
        else:
            self._exceeded(f"not enough {missing} is left to start {task.name}")

    def _exceeded(self, what: str) -> None:
        rule = self.plan.limits.on_exceeded
        if rule is OnExceeded.PAUSE:
            if self.run.state is not RunState.PAUSED:
                self._emit(ev.RunMoved(self._now_s, RunState.PAUSED, "budget", what))
        else:
            self._end_run(
                RunState.FAILED, BudgetExceeded(what), "budget", reach_running=rule is OnExceeded.FAIL
            )

    def _delay(self, task: TaskRun, unit: int, until_s: float) -> None:
        if until_s <= self._now_s:
            heappush(self._due.setdefault(task.number, []), unit)
            self._ready.push(task.number)
        else:
            self._alarm(until_s, task, unit)


def _left(task: TaskRun) -> dict[str, int]:
    return {unit: amount - task.spent.get(unit, 0) for unit, amount in task.spec.budget.items()}


def _skip_reason(task: TaskRun) -> str:
    reasons = {
        TaskState.SKIPPED: "was skipped",
        TaskState.FAILED: "failed",
        TaskState.CANCELLED: "was cancelled",
    }
    for need in task.needs:
        if need.state in reasons:
            return f"{need.name} {reasons[need.state]}"
    return "no dependency succeeded"


def _text(value: Any, bytes_max: int) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text.encode()[:bytes_max].decode(errors="ignore")
