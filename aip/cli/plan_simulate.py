"""`aip plan simulate`: how long and how much, from what earlier runs took."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import AIPError
from . import measure, plan_file, text
from .command import Command
from .key_value import KEY_VALUE, collected
from .output import show_value
from .plan_diff import plan_of_run
from .plan_make import typed
from .session import Session, session

if TYPE_CHECKING:
    from ..orchestration.plan import Plan
    from ..orchestration.planner import Measured
    from ..orchestration.planner.simulate import Summary

RUNS = 200  # A p95 of ten values beyond it; a plan of 100 tasks takes some seconds.
PATH_SHOWN_MAX = 12
ASSUMED_SHOWN_MAX = 8
MEASURED = "measured"  # Where nothing was measured yet, this is by tasks too.
RANKS = ("hops", MEASURED)


@click.command(
    "simulate",
    cls=Command,
    examples="""
    aip plan simulate plan.yaml
    aip plan simulate plan.yaml --runs 1000 --workers 8 -i topic=bees
    aip plan simulate plan.yaml --seed 7 -o json
    """,
)
@click.argument("path", metavar="PLAN", type=click.Path(path_type=Path))
@click.option(
    "-i",
    "--input",
    "inputs",
    type=KEY_VALUE,
    multiple=True,
    help="An input of the plan; @FILE for a file's content; repeatable.",
)
@click.option(
    "--runs", type=click.IntRange(1, 10_000), default=RUNS, show_default=True, help="How many to simulate."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Equal seeds give equal answers.")
@click.option("--workers", type=click.IntRange(1, 100_000), help="Slots, in place of limits.concurrency.")
@click.option(
    "--rank-by",
    type=click.Choice(RANKS),
    default=MEASURED,
    show_default=True,
    help="What starts first: the longest way to go in measured time, as in runs, or in tasks.",
)
def simulate(
    path: Path, inputs: tuple[tuple[str, str], ...], runs: int, seed: int, workers: int | None, rank_by: str
) -> None:
    """Tell how long a plan takes and what it costs, before it runs.

    The machine that executes runs is driven on a clock that jumps; agents are stood in for by what was measured in
    earlier runs of the plan. What nobody measured is assumed, and told.
    """
    from ..orchestration.planner import weights
    from ..orchestration.planner.simulate import forecast

    one = session()
    plan = plan_file.parsed(path)
    given = {name: typed(value) for name, value in collected(inputs).items()}
    given = {**{name: spec.default for name, spec in plan.inputs.items() if not spec.required}, **given}
    measured = history(one, plan)
    by_time = weights(plan, measured, given) if rank_by == MEASURED else None
    found = forecast(plan, measured, runs=runs, seed=seed, inputs=given, workers=workers, weights=by_time)
    told: dict[str, Any] = {"plan": plan.name, "seed": seed, "measured_runs": measured.runs, **asdict(found)}

    def render() -> None:
        for line in lines(plan, measured, found):
            one.write(text.line(line))

    show_value(one, told, render)


def history(one: Session, plan: Plan) -> Measured:
    """What the earlier runs of the plan, by its name, took. A run that cannot be read is told and left out."""
    from ..orchestration.planner import measure as measured_of
    from ..orchestration.planner.history import RUNS_MAX

    stored = sorted(one.library.stored_runs(one.folder), key=lambda run: str(run["run"]))
    names = [str(run["run"]) for run in stored if run["plan"] == plan.name][-RUNS_MAX:]
    runs = []
    for name in names:
        try:
            runs.append((plan_of_run(one, name), list(one.library.stored_events(one.folder, name))))
        except AIPError as error:
            one.say(f"run {name} is left out: {error.message}")
    return measured_of(runs)


def lines(plan: Plan, measured: Measured, found: Summary) -> Iterator[str]:
    slots = measure.count(measured.runs, "earlier run")
    yield f"{plan.name}: {measure.count(found.runs, 'simulated run')}, from {slots}"
    yield f"makespan      p50 {measure.duration(found.makespan_p50_s)}, p95 {measure.duration(found.makespan_p95_s)}"
    ratio = f"makespan is {found.ratio_p50:.2f} of it at p50, {found.ratio_p95:.2f} at p95"
    yield f"lower bound   {measure.duration(found.bound_p50_s)}; {ratio}"
    path = " → ".join(found.path[:PATH_SHOWN_MAX]) + (" …" if len(found.path) > PATH_SHOWN_MAX else "")
    yield f"critical path {path} (in {found.path_share:.0%} of the runs)"
    if found.bottleneck:
        yield f"bottleneck    {found.bottleneck}, busy {found.utilisation[found.bottleneck]:.0%} of the time"
    for unit, amount in found.cost_p50.items():
        most = measure.amount(unit, found.cost_p95[unit])
        yield f"cost          {measure.unit_name(unit)} p50 {measure.amount(unit, amount)}, p95 {most}"
    if not found.cost_p50:
        yield "cost          not measured"
    bad = {state: number for state, number in found.outcomes.items() if state != "succeeded"}
    for state, number in bad.items():
        yield f"outcome       {number} of {found.runs} runs end {state}"
    for line in found.assumed[:ASSUMED_SHOWN_MAX]:
        yield f"assumed       {line}"
    if len(found.assumed) > ASSUMED_SHOWN_MAX:
        yield f"assumed       and {len(found.assumed) - ASSUMED_SHOWN_MAX} more: see -o json"
