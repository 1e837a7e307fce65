"""Where a task may be handed null: it reads the result of a task that may not have succeeded, and starts all the same.

No mistake as such, so a plan with one runs; but seldom meant, above all behind `when: none_failed`. There a failure two tasks
back is not seen: what stands between was skipped, and skipped counts as fine.

    when of the reader      a need's result may be null where
    all_ok                  never: it starts only if all succeeded
    none_failed             the need was skipped because another task failed, one that the reader does not itself need
    any_ok                  it has another need, which succeeded
    always                  always

A need that is skipped by its own `if` under `none_failed` is not told: that is what `none_failed` is for. Nor is a read that
looks first: `tasks.NAME.status` anywhere in the reader, `has(tasks.NAME.output)` or a comparison with null in the same
expression or in the reader's `if`. An `if` that asks how a task ended speaks for all that the task could not have ended well
without.

Cheap: a search for the failure behind a need ends at the first task that the reader does not need itself, and one for what an
`if` speaks for after VOUCHED_MAX tasks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ..expression import Expression
from ..plan import Plan, TaskSpec, When
from ..template import Template
from .problem import PROBLEMS_MAX, Problem, quoted

CODE = "check.null"
VOUCHED_MAX = 200  # Further back nobody sees the connection either; then the caution is told.
_NULL = re.compile(r"\bnull\b")


def cautions(plan: Plan) -> list[Problem]:
    """What a person should look at before the plan runs, in the order of the tasks; at most PROBLEMS_MAX."""
    found: list[Problem] = []
    for tasks in (plan.tasks, plan.closing):
        for task in tasks.values():
            if task.when is not When.ALL_OK:
                found += _of(task, tasks)
            if len(found) >= PROBLEMS_MAX:
                return found[:PROBLEMS_MAX]
    return found


def _of(task: TaskSpec, tasks: Mapping[str, TaskSpec]) -> Iterator[Problem]:
    reads = _reads(task)
    for name in (name for name in task.needs if name in reads and name in tasks):
        why = _why_null(task, tasks[name], tasks)
        if why and not _is_vouched_for(name, task, tasks):
            message = f"{task.name} reads {quoted(reads[name])}, which is null if {why}"
            hint = f"look at tasks.{name}.status first, in `if` or beside the read"
            at = task.position
            yield Problem(CODE, at.file, at.line, at.column, message, hint)


def _why_null(task: TaskSpec, need: TaskSpec, tasks: Mapping[str, TaskSpec]) -> str:
    """In which case the need has no result and the task starts; empty where there is none."""
    if task.when is When.NONE_FAILED:
        culprit = _unseen_failure(need, set(task.needs), tasks)
        return (
            f"{need.name} is skipped because {culprit} failed (`when: none_failed` lets it start)"
            if culprit
            else ""
        )
    if task.when is When.ANY_OK and len(task.needs) == 1:
        return ""
    return f"{need.name} does not succeed (`when: {task.when.value}` lets it start)"


def _unseen_failure(need: TaskSpec, seen: set[str], tasks: Mapping[str, TaskSpec]) -> str:
    """A task whose failure has the need skipped, and that is none of those whose failure the reader sees."""
    stack, visited = [need], {need.name}
    while stack:
        one = stack.pop()
        if one.when is When.ALWAYS:
            continue  # Runs, whatever became of what it needs.
        for name in one.needs:
            if name not in seen:
                return name
            if one.when is not When.NONE_FAILED and name not in visited:
                visited.add(name)
                stack.append(tasks[name])  # If that one is skipped, so is this.
    return ""


def _is_vouched_for(name: str, task: TaskSpec, tasks: Mapping[str, TaskSpec]) -> bool:
    """Whether the reader's `if` asks about a task that needs this one's success for its own."""
    stack = [] if task.condition is None else sorted(_looked_at(task.condition.expressions))
    visited: set[str] = set()
    while stack and len(visited) < VOUCHED_MAX:
        one = stack.pop()
        if one == name:
            return True
        if one not in visited and one in tasks:
            before = tasks[one]
            if before.when is When.ALL_OK:
                stack += before.needs
            elif before.when is When.NONE_FAILED and name in before.needs:
                return True  # It did not fail; if it was skipped unseen, that is told of the one between.
        visited.add(one)
    return False


def _reads(task: TaskSpec) -> dict[str, str]:
    """The tasks whose results are read without a look at how they ended, each with the path that is read."""
    expressions = [one for template in _templates(task) for one in template.expressions]
    looked = {path[1] for one in expressions for path in _paths(one) if path[2] == "status"}
    found: dict[str, str] = {}
    for one in expressions:
        guarded = looked | _looked_at((one,))
        for path in _paths(one):
            if path[2] != "status" and path[1] not in guarded:
                found.setdefault(path[1], ".".join(path))
    return found


def _paths(one: Expression) -> Iterator[tuple[str, ...]]:
    return (reference.path for reference in one.references if reference.path[0] == "tasks")


def _templates(task: TaskSpec) -> Iterator[Template]:
    question = None if task.gate is None else task.gate.question
    for one in (task.condition, task.for_each, task.arguments, task.idempotency_key, question):
        if one is not None:
            yield one


def _looked_at(expressions: tuple[Expression, ...]) -> set[str]:
    """The tasks that some of the expressions ask about: how they ended, or whether there is a result."""
    return {
        reference.path[1]
        for one in expressions
        for reference in one.references
        if reference.path[0] == "tasks"
        and (reference.path[2] == "status" or reference.tested or _NULL.search(one.text))
    }
