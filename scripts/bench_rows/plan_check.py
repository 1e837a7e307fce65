"""Reading and checking large plans: the YAML text apart from what is done with the plan in memory.

Reference of the parse is PyYAML's own C loader on the same text, which finds neither places, names nor mistakes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import yaml

from aip.orchestration.graph import critical_path, first_ready
from aip.orchestration.parse import check, parse
from aip.orchestration.parse.check_null import cautions
from aip.orchestration.plan import Plan

ROUNDS = 5
GOALS_MS = {1_000: 25.0, 10_000: 250.0}
MANIFEST = {
    "capabilities": {
        "web.read": {
            "input": {
                "type": "object",
                "properties": {"url": {"type": "string"}, "n": {"type": "integer"}, "from": {}},
                "required": ["url"],
                "additionalProperties": False,
            },
            "output": {"type": "object", "properties": {"text": {"type": "string"}}},
        }
    }
}


def rows() -> list[dict[str, Any]]:
    return [row for tasks in GOALS_MS for row in _rows(tasks)]


def plan_text(tasks: int, seed: int = 1) -> bytes:
    """Every task needs up to three of the fifty before it, by name or by reference."""
    rng = random.Random(seed)
    lines = [
        "apiVersion: aip/v1",
        "kind: Plan",
        "metadata: {name: large}",
        "inputs: {site: {type: string}}",
        "agents: {reader: {use: 'agents:Reader', replicas: {min: 1, max: 64}}}",
        "tasks:",
    ]
    for number in range(tasks):
        before = rng.sample(range(max(0, number - 50), number), min(number, 3))
        needs = ", ".join(f"t{other}" for other in before[1:])
        source = f"tasks.t{before[0]}.output.text" if before else "inputs.site"
        lines.append(f"  t{number}:")
        lines.append("    agent: reader")
        lines.append("    capability: web.read")
        lines.append(f"    needs: [{needs}]")
        lines.append(f'    with: {{url: "https://x/{number}", n: {number}, from: "${{{{ {source} }}}}"}}')
    return "\n".join(lines).encode()


def _rows(tasks: int) -> list[dict[str, Any]]:
    text = plan_text(tasks)
    parse_ms = _best_ms(lambda: parse(text, "plan.yaml"))
    load_ms = _best_ms(lambda: yaml.load(text, yaml.CSafeLoader))
    plan = parse(text, "plan.yaml")
    check_ms = _best_ms(lambda: _check(plan))
    goal = GOALS_MS[tasks]
    return [
        _row(f"check, critical path and first ready set of {tasks} tasks", check_ms, goal, "goal", goal),
        _row(f"parse {tasks} tasks from {len(text)} bytes", parse_ms, None, "yaml.CSafeLoader", load_ms),
    ]


def _check(plan: Plan) -> None:
    problems = check(plan, {"reader": MANIFEST})
    path, _ = critical_path(plan)
    if problems or cautions(plan) or not path or not first_ready(plan):
        raise AssertionError(f"the plan of the benchmark is not as it was made: {problems[:3]}")


def _best_ms(act: Callable[[], object]) -> float:
    """The best of a few: the machine is shared, and what is asked is what the work costs."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        act()
        times.append((time.perf_counter() - began) * 1_000)
    return min(times)


def _row(
    row: str, value: float, goal: float | None, reference: str, reference_value: float
) -> dict[str, Any]:
    return {
        "bench": "plans",
        "row": row,
        "value": round(value, 2),
        "unit": "ms",
        "reference": reference,
        "reference_value": round(reference_value, 2),
        "ratio": round(value / reference_value, 2),
        "goal": goal,
        "met": None if goal is None else value <= goal,
    }
