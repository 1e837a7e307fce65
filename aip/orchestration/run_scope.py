"""What a plan's expressions see of a run: `inputs`, `run`, `tasks`, and in a `for_each` `item` and `index`.

A task's scope holds only the tasks that its expressions name, all of which it depends on, so that no expression can read what is
not settled yet. A scope is built once for a task's generation and dropped with it; all that it shows is recorded, so that after a
crash it is built again, value for value.

    a task's end                `tasks.NAME.output`; `status` is the end itself
    succeeded                   its result; of a `for_each` the list of results in the items' order (also as `outputs`);
                                of a vote the tally, of a vote on each item the list of tallies; of a gate who decided what
    failed, skipped, cancelled  null

    `tasks.NAME.added`          by name, `output` and `status` of the tasks that NAME's agent has added to the run and that have
                                ended; for those that wait for NAME these are all
"""

from __future__ import annotations

from typing import Any, Protocol

from ..errors import AIPError, InvalidPayload, UserError
from ..runtime import codec
from ..runtime.task import TaskState
from ..settings import Limits
from . import vote
from .artifact import ArtifactRef
from .plan import Role, Vote
from .run_ballots import item_of, voters_of
from .run_events import Value
from .run_state import Run
from .run_task import TaskRun
from .template import Template

IDEMPOTENCY_KEY_CHARS_MAX = (
    512  # Receivers keep keys to recognise repeats; a payload in a key would fill their memory.
)


class ResultExpired(UserError):
    """A result that outlived its `output.ttl` is asked for again, by a retry."""

    code = "result.expired"


class Load(Protocol):
    """Opens an artifact. The shell caches; raising an AIPError fails the task that needed it."""

    def __call__(self, ref: ArtifactRef, /) -> Any: ...


class Scopes:
    """The scopes of the tasks that are at work."""

    def __init__(self, run: Run, load: Load, limits: Limits) -> None:
        self._run = run
        self._load = load
        self._limits = limits
        self._bases: dict[int, dict[str, Any]] = {}
        self._items: dict[int, list[Any]] = {}
        self._inputs: Any = None

    def open(self, value: Value) -> Any:
        return self._load(value) if isinstance(value, ArtifactRef) else codec.decode(value)

    def base(self, task: TaskRun) -> dict[str, Any]:
        """The scope of the task as a whole."""
        base = self._bases.get(task.number)
        if base is None:
            names = {name for template in _templates(task) for name in template.tasks}
            if task.spec.role in (Role.WORK, Role.BIDS):
                base = self._of({need.name: self._seen(need) for need in task.needs if need.name in names})
            else:  # All work has ended: there is nothing that it could wait for.
                base = self._of({name: self._seen(self._run.tasks[name]) for name in sorted(names)})
                base["run"] |= {"state": self._verdict[0], "error": self._verdict[1]}
            self._bases[task.number] = base
        return base

    def unit(self, task: TaskRun, unit: int, attempt: int) -> dict[str, Any]:
        """The scope of one attempt of one unit: in a `for_each` with its item."""
        base = self.base(task)
        if attempt > 1:
            base = {**base, "run": {**base["run"], "attempt": attempt}}
        if task.spec.for_each is None:
            return base
        item = item_of(task.spec, unit)
        return {**base, "item": self.items(task)[item], "index": item}

    def items(self, task: TaskRun) -> list[Any]:
        """What the task maps over. Raises `InvalidPayload` where that is no list, or too long a one."""
        items = self._items.get(task.number)
        if items is None:
            assert task.spec.for_each is not None
            value = task.spec.for_each.evaluate(self.base(task))
            if not isinstance(value, list | tuple):
                raise InvalidPayload(
                    f"for_each of task {task.name} is a {type(value).__name__}, not a list",
                    position=str(task.spec.position),
                )
            # The limit bounds units of work; where each item is voted on, each vote is one.
            items_max = self._limits.fan_out_max // voters_of(task.spec)
            if len(value) > items_max:
                raise InvalidPayload(
                    f"for_each of task {task.name} has {len(value)} items; the limit is {items_max}"
                    + (f" with {voters_of(task.spec)} voters" if task.spec.vote else ""),
                    hint="let each item be a slice of the work",
                    position=str(task.spec.position),
                )
            items = self._items[task.number] = list(value)
        return items

    def idempotency_key(self, task: TaskRun, unit: int, scope: dict[str, Any]) -> str:
        """The same for every attempt of a unit. A person's retry asks for the work again, hence for a new key."""
        template = task.spec.idempotency_key
        if template is None:
            again = "" if task.generation == 1 else f"/g{task.generation}"
            return f"{self._run.id}/{task.name}/{unit}{again}"
        key = template.evaluate(scope)
        if not isinstance(key, str) or not 0 < len(key) <= IDEMPOTENCY_KEY_CHARS_MAX:
            raise InvalidPayload(
                f"idempotency_key of task {task.name} is not a text of 1 to {IDEMPOTENCY_KEY_CHARS_MAX} characters",
                position=str(task.spec.position),
            )
        return key

    def results(self, task: TaskRun) -> list[Any]:
        """What each unit came to; None where one has no result."""
        assert task.units is not None
        return [None if value is None else self.open(value) for value in task.units.values]

    def answers(self, task: TaskRun, item: int) -> list[Any]:
        """What each voter said about the item; None where one gave no answer."""
        assert task.units is not None
        voters = voters_of(task.spec)
        values = task.units.values[item * voters : (item + 1) * voters]
        return [None if value is None else self.open(value) for value in values]

    def decisions(self, task: TaskRun, rule: Vote) -> list[dict[str, Any] | None]:
        """What the vote on each item came to."""
        assert task.ballots is not None
        decisions: list[dict[str, Any] | None] = []
        for item, tally in enumerate(task.ballots.tallies):
            assert tally is not None, f"task {task.name} has succeeded without a tally of item {item}"
            missed = tally.decision is None  # One of the items that may fail.
            decisions.append(None if missed else vote.output(tally, self.answers(task, item), rule))
        return decisions

    @property
    def _verdict(self) -> tuple[str, dict[str, str] | None]:
        """What the work came to, as `run.state` and `run.error` say it to those that undo and close."""
        assert self._run.verdict is not None
        state, error = self._run.verdict
        return str(state), None if error is None else {"code": error.code, "message": error.message}

    def output(self, task: TaskRun) -> Any:
        if task.expired:
            raise ResultExpired(
                f"the result of {task.name} was let go after its ttl",
                hint=f"retry from {task.name}, or give it a longer output.ttl",
            )
        if task.state is not TaskState.SUCCEEDED:
            return None
        spec = task.spec
        if spec.gate is not None:
            gate = task.gate
            assert gate is not None
            return {"decision": gate.decision, "by": gate.by, "note": gate.note, "at": gate.decided_at_s}
        if spec.vote is not None:
            decisions = self.decisions(task, spec.vote)
            return decisions[0] if spec.for_each is None else decisions
        if spec.for_each is not None:
            return self.results(task)
        assert task.units is not None
        value = task.units.values[0]
        assert value is not None
        return self.open(value)

    def plan_outputs(self) -> dict[str, Any]:
        """The plan's outputs. One that cannot be told because a task it refers to has no output is null."""
        outputs: dict[str, Any] = {}
        for name, template in self._run.plan.outputs.items():
            tasks = [self._run.tasks[mentioned] for mentioned in template.tasks]
            try:
                outputs[name] = template.evaluate(self._of({task.name: self._seen(task) for task in tasks}))
            except AIPError:
                if all(task.state is TaskState.SUCCEEDED for task in tasks):
                    raise
                outputs[name] = None
        return outputs

    def forget(self, task: TaskRun) -> None:
        self._bases.pop(task.number, None)
        self._items.pop(task.number, None)

    def _seen(self, task: TaskRun) -> dict[str, Any]:
        output = self.output(task)
        seen = {"output": output, "status": str(task.state)}
        if task.spec.for_each is not None:
            seen["outputs"] = output
        seen["added"] = {
            one.name: {"output": self.output(one), "status": str(one.state)}
            for one in task.added
            if one.spec.role is Role.WORK and one.state.terminal
        }
        return seen

    def _of(self, tasks: dict[str, Any]) -> dict[str, Any]:
        if self._inputs is None:
            self._inputs = self.open(self._run.inputs)
        run = {"id": self._run.id, "plan": self._run.plan.name, "attempt": 1}
        return {"inputs": self._inputs, "run": run, "tasks": tasks}


def _templates(task: TaskRun) -> list[Template]:
    spec = task.spec
    gate = spec.gate.question if spec.gate else None
    templates = (spec.arguments, spec.condition, spec.for_each, spec.idempotency_key, gate)
    return [template for template in templates if template is not None]
