"""Circuit breakers: stop calling what keeps failing, and find out gently whether it has recovered.

One breaker stands before each (recipient type, capability) in the *sender's* cell. It watches the answers of
a sliding window and decides before a call; it never makes one. Behaviour: resilience4j 2, as its
CircuitBreakerStateMachine and the tests of it have it.

    state          lets through            may become         when
    CLOSED         all                     OPEN               a rate reaches its threshold
    OPEN           none                    HALF_OPEN          its time is up: at the next call, or by itself
    HALF_OPEN      `half_open_calls`       CLOSED, OPEN       the probes are judged, or `half_open_max_s` ends
    DISABLED       all, counts nothing     any                by order only
    FORCED_OPEN    none, counts nothing    any                by order only
    METRICS_ONLY   all, never opens        any but the opens  by order only

`TRANSITIONS` is the full table, orders included; anything else is a `UsageError`. Entering any state but OPEN
starts a new window; OPEN keeps the one that opened it, so that a person can read why.

Guarantees. `try_acquire` and `record` are O(1) and allocate nothing while CLOSED. At most `half_open_calls`
probes are out at a time; a permit comes back when its call was not made (`give_back`) or when its error says
nothing about the recipient (`ignore`). Rates are compared as integers: one failure in two is 50 %.
A straggler, a call that began before the circuit half opened, is no evidence of recovery: it neither counts
nor frees a permit. (resilience4j counts it: one old failure can re-open the circuit, and one old call that is
ignored hands out a probe too many.)

Not guaranteed. Breakers of different cells share nothing: each learns for itself. Time moves a breaker only
when it is asked; whoever wants `automatic_half_open` to be seen without a call calls `advance(now)` at
`due_at`. `duration_s` must count from the moment the permit was taken. A listener that raises raises into the
caller, at a moment when the breaker is consistent. Nothing here is locked: one event loop owns it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Protocol

from ..errors import AIPError, CircuitOpen, UsageError
from ..ids import type_of

WINDOW_CALLS_MAX = 10_000  # One byte a call: a larger window reacts too late to be a breaker.
WINDOW_S_MAX = 3_600  # Four numbers a second; also what the first call after a long silence has to clear.
GROWTH_MAX = 10.0  # Keeps growth ** ATTEMPTS_MAX far inside a float.
ATTEMPTS_MAX = 64  # Beyond it the open time has long met its maximum.
HISTORY_MAX = 32  # State changes one breaker remembers for the person who asks what happened.
BREAKERS_MAX = 4_096  # (type, capability) pairs one cell watches; about 1 KB each.
ORDERS_MAX = 1_024  # Standing orders of operators; they outlive the breakers they concern.
EVICT_SCAN_MAX = 16  # How far an eviction looks for a closed circuit before it forgets an open one.
STRAGGLER_SLACK_S = 0.001  # now - duration_s is the start only up to float rounding.
CALL = 0  # Envelope.kind of a call: the one kind whose answer comes back to be counted.


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    DISABLED = "disabled"
    FORCED_OPEN = "forced_open"
    METRICS_ONLY = "metrics_only"


_S = BreakerState
_CLOSED = _S.CLOSED
TRANSITIONS: dict[BreakerState, frozenset[BreakerState]] = {
    _S.CLOSED: frozenset(_S) - {_S.HALF_OPEN},
    _S.OPEN: frozenset(_S),
    _S.HALF_OPEN: frozenset(_S),
    _S.DISABLED: frozenset(_S),
    _S.FORCED_OPEN: frozenset(_S),
    _S.METRICS_ONLY: frozenset({_S.METRICS_ONLY, _S.CLOSED, _S.DISABLED, _S.FORCED_OPEN}),
}
ORDERS = frozenset({_S.DISABLED, _S.FORCED_OPEN, _S.METRICS_ONLY})  # States only a person leads into.
_SILENT = frozenset(
    {_S.DISABLED, _S.FORCED_OPEN}
)  # States that report nothing but their own beginning and end.


class EventKind(StrEnum):
    STATE = "state"
    RESET = "reset"
    FAILURE_RATE = "failure_rate_exceeded"
    SLOW_RATE = "slow_rate_exceeded"
    ERROR = "error"
    SLOW = "slow"
    IGNORED = "ignored_error"
    NOT_PERMITTED = "not_permitted"


_LASTING = frozenset({EventKind.STATE, EventKind.RESET, EventKind.FAILURE_RATE, EventKind.SLOW_RATE})


@dataclass(frozen=True, slots=True)
class BreakerEvent:
    """Something that happened to one circuit. `old` and `new` differ for `STATE` only."""

    kind: EventKind
    name: str
    at: float
    old: BreakerState
    new: BreakerState
    duration_s: float = 0.0
    rate_percent: float = 0.0
    error: AIPError | None = None


class Judgement(StrEnum):
    """What an answer with an error says about the recipient."""

    FAILURE = "failure"
    SUCCESS = "success"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True)
class BreakerConfig:
    """When a circuit opens and how it closes again. A rate opens it when it *reaches* its percentage.

    Error families are dotted prefixes of codes (`undelivered` holds `undelivered.deadline`). An error is
    ignored if a family of `ignore` holds it, else a failure if one of `record` does, else a success: the
    recipient did answer.
    """

    window_calls: int = 100
    window_s: int = 0  # Above 0: the calls of the last so many seconds instead of the last `window_calls`.
    calls_min: int = (
        20  # Fewer are an anecdote. resilience4j's 100 would never be met by most agents of a plan.
    )
    failure_percent: int = 50
    slow_percent: int = 100
    slow_s: float = 60.0  # A call that takes longer is slow.
    open_s: float = 10.0
    open_growth: float = (
        2.0  # Each failed attempt to close again multiplies the open time; 1.0 keeps it constant.
    )
    open_max_s: float = 300.0
    open_jitter: float = (
        0.2  # A time t becomes a uniform draw from t * [1 - jitter, 1 + jitter]: cells do not probe in step.
    )
    half_open_calls: int = 3
    half_open_max_s: float = (
        120.0  # Two default call deadlines: a probe without an answer by then has no news. 0: no end.
    )
    half_open_then: BreakerState = _S.OPEN  # or CLOSED
    automatic_half_open: bool = False
    record: tuple[str, ...] = ("agent.failed", "undelivered")
    ignore: tuple[str, ...] = ("refused", "user", "undelivered.cancelled", "effect", "state")

    def __post_init__(self) -> None:
        _within("window_calls", self.window_calls, 1, WINDOW_CALLS_MAX)
        _within("window_s", self.window_s, 0, WINDOW_S_MAX)
        _within("calls_min", self.calls_min, 1, 2**31)
        _within("failure_percent", self.failure_percent, 1, 100)
        _within("slow_percent", self.slow_percent, 1, 100)
        _within("half_open_calls", self.half_open_calls, 1, WINDOW_CALLS_MAX)
        _within("open_growth", self.open_growth, 1.0, GROWTH_MAX)
        _within("open_jitter", self.open_jitter, 0.0, 1.0)
        _within("slow_s", self.slow_s, 1e-9, float("inf"))
        _within("open_s", self.open_s, 0.001, float("inf"))
        _within("open_max_s", self.open_max_s, self.open_s, float("inf"))
        _within("half_open_max_s", self.half_open_max_s, 0.0, float("inf"))
        if self.half_open_then not in (_S.OPEN, _S.CLOSED):
            raise UsageError(f"half_open_then must be open or closed, not {self.half_open_then}")

    def judge(self, error: AIPError) -> Judgement:
        families = _families(type(error))
        own_code = error.details.get("code")  # An author's own error whose class this cell does not know.
        if isinstance(own_code, str):
            families |= _prefixes(own_code)
        if not families.isdisjoint(self.ignore):
            return Judgement.IGNORED
        return Judgement.SUCCESS if families.isdisjoint(self.record) else Judgement.FAILURE

    def open_time_s(self, attempt: int, rng: Random) -> float:
        """How long the circuit stays open the `attempt`th time in a row. The jitter comes after the cap."""
        exponent = min(max(attempt, 1), ATTEMPTS_MAX) - 1
        base_s = min(self.open_s * self.open_growth**exponent, self.open_max_s)
        return base_s * (1.0 + self.open_jitter * rng.uniform(-1.0, 1.0)) if self.open_jitter else base_s


def _within(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise UsageError(f"{name} must lie between {least} and {most}, not {value}")


def _prefixes(code: str) -> frozenset[str]:
    parts = code.split(".")
    return frozenset(".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _families(kind: type[AIPError]) -> frozenset[str]:
    """Every family of a class: by its code, and by its ancestors' (platform.unavailable is `undelivered`)."""
    codes = (base.code for base in kind.__mro__ if issubclass(base, AIPError) and base is not AIPError)
    return frozenset().union(*map(_prefixes, codes))


# An outcome is two bits, so that a count window needs one byte a call.
FAILED = 1
SLOW = 2


class _Window:
    """Sums over the calls that lie in a window. Subclasses say which those are."""

    __slots__ = ("calls", "failures", "slow", "slow_failures")

    def __init__(self) -> None:
        self.calls = self.failures = self.slow = self.slow_failures = 0

    def record(self, now: float, outcome: int) -> None:
        raise NotImplementedError

    def move(self, now: float) -> None:
        """Drop what time alone has put outside."""

    def _add(self, outcome: int, sign: int) -> None:
        if outcome & FAILED:
            self.failures += sign
        if outcome & SLOW:
            self.slow += sign
            if outcome & FAILED:
                self.slow_failures += sign


class CountWindow(_Window):
    """The last `size` calls: a ring of one byte each."""

    __slots__ = ("_at", "_ring", "_size")

    def __init__(self, size: int) -> None:
        super().__init__()
        self._ring = bytearray(size)
        self._size = size
        self._at = 0

    def record(self, now: float, outcome: int) -> None:
        at = self._at
        before = self._ring[at]  # 0, as a fast success is, until the ring has gone round once.
        if before != outcome:
            self._ring[at] = outcome
            self._add(before, -1)
            self._add(outcome, 1)
        if self.calls < self._size:
            self.calls += 1
        at += 1
        self._at = at if at < self._size else 0


class TimeWindow(_Window):
    """The calls of the last `size_s` seconds, the running one included: a ring of one bucket a second.

    A clock that steps back counts into the latest bucket. Moving on costs the seconds passed, or `size_s`.
    """

    __slots__ = ("_at", "_buckets", "_second", "_size_s")

    def __init__(self, size_s: int) -> None:
        super().__init__()
        self._buckets = [[0, 0, 0, 0] for _ in range(size_s)]  # Calls by outcome.
        self._size_s = size_s
        self._at = 0
        self._second = 0

    def record(self, now: float, outcome: int) -> None:
        if int(now) > self._second:
            self.move(now)
        self._buckets[self._at][outcome] += 1
        self.calls += 1
        if outcome:
            self._add(outcome, 1)

    def move(self, now: float) -> None:
        second = int(now)
        for _ in range(min(max(second - self._second, 0), self._size_s)):
            self._at = (self._at + 1) % self._size_s
            bucket = self._buckets[self._at]
            self.calls -= sum(bucket)
            for outcome in (FAILED, SLOW, FAILED | SLOW):
                self._add(outcome, -bucket[outcome])
            bucket[:] = (0, 0, 0, 0)
        self._second = max(second, self._second)


@dataclass(frozen=True, slots=True)
class BreakerSnapshot:
    """What a person sees of a circuit. A rate is None below the minimum number of calls."""

    name: str
    state: BreakerState
    failure_percent: float | None
    slow_percent: float | None
    calls: int
    failures: int
    slow: int
    slow_failures: int
    refused: int
    attempts: int
    due_at: float | None


class CircuitBreaker:
    """One circuit. `state` is as of the last time anyone asked or told it something."""

    __slots__ = (
        "_config",
        "_listener",
        "_minimum",
        "_outstanding",
        "_permits",
        "_rng",
        "_seen",
        "_since",
        "_slow_s",
        "_until",
        "_window",
        "attempts",
        "history",
        "name",
        "refused",
        "state",
    )

    def __init__(
        self,
        name: str,
        config: BreakerConfig,
        rng: Random,
        listener: Callable[[BreakerEvent], None] | None = None,
    ) -> None:
        self.name = name
        self.state = _CLOSED
        self.attempts = 0  # Times in a row that it opened without having closed.
        self.refused = 0
        self.history: deque[BreakerEvent] = deque(maxlen=HISTORY_MAX)
        self._config = config
        self._rng = rng
        self._listener = listener
        self._slow_s = config.slow_s
        self._since = 0.0
        self._until: float | None = None  # When time alone ends OPEN or HALF_OPEN.
        self._permits = 0  # Probes still to hand out.
        self._outstanding = 0  # Probes handed out, not answered and not given back.
        self._seen: set[EventKind] = set()  # Rates already reported while METRICS_ONLY.
        self._window = self._fresh_window()
        self._minimum = self._minimum_of(_CLOSED)

    # Before a call

    def try_acquire(self, now: float) -> bool:
        """Whether a call may be made. If so, one of `record`, `ignore`, `settle`, `give_back` must follow."""
        if self.state is _CLOSED:
            return True
        self._pass_time(now, asked=True)
        if self.state is _S.HALF_OPEN:
            if self._permits:
                self._permits -= 1
                self._outstanding += 1
                return True
        elif self.state is not _S.OPEN and self.state is not _S.FORCED_OPEN:
            return True
        self.refuse(now)
        return False

    def would_permit(self, now: float) -> bool:
        """What `try_acquire` would say, without taking or changing anything."""
        if self.state is _CLOSED:
            return True
        due = self._until is not None and now >= self._until
        if self.state is _S.HALF_OPEN:
            return self._config.half_open_then is _CLOSED if due else self._permits > 0
        return due if self.state is _S.OPEN else self.state is not _S.FORCED_OPEN

    def refuse(self, now: float) -> None:
        """Count a call that was turned away (by `try_acquire`, or by whoever asked `would_permit`)."""
        self.refused += 1
        if self._listener:
            self._emit(EventKind.NOT_PERMITTED, now)

    # After it

    def give_back(self) -> None:
        """The call was not made after all."""
        if self.state is _S.HALF_OPEN and self._outstanding:
            self._outstanding -= 1
            self._permits += 1

    def record(self, now: float, duration_s: float, ok: bool, error: AIPError | None = None) -> None:
        """An answer that counts: a success or a failure, slow or not."""
        outcome = (0 if ok else FAILED) if duration_s <= self._slow_s else (SLOW if ok else FAILED | SLOW)
        if outcome or self.state is not _CLOSED:
            self._record_rest(now, duration_s, outcome, error)
            return
        window = self._window
        window.record(now, 0)
        if window.failures or window.slow:
            self._judge_rates(now)

    def ignore(self, now: float, duration_s: float, error: AIPError | None = None) -> None:
        """An answer that says nothing about the recipient: a probe's permit is free again."""
        if not self._is_straggler(now, duration_s):
            self.give_back()
        if self._listener:
            self._emit(EventKind.IGNORED, now, duration_s=duration_s, error=error)

    def settle(self, now: float, duration_s: float, error: AIPError | None) -> None:
        """An answer as it came: judged by the configured error families, then recorded or ignored."""
        judgement = Judgement.SUCCESS if error is None else self._config.judge(error)
        if judgement is Judgement.IGNORED:
            self.ignore(now, duration_s, error)
        else:
            self.record(now, duration_s, judgement is Judgement.SUCCESS, error)

    # Orders and time

    def to(self, state: BreakerState, now: float, *, open_s: float | None = None) -> None:
        """Put the circuit into `state` by order; `open_s`: for just so long (a server said until when)."""
        if state not in TRANSITIONS[self.state]:
            raise UsageError(
                f"circuit {self.name} cannot go from {self.state} to {state}",
                hint=f"from {self.state} it may become {', '.join(sorted(TRANSITIONS[self.state]))}",
            )
        self._enter(state, now, open_s)

    def reset(self, now: float) -> None:
        """Closed, with nothing counted, from any state."""
        self._enter(_CLOSED, now)
        self._emit(EventKind.RESET, now)

    def advance(self, now: float) -> BreakerState:
        """Make the changes that time alone makes; worth calling at `due_at`; else the next call does."""
        self._pass_time(now, asked=self._config.automatic_half_open)
        return self.state

    @property
    def due_at(self) -> float | None:
        """When time will end the present state, if it will."""
        return self._until

    def snapshot(self, now: float) -> BreakerSnapshot:
        window = self._window
        window.move(now)
        judged = window.calls >= self._minimum and window.calls > 0
        return BreakerSnapshot(
            name=self.name,
            state=self.state,
            failure_percent=100 * window.failures / window.calls if judged else None,
            slow_percent=100 * window.slow / window.calls if judged else None,
            calls=window.calls,
            failures=window.failures,
            slow=window.slow,
            slow_failures=window.slow_failures,
            refused=self.refused,
            attempts=self.attempts,
            due_at=self._until,
        )

    # Inside

    def _record_rest(self, now: float, duration_s: float, outcome: int, error: AIPError | None) -> None:
        """Every record but a fast success while CLOSED."""
        self._pass_time(now, asked=False)
        state = self.state
        if state in _SILENT:
            return
        if self._is_straggler(now, duration_s):
            return
        if state is _S.HALF_OPEN:
            self._outstanding -= 1
        self._window.record(now, outcome)
        if self._listener:
            if outcome & FAILED:
                self._emit(EventKind.ERROR, now, duration_s=duration_s, error=error)
            if outcome & SLOW:
                self._emit(EventKind.SLOW, now, duration_s=duration_s)
        if state is not _S.OPEN:  # An answer that outlived CLOSED is counted, but the decision has been made.
            self._judge_rates(now)

    def _is_straggler(self, now: float, duration_s: float) -> bool:
        if self.state is not _S.HALF_OPEN:
            return False
        return not self._outstanding or now - duration_s < self._since - STRAGGLER_SLACK_S

    def _judge_rates(self, now: float) -> None:
        window, config = self._window, self._config
        if window.calls < self._minimum:
            return
        failing = 100 * window.failures >= config.failure_percent * window.calls
        slow = 100 * window.slow >= config.slow_percent * window.calls
        if self.state is not _S.HALF_OPEN:
            if failing:
                self._report(EventKind.FAILURE_RATE, now, 100 * window.failures / window.calls)
            if slow:
                self._report(EventKind.SLOW_RATE, now, 100 * window.slow / window.calls)
        if self.state is _S.METRICS_ONLY:
            return
        if failing or slow:
            self._enter(_S.OPEN, now)
        elif self.state is _S.HALF_OPEN:
            self._enter(_CLOSED, now)

    def _report(self, kind: EventKind, now: float, rate_percent: float) -> None:
        """Say it once while METRICS_ONLY; elsewhere the circuit opens with it, so once is all there is."""
        if kind not in self._seen:
            if self.state is _S.METRICS_ONLY:
                self._seen.add(kind)
            self._emit(kind, now, rate_percent=rate_percent)

    def _pass_time(self, now: float, *, asked: bool) -> None:
        if self._until is None or now < self._until:
            return
        if self.state is _S.HALF_OPEN:
            self._enter(self._config.half_open_then, now)
        elif asked:
            self._enter(_S.HALF_OPEN, now)

    def _enter(self, state: BreakerState, now: float, open_s: float | None = None) -> None:
        old, config = self.state, self._config
        if state is _S.OPEN:
            if open_s is None:
                self.attempts += 1
                open_s = config.open_time_s(self.attempts, self._rng)
            self._until = now + open_s
        elif state is _S.HALF_OPEN:
            self._until = now + config.half_open_max_s if config.half_open_max_s else None
            self._window = CountWindow(config.half_open_calls)
            self._permits, self._outstanding = config.half_open_calls, 0
        else:
            self._until = None
            self._window = self._fresh_window()
            self.attempts = self.attempts + 1 if state is _S.FORCED_OPEN else 0
        if state is not _S.OPEN:
            self.refused = 0
            self._minimum = self._minimum_of(state)
            self._seen.clear()
        self.state, self._since = state, now
        if old is not state:
            self._emit(EventKind.STATE, now, old=old)

    def _fresh_window(self) -> _Window:
        config = self._config
        return TimeWindow(config.window_s) if config.window_s else CountWindow(config.window_calls)

    def _minimum_of(self, state: BreakerState) -> int:
        """A count window can never hold more calls than its size, so neither may the minimum ask for more."""
        config = self._config
        if state is _S.HALF_OPEN:
            return min(config.calls_min, config.half_open_calls)
        return config.calls_min if config.window_s else min(config.calls_min, config.window_calls)

    def _emit(
        self,
        kind: EventKind,
        now: float,
        *,
        old: BreakerState | None = None,
        duration_s: float = 0.0,
        rate_percent: float = 0.0,
        error: AIPError | None = None,
    ) -> None:
        if kind not in _LASTING and self.state in _SILENT:
            return
        event = BreakerEvent(
            kind, self.name, now, old or self.state, self.state, duration_s, rate_percent, error
        )
        if kind in _LASTING:
            self.history.append(event)
        if self._listener:
            self._listener(event)


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
        _within("limit", limit, 1, BREAKERS_MAX)
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
            if breaker.state is _CLOSED or key in self._orders:
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
    if breaker.state is _S.FORCED_OPEN:
        return CircuitOpen(
            f"circuit {breaker.name} is forced open",
            hint="an operator's order stands against it; only lifting it opens the way",
            circuit=breaker.name,
            state=str(breaker.state),
        )
    wait_s = round(max(0.0, (breaker.due_at or now) - now), 3) if breaker.state is _S.OPEN else None
    return CircuitOpen(
        f"circuit {breaker.name} is {breaker.state}",
        hint=f"its recipient keeps failing; try again in {wait_s:g} s"
        if wait_s
        else "its probes are out; try again soon",
        circuit=breaker.name,
        state=str(breaker.state),
        retry_after_s=wait_s,
    )
