"""How tasks and runs end. The lowest part of the machine in `run.py`: it knows what an end is, not when one is due.

    a task ends         its dependants are looked at, and whoever waits for budget that it may give back
    a run is ending     nothing new starts; what runs is told to stop and fenced after its grace, or left to finish
    a run ends          once no task is open; outputs are told only of a run that has succeeded

The state of an ended run: that of its ending, where it has one; FAILED with the error of the first task that failed; CANCELLED
where a task is; else SUCCEEDED.
"""

from __future__ import annotations

from typing import Any

from ..errors import AIPError, ErrorRecord, to_record
from ..runtime import codec
from ..runtime.task import TaskState
from . import run_commands as cmd
from . import run_events as ev
from .artifact import ArtifactRef
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
        if self._short:
            for waiting in self._short:
                self._ready.push(waiting.number)
            self._short.clear()

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
        failed = [task for task in self.run.order if task.state is TaskState.FAILED]
        if failed:
            first = min(failed, key=lambda task: (task.finished_at_s, task.number))
            return RunState.FAILED, first.error
        if any(task.state is TaskState.CANCELLED for task in self.run.order):
            return RunState.CANCELLED, None  # Left over from before a person retried another part.
        return RunState.SUCCEEDED, None

    def _outputs(self) -> tuple[dict[str, Any], ev.Value, bytes]:
        outputs = self._scopes.plan_outputs()
        data = codec.encode(outputs, self._limits)
        inline = len(data) <= self._limits.inline_bytes_max
        return outputs, data if inline else ArtifactRef.of(data), data
