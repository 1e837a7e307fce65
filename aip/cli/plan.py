"""`aip plan make | check | graph | simulate | diff | schema`: plans before they run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from . import effects, measure, plan_diff, plan_file, plan_make, plan_simulate, text
from .command import Noun
from .output import show_value
from .plan_output import Draws, asked
from .session import session

PLAN = click.Path(path_type=Path)


@click.group(
    "plan",
    cls=Noun,
    examples="""
    aip plan make "search for 'bees', then summarise each page" -o plan.yaml
    aip plan check plan.yaml
    aip plan simulate plan.yaml
    """,
)
def plan() -> None:
    """Make plans and look at them before they run: make, check, graph, simulate, diff."""


for command in (plan_make.make, plan_diff.diff, plan_simulate.simulate):
    plan.add_command(command)


@plan.command(
    "check",
    examples="""
    aip plan check plan.yaml
    aip plan check plan.yaml -o json
    """,
)
@click.argument("path", metavar="PLAN", type=PLAN)
@click.option("--no-code", is_flag=True, help="Only the file itself, not what its agents can do.")
def check(path: Path, no_code: bool) -> None:
    """Check a plan and every call in it.

    No code of the plan runs in this process: a child asks its agents what they can do. What is no mistake but seldom meant (a
    task that may be handed null) is told as a warning, and ends with 0.
    """
    from ..orchestration.graph import critical_path, first_ready
    from ..orchestration.parse import render
    from ..orchestration.parse.check_effects import unknown_connectors
    from ..orchestration.parse.check_null import cautions

    one = session()
    found = plan_file.parsed(path) if no_code else plan_file.checked(path, one.library)
    warnings = [*cautions(found), *unknown_connectors(found, effects.connectors_here(one))]
    longest, _ = critical_path(found)
    told = {
        "plan": found.name,
        "digest": found.digest,
        "tasks": len(found.tasks),
        "agents": len(found.agents),
        "starts_with": first_ready(found),
        "longest_chain": longest,
        "warnings": [asdict(warning) for warning in warnings],
    }
    if warnings and not one.machine:
        one.say(render(warnings, plan_file.read(path)))
    tasks, agents = measure.count(len(found.tasks), "task"), measure.count(len(found.agents), "agent")
    words = f"{found.name}: {tasks}, {agents}, longest chain {len(longest)}: no problem found"
    words += f", {measure.count(len(warnings), 'warning')}" if warnings else ""
    show_value(one, told, lambda: one.write(text.line(words)))


@plan.command("schema", examples="aip plan schema > plan.schema.json")
def schema() -> None:
    """Print the JSON Schema of plan.yaml, for editors."""
    from ..orchestration.schema import plan_schema

    session().write(text.pretty_json(plan_schema()))


@plan.command(
    "graph",
    cls=Draws,
    examples="""
    aip plan graph plan.yaml
    aip plan graph plan.yaml -o mermaid
    aip plan graph plan.yaml -o dot
    """,
)
@click.argument("path", metavar="PLAN", type=PLAN)
@click.option(
    "--format", "form", type=click.Choice(["tree", "mermaid", "dot"]), default="tree", help="The same as -o."
)
def graph(path: Path, form: str) -> None:
    """Draw what waits for what, the critical path marked."""
    from ..orchestration import graph as drawing

    draws = {
        "tree": drawing.as_text,
        "text": drawing.as_text,
        "mermaid": drawing.as_mermaid,
        "dot": drawing.as_dot,
    }
    draw = draws[asked(click.get_current_context()) or form]
    one = session()
    found = plan_file.parsed(path)
    longest, _ = drawing.critical_path(found)
    told = {
        "plan": found.name,
        "needs": {name: list(needs) for name, needs in drawing.edges(found).items()},
        "critical_path": longest,
    }
    show_value(one, told, lambda: one.write(draw(found).rstrip("\n")))
