"""What time does to a run: timeouts, silence, deadlines, retries that are due, gates that expire, results that nobody needs.

    due                     consequence
    an attempt's timeout    it fails with undelivered.deadline
    its heartbeat           it reported nothing for so long: it fails with undelivered.agent_lost
    a vote's deadline       who has not answered has no vote
    a task's deadline       its attempts are given up, the task fails
    the plan's deadline     the run ends as FAILED; counted for the work only, never for undoing and closing
    a retry                 its unit may start again
    a gate's expiry         its default decides
    a result's ttl          it is let go, once every task that depends on it has ended

What is due is looked at when the shell's one timer rings; a ring too many does no harm.
"""

from __future__ import annotations

from heapq import heappop
from math import inf

from ..errors import AgentLost, DeadlineExceeded, to_record
from ..runtime.task import TaskState
from . import run_commands as cmd
from . import run_events as ev
from . import run_inputs as inp
from .run_lifecycle import RunState
from .run_report import Reports
from .run_task import Attempt, TaskRun


class Timekeeping(Reports):
    """Looks at what is due."""

    def _on_tick(self, _: inp.Tick) -> None:
        run, now_s = self.run, self._now_s
        if run.state is None or run.state.terminal:
            return
        if run.deadline_at_s is not None and now_s >= run.deadline_at_s and run.ending is None:
            late = DeadlineExceeded(f"the plan's deadline of {self.plan.limits.deadline_s:g} s has passed")
            self._end_run(RunState.FAILED, late, "deadline", reach_running=True)
        elif run.ending is not None and run.ending.reach_running and now_s >= run.ending.grace_until_s:
            self._fence_all(run.ending.error)
        self._expire_attempts()
        while self._alarms and self._alarms[0][0] <= now_s:
            number, generation, unit = heappop(self._alarms)[1:]
            if number >= len(run.order):
                continue  # It undid or closed, before a person retried.
            task = run.order[number]
            if task.generation != generation:
                continue
            if task.state.terminal:
                self._expire_output(task)
            else:
                self._ring(task, unit)
        self._rearm()

    def _ring(self, task: TaskRun, unit: int) -> None:
        now_s, gate = self._now_s, task.gate
        if unit >= 0:
            if task.units is not None and task.units.delays.get(unit, inf) <= now_s:
                self._delay(task, unit, now_s)
        elif gate is not None:
            assert task.spec.gate is not None
            if gate.decision is None and gate.expires_at_s is not None and now_s >= gate.expires_at_s:
                self._decide(task, task.spec.gate.default, "aip", "nobody decided in time")
        elif task.deadline_at_s is not None and now_s >= task.deadline_at_s:
            self._miss_deadline(task)
        elif task.closes_at_s is not None and now_s >= task.closes_at_s:
            self._close_vote(task)

    def _miss_deadline(self, task: TaskRun) -> None:
        late = DeadlineExceeded(f"task {task.name} missed its deadline of {task.spec.deadline_s:g} s")
        record = self._record(task, late)
        for attempt in [one for one in self.run.in_flight.values() if one.task is task]:
            self._give_up(attempt, record)
        if not task.state.terminal:
            self._end(task, TaskState.FAILED, record)

    def _close_vote(self, task: TaskRun) -> None:
        """Who has not answered by now has no vote; what has come in is counted."""
        rule = task.spec.vote
        assert rule is not None
        late = DeadlineExceeded(
            f"the vote on {task.name} closed after {rule.deadline_s:g} s without this answer"
        )
        for attempt in [one for one in self.run.in_flight.values() if one.task is task]:
            self._give_up(attempt, to_record(late))
        for unit in () if task.units is None else task.units.unanswered():
            self._emit(ev.UnitFailed(self._now_s, task.name, unit, self._record(task, late, unit)))
        self._unsettled.append(task)

    def _expire_attempts(self) -> None:
        for attempt in list(self.run.in_flight.values()):
            task = attempt.task
            if attempt.expires_at_s is None or attempt.expires_at_s > self._now_s:
                if (silent_at_s := attempt.silent_at_s) is not None and silent_at_s <= self._now_s:
                    self._miss_heartbeat(attempt)
                continue
            if task.deadline_at_s is not None and self._now_s >= task.deadline_at_s:
                self._miss_deadline(task)
            elif attempt.lease in self.run.in_flight and not self._in_grace:
                late = DeadlineExceeded(
                    f"attempt {attempt.number} of {task.name} took longer than {task.spec.timeout_s} s"
                )
                self._command(cmd.CancelAttempt(attempt.id, attempt.lease, "timeout"))
                self._fail(attempt, to_record(late), {})

    def _miss_heartbeat(self, attempt: Attempt) -> None:
        if self._in_grace:
            return
        task = attempt.task
        silent = AgentLost(
            f"attempt {attempt.number} of {task.name} reported no progress for {task.spec.heartbeat_s:g} s",
            hint="let the agent call ctx.progress more often, or raise `heartbeat`",
        )
        self._command(cmd.CancelAttempt(attempt.id, attempt.lease, "no heartbeat"))
        self._fail(attempt, to_record(silent), {})

    @property
    def _in_grace(self) -> bool:
        ending = self.run.ending
        return ending is not None and ending.reach_running and self._now_s < ending.grace_until_s

    def _rearm(self) -> None:
        """After a tick the shell's timer is used up: the next one is the earliest of all that is to come."""
        self._timer_at_s = self._wanted_timer_at_s = inf
        run = self.run
        if run.ending is None:
            self._want_timer(run.deadline_at_s)
        elif run.ending.reach_running and run.in_flight:
            self._want_timer(run.ending.grace_until_s)
        for attempt in run.in_flight.values():
            if not self._in_grace:
                self._want_timer(attempt.expires_at_s)
                self._want_timer(attempt.silent_at_s)
        if self._alarms:
            self._want_timer(self._alarms[0][0])

    def _decide(self, task: TaskRun, decision: str, by: str, note: str) -> None:
        self._emit(
            ev.GateDecided(self._now_s, task.name, decision, by, note[: self._limits.inline_bytes_max // 4])
        )
        self._unsettled.append(task)
        self._wake_up(by)

    def _wake_up(self, by: str) -> None:
        if self.run.state is RunState.HELD:
            self._emit(ev.RunMoved(self._now_s, RunState.RUNNING, by))
