"""The sections of plan.yaml, each read into its frozen value. What a section forgets to say stands here as its default."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..expression import search
from ..expression_error import ExpressionInvalid
from ..plan import (
    AgentSpec,
    Backoff,
    Gate,
    InputSpec,
    Isolation,
    OnExceeded,
    PlanLimits,
    Restart,
    Retry,
    TaskSpec,
    Vote,
    When,
)
from ..suggestion import nearest
from ..template import Template
from .document import Node
from .problem import quoted
from .reader import Reader, Use
from .values import violations
from .vocabulary import (
    AMOUNT_MAX,
    APPROVER_FORM,
    ASSIGN_MODES,
    ATTEMPTS_MAX,
    CAPABILITY_FORM,
    CONCURRENCY_MAX,
    DECISIONS,
    INPUT_TYPES,
    ISOLATIONS,
    NOT_YET_USES,
    NOT_YET_VALUES,
    RETRY_ON,
    STRATEGIES,
    UNIT_FORM,
    USE_FORM,
    VOTE_METHODS,
    VOTERS_MAX,
)

NAME_HINT = "use letters, digits and _, beginning with a letter, at most 63, so that expressions can say it"
AGENT_HINT = "use lower case letters, digits and - _ ., beginning with a letter"
CAPABILITY_HINT = "use name or domain.name in lower case"
GATE_FIELDS = frozenset({"gate", "needs", "if", "when"})
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems")
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(_NUMBERS, (int, float)),
    **dict.fromkeys(_COUNTS, (int,)),
    "uniqueItems": (bool,),
}


@dataclass(frozen=True, slots=True)
class Defaults:
    timeout_s: float | None = None
    retry: Retry = field(default_factory=Retry)


@dataclass(slots=True)
class TaskDraft:
    """A task whose references are not resolved yet."""

    spec: TaskSpec
    uses: list[Use]
    item_uses: list[Use]  # Those that stand where `item` and `index` are known.
    needs: list[tuple[str, Node]]
    node: Node


def defaults(reader: Reader, node: Node) -> Defaults:
    found = reader.fields(node, "defaults", "defaults")
    timeout_s = reader.duration_s(found["timeout"], "defaults.timeout") if "timeout" in found else None
    return Defaults(timeout_s, retry(reader, found["retry"], Retry()) if "retry" in found else Retry())


def retry(reader: Reader, node: Node, base: Retry) -> Retry:
    """What the section says over what `base` says."""
    found = reader.fields(node, "retry", "retry")
    made = base
    if "attempts" in found:
        made = replace(
            made,
            attempts=reader.integer(found["attempts"], "retry.attempts", 1, ATTEMPTS_MAX) or made.attempts,
        )
    if "on" in found:
        families = reader.texts(found["on"], "retry.on")
        for name, item in families:
            if name not in RETRY_ON:
                hint = nearest(name, RETRY_ON) or f"one of {', '.join(RETRY_ON)}"
                reader.problem("plan.value", item, f"retry.on cannot be {quoted(name)}", hint)
        made = replace(made, on=frozenset(name for name, _ in families))
    return (
        replace(made, backoff=_backoff(reader, found["backoff"], made.backoff))
        if "backoff" in found
        else made
    )


def _backoff(reader: Reader, node: Node, base: Backoff) -> Backoff:
    found = reader.fields(node, "backoff", "backoff")
    initial_s = reader.duration_s(found["initial"], "backoff.initial") if "initial" in found else None
    max_s = reader.duration_s(found["max"], "backoff.max") if "max" in found else None
    factor = reader.number(found["factor"], "backoff.factor", 1, 100) if "factor" in found else None
    jitter = reader.number(found["jitter"], "backoff.jitter", 0, 1) if "jitter" in found else None
    made = Backoff(
        base.initial_s if initial_s is None else initial_s,
        base.factor if factor is None else factor,
        base.max_s if max_s is None else max_s,
        base.jitter if jitter is None else jitter,
    )
    if made.initial_s > made.max_s:
        message = f"backoff.initial ({made.initial_s:g}s) is longer than backoff.max ({made.max_s:g}s)"
        reader.problem("plan.value", node, message, "raise max, or lower initial")
    return made


def limits(reader: Reader, node: Node) -> PlanLimits:
    found = reader.fields(node, "limits", "limits")
    made = PlanLimits()
    if "deadline" in found:
        made = replace(made, deadline_s=reader.duration_s(found["deadline"], "limits.deadline"))
    if "concurrency" in found:
        slots = reader.integer(found["concurrency"], "limits.concurrency", 1, CONCURRENCY_MAX)
        made = replace(made, concurrency=slots or made.concurrency)
    if "budget" in found:
        made = replace(made, budget=reader.amounts(found["budget"], "limits.budget", UNIT_FORM, AMOUNT_MAX))
    if "on_exceeded" in found:
        act = reader.choice(found["on_exceeded"], "limits.on_exceeded", [str(one) for one in OnExceeded])
        made = replace(made, on_exceeded=OnExceeded(act) if act else made.on_exceeded)
    return made


def agent(reader: Reader, name: str, node: Node, place: tuple[int, int]) -> AgentSpec:
    what = f"agents.{name}"
    found = reader.fields(node, "agent", what)
    low, high = replicas(reader, found["replicas"], what) if "replicas" in found else (1, 1)
    resources = (
        reader.fields(found["resources"], "resources", f"{what}.resources") if "resources" in found else {}
    )
    isolation = "cell"
    if "isolation" in found:
        later = NOT_YET_VALUES["isolation"]
        isolation = reader.choice(found["isolation"], f"{what}.isolation", ISOLATIONS, later) or isolation
    environment: Mapping[str, Any] = {}
    if "runtime_env" in found and reader.is_kind(found["runtime_env"], dict, f"{what}.runtime_env", "a map"):
        environment = found["runtime_env"].plain()
    density = None
    if "density" in found:
        density = reader.integer(found["density"], f"{what}.density", 1, reader.limits.agents_per_cell_max)
    return AgentSpec(
        name=name,
        use=_use(reader, node, found.get("use"), what),
        replicas_min=low,
        replicas_max=high,
        isolation=Isolation(isolation),
        density=density,
        cpu=reader.number(resources["cpu"], f"{what}.resources.cpu", 0, 1024) if "cpu" in resources else None,
        memory_bytes=reader.size_bytes(resources["memory"], f"{what}.resources.memory")
        if "memory" in resources
        else None,
        runtime_env=environment,
        restart=_restart(reader, found["restart"], what) if "restart" in found else Restart(),
        position=reader.position(place),
    )


def _use(reader: Reader, node: Node, use: Node | None, what: str) -> str:
    if use is None:
        if isinstance(node.value, dict):
            reader.missing(node, f"{what}.use", "name its class: use: my_agents:Researcher")
        return ""
    if isinstance(use.value, str) and use.value.startswith(NOT_YET_USES):
        reader.not_yet(use, f"{what}.use: {quoted(use.value)}")
        return ""
    return reader.text(use, f"{what}.use", USE_FORM, "write module:Name, such as my_agents:Researcher") or ""


def replicas(reader: Reader, node: Node, what: str) -> tuple[int, int]:
    most = reader.limits.agents_per_cell_max
    if not isinstance(node.value, dict):
        number = reader.integer(node, f"{what}.replicas", 1, most) or 1
        return number, number
    found = reader.fields(node, "replicas", f"{what}.replicas")
    low = reader.integer(found["min"], f"{what}.replicas.min", 0, most) if "min" in found else 1
    high = (
        reader.integer(found["max"], f"{what}.replicas.max", 1, most) if "max" in found else max(low or 1, 1)
    )
    if low is not None and high is not None and low > high:
        reader.problem(
            "plan.value", node, f"{what}.replicas.min is {low}, more than max, {high}", "swap them"
        )
    return low or 0, high or 1


def _restart(reader: Reader, node: Node, what: str) -> Restart:
    found = reader.fields(node, "restart", f"{what}.restart")
    made = Restart()
    if "strategy" in found:
        made = replace(
            made, strategy=reader.choice(found["strategy"], "restart.strategy", STRATEGIES) or made.strategy
        )
    if "max" in found:
        count = reader.integer(found["max"], "restart.max", 0, 1_000)
        made = replace(made, max=made.max if count is None else count)
    if "within" in found:
        made = replace(made, within_s=reader.duration_s(found["within"], "restart.within") or made.within_s)
    return made


def input_spec(reader: Reader, name: str, node: Node, place: tuple[int, int]) -> InputSpec:
    what = f"inputs.{name}"
    found = reader.fields(node, "input", what)
    required = "default" not in found
    if "required" in found and isinstance(found["required"].value, bool):
        required = found.pop("required").value
        if required and "default" in found:
            reader.problem(
                "plan.value", node, f"{what} is required and has a default", "leave one of them out"
            )
    schema = {key: value.plain() for key, value in found.items() if key != "default"}
    if isinstance(node.value, dict):
        if "type" not in found:
            reader.missing(node, f"{what}.type", f"one of {', '.join(INPUT_TYPES)}")
        input_schema(reader, node, what, top=True)
    default = found["default"].plain() if "default" in found else None
    if "default" in found and not any(problem.line >= place[0] for problem in reader.problems):
        for path, message in violations(default, schema):
            where = ".".join(map(str, ("default", *path)))
            reader.problem("plan.default", found["default"], f"{what}.{where} {message}")
    return InputSpec(name, schema, required, default, reader.position(place))


def input_schema(reader: Reader, node: Node, what: str, top: bool = False) -> None:
    """Check that a schema is one: known keywords with values of their kind."""
    found = reader.fields(node, "input", what)
    if "type" in found:
        reader.choice(found["type"], f"{what}.type", INPUT_TYPES)
    for key, kinds in _KINDS.items():
        if key in found:
            reader.is_kind(
                found[key], kinds, f"{what}.{key}", "a number" if kinds != (bool,) else "true or false"
            )
    if "format" in found:
        reader.choice(found["format"], f"{what}.format", ("path",))
    if "pattern" in found:
        _pattern(reader, found["pattern"], f"{what}.pattern")
    if (
        "enum" in found
        and reader.is_kind(found["enum"], list, f"{what}.enum", "a list")
        and not found["enum"].value
    ):
        reader.problem("plan.value", found["enum"], f"{what}.enum is empty", "no value could ever be given")
    if "required" in found and not (top and isinstance(found["required"].value, bool)):
        reader.texts(found["required"], f"{what}.required")
    if "items" in found:
        input_schema(reader, found["items"], f"{what}.items")
    if "properties" in found and reader.is_kind(found["properties"], dict, f"{what}.properties", "a map"):
        for key, value in found["properties"].value.items():
            input_schema(reader, value, f"{what}.properties.{key}")
    if "additionalProperties" in found and not isinstance(found["additionalProperties"].value, bool):
        input_schema(reader, found["additionalProperties"], f"{what}.additionalProperties")


def _pattern(reader: Reader, node: Node, what: str) -> None:
    pattern = reader.text(node, what)
    if pattern is None:
        return
    try:
        search(pattern, "")
    except ExpressionInvalid as error:
        reader.problem(
            "plan.value",
            node,
            f"{what}: {error.problem}",
            "patterns have no look-around and no back-references",
        )


def task(
    reader: Reader,
    name: str,
    node: Node,
    place: tuple[int, int],
    base: Defaults,
    agents: Mapping[str, AgentSpec],
) -> TaskDraft:
    what = f"tasks.{name}"
    found = reader.fields(node, "task", what)
    uses: list[Use] = []
    item_uses: list[Use] = []

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
        _unknown_agent(reader, found["agent"], who, agents)
        who = None
    capability = None
    if "capability" in found:
        capability = reader.text(found["capability"], f"{what}.capability", CAPABILITY_FORM, CAPABILITY_HINT)
    elif "gate" not in found and isinstance(node.value, dict):
        reader.missing(node, f"{what}.capability", "say what is asked of the agent, or make it a gate")
    if "gate" in found:
        for key in sorted(set(found) - GATE_FIELDS):
            reader.problem(
                "plan.gate",
                node.keys[key],
                f"{what} is a gate, which has no {quoted(key)}",
                "put it in a task of its own",
            )
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
        else base.timeout_s,
        deadline_s=reader.duration_s(found["deadline"], f"{what}.deadline") if "deadline" in found else None,
        idempotency_key=_key(reader, found["idempotency_key"], what, item_uses)
        if "idempotency_key" in found
        else None,
        gate=_gate(reader, found["gate"], what, uses) if "gate" in found else None,
        vote=_assign(reader, found["assign"], what, found.get("agent"), who, agents)
        if "assign" in found
        else None,
        budget=reader.amounts(found["budget"], f"{what}.budget", UNIT_FORM, AMOUNT_MAX)
        if "budget" in found
        else {},
        position=reader.position(place),
    )
    needs = reader.texts(found["needs"], f"{what}.needs") if "needs" in found else []
    return TaskDraft(spec, uses, item_uses, needs, node)


def _unknown_agent(reader: Reader, node: Node, name: str, agents: Mapping[str, AgentSpec]) -> None:
    hint = nearest(name, agents) or (
        f"known are {', '.join(list(agents)[:10])}" if agents else "add it under `agents`"
    )
    reader.problem("plan.unknown_agent", node, f"there is no agent {quoted(name)}", hint)


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


def _assign(
    reader: Reader,
    node: Node,
    what: str,
    agent_node: Node | None,
    who: str | None,
    agents: Mapping[str, AgentSpec],
) -> Vote | None:
    found = reader.fields(node, "assign", f"{what}.assign")
    mode: str | None = "direct"
    if "mode" in found:
        mode = reader.choice(found["mode"], f"{what}.assign.mode", ASSIGN_MODES, NOT_YET_VALUES["mode"])
    elif isinstance(node.value, dict):
        reader.missing(node, f"{what}.assign.mode", "one of direct, vote")
    if mode != "vote":
        for key in sorted(set(found) - {"mode"}) if mode == "direct" else ():
            reader.problem("plan.value", node.keys[key], f"{what}.assign.{key} is for mode: vote only")
        return None
    if "voters" not in found:
        reader.missing(node, f"{what}.assign.voters", "a number of replicas, or a list of agents")
        return None
    voters = _voters(reader, found["voters"], what, agent_node, who, agents)
    quorum, threshold = len(voters) // 2 + 1, 0.5
    if "quorum" in found and voters:
        quorum = reader.integer(found["quorum"], f"{what}.assign.quorum", 1, len(voters)) or quorum
    if "method" in found:
        reader.choice(found["method"], f"{what}.assign.method", VOTE_METHODS, NOT_YET_VALUES["method"])
    if "threshold" in found:
        given = reader.number(found["threshold"], f"{what}.assign.threshold", 0.5, math.nextafter(1, 0))
        threshold = threshold if given is None else given
    return Vote(voters, quorum, threshold)


def _voters(
    reader: Reader,
    node: Node,
    what: str,
    agent_node: Node | None,
    who: str | None,
    agents: Mapping[str, AgentSpec],
) -> tuple[str, ...]:
    if isinstance(node.value, list):
        if agent_node is not None:
            reader.problem(
                "plan.value",
                agent_node,
                f"{what}.assign.voters names the agents already",
                "leave `agent` out",
            )
        found = reader.texts(node, f"{what}.assign.voters")
        for name, item in found:
            if name not in agents:
                _unknown_agent(reader, item, name, agents)
        if not 1 <= len(node.value) <= VOTERS_MAX:
            reader.problem("plan.value", node, f"{what}.assign.voters must name 1 to {VOTERS_MAX} agents")
        return tuple(name for name, _ in found)
    number = reader.integer(node, f"{what}.assign.voters", 1, VOTERS_MAX)
    if number is None:
        return ()
    if agent_node is None:
        reader.problem(
            "plan.missing",
            node,
            f"{what}.agent is missing: whose replicas vote?",
            "name it, or list the voters",
        )
        return ()
    if who is not None and agents[who].replicas_max < number:
        message = f"{number} voters are asked for, but {quoted(who)} has at most {agents[who].replicas_max} replicas"
        reader.problem("plan.voters", node, message, f"set agents.{who}.replicas to {number}")
    return (who or "",) * number
