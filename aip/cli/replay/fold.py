"""A run again, event by event: what each one changed, what follows from it, and whether it all comes to what was stored.

Verified: that each event can follow the one before it; that every attempt's arguments, evaluated again, have the hash they had;
that an ended run has nothing left to do; that the last view is the one the journal gives.

Not verified: what agents answered. A result is recorded and believed; `rehearsal` asks again.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ...errors import AIPError, NotFound
from ...orchestration.run import RunMachine
from ...orchestration.run_events import AnyEvent, AttemptStarted
from ...orchestration.run_scope import Scopes
from ...orchestration.run_state import Run
from ...orchestration.run_task import TaskRun
from ...orchestration.run_view import view
from ...settings import DEFAULT_LIMITS
from .. import measure
from ..run_diff import DIFFERENCES_MAX, difference_lines, differences
from .stored import Stored

NOT_FOLDED = frozenset({"version", "fsyncs", "plan_file", "stale_reports"})  # Of the process, not of the run.


@dataclass(slots=True)
class Verdict:
    """What a replay found. `problems` is empty where the journal comes to what was stored."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    arguments_checked: int = 0
    arguments_gone: int = 0  # Made of artifacts that the run has let go of since.
    view_compared: bool = False
    would_do: list[str] = field(
        default_factory=list
    )  # What a platform that takes the run up now would begin with.


def replay_run(stored: Stored) -> Verdict:
    """Fold the whole journal, tell every step, verify what it comes to. Raises `Corrupt` at an event that cannot be."""
    found = Verdict()
    machine = RunMachine(stored.plan, load=stored.load, rng=random.Random(0))
    run = machine.run
    scopes = Scopes(run, stored.load, DEFAULT_LIMITS)
    for index, event in stored.events:
        task = _task_of(run, event)
        before = _standing(run, event, task)
        run.apply(event)
        step = {"index": index, "at_s": event.at_s, "event": _tag(event), **_about(event, task)}
        after = _standing(run, event, task)
        step["changes"] = [
            f"{who} {before[who]} -> {now}" for who, now in after.items() if before[who] != now
        ]
        step["then"] = _then(run, event, task)
        found.steps.append(step)
        if task is not None and step["event"] == "run_retried":
            for again in task.downstream():
                scopes.forget(again)
        if isinstance(event, AttemptStarted):
            _check_arguments(found, index, scopes, run.tasks[event.task], event)
    shown = {**view(machine), "outputs": machine.outputs() if str(run.state) == "succeeded" else None}
    _check_view(found, stored.view, shown)
    _check_end(found, stored)
    return found


def _task_of(run: Run, event: AnyEvent) -> TaskRun | None:
    name = getattr(event, "task", None)
    if name is None and (attempt := run.in_flight.get(getattr(event, "lease", -1))) is not None:
        return attempt.task
    return run.tasks.get(name or "")


def _standing(run: Run, event: AnyEvent, task: TaskRun | None) -> dict[str, str]:
    """The states that this event may move: the run's and its task's; a person's retry moves all downstream."""
    moved = [] if task is None else task.downstream() if _tag(event) == "run_retried" else [task]
    return {"run": str(run.state or "new"), **{one.name: str(one.state) for one in moved}}


def _tag(event: AnyEvent) -> str:
    return str(event.__struct_config__.tag)


def _about(event: AnyEvent, task: TaskRun | None) -> dict[str, Any]:
    told = {key: getattr(event, key) for key in ("unit", "attempt", "lease", "item") if hasattr(event, key)}
    return {**({"task": task.name} if task is not None else {}), **told}


def _then(run: Run, event: AnyEvent, task: TaskRun | None) -> str:
    """What follows from it, in a few words."""
    teller = _CONSEQUENCES.get(_tag(event))
    return teller(run, event, task) if teller is not None else ""


def _released(run: Run, event: Any, task: TaskRun) -> str:
    free = [one.name for one in task.dependants if not one.open_needs and str(one.state) == "pending"]
    why = event.error.message if getattr(event, "error", None) is not None else getattr(event, "reason", "")
    return "; ".join(
        part for part in (why, f"nothing more to wait for: {', '.join(free)}" if free else "") if part
    )


def _asked(run: Run, event: Any, task: TaskRun) -> str:
    attempt = run.in_flight[event.lease]
    who = f"{attempt.agent}.{event.replica}" if attempt.agent else "whoever can do it"
    return f"{who} is asked for {task.spec.capability}"


def _reported(run: Run, event: Any, task: TaskRun) -> str:
    units = task.units
    parts = [f"{units.done} of {units.count} done"] if units is not None and units.count > 1 else []
    if _tag(event) == "attempt_failed":
        wait = (
            "for good"
            if event.again_at_s is None
            else f"again in {measure.duration(event.again_at_s - event.at_s)}"
        )
        parts += [f"[{event.error.code}] {event.error.message}", wait]
    parts += [f"{measure.unit_name(u)} {measure.amount(u, n)}" for u, n in event.spent.items()]
    return "; ".join(parts)


_CONSEQUENCES: dict[str, Callable[[Run, Any, Any], str]] = {
    "run_moved": lambda run, event, task: event.reason,
    "run_ending": lambda run, event, task: f"nothing new starts: {event.error.message}",
    "run_retried": lambda run, event, task: f"{event.by} begins it and all behind it again",
    "compensation_began": lambda run, event, task: f"undone, in this order: {', '.join(event.tasks)}",
    "closing_began": lambda run, event, task: "the closing tasks begin, whatever the run came to",
    "output_expired": lambda run, event, task: "its result is let go",
    "budget_raised": lambda run, event, task: f"{event.by} raises {', '.join(event.amounts)}",
    "map_expanded": lambda run, event, task: f"{measure.count(event.count, 'item')} to work on",
    "task_ended": _released,
    "task_skipped": _released,
    "gate_opened": lambda run, event, task: f"a person is asked: {event.question}",
    "gate_decided": lambda run, event, task: f"{event.decision} by {event.by}",
    "vote_tallied": lambda run, event, task: (
        f"decided: {event.tally.decision}" if event.error is None else event.error.message
    ),
    "unit_failed": lambda run, event, task: f"no attempt could be made: {event.error.message}",
    "attempt_started": _asked,
    "attempt_succeeded": _reported,
    "attempt_failed": _reported,
    "attempt_fenced": lambda run, event, task: (
        "the platform lost sight of it: it starts again under the same key"
    ),
}
"""What follows from an event; one that is not named here stands for itself."""


def _check_arguments(found: Verdict, index: int, scopes: Scopes, task: TaskRun, event: Any) -> None:
    """Arguments are journaled as a hash only, since the recorded outputs give them again: do they?"""
    try:
        given = task.spec.arguments.evaluate(scopes.unit(task, event.unit, event.attempt))
    except NotFound:
        found.arguments_gone += 1
        return
    except AIPError as error:
        found.problems.append(f"event {index}: the arguments of {task.name} cannot be told: {error.message}")
        return
    found.arguments_checked += 1
    if arguments_hash(given) != event.arguments_sha256:
        found.problems.append(f"event {index}: the arguments of {task.name} are not those that were sent")


def arguments_hash(arguments: Any) -> bytes:
    """As `AttemptStarted` has it."""
    return hashlib.sha256(msgspec.msgpack.Encoder(order="deterministic").encode(arguments)).digest()


def _check_view(found: Verdict, stored: Mapping[str, Any] | None, folded: Mapping[str, Any]) -> None:
    """A key that an older AIP did not write is no difference; one that the fold lacks or has otherwise is."""
    if stored is None:
        return
    found.view_compared = True
    now = json.loads(json.dumps(folded, default=str))
    for key in stored.keys() - NOT_FOLDED:
        for one in differences(stored[key], now.get(key), f"view.{key}"):
            if "a" in one:
                found.problems.append(next(difference_lines([one])))
                if len(found.problems) >= DIFFERENCES_MAX:
                    return


def _check_end(found: Verdict, stored: Stored) -> None:
    """Take the run up as a platform would, at the moment of its last event: of an ended one nothing may follow."""
    events = [event for _, event in stored.events]
    machine, step = RunMachine.recover(
        stored.plan, events, events[-1].at_s, load=stored.load, rng=random.Random(0)
    )
    if machine.run.state is not None and machine.run.state.terminal:
        if step.events:
            found.problems.append(f"the run has ended, and {_tag(step.events[0])} would follow")
        return
    found.would_do = [f"{_tag(event)} {getattr(event, 'task', '')}".rstrip() for event in step.events]
