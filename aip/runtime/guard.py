"""The guard: the ordered checks that every message passes in its sender's cell, cheapest first.

    kill fence → principal → breaker (peek) → [capability token] → policy → permits and budget taken

The guard knows nothing of what it checks: a `Check` looks, a `Permit` also takes something that must be given back. All of it
is local and synchronous: a check decides from what its cell already holds, and never waits.

Order of effects of `admit`: every `peek` in order; then every `take` in order. The first refusal wins; what was taken before it
is given back in reverse. An admitted message holds its permits until `settle`, which the cell calls exactly once per admitted
envelope with how it ended.

The place in brackets is where identity puts its own; `names` says which checks a guard has.

Where a message *arrives* from another cell, that cell's guard is not believed: the receiver asks its fence and those of its own
checks that take nothing (`again`). So a guard that was patched gains nothing elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ..errors import AIPError, Unavailable
from .envelope import Envelope


class Check(Protocol):
    """Looks at a message and changes nothing."""

    name: str

    def peek(self, envelope: Envelope, now: float) -> AIPError | None: ...


class Fence(Check, Protocol):
    """The kill switch, as the road sees it. `peek` tells what must end that is under way; each refusal says which order it is."""

    def enters(self, envelope: Envelope, now: float) -> AIPError | None:
        """A new message wants to be sent, or one that waited wants to begin."""
        ...

    def holds(self) -> bool:
        """Whether any order makes mail wait. Where none does, `waits` and `take` need not be asked."""
        ...

    def waits(self, envelope: Envelope, now: float) -> bool:
        """Whether this message stays in its mailbox for now."""
        ...

    def take(self, envelope: Envelope, now: float) -> None:
        """It begins, and counts against the rates that cover it."""
        ...

    def effect(self, envelope: Envelope, now: float) -> AIPError | None:
        """An effect wants to begin."""
        ...

    def born(self, parent: str, child: str) -> None:
        """An agent is about to come to life because `parent` spawned it."""
        ...

    def stop(self, by: str, target: str, reason: str, now: float) -> None:
        """An agent ends itself or what descends from it: durable and in force when this returns. Raises `Denied`."""
        ...


@runtime_checkable
class Permit(Protocol):
    """A check that also takes: a breaker's permit, a place in a bulkhead, money."""

    name: str

    def peek(self, envelope: Envelope, now: float) -> AIPError | None: ...
    def take(self, envelope: Envelope, now: float) -> AIPError | None: ...
    def give_back(self, envelope: Envelope, now: float) -> None: ...
    def settle(self, envelope: Envelope, now: float, duration_s: float, error: AIPError | None) -> None: ...


class Guard:
    """Ordered checks. `fence` stands first and is asked again before a turn starts and before an effect begins."""

    __slots__ = ("_again", "_peeks", "_permits", "_settles", "_takes", "fence", "names")

    def __init__(
        self, fence: Fence, checks: Sequence[Check | Permit] = (), again: Sequence[Check] = ()
    ) -> None:
        """`again`: those of the checks that are asked again, after the fence, of what arrives from another cell."""
        self.fence = fence
        self.names = tuple(check.name for check in (fence, *checks))
        self._peeks = [fence.enters, *(check.peek for check in checks)]
        self._again = [fence.enters, *(check.peek for check in again)] if again else []
        self._permits = [check for check in checks if isinstance(check, Permit)]
        self._takes = [permit.take for permit in self._permits]
        self._settles = [permit.settle for permit in self._permits]

    def admit(self, envelope: Envelope, now: float) -> AIPError | None:
        """None: admitted, permits held. An error: refused, nothing held."""
        for peek in self._peeks:
            refusal = peek(envelope, now)
            if refusal is not None:
                return refusal
        for index, take in enumerate(self._takes):
            refusal = take(envelope, now)
            if refusal is not None:
                for permit in reversed(self._permits[:index]):
                    permit.give_back(envelope, now)
                return refusal
        return None

    def arrives(self, envelope: Envelope, now: float) -> AIPError | None:
        """The receiver's word on what another cell's guard has let through. Nothing is taken."""
        for peek in self._again:
            refusal = peek(envelope, now)
            if refusal is not None:
                return refusal
        return None

    def settle(self, envelope: Envelope, now: float, duration_s: float, error: AIPError | None) -> None:
        for settle in self._settles:
            settle(envelope, now, duration_s, error)


class OpenFence:
    """A fence with no kill order on it."""

    name = "kill"

    def peek(self, envelope: Envelope, now: float) -> AIPError | None:
        return None

    enters = effect = peek

    def holds(self) -> bool:
        return False

    def waits(self, envelope: Envelope, now: float) -> bool:
        return False

    def take(self, envelope: Envelope, now: float) -> None:
        return None

    def born(self, parent: str, child: str) -> None:
        return None

    def stop(self, by: str, target: str, reason: str, now: float) -> None:
        raise Unavailable("no kill order can be raised here: this fence is always open")
