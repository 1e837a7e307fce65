"""`aip run replay`, as it is typed and told."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from ...errors import Corrupt, UsageError
from .. import measure, text
from ..command import Command
from ..exit_code import ExitCode
from ..output import show_value
from ..records import known_task, records
from ..run_address import RUN_OR_TASK, RunAddress
from ..run_diff import DIFFERENCES_MAX, difference_lines, differences, digest
from ..session import Format, Session, session

if TYPE_CHECKING:
    from .debugger import Debugger
    from .fold import Verdict
    from .rehearsal import Again
    from .stored import Stored
    from .work import Work


@click.command(
    "replay",
    cls=Command,
    examples="""
    aip run replay last
    aip run replay last/read/3 --pdb
    aip run replay last/read --attempt 2 -o json
    """,
)
@click.argument("address", metavar="RUN[/TASK[/UNIT]]", type=RUN_OR_TASK)
@click.option(
    "--pdb", "debug", is_flag=True, help="Stop in the debugger: at the exception, or at the first line."
)
@click.option("--attempt", "number", type=click.IntRange(1), help="Which attempt (default: the last).")
def replay(address: RunAddress, debug: bool, number: int | None) -> None:
    """Replay a run from its journal, or one task of it in this process.

    Of a run: every event with what it changed, and whether the journal comes to what was stored (exit code 8 if not). Of a
    task: its agent is asked again, with the code and the arguments of then. No `ctx.effect` is performed; what an agent does
    without one, it does again. Exit code 1 if it comes to something else.
    """
    one = session()
    with records(one) as known:
        run_id = known.id_of(address)
        if address.task is None:
            if debug or number is not None:
                raise UsageError(
                    "which task? --pdb and --attempt are about one", hint=f"aip run replay {run_id}/TASK"
                )
            _replay_run(one, run_id)
            return
        task, _, unit = address.task.partition("/")
        known_task(known.run(run_id), task)
    if debug and one.machine:
        raise UsageError("--pdb talks with a person; leave out -o")
    if unit and not unit.isdecimal():
        raise UsageError(f"not a unit: {unit!r}", hint=f"units are numbered from 0: {run_id}/{task}/0")
    from .stored import Stored
    from .work import work_of

    stored = Stored.read(one.folder, run_id)
    work = work_of(stored, task, int(unit) if unit else None, number)
    debugger = _debugger(one, work) if debug else None
    # What the agent prints is chatter beside the answer; at the debugger both are the person's.
    with contextlib.nullcontext() if debug else contextlib.redirect_stdout(sys.stderr):
        again = _again(stored, work, debugger)
    if debugger is not None and not debugger.stopped:
        one.say("it raised nothing this time")
    same = digest(work.outcome) == digest(again.outcome)
    plain = _plain(run_id, work, again, same)
    show_value(one, plain, lambda: _tell_task(one, plain))
    if not same:
        click.get_current_context().exit(ExitCode.FAILED)


def _replay_run(one: Session, run_id: str) -> None:
    from .fold import Verdict, replay_run
    from .stored import Stored

    found = replay_run(Stored.read(one.folder, run_id))
    if one.format is Format.NDJSON:
        for step in found.steps:
            one.write(text.compact_json(step))
    else:
        plain = {slot: getattr(found, slot) for slot in Verdict.__slots__}
        show_value(one, {"run": run_id, "verified": not found.problems, **plain}, lambda: _tell(one, found))
    if found.problems:
        raise Corrupt(
            f"the journal of {run_id} does not come to what was stored",
            hint="compare with a copy of the run's folder; `aip audit verify` checks the other record",
            problems=found.problems[:DIFFERENCES_MAX],
        )


def _tell(one: Session, found: Verdict) -> None:
    for step in found.steps:
        what = " ".join(
            f"{key}={step[key]}" for key in ("task", "unit", "attempt", "lease", "item") if key in step
        )
        head = f"{step['index']:>5} {measure.moment(step['at_s'])} {step['event']:<17} {what}"
        one.write(
            text.line(
                "  ".join(part for part in (head.rstrip(), ", ".join(step["changes"]), step["then"]) if part)
            )
        )
    gone = f", {found.arguments_gone} are gone" if found.arguments_gone else ""
    one.say(
        f"{measure.count(len(found.steps), 'event')}; arguments of {found.arguments_checked} attempts hold{gone}"
    )
    if not found.problems:
        one.say("the last view is the journal's" if found.view_compared else "the run has no last view yet")
    for line in found.would_do:
        one.say(f"taken up now, it would begin with {line}")


def _debugger(one: Session, work: Work) -> Debugger:
    from .debugger import Debugger

    where = "at its first line" if work.error is None else "where it raises"
    one.say(f"{work.address} {work.capability}, attempt {work.attempt}: pdb stops {where}")
    return Debugger(at_entry=work.error is None)


def _again(stored: Stored, work: Work, debugger: Debugger | None) -> Again:
    import asyncio

    from .rehearsal import importable, rehearse

    with importable(work.code):
        again = asyncio.run(rehearse(stored, work, debugger))
    if debugger is not None and debugger.left:
        raise click.Abort
    return again


def _plain(run: str, work: Work, again: Again, same: bool) -> dict[str, Any]:
    found = [] if same else list(differences(work.outcome, again.outcome))[:DIFFERENCES_MAX]
    return {
        "run": run,
        "task": work.task,
        "unit": work.unit,
        "attempt": work.attempt,
        "agent": work.address,
        "capability": work.capability,
        "arguments": work.arguments,
        "idempotency_key": work.idempotency_key,
        "same": same,
        "recorded": work.outcome,
        "replayed": {
            **again.outcome,
            **({"details": again.error.details} if again.error is not None else {}),
        },
        "differences": found,
        "effects_answered": again.effects_answered,
        "effects_refused": again.effects_refused,
    }


def _tell_task(one: Session, told: Mapping[str, Any]) -> None:
    unit = f" unit {told['unit']}" if told["unit"] else ""
    one.write(
        text.line(f"{told['task']}{unit} attempt {told['attempt']}  {told['agent']} {told['capability']}")
    )
    one.write(text.line(f"given     {text.compact_json(told['arguments'])}"))
    for name in ("recorded", "replayed"):
        result = told[name]
        what = (
            f"[{result['code']}] {result['message']}"
            if "code" in result
            else text.compact_json(result.get("value"))
        )
        one.write(text.line(f"{name:<9} {result['state']}  {what}"))
    location = (told["replayed"].get("details") or {}).get("location")
    if location:
        one.write(text.line(f"at        {location}"))
    for line in difference_lines(told["differences"]):
        one.write(line)
    for key in told["effects_answered"]:
        one.say(f"effect {key}: answered from its record, not performed")
    for key in told["effects_refused"]:
        one.say(f"effect {key}: refused, there is no record of it")
    one.say("the same as in the run" if told["same"] else "not what the run recorded")
