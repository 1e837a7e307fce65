"""The breakers and bulkheads of a cell, as the guard meets them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.errors import (
    AgentFailed,
    AgentLost,
    AIPError,
    BulkheadFull,
    Cancelled,
    CircuitOpen,
    Corrupt,
    DeadlineExceeded,
    Denied,
    EffectInDoubt,
    InvalidPayload,
    Killed,
    MailboxFull,
    PlanInvalid,
    PlatformUnavailable,
    UnknownCapability,
    UsageError,
)
from aip.orchestration.breaker import BreakerConfig, BreakerState, Judgement
from aip.orchestration.breaker_check import BreakerCheck, Breakers
from aip.orchestration.bulkhead import Bulkhead, BulkheadCheck, Entry
from aip.runtime.envelope import Envelope, Kind
from aip.runtime.guard import Guard, OpenFence

CONFIG = BreakerConfig(window_calls=2, open_s=5.0, open_jitter=0.0, half_open_calls=1)


class SoldOut(AgentFailed):
    code = "shop.sold_out"


def envelope(kind: Kind = Kind.CALL, recipient: str = "shop/one", capability: str = "buy") -> Envelope:
    return Envelope("m-1", kind, "client/me", recipient, capability, b"")


def breakers(config: BreakerConfig = CONFIG, limit: int = 100) -> Breakers:
    return Breakers(config, random.Random(1), limit=limit)


def elsewhere(error: AIPError) -> AgentFailed:
    """An author's error as it arrives where its class is not imported."""
    return AgentFailed(error.message, code=error.code)


@pytest.mark.parametrize(
    ("error", "judgement"),
    [
        (AgentFailed("raised"), Judgement.FAILURE),
        (SoldOut("the author's own"), Judgement.FAILURE),
        (elsewhere(SoldOut("the author's own")), Judgement.FAILURE),
        (AgentLost("gone"), Judgement.FAILURE),
        (DeadlineExceeded("late"), Judgement.FAILURE),
        (MailboxFull("full"), Judgement.FAILURE),
        (PlatformUnavailable("no platform"), Judgement.FAILURE),
        (Cancelled("the caller left"), Judgement.IGNORED),
        (Denied("policy"), Judgement.IGNORED),
        (Killed("fence"), Judgement.IGNORED),
        (CircuitOpen("further down"), Judgement.IGNORED),
        (InvalidPayload("the caller's fault"), Judgement.IGNORED),
        (UnknownCapability("the caller's fault"), Judgement.IGNORED),
        (PlanInvalid("the caller's fault"), Judgement.IGNORED),
        (EffectInDoubt("who knows"), Judgement.IGNORED),
        (Corrupt("stored state"), Judgement.IGNORED),
    ],
)
def test_only_what_speaks_of_the_recipient_is_held_against_it(error: AIPError, judgement: Judgement) -> None:
    assert CONFIG.judge(error) is judgement


def test_an_author_can_have_an_error_ignored_or_counted_as_an_answer() -> None:
    """CircuitBreakerExceptionHandlingTest: shouldIgnoreNumberFormatException, shouldRecordIOException…"""
    ignoring = BreakerConfig(ignore=("shop",))
    answering = BreakerConfig(record=("undelivered",), ignore=())
    for error in (SoldOut("none left"), elsewhere(SoldOut("none left"))):
        assert ignoring.judge(error) is Judgement.IGNORED
        assert answering.judge(error) is Judgement.SUCCESS
    assert ignoring.judge(AgentFailed("shopping")) is Judgement.FAILURE


def test_a_failing_capability_is_refused_and_its_neighbours_are_not() -> None:
    check = BreakerCheck(breakers())
    guard = Guard(OpenFence(), [check])
    call = envelope()
    for now in (1.0, 2.0):
        assert guard.admit(call, now) is None
        guard.settle(call, now, 0.1, AgentFailed("no stock"))
    refused = guard.admit(call, 3.0)
    assert isinstance(refused, CircuitOpen)
    assert refused.retryable
    assert refused.details == {"circuit": "shop/buy", "state": "open", "retry_after_s": 4.0}
    assert (
        guard.admit(envelope(recipient="shop/two"), 3.0) is not None
    )  # Another agent of the same type and code.
    assert guard.admit(envelope(capability="browse"), 3.0) is None
    assert guard.admit(envelope(recipient="bank/one"), 3.0) is None
    assert (
        guard.admit(envelope(recipient="shop@3f2a9c01d2e4/one"), 3.0) is None
    )  # Other code starts with trust.


def test_a_refusal_by_a_later_check_leaves_the_probe_to_the_next_caller() -> None:
    class Full:
        name = "full"

        def peek(self, envelope: Envelope, now: float) -> AIPError | None:
            return None

        def take(self, envelope: Envelope, now: float) -> AIPError | None:
            return BulkheadFull("no room")

        def give_back(self, envelope: Envelope, now: float) -> None: ...

        def settle(
            self, envelope: Envelope, now: float, duration_s: float, error: AIPError | None
        ) -> None: ...

    check = BreakerCheck(breakers())
    call = envelope()
    check.breakers.of(("shop", "buy"), 1.0).to(BreakerState.OPEN, 1.0)
    assert isinstance(Guard(OpenFence(), [check, Full()]).admit(call, 6.0), BulkheadFull)
    guard = Guard(OpenFence(), [check])
    assert guard.admit(call, 6.1) is None
    assert isinstance(guard.admit(call, 6.2), CircuitOpen)
    guard.settle(call, 6.5, 0.4, None)
    assert guard.admit(call, 6.6) is None
    assert guard.admit(call, 6.6) is None


@pytest.mark.parametrize("kind", [Kind.TELL, Kind.STREAM])
def test_only_calls_pass_through_a_breaker(kind: Kind) -> None:
    check = BreakerCheck(breakers())
    guard = Guard(OpenFence(), [check])
    for now in range(5):
        assert guard.admit(envelope(kind), now) is None
        guard.settle(envelope(kind), now, 0.1, AgentFailed("no stock"))
    assert len(check.breakers) == 0
    check.breakers.order(("shop", "buy"), BreakerState.FORCED_OPEN, 6.0)
    assert guard.admit(envelope(kind), 7.0) is None
    assert guard.admit(envelope(), 7.0) is not None


# The registry


def test_a_cell_watches_a_bounded_number_of_circuits_and_forgets_the_least_used() -> None:
    """InMemoryCircuitBreakerRegistryTest, and the bound that is ours"""
    circuits = breakers(limit=3)
    for name in "abcad":
        circuits.of((name, "run"), 1.0)
    assert [circuit.name for circuit in circuits] == ["c/run", "a/run", "d/run"]


def test_an_open_circuit_outlives_closed_ones_that_were_used_later() -> None:
    circuits = breakers(limit=3)
    circuits.of(("ill", "run"), 1.0).to(BreakerState.OPEN, 1.0)
    for name in "abcdef":
        circuits.of((name, "run"), 1.0)
    ill = circuits.find(("ill", "run"))
    assert ill is not None
    assert ill.state is BreakerState.OPEN


def test_the_bound_holds_even_if_every_circuit_is_open() -> None:
    circuits = breakers(limit=20)
    for number in range(100):
        circuits.of((f"t{number}", "run"), 1.0).to(BreakerState.OPEN, 1.0)
    assert len(circuits) == 20


def test_an_operators_order_survives_eviction_until_it_is_lifted() -> None:
    circuits = breakers(limit=2)
    key = ("ill", "run")
    circuits.order(key, BreakerState.FORCED_OPEN, 1.0)
    for name in "abcd":
        circuits.of((name, "run"), 1.0)
    assert circuits.find(key) is None
    assert not circuits.of(key, 2.0).try_acquire(2.0)
    assert circuits.order(key, None, 3.0).try_acquire(3.0)
    for name in "abcd":
        circuits.of((name, "run"), 4.0)
    assert circuits.of(key, 5.0).state is BreakerState.CLOSED


def test_nobody_can_order_a_circuit_half_open() -> None:
    with pytest.raises(UsageError, match="half_open"):
        breakers().order(("a", "run"), BreakerState.HALF_OPEN, 1.0)


# Bulkheads


def test_a_bulkhead_permits_then_queues_then_refuses() -> None:
    """SemaphoreBulkheadTest: shouldHandleBasicBulkheadOperations…, testZeroMaxConcurrentCalls"""
    bulkhead = Bulkhead(2, waiting_max=1)
    assert [bulkhead.ask() for _ in range(4)] == [Entry.PERMIT, Entry.PERMIT, Entry.WAIT, Entry.REFUSE]
    assert bulkhead.leave()  # The waiter has it now;
    assert bulkhead.ask() is Entry.WAIT  # so who asks later still has to wait.
    bulkhead.abandon()
    assert [bulkhead.leave(), bulkhead.leave()] == [False, False]
    assert bulkhead.idle
    assert Bulkhead(0).ask() is Entry.REFUSE


def test_a_permit_cannot_be_given_back_twice() -> None:
    bulkhead = Bulkhead(1)
    bulkhead.ask()
    bulkhead.leave()
    with pytest.raises(UsageError, match="nobody held"):
        bulkhead.leave()
    with pytest.raises(UsageError, match="not waiting"):
        bulkhead.abandon()


def test_a_bulkhead_can_be_widened_and_narrowed_while_in_use() -> None:
    """SemaphoreBulkheadTest.changePermissionsCountWhileOneThreadIsRunningWithThisPermission"""
    bulkhead = Bulkhead(1, waiting_max=5)
    assert [bulkhead.ask() for _ in range(3)] == [Entry.PERMIT, Entry.WAIT, Entry.WAIT]
    assert bulkhead.resize(2) == 1
    assert bulkhead.free == 0
    assert bulkhead.resize(1) == 0
    assert not bulkhead.leave()  # Two hold it, one too many: this permit is not handed on.
    assert bulkhead.leave()
    assert not bulkhead.leave()
    assert bulkhead.free == 1


@given(
    steps=st.lists(st.sampled_from(["ask", "leave", "abandon", "wider", "narrower"]), max_size=80),
    concurrent_max=st.integers(0, 4),
    waiting_max=st.integers(0, 3),
)
def test_no_history_overfills_a_bulkhead_or_keeps_someone_waiting_before_a_free_permit(
    steps: list[str], concurrent_max: int, waiting_max: int
) -> None:
    bulkhead = Bulkhead(concurrent_max, waiting_max)
    holding = waiting = 0
    for step in steps:
        if step == "ask":
            entry = bulkhead.ask()
            holding += entry is Entry.PERMIT
            waiting += entry is Entry.WAIT
            assert holding <= bulkhead.concurrent_max or entry is not Entry.PERMIT
        elif step == "leave" and holding:
            if bulkhead.leave():
                waiting -= 1
            else:
                holding -= 1
        elif step == "abandon" and waiting:
            bulkhead.abandon()
            waiting -= 1
        elif step in ("wider", "narrower"):
            woken = bulkhead.resize(max(0, bulkhead.concurrent_max + (1 if step == "wider" else -1)))
            holding += woken
            waiting -= woken
        assert (bulkhead.in_use, bulkhead.waiting) == (holding, waiting)
        assert not (bulkhead.free and waiting)
        assert 0 <= waiting <= waiting_max


def test_a_full_bulkhead_refuses_calls_to_its_capability_until_one_ends() -> None:
    check = BulkheadCheck(concurrent_max=2)
    guard = Guard(OpenFence(), [check])
    call = envelope()
    assert guard.admit(call, 1.0) is None
    assert guard.admit(call, 1.0) is None
    refused = guard.admit(call, 1.0)
    assert isinstance(refused, BulkheadFull)
    assert refused.retryable
    assert guard.admit(envelope(capability="browse"), 1.0) is None
    guard.settle(call, 2.0, 1.0, AgentFailed("no stock"))
    assert guard.admit(call, 2.0) is None
    assert guard.admit(envelope(Kind.TELL), 2.0) is None
    for ended in (call, call, envelope(capability="browse"), envelope(Kind.TELL)):
        guard.settle(ended, 3.0, 1.0, None)
    assert len(check) == 0
