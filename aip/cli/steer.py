"""`aip cancel | pause | resume | approve | retry`: what a person may do to a run that is at work or at rest."""

from __future__ import annotations

from collections.abc import Callable

import click

from ..errors import UsageError
from .command import Command
from .contract import Json, Platform
from .key_value import AMOUNT
from .output import show_value
from .records import Records, known_task
from .run_address import RUN, RUN_OR_TASK, TASK, RunAddress
from .session import person, session


def _act(address: RunAddress, act: Callable[[Platform, str], str]) -> None:
    """Do it to the one run that is meant, then tell what was done and how the run stands."""
    one = session()
    with one.platform() as platform:
        run_id = Records(one, platform).id_of(address)
        done = act(platform, run_id)
        view = platform.run(run_id)
    show_value(
        one, {"run": run_id, "done": done, "state": view.get("state")}, lambda: one.say(f"{run_id}: {done}")
    )


@click.command(
    "cancel",
    cls=Command,
    examples="""
    aip cancel last
    aip cancel r-01jd --reason "wrong input"
    """,
)
@click.argument("address", metavar="RUN", type=RUN)
@click.option("--reason", default="", metavar="TEXT", help="Why; it is recorded.")
def cancel(address: RunAddress, reason: str) -> None:
    """Cancel a run: its agents are told to stop."""

    def act(platform: Platform, run_id: str) -> str:
        platform.cancel(run_id, reason or f"cancelled by {person()}")
        return "asked to cancel"

    _act(address, act)


@click.command("pause", cls=Command, examples="aip pause last")
@click.argument("address", metavar="RUN", type=RUN)
def pause(address: RunAddress) -> None:
    """Pause a run: nothing new starts."""

    def act(platform: Platform, run_id: str) -> str:
        platform.pause(run_id)
        return f"paused; what is at work finishes. Next: aip resume {run_id}"

    _act(address, act)


@click.command(
    "resume",
    cls=Command,
    examples="""
    aip resume last
    aip resume last --budget tokens=500_000
    """,
)
@click.argument("address", metavar="RUN", type=RUN)
@click.option("--budget", type=AMOUNT, multiple=True, help="The new limit of a unit; repeatable.")
def resume(address: RunAddress, budget: tuple[tuple[str, int], ...]) -> None:
    """Go on with a paused run, with more budget if you say so."""
    if len(dict(budget)) < len(budget):
        raise UsageError("one unit has two amounts", hint="give each --budget unit once")

    def act(platform: Platform, run_id: str) -> str:
        platform.resume(run_id, dict(budget))
        return f"goes on. Next: aip logs -f {run_id}"

    _act(address, act)


@click.command(
    "approve",
    cls=Command,
    examples="""
    aip approve last/publish
    aip approve last --deny --comment "not before Monday"
    """,
)
@click.argument("address", metavar="RUN[/TASK]", type=RUN_OR_TASK)
@click.option("--deny", is_flag=True, help="Say no.")
@click.option("--comment", default="", metavar="TEXT", help="What you want recorded with it.")
def approve(address: RunAddress, deny: bool, comment: str) -> None:
    """Answer the question that a run waits with.

    TASK may be left out where the run asks one question only.
    """

    def act(platform: Platform, run_id: str) -> str:
        task = open_gate(platform.run(run_id), address.task)
        platform.decide(run_id, task, not deny, person(), comment)
        return f"{task} {'denied' if deny else 'approved'}"

    _act(address, act)


def open_gate(view: Json, task: str | None) -> str:
    """The task whose question is answered. Raises `UsageError` that lists the open ones."""
    waiting = [str(gate["task"]) for gate in view.get("gates") or ()]
    if task is not None:
        known_task(view, task)
        if task not in waiting:
            raise UsageError(
                f"{task} does not wait for an answer",
                hint=f"these do: {', '.join(waiting)}"
                if waiting
                else f"nothing does; see aip run show {view.get('run')}",
            )
        return task
    if len(waiting) == 1:
        return waiting[0]
    if not waiting:
        raise UsageError(f"run {view.get('run')} asks nothing", hint=f"see aip run show {view.get('run')}")
    raise UsageError(
        f"run {view.get('run')} asks {len(waiting)} questions",
        hint=f"name one: {view.get('run')}/{waiting[0]}, …",
    )


@click.command("retry", cls=Command, examples="aip retry last/read")
@click.argument("address", metavar="RUN/TASK", type=TASK)
def retry(address: RunAddress) -> None:
    """Run a task again, and all that depends on it."""

    def act(platform: Platform, run_id: str) -> str:
        task = known_task(platform.run(run_id), address.task or "")
        platform.retry(run_id, task)
        return f"{task} and what depends on it run again. Next: aip logs -f {run_id}"

    _act(address, act)
