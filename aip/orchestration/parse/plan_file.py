"""plan.yaml to a `Plan`: the whole file read, every name resolved, every edge drawn, or every problem named.

Guarantees:
- `parse` returns a plan that can run as far as the file alone can say, or raises `PlanInvalid` with all problems found (at most
  PROBLEMS_MAX), each with code, file, line, column, message and suggestion. No other exception, whatever the bytes.
- No code of the plan is imported, no expression is evaluated, nothing is read but the bytes given.
- What is accepted is enforced: a key or value that this version does not act on is a problem of code `plan.not_yet`.

It does not know the agents' capabilities: `check` does, once their manifests are there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from ...settings import DEFAULT_LIMITS, Limits
from ..graph import cycle
from ..plan import AgentSpec, InputSpec, Plan, PlanLimits, TaskSpec
from ..suggestion import nearest
from . import sections
from .document import Node, read
from .problem import invalid, quoted
from .reader import Reader, Use
from .vocabulary import AGENT_FORM, API_VERSION, NAME_FORM, PLAN_NAME_FORM, RESERVED_NAMES

CYCLE_NAMES_MAX = 12  # A longer cycle is told by its first names.


def parse(text: bytes, file: str, limits: Limits = DEFAULT_LIMITS) -> Plan:
    """The plan that the bytes hold. Raises `PlanInvalid`; `details["problems"]` lists what is wrong."""
    root = read(text, file, limits)
    reader = Reader(file, text.decode("utf-8"), limits)
    plan = _plan(reader, root, hashlib.sha256(text).hexdigest())
    if reader.problems:
        raise invalid(reader.problems)
    return plan


def _plan(reader: Reader, root: Node, digest: str) -> Plan:
    found = reader.fields(root, "plan", "the plan")
    if isinstance(root.value, dict):
        _header(reader, root, found)
    name, labels = _metadata(reader, found["metadata"]) if "metadata" in found else ("", {})
    base = sections.defaults(reader, found["defaults"]) if "defaults" in found else sections.Defaults()
    limits = sections.limits(reader, found["limits"]) if "limits" in found else PlanLimits()
    inputs = _inputs(reader, found["inputs"]) if "inputs" in found else {}
    agents = _agents(reader, found["agents"]) if "agents" in found else {}
    drafts = _drafts(reader, found["tasks"], base, agents) if "tasks" in found else {}
    tasks = {name: _linked(reader, draft, drafts, inputs) for name, draft in drafts.items()}
    _refuse_cycle(reader, tasks)
    outputs = {}
    if "outputs" in found:
        what = "outputs"
        entries = reader.entries(found[what], what, NAME_FORM, sections.NAME_HINT, RESERVED_NAMES)
        for key, node in entries.items():
            outputs[key], uses = reader.template(node, f"outputs.{key}")
            for use in uses:
                _refuse_unknown(reader, use, drafts, inputs, item_known=False)
    return Plan(name, labels, inputs, limits, agents, tasks, outputs, digest)


def _header(reader: Reader, root: Node, found: Mapping[str, Node]) -> None:
    for key, wanted in (("apiVersion", API_VERSION), ("kind", "Plan")):
        if key not in found:
            reader.missing(root, key, f"write {key}: {wanted}")
        elif found[key].value != wanted:
            reader.problem("plan.version", found[key], f"{key} must be {wanted}", f"write {key}: {wanted}")
    for key, hint in (
        ("metadata", "write metadata: {name: my-plan}"),
        ("tasks", "a plan has at least one task"),
    ):
        if key not in found:
            reader.missing(root, key, hint)


def _metadata(reader: Reader, node: Node) -> tuple[str, dict[str, str]]:
    found = reader.fields(node, "metadata", "metadata")
    name, labels = None, {}
    if "name" in found:
        name = reader.text(found["name"], "metadata.name", PLAN_NAME_FORM, sections.AGENT_HINT)
    elif isinstance(node.value, dict):
        reader.missing(node, "metadata.name", "name the plan")
    if "labels" in found and reader.is_kind(found["labels"], dict, "metadata.labels", "a map of texts"):
        read = {
            key: reader.text(value, f"metadata.labels.{key}") for key, value in found["labels"].value.items()
        }
        labels = {key: value for key, value in read.items() if value is not None}
    return name or "", labels


def _inputs(reader: Reader, node: Node) -> dict[str, InputSpec]:
    entries = reader.entries(node, "inputs", NAME_FORM, sections.NAME_HINT, RESERVED_NAMES)
    return {name: sections.input_spec(reader, name, one, node.keys[name]) for name, one in entries.items()}


def _agents(reader: Reader, node: Node) -> dict[str, AgentSpec]:
    entries = reader.entries(node, "agents", AGENT_FORM, sections.AGENT_HINT)
    return {name: sections.agent(reader, name, one, node.keys[name]) for name, one in entries.items()}


def _drafts(
    reader: Reader, node: Node, base: sections.Defaults, agents: Mapping[str, AgentSpec]
) -> dict[str, sections.TaskDraft]:
    entries = reader.entries(node, "tasks", NAME_FORM, sections.NAME_HINT, RESERVED_NAMES)
    most = reader.limits.plan_tasks_max
    if len(entries) > most:
        reader.problem(
            "plan.tasks",
            node,
            f"{len(entries)} tasks; the limit is {most}",
            "use for_each for tasks that differ only in their data",
        )
        return {}
    if not entries and isinstance(node.value, dict):
        reader.missing(node, "a task", "a plan has at least one")
    return {
        name: sections.task(reader, name, one, node.keys[name], base, agents) for name, one in entries.items()
    }


def _linked(
    reader: Reader,
    draft: sections.TaskDraft,
    drafts: Mapping[str, sections.TaskDraft],
    inputs: Mapping[str, InputSpec],
) -> TaskSpec:
    """The task with its edges: as written, then as implied, each once."""
    needs: dict[str, None] = {}
    for name, node in draft.needs:
        if name in drafts:
            needs[name] = None
        else:
            _unknown_task(reader, (node.line, node.column), name, drafts)
    for known, uses in ((False, draft.uses), (draft.spec.for_each is not None, draft.item_uses)):
        for use in uses:
            root, *rest = use.reference.path
            if _refuse_unknown(reader, use, drafts, inputs, known) and root == "tasks":
                needs[rest[0]] = None
    return replace(draft.spec, needs=tuple(needs))


def _refuse_unknown(
    reader: Reader,
    use: Use,
    drafts: Mapping[str, sections.TaskDraft],
    inputs: Mapping[str, InputSpec],
    item_known: bool,
) -> bool:
    """Whether what is referred to exists at that place; if not, the problem is noted."""
    root, *rest = use.reference.path
    place = (use.line, use.column)
    if root in ("item", "index") and not item_known:
        message = f"{quoted(root)} is known in `with` and `idempotency_key` of a task with for_each, not here"
        reader.problem("plan.unknown_reference", place, message, "add for_each, or refer to the list itself")
        return False
    if root == "inputs" and rest and rest[0] not in inputs:
        hint = nearest(rest[0], inputs) or "add it under `inputs`"
        reader.problem("plan.unknown_reference", place, f"there is no input {quoted(rest[0])}", hint)
        return False
    if root == "tasks" and rest[0] not in drafts:
        _unknown_task(reader, place, rest[0], drafts)
        return False
    if root == "tasks" and rest[1] == "outputs" and drafts[rest[0]].spec.for_each is None:
        message = f"{quoted(rest[0])} has no for_each, hence one output"
        reader.problem("plan.unknown_reference", place, message, f"write tasks.{rest[0]}.output")
        return False
    return True


def _unknown_task(
    reader: Reader, place: tuple[int, int], name: str, drafts: Mapping[str, sections.TaskDraft]
) -> None:
    reader.problem("plan.unknown_task", place, f"there is no task {quoted(name)}", nearest(name, drafts))


def _refuse_cycle(reader: Reader, tasks: Mapping[str, TaskSpec]) -> None:
    names = cycle({name: task.needs for name, task in tasks.items()})
    if not names:
        return
    first = min(names, key=lambda name: (tasks[name].position.line, tasks[name].position.column))
    turn = names.index(first)
    ring = [*names[turn:-1], *names[:turn], first]
    shown = " → ".join(ring if len(ring) <= CYCLE_NAMES_MAX else [*ring[:CYCLE_NAMES_MAX], "…"])
    position = tasks[first].position
    message = f"these tasks wait for each other: {shown}"
    reader.problem(
        "plan.cycle", (position.line, position.column), message, "take away one `needs` or reference"
    )
