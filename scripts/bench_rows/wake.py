"""Bringing ten thousand agents to life: each is activated by its first message, with an incarnation in the journal, and answers.

Beside it the floor that bare asyncio sets (an object, a queue, a task, an answer), and agents that are only addressable: a
million addresses, each of which every cell can find the owner of, without anybody holding a record of them.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from aip.runtime.placement import CellRecord, Membership, Placement

from .agents_of_bench import QueueActor
from .row import Row, measured, spread
from .stage import Stage

BENCH = "runtime"
AGENTS = 10_000
LARGE = 100_000
ROUNDS = 3
GOAL_S = 3.0
GOAL_KIB = 10.0
LARGE_GOAL_MIB = 1024.0
PASSIVE = 1_000_000
TASK_TIMEOUT = "5m"

PLAN = """
apiVersion: aip/v1
kind: Plan
metadata: {{name: wake}}
inputs:
  prefix: {{type: string}}
  count: {{type: integer}}
agents:
  asker: {{use: "agents:Asker", density: {density}}}
  echo: {{use: "agents:Echo", density: {density}}}
tasks:
  wake:
    agent: asker
    capability: wake
    timeout: {timeout}
    with: {{prefix: "${{{{ inputs.prefix }}}}", count: "${{{{ inputs.count }}}}"}}
outputs:
  woken: "${{{{ tasks.wake.output }}}}"
"""


def rows(
    stage: Stage, *, agents: int = AGENTS, rounds: int = ROUNDS, large: bool = False, passive: int = PASSIVE
) -> list[Row]:
    found = [*_live_rows(stage, agents, rounds), passive_row(passive)]
    if large:
        found += _large_rows(stage, LARGE)
    return found


def _live_rows(stage: Stage, agents: int, rounds: int) -> list[Row]:
    plan = stage.plan("wake", PLAN.format(density=agents * 2, timeout=TASK_TIMEOUT))
    woken = [_wake(stage, plan, f"echo/live-{number}", agents) for number in range(rounds)]
    floors = [asyncio.run(_floor(agents)) for _ in range(rounds)]
    floor, cells = "bare asyncio tasks and queues", woken[0]["processes"]
    cpu_us = spread([found["woken"]["cpu_us"] for found in woken]).median
    return [
        measured(
            BENCH,
            f"wake {agents:,} agents and ask each",
            [found["woken"]["took_s"] for found in woken],
            "s",
            reference=floor,
            reference_value=spread(floors).median,
            goal=GOAL_S,
            note=f"incarnations journaled; {cells} cell(s); {cpu_us:.0f} us CPU each, the cell's process",
        ),
        measured(
            BENCH,
            f"ask each of {agents:,} live agents again",
            [found["again"]["took_s"] for found in woken],
            "s",
            reference=floor,
            reference_value=spread(floors).median,
        ),
        measured(
            BENCH,
            f"memory of a live agent, of {agents:,}",
            [found["bytes_each"] / 1024 for found in woken[:1]],
            "KiB",
            goal=GOAL_KIB,
            note="growth of the cells' PSS, everything that keeps the agent included; first waking",
        ),
    ]


def _large_rows(stage: Stage, agents: int) -> list[Row]:
    plan = stage.plan("wake-large", PLAN.format(density=agents + 1_000, timeout=TASK_TIMEOUT))
    found = _wake(stage, plan, "echo/large", agents)
    return [
        Row(BENCH, f"wake {agents:,} agents and ask each", found["woken"]["took_s"], "s"),
        Row(
            BENCH,
            f"memory of {agents:,} live agents",
            found["bytes_each"] * agents / 2**20,
            "MiB",
            goal=LARGE_GOAL_MIB,
        ),
    ]


def _wake(stage: Stage, plan: Any, prefix: str, count: int) -> dict[str, Any]:
    run = stage.run(plan, {"prefix": prefix, "count": count})
    found: dict[str, Any] = run.view["outputs"]["woken"]
    return found


async def _floor(count: int) -> float:
    began = time.perf_counter()
    actors = [QueueActor() for _ in range(count)]
    await asyncio.gather(*(actor.ask(n) for n, actor in enumerate(actors)))
    took_s = time.perf_counter() - began
    for actor in actors:
        actor.close()
    return took_s


def passive_row(agents: int) -> Row:
    """Every address has an owner that any process computes by itself; what is remembered of them is bounded."""
    cells = tuple(CellRecord(f"cell-{number}", "pool", "local", 1) for number in range(8))
    placement = Placement(Membership(1, {"pool": cells}, {"echo@code": "pool"}))
    began = time.process_time()
    owned = sum(placement.locate(f"echo@code/{number}") is not None for number in range(agents))
    took_us = (time.process_time() - began) / agents * 1e6
    if owned != agents:
        raise AssertionError(f"{agents - owned} of {agents} addresses have no owner")
    return Row(
        BENCH,
        f"find the owner of one of {agents:,} passive agents",
        took_us,
        "us CPU",
        note="first look, cold",
    )
