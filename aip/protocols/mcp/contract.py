"""A stranger's JSON Schema, used without trusting it. Pure.

A schema is a small program that its author has us run on our own data. Three of its means are taken away:

  - **References out of the document** are refused when the schema is read: following one would make us fetch whatever address the
    server names. (An empty registry stands behind that.)
  - **Regular expressions** (`pattern`, `patternProperties`) are not evaluated: one line of nested repetition blocks a process for
    ever. What hangs on them (`additionalProperties` beside `patternProperties`, `unevaluatedProperties`) is not either. The
    server checks its own patterns.
  - **Steps** are counted: references can make a few hundred bytes of schema exponential. A check that looks at more than
    `STEPS_MAX` keywords ends as failed.

Everything else holds as in the dialect that the schema names (2020-12 where it names none, as MCP says).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, SchemaError
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from .limits import SCHEMA_BYTES_MAX, SCHEMA_DEPTH_MAX, STEPS_MAX
from .stranger import clean

PROBLEMS_MAX = 5  # A person mends one at a time.
PROBLEM_CHARS_MAX = 300
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_UNCHECKED = ("pattern", "patternProperties", "unevaluatedProperties", "unevaluatedItems", "format")

Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


class SchemaUnusable(ValueError):
    """Why a schema cannot be used here."""


class _TooCostly(Exception):
    pass


_STEPS: ContextVar[list[int]] = ContextVar("aip_schema_steps")


class Contract:
    """A schema that values are held to."""

    __slots__ = ("_validator", "schema")

    def __init__(self, schema: Any) -> None:
        """Raises `SchemaUnusable`."""
        self.schema = _examined(schema)
        dialect = validator_for(self.schema, default=Draft202012Validator)
        try:
            dialect.check_schema(self.schema)
        except SchemaError as error:
            raise SchemaUnusable(f"it is no JSON Schema: {clean(error.message, 200)}") from None
        self._validator = _bounded(dialect)(self.schema, registry=Registry())

    def problems(self, value: Any) -> list[str]:
        """What does not fit, each with its place; empty where the value fits."""
        token = _STEPS.set([STEPS_MAX])
        found: list[str] = []
        try:
            for error in self._validator.iter_errors(value):
                found.append(f"{error.json_path}: {clean(error.message, PROBLEM_CHARS_MAX)}")
                if len(found) == PROBLEMS_MAX:
                    break
        except (_TooCostly, RecursionError):
            found.append("$: its schema takes too long to check")
        except Unresolvable as error:
            found.append(f"$: its schema has a reference that leads nowhere: {clean(error, 200)}")
        finally:
            _STEPS.reset(token)
        return found


def _examined(schema: Any) -> dict[str, Any]:
    """The schema itself, small and closed."""
    if not isinstance(schema, dict):
        raise SchemaUnusable("it is no JSON object")
    reason = _open_or_deep(schema)
    if reason:
        raise SchemaUnusable(reason)
    try:
        size = len(json.dumps(schema))
    except (TypeError, ValueError, RecursionError):
        raise SchemaUnusable("it is no JSON") from None
    if size > SCHEMA_BYTES_MAX:
        raise SchemaUnusable(f"it has {size} bytes, the limit is {SCHEMA_BYTES_MAX}")
    return schema


def _open_or_deep(schema: dict[str, Any]) -> str:
    pending: list[tuple[Any, int]] = [(schema, 1)]
    while pending:
        node, depth = pending.pop()
        if depth > SCHEMA_DEPTH_MAX:
            return f"it is more than {SCHEMA_DEPTH_MAX} levels deep"
        if isinstance(node, dict):
            for keyword in _REFERENCES:
                target = node.get(keyword)
                if isinstance(target, str) and not target.startswith("#"):
                    return f"it refers outside itself: {clean(target, 100)}"
            pending.extend((child, depth + 1) for child in node.values())
        elif isinstance(node, list):
            pending.extend((child, depth + 1) for child in node)
    return ""


@cache
def _bounded(dialect: Any) -> Any:
    """The dialect with its keywords counted, and without what is never evaluated."""
    keywords: dict[str, Keyword] = {name: _counted(check) for name, check in dialect.VALIDATORS.items()}
    keywords.update((name, _counted(_nothing)) for name in _UNCHECKED if name in keywords)
    if "additionalProperties" in keywords:
        keywords["additionalProperties"] = _unless_patterns(keywords["additionalProperties"])
    return extend(dialect, validators=keywords)  # type: ignore[no-untyped-call]


def _counted(check: Keyword) -> Keyword:
    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError] | None:
        left = _STEPS.get()
        left[0] -= 1
        if left[0] < 0:
            raise _TooCostly
        return check(validator, value, instance, schema)

    return counted


def _nothing(_validator: Any, _value: Any, _instance: Any, _schema: Any) -> None:
    return None


def _unless_patterns(check: Keyword) -> Keyword:
    def additional(
        validator: Any, value: Any, instance: Any, schema: Any
    ) -> Iterator[ValidationError] | None:
        return None if "patternProperties" in schema else check(validator, value, instance, schema)

    return additional
