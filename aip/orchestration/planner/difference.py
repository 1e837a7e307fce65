"""Two plans side by side: what was added, taken away, changed, and what that means for a run that is half done.

A finished task's result holds as long as nothing that made it has changed: what it does, what it is given, who does it, and the
same for every task before it. Then it does not run again; all others do. Keys that say how work is *attempted* and not what it is
(KEEP_RESULTS) change nothing about a result that is there.

Equal is what parses to equal values: comments, order and layout do not count, and a default that is written out is no change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from enum import Enum
from typing import Any

from ..graph import edges, order
from ..plan import Plan, TaskSpec
from ..template import Template

# Fields of the parsed plan whose key in plan.yaml is another word.
KEYS = {
    "arguments": "with",
    "condition": "if",
    "timeout_s": "timeout",
    "deadline_s": "deadline",
    "heartbeat_s": "heartbeat",
    "vote": "assign",
    "market": "assign",
    "cpu": "resources.cpu",
    "memory_bytes": "resources.memory",
    "replicas_min": "replicas.min",
    "replicas_max": "replicas.max",
}
KEEP_RESULTS = frozenset(
    {
        "timeout",
        "deadline",
        "heartbeat",
        "retry",
        "budget",
        "priority",
        "labels",
        "max_parallel",
        "compensate",
    }
)
AGENT_KEEPS_RESULTS = frozenset(
    {"replicas.min", "replicas.max", "isolation", "density", "resources.cpu", "resources.memory", "restart"}
)
DERIVED = frozenset({"name", "position", "digest"})  # Where something stands is no part of what it is.


@dataclass(frozen=True, slots=True)
class Sides:
    """The named things of one kind: only in the second plan, only in the first, in both with these keys changed."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: Mapping[str, tuple[str, ...]]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True, slots=True)
class Difference:
    tasks: Sides
    edges_added: tuple[tuple[str, str], ...]  # (needed, by)
    edges_removed: tuple[tuple[str, str], ...]
    agents: Sides
    inputs: Sides
    outputs: Sides
    settings: tuple[str, ...]  # Of the plan as a whole: name, labels, limits.deadline, …

    def __bool__(self) -> bool:
        named = (self.tasks, self.agents, self.inputs, self.outputs)
        return any(named) or bool(self.edges_added or self.edges_removed or self.settings)


def difference(old: Plan, new: Plan) -> Difference:
    before = {(need, name) for name, needs in edges(old).items() for need in needs}
    after = {(need, name) for name, needs in edges(new).items() for need in needs}
    return Difference(
        tasks=sides(_tasks(old), _tasks(new), changed_keys),
        edges_added=tuple(sorted(after - before)),
        edges_removed=tuple(sorted(before - after)),
        agents=sides(old.agents, new.agents, changed_keys),
        inputs=sides(old.inputs, new.inputs, changed_keys),
        outputs=sides(old.outputs, new.outputs, lambda left, right: () if left == right else ("value",)),
        settings=_settings(old, new),
    )


def runs_again(old: Plan, new: Plan, finished: Iterable[str]) -> tuple[str, ...]:
    """The tasks of the new plan that a run of the old one, with these tasks finished, would still have to run."""
    done = set(finished)
    again: list[str] = []
    open_tasks: set[str] = set()
    agents = difference(old, new).agents
    stale_agents = {*agents.added, *agents.removed} | {
        name for name, keys in agents.changed.items() if not AGENT_KEEPS_RESULTS.issuperset(keys)
    }
    for name in order(edges(new)):
        before, task = old.tasks.get(name), new.tasks[name]
        holds = (
            name in done
            and before is not None
            and KEEP_RESULTS.issuperset(changed_keys(before, task))
            and open_tasks.isdisjoint(task.needs)
            and stale_agents.isdisjoint(_agents_of(task))
        )
        if not holds:
            open_tasks.add(name)
            again.append(name)
    return tuple(again)


def sides(
    old: Mapping[str, Any], new: Mapping[str, Any], changed: Callable[[Any, Any], tuple[str, ...]]
) -> Sides:
    found = {name: changed(old[name], new[name]) for name in old if name in new}
    return Sides(
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        changed={name: keys for name, keys in found.items() if keys},
    )


def changed_keys(old: Any, new: Any) -> tuple[str, ...]:
    """The keys of plan.yaml under which two tasks, agents or inputs of one name differ."""
    found: dict[str, None] = {}
    for one in fields(old):
        if one.name not in DERIVED and plain(getattr(old, one.name)) != plain(getattr(new, one.name)):
            found[KEYS.get(one.name, one.name)] = None
    return tuple(found)


def plain(value: Any) -> Any:
    """The value without places: JSON that can be compared and shown."""
    if isinstance(value, Template):
        return plain(value.source)
    if isinstance(value, Enum):
        return value.value if isinstance(value.value, str) else value.name.lower()
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value) if one.name not in DERIVED}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, frozenset | set):
        return sorted(map(plain, value))
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def as_json(found: Difference) -> dict[str, Any]:
    told = asdict(found)
    told["same"] = not found
    return told


def _tasks(plan: Plan) -> dict[str, TaskSpec]:
    return {**plan.tasks, **{f"finally.{name}": task for name, task in plan.closing.items()}}


def _agents_of(task: TaskSpec) -> tuple[str, ...]:
    return tuple(task.vote.voters) if task.vote else (task.agent,) if task.agent else ()


def _settings(old: Plan, new: Plan) -> tuple[str, ...]:
    """Of all else: the plan's own fields by name, and of its limits each one."""
    found = [f"limits.{key.removesuffix('_s')}" for key in changed_keys(old.limits, new.limits)]
    apart = {"tasks", "agents", "inputs", "outputs", "limits", "closing", *DERIVED}
    names = [one.name for one in fields(old) if one.name not in apart]
    found += [f"metadata.{key}" for key in ("name",) if old.name != new.name]
    found += [
        f"metadata.{name}" if name == "labels" else name
        for name in names
        if plain(getattr(old, name)) != plain(getattr(new, name))
    ]
    return tuple(found)


__all__ = ["Difference", "Sides", "as_json", "changed_keys", "difference", "runs_again"]
