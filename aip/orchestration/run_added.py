"""Tasks that agents add to their run: what may be added, where it stands in the graph, what a retry takes back.

    plan:     P ──► D            P's agent adds X and Y, which needs X
    then:     P ──► D
              X ──► D
              X ──► Y ──► D      whoever waits for P waits for what P has added, and sees it as `tasks.P.added`

So nothing of the plan needs to know names that only a run will have, and a failure among what was added is told to D by the same
rule as P's own (`when`). What is added may need P, other tasks of the plan, and what P has added; not what waits for P. When P
runs again after a person's retry, what it had added is withdrawn, since it may add something else.

An attempt that is made again (after a crash, or as a retry of its own) adds what it added before: the same name with the same
content from the same task is a repeat, and changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..runtime.task import TaskState
from .parse.added import added, entries_of
from .plan import TaskSpec
from .run_implied import BIDS_SUFFIX
from .run_task import TaskRun, downstream

if TYPE_CHECKING:
    from .run_state import Run


def specs(run: Run, adder: TaskRun, source: bytes) -> dict[str, TaskSpec]:
    """What `adder` adds, checked. Raises `PlanInvalid`, `UsageError`."""
    known = {**run.plan.tasks, **{one.name: one.spec for one in adder.added}}
    found = added(source, run.plan, {**known, adder.name: adder.spec}, adder.name)
    later = {one.name for one in downstream([adder]) if one is not adder} - {one.name for one in adder.added}
    for spec in found.values():
        circle = [need for need in spec.needs if need in later]
        if circle:
            raise UsageError(
                f"{spec.name} would wait for {circle[0]}, which waits for {adder.name} and so for what it adds",
                hint=f"leave {circle[0]} out",
            )
    return found


def fresh(run: Run, adder: TaskRun, source: bytes) -> bytes | None:
    """Of what is to be added that which is not there yet; None where all of it is. Raises what `specs` does."""
    mine = {one.name: one for one in adder.added}
    entries = entries_of(source)
    new = {}
    for name, entry in entries.items():
        if name not in mine:
            new[name] = entry
        elif json.loads(mine[name].source) != entry:
            raise UsageError(
                f"{adder.name} has added a task {name!r} before, with other content",
                hint="what an attempt adds may depend only on what it is given; give the new task another name",
            )
    if not new:
        return None
    most = run.plan.limits.dynamic_tasks
    if run.added_count + len(new) > most:
        raise UsageError(
            f"{run.added_count} + {len(new)} tasks added to this run; its plan allows {most}",
            hint="raise limits.dynamic_tasks in the plan",
        )
    taken = next((name for name in new if name in run.tasks), None)
    if taken is not None:
        raise UsageError(f"there is a task {taken!r} in this run already", hint="choose another name")
    wanted = json.dumps(new, ensure_ascii=False, separators=(",", ":")).encode()
    specs(run, adder, wanted)
    return wanted


def join(run: Run, adder: TaskRun, fresh: list[TaskRun], entries: dict[str, object]) -> None:
    """Draw the edges: to what the new tasks need, and from them to all that waits for `adder`."""
    waiting = [one for one in adder.dependants if one.adder is not adder and not one.state.terminal]
    for task in fresh:
        task.adder = adder
        task.source = json.dumps(entries.get(task.name.removesuffix(BIDS_SUFFIX)))
        if task.spec.market is not None:
            task.bids = run.tasks[task.name + BIDS_SUFFIX]
        adder.added.append(task)
    for task in fresh:
        task.needs = [run.tasks[name] for name in task.spec.needs]
        for need in task.needs:
            need.dependants.append(task)
        task.count_needs()
    for task in fresh:
        for one in waiting:
            one.needs.append(task)
            one.open_needs += 1
            task.dependants.append(one)


def downstream_of(starts: Iterable[TaskRun]) -> list[TaskRun]:
    """These tasks, all that waits for one of them, and what any of those has added, in the run's order."""
    found = downstream(starts)
    while more := {one.number: one for task in found for one in task.added}.keys() - {
        one.number for one in found
    }:
        found = downstream([*found, *(one for task in found for one in task.added if one.number in more)])
    return found


def withdraw(run: Run, task: TaskRun) -> None:
    """Take an added task out of the graph: its adder runs again. Its place in the order stays, its name is free."""
    assert task.adder is not None
    for need in task.needs:
        need.dependants.remove(task)
    for dependant in task.dependants:
        dependant.needs.remove(task)
    task.adder.added.remove(task)
    task.needs, task.dependants = [], []
    task.skip_reason = f"{task.adder.name} was retried"
    task.state = TaskState.SKIPPED
    del run.tasks[task.name]
    task.name = f"{task.name}.withdrawn.{task.number}"
    task.spec = replace(task.spec, name=task.name, needs=())
    run.tasks[task.name] = task
