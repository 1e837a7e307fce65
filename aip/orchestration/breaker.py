"""Circuit breakers: stop calling what keeps failing, and find out gently whether it has recovered.

One breaker stands before each (recipient type, capability) in the *sender's* cell (`breaker_check`). It watches the answers
of a sliding window (`window`) and decides before a call; it never makes one. Behaviour: resilience4j 2, as its
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

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from ..errors import AIPError, UsageError
from .window import FAILED, SLOW, WINDOW_CALLS_MAX, WINDOW_S_MAX, CountWindow, TimeWindow, Window

GROWTH_MAX = 10.0  # Keeps growth ** ATTEMPTS_MAX far inside a float.
ATTEMPTS_MAX = 64  # Beyond it the open time has long met its maximum.
HISTORY_MAX = 32  # State changes one breaker remembers for the person who asks what happened.
STRAGGLER_SLACK_S = 0.001  # now - duration_s is the start only up to float rounding.


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
        within("window_calls", self.window_calls, 1, WINDOW_CALLS_MAX)
        within("window_s", self.window_s, 0, WINDOW_S_MAX)
        within("calls_min", self.calls_min, 1, 2**31)
        within("failure_percent", self.failure_percent, 1, 100)
        within("slow_percent", self.slow_percent, 1, 100)
        within("half_open_calls", self.half_open_calls, 1, WINDOW_CALLS_MAX)
        within("open_growth", self.open_growth, 1.0, GROWTH_MAX)
        within("open_jitter", self.open_jitter, 0.0, 1.0)
        within("slow_s", self.slow_s, 1e-9, float("inf"))
        within("open_s", self.open_s, 0.001, float("inf"))
        within("open_max_s", self.open_max_s, self.open_s, float("inf"))
        within("half_open_max_s", self.half_open_max_s, 0.0, float("inf"))
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


def within(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise UsageError(f"{name} must lie between {least} and {most}, not {value}")


def _prefixes(code: str) -> frozenset[str]:
    parts = code.split(".")
    return frozenset(".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _families(kind: type[AIPError]) -> frozenset[str]:
    """Every family of a class: by its code, and by its ancestors' (platform.unavailable is `undelivered`)."""
    codes = (base.code for base in kind.__mro__ if issubclass(base, AIPError) and base is not AIPError)
    return frozenset().union(*map(_prefixes, codes))


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

    def _fresh_window(self) -> Window:
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
