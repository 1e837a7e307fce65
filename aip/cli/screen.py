"""The live picture of a run: a value that rich can draw, made from a RunView and the time of day, and nothing else.

`RunScreen` asks the console that draws it for width, height and character set each time, so a resized terminal is right from the
next frame on. A frame is one renderable of bounded height: rich replaces it in place, and nothing scrolls or flickers.

    market-report  r-01jd…                         running  0:42  3/7 tasks
      ✓ find            4.2 s  researcher
    * ● read             38 s  ███████████░░░░░ 41/60, 2 failed   reading page 3
      · draft
    tokens ███░░░░░░░ 120,000 of 500,000

`*` marks the critical path: the chain of tasks that took longest so far. When there are more tasks than lines, those at
work, failed or waiting for a person are shown first and the rest is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from . import measure, text
from .view import BudgetView, GateView, RunView, TaskView

LINES_MAX = 200  # Of a picture that is printed once and may scroll.
BAR_CELLS = 16
NAME_CELLS_MAX = 28
GATES_SHOWN_MAX = 2
BUDGETS_SHOWN_MAX = 3
TASKS_SHOWN_MIN = 3  # However low the terminal is.
MARGIN_LINES = 8  # What is not tasks: the title, the rest, gates, budgets, and the line of the cursor.
RESTS = ("paused", "held", "cancelled", "killed")

STATE_STYLES = {
    "pending": "dim",
    "ready": "",
    "accepted": "",
    "running": "cyan",
    "compensating": "magenta",
    "closing": "cyan",
    "waiting": "yellow",
    "paused": "yellow",
    "held": "yellow",
    "succeeded": "green",
    "failed": "red",
    "killed": "red",
    "cancelled": "magenta",
    "skipped": "dim",
}
MARKS = {
    "pending": ("·", "."),
    "ready": ("○", "o"),
    "running": ("●", ">"),
    "waiting": ("?", "?"),
    "succeeded": ("✓", "+"),
    "failed": ("✗", "x"),
    "skipped": ("–", "-"),
    "cancelled": ("⊘", "/"),
}
_URGENCY = ("failed", "waiting", "running", "ready", "cancelled", "succeeded", "skipped", "pending")


@dataclass(frozen=True, slots=True)
class RunScreen:
    """One frame."""

    view: RunView
    now_s: float
    height: int | None = None  # None: as high as the console.

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = self.height or options.height or console.height
        for line in frame(self.view, self.now_s, options.max_width, height, options.ascii_only):
            line.rstrip()
            line.truncate(options.max_width, overflow="crop" if options.ascii_only else "ellipsis")
            yield line


def frame(view: RunView, now_s: float, width: int, height: int, ascii_only: bool) -> Iterator[Text]:
    """The lines of a frame, before they are cut to the width."""
    shown = chosen(view.tasks, max(height - MARGIN_LINES, TASKS_SHOWN_MIN))
    name_cells = min(
        max((cell_len(task.name) for task in shown), default=1), NAME_CELLS_MAX, max(width // 3, 8)
    )
    yield title(view, now_s)
    for task in shown:
        yield task_line(task, now_s, name_cells, ascii_only)
    if len(shown) < len(view.tasks):
        yield rest(view.tasks, shown)
    for gate in view.gates[:GATES_SHOWN_MAX]:
        yield gate_line(view.run_id, gate, ascii_only)
    for budget in view.budget[:BUDGETS_SHOWN_MAX]:
        yield budget_line(budget, ascii_only)
    if view.reason and view.state in RESTS and not view.gates:
        yield Text(text.line(view.reason), STATE_STYLES[view.state])


def title(view: RunView, now_s: float) -> Text:
    ended = sum(task.terminal for task in view.tasks)
    line = Text()
    line.append(text.line(view.plan, NAME_CELLS_MAX), "bold").append(f"  {text.line(view.run_id)}  ", "dim")
    line.append(text.line(view.state), STATE_STYLES.get(view.state, ""))
    line.append(f"  {measure.duration(view.elapsed_s(now_s))}  {ended}/{len(view.tasks)} tasks")
    return line


def chosen(tasks: tuple[TaskView, ...], lines_max: int) -> list[TaskView]:
    """The tasks to show, in the plan's order: all where there is room, else the most urgent."""
    if len(tasks) <= lines_max:
        return list(tasks)
    urgency = {state: index for index, state in enumerate(_URGENCY)}
    ranked = sorted(
        range(len(tasks)),
        key=lambda i: (urgency.get(tasks[i].state, len(_URGENCY)), -(tasks[i].finished_at_s or 0.0), i),
    )
    return [tasks[index] for index in sorted(ranked[:lines_max])]


def task_line(task: TaskView, now_s: float, name_cells: int, ascii_only: bool) -> Text:
    style = STATE_STYLES.get(task.state, "")
    mark = MARKS.get(task.state, ("?", "?"))[ascii_only]
    took = measure.duration(task.took_s(now_s)) if task.state != "skipped" else ""
    name = set_cell_size(text.line(task.name), name_cells)
    line = Text().append(f"{'*' if task.critical else ' '} {mark} ", style)
    line.append(name, "bold" if task.state == "running" else "")
    return line.append(f"{took:>9}  ", "dim").append_text(words(task, ascii_only))


def words(task: TaskView, ascii_only: bool) -> Text:
    """What stands at the right of a task: its progress, its trouble, or who does it."""
    line = Text()
    if task.total is not None:
        line.append_text(bar(task.done, task.failed, task.total, ascii_only)).append(
            f" {task.done}/{task.total}"
        )
        if task.failed:
            line.append(f", {task.failed} failed", "red")
        line.append("  ")
    elif task.fraction is not None and not task.terminal:
        percent = round(min(max(task.fraction, 0.0), 1.0) * 100)
        line.append_text(bar(percent, 0, 100, ascii_only)).append(f" {percent}%  ")
    if task.error and task.state != "succeeded":
        line.append(text.line(task.error.get("message", "")), STATE_STYLES.get(task.state, "red"))
    elif task.text:
        line.append(text.line(task.text), "dim" if task.state == "skipped" else "")
    elif task.state in ("running", "succeeded") and task.total is None:
        line.append(text.line(task.agent), "dim")
    if task.state == "running" and task.total is None and task.attempts > 1:
        line.append(f"  attempt {task.attempts}", "yellow")
    return line


def bar(done: int, failed: int, total: int, ascii_only: bool, cells: int = BAR_CELLS) -> Text:
    """Done and failed out of total. A failure is always visible: it takes a cell however small its share is."""
    full, empty = ("#", ".") if ascii_only else ("█", "░")
    whole = max(total, 1)
    bad = min(max(round(cells * failed / whole), 1 if failed else 0), cells)
    good = cells if not total else min(cells * done // whole, cells - bad)
    line = Text().append(full * good, "green")
    line.append(("!" if ascii_only else full) * bad, "red")
    return line.append(empty * (cells - good - bad), "dim")


def rest(tasks: tuple[TaskView, ...], shown: list[TaskView]) -> Text:
    names = {task.name for task in shown}
    counts = Counter(task.state for task in tasks if task.name not in names)
    told = ", ".join(f"{counts[state]} {state}" for state in _URGENCY if counts[state])
    return Text(f"    and {sum(counts.values())} more: {told}", "dim")


def gate_line(run_id: str, gate: GateView, ascii_only: bool) -> Text:
    line = Text()
    line.append(text.line(gate.question), "yellow")
    return line.append(
        f"  {'->' if ascii_only else '→'} aip approve {text.line(run_id)}/{text.line(gate.task)}", "bold"
    )


def budget_line(budget: BudgetView, ascii_only: bool) -> Text:
    name = measure.unit_name(budget.unit)
    spent = measure.amount(budget.unit, budget.spent)
    if budget.limit is None:
        return Text(f"{name} {spent} spent")
    line = Text(f"{name} ")
    line.append_text(bar(min(budget.spent, budget.limit), 0, budget.limit, ascii_only, cells=10))
    line.append(
        f" {spent} of {measure.amount(budget.unit, budget.limit)}",
        "red" if budget.spent >= budget.limit else "",
    )
    if budget.reserved:
        line.append(f", {measure.amount(budget.unit, budget.reserved)} reserved", "dim")
    return line


def changes(old: RunView | None, new: RunView) -> list[str]:
    """What happened between two views, as lines for a log: how a run is followed where no picture can be drawn."""
    before = {task.name: task for task in old.tasks} if old else {}
    lines: list[str] = []
    for task in new.tasks:
        last = before.get(task.name)
        if (last.state if last else "pending") != task.state:
            lines.append(_moved(task))
        elif task.total and last and _tenth(task) != _tenth(last):
            lines.append(
                f"{task.name} {task.done}/{task.total}" + (f", {task.failed} failed" if task.failed else "")
            )
    asked = {gate.task for gate in old.gates} if old else set()
    lines += [
        f"{gate.task} asks: {text.line(gate.question)} (aip approve {new.run_id}/{gate.task})"
        for gate in new.gates
        if gate.task not in asked
    ]
    if old is None or old.state != new.state:
        lines.append(f"run {new.run_id} {new.state}" + (f": {text.line(new.reason)}" if new.reason else ""))
    return lines


def _tenth(task: TaskView) -> int:
    return 10 * (task.done + task.failed) // (task.total or 1)


def _moved(task: TaskView) -> str:
    why = task.error.get("message", "") if task.error else task.text if task.terminal else ""
    took = (
        measure.duration(task.took_s(task.finished_at_s or 0.0))
        if task.terminal and task.state != "skipped"
        else ""
    )
    counted = f"{task.done}/{task.total}" if task.total is not None else ""
    told = " ".join(part for part in (counted if task.terminal else "", took) if part)
    return (
        f"{text.line(task.name)} {task.state}"
        + (f" {told}" if told else "")
        + (f": {text.line(why)}" if why else "")
    )
