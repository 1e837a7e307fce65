"""Values against JSON Schema, for what a plan can hold: inputs, constant arguments, what an output can have.

Source: json-schema.org, 2020-12. Of its keywords those that say something about one JSON value by itself, `$ref` within the
same schema, and allOf, anyOf, oneOf. Keywords that are not known constrain nothing: a value is called wrong only if it is.
`UNKNOWN` stands for what an expression will say: it fits everything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ..expression import search
from .problem import quoted

REFERENCES_MAX = 64  # `$ref` that only leads to `$ref`.
UNKNOWN: Any = object()

Violation = tuple[tuple[str | int, ...], str]
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
_NAMES = {
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "a map",
}


def kind_of(value: Any) -> str:
    return "null" if value is None else _NAMES.get(type(value), type(value).__name__)


def violations(
    value: Any, schema: Any, root: Any = None, path: tuple[str | int, ...] = ()
) -> Iterator[Violation]:
    """What is wrong with the value: where in it, and a message. Nothing, if it fits."""
    root = schema if root is None else root
    schema = resolved(schema, root)
    if value is UNKNOWN or schema is True or not isinstance(schema, Mapping):
        if schema is False:
            yield path, "nothing is allowed here"
        return
    if "type" in schema and not _has_type(value, schema["type"]):
        wanted = schema["type"] if isinstance(schema["type"], str) else " or ".join(map(str, schema["type"]))
        yield path, f"is {kind_of(value)}, not {wanted}"
        return
    if "enum" in schema and not any(same(value, one) for one in schema["enum"]):
        yield (
            path,
            f"is not one of {', '.join(json.dumps(one, ensure_ascii=False) for one in schema['enum'][:20])}",
        )
    if "const" in schema and not same(value, schema["const"]):
        yield path, f"is not {json.dumps(schema['const'], ensure_ascii=False)}"
    match value:
        case bool():
            pass
        case int() | float():
            yield from _number(value, schema, path)
        case str():
            yield from _text(value, schema, path)
        case list():
            yield from _array(value, schema, root, path)
        case dict():
            yield from _object(value, schema, root, path)
    yield from _combined(value, schema, root, path)


def resolved(schema: Any, root: Any) -> Any:
    """The schema itself, where it is a `$ref` to a place in the same document; True if that leads nowhere."""
    for _ in range(REFERENCES_MAX):
        if not isinstance(schema, Mapping) or not isinstance(schema.get("$ref"), str):
            return schema
        target: Any = root
        for step in schema["$ref"].removeprefix("#").split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            target = target.get(name, True) if isinstance(target, Mapping) else True
        schema = target
    return True


def same(left: Any, right: Any) -> bool:
    """Equal as JSON: 1 and 1.0 are, 1 and true are not."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return bool(left == right)


def _has_type(value: Any, types: Any) -> bool:
    for name in [types] if isinstance(types, str) else types:
        if name == "boolean" or isinstance(value, bool):
            if name == "boolean" and isinstance(value, bool):
                return True
        elif isinstance(value, _TYPES.get(name, (object,))) or (
            name == "integer" and isinstance(value, float) and value.is_integer()
        ):
            return True
    return False


def _number(value: float, schema: Mapping[str, Any], path: tuple[str | int, ...]) -> Iterator[Violation]:
    if "minimum" in schema and value < schema["minimum"]:
        yield path, f"is {value}; the minimum is {schema['minimum']}"
    if "maximum" in schema and value > schema["maximum"]:
        yield path, f"is {value}; the maximum is {schema['maximum']}"
    if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
        yield path, f"is {value}; it must be more than {schema['exclusiveMinimum']}"
    if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
        yield path, f"is {value}; it must be less than {schema['exclusiveMaximum']}"


def _text(value: str, schema: Mapping[str, Any], path: tuple[str | int, ...]) -> Iterator[Violation]:
    if len(value) < schema.get("minLength", 0):
        yield path, f"has {len(value)} characters; at least {schema['minLength']} are needed"
    if len(value) > schema.get("maxLength", len(value)):
        yield path, f"has {len(value)} characters; at most {schema['maxLength']} are allowed"
    if isinstance(schema.get("pattern"), str) and not search(schema["pattern"], value):
        yield path, f"does not match the pattern {quoted(schema['pattern'])}"


def _array(
    value: list[Any], schema: Mapping[str, Any], root: Any, path: tuple[str | int, ...]
) -> Iterator[Violation]:
    if len(value) < schema.get("minItems", 0):
        yield path, f"has {len(value)} items; at least {schema['minItems']} are needed"
    if len(value) > schema.get("maxItems", len(value)):
        yield path, f"has {len(value)} items; at most {schema['maxItems']} are allowed"
    if schema.get("uniqueItems") is True:
        seen = {json.dumps(item, sort_keys=True) for item in value if item is not UNKNOWN and _is_known(item)}
        if len(seen) < sum(map(_is_known, value)):
            yield path, "has two equal items"
    first = schema.get("prefixItems", [])
    for index, item in enumerate(value):
        below = first[index] if index < len(first) else schema.get("items", True)
        yield from violations(item, below, root, (*path, index))


def _is_known(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_known, value))
    if isinstance(value, dict):
        return all(map(_is_known, value.values()))
    return value is not UNKNOWN


def _object(
    value: dict[str, Any], schema: Mapping[str, Any], root: Any, path: tuple[str | int, ...]
) -> Iterator[Violation]:
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield (*path, name), "is missing"
    for name, member in value.items():
        below = properties.get(name, schema.get("additionalProperties", True))
        if below is False:
            yield (*path, name), "is not known"
        else:
            yield from violations(member, below, root, (*path, name))


def _combined(
    value: Any, schema: Mapping[str, Any], root: Any, path: tuple[str | int, ...]
) -> Iterator[Violation]:
    for below in schema.get("allOf", ()):
        yield from violations(value, below, root, path)
    for keyword in ("anyOf", "oneOf"):
        wrong = [list(violations(value, below, root, path)) for below in schema.get(keyword, ())]
        if wrong and all(wrong):
            yield min(wrong, key=lambda one: (-max(len(place) for place, _ in one), len(one)))[0]


def find(schema: Any, root: Any, names: tuple[str, ...]) -> tuple[int, list[str]] | None:
    """Whether a value of this schema can have the path: None if it can, else how far it can and what is known there.

    An object that lists properties and says nothing of others is taken as closed: that is how typed signatures are written.
    """
    schema = resolved(schema, root)
    if not names or not isinstance(schema, Mapping):
        return None
    several = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if several:
        found = [find(one, root, names) for one in several]
        return None if None in found else max((one for one in found if one), key=lambda one: one[0])
    kind, properties = schema.get("type"), schema.get("properties", {})
    if isinstance(kind, str) and kind != "object":
        return 0, []
    name = names[0]
    if name in properties:
        below = find(properties[name], root, names[1:])
        return None if below is None else (below[0] + 1, below[1])
    others = schema.get("additionalProperties", not properties)
    if others is False:
        return 0, list(properties)
    below = find(others, root, names[1:])
    return None if below is None else (below[0] + 1, below[1])
