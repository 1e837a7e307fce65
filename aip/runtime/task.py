"""The one state machine of a task. Attempts of a plan, A2A `TaskState`, ACP `RunStatus` and MCP tasks are projections of it.

    state       may become
    PENDING     READY, SKIPPED, CANCELLED
    READY       RUNNING, WAITING, SKIPPED, CANCELLED, FAILED
    RUNNING     READY (retry), WAITING, SUCCEEDED, FAILED, CANCELLED
    WAITING     READY, RUNNING, SUCCEEDED, FAILED, CANCELLED        (a person, a gate, more input)
    SUCCEEDED, FAILED, SKIPPED, CANCELLED                            terminal

A terminal state is left by one thing only: a person who retries from that task, which starts a new *generation* of it.
"""

from __future__ import annotations

from enum import StrEnum


class TaskState(StrEnum):
    PENDING = "pending"
    READY = "ready"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        return not TRANSITIONS[self]


_S = TaskState
TRANSITIONS: dict[TaskState, frozenset[TaskState]] = {
    _S.PENDING: frozenset({_S.READY, _S.SKIPPED, _S.CANCELLED}),
    _S.READY: frozenset({_S.RUNNING, _S.WAITING, _S.SKIPPED, _S.CANCELLED, _S.FAILED}),
    _S.RUNNING: frozenset({_S.READY, _S.WAITING, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
    _S.WAITING: frozenset({_S.READY, _S.RUNNING, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.SKIPPED: frozenset(),
    _S.CANCELLED: frozenset(),
}


def allowed(old: TaskState, new: TaskState) -> bool:
    return new in TRANSITIONS[old]
