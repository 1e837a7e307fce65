"""What a cell needs from outside, as small protocols: the shell gives Ray and files, a test memory, the simulator faults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from ..errors import AIPError
from .envelope import Envelope


class NotSent(Exception):
    """The destination could not be reached and has seen nothing: what was meant for it may be sent elsewhere."""


class CellLost(Exception):
    """The destination went away while it had the frame: what became of it is unknown."""


class Transport(Protocol):
    """Moves frames between cells. One frame of a pair is in flight at a time; the cell sees to that."""

    async def deliver(self, cell: str, frame: bytes) -> bytes:
        """Hand `frame` to `cell`, return its ack. Raises `NotSent` or `CellLost`."""
        ...


class Activated(msgspec.Struct, frozen=True, array_like=True):
    """A checkpoint shard's answer: an incarnation and the last state, or who still holds the agent (`held_by`).

    `epoch` is the membership under which that holder was granted it: who knows an older one cannot tell whether it lives.
    """

    incarnation: int = 0
    state: bytes | None = None
    held_by: str = ""
    epoch: int = 0


class EffectGrant(msgspec.Struct, frozen=True, array_like=True):
    """`go`: do it, its intent is durable. `done`: it was done, here is its result. `doubt`: it was begun, nobody knows."""

    status: str
    result: bytes | None = None


class Checkpoints(Protocol):
    """State and fencing of agents: one shard, or many behind one face (semantics A2, A3, A5, E1-E3)."""

    async def activate(self, agent: str, cell: str, epoch: int, force: bool) -> Activated:
        """An incarnation for `cell`, which asks under membership `epoch`. `force` takes it from a holder that is not newer."""
        ...

    async def save(self, agent: str, incarnation: int, state: bytes) -> None: ...
    async def release(self, agent: str, incarnation: int) -> None: ...
    async def begin_effect(
        self, agent: str, incarnation: int, key: str, name: str, idempotent: bool
    ) -> EffectGrant: ...
    async def end_effect(self, agent: str, incarnation: int, key: str, result: bytes | None) -> None: ...


class Audit(Protocol):
    """Where a cell accounts for what it did. Never waits on the hot path; `record` waits for the disk."""

    def admitted(self, envelope: Envelope) -> None: ...
    def settled(self, envelope: Envelope, started: float, ended: float, code: str) -> None:
        """A call on behalf of a run is over; `code` is its error's, or empty. Asked of the caller's cell only."""
        ...

    def note(self, kind: str, subject: str, detail: Mapping[str, Any]) -> None: ...
    async def record(self, kind: str, subject: str, detail: Mapping[str, Any]) -> None: ...


class Resolver(Protocol):
    """Finds agents by what they can do, or by what a plan calls them (registry and run, behind a short-lived cache); the run's
    own door for those who work for it."""

    async def resolve(self, capability: str) -> str:
        """A live agent that has the capability. Raises `NotFound`."""
        ...

    async def named(self, run: str, name: str) -> str:
        """An agent of the plan of `run`, one of its replicas. Raises `NotFound`."""
        ...

    async def add_tasks(self, run: str, attempt: str, tasks: Mapping[str, Any]) -> None:
        """Add tasks to `run` on behalf of one of its attempts; durable when this returns."""
        ...


class Purses(Protocol):
    """The paying side of budgets in one cell: `spend` draws from the account's ledger when its own purse is empty."""

    async def spend(self, account: str, amounts: Mapping[str, int]) -> None: ...
    async def hold(self, account: str, amounts: Mapping[str, int]) -> None:
        """Set aside without spending. Raises `BudgetExceeded`."""
        ...

    def unhold(self, account: str, held: Mapping[str, int], spent: Mapping[str, int]) -> None:
        """End a `hold`: `spent` is charged, be it more or less than what was held."""
        ...

    async def split(self, account: str, part: str, limits: Mapping[str, int]) -> None:
        """Open `part`, an account under `account` with limits of its own; the same again is a repeat and changes nothing."""
        ...

    async def fill(self, account: str, need: Mapping[str, int]) -> None: ...
    async def close(self, account: str) -> None: ...


class Effects(Protocol):
    """Has effects done by whoever holds the means: secrets, sockets, files (the effect gateway)."""

    async def perform(
        self,
        cause: Envelope,
        agent: str,
        incarnation: int,
        connector: str,
        request: Any,
        key: str,
        until: float,
    ) -> Any:
        """The result, a plain value. Raises `EffectInDoubt` where nobody knows, and other typed errors where nothing was done."""
        ...


class Clock(Protocol):
    def __call__(self) -> float:
        """Seconds since the Unix epoch."""
        ...


class Locator(Protocol):
    """Where agents live, under one membership epoch (`placement.Placement`). Local and immediate."""

    @property
    def epoch(self) -> int: ...
    def locate(self, address: str) -> str | None:
        """The cell that owns this agent, or None where nobody does; `absent` says why."""
        ...

    def absent(self, address: str) -> AIPError:
        """For an address nobody owns: retryable where its pool has no living cell just now, `NotFound` where no pool has it."""
        ...

    def generation(self, cell: str) -> int | None:
        """The living generation of a cell, or None where it is not a member."""
        ...

    def hosts(self, cell: str, address: str) -> bool:
        """Whether this agent's code runs in that cell: whether the cell may speak for it."""
        ...
