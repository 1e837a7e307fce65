"""What `aip` says to the shell when it ends: the one table from errors and ends of runs to exit codes.

    0    ok
    1    the run failed, or an agent did
    2    usage: what was typed cannot be done as typed
    3    the plan is invalid
    4    denied, or held: somebody has to decide first
    5    cancelled or killed
    6    out of time or out of budget
    7    no platform
    8    verification failed: stored state is not what was written
    70   a defect in AIP itself (EX_SOFTWARE of sysexits.h), never a verdict on the run
    130  Ctrl-C before anything was begun (128 + SIGINT, as shells have it)

An error is looked up by its code, then by what stands before the last dot of it, and so on: an agent author's own code, which
is in no table, is a failed agent.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2
    PLAN_INVALID = 3
    DENIED_OR_HELD = 4
    CANCELLED_OR_KILLED = 5
    TIME_OR_BUDGET = 6
    NO_PLATFORM = 7
    NOT_VERIFIED = 8
    DEFECT = 70
    INTERRUPTED = 130


_X = ExitCode
OF_ERROR: dict[str, ExitCode] = {
    "aip.error": _X.FAILED,
    "user": _X.USAGE,
    "user.usage": _X.USAGE,
    "user.not_found": _X.USAGE,
    "user.unavailable": _X.USAGE,
    "payload.invalid": _X.USAGE,
    "capability.unknown": _X.USAGE,
    "plan.invalid": _X.PLAN_INVALID,
    "policy.bundle_rejected": _X.PLAN_INVALID,
    "policy.engine_died": _X.PLAN_INVALID,
    "refused": _X.DENIED_OR_HELD,
    "refused.denied": _X.DENIED_OR_HELD,
    "gate.denied": _X.DENIED_OR_HELD,
    "refused.circuit_open": _X.FAILED,  # Nobody denied it: the receiver was failing before.
    "refused.bulkhead_full": _X.FAILED,
    "refused.killed": _X.CANCELLED_OR_KILLED,
    "refused.budget": _X.TIME_OR_BUDGET,
    "refused.budget_not_drawn": _X.TIME_OR_BUDGET,
    "undelivered": _X.FAILED,
    "undelivered.mailbox_full": _X.FAILED,
    "undelivered.agent_lost": _X.FAILED,
    "undelivered.fenced": _X.FAILED,
    "undelivered.deadlock": _X.FAILED,
    "undelivered.cancelled": _X.CANCELLED_OR_KILLED,
    "undelivered.deadline": _X.TIME_OR_BUDGET,
    "platform.unavailable": _X.NO_PLATFORM,
    "agent.failed": _X.FAILED,
    "effect.in_doubt": _X.FAILED,
    "effects.invalid": _X.PLAN_INVALID,
    "state.corrupt": _X.NOT_VERIFIED,
    "audit.unverified": _X.NOT_VERIFIED,
    "witness.inconsistent": _X.NOT_VERIFIED,
}

OF_RUN: dict[str, ExitCode] = {
    "accepted": _X.OK,
    "running": _X.OK,
    "paused": _X.DENIED_OR_HELD,
    "held": _X.DENIED_OR_HELD,
    "compensating": _X.OK,
    "closing": _X.OK,
    "succeeded": _X.OK,
    "failed": _X.FAILED,
    "cancelled": _X.CANCELLED_OR_KILLED,
    "killed": _X.CANCELLED_OR_KILLED,
}

# What a failed or paused run may say more precisely. Any other error inside a run is a failed run: an agent that was given a
# bad payload by its plan is not bad usage of the command line.
_PRECISE = frozenset({_X.DENIED_OR_HELD, _X.CANCELLED_OR_KILLED, _X.TIME_OR_BUDGET})


def of_error(code: str) -> ExitCode:
    """The exit code of an error, by its code."""
    while code:
        if code in OF_ERROR:
            return OF_ERROR[code]
        code = code.rpartition(".")[0]
    return ExitCode.FAILED


def of_run(state: str, error: Mapping[str, Any] | None = None) -> ExitCode:
    """The exit code of a run that was waited for, by its state and, where it failed or paused, by its error."""
    if state in ("failed", "paused") and error:
        precise = of_error(str(error.get("code", "")))
        if precise in _PRECISE:
            return precise
    return OF_RUN[state]
