"""The one state machine of a run.

    state          may become
    ACCEPTED       RUNNING, FAILED, CANCELLED, KILLED
    RUNNING        PAUSED, HELD, COMPENSATING, CLOSING, or an end
    PAUSED         RUNNING, COMPENSATING, CLOSING, or an end            (a person, or a budget that is used up)
    HELD           RUNNING, PAUSED, COMPENSATING, CLOSING, or an end    (only gates are left to wait for)
    COMPENSATING   CLOSING, FAILED, CANCELLED, KILLED                   (the run has failed or was cancelled: work is undone)
    CLOSING        SUCCEEDED, FAILED, CANCELLED, KILLED                 (`finally`)
    SUCCEEDED, FAILED, CANCELLED, KILLED                                terminal

A paused run whose last attempts finish is finished: there is nothing left that a person could resume. A terminal state is left
by one thing only: a person who retries from a task.
"""

from __future__ import annotations

from enum import StrEnum


class RunState(StrEnum):
    ACCEPTED = "accepted"
    RUNNING = "running"
    PAUSED = "paused"
    HELD = "held"
    COMPENSATING = "compensating"
    CLOSING = "closing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    KILLED = "killed"

    @property
    def terminal(self) -> bool:
        return not RUN_TRANSITIONS[self]


_S = RunState
_LAST_PHASES = frozenset({_S.COMPENSATING, _S.CLOSING})
_ENDS = frozenset({_S.SUCCEEDED, _S.FAILED, _S.CANCELLED, _S.KILLED})
RUN_TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    _S.ACCEPTED: frozenset({_S.RUNNING, _S.FAILED, _S.CANCELLED, _S.KILLED}),
    _S.RUNNING: frozenset({_S.PAUSED, _S.HELD}) | _LAST_PHASES | _ENDS,
    _S.PAUSED: frozenset({_S.RUNNING}) | _LAST_PHASES | _ENDS,
    _S.HELD: frozenset({_S.RUNNING, _S.PAUSED}) | _LAST_PHASES | _ENDS,
    _S.COMPENSATING: frozenset({_S.CLOSING, _S.FAILED, _S.CANCELLED, _S.KILLED}),
    _S.CLOSING: _ENDS,
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
    _S.KILLED: frozenset(),
}
