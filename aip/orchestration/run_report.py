"""What agents report: a result, a failure, progress, silence for good. The part of the machine in `run.py` that ends attempts.

    report              counts if                                   consequence
    a result            its attempt is in flight under its lease    the unit is done; if the result breaks `output.schema`, failed
    a failure           the same                                    the unit waits for its retry, for budget, or has failed
    progress            the same                                    shown on the screen; puts off the end of a silent attempt
    an agent is lost    always                                      every attempt at it fails with undelivered.agent_lost

A report may come twice, late, or from an attempt that was given up: the lease decides, and the sender need not know.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ..errors import (
    AgentLost,
    AIPError,
    BudgetExceeded,
    ErrorRecord,
    InvalidPayload,
    to_record,
)
from . import run_commands as cmd
from . import run_events as ev
from . import run_inputs as inp
from .artifact import ArtifactRef
from .budget import AMOUNT_MAX, UNITS_MAX
from .output_rule import broken
from .plan import OnExceeded, OutputRule, Role
from .retry import again_at_s
from .run_flow import Flow
from .run_implied import CREDITS
from .run_step import located
from .run_task import Attempt

PROGRESS_CHARS_MAX = 500  # A line on a screen.


class Reports(Flow):
    """Takes what comes back."""

    def _live(self, report: inp.Succeeded | inp.Failed | inp.Progress) -> Attempt | None:
        attempt = self.run.in_flight.get(report.lease)
        if attempt is not None and attempt.id == report.attempt:
            return attempt
        self.stale_reports += 1
        return None

    def _on_succeeded(self, report: inp.Succeeded) -> None:
        attempt = self._live(report)
        if attempt is None:
            if isinstance(report.value, ArtifactRef):
                self._unneeded.add(report.value)
            return
        try:
            value = self._inline(report.value)
        except InvalidPayload as error:
            self._fail(attempt, to_record(error), report.spent)
            return
        rule = attempt.task.spec.output
        if rule is not None and rule.schema is not None and (breach := self._breach(rule, report.value)):
            if isinstance(value, ArtifactRef):
                self._unneeded.add(value)
            self._fail(attempt, breach, report.spent)
            return
        spent = self._spent(report.spent)
        if attempt.task.bids is not None:
            spent[CREDITS] = attempt.price  # The award; what a winner says of credits counts for nothing.
        self._emit(ev.AttemptSucceeded(self._now_s, report.lease, value, spent))
        self._unsettled.append(attempt.task)

    def _breach(self, rule: OutputRule, value: ev.Value) -> ErrorRecord | None:
        """How a result breaks its task's `output.schema`; None where it does not."""
        try:
            problem = broken(rule, self._scopes.open(value))
        except AIPError as unreadable:
            problem = unreadable
        return None if problem is None else to_record(problem)

    def _on_failed(self, report: inp.Failed) -> None:
        attempt = self._live(report)
        if attempt is not None:
            self._fail(attempt, report.error, report.spent)

    def _on_progress(self, report: inp.Progress) -> None:
        attempt = self._live(report)
        if attempt is not None:
            attempt.heard_at_s = self._now_s
            text = report.text[:PROGRESS_CHARS_MAX]
            self.progress[attempt.task.name] = msgspec.structs.replace(report, text=text)

    def _on_agent_lost(self, report: inp.AgentLost) -> None:
        for attempt in list(self.run.in_flight.values()):
            if attempt.agent == report.agent and report.replica in (None, attempt.replica):
                lost = AgentLost(
                    f"{report.agent}/{attempt.replica} was lost while it worked on {attempt.task.name}"
                )
                self._fail(attempt, to_record(lost), {})

    def _fail(
        self, attempt: Attempt, error: ErrorRecord, spent: Mapping[str, int], *, final: bool = False
    ) -> None:
        """End an attempt without a result: for good, until its retry, or until there is budget again."""
        task, again, counted = attempt.task, None, True
        # The plan's account ran dry while the agent worked; a task with a budget of its own has used up that one.
        dry = (
            error.code == BudgetExceeded.code
            and not task.spec.budget
            and task.spec.role in (Role.WORK, Role.BIDS)
        )
        if not final and self.run.ending is None and not task.doomed:
            if dry and self.plan.limits.on_exceeded is OnExceeded.PAUSE:
                again, counted = self._now_s, False
            else:
                again = again_at_s(task.spec.retry, attempt.number, error, self._now_s, self._rng)
        if again is None:
            error = located(task, attempt.unit, error)
        self._emit(ev.AttemptFailed(self._now_s, attempt.lease, error, again, counted, self._spent(spent)))
        if again is not None:
            self._delay(task, attempt.unit, again)
        self._unsettled.append(task)
        if dry and not final and self.run.ending is None:
            self._exceeded(error.message)

    def _give_up(self, attempt: Attempt, error: ErrorRecord) -> None:
        self._command(cmd.CancelAttempt(attempt.id, attempt.lease, error.message))
        self._fail(attempt, error, {}, final=True)

    def _inline(self, value: ev.Value) -> ev.Value:
        if isinstance(value, bytes) and len(value) > self._limits.inline_bytes_max:
            raise InvalidPayload(
                f"an inline value of {len(value)} bytes exceeds {self._limits.inline_bytes_max}",
                hint="the shell stores it as an artifact first",
            )
        return value

    def _spent(self, spent: Mapping[str, int]) -> dict[str, int]:
        """What the ledger can count of a report that comes from an agent: positive amounts, bounded in sum and in units."""
        room = UNITS_MAX - len({*self.run.spent, *self.plan.limits.budget})
        counted: dict[str, int] = {}
        for unit, amount in spent.items():
            known = unit in self.run.spent or unit in self.plan.limits.budget
            amount = min(amount, AMOUNT_MAX - self.run.spent.get(unit, 0))
            if amount > 0 and (known or room > 0):
                counted[unit] = amount
                room -= not known
        return counted
