"""`aip schedule`: plans that the clock submits. What each rule means is in docs/schedules.md."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import click

from . import measure, plan_file, text
from .command import Noun
from .contract import Json
from .key_value import KEY_VALUE, collected
from .output import Column, Row, show_rows, show_value
from .platform import DurationType
from .session import Session, person, session
from .submit import show_id, started

if TYPE_CHECKING:
    from ..orchestration.timetable import Schedule


class Scheduler(Protocol):
    """What these commands need of a platform."""

    def create_schedule(self, plan_path: Path, inputs: Json, schedule: Schedule, *, by: str = "") -> Json: ...
    def schedules(self) -> list[Json]: ...
    def schedule(self, name: str) -> Json: ...
    def pause_schedule(self, name: str) -> Json: ...
    def resume_schedule(self, name: str) -> Json: ...
    def remove_schedule(self, name: str) -> Json: ...
    def run_schedule(self, name: str) -> str: ...


@contextmanager
def scheduler(one: Session) -> Iterator[Scheduler]:
    with one.platform() as platform:
        yield cast(Scheduler, platform)


def _next(row: Row) -> str:
    return next((str(one["at"]) for one in row["next"]), "")


COLUMNS = (
    Column("NAME", lambda row: row["name"]),
    Column("STATE", lambda row: row["state"]),
    Column("CRON", lambda row: row["cron"]),
    Column("TIMEZONE", lambda row: row["timezone"]),
    Column("NEXT", _next),
    Column("LAST RUN", lambda row: row["last_run"]),
    Column("STARTED", lambda row: row["started"], right=True),
    Column("MISSED", lambda row: row["missed"], right=True),
    Column("SKIPPED", lambda row: row["skipped"], right=True),
)


@click.group(
    "schedule",
    cls=Noun,
    examples="""
    aip schedule create plan.yaml --cron "0 9 * * 1-5" --timezone Europe/Zurich
    aip schedule list
    """,
)
def schedule() -> None:
    """Submit a plan by the clock: create, list, show, pause, resume, run, rm.

    Schedules live with the platform: it stays up while one is active. Times that come while it is down follow --catch-up.
    """


@schedule.command(
    "create",
    examples="""
    aip schedule create plan.yaml --cron "0 9 * * 1-5" --timezone Europe/Zurich
    aip schedule create plan.yaml --cron "*/15 * * * *" --name poll -i topic=bees --overlap queue --catch-up none
    aip schedule create plan.yaml --cron "0 3 1 * *" --starts 2027-01-01 --ends 2027-12-31 --jitter 10m
    """,
)
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("--cron", required=True, help="When: minute hour day month weekday.")
@click.option("--timezone", default="UTC", show_default=True, help="Whose clock, such as Europe/Zurich.")
@click.option("--name", default="", help="What to call it (default: the plan's name).")
@click.option(
    "-i", "--input", "inputs", type=KEY_VALUE, multiple=True, help="An input of the plan; repeatable."
)
@click.option(
    "--overlap",
    type=click.Choice(["skip", "queue", "allow"]),
    default="skip",
    show_default=True,
    help="What a time does that comes while an earlier run is at work.",
)
@click.option(
    "--catch-up",
    type=click.Choice(["none", "one", "all"]),
    default="one",
    show_default=True,
    help="Which of the times are run that came while the platform was down; all is ten at most.",
)
@click.option("--starts", metavar="TIME", help="No run before this date, or date and time.")
@click.option("--ends", metavar="TIME", help="No run after this date, or date and time.")
@click.option("--jitter", type=DurationType(), help="Start each run up to this much later, such as 30s.")
def create(
    plan: Path,
    cron: str,
    timezone: str,
    name: str,
    inputs: tuple[tuple[str, str], ...],
    overlap: str,
    catch_up: str,
    starts: str | None,
    ends: str | None,
    jitter: float | None,
) -> None:
    """Check a plan, pack its code as it is now, and submit it by the clock from now on.

    A plan with an input `scheduled_at` (a string) is given the planned time in it. An edited plan or agent takes a new schedule.
    """
    from ..orchestration import timetable

    one = session()
    parsed = plan_file.parsed(plan)
    declared = timetable.checked(
        timetable.Schedule(
            name or parsed.name.lower(),
            " ".join(cron.split()),
            one.clock(),
            timezone=timezone,
            overlap=timetable.Overlap(overlap),
            catch_up=timetable.CatchUp(catch_up),
            starts_at=None if starts is None else timetable.moment(starts, timezone, "starts"),
            ends_at=None if ends is None else timetable.moment(ends, timezone, "ends"),
            jitter_s=jitter or 0.0,
        )
    )
    with started(one, lambda: plan_file.checked(plan, one.library)) as platform:
        made = cast(Scheduler, platform).create_schedule(
            plan.absolute(), dict(collected(inputs)), declared, by=person()
        )
    _tell(one, made)


@schedule.command(
    "list",
    examples="""
    aip schedule list
    aip schedule list -o json
    """,
)
def list_schedules() -> None:
    """List schedules with their next time and what became of the earlier ones."""
    one = session()
    with scheduler(one) as platform:
        rows = platform.schedules()
    show_rows(
        one, rows, COLUMNS, nothing='no schedules; make one: aip schedule create plan.yaml --cron "0 9 * * *"'
    )


@schedule.command(
    "show",
    examples="""
    aip schedule show report
    aip schedule show report -o json
    """,
)
@click.argument("name")
def show(name: str) -> None:
    """Show a schedule and its next five times."""
    one = session()
    with scheduler(one) as platform:
        _tell(one, platform.schedule(name))


@schedule.command(
    "pause",
    examples="""
    aip schedule pause report
    """,
)
@click.argument("name")
def pause(name: str) -> None:
    """Start no more runs until `resume`; those at work go on."""
    one = session()
    with scheduler(one) as platform:
        made = platform.pause_schedule(name)
    show_value(one, made, lambda: one.say(f"{name} is paused; go on with: aip schedule resume {name}"))


@schedule.command(
    "resume",
    examples="""
    aip schedule resume report
    """,
)
@click.argument("name")
def resume(name: str) -> None:
    """Go on with the next time; those of the pause are not made up for."""
    one = session()
    with scheduler(one) as platform:
        made = platform.resume_schedule(name)
    show_value(one, made, lambda: one.say(f"{name} goes on; next {_next(made) or 'never'}"))


@schedule.command(
    "rm",
    examples="""
    aip schedule rm report
    """,
)
@click.argument("name")
def remove(name: str) -> None:
    """End a schedule; its runs stay, those at work go on."""
    one = session()
    with scheduler(one) as platform:
        made = platform.remove_schedule(name)
    show_value(one, made, lambda: one.say(f"{name} is gone"))


@schedule.command(
    "run",
    examples="""
    aip schedule run report
    aip schedule run report -o json
    """,
)
@click.argument("name")
def run(name: str) -> None:
    """Start one run of it now, beside the clock, and print its id."""
    one = session()
    with scheduler(one) as platform:
        show_id(one, platform.run_schedule(name))


def _tell(one: Session, made: Json) -> None:
    show_value(one, made, lambda: one.write("\n".join(lines(made))))


def lines(made: Json) -> Iterator[str]:
    """A schedule for a person: what it is, what comes, what came."""
    rules = [f"overlap {made['overlap']}", f"catch-up {made['catch_up']}"]
    rules += [f"jitter {measure.duration(made['jitter_s'])}"] if made["jitter_s"] else []
    told: list[tuple[str, Any]] = [
        (made["name"], f"{made['state']}, plan {made['plan']}, by {made['created_by']}"),
        ("cron", f"{made['cron']}   {made['timezone']}"),
        ("rules", ", ".join(rules)),
        ("starts", measure.moment(made["starts_at_s"])),
        ("ends", measure.moment(made["ends_at_s"])),
        *(("next" if number == 0 else "", one["at"]) for number, one in enumerate(made["next"])),
        ("waiting", ", ".join(made["waiting"])),
        ("running", ", ".join(made["running"])),
        ("last run", made["last_run"]),
        ("so far", f"{made['started']} started, {made['missed']} missed, {made['skipped']} skipped"),
        ("trouble", made["trouble"]),
    ]
    width = max(len(title) for title, _ in told)
    yield from (f"{title:<{width}}  {text.line(value)}" for title, value in told if value)
