"""Staying with a run until it ends or waits for a person: drawn live in a terminal, told line by line elsewhere.

The first Ctrl-C asks the run to cancel and stays until it has ended, so that nothing of it is left at work. The second leaves at
once; the cancellation stands.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from . import failure, measure, text
from .contract import Platform
from .exit_code import ExitCode, of_run
from .records import Records
from .session import Session
from .view import RunView, read

FRAMES_PER_S = 8  # The eye sees motion, the terminal has little to do.


def follow(session: Session, platform: Platform, run_id: str) -> ExitCode:
    """Watch the run to its end, tell it, and return what to tell the shell."""
    try:
        _watch(session, platform, run_id)
    except KeyboardInterrupt:
        try:
            session.say(f"cancelling {run_id}; Ctrl-C again leaves at once")
            platform.cancel(run_id, "Ctrl-C")
            _watch(session, platform, run_id)
        except KeyboardInterrupt:
            session.say(f"left; its cancellation goes on: aip run show {run_id}")
            return ExitCode.CANCELLED_OR_KILLED
    return tell_end(session, Records(session, platform), platform.run(run_id))


def _watch(session: Session, platform: Platform, run_id: str) -> None:
    last: RunView | None = None
    with _picture(session) as picture:
        for json in platform.watch(run_id):
            new = read(json)
            picture.show(last, new)
            last = new
            if new.at_rest:
                break


class _Lines:
    """One line for each thing that happened, with the time of day."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def show(self, old: RunView | None, new: RunView) -> None:
        from .screen import changes

        now = measure.clock_time(self._session.clock())
        for line in changes(old, new):
            self._session.say(f"{now} {line}")


class _Frames:
    """The latest view, drawn again several times a second so that clocks tick between changes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._view: RunView | None = None

    def show(self, _: RunView | None, new: RunView) -> None:
        with self._lock:
            self._view = new

    @property
    def view(self) -> RunView | None:
        with self._lock:
            return self._view


@contextmanager
def _picture(session: Session) -> Iterator[_Lines | _Frames]:
    if not session.live:
        yield _Lines(session)
        return
    from rich.live import Live
    from rich.text import Text

    from .screen import RunScreen

    frames = _Frames()

    def frame() -> RunScreen | Text:
        view = frames.view
        return RunScreen(view, session.clock()) if view else Text("waiting for the run", "dim")

    with Live(
        get_renderable=frame,
        console=session.err,
        refresh_per_second=FRAMES_PER_S,
        vertical_overflow="crop",
        redirect_stdout=False,
        redirect_stderr=False,
    ) as live:
        yield frames
        live.refresh()  # The last view, not the one of the last tick.


def tell_end(session: Session, records: Records, json: dict[str, object]) -> ExitCode:
    """The outcome: data on stdout, what failed and what to do next on stderr."""
    view = read(json)
    if view.state == "paused":
        view = replace(view, moved_by=records.moved_by(view.run_id))
    if session.machine:
        session.write((text.compact_json if session.format == "ndjson" else text.pretty_json)(json))
    elif view.outputs:
        session.write(text.pretty_json(view.outputs))
    if not session.machine:
        tell_person(session, records, view)
    return of_run(view.state, view.cause)


def tell_person(session: Session, records: Records, view: RunView) -> None:
    failed = [task.name for task in view.failed_tasks[: failure.FAILED_TASKS_SHOWN_MAX]]
    tails = {name: failure.tail_of(records.logs(view.run_id, name)) for name in failed}
    for told in failure.failed_tasks(view, tails, session.clock()):
        session.say(told)
    run_id = view.run_id
    if view.state == "failed" and not failed and view.cause:
        session.say(f"failed: {text.line(view.cause.get('message', ''))}")
    elif view.state == "held":
        for gate in view.gates:
            session.say(f"held: {text.line(gate.question)}")
            session.say(
                f"  next  aip approve {run_id}/{gate.task}   or   aip approve --deny {run_id}/{gate.task}"
            )
    elif view.state == "paused":
        unit = view.budget[0].unit if view.budget else "UNIT"
        more = f" --budget {unit}=AMOUNT" if view.cause else ""
        session.say(f"paused: {text.line(view.reason)}")
        session.say(f"  next  aip resume {run_id}{more}")
    elif view.state in ("cancelled", "killed"):
        session.say(text.line(view.reason or view.state))
