"""What the world tells a run: reports of agents, acts of people, the clock.

A report names the attempt and its lease. It may come twice, late, or from an attempt that the run has given up; the machine
decides, the sender need not know. Who may pause or cancel, and that a person is who `by` says, is the guard's question and was
answered before.
"""

from __future__ import annotations

import msgspec

from ..errors import ErrorRecord
from .run_events import Value


class Tick(msgspec.Struct, frozen=True):
    """Time has passed; nothing else."""


class Succeeded(msgspec.Struct, frozen=True):
    attempt: str
    lease: int
    value: Value
    spent: dict[str, int] = {}


class Failed(msgspec.Struct, frozen=True):
    attempt: str
    lease: int
    error: ErrorRecord
    spent: dict[str, int] = {}


class Progress(msgspec.Struct, frozen=True):
    """For the screen only: never journaled, lost in a crash."""

    attempt: str
    lease: int
    text: str = ""
    fraction: float | None = None


class AgentLost(msgspec.Struct, frozen=True):
    """The process behind an agent ended. `replica` None: all replicas of it."""

    agent: str
    replica: int | None = None


class Decide(msgspec.Struct, frozen=True):
    """A person's answer to a gate: "approve" or "deny". Where the gate names approvers, `by` must be one of them."""

    task: str
    decision: str
    by: str
    note: str = ""


class Cancel(msgspec.Struct, frozen=True):
    by: str
    reason: str = ""


class Kill(msgspec.Struct, frozen=True):
    """The kill fence was seen to stand against this run."""

    by: str
    reason: str = ""


class Pause(msgspec.Struct, frozen=True):
    by: str
    reason: str = ""


class Resume(msgspec.Struct, frozen=True):
    """`budget` names the new amount of each unit to raise; an amount below the present one is refused."""

    by: str
    budget: dict[str, int] = {}


class RetryFrom(msgspec.Struct, frozen=True):
    task: str
    by: str


class AddTasks(msgspec.Struct, frozen=True):
    """An attempt in flight adds tasks to the run: JSON in the plan's language. What it has added before is a repeat."""

    attempt: str
    source: bytes


Input = (
    Tick
    | Succeeded
    | Failed
    | Progress
    | AgentLost
    | Decide
    | Cancel
    | Kill
    | Pause
    | Resume
    | RetryFrom
    | AddTasks
)
