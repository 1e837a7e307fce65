"""The machine that executes a plan. Deterministic and without I/O: inputs in, events and commands out.

    shell:  step = machine.handle(input, now_s)
            append step.events to the journal
            perform step.commands                      (dispatch, cancel, ask a person, set the one timer, finish)

Each step states facts (`run_events`), folds them (`run_state`), and draws every consequence of the new state (`run_flow`):
dependants are released or skipped, ready work starts highest rank first while slots are free, gates open, votes are counted, the
run ends. Consequences follow from the state alone. That is why a crash between any two events is harmless: `recover` folds what
was written and draws the rest again.

Guarantees
- At least one attempt of what must run, and none of what has finished: a unit with a result never starts again in its generation.
- Fencing: a report counts only under the lease of an attempt in flight. Late, repeated and given-up ones change nothing.
- One terminal state for a task and generation; failure releases nothing unless `when` says so.
- At most `limits.concurrency` attempts in flight; nothing starts that the budget has no room for.
- A run that failed or was cancelled is undone, the last success first; `finally` comes last; a kill does neither (run_end.py).
- A crash of the platform costs no attempt: the lease is void, the attempt keeps its number, its idempotency key, its agent.
- Equal journals give equal states; no user code, clock or random draw takes part in a replay.

Not guaranteed
- That an attempt runs once: the receiver tells repeats by their idempotency key, effects by their own record.
- That an attempt's timeout counts from its turn: it counts from its dispatch, waiting in a mailbox included.
- The end of a run is honest, not kind: one failed task makes the run FAILED, even if a task after it ran on `when: always`.

    input                 consequence
    Succeeded, Failed     the unit ends, or waits for its retry (retry.py)
    AgentLost             every attempt at that agent fails with undelivered.agent_lost
    Tick                  what is due: timeouts, deadlines, retries, gates that expire, the end of a cancellation's grace
    Decide                the gate's task succeeds or fails with gate.denied; refused from anybody but its approvers
    Pause / Resume        nothing new starts / it does again; attempts in flight are left alone
    Cancel                attempts in flight are told; after `CANCEL_GRACE_S` they are fenced; the run is CANCELLED
    Kill                  the same without grace; the run is KILLED
    AddTasks              an attempt in flight adds tasks; those that wait for its task wait for them too
    RetryFrom             a new generation of the task, of what was undone, and of all downstream of those
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import (
    AIPError,
    Cancelled,
    Corrupt,
    Denied,
    Fenced,
    Killed,
    NotFound,
    UsageError,
    to_record,
)
from ..runtime.task import TaskState
from ..settings import DEFAULT_LIMITS, Limits
from . import run_added
from . import run_commands as cmd
from . import run_events as ev
from . import run_inputs as inp
from .budget import AMOUNT_MAX
from .plan import Plan, Role
from .run_end import CANCEL_GRACE_S
from .run_lifecycle import RunState
from .run_scope import Load
from .run_task import TaskRun
from .run_time import Timekeeping
from .vote import NO_REPUTATION

__all__ = ["CANCEL_GRACE_S", "RunMachine"]


class RunMachine(Timekeeping):
    """One run. Fed by one shell, in one thread."""

    # What the shell calls

    def accept(self, run_id: str, source: str, inputs: ev.Value, submitted_by: str, now_s: float) -> cmd.Step:
        """The first step of a new run: `source` is the plan's text, `inputs` its checked inputs as a value."""
        self._begin(now_s)
        self._emit(
            ev.RunAccepted(
                self._now_s,
                ev.JOURNAL_VERSION,
                run_id,
                self.plan.digest,
                source,
                self._inline(inputs),
                submitted_by,
            )
        )
        self._emit(ev.RunMoved(self._now_s, RunState.RUNNING, submitted_by))
        self._unsettled.extend(task for task in self.run.order if not task.needs)
        self._want_timer(self.run.deadline_at_s)
        return self._conclude()

    def handle(self, input: inp.Input, now_s: float) -> cmd.Step:
        return self.handle_all((input,), now_s)

    def handle_all(self, inputs: Iterable[inp.Input], now_s: float) -> cmd.Step:
        """One step for many inputs: one group commit, one look at what is ready."""
        self._begin(now_s)
        for input in inputs:
            try:
                _HANDLERS[type(input)](self, input)
            except AIPError as error:
                self._step.refusals.append(cmd.Refusal(input, to_record(error)))
        return self._conclude()

    @classmethod
    def recover(
        cls,
        plan: Plan,
        events: Iterable[ev.AnyEvent],
        now_s: float,
        *,
        load: Load,
        rng: random.Random,
        limits: Limits = DEFAULT_LIMITS,
        weights: Mapping[str, float] | None = None,
        reputation: Mapping[str, int] = NO_REPUTATION,
    ) -> tuple[RunMachine, cmd.Step]:
        """The machine as its journal has it, and the step that sets it going again."""
        machine = cls(plan, load=load, rng=rng, limits=limits, weights=weights, reputation=reputation)
        for event in events:
            machine.run.apply(event)
            machine._now_s = event.at_s
        if machine.run.state is None:
            raise Corrupt(
                "the journal of this run is empty", hint="the run was never accepted; submit it again"
            )
        machine._know_added()
        machine._begin(now_s)
        machine._go_on()
        return machine, machine._conclude()

    def outputs(self) -> dict[str, Any]:
        """The plan's outputs as they stand."""
        return self._scopes.plan_outputs()

    def output(self, task: str) -> Any:
        """A task's output, opened; None where it has none."""
        return self._scopes.output(self.run.tasks[task])

    # People

    def _on_decide(self, act: inp.Decide) -> None:
        task = self._task(act.task)
        if act.decision not in ("approve", "deny"):
            raise UsageError(f"a gate is decided with approve or deny, not {act.decision!r}")
        if task.state is not TaskState.WAITING or task.gate is None or task.gate.decision is not None:
            raise UsageError(f"{act.task} waits for no decision; it is {task.state}")
        assert task.spec.gate is not None
        approvers = task.spec.gate.approvers
        if approvers and act.by not in approvers:
            raise Denied(
                f"{act.by} is not among those who may decide {act.task}",
                hint=f"it waits for {', '.join(approvers)}",
                task=act.task,
                approvers=list(approvers),
            )
        self._decide(task, act.decision, act.by, act.note)

    def _on_pause(self, act: inp.Pause) -> None:
        self._refuse_if_over("paused")
        if self.run.state is not RunState.PAUSED:
            self._emit(ev.RunMoved(self._now_s, RunState.PAUSED, act.by, act.reason))

    def _on_resume(self, act: inp.Resume) -> None:
        self._refuse_if_over("resumed")
        limits = self.run.ledger.statement(self.run.id).limits
        for unit, amount in act.budget.items():
            if not limits.get(unit, AMOUNT_MAX + 1) <= amount <= AMOUNT_MAX:
                present = f"{limits[unit]}" if unit in limits else "not limited"
                raise UsageError(f"the budget of {unit} can only be raised; it is {present}")
        if act.budget:
            self._emit(ev.BudgetRaised(self._now_s, act.budget, act.by))
        if self.run.state is RunState.PAUSED:
            self._emit(ev.RunMoved(self._now_s, RunState.RUNNING, act.by))
        for task in self._short:
            self._ready.push(task.number)
        self._short.clear()

    def _on_cancel(self, act: inp.Cancel) -> None:
        if self.run.phase is not Role.WORK and not self._is_over:
            raise UsageError(
                f"run {self.run.id} is {self.run.state}: its work is over",
                hint=f"wait for its end, or stop even that with `aip kill run/{self.run.id}`",
            )
        if self.run.ending is None and not self._is_over:
            why = Cancelled(f"cancelled by {act.by}" + (f": {act.reason}" if act.reason else ""))
            self._end_run(RunState.CANCELLED, why, act.by, reach_running=True)

    def _on_kill(self, act: inp.Kill) -> None:
        if not self._is_over and (self.run.ending is None or self.run.ending.state is not RunState.KILLED):
            why = Killed(f"killed by {act.by}" + (f": {act.reason}" if act.reason else ""))
            self._end_run(RunState.KILLED, why, act.by, reach_running=True, grace_s=0.0)

    def _on_retry_from(self, act: inp.RetryFrom) -> None:
        task = self._task(act.task)
        if task.spec.role is not Role.WORK:
            raise UsageError(
                f"{act.task} is not work of the plan", hint="retry from the task that it belongs to"
            )
        if not task.state.terminal:
            raise UsageError(
                f"{act.task} has not ended; it is {task.state}", hint="cancel the run first, or wait"
            )
        if (self.run.ending is not None or self.run.phase is not Role.WORK) and not self._is_over:
            raise UsageError(f"run {self.run.id} is ending", hint="retry when it has ended")
        again = self.run.again_from(act.task)
        numbers = {one.number for one in again}
        for attempt in self.run.in_flight.values():
            if attempt.task.number in numbers:
                self._command(cmd.CancelAttempt(attempt.id, attempt.lease, "retried by a person"))
        held = set(self.run.refs)
        for one in again:  # Some will have other names, those that were added.
            self.progress.pop(one.name, None)
        self._emit(ev.RunRetried(self._now_s, act.task, act.by))
        self._ready.forget(len(self.run.order))
        self._unneeded.update(held)
        for one in again:
            self._scopes.forget(one)
            self._due.pop(one.number, None)
        self._unsettled.extend(again)
        self._want_timer(self.run.deadline_at_s)

    def _on_add_tasks(self, act: inp.AddTasks) -> None:
        attempt = next((one for one in self.run.in_flight.values() if one.id == act.attempt), None)
        if attempt is None:
            raise Fenced(f"{act.attempt} is not in flight any more: it adds nothing to run {self.run.id}")
        if self.run.ending is not None or self.run.phase is not Role.WORK:
            raise UsageError(f"run {self.run.id} is ending; nothing can be added to it")
        fresh = run_added.fresh(self.run, attempt.task, act.source)
        if fresh:
            self._emit(ev.TasksAdded(self._now_s, attempt.task.name, fresh))
            self._take_up_added()

    def _task(self, name: str) -> TaskRun:
        task = self.run.tasks.get(name)
        if task is None:
            raise NotFound(f"run {self.run.id} has no task {name!r}")
        return task

    @property
    def _is_over(self) -> bool:
        return self.run.state is not None and self.run.state.terminal

    def _refuse_if_over(self, verb: str) -> None:
        if self._is_over or self.run.ending is not None or self.run.phase is not Role.WORK:
            raise UsageError(f"run {self.run.id} is {self.run.state}; it cannot be {verb}")

    # After a crash

    def _go_on(self) -> None:
        """Void the leases of what was in flight, ask again what was asked, and draw every open consequence."""
        run = self.run
        if self._is_over:
            for task in run.order:
                if (at_s := self._expires_at_s(task)) is not None and at_s <= self._now_s:
                    self._expire_output(task)
            self._finish_again()
            return
        if run.state is RunState.ACCEPTED:
            self._emit(ev.RunMoved(self._now_s, RunState.RUNNING, run.submitted_by))
        for lease in list(run.in_flight):
            self._emit(ev.AttemptFenced(self._now_s, lease))
        for task in run.order:
            if task.state.terminal:
                if self._some_expire:
                    self._arm_expiry(task)
                continue
            self._unsettled.append(task)
            if task.units is not None and run.ending is None:
                for unit, until_s in sorted(task.units.delays.items()):
                    self._delay(task, unit, until_s)
            if task.state is TaskState.WAITING and task.gate is not None and task.gate.decision is None:
                self._ask(task)
            self._alarm(task.deadline_at_s, task)
            self._alarm(task.closes_at_s, task)
        self._want_timer(run.deadline_at_s)

    def _finish_again(self) -> None:
        outputs, data = None, b""
        if self.run.state is RunState.SUCCEEDED:
            outputs, _, data = self._outputs()
        assert self.run.state is not None
        self._command(cmd.Finish(self.run.state, outputs, self.run.outputs, data, self.run.error))


_HANDLERS: dict[type, Any] = {
    inp.Tick: RunMachine._on_tick,
    inp.Succeeded: RunMachine._on_succeeded,
    inp.Failed: RunMachine._on_failed,
    inp.Progress: RunMachine._on_progress,
    inp.AgentLost: RunMachine._on_agent_lost,
    inp.Decide: RunMachine._on_decide,
    inp.Pause: RunMachine._on_pause,
    inp.Resume: RunMachine._on_resume,
    inp.Cancel: RunMachine._on_cancel,
    inp.Kill: RunMachine._on_kill,
    inp.RetryFrom: RunMachine._on_retry_from,
    inp.AddTasks: RunMachine._on_add_tasks,
}
