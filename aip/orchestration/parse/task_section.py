"""`tasks:` and `finally:`: one task, with its expressions read and not yet resolved."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..plan import (
    AgentSpec,
    Compensation,
    Defaults,
    Gate,
    Market,
    OutputRule,
    Priority,
    Role,
    TaskSpec,
    Tolerance,
    Vote,
    When,
)
from ..template import Template
from .assign_section import Candidates, assign, refuse_unknown_agent
from .document import Node
from .input_section import value_schema
from .problem import quoted
from .reader import Reader, Use
from .sections import CAPABILITY_HINT, retry
from .vocabulary import (
    APPROVER_FORM,
    CAPABILITY_FORM,
    CONCURRENCY_MAX,
    DECISIONS,
    LABEL_FORM,
    LABEL_HINT,
    LABEL_VALUE_FORM,
    LABELS_MAX,
    PERCENT_FORM,
    PLAN_FILE_FORM,
    PRIORITIES,
    RESERVED_LABELS,
)

GATE_FIELDS = frozenset({"gate", "needs", "if", "when"})
CALL_FIELDS = frozenset({"agent", "capability", "assign", "heartbeat"})
PLAN_FILE_HINT = "name a file beside this plan or below it, such as ./other.yaml"
LAST_TIMEOUT_S = 300.0  # Of what undoes or closes, where nothing is said: a run must come to its end.


@dataclass(slots=True)
class TaskDraft:
    """A task whose references are not resolved yet."""

    spec: TaskSpec
    uses: list[Use]
    item_uses: list[Use]  # Those that stand where `item` and `index` are known.
    needs: list[tuple[str, Node]]
    node: Node
    late_uses: list[Use] = field(default_factory=list)  # Read when all work is over: they make no edges.


def task(
    reader: Reader,
    name: str,
    node: Node,
    place: tuple[int, int],
    base: Defaults,
    agents: Mapping[str, AgentSpec],
    role: Role = Role.WORK,
) -> TaskDraft:
    what = f"tasks.{name}" if role is Role.WORK else f"finally.{name}"
    found = reader.fields(node, "task" if role is Role.WORK else "closing_task", what)
    uses: list[Use] = []
    item_uses: list[Use] = []
    late_uses: list[Use] = []

    def template(key: str, into: list[Use]) -> Template:
        made, refers = reader.template(found[key], f"{what}.{key}")
        into.extend(refers)
        return made

    def whole(key: str, also: type) -> Template | None:
        read = reader.whole_expression(found[key], f"{what}.{key}", also) if key in found else None
        uses.extend(read[1] if read else [])
        return read[0] if read else None

    if "with" in found:
        reader.is_kind(found["with"], dict, f"{what}.with", "a map of arguments")
    when = (
        reader.choice(found["when"], f"{what}.when", [str(one) for one in When]) if "when" in found else None
    )
    who = reader.text(found["agent"], f"{what}.agent") if "agent" in found else None
    if who is not None and who not in agents:
        refuse_unknown_agent(reader, found["agent"], who, agents)
        who = None
    capability = None
    if "capability" in found:
        capability = reader.text(found["capability"], f"{what}.capability", CAPABILITY_FORM, CAPABILITY_HINT)
    elif "gate" not in found and "plan" not in found and isinstance(node.value, dict):
        reader.missing(node, f"{what}.capability", "say what is asked of the agent, or make it a gate")
    if "gate" in found:
        for key in sorted(set(found) - GATE_FIELDS):
            reader.problem(
                "plan.gate",
                node.keys[key],
                f"{what} is a gate, which has no {quoted(key)}",
                "put it in a task of its own",
            )
    if "plan" in found and "gate" not in found:
        for key in sorted(set(found) & CALL_FIELDS):
            message = f"{what} is a run of a plan, which has no {quoted(key)}"
            reader.problem("plan.subplan", node.keys[key], message, "put it in a task of its own")
    candidates = Candidates(found.get("agent"), who, agents)
    how = assign(reader, found["assign"], what, candidates) if "assign" in found else None
    spec = TaskSpec(
        name=name,
        agent=who,
        capability=capability,
        arguments=template("with", item_uses) if "with" in found else Template({}),
        needs=(),
        for_each=whole("for_each", list),
        condition=whole("if", bool),
        when=When(when) if when else When.ALL_OK,
        retry=retry(reader, found["retry"], base.retry) if "retry" in found else base.retry,
        timeout_s=reader.duration_s(found["timeout"], f"{what}.timeout")
        if "timeout" in found
        else base.timeout_s or (None if role is Role.WORK else LAST_TIMEOUT_S),
        deadline_s=reader.duration_s(found["deadline"], f"{what}.deadline") if "deadline" in found else None,
        idempotency_key=_key(reader, found["idempotency_key"], what, item_uses)
        if "idempotency_key" in found
        else None,
        gate=_gate(reader, found["gate"], what, uses) if "gate" in found else None,
        vote=how if isinstance(how, Vote) else None,
        budget=reader.amounts(found["budget"], f"{what}.budget") if "budget" in found else {},
        position=reader.position(place),
        role=role,
        priority=_priority(reader, found["priority"], what) if "priority" in found else Priority.NORMAL,
        max_parallel=_max_parallel(reader, found, what),
        allow_failures=_tolerance(reader, found, what),
        labels=_labels(reader, found["labels"], what) if "labels" in found else {},
        heartbeat_s=reader.duration_s(found["heartbeat"], f"{what}.heartbeat")
        if "heartbeat" in found
        else None,
        output=_output(reader, found["output"], what) if "output" in found else None,
        compensate=_compensation(reader, found["compensate"], what, who, base, agents, late_uses)
        if "compensate" in found
        else None,
        market=how if isinstance(how, Market) else None,
        plan=reader.text(found["plan"], f"{what}.plan", PLAN_FILE_FORM, PLAN_FILE_HINT)
        if "plan" in found
        else None,
    )
    needs = reader.texts(found["needs"], f"{what}.needs") if "needs" in found else []
    return TaskDraft(spec, uses, item_uses, needs, node, late_uses)


def _priority(reader: Reader, node: Node, what: str) -> Priority:
    chosen = reader.choice(node, f"{what}.priority", PRIORITIES)
    return Priority[chosen.upper()] if chosen else Priority.NORMAL


def _max_parallel(reader: Reader, found: Mapping[str, Node], what: str) -> int | None:
    if "max_parallel" not in found:
        return None
    _refuse_without_items(reader, found, what, "max_parallel")
    return reader.integer(found["max_parallel"], f"{what}.max_parallel", 1, CONCURRENCY_MAX)


def _tolerance(reader: Reader, found: Mapping[str, Node], what: str) -> Tolerance | None:
    """A count of items, or a part of them in percent."""
    if "allow_failures" not in found:
        return None
    node, where = found["allow_failures"], f"{what}.allow_failures"
    _refuse_without_items(reader, found, what, "allow_failures")
    if isinstance(node.value, str):
        text = reader.text(
            node, where, PERCENT_FORM, "write a number of items, or a part of them such as 20%"
        )
        return None if text is None else Tolerance(percent=float(text.rstrip("%")))
    count = reader.integer(node, where, 0, reader.limits.fan_out_max)
    return None if count is None else Tolerance(count)


def _refuse_without_items(reader: Reader, found: Mapping[str, Node], what: str, key: str) -> None:
    if "for_each" not in found:
        node = found[key]
        reader.problem("plan.value", node, f"{what}.{key} is for tasks with for_each only", "leave it out")


def _labels(reader: Reader, node: Node, what: str) -> dict[str, str]:
    found = reader.entries(node, f"{what}.labels", LABEL_FORM, LABEL_HINT, RESERVED_LABELS)
    if len(found) > LABELS_MAX:
        reader.problem("plan.value", node, f"{what} has {len(found)} labels; the limit is {LABELS_MAX}")
    read = {key: reader.text(value, f"{what}.labels.{key}", LABEL_VALUE_FORM) for key, value in found.items()}
    return {key: value for key, value in read.items() if value is not None}


def _output(reader: Reader, node: Node, what: str) -> OutputRule:
    found = reader.fields(node, "output", f"{what}.output")
    if not found and isinstance(node.value, dict):
        reader.missing(
            node, f"{what}.output.schema", "say what a result must be, or how long it is kept (ttl)"
        )
    return OutputRule(
        value_schema(reader, found["schema"], f"{what}.output.schema") if "schema" in found else None,
        reader.duration_s(found["ttl"], f"{what}.output.ttl") if "ttl" in found else None,
        reader.position((node.line, node.column)),
    )


def _compensation(
    reader: Reader,
    node: Node,
    what: str,
    who: str | None,
    base: Defaults,
    agents: Mapping[str, AgentSpec],
    uses: list[Use],
) -> Compensation | None:
    where = f"{what}.compensate"
    found = reader.fields(node, "compensate", where)
    if "agent" in found:
        who = reader.text(found["agent"], f"{where}.agent")
        if who is not None and who not in agents:
            refuse_unknown_agent(reader, found["agent"], who, agents)
    capability = None
    if "capability" in found:
        capability = reader.text(found["capability"], f"{where}.capability", CAPABILITY_FORM, CAPABILITY_HINT)
    elif isinstance(node.value, dict):
        reader.missing(node, f"{where}.capability", "say what undoes the task")
    arguments = Template({})
    if "with" in found and reader.is_kind(found["with"], dict, f"{where}.with", "a map of arguments"):
        arguments, refers = reader.template(found["with"], f"{where}.with")
        uses.extend(refers)
    timeout_s = reader.duration_s(found["timeout"], f"{where}.timeout") if "timeout" in found else None
    return Compensation(
        who,
        capability or "",
        arguments,
        retry(reader, found["retry"], base.retry) if "retry" in found else base.retry,
        timeout_s or base.timeout_s or LAST_TIMEOUT_S,
        reader.position((node.line, node.column)),
    )


def _key(reader: Reader, node: Node, what: str, uses: list[Use]) -> Template | None:
    if reader.text(node, f"{what}.idempotency_key") is None:
        return None
    made, refers = reader.template(node, f"{what}.idempotency_key")
    uses.extend(refers)
    return made


def _gate(reader: Reader, node: Node, what: str, uses: list[Use]) -> Gate:
    found = reader.fields(node, "gate", f"{what}.gate")
    question = Template("")
    if "question" not in found:
        if isinstance(node.value, dict):
            reader.missing(node, f"{what}.gate.question", "ask the person something")
    elif reader.text(found["question"], f"{what}.gate.question") is not None:
        question, refers = reader.template(found["question"], f"{what}.gate.question")
        uses.extend(refers)
    default = (
        reader.choice(found["default"], f"{what}.gate.default", DECISIONS) if "default" in found else None
    )
    return Gate(
        question,
        _approvers(reader, found["approvers"], f"{what}.gate.approvers") if "approvers" in found else (),
        reader.duration_s(found["expires"], f"{what}.gate.expires") if "expires" in found else None,
        default or "deny",
    )


def _approvers(reader: Reader, node: Node, what: str) -> tuple[str, ...]:
    """Persons by name. Who holds which role nobody knows yet, and a list of nobody would be taken for everybody."""
    found = reader.texts(node, what)
    for name, item in found:
        if name.startswith("role:"):
            reader.not_yet(item, f"{what}: {quoted(name)}")
        elif not re.match(APPROVER_FORM, name):
            reader.problem("plan.value", item, f"{what} cannot be {quoted(name)}", "write user:NAME")
    if node.value == []:
        reader.problem("plan.value", node, f"{what} names nobody", "leave it out to let anybody decide")
    return tuple(name for name, _ in found)
