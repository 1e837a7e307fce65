"""`aip up | down | status | doctor`: the platform on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict
from typing import Any

import click

from ..errors import AIPError
from . import measure, text
from .command import Command
from .contract import Json
from .exit_code import ExitCode
from .output import Column, show_rows, show_value
from .session import Session, session
from .submit import cost


class DurationType(click.ParamType):  # type: ignore[type-arg]  # Generic in newer click only.
    """`90s`, `30m`, `1h30m`: durations as plans have them."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from ..orchestration.parse.units import duration_s

        seconds = value if isinstance(value, float) else duration_s(str(value))
        if not seconds:
            self.fail(f"{value!r} is not a duration; write it like 90s, 30m or 1h30m", param, ctx)
        return float(seconds)


@click.command(
    "up",
    cls=Command,
    examples="""
    aip up
    aip up --dashboard --idle-stop 2h
    """,
)
@click.option("--dashboard", is_flag=True, help="Also start Ray's dashboard.")
@click.option("--idle-stop", type=DurationType(), help="End it after this long without work (default: 30m).")
def up(dashboard: bool, idle_stop: float | None) -> None:
    """Start the platform, or say that it runs.

    It outlives this command, ends itself when nothing used it for a while, and `aip down` ends it at once.
    """
    from actors.ray_head import LaunchOptions

    one = session()
    options: dict[str, Any] = {}
    if dashboard:
        options["options"] = LaunchOptions(dashboard=True)
    if idle_stop is not None:
        options["idle_stop_s"] = idle_stop
    with closing(one.library.connect(one.folder, start=True, on_progress=one.say, **options)) as platform:
        status = platform.status()
    show_value(
        one, status, lambda: one.write(f"platform {status.get('platform_id')} at {status.get('address')}")
    )
    if status.get("dashboard_url"):
        one.say(f"dashboard: {status['dashboard_url']}")
    one.say(cost(status))


@click.command("down", cls=Command, examples="aip down")
def down() -> None:
    """End the platform and everything it started.

    Touches no other Ray. The records of runs stay, and runs that were at work go on after the next start.
    """
    from actors import launch

    one = session()
    stopped = launch.stop(one.folder, on_progress=one.say)

    def tell() -> None:
        if stopped.platform_id is None:
            one.say("no platform was running")
        elif not stopped.left:
            one.say(
                f"ended {measure.count(len(stopped.ended), 'process')} in {measure.duration(stopped.took_s)}; nothing is left"
            )

    show_value(one, asdict(stopped), tell)
    if stopped.left:
        raise NotEnded(
            f"could not end or remove: {', '.join(stopped.left)}",
            hint="look at them with `ps`, then run `aip down` again",
            left=list(stopped.left),
        )


class NotEnded(AIPError):
    """Something of the platform is still there after `aip down`."""

    code = "platform.not_ended"
    retryable = True


@click.command(
    "status",
    cls=Command,
    examples="""
    aip status
    aip status -o json
    """,
)
def status() -> None:
    """Show what runs, and what it costs.

    The supervision tree, the processes, the runs, the kill orders that stand. Exit code 7 if there is no platform.
    """
    one = session()
    with one.platform() as platform:
        found = platform.status()
    show_value(one, found, lambda: show_status(one, found))


def show_status(session: Session, status: Json) -> None:
    up = measure.duration(status.get("since_s"))
    session.write(text.line(f"platform {status.get('platform_id')} at {status.get('address')}, up {up}"))
    runs = ", ".join(f"{count} {state}" for state, count in (status.get("runs") or {}).items()) or "none"
    session.write(text.line(f"agents   {status.get('agents', 0)}"))
    session.write(text.line(f"runs     {runs}"))
    session.write(text.line(f"checks   {', '.join(status.get('checks') or ()) or 'none'}"))
    for order in status.get("kill_orders") or ():
        session.write(
            text.line(f"killed   {order.get('target')} by {order.get('by')}: {order.get('reason')}")
        )
    session.write("")
    for line in tree_lines(status.get("tree") or {}):
        session.write(line)
    session.write("")
    show_rows(session, status.get("processes") or [], PROCESS_COLUMNS, nothing="no processes")
    session.say(cost(status))


PROCESS_COLUMNS = (
    Column("PROCESS", lambda row: row.get("role", "")),
    Column("PID", lambda row: row.get("pid", ""), right=True),
    Column("MEMORY", lambda row: measure.size(row.get("rss_bytes") or 0), right=True),
    Column("CPU", lambda row: measure.duration(row.get("cpu_s")), right=True),
)


def tree_lines(node: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """The supervision tree, a child below its supervisor."""
    if not node:
        return
    restarts = int(node.get("restarts") or 0)
    told = f"{node.get('name')}  {node.get('state')}"
    told += f"  pid {node['pid']}" if node.get("pid") else ""
    told += f"  restarted {measure.count(restarts, 'time')}" if restarts else ""
    yield indent + text.line(told)
    for child in node.get("children") or ():
        yield from tree_lines(child, indent + "  ")


@click.command("doctor", cls=Command, examples="aip doctor")
def doctor() -> None:
    """Check this machine for what a platform needs.

    Each finding says what to do about it. Exit code 1 if one of them keeps a platform from running.
    """
    from actors.doctor import doctor as examine

    one = session()
    findings = [asdict(finding) for finding in examine(one.folder)]
    show_rows(one, findings, FINDING_COLUMNS, nothing="nothing was checked")
    if not one.machine:
        for finding in findings:
            if finding["status"] != "ok" and finding.get("hint"):
                one.say(f"next  {finding.get('check')}: {finding['hint']}")
    if any(finding["status"] == "fail" for finding in findings):
        click.get_current_context().exit(ExitCode.FAILED)


FINDING_COLUMNS = (
    Column(
        "STATUS",
        lambda row: row["status"],
        style=lambda level: {"ok": "green", "warn": "yellow", "fail": "red"}.get(level, ""),
    ),
    Column("CHECK", lambda row: row.get("check", "")),
    Column("FOUND", lambda row: row.get("text", "")),
)
