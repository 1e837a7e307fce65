"""`scripts/bench NAME [--json] [--peers] [--large]`: measured rows, each beside a floor or a peer of the same run.

Rows appear as they are measured: as JSON, one object a line (docs/benchmarks.md), or as a table at the end, with what is going on
said on stderr. Exit code 0 also where a goal is missed: a benchmark reports, it does not judge; `--strict` makes it 1.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import click
from bench_rows import (
    ask,
    audit,
    breaker,
    durable,
    effects,
    health,
    journal,
    kill,
    peers,
    plan_check,
    policy,
    run_machine,
    wake,
)
from bench_rows.row import Row
from bench_rows.stage import stage
from rich.console import Console
from rich.table import Table

Plain = dict[str, Any]
MARKS = {True: "[green]met[/]", False: "[red]missed[/]", None: ""}


@dataclass(frozen=True, slots=True)
class Options:
    peers: bool
    large: bool


def runtime(options: Options) -> Iterator[Plain]:
    with stage() as platform:
        say("asking agents")
        yield from plain(asked := ask.rows(platform))
        say("waking agents")
        yield from plain(woken := wake.rows(platform, large=options.large))
        say("looking at health")
        yield from plain(health.rows(platform))
    yield from _peers(options, "runtime", [*asked, *woken])
    say("breaker and journal")
    yield from breaker.rows()
    yield from journal.rows()


def plans(options: Options) -> Iterator[Plain]:
    with stage() as platform:
        say("running durable plans")
        yield from plain(ran := durable.rows(platform))
    yield from _peers(options, "plans", ran)
    say("checking plans, driving the run's machine")
    yield from plan_check.rows()
    yield from run_machine.rows()


def killing(options: Options) -> Iterator[Plain]:
    with stage() as platform:
        say("ordering ten thousand agents to stop, again and again")
        yield from plain(kill.rows(platform, rounds=kill.ROUNDS_LARGE if options.large else kill.ROUNDS))


def governance(options: Options) -> Iterator[Plain]:
    """What stands on the road of every message: policy, audit, effects, kill."""
    for name in ("policy", "audit", "effects", "kill"):
        say(name)
        yield from BENCHES[name](options)


BENCHES: dict[str, Callable[[Options], Iterator[Plain]]] = {
    "runtime": runtime,
    "plans": plans,
    "breaker": lambda _: iter(breaker.rows()),
    "journal": lambda _: iter(journal.rows()),
    "policy": lambda _: plain(policy.rows()),
    "audit": lambda options: plain(audit.rows(audit.SIZE_LARGE if options.large else audit.SIZE)),
    "effects": lambda _: effects.rows(),
    "kill": killing,
    "governance": governance,
    "plan_check": lambda _: iter(plan_check.rows()),
    "run_machine": lambda _: iter(run_machine.rows()),
}


def _peers(options: Options, bench: str, ours: list[Row]) -> Iterator[Plain]:
    """Once our platform is down: a peer has the machine for itself, as we had it."""
    if options.peers:
        for peer in peers.PEERS[bench]:
            say(f"asking {peer.name} the same")
            yield from plain(peers.rows(peer, ours))


def plain(rows: list[Row]) -> Iterator[Plain]:
    return (row.plain() for row in rows)


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def table(rows: list[Plain]) -> Table:
    shown = Table(title=f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", title_justify="left")
    for column in ("row", "value", "beside", "ratio", "goal", ""):
        shown.add_column(column, justify="right" if column in ("value", "ratio", "goal") else "left")
    bench = ""
    for row in rows:
        if row["bench"] != bench:
            bench = row["bench"]
            shown.add_section()
        reference = f"{row['reference'] or ''} {_number(row['reference_value'])}".strip()
        value = f"{_number(row['value'])} {row['unit']}" if row["value"] is not None else "did not end"
        goal = _number(row["goal"])
        shown.add_row(row["row"], value, reference, _number(row["ratio"]), goal, MARKS[row["met"]])
    return shown


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"


@click.command()
@click.argument("name", type=click.Choice([*BENCHES, "all"]))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a row, as they are measured.")
@click.option("--peers", is_flag=True, help="Beside other systems too, in environments under AIP_BENCH_HOME.")
@click.option("--large", is_flag=True, help="Also what takes a gigabyte or a minute.")
@click.option("--strict", is_flag=True, help="Exit code 1 where a goal is missed.")
def main(name: str, as_json: bool, peers: bool, large: bool, strict: bool) -> None:
    """Measure the platform. Numbers of a busy machine say little: compare ratios."""
    found: list[Plain] = []
    began = time.monotonic()
    for bench in ("runtime", "plans") if name == "all" else (name,):
        for row in BENCHES[bench](Options(peers, large)):
            found.append(row)
            if as_json:
                print(json.dumps(row), flush=True)
    if not as_json:
        width = None if sys.stdout.isatty() else 160
        Console(width=width).print(table(found))
    say(f"{len(found)} rows in {time.monotonic() - began:.0f} s")
    if strict and any(row["met"] is False for row in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
