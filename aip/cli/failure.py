"""How an error is told: what, why, and the next command to type.

For a person on stderr as a few lines; for a program as one JSON object on one line of stderr, with the exit code in it.
A failed task adds the attempt, the input where it is known, the place in the user's own code and the end of its log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.text import Text

from ..errors import AIPError, ErrorRecord
from . import exit_code, measure, text
from .plan_file import DrawnPlanInvalid
from .session import Session
from .view import RunView, TaskView

TAIL_LINES = 8  # Of a task's log: what a person reads before deciding to read it all.
FAILED_TASKS_SHOWN_MAX = 3  # Mostly one cause; the rest is in `aip run show`.
PROBLEMS_SHOWN_MAX = 20
DRAWING_CHARS_MAX = 40_000  # A hundred problems, which is where the parser stops, with their lines.


def report(session: Session, error: AIPError) -> exit_code.ExitCode:
    """Tell the error and return what to tell the shell."""
    code = exit_code.of_error(error.code)
    if session.machine:
        session.err.file.write(text.compact_json(as_json(error, code)) + "\n")
    elif isinstance(error, DrawnPlanInvalid):
        session.err.print(drawn(error))
    else:
        session.err.print(as_text(error))
    return code


def as_json(error: AIPError, code: exit_code.ExitCode) -> dict[str, Any]:
    return {
        "error": {
            "code": error.code,
            "message": error.message,
            "retryable": error.retryable,
            "hint": error.hint,
            "details": error.details,
        },
        "exit_code": int(code),
    }


def drawn(error: DrawnPlanInvalid) -> Text:
    count = measure.count(error.count, "problem")
    return Text.assemble(
        text.block(error.drawing, DRAWING_CHARS_MAX), ("\nerror: ", "bold red"), f"{count} in the plan"
    )


def as_text(error: AIPError | ErrorRecord) -> Text:
    """What, where and why, and what next. The code stands last on the first line: it is what one searches for."""
    lines = Text()
    lines.append("error: ", "bold red").append(text.block(error.message)).append(
        f"  [{text.line(error.code)}]", "dim"
    )
    problems = error.details.get("problems")
    if isinstance(problems, list):
        lines.append_text(_problems(problems))
    if error.details.get("location"):
        lines.append("\n  at    ", "dim").append(text.line(error.details["location"]))
    if error.hint:
        lines.append("\n  next  ", "dim").append(text.block(error.hint))
    return lines


def _problems(problems: list[Any]) -> Text:
    lines = Text()
    for problem in problems[:PROBLEMS_SHOWN_MAX]:
        told = problem if not isinstance(problem, Mapping) else _problem(problem)
        lines.append("\n  - ", "dim").append(text.line(told))
    if len(problems) > PROBLEMS_SHOWN_MAX:
        lines.append(f"\n  and {len(problems) - PROBLEMS_SHOWN_MAX} more", "dim")
    return lines


def _problem(problem: Mapping[str, Any]) -> str:
    place = problem.get("where") or ":".join(
        str(problem[key]) for key in ("file", "line", "column") if problem.get(key)
    )
    told = ": ".join(str(part) for part in (place, problem.get("message")) if part)
    hint = problem.get("hint") or problem.get("suggestion")
    return f"{told} ({hint})" if hint else told


def failed_tasks(view: RunView, tails: Mapping[str, list[str]], now_s: float) -> Iterator[Text]:
    """What a person needs of a failed run, task by task."""
    failed = view.failed_tasks
    for task in failed[:FAILED_TASKS_SHOWN_MAX]:
        yield failed_task(view, task, tails.get(task.name, []))
    if len(failed) > FAILED_TASKS_SHOWN_MAX:
        rest = len(failed) - FAILED_TASKS_SHOWN_MAX
        yield Text(f"and {rest} more failed tasks: aip run show {view.run_id}", "dim")


def failed_task(view: RunView, task: TaskView, tail: list[str]) -> Text:
    error = task.error or {}
    details = error.get("details") or {}
    lines = Text()
    lines.append(f"✗ {text.line(task.name)}", "bold red").append(f"  {_attempts(task, details)}", "dim")
    lines.append("\n  what   ", "dim").append(text.block(error.get("message", "no error was recorded"), 800))
    lines.append(f"  [{text.line(error.get('code', '?'))}]", "dim")
    if details.get("location"):
        lines.append("\n  where  ", "dim").append(text.line(details["location"]))
    for key in ("input", "arguments"):
        if key in details:
            lines.append("\n  input  ", "dim").append(text.line(text.compact_json(details[key])))
            break
    for number, entry in enumerate(tail):
        lines.append("\n  log    " if number == 0 else "\n         ", "dim").append(text.line(entry))
    if error.get("hint"):
        lines.append("\n  hint   ", "dim").append(text.block(error["hint"], 800))
    address = f"{view.run_id}/{task.name}"
    return lines.append("\n  next   ", "dim").append(
        f"aip logs {address}   or, when it is mended:   aip retry {address}"
    )


def _attempts(task: TaskView, details: Mapping[str, Any]) -> str:
    attempt, unit = details.get("attempt"), details.get("unit")
    told = measure.count(task.attempts, "attempt")
    if attempt is not None:
        told = f"attempt {attempt} of {task.attempts}" if task.total is None else f"attempt {attempt}"
    if task.total is not None:
        told += f", {task.failed} of {task.total} items failed"
        if unit is not None:
            told += f", first item {unit}"
    return told


def tail_of(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """The last lines of a log, as text."""
    return [log_line(entry) for entry in deque(entries, TAIL_LINES)]


def log_line(entry: Mapping[str, Any]) -> str:
    at_s = entry.get("at")
    when = measure.clock_time(at_s) if isinstance(at_s, int | float) else "        "
    level = str(entry.get("level") or "info").lower()
    return text.line(f"{when} {level:<7} {entry.get('text', '')}")
