"""Bulkheads: no recipient may hold more of this cell's calls at once than its share.

    ask()      free permit        -> PERMIT    in_use + 1
               else, room to wait -> WAIT      waiting + 1
               else               -> REFUSE
    leave()    someone waits      -> True      its permit passes to the longest waiter: wake exactly one
               else               -> False     in_use - 1
    abandon()  a waiter gave up                waiting - 1

A bulkhead only counts. Whoever waits (a future, a queue entry) is kept in order by the caller, who wakes the
oldest when `leave` or `resize` says so; a waiter that is woken holds its permit and must `leave`, even if it
gave up in the same moment. Handing the permit over instead of freeing it is what makes it fair: nobody who
asks later can slip in between. Behaviour: resilience4j 2, SemaphoreBulkhead, whose blocking wait is the
caller's here and is bounded in number as well.

Guarantees: 0 <= in_use, in_use <= concurrent_max unless `resize` has just lowered it, 0 <= waiting <=
waiting_max, and nobody waits while a permit is free. A permit that is given back twice is a bug and raises.
"""

from __future__ import annotations

from enum import StrEnum

from ..errors import AIPError, BulkheadFull, UsageError
from ..ids import type_of
from .breaker_check import Routed

CONCURRENT_DEFAULT = (
    256  # Calls of one cell in flight to one capability: beyond it the recipient only queues.
)
CONCURRENT_MAX = 100_000
WAITING_MAX = 100_000
CALL = 0  # Envelope.kind of a call: the one kind that ends with an answer and so can give its permit back.


class Entry(StrEnum):
    PERMIT = "permit"
    WAIT = "wait"
    REFUSE = "refuse"


class Bulkhead:
    __slots__ = ("concurrent_max", "in_use", "waiting", "waiting_max")

    def __init__(self, concurrent_max: int, waiting_max: int = 0) -> None:
        if not 0 <= concurrent_max <= CONCURRENT_MAX:
            raise UsageError(f"concurrent_max must lie between 0 and {CONCURRENT_MAX}, not {concurrent_max}")
        if not 0 <= waiting_max <= WAITING_MAX:
            raise UsageError(f"waiting_max must lie between 0 and {WAITING_MAX}, not {waiting_max}")
        self.concurrent_max = concurrent_max
        self.waiting_max = waiting_max
        self.in_use = 0
        self.waiting = 0

    @property
    def free(self) -> int:
        return max(0, self.concurrent_max - self.in_use)

    @property
    def idle(self) -> bool:
        return not self.in_use and not self.waiting

    def ask(self) -> Entry:
        if self.in_use < self.concurrent_max:
            self.in_use += 1
            return Entry.PERMIT
        if self.waiting < self.waiting_max:
            self.waiting += 1
            return Entry.WAIT
        return Entry.REFUSE

    def try_enter(self) -> bool:
        """`ask` for those who cannot wait."""
        if self.in_use >= self.concurrent_max:
            return False
        self.in_use += 1
        return True

    def leave(self) -> bool:
        """Give a permit back. True: it has passed to the longest waiter, who must be woken."""
        if not self.in_use:
            raise UsageError("a bulkhead permit was given back that nobody held")
        if self.waiting and self.in_use <= self.concurrent_max:
            self.waiting -= 1
            return True
        self.in_use -= 1
        return False

    def abandon(self) -> None:
        """A waiter that has not been woken gives up."""
        if not self.waiting:
            raise UsageError("a bulkhead waiter gave up that was not waiting")
        self.waiting -= 1

    def resize(self, concurrent_max: int) -> int:
        """Change the bound at run time. Returns how many waiters hold a permit now and must be woken.

        A lower bound takes no permit away: it is reached as calls end.
        """
        if not 0 <= concurrent_max <= CONCURRENT_MAX:
            raise UsageError(f"concurrent_max must lie between 0 and {CONCURRENT_MAX}, not {concurrent_max}")
        self.concurrent_max = concurrent_max
        woken = min(self.waiting, self.free)
        self.waiting -= woken
        self.in_use += woken
        return woken


class BulkheadCheck:
    """Bulkheads as a permit of the guard: one per (recipient type, capability), for calls only.

    The guard answers at once, so it never waits here: a full bulkhead refuses. Only those in use are kept,
    so there are never more of them than calls in flight. `settle` gives the permit back whatever the answer.
    """

    name = "bulkhead"

    def __init__(self, concurrent_max: int = CONCURRENT_DEFAULT) -> None:
        Bulkhead(concurrent_max)  # Refuses a bound that no bulkhead could have, before the first call does.
        self._concurrent_max = concurrent_max
        self._bulkheads: dict[tuple[str, str], Bulkhead] = {}

    def __len__(self) -> int:
        return len(self._bulkheads)

    def peek(self, envelope: Routed, now: float) -> AIPError | None:
        if envelope.kind != CALL:
            return None
        bulkhead = self._bulkheads.get((type_of(envelope.recipient), envelope.capability))
        in_use = bulkhead.in_use if bulkhead is not None else 0
        return None if in_use < self._concurrent_max else self._full(envelope)

    def take(self, envelope: Routed, now: float) -> AIPError | None:
        if envelope.kind != CALL:
            return None
        if not self._concurrent_max:
            return self._full(envelope)
        key = (type_of(envelope.recipient), envelope.capability)
        bulkhead = self._bulkheads.get(key)
        if bulkhead is None:
            bulkhead = self._bulkheads[key] = Bulkhead(self._concurrent_max)
        return None if bulkhead.try_enter() else self._full(envelope)

    def give_back(self, envelope: Routed, now: float) -> None:
        if envelope.kind != CALL:
            return
        key = (type_of(envelope.recipient), envelope.capability)
        bulkhead = self._bulkheads.get(key)
        if bulkhead is None:
            raise UsageError(f"no call to {'/'.join(key)} holds a bulkhead permit")
        bulkhead.leave()
        if bulkhead.idle:
            del self._bulkheads[key]

    def settle(self, envelope: Routed, now: float, duration_s: float, error: AIPError | None) -> None:
        self.give_back(envelope, now)

    def _full(self, envelope: Routed) -> BulkheadFull:
        return BulkheadFull(
            f"{type_of(envelope.recipient)}/{envelope.capability} has {self._concurrent_max} calls in flight",
            hint="wait for some of them, or raise the bulkhead of this cell",
            concurrent_max=self._concurrent_max,
        )
