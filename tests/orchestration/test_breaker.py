"""Circuit breakers behave as resilience4j's do. Each test names the test class it holds us to.

Calls are written as strings, one letter each: `s`uccess, `f`ailure, `S`low success, `F`slow failure.
"""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.errors import UsageError
from aip.orchestration.breaker import (
    HISTORY_MAX,
    TRANSITIONS,
    BreakerConfig,
    BreakerEvent,
    BreakerState,
    CircuitBreaker,
    EventKind,
)
from aip.orchestration.window import CountWindow, TimeWindow

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
DISABLED, FORCED_OPEN, METRICS_ONLY = (
    BreakerState.DISABLED,
    BreakerState.FORCED_OPEN,
    BreakerState.METRICS_ONLY,
)

FAST_S, SLOW_S = 0.1, 5.0

# The set-up of CircuitBreakerStateMachineTest.
REFERENCE = BreakerConfig(
    window_s=20,
    calls_min=5,
    failure_percent=50,
    slow_percent=50,
    slow_s=4.0,
    open_s=5.0,
    open_jitter=0.0,
    open_growth=1.0,
    half_open_calls=4,
    half_open_max_s=60.0,
)


class Circuit:
    """A breaker with a clock of its own and everything it reported."""

    def __init__(self, config: BreakerConfig = REFERENCE, seed: int = 1) -> None:
        self.now = 1_000.0
        self.events: list[BreakerEvent] = []
        self.breaker = CircuitBreaker("worker/run", config, random.Random(seed), self.events.append)

    def acquire(self) -> bool:
        return self.breaker.try_acquire(self.now)

    def answer(self, calls: str) -> None:
        """Answers without asking first, as those of calls made before."""
        for letter in calls:
            duration_s = SLOW_S if letter.isupper() else FAST_S
            self.breaker.record(self.now, duration_s, letter in "sS")

    def call(self, calls: str) -> None:
        """Whole calls: each asks, takes its time and answers."""
        for letter in calls:
            assert self.acquire()
            duration_s = SLOW_S if letter.isupper() else FAST_S
            self.now += duration_s
            self.breaker.record(self.now, duration_s, letter in "sS")

    def to(self, *states: BreakerState) -> Circuit:
        for state in states:
            self.breaker.to(state, self.now)
        return self

    def kinds(self) -> list[EventKind]:
        return [event.kind for event in self.events]

    @property
    def state(self) -> BreakerState:
        return self.breaker.state

    @property
    def counts(self) -> tuple[float | None, int, int, int, int]:
        """Failure rate, successes, calls, failures, refused: what resilience4j's tests assert on."""
        seen = self.breaker.snapshot(self.now)
        return seen.failure_percent, seen.calls - seen.failures, seen.calls, seen.failures, seen.refused


NOTHING_COUNTED = (None, 0, 0, 0, 0)


# Opening


@pytest.mark.parametrize(
    ("calls", "state"),
    [
        ("ffff", CLOSED),  # below the minimum number of calls
        ("fffss", OPEN),  # 60 %
        ("ffsss", CLOSED),  # 40 %
        ("sssfff", OPEN),  # the sixth call brings it to exactly 50 %
        ("ffsssf", OPEN),
        ("FSfsS", OPEN),  # slow in 60 % of calls
        ("SSsss", CLOSED),  # slow in 40 %
        ("SSSss", OPEN),
        ("sssss" * 20 + "fffff", CLOSED),
    ],
)
def test_a_circuit_opens_when_a_rate_reaches_its_threshold_and_enough_calls_were_seen(
    calls: str, state: BreakerState
) -> None:
    """CircuitBreakerStateMachineTest: shouldOpenAfterFailureRateThresholdExceeded, …SlowCallRate…"""
    circuit = Circuit()
    circuit.answer(calls)
    assert circuit.state is state


def test_the_counts_of_a_circuit_that_opens_can_be_followed_call_by_call_and_stay_readable() -> None:
    """CircuitBreakerStateMachineTest.shouldOpenAfterFailureRateThresholdExceeded"""
    circuit = Circuit()
    expected = [
        (None, 0, 1, 1, 0),
        (None, 0, 2, 2, 0),
        (None, 0, 3, 3, 0),
        (None, 1, 4, 3, 0),
        (60.0, 2, 5, 3, 0),
    ]
    for letter, counts in zip("fffss", expected, strict=True):
        circuit.call(letter)
        assert circuit.counts == counts
    assert circuit.state is OPEN
    assert circuit.kinds().count(EventKind.FAILURE_RATE) == 1
    assert not circuit.acquire()
    assert circuit.counts == (60.0, 2, 5, 3, 1)


def test_failures_that_leave_the_time_window_no_longer_count() -> None:
    """SlidingTimeWindowMetricsTest.shouldClearSlidingTimeWindowMetrics"""
    circuit = Circuit()
    circuit.answer("ffff")
    circuit.now += 19.0
    assert circuit.counts == (None, 0, 4, 4, 0)
    circuit.now += 1.0
    assert circuit.counts == NOTHING_COUNTED
    circuit.answer("fssss")
    assert circuit.state is CLOSED


def test_a_minimum_above_a_count_window_is_met_when_the_window_is_full() -> None:
    """CircuitBreakerMetricsTest: the minimum is never larger than a count-based window"""
    circuit = Circuit(BreakerConfig(window_calls=5, calls_min=100))
    circuit.answer("ffff")
    assert circuit.state is CLOSED
    circuit.answer("f")
    assert circuit.state is OPEN


def test_only_the_last_calls_count_in_a_count_window() -> None:
    """CircuitBreakerMetricsTest, FixedSizeSlidingWindowMetricsTest"""
    circuit = Circuit(BreakerConfig(window_calls=5, calls_min=5, failure_percent=60))
    circuit.answer("ff" + "sssss" + "ff")
    assert circuit.state is CLOSED
    circuit.answer("f")
    assert circuit.state is OPEN


# Open, and half open


def test_an_open_circuit_refuses_until_its_time_is_up_and_then_half_opens_with_the_next_call() -> None:
    """CircuitBreakerStateMachineTest.shouldTransitionToHalfOpenAfterWaitDuration"""
    circuit = Circuit().to(OPEN)
    assert not circuit.acquire()
    circuit.now += 3
    assert not circuit.acquire()
    assert circuit.state is OPEN
    assert circuit.counts == (None, 0, 0, 0, 2)
    circuit.now += 3
    assert circuit.acquire()
    assert circuit.state is HALF_OPEN
    assert circuit.counts == NOTHING_COUNTED


def test_a_circuit_can_be_opened_for_a_given_time() -> None:
    """CircuitBreakerStateMachineTest.shouldTransitionToHalfOpenAfterPassedWaitDuration"""
    circuit = Circuit()
    circuit.breaker.to(OPEN, circuit.now, open_s=7200.0)
    circuit.now += 3600
    assert not circuit.acquire()
    circuit.now += 3601
    assert circuit.acquire()
    assert circuit.state is HALF_OPEN
    assert circuit.breaker.attempts == 0  # A time given from outside is no failed attempt of ours.


def test_the_open_time_grows_with_every_failed_attempt_and_starts_anew_after_closing() -> None:
    """CircuitBreakerStateMachineTest.shouldTransitionToHalfOpenAfterWaitInterval"""
    circuit = Circuit(
        BreakerConfig(open_s=5.0, open_growth=1.5, open_max_s=10.0, open_jitter=0.0, half_open_calls=1)
    )
    waits = []
    for _ in range(4):
        circuit.to(OPEN)
        assert circuit.breaker.due_at is not None
        waits.append(circuit.breaker.due_at - circuit.now)
        circuit.now = circuit.breaker.due_at
        assert circuit.acquire()
    assert waits == [5.0, 7.5, 10.0, 10.0]
    circuit.now += FAST_S
    circuit.answer("s")
    assert circuit.state is CLOSED
    circuit.to(OPEN)
    assert circuit.breaker.due_at == circuit.now + 5.0


@given(seed=st.integers(0, 2**32), attempt=st.integers(1, 10**9), jitter=st.floats(0.0, 1.0))
def test_the_open_time_is_drawn_from_around_its_growing_mean_and_stays_finite(
    seed: int, attempt: int, jitter: float
) -> None:
    config = BreakerConfig(open_s=1.0, open_growth=10.0, open_max_s=300.0, open_jitter=jitter)
    mean_s = min(10.0 ** min(attempt - 1, 10), 300.0)
    drawn_s = config.open_time_s(attempt, random.Random(seed))
    assert mean_s * (1 - jitter) * (1 - 1e-9) <= drawn_s <= mean_s * (1 + jitter) * (1 + 1e-9)


def test_two_cells_do_not_probe_in_step() -> None:
    config = BreakerConfig(open_jitter=0.2)
    times_s = {round(config.open_time_s(1, random.Random(seed)), 9) for seed in range(20)}
    assert len(times_s) == 20


def test_an_automatic_circuit_half_opens_when_its_time_is_up_without_any_call() -> None:
    """CircuitBreakerAutoTransitionStateMachineTest.testAutoTransition"""
    circuit = Circuit(BreakerConfig(open_s=2.0, open_jitter=0.0, automatic_half_open=True)).to(OPEN)
    due_at = circuit.breaker.due_at
    assert due_at == circuit.now + 2.0
    assert circuit.breaker.advance(due_at - 0.001) is OPEN
    assert circuit.breaker.advance(due_at) is HALF_OPEN
    by_hand = Circuit(BreakerConfig(open_s=2.0, open_jitter=0.0)).to(OPEN)
    assert by_hand.breaker.advance(due_at + 100.0) is OPEN


def test_a_half_open_circuit_hands_out_so_many_probes_and_no_more() -> None:
    """CircuitBreakerStateMachineTest.shouldOnlyPermitFourCallsInHalfOpenState"""
    circuit = Circuit().to(OPEN, HALF_OPEN)
    assert [circuit.acquire() for _ in range(6)] == [True] * 4 + [False] * 2
    assert circuit.counts == (None, 0, 0, 0, 2)
    circuit.to(OPEN, HALF_OPEN)
    assert [circuit.acquire() for _ in range(6)] == [True] * 4 + [False] * 2


def test_a_probe_that_is_not_made_gives_its_permit_back_and_only_once() -> None:
    """CircuitBreakerStateMachineTest.shouldIncreaseCounterOnReleasePermission"""
    circuit = Circuit().to(OPEN, HALF_OPEN)
    assert [circuit.acquire() for _ in range(5)] == [True] * 4 + [False]
    circuit.breaker.give_back()
    assert [circuit.acquire() for _ in range(2)] == [True, False]
    for _ in range(9):  # resilience4j would hand out nine; no more than four can be out.
        circuit.breaker.give_back()
    assert [circuit.acquire() for _ in range(6)] == [True] * 4 + [False] * 2


@pytest.mark.parametrize(
    ("probes", "state", "counts"),
    [
        ("ffsf", OPEN, (75.0, 1, 4, 3, 0)),
        ("SSSs", OPEN, (0.0, 4, 4, 0, 0)),
        ("fsss", CLOSED, NOTHING_COUNTED),
        ("ffss", OPEN, (50.0, 2, 4, 2, 0)),
        ("fff", HALF_OPEN, (None, 0, 3, 3, 0)),  # The verdict waits for all probes.
    ],
)
def test_the_probes_decide_whether_a_half_open_circuit_closes(
    probes: str, state: BreakerState, counts: tuple[float | None, int, int, int, int]
) -> None:
    """CircuitBreakerStateMachineTest.shouldTransitionBackTo{Open,Closed}StateWhen…"""
    circuit = Circuit().to(OPEN, HALF_OPEN)
    circuit.call(probes)
    assert circuit.state is state
    assert circuit.counts == counts


@pytest.mark.parametrize("then", [OPEN, CLOSED])
def test_a_half_open_circuit_whose_probes_never_answer_moves_on(then: BreakerState) -> None:
    """CircuitBreakerStateMachineTest.circuitBreakerTransitionsTo{Open,Closed}AfterWaitDurationInHalfOpenState"""
    config = BreakerConfig(half_open_calls=1, half_open_max_s=1.0, half_open_then=then, open_jitter=0.0)
    circuit = Circuit(config).to(OPEN, HALF_OPEN)
    assert circuit.acquire()
    circuit.now += 0.999
    assert not circuit.acquire()
    circuit.now += 0.001
    assert circuit.breaker.would_permit(circuit.now) is (then is CLOSED)
    assert circuit.acquire() is (then is CLOSED)
    assert circuit.state is then


def test_without_a_maximum_a_half_open_circuit_waits_for_its_probes_for_ever() -> None:
    """CircuitBreakerConfig: a maxWaitDurationInHalfOpenState of 0 means no end"""
    circuit = Circuit(BreakerConfig(half_open_max_s=0.0)).to(OPEN, HALF_OPEN)
    assert circuit.breaker.advance(circuit.now + 1e9) is HALF_OPEN


# Answers that come late


def test_an_answer_from_before_the_opening_is_counted_but_changes_nothing() -> None:
    """CircuitBreakerStateMachine.OpenState.onError, onSuccess"""
    circuit = Circuit()
    circuit.answer("fffss")
    due_at = circuit.breaker.due_at
    circuit.now += 1.0
    circuit.answer("fs")
    assert circuit.state is OPEN
    assert (circuit.breaker.due_at, circuit.breaker.attempts) == (due_at, 1)
    assert circuit.counts == (100 * 4 / 7, 3, 7, 4, 0)


def test_a_straggler_is_no_evidence_of_recovery_nor_against_it() -> None:
    """Ours: resilience4j counts every answer that arrives while half open as a probe's."""
    circuit = Circuit().to(OPEN)
    circuit.now += 5.0
    assert circuit.acquire()
    assert circuit.state is HALF_OPEN
    for _ in range(4):
        circuit.breaker.record(circuit.now + 0.5, 30.0, False)
    assert circuit.state is HALF_OPEN
    assert circuit.counts == NOTHING_COUNTED
    circuit.breaker.ignore(circuit.now + 0.5, 30.0)
    assert [circuit.acquire() for _ in range(4)] == [True, True, True, False]


def test_an_answer_nobody_was_permitted_to_ask_for_is_no_probe() -> None:
    circuit = Circuit().to(OPEN, HALF_OPEN)
    circuit.now += 1.0
    circuit.answer("ffffffff")
    assert circuit.state is HALF_OPEN
    assert circuit.counts == NOTHING_COUNTED


# Errors that say nothing


def test_an_ignored_error_frees_the_probes_permit_and_counts_nothing() -> None:
    """CircuitBreakerStateMachineTest.shouldReleasePermissionWhenExceptionIgnored"""
    circuit = Circuit().to(OPEN, HALF_OPEN)
    circuit.call("sss")
    assert circuit.counts == (None, 3, 3, 0, 0)
    assert circuit.acquire()
    circuit.breaker.ignore(circuit.now, 0.0)
    assert circuit.state is HALF_OPEN
    assert circuit.counts == (None, 3, 3, 0, 0)
    circuit.call("f")
    assert circuit.state is CLOSED
    assert circuit.counts == NOTHING_COUNTED


def test_probes_that_were_all_ignored_leave_the_verdict_to_the_next_ones() -> None:
    """CircuitBreakerStateMachineTest.shouldIgnoreExceptionsAndThenTransitionToClosed"""
    circuit = Circuit().to(OPEN, HALF_OPEN)
    for _ in range(4):
        assert circuit.acquire()
        circuit.breaker.ignore(circuit.now, 0.0)
        assert circuit.state is HALF_OPEN
    assert circuit.counts == NOTHING_COUNTED
    circuit.call("ssss")
    assert circuit.state is CLOSED


# Orders


def test_a_disabled_circuit_lets_everything_through_and_counts_nothing() -> None:
    """CircuitBreakerStateMachineTest.shouldDisableCircuitBreaker"""
    circuit = Circuit().to(DISABLED)
    circuit.call("sffff")
    assert circuit.state is DISABLED
    assert circuit.counts == NOTHING_COUNTED
    assert circuit.kinds() == [EventKind.STATE]


def test_a_circuit_forced_open_stays_open_however_long() -> None:
    """CircuitBreakerStateMachineTest.shouldForceOpenCircuitBreaker"""
    circuit = Circuit().to(FORCED_OPEN)
    assert not circuit.acquire()
    circuit.now += 1e6
    assert not circuit.acquire()
    circuit.answer("ssss")
    assert circuit.state is FORCED_OPEN
    assert circuit.counts == (None, 0, 0, 0, 2)
    assert circuit.kinds() == [EventKind.STATE]


def test_a_circuit_for_metrics_only_counts_and_reports_once_but_never_opens() -> None:
    """CircuitBreakerStateMachineTest: shouldRecordMetricsInMetricsOnlyState, shouldPublishEachEventOnce…"""
    circuit = Circuit()
    circuit.answer("ss")
    circuit.to(METRICS_ONLY)
    assert circuit.counts == NOTHING_COUNTED
    circuit.call("fffss")
    assert circuit.counts == (60.0, 2, 5, 3, 0)
    circuit.answer("FFFFF")
    assert circuit.state is METRICS_ONLY
    kinds = circuit.kinds()
    assert kinds.count(EventKind.FAILURE_RATE) == kinds.count(EventKind.SLOW_RATE) == 1
    assert (kinds.count(EventKind.ERROR), kinds.count(EventKind.SLOW)) == (8, 5)


def test_reset_closes_a_circuit_and_forgets_what_it_counted() -> None:
    """CircuitBreakerStateMachineTest: shouldResetToClosedState, shouldResetClosedState"""
    circuit = Circuit()
    circuit.answer("sf")
    circuit.breaker.reset(circuit.now)
    assert circuit.counts == NOTHING_COUNTED
    circuit.to(METRICS_ONLY)
    circuit.breaker.reset(circuit.now)
    assert circuit.state is CLOSED
    assert circuit.kinds()[-2:] == [EventKind.STATE, EventKind.RESET]


FORBIDDEN = {(CLOSED, HALF_OPEN), (METRICS_ONLY, OPEN), (METRICS_ONLY, HALF_OPEN)}


@pytest.mark.parametrize("old", BreakerState)
@pytest.mark.parametrize("new", BreakerState)
def test_the_transition_table_is_resilience4js(old: BreakerState, new: BreakerState) -> None:
    """CircuitBreaker.StateTransition; CircuitBreakerStateMachineTest.allCircuitBreakerStatesAllow…"""
    circuit = Circuit()
    if old is not CLOSED:
        circuit.to(*((OPEN, HALF_OPEN) if old is HALF_OPEN else (old,)))
    reported = len(circuit.events)
    assert (new in TRANSITIONS[old]) is ((old, new) not in FORBIDDEN)
    if new in TRANSITIONS[old]:
        circuit.to(new)
        assert circuit.state is new
        assert len(circuit.events) - reported == (old is not new)  # A state that stays is no event.
    else:
        with pytest.raises(UsageError, match=f"cannot go from {old} to {new}"):
            circuit.to(new)
        assert circuit.state is old


# Events


def test_everything_that_happens_to_a_circuit_is_reported_in_order() -> None:
    """CircuitBreakerEventPublisherTest"""
    circuit = Circuit(BreakerConfig(window_calls=2, open_s=1.0, open_jitter=0.0, half_open_calls=1))
    circuit.call("sF")
    circuit.acquire()
    circuit.now += 1.0
    circuit.acquire()
    circuit.breaker.ignore(circuit.now, 0.0)
    circuit.call("s")
    reported = [(event.kind, event.old, event.new) for event in circuit.events]
    assert reported == [
        (EventKind.ERROR, CLOSED, CLOSED),
        (EventKind.FAILURE_RATE, CLOSED, CLOSED),
        (EventKind.STATE, CLOSED, OPEN),
        (EventKind.NOT_PERMITTED, OPEN, OPEN),
        (EventKind.STATE, OPEN, HALF_OPEN),
        (EventKind.IGNORED, HALF_OPEN, HALF_OPEN),
        (EventKind.STATE, HALF_OPEN, CLOSED),
    ]


def test_a_circuit_remembers_its_last_changes_and_no_more() -> None:
    circuit = Circuit()
    for _ in range(HISTORY_MAX):
        circuit.to(DISABLED, CLOSED)
    assert len(circuit.breaker.history) == HISTORY_MAX
    assert [event.new for event in circuit.breaker.history][-2:] == [DISABLED, CLOSED]


def test_a_listener_that_raises_leaves_the_circuit_as_it_should_be() -> None:
    def broken(event: BreakerEvent) -> None:
        raise RuntimeError("no disk")

    breaker = CircuitBreaker("worker/run", BreakerConfig(), random.Random(1), broken)
    with pytest.raises(RuntimeError, match="no disk"):
        breaker.to(OPEN, 1.0)
    assert breaker.state is OPEN
    with pytest.raises(RuntimeError, match="no disk"):
        breaker.try_acquire(1.5)
    assert breaker.refused == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"failure_percent": 0},
        {"failure_percent": 101},
        {"slow_percent": 0},
        {"slow_s": 0.0},
        {"window_calls": 0},
        {"window_s": -1},
        {"calls_min": 0},
        {"half_open_calls": 0},
        {"half_open_max_s": -1.0},
        {"half_open_then": HALF_OPEN},
        {"open_s": 0.0},
        {"open_s": 10.0, "open_max_s": 5.0},
        {"open_growth": 0.5},
        {"open_jitter": 1.5},
        {"open_s": math.nan},
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    """CircuitBreakerConfigTest"""
    with pytest.raises(UsageError):
        BreakerConfig(**wrong)  # type: ignore[arg-type]


# Windows, against the plain definition of what lies in them

OUTCOMES = st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(0, 3)), max_size=80)


def sums(outcomes: list[int]) -> tuple[int, int, int, int]:
    return (
        len(outcomes),
        sum(outcome & 1 for outcome in outcomes),
        sum(outcome >> 1 for outcome in outcomes),
        sum(outcome == 3 for outcome in outcomes),
    )


@given(calls=OUTCOMES, size=st.integers(1, 9))
def test_a_count_window_holds_the_last_calls(calls: list[tuple[float, int]], size: int) -> None:
    """FixedSizeSlidingWindowMetricsTest"""
    window = CountWindow(size)
    seen: list[int] = []
    for _, outcome in calls:
        window.record(0.0, outcome)
        seen.append(outcome)
        assert (window.calls, window.failures, window.slow, window.slow_failures) == sums(seen[-size:])


@given(calls=OUTCOMES, size_s=st.integers(1, 9), start=st.floats(0.0, 2e9))
def test_a_time_window_holds_the_calls_of_its_last_seconds(
    calls: list[tuple[float, int]], size_s: int, start: float
) -> None:
    """SlidingTimeWindowMetricsTest"""
    window = TimeWindow(size_s)
    seen: list[tuple[int, int]] = []
    now = start
    for step_s, outcome in calls:
        now += step_s
        window.record(now, outcome)
        seen.append((int(now), outcome))
        inside = [kept for second, kept in seen if second > int(now) - size_s]
        assert (window.calls, window.failures, window.slow, window.slow_failures) == sums(inside)


# Any history

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.floats(0.0, 12.0)),
        st.tuples(st.just("call"), st.sampled_from("sfSF")),
        st.tuples(st.just("acquire"), st.none()),
        st.tuples(st.just("answer"), st.sampled_from("sfSF")),
        st.tuples(st.just("ignore"), st.none()),
        st.tuples(st.just("give_back"), st.none()),
    ),
    max_size=120,
)


@given(steps=STEPS, growth=st.sampled_from([1.0, 2.0]), window_s=st.sampled_from([0, 3]))
def test_no_history_hands_out_too_many_probes_or_makes_a_forbidden_change(
    steps: list[tuple[str, object]], growth: float, window_s: int
) -> None:
    config = BreakerConfig(
        window_calls=4,
        window_s=window_s,
        calls_min=2,
        open_s=5.0,
        open_growth=growth,
        half_open_calls=2,
        slow_s=4.0,
    )
    circuit = Circuit(config)
    out = 0
    for action, detail in steps:
        before = circuit.state
        permitted = circuit.breaker.would_permit(circuit.now)
        if action == "wait":
            circuit.now += detail  # type: ignore[operator]
        elif action in ("acquire", "call"):
            assert circuit.acquire() is permitted
            if circuit.state is HALF_OPEN and permitted:
                out = 1 if before is not HALF_OPEN else out + 1
                assert out <= config.half_open_calls
                if action == "call":
                    circuit.answer(str(detail).lower())
                    out -= 1
            elif permitted and action == "call":
                circuit.answer(str(detail))
        elif action == "answer":
            circuit.answer(str(detail))
            out -= circuit.state is HALF_OPEN and str(detail).islower() and out > 0
        elif action == "ignore":
            circuit.breaker.ignore(circuit.now, 0.0)
            out -= circuit.state is HALF_OPEN and out > 0
        else:
            circuit.breaker.give_back()
            out -= circuit.state is HALF_OPEN and out > 0
        if circuit.state is not HALF_OPEN:
            out = 0
        seen = circuit.breaker.snapshot(circuit.now)
        assert (
            0
            <= seen.slow_failures
            <= min(seen.failures, seen.slow)
            <= max(seen.failures, seen.slow)
            <= seen.calls
        )
        assert (seen.state is OPEN or seen.state is HALF_OPEN) is (seen.due_at is not None)
    states = [event for event in circuit.events if event.kind is EventKind.STATE]
    assert all(event.new in TRANSITIONS[event.old] for event in states)
    assert all(earlier.new is later.old for earlier, later in pairwise(states))
