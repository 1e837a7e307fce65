"""The JSON Schema of plan.yaml (2020-12), for editors: completion, hover text and red lines while typing.

It accepts whatever `parse` accepts. It also accepts some plans that `parse` refuses: a schema cannot see that a name exists,
that a cycle closes, that an expression is one, or that two keys are the same.
"""

from __future__ import annotations

from typing import Any

from ..settings import DEFAULT_LIMITS
from .budget import AMOUNT_MAX
from .parse import vocabulary as v
from .parse.task_section import CALL_FIELDS, GATE_FIELDS
from .parse.tool_section import ANY_TOOL
from .parse.units import DURATION_FORM, SIZE_FORM
from .plan import OnExceeded, When

DIALECT = "https://json-schema.org/draft/2020-12/schema"
EXPRESSION = {"type": "string", "pattern": r"^\s*\$\{\{"}

Schema = dict[str, Any]


def plan_schema() -> Schema:
    """The schema of a whole file."""
    return {
        "$schema": DIALECT,
        "title": f"AIP plan, {v.API_VERSION}",
        **_section("plan", _plan(), ("apiVersion", "kind", "metadata", "tasks")),
        "$defs": {
            "agent": _section("agent", _agent(), ("use",)) | {"allOf": _tool_agent()},
            "model": _section("model", _model(), ("base_url", "model")),
            "tool": _tool(),
            "input": _section("input", _input({"$ref": "#/$defs/input"})),
            "retry": _section("retry", _retry()),
            "task": _task(),
            "closing_task": _closing_task(),
            "schema": {"anyOf": [{"type": "boolean"}, _section("schema", _value_schema())]},
            "names": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
            "budget": _named(v.UNIT_FORM, _integer(0, AMOUNT_MAX)) | {"properties": {"usd": _usd(v.USD_MAX)}},
        },
    }


def _section(name: str, properties: Schema, required: tuple[str, ...] = ()) -> Schema:
    """An object with the keys of the vocabulary, each with its meaning as hover text."""
    meaning = v.KNOWN[name]
    assert properties.keys() == meaning.keys(), (
        f"{name}: schema and vocabulary differ: {properties.keys() ^ meaning.keys()}"
    )
    described = {key: {"description": meaning[key], **schema} for key, schema in properties.items()}
    made: Schema = {"type": "object", "properties": described, "additionalProperties": False}
    return made | ({"required": list(required)} if required else {})


def _plan() -> Schema:
    return {
        "apiVersion": {"const": v.API_VERSION},
        "kind": {"const": "Plan"},
        "metadata": _section(
            "metadata", {"name": _text(v.PLAN_NAME_FORM), "labels": _named("", {"type": "string"})}, ("name",)
        ),
        "inputs": _named(v.NAME_FORM, {"$ref": "#/$defs/input", "required": ["type"]}),
        "defaults": _section(
            "defaults", {"timeout": _text(DURATION_FORM), "retry": {"$ref": "#/$defs/retry"}}
        ),
        "limits": _section(
            "limits",
            {
                "deadline": _text(DURATION_FORM),
                "concurrency": _integer(1, v.CONCURRENCY_MAX),
                "concurrency_by_label": _named(v.LABEL_LIMIT_FORM, _integer(1, v.CONCURRENCY_MAX)),
                "dynamic_tasks": _integer(0, DEFAULT_LIMITS.plan_tasks_max),
                "budget": {"$ref": "#/$defs/budget"},
                "on_exceeded": {"enum": [str(one) for one in OnExceeded]},
            },
        ),
        "agents": _named(v.AGENT_FORM, {"$ref": "#/$defs/agent"}),
        "models": _named(v.PART_FORM, {"$ref": "#/$defs/model"}),
        "tools": _named(v.PART_FORM, {"$ref": "#/$defs/tool"}),
        "tasks": _named(v.NAME_FORM, {"$ref": "#/$defs/task"}) | {"minProperties": 1},
        "finally": _named(v.NAME_FORM, {"$ref": "#/$defs/closing_task"}) | {"minProperties": 1},
        "outputs": _named(v.NAME_FORM, {}),
    }


def _agent() -> Schema:
    replicas = _section("replicas", {"min": _integer(0), "max": _integer(1)})
    size = {"anyOf": [_text(SIZE_FORM), _integer(1)]}
    return {
        "use": {"anyOf": [_text(v.USE_FORM), _text(v.MCP_COMMAND_FORM), _text(v.MCP_HOST_FORM)]},
        "replicas": {"anyOf": [_integer(1), replicas]},
        "isolation": {"enum": list(v.ISOLATIONS)},
        "density": _integer(1),
        "resources": _section("resources", {"cpu": _number(0, 1024), "memory": size}),
        "restart": _section(
            "restart",
            {
                "strategy": {"enum": list(v.STRATEGIES)},
                "max": _integer(0, 1_000),
                "within": _text(DURATION_FORM),
            },
        ),
        "runtime_env": {"type": "object"},
        "config": {"type": "object"},
        "effects": {
            "type": "array",
            "maxItems": v.CONNECTORS_MAX,
            "uniqueItems": True,
            "items": _text(v.CONNECTOR_FORM),
        },
    }


def _model() -> Schema:
    price = _usd(v.PRICE_USD_MAX)
    prices = {"input": price, "output": price, "cached_input": price}
    return {
        "base_url": _text(v.MODEL_URL_FORM),
        "model": _text(v.MODEL_FORM),
        "api_key": _text(v.REFERENCE_FORM),
        "prices": _section("prices", prices, ("input", "output")),
        "max_output_tokens": _integer(1, v.TOKENS_MAX),
        "context_tokens": _integer(1, v.TOKENS_MAX),
        "timeout": _text(DURATION_FORM),
        "idle_timeout": _text(DURATION_FORM),
        "output_limit_field": {"enum": list(v.OUTPUT_LIMIT_FIELDS)},
        "structured_output": {"enum": list(v.STRUCTURED_OUTPUTS)},
        "retries": _integer(0, v.CALL_RETRIES_MAX),
        "concurrency": _integer(1, v.CALLS_MAX),
    }


def _tool() -> Schema:
    """A program that is started, or a place that is called."""
    properties = {
        "command": {**_WORDS, "items": {"type": "string"}},
        "url": _text(v.TOOL_URL_FORM),
        **_tool_config(),
    }
    ways: list[Schema] = [
        {"required": ["command"], "properties": _OF_A_PROGRAM},
        {"required": ["url"], "properties": _OF_A_PLACE},
    ]
    return {**_section("tool", properties, ("allow",)), "oneOf": ways}


_WORDS: Schema = {"type": "array", "minItems": 1, "maxItems": v.WORDS_MAX}
_OF_A_PROGRAM: Schema = {"headers": False}
_OF_A_PLACE: Schema = {"env": False, "cwd": False}


def _tool_config() -> Schema:
    names = {"anyOf": [{"const": [ANY_TOOL]}, {**_WORDS, "items": _text(v.TOOL_FORM), "uniqueItems": True}]}
    return {
        "env": _named(v.VARIABLE_FORM, {"type": "string"}),
        "headers": _named(v.HEADER_FORM, {"type": "string"}),
        "allow": names,
        "effects": names,
        "timeout": _text(DURATION_FORM),
        "start_timeout": _text(DURATION_FORM),
        "result_bytes_max": {"anyOf": [_text(SIZE_FORM), _integer(1, v.TOOL_RESULT_BYTES_MAX)]},
        "concurrency": _integer(1, v.TOOL_CALLS_MAX),
        "protocol": {"enum": list(v.PROTOCOLS)},
        "cwd": {"type": "string"},
    }


def _tool_agent() -> list[Schema]:
    """An agent whose `use` is a tool server has `config` as an entry of `tools:`, and nothing else."""
    config = _section("tool_config", _tool_config(), ("allow",))
    return [
        {
            "if": {"properties": {"use": _text(form)}, "required": ["use"]},
            "then": {
                "required": ["config"],
                "propertyNames": {"enum": ["use", "config"]},
                "properties": {"config": {"allOf": [config, {"properties": unfit}]}},
            },
        }
        for form, unfit in ((v.MCP_COMMAND_FORM, _OF_A_PROGRAM), (v.MCP_HOST_FORM, _OF_A_PLACE))
    ]


def _task() -> Schema:
    """Work, which has a capability; a run of another plan; or a gate, which has neither."""
    gate = _section(
        "gate",
        {
            "question": {"type": "string"},
            "approvers": {
                "type": "array",
                "minItems": 1,
                "uniqueItems": True,
                "items": _text(v.APPROVER_FORM),
            },
            "expires": _text(DURATION_FORM),
            "default": {"enum": list(v.DECISIONS)},
        },
        ("question",),
    )
    compensate = {
        "agent": {"type": "string"},
        "capability": _text(v.CAPABILITY_FORM),
        "with": {"type": "object"},
        "retry": {"$ref": "#/$defs/retry"},
        "timeout": _text(DURATION_FORM),
    }
    properties = {
        **_work(),
        "gate": gate,
        "budget": {"$ref": "#/$defs/budget"},
        "plan": _text(v.PLAN_FILE_FORM),
        "compensate": _section("compensate", compensate, ("capability",)),
    }
    return {
        **_section("task", properties),
        **_ITEMS_ONLY,
        "oneOf": [
            {"required": ["capability"], "properties": {"plan": False}},
            {"required": ["plan"], "properties": dict.fromkeys(sorted(CALL_FIELDS | {"gate"}), False)},
            {"required": ["gate"], "propertyNames": {"enum": sorted(GATE_FIELDS)}},
        ],
    }


def _closing_task() -> Schema:
    return {**_section("closing_task", _work(), ("capability",)), **_ITEMS_ONLY}


_NEEDED_BY_A_MODE: dict[str, list[str]] = {"direct": [], "vote": ["voters"], "market": ["max_price"]}
_OF_A_MODE = frozenset().union(*v.ASSIGN_FIELDS.values())
_ITEMS_ONLY: Schema = {"dependentRequired": {"max_parallel": ["for_each"], "allow_failures": ["for_each"]}}


def _work() -> Schema:
    """What every task may say that asks something of an agent."""
    assign = _section(
        "assign",
        {
            "mode": {"enum": list(v.ASSIGN_MODES)},
            "voters": {
                "anyOf": [
                    _integer(1, v.VOTERS_MAX),
                    {"$ref": "#/$defs/names", "minItems": 1, "maxItems": v.VOTERS_MAX},
                ]
            },
            "quorum": _integer(1, v.VOTERS_MAX),
            "method": {"enum": list(v.VOTE_METHODS)},
            "weights": _named(v.AGENT_FORM, _integer(0, v.WEIGHT_MAX)),
            "weight": {"enum": list(v.WEIGHTS)},
            "deadline": _text(DURATION_FORM),
            "auction": {"enum": list(v.AUCTIONS)},
            "max_price": _integer(1, v.PRICE_MAX),
            "bid_timeout": _text(DURATION_FORM),
            "bidders": {"$ref": "#/$defs/names", "minItems": 1, "maxItems": v.VOTERS_MAX},
            "threshold": {"type": "number", "minimum": 0.5, "exclusiveMaximum": 1},
        },
        ("mode",),
    )
    assign["oneOf"] = [
        {
            "properties": {"mode": {"const": mode}, **dict.fromkeys(sorted(_OF_A_MODE - fields), False)},
            "required": _NEEDED_BY_A_MODE[mode],
        }
        for mode, fields in v.ASSIGN_FIELDS.items()
    ]
    output = {"schema": {"$ref": "#/$defs/schema"}, "ttl": _text(DURATION_FORM)}
    return {
        "agent": {"type": "string"},
        "capability": _text(v.CAPABILITY_FORM),
        "with": {"type": "object"},
        "needs": {"$ref": "#/$defs/names"},
        "for_each": {"anyOf": [EXPRESSION, {"type": "array"}]},
        "if": {"anyOf": [EXPRESSION, {"type": "boolean"}]},
        "when": {"enum": [str(one) for one in When]},
        "retry": {"$ref": "#/$defs/retry"},
        "timeout": _text(DURATION_FORM),
        "deadline": _text(DURATION_FORM),
        "idempotency_key": {"type": "string"},
        "assign": assign,
        "priority": {"enum": list(v.PRIORITIES)},
        "max_parallel": _integer(1, v.CONCURRENCY_MAX),
        "allow_failures": {"anyOf": [_integer(0), _text(v.PERCENT_FORM)]},
        "labels": _named(v.LABEL_FORM, _text(v.LABEL_VALUE_FORM)),
        "heartbeat": _text(DURATION_FORM),
        "output": {**_section("output", output), "minProperties": 1},
    }


def _retry() -> Schema:
    backoff = {
        "initial": _text(DURATION_FORM),
        "factor": _number(1, 100),
        "max": _text(DURATION_FORM),
        "jitter": _number(0, 1),
    }
    return {
        "attempts": _integer(1, v.ATTEMPTS_MAX),
        "backoff": _section("backoff", backoff),
        "on": {"type": "array", "items": {"enum": list(v.RETRY_ON)}, "uniqueItems": True},
    }


def _value_schema() -> Schema:
    """What a result must be: as an input, and schemas that are combined."""
    below = {"$ref": "#/$defs/schema"}
    kept = {key: schema for key, schema in _input(below).items() if key not in ("default", "format")}
    schemas = {"type": "array", "items": below}
    kinds = {"enum": list(v.INPUT_TYPES)}
    return kept | {
        "type": {"anyOf": [kinds, {"type": "array", "items": kinds}]},
        "required": {"$ref": "#/$defs/names"},
        "title": {"type": "string"},
        "const": {},
        **dict.fromkeys(("prefixItems", "allOf", "anyOf", "oneOf"), schemas),
        "$ref": _text(r"^#(/.*)?$"),
        "$defs": {"type": "object", "additionalProperties": below},
    }


def _input(below: Schema) -> Schema:
    properties: Schema = {
        "type": {"enum": list(v.INPUT_TYPES)},
        "description": {"type": "string"},
        "default": {},
        "required": {"anyOf": [{"type": "boolean"}, {"$ref": "#/$defs/names"}]},
        "enum": {"type": "array", "minItems": 1},
        "pattern": {"type": "string"},
        "format": {"enum": ["path"]},
        "items": below,
        "uniqueItems": {"type": "boolean"},
        "properties": {"type": "object", "additionalProperties": below},
        "additionalProperties": {"anyOf": [{"type": "boolean"}, below]},
    }
    numbers = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    properties |= {key: {"type": "number"} for key in numbers}
    return properties | {key: _integer(0) for key in ("minLength", "maxLength", "minItems", "maxItems")}


def _named(form: str, schema: Schema) -> Schema:
    """A map whose keys the author chooses."""
    names: Schema = {"propertyNames": {"pattern": form}} if form else {}
    return {"type": "object", "additionalProperties": schema, **names}


def _text(form: str) -> Schema:
    return {"type": "string", "pattern": form}


def _usd(high: int) -> Schema:
    return {"anyOf": [_number(0, high), _text(v.MONEY_FORM)]}


def _integer(low: int, high: int | None = None) -> Schema:
    return {"type": "integer", "minimum": low} | ({} if high is None else {"maximum": high})


def _number(low: float, high: float) -> Schema:
    return {"type": "number", "minimum": low, "maximum": high}
