"""`inputs:` and `output.schema`: what a value must be, as a part of JSON Schema that is wholly enforced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..expression import search
from ..expression_error import ExpressionInvalid
from ..plan import InputSpec
from .document import Node
from .reader import Reader
from .values import violations
from .vocabulary import INPUT_TYPES

_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems")
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(_NUMBERS, (int, float)),
    **dict.fromkeys(_COUNTS, (int,)),
    "uniqueItems": (bool,),
}


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


def value_schema(reader: Reader, node: Node, what: str) -> dict[str, Any] | None:
    """The schema of a result: every keyword of an input but `default`, and those that combine schemas."""
    before = len(reader.problems)
    input_schema(reader, node, what, section="schema")
    return node.plain() if isinstance(node.value, dict) and len(reader.problems) == before else None


def input_schema(reader: Reader, node: Node, what: str, top: bool = False, section: str = "input") -> None:
    """Check that a schema is one: known keywords with values of their kind."""
    if section == "schema" and isinstance(node.value, bool):
        return
    found = reader.fields(node, section, what)
    if "type" in found:
        _types(reader, found["type"], f"{what}.type", several=section == "schema")
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
    if "$ref" in found:
        reader.text(
            found["$ref"], f"{what}.$ref", r"^#(/.*)?$", "refer to a place of the same schema: #/$defs/NAME"
        )
    for key, value in _below(reader, found, what):
        input_schema(reader, value, f"{what}.{key}", section=section)


def _below(reader: Reader, found: Mapping[str, Node], what: str) -> Iterator[tuple[str, Node]]:
    """The schemas within a schema."""
    if "items" in found:
        yield "items", found["items"]
    if "additionalProperties" in found and not isinstance(found["additionalProperties"].value, bool):
        yield "additionalProperties", found["additionalProperties"]
    for key in ("properties", "$defs"):
        if key in found and reader.is_kind(found[key], dict, f"{what}.{key}", "a map"):
            for name, value in found[key].value.items():
                yield f"{key}.{name}", value
    for key in ("allOf", "anyOf", "oneOf", "prefixItems"):
        if key in found and reader.is_kind(found[key], list, f"{what}.{key}", "a list of schemas"):
            for number, value in enumerate(found[key].value):
                yield f"{key}.{number}", value


def _types(reader: Reader, node: Node, what: str, *, several: bool) -> None:
    if several and isinstance(node.value, list):
        for one in node.value:
            reader.choice(one, what, INPUT_TYPES)
    else:
        reader.choice(node, what, INPUT_TYPES)


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
