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
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from ...settings import DEFAULT_LIMITS, Limits
from ..expression import LATE_RUN_FIELDS
from ..graph import cycle
from ..plan import AgentSpec, Defaults, InputSpec, Plan, PlanLimits, Role, TaskSpec
from ..suggestion import nearest
from . import sections
from .document import Node, read
from .input_section import input_spec
from .model_section import model, refuse_unpriced
from .problem import invalid, quoted
from .reader import Reader, Use
from .task_section import TaskDraft, task
from .tool_section import tool_server
from .tool_use import is_tool_server, tool_agent
from .vocabulary import AGENT_FORM, API_VERSION, NAME_FORM, PART_FORM, PLAN_NAME_FORM, RESERVED_NAMES

PART_HINT = "use lower case letters, digits and - _, beginning with a letter, at most 55"
CYCLE_NAMES_MAX = 12  # A longer cycle is told by its first names.

_PARTS: dict[str, Callable[[Reader, str, Node, tuple[int, int]], AgentSpec]] = {
    "models": model,
    "tools": tool_server,
}
"""Sections whose entries are agents of ours, named SECTION.NAME."""


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
    base = sections.defaults(reader, found["defaults"]) if "defaults" in found else Defaults()
    limits = sections.limits(reader, found["limits"]) if "limits" in found else PlanLimits()
    inputs = _inputs(reader, found["inputs"]) if "inputs" in found else {}
    agents = _agents(reader, found)
    drafts = _drafts(reader, found["tasks"], "tasks", base, agents) if "tasks" in found else {}
    closing_drafts = _drafts(reader, found["finally"], "finally", base, agents) if "finally" in found else {}
    tasks = {name: linked(reader, draft, drafts, inputs) for name, draft in drafts.items()}
    closing = _closing(reader, closing_drafts, drafts, inputs)
    _refuse_cycle(reader, tasks)
    _refuse_cycle(reader, closing)
    _refuse_idle_limits(reader, found, limits, [*tasks.values(), *closing.values()])
    budgets = {"limits.budget": limits.budget} | {
        f"tasks.{one.name}.budget": one.budget for one in tasks.values()
    }
    refuse_unpriced(reader, agents.values(), budgets)
    outputs = {}
    if "outputs" in found:
        what = "outputs"
        entries = reader.entries(found[what], what, NAME_FORM, sections.NAME_HINT, RESERVED_NAMES)
        for key, node in entries.items():
            outputs[key], uses = reader.template(node, f"outputs.{key}")
            for use in uses:
                _refuse_unknown(reader, use, drafts, inputs, item_known=False)
    return Plan(name, labels, inputs, limits, agents, tasks, outputs, digest, closing, base)


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
    return {name: input_spec(reader, name, one, node.keys[name]) for name, one in entries.items()}


def _agents(reader: Reader, found: Mapping[str, Node]) -> dict[str, AgentSpec]:
    """Who can be asked: the plan's own agents, its models, its tools."""
    agents: dict[str, AgentSpec] = {}
    if "agents" in found:
        node = found["agents"]
        for name, one in reader.entries(node, "agents", AGENT_FORM, sections.AGENT_HINT).items():
            section = name.partition(".")[0]
            if section in _PARTS and "." in name:
                message = f"{quoted(name)} cannot be a name under agents: it belongs to the section {section}"
                reader.problem("plan.name", node.keys[name], message, "choose another name")
            read_agent = tool_agent if is_tool_server(one) else sections.agent
            agents[name] = read_agent(reader, name, one, node.keys[name])
    for section, read_one in _PARTS.items():
        if section in found:
            node = found[section]
            for name, one in reader.entries(node, section, PART_FORM, PART_HINT).items():
                agents[f"{section}.{name}"] = read_one(reader, name, one, node.keys[name])
    return agents


def _drafts(
    reader: Reader, node: Node, section: str, base: Defaults, agents: Mapping[str, AgentSpec]
) -> dict[str, TaskDraft]:
    entries = reader.entries(node, section, NAME_FORM, sections.NAME_HINT, RESERVED_NAMES)
    most = reader.limits.plan_tasks_max
    if len(entries) > most:
        reader.problem(
            "plan.tasks",
            node,
            f"{len(entries)} {section}; the limit is {most}",
            "use for_each for tasks that differ only in their data",
        )
        return {}
    if not entries and isinstance(node.value, dict):
        reader.missing(
            node, "a task", "a plan has at least one" if section == "tasks" else "leave `finally` out"
        )
    role = Role.WORK if section == "tasks" else Role.CLOSE
    return {
        name: task(reader, name, one, node.keys[name], base, agents, role) for name, one in entries.items()
    }


def linked(
    reader: Reader,
    draft: TaskDraft,
    drafts: Mapping[str, TaskDraft],
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
    for use in draft.late_uses:
        _refuse_unknown(reader, use, drafts, inputs, item_known=False, late=True)
    return replace(draft.spec, needs=tuple(needs))


def _closing(
    reader: Reader,
    closing: Mapping[str, TaskDraft],
    work: Mapping[str, TaskDraft],
    inputs: Mapping[str, InputSpec],
) -> dict[str, TaskSpec]:
    """The tasks of `finally`: they wait for each other only, since all work has ended when they begin."""
    linked = {}
    both = {**work, **closing}
    for name, draft in closing.items():
        if name in work:
            place = (draft.spec.position.line, draft.spec.position.column)
            reader.problem(
                "plan.name", place, f"{quoted(name)} is the name of a task already", "choose another name"
            )
        uses = [(use, False) for use in draft.uses]
        uses += [(use, draft.spec.for_each is not None) for use in draft.item_uses]
        needs: dict[str, None] = {}
        for need, node in draft.needs:
            if need in closing:
                needs[need] = None
            elif need in work:
                message = f"{quoted(need)} is work, and all work has ended before `finally`"
                reader.problem("plan.unknown_task", node, message, "leave it out of `needs`")
            else:
                _unknown_task(reader, (node.line, node.column), need, closing)
        for use, item_known in uses:
            root, *rest = use.reference.path
            known = _refuse_unknown(reader, use, both, inputs, item_known, late=True)
            if known and root == "tasks" and rest[0] in closing:
                needs[rest[0]] = None
        linked[name] = replace(draft.spec, needs=tuple(needs))
    return linked


def _refuse_idle_limits(
    reader: Reader, found: Mapping[str, Node], limits: PlanLimits, tasks: Iterable[TaskSpec]
) -> None:
    """A limit of a label that no task has limits nothing: most likely one of the two is misspelt."""
    if not limits.concurrency_by_label:
        return
    labels = {f"{key}={value}" for task in tasks for key, value in task.labels.items()}
    section = found["limits"].value["concurrency_by_label"]
    for label in limits.concurrency_by_label:
        if label not in labels:
            hint = nearest(label, labels) or "give a task this label"
            reader.problem(
                "plan.unknown_label", section.keys[label], f"no task has the label {quoted(label)}", hint
            )


def _refuse_unknown(
    reader: Reader,
    use: Use,
    drafts: Mapping[str, TaskDraft],
    inputs: Mapping[str, InputSpec],
    item_known: bool,
    late: bool = False,
) -> bool:
    """Whether what is referred to exists at that place; if not, the problem is noted."""
    root, *rest = use.reference.path
    place = (use.line, use.column)
    if root in ("item", "index") and not item_known:
        message = f"{quoted(root)} is known in `with` and `idempotency_key` of a task with for_each, not here"
        reader.problem("plan.unknown_reference", place, message, "add for_each, or refer to the list itself")
        return False
    if root == "run" and rest and rest[0] in LATE_RUN_FIELDS and not late:
        message = (
            f"run.{rest[0]} is known in `finally` and in `compensate.with`, when all work has ended, not here"
        )
        reader.problem("plan.unknown_reference", place, message, "use `when`, or move the task to `finally`")
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


def _unknown_task(reader: Reader, place: tuple[int, int], name: str, drafts: Mapping[str, TaskDraft]) -> None:
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
