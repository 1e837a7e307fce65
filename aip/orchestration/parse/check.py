"""A plan against what its agents say they can do: capabilities, arguments, and what is read out of their answers.

A manifest is what an agent's code declares, as plain data: {"capabilities": {name: {"input": schema, "output": schema}}},
and where its class says so "config": schema and "open_ended": true (it takes capabilities that it has not declared).
What cannot be known before the run is not judged: an expression fits every type, an agent without manifest is skipped, and so
is a task that leaves its agent to the registry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..plan import AgentSpec, Compensation, Market, Plan, Position, TaskSpec
from ..run_implied import BID
from ..suggestion import nearest
from ..template import Template
from .problem import PROBLEMS_MAX, Problem, quoted
from .tool_section import ANY_TOOL
from .tool_section import USE as TOOL_SERVER
from .values import UNKNOWN, find, resolved, violations

Manifest = Mapping[str, Any]

VOTE_OUTPUT: Mapping[str, Any] = {  # As vote.output makes it; of a `for_each` a list of these.
    "type": "object",
    "properties": {
        "decision": {"type": ["string", "boolean"]},
        "votes": {"type": "array", "items": {"type": "object"}},
        "counts": {"type": "object", "additionalProperties": {"type": "integer"}},
        "quorum": {"type": "integer"},
    },
}


def check(plan: Plan, manifests: Mapping[str, Manifest]) -> list[Problem]:
    """Every problem found, in the order of the tasks; at most PROBLEMS_MAX."""
    problems: list[Problem] = []
    for problem in _Check(plan, manifests).problems():
        problems.append(problem)
        if len(problems) >= PROBLEMS_MAX:
            break
    return problems


@dataclass(frozen=True, slots=True)
class _Call:
    """What a task, or its compensation, asks of an agent."""

    name: str
    capability: str
    arguments: Template
    position: Position

    @classmethod
    def of(cls, task: TaskSpec) -> _Call:
        return cls(task.name, task.capability or "", task.arguments, task.position)


class _Check:
    def __init__(self, plan: Plan, manifests: Mapping[str, Manifest]) -> None:
        self._plan = plan
        self._manifests = manifests
        self._outputs: dict[str, Any] = {}  # By task: the schema of one output, True where nothing is known.

    def problems(self) -> Iterator[Problem]:
        for agent in self._plan.agents.values():
            yield from self._config(agent)
        for task in (*self._plan.tasks.values(), *self._plan.closing.values()):
            yield from self._task(task)
            if task.compensate is not None:
                yield from self._compensation(task, task.compensate)
        for name, template in self._plan.outputs.items():
            yield from self._references(template, f"outputs.{name}", Position(self._file, 1, 1), None)

    @property
    def _file(self) -> str:
        return next((task.position.file for task in self._plan.tasks.values()), "")

    def _config(self, agent: AgentSpec) -> Iterator[Problem]:
        """What an agent is configured with, where its class says what it asks for. Secrets are told by name only."""
        schema = self._manifests.get(agent.name, {}).get("config", True)
        for path, message in violations(dict(agent.config), schema):
            where = ".".join(map(str, ("config", *path)))
            hint = nearest(str(path[-1]), _properties(schema)) if message == "is not known" and path else ""
            yield _problem("check.config", agent.position, f"agents.{agent.name}.{where} {message}", hint)

    def _task(self, task: TaskSpec) -> Iterator[Problem]:
        for agent in dict.fromkeys(task.vote.voters if task.vote else (task.agent,) if task.agent else ()):
            manifest = self._manifests.get(agent)
            if manifest is not None and task.capability is not None:
                yield from self._call(_Call.of(task), agent, manifest["capabilities"])
        if task.market is not None:
            yield from self._market(task, task.market)
        yield from self._list(task)
        templates = {
            "if": task.condition,
            "for_each": task.for_each,
            "with": task.arguments,
            "idempotency_key": task.idempotency_key,
        }
        if task.gate is not None:
            templates["gate.question"] = task.gate.question
        for key, template in templates.items():
            if template is not None and not template.is_constant:
                where = f"{task.name}.{key}"
                yield from self._references(
                    template, where, task.position, task if key != "for_each" else None
                )

    def _compensation(self, task: TaskSpec, how: Compensation) -> Iterator[Problem]:
        manifest = self._manifests.get(how.agent or "")
        call = _Call(f"{task.name}.compensate", how.capability, how.arguments, how.position)
        if how.agent is not None and manifest is not None:
            yield from self._call(call, how.agent, manifest["capabilities"])
        yield from self._references(how.arguments, f"{call.name}.with", how.position, None)

    def _market(self, task: TaskSpec, market: Market) -> Iterator[Problem]:
        """Somebody must be able to bid, and whoever bids must be able to do the work."""
        known = {
            name: self._manifests[name]["capabilities"] for name in market.bidders if name in self._manifests
        }
        bidding = [name for name, capabilities in known.items() if BID in capabilities]
        if not bidding and len(known) == len(market.bidders):
            message = f"{task.name}: none of {', '.join(list(known)[:10])} has a capability {quoted(BID)}"
            yield _problem("check.market", task.position, message, f"give an agent a capability {BID}")
        for name in bidding:
            yield from self._call(_Call.of(task), name, known[name])

    def _call(self, task: _Call, agent: str, capabilities: Mapping[str, Any]) -> Iterator[Problem]:
        if task.capability not in capabilities:
            if self._manifests[agent].get("open_ended"):
                yield from self._allowed(task, self._plan.agents[agent])
                return
            hint = (
                nearest(task.capability, capabilities)
                or f"it has {', '.join(list(capabilities)[:10]) or 'none'}"
            )
            message = f"agent {quoted(agent)} has no capability {quoted(task.capability)}"
            yield _problem("check.capability", task.position, message, hint)
            return
        schema = capabilities[task.capability].get("input", True)
        for path, message in violations(task.arguments.known(UNKNOWN), schema):
            where = ".".join(map(str, path))
            known = _properties(schema)
            hint = nearest(where, known) if message == "is not known" else ""
            if message == "is not known" and not hint:
                hint = f"it takes {', '.join(known) or 'no arguments'}"
            message = f"{task.name}: argument {quoted(where)} of {task.capability} {message}"
            yield _problem("check.argument", task.position, message, hint)

    def _allowed(self, task: _Call, agent: AgentSpec) -> Iterator[Problem]:
        """An outside server says only when it runs what it can do; the plan says what it may be asked."""
        allow = agent.config.get("allow") if agent.use == TOOL_SERVER else None
        if allow is not None and ANY_TOOL not in allow and task.capability not in allow:
            message = f"{quoted(task.capability)} is not among the tools that {agent.name} allows"
            hint = nearest(task.capability, allow) or f"add it to `allow` of {agent.name}"
            yield _problem("check.capability", task.position, message, hint)

    def _list(self, task: TaskSpec) -> Iterator[Problem]:
        if task.for_each is None or not task.for_each.is_whole:
            return
        one = task.for_each.expressions[0]
        if one.is_path and one.references[0].path[0] == "tasks":
            _, name, field, *rest = one.references[0].path
            schema = self._seen(name, field)
            if (
                not rest
                and isinstance(schema, Mapping)
                and isinstance(schema.get("type"), str)
                and schema["type"] != "array"
            ):
                message = f"{task.name}.for_each needs a list; {name}.output is of type {schema['type']}"
                yield _problem("check.for_each", task.position, message, "refer to a list inside it")

    def _references(
        self, template: Template, where: str, place: Position, task: TaskSpec | None
    ) -> Iterator[Problem]:
        for one in template.expressions:
            for reference in one.references:
                root, *rest = reference.path
                schema: Any = True
                shown = root
                if root == "tasks" and len(rest) > 2:
                    schema, shown = self._seen(rest[0], rest[1]), f"tasks.{rest[0]}.{rest[1]}"
                    rest = rest[2:]
                elif root == "item" and task is not None:
                    schema = self._item(task)
                found = None if reference.tested else find(schema, schema, tuple(rest))
                if found is not None:
                    base = ".".join((shown, *rest[: found[0]]))
                    message = f"{where}: {quoted(base)} has no field {quoted(rest[found[0]])}"
                    hint = nearest(rest[found[0]], found[1]) or (
                        f"it has {', '.join(found[1][:10])}" if found[1] else ""
                    )
                    yield _problem("check.output", place, message, hint)

    def _seen(self, name: str, field: str) -> Any:
        """The schema of `tasks.NAME.FIELD`, as a document of its own."""
        task = self._plan.tasks.get(name) or self._plan.closing.get(name)
        if task is None or field not in ("output", "outputs"):
            return True
        if task.name not in self._outputs:
            self._outputs[task.name] = self._output(task)
        schema = self._outputs[task.name]
        if task.for_each is None or not isinstance(schema, Mapping):
            return {"type": "array"} if task.for_each is not None else schema
        return {"type": "array", "items": schema, "$defs": schema.get("$defs", {})}

    def _output(self, task: TaskSpec) -> Any:
        if task.vote is not None:
            return VOTE_OUTPUT
        if task.output is not None and task.output.schema is not None:
            return task.output.schema
        if task.gate or task.agent is None or task.agent not in self._manifests:
            return True
        capability = self._manifests[task.agent]["capabilities"].get(task.capability)
        schema = capability.get("output", True) if capability else True
        return _with_definitions(schema, schema)

    def _item(self, task: TaskSpec) -> Any:
        if task.for_each is None or not task.for_each.is_whole or not task.for_each.expressions[0].is_path:
            return True
        root, *rest = task.for_each.expressions[0].references[0].path
        if root != "tasks" or len(rest) != 2:
            return True
        schema = self._seen(rest[0], rest[1])
        return _with_definitions(schema.get("items", True), schema) if isinstance(schema, Mapping) else True


def _with_definitions(schema: Any, root: Any) -> Any:
    """The schema with the definitions of its document, so that its `$ref`s still lead somewhere."""
    found = resolved(schema, root)
    if isinstance(found, Mapping) and isinstance(root, Mapping) and "$defs" in root:
        return {**found, "$defs": root["$defs"]}
    return found


def _properties(schema: Any) -> list[str]:
    found = resolved(schema, schema)
    return list(found.get("properties", {})) if isinstance(found, Mapping) else []


def _problem(code: str, place: Position, message: str, hint: str = "") -> Problem:
    return Problem(code, place.file, place.line, place.column, message, hint)
