"""A trace as OpenTelemetry spans, in the semantic conventions for generative AI (v1.41, status: development).

    node       span                               kind       operation
    run        invoke_workflow PLAN               INTERNAL   invoke_workflow
    task       task TASK                          INTERNAL   none: the conventions have no name for it
    attempt    invoke_agent AGENT                 INTERNAL   invoke_agent
    message    to an agent, as an attempt
               to models.NAME: chat MODEL         CLIENT     chat
               to tools.NAME: execute_tool TOOL   INTERNAL   execute_tool, type extension
    effect     execute_tool EFFECT                INTERNAL   execute_tool, type function
    gate       gate TASK                          INTERNAL   none
    refusal, note                                 an event of the span above

What the conventions do not name is under `aip.`; spending is `gen_ai.usage.…_tokens` where its unit says which tokens, else
`aip.spent.UNIT`. Prompts and answers are in no span: the journal does not hold them for others to read.

Ids are hashes of the run and the node, so a run that is exported twice is the same trace twice. Only what has ended becomes a
span, as OpenTelemetry wants it: of a run that is at work the rest comes with a later export, under the ids announced here.

https://github.com/open-telemetry/semantic-conventions/blob/v1.41.0/docs/gen-ai/gen-ai-agent-spans.md
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from .trace import OPEN, Node, Trace, plan_agent

TEXT_CHARS_MAX = 4_000  # Backends cut longer attributes anyway, and mostly in the middle of a character.
MODELS, TOOLS = "models.", "tools."  # How a plan's models and tools begin, as agents.
USAGE = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
}
FINE = frozenset({"succeeded", "skipped", "answered", "done", "approve"})

Value = str | bool | int | float


class SpanKind(IntEnum):
    """By the numbers of OTLP."""

    INTERNAL = 1
    CLIENT = 3


@dataclass(frozen=True, slots=True)
class SpanEvent:
    name: str
    at_ns: int
    attributes: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Span:
    trace_id: int  # 128 bits
    span_id: int  # 64 bits
    parent_id: int | None
    name: str
    kind: SpanKind
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Value]
    events: tuple[SpanEvent, ...] = ()
    error: str | None = None  # None: the status is not an error.


def trace_id(run: str) -> int:
    return _number(f"aip/{run}", 16)


def span_id(run: str, node: str) -> int:
    return _number(f"aip/{run}/{node}", 8)


def _number(name: str, size_bytes: int) -> int:
    """A hash as an id. All zeros would be no id (W3C Trace Context, 2.2.3); no hash of ours is, within all likelihood."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:size_bytes], "big") or 1


def spans_of(trace: Trace) -> Iterator[Span]:
    """The spans of everything in the trace that has ended, causes first."""
    yield from _below(trace, trace.root, None)


def _below(trace: Trace, node: Node, parent_id: int | None) -> Iterator[Span]:
    own_id = span_id(trace.run, node.id)
    if node.ended_at_s is not None and node.outcome != OPEN:
        yield _span(trace, node, own_id, parent_id, node.ended_at_s)
    for child in node.children:
        if child.kind not in ("refusal", "note"):
            yield from _below(trace, child, own_id)


def _span(trace: Trace, node: Node, own_id: int, parent_id: int | None, ended_at_s: float) -> Span:
    name, kind, attributes = _SHAPES[node.kind](trace, node)
    attributes["gen_ai.conversation.id"] = trace.run
    attributes["aip.outcome"] = node.outcome
    attributes |= _spending(node.facts.get("spent") or {})
    error = None
    if node.error is not None or node.outcome not in FINE:
        code = str((node.error or {}).get("code") or f"aip.{node.outcome}")
        attributes["error.type"] = code
        error = _cut((node.error or {}).get("message") or code)
    events = tuple(_event(child) for child in node.children if child.kind in ("refusal", "note"))
    start_ns = _ns(node.started_at_s)
    # A clock that was set back gives an end before the start; a span of no length is the nearest truth a backend takes.
    end_ns = max(_ns(ended_at_s), start_ns)
    return Span(
        trace_id(trace.run), own_id, parent_id, name, kind, start_ns, end_ns, attributes, events, error
    )


def _workflow(trace: Trace, node: Node) -> tuple[str, SpanKind, dict[str, Value]]:
    attributes: dict[str, Value] = {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": trace.plan,
        "aip.run.id": trace.run,
    }
    for fact in ("plan_digest", "submitted_by"):
        if node.facts.get(fact):
            attributes[f"aip.{fact}"] = str(node.facts[fact])
    return f"invoke_workflow {trace.plan}".rstrip(), SpanKind.INTERNAL, attributes


def _task(_: Trace, node: Node) -> tuple[str, SpanKind, dict[str, Value]]:
    facts = {key: node.facts.get(key) for key in ("generation", "units", "capability", "reason")}
    return f"task {node.name}", SpanKind.INTERNAL, {"aip.task": node.name, **_named(facts)}


def _gate(_: Trace, node: Node) -> tuple[str, SpanKind, dict[str, Value]]:
    facts = {key: node.facts.get(key) for key in ("question", "by", "note")}
    return f"gate {node.name}", SpanKind.INTERNAL, {"aip.task": node.name, **_named(facts)}


def _attempt(trace: Trace, node: Node) -> tuple[str, SpanKind, dict[str, Value]]:
    facts = node.facts
    agent = str(facts["agent"] or node.name)
    name, kind, attributes = _asked(
        agent, f"{trace.run}.{agent}.{facts['replica']}", facts["capability"], node.id
    )
    told = {key: facts.get(key) for key in ("task", "unit", "attempt", "lease", "replica", "generation")}
    return name, kind, attributes | _named(told)


def _message(trace: Trace, node: Node) -> tuple[str, SpanKind, dict[str, Value]]:
    recipient = str(node.facts["recipient"])
    agent = plan_agent(recipient, trace.run)[0]
    name, kind, attributes = _asked(agent, recipient, node.name, node.id)
    return name, kind, {**attributes, "aip.sender": str(node.facts["sender"])}


def _asked(agent: str, address: str, capability: object, call: str) -> tuple[str, SpanKind, dict[str, Value]]:
    """An agent that is asked for something: a model, a tool, or an agent in its own right."""
    attributes: dict[str, Value] = {"aip.capability": str(capability or "")}
    if agent.startswith(MODELS):
        # Which model answered is known to the agent that holds the endpoint; what the plan calls it is known here.
        model = agent.removeprefix(MODELS)
        attributes |= {"gen_ai.operation.name": "chat", "gen_ai.request.model": model}
        attributes["gen_ai.provider.name"] = "aip"
        return f"chat {model}", SpanKind.CLIENT, attributes
    if agent.startswith(TOOLS):
        return _tool(str(capability), "extension", call, attributes | {"aip.tool_server": agent})
    attributes |= {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": agent}
    attributes["gen_ai.agent.id"] = address
    return f"invoke_agent {agent}", SpanKind.INTERNAL, attributes


def _effect(_: Trace, node: Node) -> tuple[str, SpanKind, dict[str, Value]]:
    return _tool(node.name, "function", str(node.facts["key"]), {"aip.agent": str(node.facts["agent"])})


def _tool(
    name: str, kind: str, call: str, more: Mapping[str, Value]
) -> tuple[str, SpanKind, dict[str, Value]]:
    attributes: dict[str, Value] = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": name,
        "gen_ai.tool.type": kind,
        "gen_ai.tool.call.id": call,
        **more,
    }
    return f"execute_tool {name}", SpanKind.INTERNAL, attributes


_SHAPES: dict[str, Any] = {
    "run": _workflow,
    "task": _task,
    "attempt": _attempt,
    "gate": _gate,
    "message": _message,
    "effect": _effect,
}


def _event(node: Node) -> SpanEvent:
    facts = {"outcome": node.outcome or None, "code": (node.error or {}).get("code"), **node.facts}
    name = f"aip.{node.kind}.{node.name}" if node.kind == "refusal" else f"aip.{node.name}"
    return SpanEvent(name, _ns(node.started_at_s), _named(facts))


def _spending(spent: Mapping[str, int]) -> dict[str, Value]:
    return {USAGE.get(unit, f"aip.spent.{unit}"): amount for unit, amount in spent.items()}


def _named(facts: Mapping[str, Any]) -> dict[str, Value]:
    """Facts as attributes under `aip.`; what is neither text nor number travels as its JSON."""
    return {f"aip.{key}": _value(value) for key, value in facts.items() if value not in (None, "")}


def _value(value: Any) -> Value:
    if isinstance(value, bool | int | float):
        return value
    return _cut(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def _cut(text: object) -> str:
    whole = str(text)
    return whole if len(whole) <= TEXT_CHARS_MAX else f"{whole[: TEXT_CHARS_MAX - 1]}…"


def _ns(at_s: float) -> int:
    return (
        round(at_s * 1e6) * 1_000
    )  # A float holds a point in time to some 0.2 microseconds; more digits would be noise.
