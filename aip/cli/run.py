"""`aip run list | show | events | trace | diff | replay` and `aip logs`: what is known of runs, with a platform or without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from . import measure, replay, run_diff, text, trace
from .command import Command, Noun
from .output import Column, Row, show_rows, show_value
from .records import known_task, records
from .run_address import RUN, RUN_OR_TASK, RunAddress, newest_first
from .session import Format, session

STATES = (
    "accepted",
    "running",
    "paused",
    "held",
    "compensating",
    "closing",
    "succeeded",
    "failed",
    "cancelled",
    "killed",
)


@click.group(
    "run",
    cls=Noun,
    examples="""
    aip run list
    aip run show last
    """,
)
def run() -> None:
    """Look at runs: list, show, events, trace, diff, replay.

    RUN is an id, the beginning of one, or `last`.
    """


def _state_style(state: str) -> str:
    from .screen import STATE_STYLES

    return STATE_STYLES.get(state, "")


def _took(row: Row) -> str:
    began_s, ended_s = row.get("accepted_at_s"), row.get("finished_at_s")
    return "" if began_s is None or ended_s is None else measure.duration(ended_s - began_s)


RUN_COLUMNS = (
    Column("RUN", lambda row: row.get("run", "")),
    Column("PLAN", lambda row: row.get("plan", "")),
    Column("STATE", lambda row: row.get("state", ""), style=_state_style),
    Column("STARTED", lambda row: measure.moment(row.get("accepted_at_s"))),
    Column("TOOK", _took, right=True),
    Column("BY", lambda row: row.get("submitted_by", "")),
)


@run.command(
    "list",
    examples="""
    aip run list
    aip run list --state failed -n 5 -o json
    """,
)
@click.option("--state", type=click.Choice(STATES), help="Only runs in this state.")
@click.option(
    "-n", "--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many."
)
def list_runs(state: str | None, limit: int) -> None:
    """List runs, newest first."""
    one = session()
    with records(one) as known:
        runs = [row for row in newest_first(known.runs()) if state is None or row.get("state") == state]
    show_rows(one, runs[:limit], RUN_COLUMNS, nothing="no runs; start one: aip submit plan.yaml")
    if len(runs) > limit:
        one.say(f"{len(runs) - limit} older ones are not shown; -n {len(runs)} shows all")


@run.command(
    "show",
    examples="""
    aip run show last
    aip run show last -o json
    """,
)
@click.argument("address", metavar="RUN", type=RUN)
def show(address: RunAddress) -> None:
    """Show a run: its tasks, its spending, what failed and why."""
    one = session()
    with records(one) as known:
        json = known.run(known.id_of(address))

        def draw() -> None:
            from .follow import tell_person
            from .screen import LINES_MAX, RunScreen
            from .view import read

            view = read(json)
            one.out.print(RunScreen(view, one.clock(), height=LINES_MAX), soft_wrap=False)
            tell_person(one, known, view)

        show_value(one, json, draw)


@run.command(
    "events",
    examples="""
    aip run events last
    aip run events -f last -o ndjson
    """,
)
@click.argument("address", metavar="RUN", type=RUN)
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@click.option(
    "--after", type=click.IntRange(0), default=0, help="Leave out this many events at the beginning."
)
def events(address: RunAddress, follow: bool, after: int) -> None:
    """Print the journal of a run, event by event."""
    one = session()
    with records(one) as known:
        run_id = known.id_of(address)
        found = known.events(run_id, after, follow=follow)
        if one.format is Format.JSON and not follow:
            one.write(text.pretty_json(list(found)))
            return
        for event in found:
            one.write(text.compact_json(event) if one.machine else event_line(event))


def event_line(event: Mapping[str, Any]) -> str:
    """When, what, and the rest as `key=value`."""
    skipped = ("event", "at_s", "index", "plan_source")
    rest = " ".join(
        f"{key}={value if isinstance(value, str) else text.compact_json(value)}"
        for key, value in event.items()
        if key not in skipped and value not in (None, "", {}, [])
    )
    at_s = event.get("at_s")
    return text.line(f"{measure.moment(at_s)} {event.get('event', ''):<17} {rest}")


for command in (replay.replay, run_diff.diff, trace.trace):
    run.add_command(command)


@click.command(
    "logs",
    cls=Command,
    examples="""
    aip logs last
    aip logs -f r-01jd/read
    """,
)
@click.argument("address", metavar="RUN[/TASK]", type=RUN_OR_TASK)
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
def logs(address: RunAddress, follow: bool) -> None:
    """Print what the agents of a run logged."""
    one = session()
    with records(one) as known:
        run_id = known.id_of(address)
        if address.task is not None:
            known_task(known.run(run_id), address.task)
        entries = known.logs(run_id, address.task, follow=follow)
        if one.format is Format.JSON and not follow:
            one.write(text.pretty_json(list(entries)))
            return
        for entry in entries:
            one.write(text.compact_json(entry) if one.machine else log_line(entry))


def log_line(entry: Mapping[str, Any]) -> str:
    at_s = entry.get("at")
    when = measure.clock_time(at_s) if isinstance(at_s, int | float) else ""
    level = str(entry.get("level") or "info").lower()
    where = entry.get("task") or entry.get("agent") or ""
    return text.line(f"{when} {level:<7} {where:<16} {entry.get('text', '')}", text.BLOCK_CHARS_MAX)
