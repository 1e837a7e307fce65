"""Offers in a line each, and plans of random shape: for tests of the planner."""

from __future__ import annotations

import random
from typing import Any

from aip.orchestration.parse import parse
from aip.orchestration.plan import Plan
from aip.orchestration.planner import Measured, Offers, offers_of
from aip.orchestration.planner.history import Estimate

TEXT: dict[str, Any] = {"type": "string"}
TEXTS: dict[str, Any] = {"type": "array", "items": TEXT}
VERDICT: dict[str, Any] = {
    "type": "object",
    "properties": {"approved": {"type": "boolean"}, "notes": TEXT},
    "required": ["approved", "notes"],
}
BALLOT: dict[str, Any] = {"type": "object", "properties": {"vote": TEXT}, "required": ["vote"]}


def capability(doc: str, gives: Any, optional: tuple[str, ...] = (), **takes: Any) -> dict[str, Any]:
    needed = [name for name in takes if name not in optional]
    schema = {"type": "object", "properties": takes, "required": needed, "additionalProperties": False}
    return {"doc": doc, "input": schema, "output": gives}


def newsroom() -> Offers:
    """Agents that search, read, write, judge."""
    search = capability(
        "Search the web; find pages.", TEXTS, ("limit",), query=TEXT, limit={"type": "integer"}
    )
    return offers_of(
        {
            "agents:Researcher": {
                "type": "researcher",
                "capabilities": {
                    "web.search": search,
                    "web.summarise": capability("Summarise one page.", TEXT, url=TEXT),
                },
            },
            "agents:Editor": {
                "type": "editor",
                "capabilities": {
                    "report.write": capability("Write a report from notes.", TEXT, notes=TEXTS),
                    "report.publish": capability("Publish a report.", TEXT, draft=TEXT, slot=TEXT),
                    "report.review": capability("Review a draft.", VERDICT, draft=TEXT),
                    "report.revise": capability("Revise a draft by notes.", TEXT, draft=TEXT, notes=TEXT),
                    "debate.argue": capability("Argue one side.", TEXT, side=TEXT, question=TEXT),
                    "debate.judge": capability("Judge arguments.", BALLOT, arguments=TEXTS, question=TEXT),
                },
            },
        }
    )


def edges_of(family: str, size: int, rng: random.Random) -> list[list[int]]:
    """What each task needs, in a graph of one family."""
    width = max(2, int(size**0.5))
    match family:
        case "random":
            density = rng.choice([0.02, 0.05, 0.1])
            return [[low for low in range(high) if rng.random() < density] for high in range(size)]
        case "layered":
            starts = [(number // width - 1) * width for number in range(size)]
            return [
                [low for low in range(start, start + width) if start >= 0 and rng.random() < 0.4]
                for start in starts
            ]
        case "tree":
            return [[rng.randrange(max(0, number - 8), number)] if number else [] for number in range(size)]
        case "chains":
            return [[number - 6] if number >= 6 else [] for number in range(size)]
        case "independent":
            return [[] for _ in range(size)]
        case "fork_join":
            return [
                ([] if not number else list(range(number - 9, number)))
                if number % 10 == 0
                else [number - number % 10]
                for number in range(size)
            ]
    raise ValueError(family)


def random_plan(family: str, seed: int) -> tuple[Plan, Measured, int]:
    """A plan of a family, what each task takes (log-normal, no spread), and its slots."""
    rng = random.Random(seed)
    size, slots = rng.choice([20, 50, 100]), rng.choice([2, 4, 8])
    lines = [
        "apiVersion: aip/v1",
        "kind: Plan",
        "metadata: {name: random}",
        f"limits: {{concurrency: {slots}}}",
    ]
    lines += [
        "agents:",
        *(f"  w{one}: {{use: 'm:W{one}', replicas: {slots}}}" for one in range(size)),
        "tasks:",
    ]
    measured = Measured()
    for number, needs in enumerate(edges_of(family, size, rng)):
        names = ", ".join(f"t{need}" for need in needs)
        lines.append(f"  t{number}: {{agent: w{number}, capability: work, needs: [{names}]}}")
        took = Estimate()
        took.add(rng.lognormvariate(0, 0.7))
        measured.seconds[f"m:W{number}", "work"] = took
    return plan_of("\n".join(lines)), measured, slots


def taking(**seconds: float) -> Measured:
    """What each capability of the agent `m:A` takes, without spread."""
    measured = Measured()
    for name, value in seconds.items():
        estimate = Estimate()
        estimate.add(value)
        measured.seconds["m:A", name] = estimate
    return measured


def plan_of(text: str) -> Plan:
    return parse(text.encode(), "plan.yaml")
