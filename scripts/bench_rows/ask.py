"""Asking another agent: in the same cell beside a bare asyncio queue, between two cells beside a bare Ray call.

The agents that ask are tasks of a plan on a real platform and take the time themselves. The same plan runs with a budget and
without one: an envelope that names an account pays from it, so only the former has every check of the guard at work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from . import bare_ray
from .row import Row, measured, spread
from .stage import RunFailed, Stage

BENCH = "runtime"
ROUNDS = 5
COUNT = 2_000
RAY_ROUNDS = 3
RAY_COUNT = 1_000
TARGETS = [f"echo/target-{number}" for number in range(12)]
TWO_CELLS_WITHIN_S = 20.0  # A pool is sized once a second, a cell starts in one.
RUN_TIMEOUT_S = 90.0
P50_GOAL_US = 40.0
P99_GOAL_US = 200.0
CROSS_GOAL = 2.0  # Times the bare Ray call.
COALESCED_GOAL_PER_S = 20_000.0
COALESCED_RATIO = 8.0

# Twelve agents that answer and one that asks, at a density of eight: two cells.
PLAN = """
apiVersion: aip/v1
kind: Plan
metadata: {{name: ask}}
inputs:
  targets: {{type: array, items: {{type: string}}}}
  here: {{type: boolean}}
limits: {{deadline: 5m{budget}}}
agents:
  asker: {{use: "agents:Asker", density: 8}}
  echo: {{use: "agents:Echo", density: 8}}
tasks:
  measure:
    agent: asker
    capability: measure
    timeout: 5m
    with: {{targets: "${{{{ inputs.targets }}}}", here: "${{{{ inputs.here }}}}", rounds: {rounds}, count: {count}}}
outputs:
  measured: "${{{{ tasks.measure.output }}}}"
"""
BUDGET = ", budget: {messages: 100000000}"


def rows(stage: Stage, *, rounds: int = ROUNDS, count: int = COUNT) -> list[Row]:
    checks = ", ".join(stage.platform.status()["checks"])
    free = stage.plan("ask", PLAN.format(budget="", rounds=rounds, count=count))
    paid = stage.plan("ask-paid", PLAN.format(budget=BUDGET, rounds=rounds, count=count))
    spread_out(stage, free)
    within = _measure(stage, free, here=True)
    between = _measure(stage, free, here=False)
    ray = bare_ray.rounds(stage.record, RAY_COUNT, RAY_ROUNDS)
    found = [
        *_within_rows(within, f"{checks}, audit; no budget set"),
        *_between_rows(between, ray, f"{checks}, audit; no budget set"),
    ]
    try:
        found += _within_rows(_measure(stage, paid, here=True), f"{checks}, audit; budget drawn on")
    except RunFailed as failed:
        found.append(
            Row(
                BENCH,
                "ask in one cell, p50 (budget drawn on)",
                None,
                "us",
                goal=P50_GOAL_US,
                note=str(failed),
            )
        )
    return found


def spread_out(stage: Stage, plan: Any) -> None:
    """Wait until the pool has its second cell. Raises where it does not come."""
    until = time.monotonic() + TWO_CELLS_WITHIN_S
    while True:
        try:
            stage.run(plan, {"targets": TARGETS, "here": False}, timeout_s=RUN_TIMEOUT_S)
        except RunFailed:
            if time.monotonic() > until:
                raise
            time.sleep(1.0)
        else:
            return


def _measure(stage: Stage, plan: Any, here: bool) -> list[dict[str, Any]]:
    run = stage.run(plan, {"targets": TARGETS, "here": here}, timeout_s=RUN_TIMEOUT_S)
    rounds: list[dict[str, Any]] = run.view["outputs"]["measured"]["rounds"]
    return rounds


def _within_rows(rounds: list[dict[str, Any]], checks: str) -> list[Row]:
    queue = "bare asyncio queue"
    one, one_floor = _pick(rounds, "one"), _pick(rounds, "one_floor")
    many, many_floor = _pick(rounds, "many"), _pick(rounds, "many_floor")
    kind = checks.rpartition("; ")[2]
    name = f"ask in one cell, {{}} ({kind})"
    return [
        measured(
            BENCH,
            name.format("p50"),
            one("p50_us"),
            "us",
            reference=queue,
            reference_value=spread(one_floor("p50_us")).median,
            goal=P50_GOAL_US,
            note=f"checks: {checks}",
        ),
        measured(
            BENCH,
            name.format("p99"),
            one("p99_us"),
            "us",
            reference=queue,
            reference_value=spread(one_floor("p99_us")).median,
            goal=P99_GOAL_US,
            note=f"{_cpu(one)} us CPU each, the whole process",
        ),
        measured(
            BENCH,
            name.format("many at once"),
            many("per_s"),
            "asks/s",
            reference=queue,
            reference_value=spread(many_floor("per_s")).median,
            more_is_better=True,
            note=f"{_cpu(many)} us CPU each, the whole process",
        ),
    ]


def _between_rows(rounds: list[dict[str, Any]], ray: list[dict[str, float]], checks: str) -> list[Row]:
    one, many, told = _pick(rounds, "one"), _pick(rounds, "many"), _pick(rounds, "told")
    call, calls = "bare Ray actor call", "bare Ray calls, many at once"
    bare_p50, bare_p99, bare_rate, batched = (
        spread([found[key] for found in ray]).median for key in ("p50_us", "p99_us", "per_s", "batched_per_s")
    )
    rate_goal = max(COALESCED_GOAL_PER_S, COALESCED_RATIO * bare_rate)
    cells = f"two cells, two processes; checks: {checks}"
    return [
        measured(
            BENCH,
            "ask between two cells, p50",
            one("p50_us"),
            "us",
            reference=call,
            reference_value=bare_p50,
            goal=CROSS_GOAL * bare_p50,
            note=cells,
        ),
        measured(
            BENCH,
            "ask between two cells, p99",
            one("p99_us"),
            "us",
            reference=call,
            reference_value=bare_p99,
            note=f"{_cpu(one)} us CPU each in the asking process",
        ),
        measured(
            BENCH,
            "asks between two cells, many at once",
            many("per_s"),
            "asks/s",
            reference=calls,
            reference_value=bare_rate,
            goal=rate_goal,
            more_is_better=True,
            note=f"{_cpu(many)} us CPU each in the asking process",
        ),
        measured(
            BENCH,
            "tells between two cells, as they leave",
            told("per_s"),
            "messages/s",
            reference=f"bare Ray, {bare_ray.FRAME_ITEMS} a call, no mailbox, no checks",
            reference_value=batched,
            goal=COALESCED_GOAL_PER_S,
            more_is_better=True,
        ),
    ]


def _pick(rounds: list[dict[str, Any]], part: str) -> Callable[[str], list[float]]:
    return lambda key: [found[part][key] for found in rounds]


def _cpu(pick: Callable[[str], list[float]]) -> str:
    return f"{spread(pick('cpu_us')).median:.1f}"
