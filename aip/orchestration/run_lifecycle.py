"""The one state machine of a run.

    state       may become
    ACCEPTED    RUNNING, FAILED, CANCELLED, KILLED
    RUNNING     PAUSED, HELD, SUCCEEDED, FAILED, CANCELLED, KILLED
    PAUSED      RUNNING, SUCCEEDED, FAILED, CANCELLED, KILLED       (a person, or a budget that is used up)
    HELD        RUNNING, PAUSED, SUCCEEDED, FAILED, CANCELLED, KILLED   (only gates are left to wait for)
    SUCCEEDED, FAILED, CANCELLED, KILLED                             terminal

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
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    KILLED = "killed"

    @property
    def terminal(self) -> bool:
        return not RUN_TRANSITIONS[self]


_S = RunState
_ENDS = frozenset({_S.SUCCEEDED, _S.FAILED, _S.CANCELLED, _S.KILLED})
RUN_TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    _S.ACCEPTED: frozenset({_S.RUNNING, _S.FAILED, _S.CANCELLED, _S.KILLED}),
    _S.RUNNING: frozenset({_S.PAUSED, _S.HELD}) | _ENDS,
    _S.PAUSED: frozenset({_S.RUNNING}) | _ENDS,
    _S.HELD: frozenset({_S.RUNNING, _S.PAUSED}) | _ENDS,
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
    _S.KILLED: frozenset(),
}
