"""Whether what one capability gives is what another one takes, by their JSON Schemas.

    NEVER       no value of the one is a value of the other
    PERHAPS     the schemas leave it open (`Any`, a union of which a part fits); the run will tell
    ALWAYS      every value that the one may give is one that the other takes

A judgement is about types, not about sense: a title and a password are both strings. That is why `decompose` asks for ALWAYS or
PERHAPS only between a step and the one before it, and for names where several parameters could be meant.

Source: json-schema.org, 2020-12; of its keywords type, enum, const, properties, required, additionalProperties, items, anyOf and
oneOf, and `$ref` within the document. Limits of numbers and texts (`minimum`, `pattern`) are left to the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from ..parse.values import resolved, same

DEPTH_MAX = (
    12  # Schemas of recursive types (a tree, JSON itself) lead back to themselves; here one stops looking.
)


class Match(IntEnum):
    NEVER = 0
    PERHAPS = 1
    ALWAYS = 2


def match(gives: Any, takes: Any, *, gives_root: Any = None, takes_root: Any = None, depth: int = 0) -> Match:
    """Whether a value of schema `gives` fits schema `takes`."""
    gives_root = gives if gives_root is None else gives_root
    takes_root = takes if takes_root is None else takes_root
    gives, takes = resolved(gives, gives_root), resolved(takes, takes_root)
    if takes is True or takes == {}:
        return Match.ALWAYS
    if takes is False or gives is False:
        return Match.NEVER
    if gives is True or not _constrains(gives) or depth > DEPTH_MAX:
        return Match.PERHAPS
    roots = {"gives_root": gives_root, "takes_root": takes_root, "depth": depth + 1}
    if branches := _branches(gives):
        found = [match(one, takes, **roots) for one in branches]
        return min(found) if min(found) is not Match.NEVER else Match.PERHAPS if any(found) else Match.NEVER
    if branches := _branches(takes):
        return max(match(gives, one, **roots) for one in branches)
    return _plain(gives, takes, roots)


def items_of(schema: Any) -> Any:
    """The schema of an item, as a document of its own, where the schema is of a list; else None."""
    found = resolved(schema, schema)
    if not isinstance(found, Mapping) or found.get("type") != "array":
        return None
    return with_definitions(found.get("items", True), schema)


def list_of(schema: Any) -> dict[str, Any]:
    """The schema of a list of such values."""
    definitions = schema.get("$defs") if isinstance(schema, Mapping) else None
    return {"type": "array", "items": schema, **({"$defs": definitions} if definitions else {})}


def members_of(schema: Any) -> dict[str, Any]:
    """The members that a value of the schema always has, each with its schema as a document of its own."""
    found = resolved(schema, schema)
    if not isinstance(found, Mapping):
        return {}
    sure = set(found.get("required") or ())
    properties = found.get("properties") or {}
    return {name: with_definitions(one, schema) for name, one in properties.items() if name in sure}


def with_definitions(schema: Any, root: Any) -> Any:
    """The schema with the definitions of its document, so that its `$ref`s still lead somewhere."""
    if isinstance(schema, Mapping) and isinstance(root, Mapping) and "$defs" in root:
        return {**schema, "$defs": root["$defs"]}
    return schema


def _constrains(schema: Any) -> bool:
    keys = ("type", "enum", "const", "anyOf", "oneOf", "properties", "items")
    return isinstance(schema, Mapping) and any(key in schema for key in keys)


def _branches(schema: Any) -> list[Any]:
    if "type" in schema and isinstance(schema["type"], list):
        return [{**schema, "type": one} for one in schema["type"]]
    return [*(schema.get("anyOf") or ()), *(schema.get("oneOf") or ())]


def _plain(gives: Mapping[str, Any], takes: Mapping[str, Any], roots: dict[str, Any]) -> Match:
    """Two schemas without branches."""
    told = _values(gives)
    if "enum" in takes or "const" in takes:
        allowed = _values(takes) or []
        if told is None:
            return Match.PERHAPS if _same_type(gives, takes) else Match.NEVER
        hits = sum(any(same(one, other) for other in allowed) for one in told)
        return Match.NEVER if not hits else Match.ALWAYS if hits == len(told) else Match.PERHAPS
    if not _same_type(gives, takes):
        return Match.NEVER
    match gives.get("type"):
        case "array":
            if "items" not in takes:
                return Match.ALWAYS
            return match(gives.get("items", True), takes["items"], **roots)
        case "object":
            return _object(gives, takes, roots)
        case None if told is None and "type" in takes:
            return Match.PERHAPS
        case "number" if takes.get("type") == "integer":
            return Match.PERHAPS
        case _:
            return Match.ALWAYS


def _object(gives: Mapping[str, Any], takes: Mapping[str, Any], roots: dict[str, Any]) -> Match:
    has, sure = gives.get("properties") or {}, set(gives.get("required") or ())
    wanted, needed = takes.get("properties") or {}, set(takes.get("required") or ())
    others = takes.get("additionalProperties", True)
    if others is False and has.keys() - wanted.keys():
        return Match.NEVER
    closed = bool(has) or gives.get("additionalProperties") is False
    if needed - has.keys() and closed:
        return Match.NEVER
    verdict = Match.PERHAPS if needed - sure else Match.ALWAYS
    for name in has.keys() & wanted.keys():
        verdict = min(verdict, match(has[name], wanted[name], **roots))
    more = gives.get("additionalProperties")
    if isinstance(others, Mapping) and isinstance(more, Mapping):
        verdict = min(verdict, match(more, others, **roots))
    return verdict


def _values(schema: Mapping[str, Any]) -> list[Any] | None:
    """The values that a schema lists, or None where it lists none."""
    return [schema["const"]] if "const" in schema else list(schema["enum"]) if "enum" in schema else None


def _same_type(gives: Mapping[str, Any], takes: Mapping[str, Any]) -> bool:
    left, right = gives.get("type"), takes.get("type")
    return left is None or right is None or left == right or {left, right} == {"integer", "number"}
