"""The circuits of one cell, and their seat among the checks of the guard.

`Breakers` holds one circuit for each (recipient type, capability) that the cell calls, bounded in number; `BreakerCheck` asks it
for every call and tells it every answer; `refusal` is what the caller hears. What a circuit does is in `breaker.py`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from random import Random
from typing import Protocol

from ..errors import AIPError, CircuitOpen, UsageError
from ..ids import type_of
from .breaker import ORDERS, BreakerConfig, BreakerEvent, BreakerState, CircuitBreaker, within

BREAKERS_MAX = 4_096  # (type, capability) pairs one cell watches; about 1 KB each.
ORDERS_MAX = 1_024  # Standing orders of operators; they outlive the breakers they concern.
EVICT_SCAN_MAX = 16  # How far an eviction looks for a closed circuit before it forgets an open one.
CALL = 0  # Envelope.kind of a call: the one kind whose answer comes back to be counted.

Key = tuple[str, str]  # (recipient type, capability)


class Breakers:
    """The circuits of one cell by (recipient type, capability), `limit` at most: the least recently used go.

    A closed circuit goes before one that still has something to say. Orders of operators are kept apart and
    put upon the circuit again whenever it comes back: eviction never lifts one.
    """

    def __init__(
        self,
        config: BreakerConfig,
        rng: Random,
        *,
        limit: int = BREAKERS_MAX,
        listener: Callable[[BreakerEvent], None] | None = None,
    ) -> None:
        within("limit", limit, 1, BREAKERS_MAX)
        self._config = config
        self._rng = rng
        self._limit = limit
        self._listener = listener
        self._breakers: OrderedDict[Key, CircuitBreaker] = OrderedDict()
        self._orders: dict[Key, BreakerState] = {}

    def __len__(self) -> int:
        return len(self._breakers)

    def __iter__(self) -> Iterator[CircuitBreaker]:
        return iter(self._breakers.values())

    def find(self, key: Key) -> CircuitBreaker | None:
        return self._breakers.get(key)

    def of(self, key: Key, now: float) -> CircuitBreaker:
        """The circuit of `key`, made if need be, now the most recently used."""
        breaker = self._breakers.get(key)
        if breaker is None:
            return self._make(key, now)
        self._breakers.move_to_end(key)
        return breaker

    def order(self, key: Key, state: BreakerState | None, now: float) -> CircuitBreaker:
        """Force a state upon a circuit until `None` lifts the order and closes it."""
        if state is None:
            self._orders.pop(key, None)
            breaker = self.of(key, now)
            breaker.reset(now)
            return breaker
        if state not in ORDERS:
            raise UsageError(
                f"no circuit can be ordered into {state}", hint=f"orders are {', '.join(sorted(ORDERS))}"
            )
        if key not in self._orders and len(self._orders) >= ORDERS_MAX:
            raise UsageError(f"{ORDERS_MAX} circuits already stand under an order", hint="lift one first")
        breaker = self.of(key, now)
        breaker.to(state, now)
        self._orders[key] = state
        return breaker

    def advance(self, now: float) -> None:
        for breaker in self._breakers.values():
            breaker.advance(now)

    def _make(self, key: Key, now: float) -> CircuitBreaker:
        if len(self._breakers) >= self._limit:
            self._evict()
        breaker = CircuitBreaker("/".join(key), self._config, self._rng, self._listener)
        self._breakers[key] = breaker
        ordered = self._orders.get(key)
        if ordered is not None:
            breaker.to(ordered, now)
        return breaker

    def _evict(self) -> None:
        oldest = next(iter(self._breakers))
        for _, (key, breaker) in zip(range(EVICT_SCAN_MAX), self._breakers.items(), strict=False):
            if breaker.state is BreakerState.CLOSED or key in self._orders:
                oldest = key
                break
        del self._breakers[oldest]


class Routed(Protocol):
    """What a check reads of an envelope."""

    @property
    def kind(self) -> int: ...
    @property
    def recipient(self) -> str: ...
    @property
    def capability(self) -> str: ...


class BreakerCheck:
    """The breakers as a permit of the guard. Only calls pass through: a tell has no answer to learn from."""

    name = "breaker"

    def __init__(self, breakers: Breakers) -> None:
        self.breakers = breakers

    def peek(self, envelope: Routed, now: float) -> AIPError | None:
        if envelope.kind != CALL:
            return None
        breaker = self.breakers.find((type_of(envelope.recipient), envelope.capability))
        if breaker is None or breaker.would_permit(now):
            return None
        breaker.refuse(now)  # A count for people: no decision reads it, so looking still changes nothing.
        return refusal(breaker, now)

    def take(self, envelope: Routed, now: float) -> AIPError | None:
        if envelope.kind != CALL:
            return None
        breaker = self.breakers.of((type_of(envelope.recipient), envelope.capability), now)
        return None if breaker.try_acquire(now) else refusal(breaker, now)

    def give_back(self, envelope: Routed, now: float) -> None:
        if envelope.kind == CALL:
            breaker = self.breakers.find((type_of(envelope.recipient), envelope.capability))
            if breaker is not None:
                breaker.give_back()

    def settle(self, envelope: Routed, now: float, duration_s: float, error: AIPError | None) -> None:
        if envelope.kind == CALL:
            key = (type_of(envelope.recipient), envelope.capability)
            (self.breakers.find(key) or self.breakers.of(key, now)).settle(now, duration_s, error)


def refusal(breaker: CircuitBreaker, now: float) -> CircuitOpen:
    """Why this circuit lets no call through, and when it is worth asking again."""
    if breaker.state is BreakerState.FORCED_OPEN:
        return CircuitOpen(
            f"circuit {breaker.name} is forced open",
            hint="an operator's order stands against it; only lifting it opens the way",
            circuit=breaker.name,
            state=str(breaker.state),
        )
    wait_s = round(max(0.0, (breaker.due_at or now) - now), 3) if breaker.state is BreakerState.OPEN else None
    return CircuitOpen(
        f"circuit {breaker.name} is {breaker.state}",
        hint=f"its recipient keeps failing; try again in {wait_s:g} s"
        if wait_s
        else "its probes are out; try again soon",
        circuit=breaker.name,
        state=str(breaker.state),
        retry_after_s=wait_s,
    )
