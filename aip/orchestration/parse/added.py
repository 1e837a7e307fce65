"""Tasks that an agent adds to the run it works for: JSON in the language of `tasks:`, read and refused like a plan's own.

They may name what the plan names (its agents, models, tools and inputs), the tasks of the plan, and what the same task has added;
never what another task has added, so that a retry of one can take back its own without breaking the other's.

    not here        because
    plan            the plans that a run may run came with its submission
    compensate      what was undone by one plan cannot be told from what another wrote
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...errors import InvalidPayload, UsageError
from ...settings import DEFAULT_LIMITS, Limits
from ..graph import cycle
from ..plan import Plan, Role, TaskSpec
from . import sections
from .document import Node, read
from .plan_file import linked
from .problem import invalid, quoted
from .reader import Reader
from .task_section import TaskDraft, task
from .vocabulary import NAME_FORM, RESERVED_NAMES

ADDED_BYTES_MAX = 64 * 1024  # Of one call: it stands in the run's journal, which holds no payloads.
REFUSED = {
    "plan": "a run may only run plans that came with its submission",
    "compensate": "what is added is not undone: add a task that undoes it",
}


def source_of(tasks: Mapping[str, Any]) -> bytes:
    """What an agent adds, as it travels and is journaled. Raises `InvalidPayload`, `UsageError`."""
    if not tasks:
        raise UsageError(
            "add_tasks: no tasks", hint='such as {"draft": {"agent": "writer", "capability": "draft"}}'
        )
    try:
        source = json.dumps(tasks, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError, UnicodeEncodeError) as error:
        raise InvalidPayload(f"add_tasks: not what a plan.yaml could hold: {error}") from None
    if len(source) > ADDED_BYTES_MAX:
        raise InvalidPayload(
            f"add_tasks: {len(source)} bytes; the limit is {ADDED_BYTES_MAX}",
            hint="let the tasks refer to results (${{ tasks.NAME.output }}) instead of carrying them",
        )
    return source


def entries_of(source: bytes) -> dict[str, Any]:
    """By name, as plain values: what tells a repeat from something else under the same name."""
    found = json.loads(source)
    if not isinstance(found, dict):
        raise UsageError("add_tasks: a map of tasks by name is wanted")
    return found


def added(
    source: bytes, plan: Plan, known: Mapping[str, TaskSpec], by: str, limits: Limits = DEFAULT_LIMITS
) -> dict[str, TaskSpec]:
    """The tasks of `source`, which may refer to those that are `known`. Raises `PlanInvalid`."""
    file = f"added by {by}"
    root = read(source, file, limits)
    reader = Reader(file, source.decode("utf-8"), limits)
    entries = reader.entries(root, "tasks", NAME_FORM, sections.NAME_HINT, RESERVED_NAMES)
    drafts: dict[str, TaskDraft] = {}
    for name, node in entries.items():
        _refuse(reader, name, node, plan, known)
        drafts[name] = task(reader, name, node, root.keys[name], plan.defaults, plan.agents)
    there = {name: TaskDraft(spec, [], [], [], root) for name, spec in known.items()}
    specs = {name: linked(reader, draft, {**there, **drafts}, plan.inputs) for name, draft in drafts.items()}
    ring = cycle({name: [need for need in spec.needs if need in specs] for name, spec in specs.items()})
    if ring:
        reader.problem(
            "plan.cycle", root, f"these tasks wait for each other: {' → '.join(ring)}", "take away one"
        )
    if reader.problems:
        raise invalid(reader.problems)
    return {name: replace(spec, role=Role.WORK) for name, spec in specs.items()}


def _refuse(reader: Reader, name: str, node: Node, plan: Plan, known: Mapping[str, TaskSpec]) -> None:
    if name in known or name in plan.closing:
        reader.problem("plan.name", node, f"there is a task {quoted(name)} already", "choose another name")
    if isinstance(node.value, dict):
        for key in sorted(REFUSED.keys() & node.value):
            reader.problem("plan.added", node.keys[key], f"tasks.{name}.{key}: {REFUSED[key]}")
