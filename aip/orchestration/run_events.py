"""What a run's journal says: every event of a run, in the past tense, as one tagged union.

The journal is the run. An event is a fact that is already true; folding the events in order (`run_state.Run.apply`) gives the
state, and nothing else does: no clock, no user code, no random draw is consulted on replay. Whatever was decided with one of
those (a retry's time, a gate's expiry, the size of a fan-out) is in the event that it led to.

    opens       RunAccepted                    once, first; carries the plan's text, so that the journal explains itself
    run         RunMoved RunEnding CompensationBegan ClosingBegan RunFinished RunRetried BudgetRaised
    task        TaskReady MapExpanded TaskSkipped GateOpened GateDecided VoteTallied TaskEnded
                OutputExpired TasksAdded
    unit        UnitFailed                     it failed before an attempt could be made of it (its arguments, say)
    attempt     AttemptStarted AttemptSucceeded AttemptFailed AttemptFenced

A *unit* is one piece of a task: the only one (0) of a plain task, an item of a `for_each`, a voter of a vote, a voter on one item
where there are both (`run_ballots`). `MapExpanded` counts items, `TaskReady` units. An attempt is named by its *lease*, a number
that only grows within a run: a result under any other lease is stale.

Not here: payloads. A result above `Limits.inline_bytes_max` is an `ArtifactRef`; arguments are only a hash, since they are
computed again from recorded outputs. Evaluated gate questions are cut to the same limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ..errors import Corrupt, ErrorRecord
from ..runtime.journal import Journal
from ..runtime.task import TaskState
from .artifact import ArtifactRef
from .run_lifecycle import RunState
from .vote import Tally

JOURNAL_VERSION = 1

Value = bytes | ArtifactRef
"""A result: its MessagePack where that is short, else where to find it."""


class Event(msgspec.Struct, frozen=True, array_like=True, tag_field="event"):
    at_s: float


class RunAccepted(Event, frozen=True, array_like=True, tag="run_accepted"):
    version: int
    run_id: str
    plan_digest: str
    plan_source: str
    inputs: Value
    submitted_by: str


class RunMoved(Event, frozen=True, array_like=True, tag="run_moved"):
    """Between running, paused and held. `reason` is for the person who looks."""

    state: RunState
    by: str
    reason: str = ""


class RunEnding(Event, frozen=True, array_like=True, tag="run_ending"):
    """Nothing new starts. With `reach_running` the attempts in flight are told to stop, until `grace_until_s`."""

    state: RunState
    error: ErrorRecord
    by: str
    reach_running: bool
    grace_until_s: float


class CompensationBegan(Event, frozen=True, array_like=True, tag="compensation_began"):
    """The work has ended and will be undone: these tasks, in this order. `state` and `error` are what the run will end with."""

    tasks: list[str]
    state: RunState
    error: ErrorRecord | None


class ClosingBegan(Event, frozen=True, array_like=True, tag="closing_began"):
    """The tasks of `finally` begin. `state` and `error` as above; a closing task that fails makes a success a failure."""

    state: RunState
    error: ErrorRecord | None


class RunFinished(Event, frozen=True, array_like=True, tag="run_finished"):
    state: RunState
    outputs: Value | None = None
    error: ErrorRecord | None = None


class RunRetried(Event, frozen=True, array_like=True, tag="run_retried"):
    """A person retries from `task`: it and all that is downstream of it begin a new generation."""

    task: str
    by: str


class BudgetRaised(Event, frozen=True, array_like=True, tag="budget_raised"):
    """The plan's budget of each named unit is now this amount."""

    amounts: dict[str, int]
    by: str


class TaskReady(Event, frozen=True, array_like=True, tag="task_ready"):
    task: str
    units: int


class MapExpanded(Event, frozen=True, array_like=True, tag="map_expanded"):
    task: str
    count: int


class TaskSkipped(Event, frozen=True, array_like=True, tag="task_skipped"):
    task: str
    reason: str


class GateOpened(Event, frozen=True, array_like=True, tag="gate_opened"):
    task: str
    question: str
    expires_at_s: float | None


class GateDecided(Event, frozen=True, array_like=True, tag="gate_decided"):
    task: str
    decision: str  # "approve" | "deny"
    by: str
    note: str = ""


class VoteTallied(Event, frozen=True, array_like=True, tag="vote_tallied"):
    """All voters on one item have ended. `error` is why there is no decision; a vote without `for_each` has one item, 0."""

    task: str
    tally: Tally
    item: int = 0
    error: ErrorRecord | None = None


class TaskEnded(Event, frozen=True, array_like=True, tag="task_ended"):
    task: str
    state: TaskState
    error: ErrorRecord | None = None


class OutputExpired(Event, frozen=True, array_like=True, tag="output_expired"):
    """The task's `ttl` is over and nothing that is still to run needs its result: what of it was an artifact is let go."""

    task: str


class TasksAdded(Event, frozen=True, array_like=True, tag="tasks_added"):
    """An attempt of `task` has added these tasks, in JSON in the plan's language (`parse/added.py`)."""

    task: str
    source: bytes


class UnitFailed(Event, frozen=True, array_like=True, tag="unit_failed"):
    task: str
    unit: int
    error: ErrorRecord


class AttemptStarted(Event, frozen=True, array_like=True, tag="attempt_started"):
    task: str
    unit: int
    attempt: int
    lease: int
    replica: int
    arguments_sha256: bytes


class AttemptSucceeded(Event, frozen=True, array_like=True, tag="attempt_succeeded"):
    lease: int
    value: Value
    spent: dict[str, int] = {}


class AttemptFailed(Event, frozen=True, array_like=True, tag="attempt_failed"):
    """`again_at_s` is when the unit may start again; None: it has failed for good. `counted`: against `retry.attempts`."""

    lease: int
    error: ErrorRecord
    again_at_s: float | None = None
    counted: bool = True
    spent: dict[str, int] = {}


class AttemptFenced(Event, frozen=True, array_like=True, tag="attempt_fenced"):
    """The platform lost sight of this attempt in a crash of its own: its lease is void, its number is given back."""

    lease: int


AnyEvent = (
    RunAccepted
    | RunMoved
    | RunEnding
    | CompensationBegan
    | ClosingBegan
    | RunFinished
    | RunRetried
    | BudgetRaised
    | TaskReady
    | MapExpanded
    | TaskSkipped
    | GateOpened
    | GateDecided
    | VoteTallied
    | TaskEnded
    | OutputExpired
    | TasksAdded
    | UnitFailed
    | AttemptStarted
    | AttemptSucceeded
    | AttemptFailed
    | AttemptFenced
)

RECORD = 1  # The kind of a journal's record that is an event.

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyEvent] = msgspec.msgpack.Decoder(AnyEvent)


def encode(event: AnyEvent) -> bytes:
    return _encoder.encode(event)


def decode(record: bytes) -> AnyEvent:
    """The event of one journal record. Raises `Corrupt`: a record that does not read is never skipped."""
    try:
        event = _decoder.decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"not an event of a run: {error}") from None
    if isinstance(event, RunAccepted) and event.version != JOURNAL_VERSION:
        raise Corrupt(
            f"this run's journal has version {event.version}, this AIP reads version {JOURNAL_VERSION}",
            hint="open the run with the AIP that wrote it",
        )
    return event


def recorded(journal: Journal, after: int = 0) -> Iterator[tuple[int, AnyEvent]]:
    """The events of a run's journal behind an index, each with its own."""
    return (
        (record.index, decode(record.payload)) for record in journal.replay(after) if record.kind == RECORD
    )


def to_json(event: AnyEvent) -> dict[str, Any]:
    """The event with its fields named, for `aip run events`. Inline results are opened, hashes are hex."""
    config = event.__struct_config__
    plain: dict[str, Any] = {"event": config.tag}
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if name == "arguments_sha256":
            value = value.hex()
        elif name == "source":
            value = msgspec.json.decode(value)
        elif isinstance(value, bytes):
            value = msgspec.msgpack.decode(value)
        elif isinstance(value, msgspec.Struct):
            value = {field: getattr(value, field) for field in value.__struct_fields__}
        plain[name] = value
    return plain
