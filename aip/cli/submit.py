"""`aip submit`: run a plan and stay with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import click

from ..errors import PlatformUnavailable
from . import measure, plan_file
from .audit import GrowingLog
from .command import Command
from .contract import Json, Platform
from .key_value import KEY_VALUE, collected
from .session import Session, person, session


@click.command(
    "submit",
    cls=Command,
    examples="""
    aip submit plan.yaml
    aip submit plan.yaml -i topic=bees -i sources=5
    aip submit plan.yaml --detach -o json
    """,
)
@click.argument("plan", type=click.Path(path_type=Path))
@click.option(
    "-i",
    "--input",
    "inputs",
    type=KEY_VALUE,
    multiple=True,
    help="An input of the plan; @FILE for a file's content; repeatable.",
)
@click.option("--detach", is_flag=True, help="Print the run's id and leave it running.")
@click.option(
    "--idempotency-key",
    default="",
    metavar="KEY",
    help="The same key again gives the same run, not another one.",
)
@click.option(
    "--rank-by",
    type=click.Choice(["hops", "measured"]),
    default="measured",
    show_default=True,
    help="What starts first: the longest way to go in the time of earlier runs, if there were any, or in tasks.",
)
@click.option(
    "--chaos", type=int, metavar="SEED", hidden=True, help="Kill a cell and the run's process on the way."
)
def submit(
    plan: Path,
    inputs: tuple[tuple[str, str], ...],
    detach: bool,
    idempotency_key: str,
    rank_by: str,
    chaos: int | None,
) -> None:
    """Run a plan and watch it.

    Starts a platform if there is none. The first Ctrl-C cancels the run and waits for its end; the second leaves at once.
    """
    from ..governance.audit import log_path
    from ..orchestration.parse import resolve_inputs

    one = session()
    resolved = resolve_inputs(plan_file.parsed(plan), collected(inputs), Path.cwd())
    values = {
        name: value for name, value in resolved.items() if value is not None
    }  # What is left out stays left out.
    with started(one, lambda: plan_file.checked(plan, one.library)) as platform:
        log = GrowingLog.from_now(log_path(one.folder.audit))
        run_id = platform.submit(
            plan.absolute(), values, idempotency_key=idempotency_key, by=person(), rank_by=rank_by
        )
        if detach:
            show_id(one, run_id)
            return
        from .chaos import Chaos
        from .follow import follow
        from .trouble import TroubleWatch

        one.say(f"run {run_id}")
        blows = nullcontext() if chaos is None else Chaos(one, platform, run_id, chaos)
        with blows, TroubleWatch(one, run_id, log):
            code = follow(one, platform, run_id)
    click.get_current_context().exit(code)


def show_id(session: Session, run_id: str) -> None:
    from .output import show_value

    show_value(session, {"run": run_id}, lambda: session.write(run_id))
    session.say(f"next  aip logs -f {run_id}   or   aip run show {run_id}")


@contextmanager
def started(session: Session, before: Callable[[], object]) -> Iterator[Platform]:
    """The running platform, or a new one. `before` is done only where one must be started: a plan that is wrong starts none."""
    library, home = session.library, session.folder
    try:
        platform = library.connect(home)
    except PlatformUnavailable:
        before()
        session.say("no platform is running: starting one")
        platform = library.connect(home, start=True, on_progress=session.say)
        with closing(platform):
            session.say(cost(platform.status()))
            yield platform
        return
    with closing(platform):
        yield platform


def cost(status: Json) -> str:
    """What it means that a platform stays up."""
    processes = status.get("processes") or []
    memory = measure.size(sum(int(one.get("rss_bytes") or 0) for one in processes))
    idle_s = status.get("idle_stop_s")
    until = f"until it was idle for {measure.duration(idle_s)}" if idle_s else "until you end it"
    count = measure.count(len(processes), "process")
    return f"the platform stays up {until} ({count}, {memory}); end it now with: aip down"
