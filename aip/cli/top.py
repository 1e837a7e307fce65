"""`aip top`: what a platform is at, on one screen: runs, cells, agents, circuits that are not closed.

A sample is what the platform says at one moment; CPU is told between two samples, so the first has none. What a platform of
another version does not tell (its circuits, say) is left out and named, never shown as nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from . import measure, text
from .command import Command
from .contract import Platform
from .output import Column, Row
from .platform import DurationType
from .session import Format, Session, session
from .view import TERMINAL_RUNS, read

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

INTERVAL_S = 2.0  # Slower than the eye, and a cell is asked no more often than its own heartbeat twice over.
INTERVAL_S_MIN = 0.2  # A screen that is drawn more often measures itself.
RUNS_SHOWN_MAX = 20  # Each costs a question to its process.
AGENTS_SHOWN_MAX = 40  # Of a screen; `-o json` has all.
MARGIN_LINES = 10  # Titles, headers, the line of the cursor.


@dataclass(frozen=True, slots=True)
class Sample:
    """What the platform said at one moment, as plain JSON rows."""

    at_s: float
    runs: list[dict[str, Any]]
    cells: list[dict[str, Any]]
    agents: list[dict[str, Any]]
    breakers: list[dict[str, Any]] | None  # None: this platform does not tell.

    def to_json(self) -> dict[str, Any]:
        return {slot: getattr(self, slot) for slot in self.__slots__}


SORTS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "mailbox": lambda row: (-row["mailbox"], -row["turns"], row["address"]),
    "turns": lambda row: (-row["turns"], -row["mailbox"], row["address"]),
    "agent": lambda row: row["address"],
    "cell": lambda row: (row["cell"], row["address"]),
    "run": lambda row: (row["run"], row["address"]),
    "state": lambda row: (row["state"], row["address"]),
}
"""By what agents are sorted; the busiest first where it is a number."""


def sample(platform: Platform, now_s: float, sort: str, before: Sample | None = None) -> Sample:
    """Ask the platform. `before` is what CPU is measured against."""
    agents = sorted(map(_agent, platform.agents(None)), key=SORTS[sort])
    status = platform.status()
    return Sample(
        at_s=now_s,
        runs=list(_runs(platform)),
        cells=list(_cells(status, agents, now_s, before)),
        agents=agents,
        breakers=_breakers(platform),
    )


def _agent(told: Mapping[str, Any]) -> dict[str, Any]:
    running = list(told.get("running") or ())
    return {
        "address": str(told.get("address", "")),
        "state": str(told.get("state", "")),
        "cell": str(told.get("cell", "")),
        "mailbox": int(told.get("mailbox") or 0),
        "turns": len(running),
        "running": running,
        "run": str(told.get("run") or ""),
    }


def _runs(platform: Platform) -> Iterator[dict[str, Any]]:
    """Runs that are not over, newest first."""
    active = [row["run"] for row in platform.runs() if row.get("state") not in TERMINAL_RUNS]
    for run_id in active[:RUNS_SHOWN_MAX]:
        view = read(platform.run(run_id))
        yield {
            "run": view.run_id,
            "plan": view.plan,
            "state": view.state,
            "tasks": len(view.tasks),
            "tasks_ended": sum(task.terminal for task in view.tasks),
            "in_flight": view.in_flight,
            "spent": {budget.unit: budget.spent for budget in view.budget},
            "limits": {budget.unit: budget.limit for budget in view.budget if budget.limit is not None},
        }


def _cells(
    status: Mapping[str, Any], agents: Iterable[Mapping[str, Any]], now_s: float, before: Sample | None
) -> Iterator[dict[str, Any]]:
    """A row for each process that hosts agents, its cost found by its pid."""
    costs = {use.get("pid"): use for use in status.get("processes") or ()}
    pids = dict(_pids(status.get("tree") or {}))
    earlier = {row["cell"]: row for row in before.cells} if before is not None else {}
    hosted: dict[str, list[Mapping[str, Any]]] = {name: [] for name in pids if name.startswith("cell-")}
    for agent in agents:
        hosted.setdefault(agent["cell"], []).append(agent)
    for name in sorted(hosted):
        pid = pids.get(name)
        cost = costs.get(pid) or {}
        last = earlier.get(name) or {}
        yield {
            "cell": name,
            "pid": pid,
            "agents": len(hosted[name]),
            "turns": sum(agent["turns"] for agent in hosted[name]),
            "mailboxes": sum(agent["mailbox"] for agent in hosted[name]),
            "rss_bytes": cost.get("rss_bytes"),
            "cpu_s": cost.get("cpu_s"),
            "cpu_percent": _percent(cost, last, pid, now_s, before),
        }


def _percent(
    cost: Mapping[str, Any], last: Mapping[str, Any], pid: int | None, now_s: float, before: Sample | None
) -> float | None:
    """Of one core, since the sample before; None where there is none of this very process."""
    if before is None or now_s <= before.at_s or last.get("pid") != pid:
        return None
    if cost.get("cpu_s") is None or last.get("cpu_s") is None:
        return None
    used_s = float(cost["cpu_s"]) - float(last["cpu_s"])
    return round(100 * max(used_s, 0.0) / (now_s - before.at_s), 1)


def _pids(node: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    if node.get("pid"):
        yield str(node.get("name", "")), int(node["pid"])
    for child in node.get("children") or ():
        yield from _pids(child)


def _breakers(platform: Platform) -> list[dict[str, Any]] | None:
    """The circuits that are not closed, as each cell that stands before one tells them."""
    ask = getattr(platform, "breakers", None)
    if ask is None:
        return None
    rows: Iterable[dict[str, Any]] = ask()
    return [row for row in rows if row.get("state") != "closed"]


@click.command(
    "top",
    cls=Command,
    examples="""
    aip top
    aip top --sort turns --interval 5s
    aip top --once -o json
    """,
)
@click.option("--once", is_flag=True, help="Show it once and end.")
@click.option(
    "--interval",
    "interval_s",
    type=DurationType(),
    default=INTERVAL_S,
    help="Between two looks (default: 2s).",
)
@click.option(
    "--sort",
    type=click.Choice(list(SORTS)),
    default="mailbox",
    show_default=True,
    help="Order of the agents.",
)
def top(once: bool, interval_s: float, sort: str) -> None:
    """Show what the platform is at: runs, cells, agents, open circuits.

    Goes on until Ctrl-C in a terminal, and as `-o ndjson`: a line for each look. Elsewhere it shows one. Exit code 7 if there
    is no platform.
    """
    one = session()
    interval_s = max(interval_s, INTERVAL_S_MIN)
    with one.platform() as platform:
        if once or not (one.format is Format.NDJSON or (not one.machine and one.out.file.isatty())):
            show(one, sample(platform, one.clock(), sort))
            return
        try:
            if one.format is Format.NDJSON:
                for found in samples(platform, one.clock, sort, interval_s):
                    show(one, found)
            else:
                _live(one, samples(platform, one.clock, sort, interval_s))
        except KeyboardInterrupt:
            return  # How one leaves it.


def samples(
    platform: Platform,
    clock: Callable[[], float],
    sort: str,
    interval_s: float,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[Sample]:
    """A sample each `interval_s`, without end."""
    last: Sample | None = None
    while True:
        last = sample(platform, clock(), sort, last)
        yield last
        pause(interval_s)


def show(one: Session, found: Sample) -> None:
    if one.machine:
        write = text.compact_json if one.format is Format.NDJSON else text.pretty_json
        one.write(write(found.to_json()))
    else:
        one.out.print(Screen(found, height=None))


def _live(one: Session, found: Iterator[Sample]) -> None:
    from rich.live import Live

    with Live(console=one.out, screen=True, auto_refresh=False) as live:
        for one_sample in found:
            live.update(Screen(one_sample, height=one.out.height), refresh=True)


@dataclass(frozen=True, slots=True)
class Screen:
    """One frame. `height` None: as long as it is, for a page or a pipe."""

    sample: Sample
    height: int | None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        found = self.sample
        told = [measure.clock_time(found.at_s), measure.count(len(found.agents), "agent")]
        told += [measure.count(len(found.cells), "cell"), measure.count(len(found.runs), "active run")]
        yield Text("  ".join(told), "bold")
        yield from _section(found.runs, RUN_COLUMNS)
        yield from _section(found.breakers or [], BREAKER_COLUMNS)
        if found.breakers is None:
            yield Text("circuits: this platform does not tell them", "dim")
        yield from _section(found.cells, CELL_COLUMNS)
        room = AGENTS_SHOWN_MAX
        if self.height is not None:
            above = len(found.runs) + len(found.cells) + len(found.breakers or ())
            room = max(self.height - above - MARGIN_LINES, 3)
        yield from _section(found.agents[:room], AGENT_COLUMNS)
        if len(found.agents) > room:
            yield Text(f"and {len(found.agents) - room:,} more agents", "dim")


def _section(rows: list[dict[str, Any]], columns: tuple[Column, ...]) -> Iterator[Table | str]:
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column.title, justify="right" if column.right else "left", no_wrap=True)
    for row in rows:
        cells = [text.line(column.cell(row)) for column in columns]
        table.add_row(*(Text(cell, column.style(cell)) for cell, column in zip(cells, columns, strict=True)))
    yield ""
    yield table


def _state_style(state: str) -> str:
    from .screen import STATE_STYLES

    return STATE_STYLES.get(state, "")


def _spend(row: Row) -> str:
    limits = row["limits"]
    return ", ".join(
        f"{measure.unit_name(unit)} {measure.amount(unit, spent)}"
        + (f" of {measure.amount(unit, limits[unit])}" if unit in limits else "")
        for unit, spent in row["spent"].items()
    )


def _rate(row: Row) -> str:
    percent = row.get("failure_percent")
    return "" if percent is None else f"{percent:.0f} %"


def _due(row: Row) -> str:
    return "" if row.get("due_in_s") is None else measure.duration(row["due_in_s"])


RUN_COLUMNS = (
    Column("RUN", lambda row: row["run"]),
    Column("PLAN", lambda row: row["plan"]),
    Column("STATE", lambda row: row["state"], style=_state_style),
    Column("TASKS", lambda row: f"{row['tasks_ended']}/{row['tasks']}", right=True),
    Column("AT WORK", lambda row: row["in_flight"], right=True),
    Column("SPENT", _spend),
)
BREAKER_COLUMNS = (
    Column("CIRCUIT", lambda row: row.get("name", "")),
    Column(
        "STATE", lambda row: row.get("state", ""), style=lambda state: "red" if state == "open" else "yellow"
    ),
    Column("CELL", lambda row: row.get("cell", "")),
    Column("FAILED", _rate, right=True),
    Column("REFUSED", lambda row: row.get("refused", ""), right=True),
    Column("TRIES AGAIN IN", _due, right=True),
)
CELL_COLUMNS = (
    Column("CELL", lambda row: row["cell"]),
    Column("PID", lambda row: row["pid"] or "", right=True),
    Column("AGENTS", lambda row: row["agents"], right=True),
    Column("TURNS", lambda row: row["turns"], right=True),
    Column("MAIL", lambda row: row["mailboxes"], right=True),
    Column("MEMORY", lambda row: measure.size(row["rss_bytes"]) if row["rss_bytes"] else "", right=True),
    Column(
        "CPU", lambda row: "" if row["cpu_percent"] is None else f"{row['cpu_percent']:.0f} %", right=True
    ),
    Column("CPU TIME", lambda row: measure.duration(row["cpu_s"]), right=True),
)
AGENT_COLUMNS = (
    Column("AGENT", lambda row: row["address"]),
    Column("STATE", lambda row: row["state"]),
    Column("MAIL", lambda row: row["mailbox"], right=True),
    Column("DOING", lambda row: ", ".join(row["running"])),
    Column("RUN", lambda row: row["run"]),
    Column("CELL", lambda row: row["cell"]),
)
