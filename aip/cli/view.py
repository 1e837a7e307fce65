"""A run as the screen needs it, read from the plain JSON of `aip.orchestration.run_view`.

The only place of the command line that knows the names in a RunView. It is read tolerantly, since it may come from a platform of
another version: what is missing is empty, what is unknown is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]

TERMINAL_RUNS = frozenset({"succeeded", "failed", "cancelled", "killed"})
CUT_OFF = ("undelivered.cancelled", "refused.killed")
TERMINAL_TASKS = frozenset({"succeeded", "failed", "skipped", "cancelled"})


@dataclass(frozen=True, slots=True)
class TaskView:
    name: str
    state: str
    agent: str = ""
    attempts: int = 0
    started_at_s: float | None = None
    finished_at_s: float | None = None
    total: int | None = None  # Units of a fan-out; None for a plain task, or while it is not known.
    done: int = 0
    failed: int = 0
    text: str = ""  # What its agent says about its progress, what was decided, or why it was skipped.
    fraction: float | None = None
    error: Json | None = None
    critical: bool = False

    @property
    def terminal(self) -> bool:
        return self.state in TERMINAL_TASKS

    def took_s(self, now_s: float) -> float | None:
        if self.started_at_s is None:
            return None
        return max((now_s if self.finished_at_s is None else self.finished_at_s) - self.started_at_s, 0.0)


@dataclass(frozen=True, slots=True)
class GateView:
    task: str
    question: str
    approvers: tuple[str, ...] = ()
    expires_at_s: float | None = None


@dataclass(frozen=True, slots=True)
class BudgetView:
    unit: str
    spent: int
    reserved: int
    limit: int | None


@dataclass(frozen=True, slots=True)
class RunView:
    run_id: str
    plan: str
    state: str
    reason: str = ""
    moved_by: str = ""  # Not in a RunView: from the journal, where it matters (`Records.moved_by`).
    submitted_by: str = ""
    started_at_s: float | None = None
    finished_at_s: float | None = None
    tasks: tuple[TaskView, ...] = ()
    gates: tuple[GateView, ...] = ()
    budget: tuple[BudgetView, ...] = ()
    error: Json | None = None
    outputs: Any = None
    in_flight: int = 0

    @property
    def terminal(self) -> bool:
        return self.state in TERMINAL_RUNS

    @property
    def at_rest(self) -> bool:
        """Whether nothing moves until a person does something."""
        return self.terminal or self.state == "held" or (self.state == "paused" and not self.in_flight)

    def elapsed_s(self, now_s: float) -> float | None:
        if self.started_at_s is None:
            return None
        return max((now_s if self.finished_at_s is None else self.finished_at_s) - self.started_at_s, 0.0)

    @property
    def failed_tasks(self) -> list[TaskView]:
        """Those that failed by themselves: what a cancellation or a kill cut off explains nothing."""
        cut_off = CUT_OFF if self.state in ("cancelled", "killed") else ()
        return [
            task
            for task in self.tasks
            if task.state == "failed" and (task.error or {}).get("code") not in cut_off
        ]

    @property
    def cause(self) -> Json | None:
        """The error that says why the run ended or rests as it does."""
        if self.error:
            return self.error
        if self.state == "paused" and self.moved_by == "budget":
            return {"code": "refused.budget", "message": self.reason}
        return None


def read(view: Json) -> RunView:
    """A RunView as it comes over the wire, as values."""
    critical = {str(step.get("task")) for step in view.get("critical_path") or ()}
    spend = view.get("spend") or {}
    spent, reserved, limits = (spend.get(name) or {} for name in ("spent", "reserved", "limits"))
    return RunView(
        run_id=str(view.get("run", "")),
        plan=str(view.get("plan", "")),
        state=str(view.get("state", "")),
        reason=str(view.get("reason") or ""),
        submitted_by=str(view.get("submitted_by") or ""),
        started_at_s=view.get("accepted_at_s"),
        finished_at_s=view.get("finished_at_s"),
        tasks=tuple(_task(name, task, name in critical) for name, task in (view.get("tasks") or {}).items()),
        gates=tuple(_gate(gate) for gate in view.get("gates") or ()),
        budget=tuple(
            BudgetView(unit, int(spent.get(unit, 0)), int(reserved.get(unit, 0)), limits.get(unit))
            for unit in {**limits, **spent}
        ),
        error=view.get("error"),
        outputs=view.get("outputs"),
        in_flight=int(view.get("in_flight") or 0),
    )


def _task(name: str, task: Json, critical: bool) -> TaskView:
    items = task.get("items") or {}
    progress = task.get("progress") or {}
    return TaskView(
        name=name,
        state=str(task.get("state", "")),
        agent=str(task.get("agent") or task.get("capability") or ""),
        attempts=int(task.get("attempts") or 0),
        started_at_s=task.get("started_at_s"),
        finished_at_s=task.get("finished_at_s"),
        total=items.get("total"),
        done=int(items.get("done", 0)),
        failed=int(items.get("failed", 0)),
        text=_words(task, progress),
        fraction=progress.get("fraction"),
        error=task.get("error"),
        critical=critical,
    )


def _words(task: Json, progress: Json) -> str:
    if task.get("skipped_because"):
        return str(task["skipped_because"])
    if task.get("gate"):
        gate = task["gate"]
        return f"{_DECIDED.get(gate.get('decision'), gate.get('decision'))} by {gate.get('by')}"
    if task.get("vote"):
        counts = task["vote"].get("counts") or {}
        return f"{task['vote'].get('decision')} ({', '.join(f'{count} {answer}' for answer, count in counts.items())})"
    if task.get("votes"):
        return _ballots(task["votes"])
    return str(progress.get("text") or "")


def _ballots(votes: Json) -> str:
    """What a vote on many items came to: the most frequent decisions first, as the run gives them."""
    counts = dict(votes.get("decisions") or {})
    if votes.get("others"):
        counts["others"] = votes["others"]
    if votes.get("undecided"):
        counts["undecided"] = votes["undecided"]
    return ", ".join(f"{count} {decision}" for decision, count in counts.items())


_DECIDED = {"approve": "approved", "deny": "denied"}


def _gate(gate: Json) -> GateView:
    return GateView(
        str(gate.get("task", "")),
        str(gate.get("question", "")),
        tuple(map(str, gate.get("approvers") or ())),
        gate.get("expires_at_s"),
    )
