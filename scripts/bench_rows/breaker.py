"""What a message pays for its breaker, its bulkhead and its budget: medians of repeated loops, in nanoseconds.

The floor of each row is the same number of empty method calls on a slotted object: what Python asks for the
call alone. The goal of the circuits is the product's: asking and recording together take 1 µs at most.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from statistics import median
from timeit import Timer
from typing import Any

from aip.errors import BudgetExceeded
from aip.orchestration.breaker import BreakerConfig, CircuitBreaker
from aip.orchestration.breaker_check import BreakerCheck, Breakers
from aip.orchestration.budget import Ledger
from aip.orchestration.bulkhead import BulkheadCheck
from aip.orchestration.purse import Purse
from aip.runtime.envelope import Envelope, Kind

REPEATS = 15
LOOPS = 20_000
ENVELOPE = Envelope("m-1", Kind.CALL, "client/me", "greeter/ada", "greet", b"", budget="plan/task/agent")
ONE = {"messages": 1}


class Nothing:
    """The floor: methods that do nothing."""

    __slots__ = ()

    def ask(self, now: float) -> bool:
        return True

    def tell(self, now: float, duration_s: float, ok: bool) -> None:
        return None


def rows() -> list[dict[str, Any]]:
    floor = Nothing()

    def nothing() -> None:
        floor.ask(5.0)
        floor.tell(5.0, 0.01, True)

    floor_ns = _ns(nothing)
    by_count = BreakerConfig()
    by_time = BreakerConfig(window_s=60)
    return [
        _row("closed circuit, count window: ask and record", _closed_circuit(by_count), floor_ns, 1_000),
        _row("closed circuit, time window: ask and record", _closed_circuit(by_time), floor_ns, 1_000),
        _row(
            "closed circuit with failures in its window: ask and record", _failing_circuit(), floor_ns, 1_000
        ),
        _row("breaker as the guard meets it: peek, take, settle", _breaker_check(), floor_ns, None),
        _row("bulkhead as the guard meets it: peek, take, settle", _bulkhead_check(), floor_ns, None),
        _row("purse: spend", _purse(), floor_ns, None),
        _row("ledger, three accounts deep, 200 agents: reserve and settle", _ledger(), floor_ns, None),
    ]


def _closed_circuit(config: BreakerConfig) -> Callable[[], object]:
    breaker = CircuitBreaker("greeter/greet", config, random.Random(1))

    def call() -> None:
        breaker.try_acquire(5.0)
        breaker.record(5.0, 0.01, True)

    return call


def _failing_circuit() -> Callable[[], object]:
    """The dearer path: with failures about, every record weighs the rates."""
    breaker = CircuitBreaker("greeter/greet", BreakerConfig(window_calls=100), random.Random(1))
    oks = [True] * 9 + [False]
    turn = iter(range(10**12)).__next__

    def call() -> None:
        breaker.try_acquire(5.0)
        breaker.record(5.0, 0.01, oks[turn() % 10])

    return call


def _breaker_check() -> Callable[[], object]:
    check = BreakerCheck(Breakers(BreakerConfig(), random.Random(1)))

    def call() -> None:
        check.peek(ENVELOPE, 5.0)
        check.take(ENVELOPE, 5.0)
        check.settle(ENVELOPE, 5.0, 0.01, None)

    return call


def _bulkhead_check() -> Callable[[], object]:
    check = BulkheadCheck()
    check.take(
        ENVELOPE, 5.0
    )  # One call stays in flight, as under load: the bulkhead is not made anew each time.

    def call() -> None:
        check.peek(ENVELOPE, 5.0)
        check.take(ENVELOPE, 5.0)
        check.settle(ENVELOPE, 5.0, 0.01, None)

    return call


def _purse() -> Callable[[], object]:
    ledger = Ledger()
    ledger.open("plan")
    purse = Purse("plan", "cell/1", {"messages": 10**12})
    draw = purse.want(ONE)
    if draw is not None:
        purse.served(ledger.serve(draw))
    return lambda: purse.spend(ONE)


def _ledger() -> Callable[[], object]:
    ledger = Ledger()
    ledger.open("plan", {"usd_micro": 10**15})
    ledger.open("plan/task")
    agents = [f"plan/task/a{number}" for number in range(200)]
    for agent in agents:
        ledger.open(agent, {"usd_micro": 10**12})
    turn = iter(range(10**12)).__next__

    def call() -> None:
        reserved = ledger.reserve(agents[turn() % 200], {"usd_micro": 100})
        if isinstance(reserved, BudgetExceeded):
            raise reserved
        ledger.settle(reserved, {"usd_micro": 60})

    return call


def _ns(call: Callable[[], object]) -> float:
    timer = Timer(call)
    timer.timeit(LOOPS // 10)
    return median(timer.timeit(LOOPS) / LOOPS * 1e9 for _ in range(REPEATS))


def _row(name: str, call: Callable[[], object], floor_ns: float, goal_ns: int | None) -> dict[str, Any]:
    value_ns = _ns(call)
    return {
        "bench": "breaker",
        "row": name,
        "value": round(value_ns, 1),
        "unit": "ns",
        "reference": "two empty method calls",
        "reference_value": round(floor_ns, 1),
        "ratio": round(value_ns / floor_ns, 2),
        "goal": goal_ns,
        "met": None if goal_ns is None else value_ns <= goal_ns,
    }
