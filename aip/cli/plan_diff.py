"""`aip plan diff A B`: what changed between two plans, and what of a run would be done again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import plan_file, text
from .command import Command
from .exit_code import ExitCode
from .output import show_value
from .run_address import resolve
from .session import Session, session

if TYPE_CHECKING:
    from ..orchestration.plan import Plan
    from ..orchestration.planner import Difference

AGAIN_SHOWN_MAX = 20  # On a screen; `-o json` has them all.


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: a plan, and of which run it is."""

    plan: Plan
    run: str | None = None
    finished: frozenset[str] = frozenset()


@click.command(
    "diff",
    cls=Command,
    examples="""
    aip plan diff plan.yaml plan-new.yaml
    aip plan diff last plan.yaml
    aip plan diff r-01jd plan.yaml -o json
    """,
)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
def diff(first: str, second: str) -> None:
    """Compare two plans: files, or the plans of runs.

    Where A is a run, it also tells which tasks of B would run, with what that run has finished. Ends with 0 where the
    plans mean the same, with 1 where they do not.
    """
    from ..orchestration.planner import difference, runs_again
    from ..orchestration.planner.difference import as_json

    one = session()
    left, right = side(one, first), side(one, second)
    found = difference(left.plan, right.plan)
    again = runs_again(left.plan, right.plan, left.finished) if left.run else None
    told: dict[str, Any] = {"a": first, "b": second, **as_json(found)}
    if again is not None:
        told |= {"run": left.run, "runs_again": list(again), "kept": len(right.plan.tasks) - len(again)}

    def render() -> None:
        for line in lines(found):
            one.write(text.line(line))
        if again is not None:
            one.write(text.line(_again(left, right, again)))

    show_value(one, told, render)
    click.get_current_context().exit(ExitCode.FAILED if found else ExitCode.OK)


def side(one: Session, typed: str) -> Side:
    """A plan file, where there is one of that name or it is written as one; else a run."""
    path = Path(typed)
    if path.suffix in (".yaml", ".yml") or "/" in typed or path.is_file():
        return Side(plan_file.parsed(path))
    run = resolve(typed, one.library.stored_runs(one.folder))
    tasks = one.library.stored_run(one.folder, run).get("tasks") or {}
    done = frozenset(name for name, task in tasks.items() if task["state"] == "succeeded")
    return Side(plan_of_run(one, run), run, done)


def plan_of_run(one: Session, run: str) -> Plan:
    """The plan that the run carries in its journal."""
    from ..errors import NotFound
    from ..orchestration.parse import parse

    for event in one.library.stored_events(one.folder, run):
        if event["event"] == "run_accepted":
            return parse(str(event["plan_source"]).encode(), f"{run}/plan.yaml")
    raise NotFound(f"run {run} has not begun yet", hint="its plan is in its journal once it was accepted")


def lines(found: Difference) -> Iterator[str]:
    """What changed, one thing a line: + only in B, - only in A, ~ in both."""
    if not found:
        yield "the plans mean the same"
    for noun in ("task", "agent", "input", "output"):
        changes = getattr(found, f"{noun}s")
        yield from (f"+ {noun} {name}" for name in changes.added)
        yield from (f"- {noun} {name}" for name in changes.removed)
        yield from (f"~ {noun} {name}: {', '.join(keys)}" for name, keys in _items(changes.changed))
    yield from (f"+ edge {need} → {name}" for need, name in found.edges_added)
    yield from (f"- edge {need} → {name}" for need, name in found.edges_removed)
    yield from (f"~ {key}" for key in found.settings)


def _items(changed: Mapping[str, tuple[str, ...]]) -> list[tuple[str, tuple[str, ...]]]:
    return list(changed.items())


def _again(left: Side, right: Side, again: tuple[str, ...]) -> str:
    if not again:
        return f"all {len(right.plan.tasks)} tasks keep their results of run {left.run}"
    shown = ", ".join(again[:AGAIN_SHOWN_MAX]) + (" …" if len(again) > AGAIN_SHOWN_MAX else "")
    return f"{len(again)} of {len(right.plan.tasks)} tasks would run: {shown}"
