"""A run as people and programs see it: plain JSON data, made from the machine, changing nothing.

`efficiency` is known when the run has succeeded: the lower bound over the time it took. No schedule can end sooner than its
longest chain of dependent tasks, nor than all its work shared out evenly over its slots; the larger of the two is the bound.
Gates are left out of the work: a person's hours are no slot's.
"""

from __future__ import annotations

from typing import Any

from ..errors import ErrorRecord
from ..runtime.task import TaskState
from . import graph, vote
from .plan import Role, TaskSpec, Vote
from .run import RunMachine
from .run_ballots import Ballots
from .run_lifecycle import RunState
from .run_state import Run
from .run_task import TaskRun, Units

DECISIONS_SHOWN_MAX = 20  # A vote among more answers than that is no summary.


def view(machine: RunMachine) -> dict[str, Any]:
    """Everything about a run but its payloads."""
    run = machine.run
    root = run.ledger.statement(run.id) if run.id else None
    return {
        "run": run.id,
        "plan": run.plan.name,
        "state": str(run.state),
        "reason": run.reason,
        "error": _error(run.error or (run.ending.error if run.ending else None)),
        "submitted_by": run.submitted_by,
        "accepted_at_s": run.accepted_at_s,
        "finished_at_s": run.finished_at_s,
        "in_flight": len(run.in_flight),
        "tasks": {task.name: _task(task, machine) for task in run.order},
        "gates": [_gate(task) for task in run.order if task.state is TaskState.WAITING],
        "critical_path": critical_path(run),
        "spend": {
            "spent": dict(run.spent),
            "reserved": dict(root.reserved) if root else {},
            "limits": dict(root.limits) if root else {},
        },
        "efficiency": efficiency(run),
        "stale_reports": machine.stale_reports,
    }


def critical_path(run: Run) -> list[dict[str, Any]]:
    """The chain of tasks that took longest in all, by what was measured so far."""
    took_s = {task.name: _took_s(task) for task in run.order}
    return [{"task": name, "took_s": took_s[name]} for name in graph.critical_path(run.plan, took_s)[0]]


def efficiency(run: Run) -> float | None:
    """Lower bound over makespan, from 0 to 1; None before the run has succeeded."""
    if run.state is not RunState.SUCCEEDED or run.finished_at_s is None:
        return None
    makespan_s = run.finished_at_s - run.accepted_at_s
    if makespan_s <= 0:
        return 1.0
    took_s = {task.name: _took_s(task) for task in run.order}
    chain_s = graph.critical_path(run.plan, took_s)[1]
    work_s = sum(task.worked_s for task in run.order) / run.plan.limits.concurrency
    return float(min(max(chain_s, work_s) / makespan_s, 1.0))


def _task(task: TaskRun, machine: RunMachine) -> dict[str, Any]:
    units = task.units
    progress = machine.progress.get(task.name) if not task.state.terminal else None
    shown: dict[str, Any] = {
        "state": str(task.state),
        "generation": task.generation,
        "agent": task.spec.agent,
        "capability": task.spec.capability,
        "attempts": sum(units.attempts) if units else 0,
        "started_at_s": task.started_at_s,
        "finished_at_s": task.finished_at_s,
        "error": _error(task.error),
        "position": str(task.spec.position),
    }
    if task.spec.role is not Role.WORK:
        shown["role"] = str(task.spec.role)
    if task.expired:
        shown["expired"] = True
    if task.skip_reason:
        shown["skipped_because"] = task.skip_reason
    if units is not None and (task.spec.for_each or task.spec.vote):
        shown["items"] = _items(task, units, machine.run)
    if task.spec.vote is not None and task.ballots is not None:
        shown |= _votes(task.spec, task.ballots, task.spec.vote)
    if task.gate is not None and task.gate.decision is not None:
        shown["gate"] = {"decision": task.gate.decision, "by": task.gate.by, "note": task.gate.note}
    if progress is not None:
        shown["progress"] = {"text": progress.text, "fraction": progress.fraction}
    if task.spent:
        shown["spent"] = dict(task.spent)
    return shown


def _items(task: TaskRun, units: Units, run: Run) -> dict[str, int]:
    """How far the units are; where each item is voted on, how far the items are."""
    shown = {
        "total": units.count,
        "done": units.done,
        "failed": units.failed,
        "running": units.running,
        "waiting_for_retry": len(units.delays),
    }
    if task.ballots is not None and task.spec.for_each is not None:
        flying = {one.unit // task.ballots.voters for one in run.in_flight.values() if one.task is task}
        delayed = {unit // task.ballots.voters for unit in units.delays}
        shown |= {
            "total": len(task.ballots.tallies),
            "done": task.ballots.decided,
            "failed": task.ballots.undecided,
            "running": len(flying),
            "waiting_for_retry": len(delayed - flying),
        }
    return shown


def _votes(spec: TaskSpec, ballots: Ballots, rule: Vote) -> dict[str, Any]:
    """`vote`: the one tally. Of a `for_each`, `votes`: how many items came to each decision."""
    voters = list(vote.voter_names(rule))
    if spec.for_each is None:
        tally = ballots.tallies[0]
        if tally is None:
            return {}
        return {"vote": {"decision": tally.decision, "counts": tally.counts, "voters": voters}}
    shown = ballots.decisions.most_common(DECISIONS_SHOWN_MAX)
    return {
        "votes": {
            "decisions": dict(shown),
            "others": ballots.decided - sum(count for _, count in shown),
            "undecided": ballots.undecided,
            "voters": voters,
        }
    }


def _gate(task: TaskRun) -> dict[str, Any]:
    assert task.gate is not None
    assert task.spec.gate is not None
    return {
        "task": task.name,
        "question": task.gate.question,
        "approvers": list(task.spec.gate.approvers),
        "expires_at_s": task.gate.expires_at_s,
        "default": task.spec.gate.default,
    }


def _error(error: ErrorRecord | None) -> dict[str, Any] | None:
    if error is None:
        return None
    return {
        "code": error.code,
        "message": error.message,
        "retryable": error.retryable,
        "hint": error.hint,
        "details": error.details,
    }


def _took_s(task: TaskRun) -> float:
    if task.started_at_s is None or task.finished_at_s is None or task.spec.gate is not None:
        return 0.0
    return task.finished_at_s - task.started_at_s
