"""An answer that must fit a JSON Schema: how it is asked for, and how it is held to it. Pure.

Endpoints differ: some decode under the schema's grammar, some take `response_format` and pay no heed, some refuse the field. So
the answer is validated here whoever made it, and one repair round tells the model what is wrong with what it wrote. A second
failure is an error: a model that cannot keep to the schema in two rounds rarely does in three, and each costs money.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from ..errors import InvalidPayload
from .chat import Request

PROBLEMS_MAX = 5  # Told to the model: more confuse it, and most go away with the first.
PROBLEM_CHARS_MAX = 300


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raises `InvalidPayload` for what is no JSON Schema, before a model is paid to fit it."""
    import jsonschema

    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise InvalidPayload(f"schema: {error.json_path}: {error.message[:PROBLEM_CHARS_MAX]}") from None


def response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The field of a request, for endpoints that know it."""
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": _is_strict(schema)},
    }


def _is_strict(schema: Any) -> bool:
    """Whether OpenAI's strict mode takes it: every object closed, every property required."""
    if isinstance(schema, list):
        return all(map(_is_strict, schema))
    if not isinstance(schema, Mapping):
        return True
    properties = schema.get("properties")
    if schema.get("type") == "object" or properties is not None:
        if not isinstance(properties, Mapping) or schema.get("additionalProperties") is not False:
            return False
        if set(schema.get("required", ())) != set(properties):
            return False
    return all(map(_is_strict, schema.values()))


def spelled_out(request: Request) -> Request:
    """The request with its schema in words instead of in a field."""
    words = (
        "Answer with one JSON value and nothing else: no explanation, no code fence. It must fit this JSON Schema:\n"
        f"{json.dumps(request.schema, ensure_ascii=False)}"
    )
    return replace(request, messages=(*request.messages, {"role": "user", "content": words}), schema=None)


def parsed(text: str, schema: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """The value in the text, and what is wrong with it: no problems, or no value."""
    import jsonschema
    import referencing
    import referencing.exceptions

    try:
        value = msgspec.json.decode(_unfenced(text))
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        return None, [f"it is not JSON: {str(error)[:PROBLEM_CHARS_MAX]}"]
    # An empty registry: a schema that refers to an address is not fetched from there.
    validator = jsonschema.Draft202012Validator(schema, registry=referencing.Registry())
    try:
        found = sorted(validator.iter_errors(value), key=lambda error: len(error.path))
    except (referencing.exceptions.Unresolvable, RecursionError) as error:
        raise InvalidPayload(
            f"schema: {str(error)[:PROBLEM_CHARS_MAX]}", hint="refer to $defs inside it only"
        ) from None
    if not found:
        return value, []
    return None, [f"{error.json_path}: {error.message[:PROBLEM_CHARS_MAX]}" for error in found[:PROBLEMS_MAX]]


def repair(request: Request, text: str, problems: list[str]) -> Request:
    """The request again, in words, with what was answered and what is wrong with it."""
    words = "That does not fit. " + "; ".join(problems)
    again = replace(
        request,
        messages=(
            *request.messages,
            {"role": "assistant", "content": text},
            {"role": "user", "content": words},
        ),
    )
    return spelled_out(again)


def _unfenced(text: str) -> str:
    """What stands between Markdown's fences, where the model could not help writing them."""
    stripped = text.strip()
    if stripped.startswith("```") and stripped.endswith("```") and "\n" in stripped:
        stripped = stripped.partition("\n")[2].removesuffix("```")
    return stripped
