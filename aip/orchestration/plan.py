"""A plan, after parsing: plain frozen values that every later step reads and none changes.

`parse.py` makes these out of plan.yaml and is the only place that knows YAML; `run.py` executes them. A plan is a set of
tasks; an edge `a -> b` exists where b names a under `needs` or refers to `tasks.a` in an expression. Durations are seconds,
money is integer micro-units of the unit's name (`usd_micro`), sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

from .template import Template


class When(StrEnum):
    """Which ends of its dependencies let a task start. A skipped dependency counts as fine for `none_failed` only."""

    ALL_OK = "all_ok"
    NONE_FAILED = "none_failed"
    ANY_OK = "any_ok"
    ALWAYS = "always"


class Priority(IntEnum):
    """Which of two ready tasks starts first, before it is asked which has the longer way to go."""

    LOW = 0
    NORMAL = 1
    HIGH = 2


class Role(StrEnum):
    """What a task is for: the work itself, undoing work (`compensate`), putting things away (`finally`), asking for bids."""

    WORK = "work"
    UNDO = "undo"
    CLOSE = "close"
    BIDS = "bids"


class Isolation(StrEnum):
    CELL = "cell"
    PROCESS = "process"
    CONTAINER = "container"  # In a sandbox: aip.compute.sandbox.


class OnExceeded(StrEnum):
    PAUSE = "pause"
    FAIL = "fail"
    FINISH_RUNNING = "finish_running"


@dataclass(frozen=True, slots=True)
class Position:
    """Where something stands in its file; lines and columns count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Backoff:
    initial_s: float = 1.0
    factor: float = 2.0
    max_s: float = 60.0
    jitter: float = 0.2  # A delay d becomes a uniform draw from d * [1 - jitter, 1 + jitter].


@dataclass(frozen=True, slots=True)
class Retry:
    """`attempts` counts the first one too. `on` names error families: transient, timeout, agent_lost, any."""

    attempts: int = 3
    backoff: Backoff = Backoff()
    on: frozenset[str] = frozenset({"transient", "timeout", "agent_lost"})


@dataclass(frozen=True, slots=True)
class Defaults:
    """Of tasks that say nothing of their own."""

    timeout_s: float | None = None
    retry: Retry = Retry()


@dataclass(frozen=True, slots=True)
class Restart:
    strategy: str = "one_for_one"
    max: int = 5
    within_s: float = 60.0


@dataclass(frozen=True, slots=True)
class AgentSpec:
    name: str
    use: str
    replicas_min: int
    replicas_max: int
    isolation: Isolation
    density: int | None
    cpu: float | None
    memory_bytes: int | None
    runtime_env: Mapping[str, Any]
    restart: Restart
    position: Position
    config: Mapping[str, Any] = field(default_factory=dict)  # Static JSON; secrets by reference only.
    effects: tuple[str, ...] = ()  # Connectors of the operator's that it may use; none but these.


class Method(StrEnum):
    """How answers become one (`vote`, `swarm/`)."""

    MAJORITY = "majority"
    WEIGHTED = "weighted"
    RANKED = "ranked"
    AUCTION = "auction"  # Of the bids for a task with `assign: {mode: market}`; no plan writes it.


@dataclass(frozen=True, slots=True)
class Market:
    """A sealed-bid auction among agents for each piece of a task's work: the lowest bid wins, at the second price."""

    bidders: tuple[str, ...]
    max_price: int
    bid_timeout_s: float


@dataclass(frozen=True, slots=True)
class Vote:
    """Each voter answers on its own evidence with an object that has a `vote`; the task's output is the tally.

    `voters` are agent names, each asked once (or one agent's replicas, where the plan gives a number). At least `quorum` valid
    votes must arrive, and one answer must have more than `threshold` of them (0.5: a majority), or the task fails.
    """

    voters: tuple[str, ...]
    quorum: int
    threshold: float = 0.5
    method: Method = Method.MAJORITY
    weights: Mapping[str, int] | None = None  # By voter's name; None where nobody said, or reputation says.
    by_reputation: bool = False
    deadline_s: float | None = None  # From the first voter's start: who has not answered by then has no vote.
    max_price: int = 0  # Of an auction.


@dataclass(frozen=True, slots=True)
class Gate:
    """A question to a person. Opens only if the task's `if` holds; `default` is the decision when it expires."""

    question: Template
    approvers: tuple[str, ...]
    expires_s: float | None
    default: str  # "approve" | "deny"


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How many items of a `for_each` may fail while the task succeeds: a count, or a part of all items, rounded down."""

    count: int = 0
    percent: float | None = None

    def of(self, items: int) -> int:
        return self.count if self.percent is None else int(items * self.percent / 100 + 1e-9)


@dataclass(frozen=True, slots=True)
class OutputRule:
    """What a result must be (`schema`), and how long it is kept after nobody needs it any more."""

    schema: Mapping[str, Any] | None
    ttl_s: float | None
    position: Position


@dataclass(frozen=True, slots=True)
class Compensation:
    """What undoes a task that has succeeded, should the run fail or be cancelled later. At least once: it must be repeatable."""

    agent: str | None
    capability: str
    arguments: Template
    retry: Retry
    timeout_s: float
    position: Position


@dataclass(frozen=True, slots=True)
class TaskSpec:
    name: str
    agent: str | None  # None for a gate, and for a capability that the registry resolves.
    capability: str | None
    arguments: Template
    needs: tuple[
        str, ...
    ]  # As written plus implied by references, in order of first mention, without repeats.
    for_each: Template | None
    condition: Template | None  # `if`
    when: When
    retry: Retry
    timeout_s: float | None  # One attempt, from its start to its end.
    deadline_s: float | None  # The task with all its attempts, from its first start.
    idempotency_key: Template | None
    gate: Gate | None
    vote: Vote | None
    budget: Mapping[str, int]
    position: Position
    role: Role = Role.WORK
    priority: Priority = Priority.NORMAL
    max_parallel: int | None = None  # Attempts of this task at the same time.
    allow_failures: Tolerance | None = None
    labels: Mapping[str, str] = field(default_factory=dict)  # On its envelopes, for policy and `limits`.
    heartbeat_s: float | None = None  # An attempt that reports no progress for so long is lost.
    output: OutputRule | None = None
    compensate: Compensation | None = None
    market: Market | None = None
    plan: str | None = None  # The file of a plan, beside this one, whose run is the work of this task.


@dataclass(frozen=True, slots=True)
class InputSpec:
    name: str
    schema: Mapping[str, Any]  # A subset of JSON Schema.
    required: bool
    default: Any
    position: Position


@dataclass(frozen=True, slots=True)
class PlanLimits:
    deadline_s: float | None = None
    concurrency: int = 64
    budget: Mapping[str, int] = field(default_factory=dict)
    on_exceeded: OnExceeded = OnExceeded.PAUSE
    # By `label=value`: attempts of tasks with that label at the same time.
    concurrency_by_label: Mapping[str, int] = field(default_factory=dict)
    dynamic_tasks: int = 0  # Tasks that agents may add to a run, in all.


@dataclass(frozen=True, slots=True)
class Plan:
    name: str
    labels: Mapping[str, str]
    inputs: Mapping[str, InputSpec]
    limits: PlanLimits
    agents: Mapping[str, AgentSpec]
    tasks: Mapping[str, TaskSpec]
    outputs: Mapping[str, Template]
    digest: str  # SHA-256 of the file's bytes, in hex.
    closing: Mapping[str, TaskSpec] = field(default_factory=dict)  # `finally`: run last, whatever happened.
    defaults: Defaults = Defaults()
