"""How tasks and runs end. The lowest part of the machine in `run.py`: it knows what an end is, not when one is due.

    a task ends         its dependants are looked at, and whoever waits for budget that it may give back
    a run is ending     nothing new starts; what runs is told to stop and fenced after its grace, or left to finish
    the work is over    once no task is open. Has it failed or was it cancelled, then every task that had succeeded and has a
                        `compensate` is undone, the last one first, one after the other, each with its retries; one that cannot be
                        undone is recorded and the others go on. Then the tasks of `finally` run, whatever happened before.
                        A run that is killed does neither
    a run ends          outputs are told only of a run that has succeeded

The state of an ended run: that of its ending, where it has one; FAILED with the error of the first task that failed; CANCELLED
where a task is; else SUCCEEDED. Undoing changes nothing of it; a task of `finally` that fails makes a success a failure.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..errors import AIPError, ErrorRecord, to_record
from ..runtime import codec
from ..runtime.task import TaskState
from . import run_commands as cmd
from . import run_events as ev
from .artifact import ArtifactRef
from .plan import Role
from .run_implied import UNDO_SUFFIX
from .run_lifecycle import RunState
from .run_step import Stepper
from .run_task import TaskRun

CANCEL_GRACE_S = 10.0  # Long enough to put things away, short enough that a person waits for it.


class Ending(Stepper):
    """Ends what is to end."""

    # A task

    def _skip(self, task: TaskRun, reason: str) -> None:
        self._emit(ev.TaskSkipped(self._now_s, task.name, reason))
        self._ended(task)

    def _end(self, task: TaskRun, state: TaskState, error: ErrorRecord | None = None) -> None:
        self._emit(ev.TaskEnded(self._now_s, task.name, state, error))
        self._ended(task)

    def _ended(self, task: TaskRun) -> None:
        self._scopes.forget(task)
        self._due.pop(task.number, None)
        self._unsettled.extend(task.dependants)
        if self._some_expire:
            self._arm_expiry(task)
            for need in task.needs:
                self._arm_expiry(need)
        if self._short:
            for waiting in self._short:
                self._ready.push(waiting.number)
            self._short.clear()

    def _arm_expiry(self, task: TaskRun) -> None:
        """Look again when its result has been kept long enough, once nobody who needs it is left."""
        rule = task.spec.output
        if rule is None or rule.ttl_s is None or task.finished_at_s is None or task.name in self._kept:
            return
        if all(one.state.terminal for one in task.dependants):
            self._alarm(max(task.finished_at_s + rule.ttl_s, self._now_s), task)

    def _expire_output(self, task: TaskRun) -> None:
        rule = task.spec.output
        if (
            rule is None
            or rule.ttl_s is None
            or task.expired
            or task.units is None
            or task.finished_at_s is None
        ):
            return
        if self._now_s < task.finished_at_s + rule.ttl_s or not all(
            one.state.terminal for one in task.dependants
        ):
            return
        refs = {value for value in task.units.values if isinstance(value, ArtifactRef)}
        if refs:
            self._emit(ev.OutputExpired(self._now_s, task.name))
            self._unneeded.update(refs)

    def next_expiry_s(self) -> float | None:
        """When the next result is to be let go; None where none is. It outlives the run: the shell wakes it for that."""
        if not self._some_expire:
            return None
        times = (self._expires_at_s(task) for task in self.run.order)
        return min((time for time in times if time is not None), default=None)

    def _expires_at_s(self, task: TaskRun) -> float | None:
        rule, units = task.spec.output, task.units
        if rule is None or rule.ttl_s is None or task.finished_at_s is None or task.name in self._kept:
            return None
        if task.expired or units is None or not any(isinstance(one, ArtifactRef) for one in units.values):
            return None
        return task.finished_at_s + rule.ttl_s

    # The run

    def _end_run(
        self,
        state: RunState,
        error: AIPError,
        by: str,
        *,
        reach_running: bool,
        grace_s: float = CANCEL_GRACE_S,
    ) -> None:
        """Nothing new starts. What runs is told to stop, or left to finish; everything else is cancelled."""
        until_s = self._now_s + (grace_s if reach_running else 0.0)
        self._emit(ev.RunEnding(self._now_s, state, to_record(error), by, reach_running, until_s))
        if reach_running:
            for attempt in self.run.in_flight.values():
                self._command(cmd.CancelAttempt(attempt.id, attempt.lease, error.message))
            if grace_s:
                self._want_timer(until_s)
            else:
                self._fence_all(to_record(error))
        self._unsettled.extend(task for task in self.run.order if not task.state.terminal)

    def _fence_all(self, error: ErrorRecord) -> None:
        for attempt in list(self.run.in_flight.values()):
            self._emit(ev.AttemptFenced(self._now_s, attempt.lease))
            self._unsettled.append(attempt.task)

    def _close(self) -> None:
        """Nothing of the present phase is open: begin the next one, or finish."""
        run = self.run
        if run.ending is not None and run.ending.state is RunState.KILLED:
            self._finish()  # What is killed does nothing more, not even that.
        elif run.phase is Role.WORK and self._has_last_phases:
            if run.state is RunState.PAUSED and run.ending is None:
                return  # A person resumes it first: pausing starts nothing new.
            state, error = self._verdict_of_work()
            undo = [] if state is RunState.SUCCEEDED else self._to_undo()
            if undo:
                self._emit(ev.CompensationBegan(self._now_s, undo, state, error))
                self._take_up_added()
            else:
                self._begin_closing(state, error)
        elif run.phase is Role.UNDO:
            assert run.verdict is not None
            self._begin_closing(*run.verdict)
        else:
            self._finish()

    def _begin_closing(self, state: RunState, error: ErrorRecord | None) -> None:
        if self.plan.closing:
            self._emit(ev.ClosingBegan(self._now_s, state, error))
            self._take_up_added()
        else:
            self._finish()

    @property
    def _has_last_phases(self) -> bool:
        return bool(self.plan.closing) or any(one.spec.compensate is not None for one in self.run.order)

    def _to_undo(self) -> list[str]:
        """Who has succeeded and says how it is undone, the last one first."""
        order = self.run.order
        tasks = [order[number] for number in reversed(self.run.successes)]
        return [task.name for task in tasks if task.spec.compensate is not None]

    def _verdict_of_work(self) -> tuple[RunState, ErrorRecord | None]:
        """A run whose outputs cannot be told has failed, and has to be undone like any other."""
        state, error = self._verdict()
        if state is RunState.SUCCEEDED:
            try:
                self._outputs()
            except AIPError as failed:
                return RunState.FAILED, to_record(failed)
        return state, error

    def _finish(self) -> None:
        state, error = self._verdict()
        outputs, value, data = None, None, b""
        if state is RunState.SUCCEEDED:
            try:
                outputs, value, data = self._outputs()
            except AIPError as failed:
                state, error = RunState.FAILED, to_record(failed)
        self._emit(ev.RunFinished(self._now_s, state, value, error))
        self._command(cmd.Finish(state, outputs, value, data, error))

    def _verdict(self) -> tuple[RunState, ErrorRecord | None]:
        ending = self.run.ending
        if ending is not None:
            return ending.state, ending.error
        if self.run.verdict is not None and self.run.verdict[0] is not RunState.SUCCEEDED:
            return self.run.verdict[0], self._with_undoing(self.run.verdict[1])
        failed = [task for task in self.run.order if task.state is TaskState.FAILED]
        if failed:
            first = min(failed, key=lambda task: (task.finished_at_s, task.number))
            return RunState.FAILED, first.error
        if any(task.state is TaskState.CANCELLED for task in self.run.order):
            return RunState.CANCELLED, None  # Left over from before a person retried another part.
        return RunState.SUCCEEDED, None

    def _with_undoing(self, error: ErrorRecord | None) -> ErrorRecord | None:
        """The error that the run ends with, and what is left behind because its compensation failed."""
        left = [
            task.name.removesuffix(UNDO_SUFFIX)
            for task in self.run.order
            if task.spec.role is Role.UNDO and task.state is not TaskState.SUCCEEDED
        ]
        if error is None or not left:
            return error
        return msgspec.structs.replace(error, details={**error.details, "not_undone": left})

    def _outputs(self) -> tuple[dict[str, Any], ev.Value, bytes]:
        outputs = self._scopes.plan_outputs()
        data = codec.encode(outputs, self._limits)
        inline = len(data) <= self._limits.inline_bytes_max
        return outputs, data if inline else ArtifactRef.of(data), data
