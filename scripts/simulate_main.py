"""`scripts/simulate NAME --seeds N [--first S] [--json] [--verbose SEED]`: exit 1 where a promise was broken."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from aip.simulation.road import Result, simulate, simulate_many

SIMULATIONS = ("road",)


@click.command(
    help="The runtime on a virtual clock, with faults drawn from seeds, held against docs/semantics.md."
)
@click.argument("name", type=click.Choice(SIMULATIONS))
@click.option("--seeds", default=300, show_default=True, type=click.IntRange(1), help="How many seeds.")
@click.option("--first", default=0, show_default=True, type=click.IntRange(0), help="The first seed.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, nothing else.")
@click.option(
    "--verbose", "verbose_seed", type=click.IntRange(0), help="Run this seed alone and show all its events."
)
def main(name: str, seeds: int, first: int, as_json: bool, verbose_seed: int | None) -> None:
    if verbose_seed is not None:
        result = simulate(verbose_seed, verbose=True)
        show(result)
        sys.exit(bool(result.violations))
    row, failed = simulate_many(range(first, first + seeds))
    for result in failed:
        show(result)
    click.echo(
        json.dumps(row)
        if as_json
        else f"{name}: " + ", ".join(f"{key} {value}" for key, value in row.items())
    )
    sys.exit(bool(failed))


def show(result: Result) -> None:
    """A seed on stderr: its last events, then what was broken."""
    for at_s, text in result.tail:
        click.echo(f"{at_s:10.4f}  {text}", err=True)
    for violation in result.violations:
        click.echo(
            f"seed {result.seed} ({result.profile}): {violation.row} broken at {violation.at_s:.4f} s: {violation.text}",
            err=True,
        )
    click.echo(f"seed {result.seed}: {result.events} events, digest {result.digest}", err=True)


if __name__ == "__main__":
    main()
