"""What a run asks of its shell, once the events of the same step are in the journal.

Commands may be performed twice (after a crash they are issued again): dispatching is idempotent by key and fenced by lease,
the others are idempotent by nature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..errors import ErrorRecord
from .artifact import ArtifactRef
from .run_events import AnyEvent, Value
from .run_lifecycle import RunState


class Dispatch(msgspec.Struct, frozen=True):
    """Send one envelope. The report must carry `attempt` and `lease` back."""

    attempt: str
    lease: int
    task: str
    unit: int
    number: int  # Which attempt of this unit it is, from 1.
    agent: str | None  # The plan's name for it; None: whoever the registry finds for the capability.
    replica: int
    capability: str | None
    arguments: Any
    idempotency_key: str
    deadline_s: float | None  # A point in time: the earliest of attempt, task and plan.
    timeout_s: float | None
    budget_account: str
    budget: dict[str, int]  # What is left of the task's own reservation.
    labels: Mapping[str, str] = {}  # Of plan and task, for the envelope: policy sees them.


class StartRun(msgspec.Struct, frozen=True):
    """Start a run of another plan, with `arguments` as its inputs; its end is the end of this attempt.

    Reported as any attempt is: Succeeded with the run's outputs, Failed with its error. A run that was started under the same
    `idempotency_key` before is that run: after a crash it is taken up, not started again. `CancelAttempt` cancels it.
    """

    attempt: str
    lease: int
    task: str
    unit: int
    number: int
    plan: str  # The path as the plan writes it, relative to the plan's own file.
    arguments: Any
    idempotency_key: str
    deadline_s: float | None
    budget_account: str  # The run spends from this account: it can spend no more than its parent has left.
    budget: dict[str, int]
    labels: Mapping[str, str] = {}


class CancelAttempt(msgspec.Struct, frozen=True):
    attempt: str
    lease: int
    reason: str


class OpenGate(msgspec.Struct, frozen=True):
    task: str
    question: str
    approvers: tuple[str, ...]
    expires_at_s: float | None


class SetTimer(msgspec.Struct, frozen=True):
    """Send a Tick at this time. A later SetTimer for an earlier time replaces it; an early or extra Tick does no harm."""

    at_s: float


class Finish(msgspec.Struct, frozen=True):
    """The run is over. Where `value` is a reference, the shell stores `data` under it before it reports the end."""

    state: RunState
    outputs: dict[str, Any] | None
    value: Value | None
    data: bytes
    error: ErrorRecord | None


class CollectArtifacts(msgspec.Struct, frozen=True):
    """This run no longer needs these."""

    refs: tuple[ArtifactRef, ...]


Command = Dispatch | StartRun | CancelAttempt | OpenGate | SetTimer | Finish | CollectArtifacts


class Refusal(msgspec.Struct, frozen=True):
    """An input that could not be taken, such as a decision for a gate that is not open. It changed nothing."""

    input: Any
    error: ErrorRecord


class Step(msgspec.Struct):
    """Append `events` to the journal, then perform `commands` in order, then answer `refusals`."""

    events: list[AnyEvent] = []
    commands: list[Command] = []
    refusals: list[Refusal] = []
