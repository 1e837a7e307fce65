"""What a run is given against what its plan asks for: `-i topic=bees` on the command line, or values from a program."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ..plan import InputSpec, Plan
from ..suggestion import nearest
from .problem import quoted
from .values import violations

GIVEN_CHARS_MAX = 1_000_000  # Of one text that is read as JSON; more belongs in a file.
NESTING_MAX = 64  # As deep as payloads may be.
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}\Z")
_TRUE, _FALSE = frozenset({"true", "yes", "1", "on"}), frozenset({"false", "no", "0", "off"})


def resolve_inputs(plan: Plan, given: Mapping[str, Any], base: Path | None = None) -> dict[str, Any]:
    """Every input with its value: given, or its default. Raises `UsageError` that names the input and what to do.

    A text for an input of another type is read as that type. A relative path of `format: path` counts from `base`.
    """
    for name in given:
        if name not in plan.inputs:
            known = f"the plan has {', '.join(plan.inputs)}" if plan.inputs else "the plan has no inputs"
            raise UsageError(
                f"there is no input {quoted(name)}", hint=nearest(name, plan.inputs) or known, input=name
            )
    missing = [name for name, spec in plan.inputs.items() if spec.required and name not in given]
    if missing:
        wanted = " ".join(
            f"-i {name}={str(plan.inputs[name].schema.get('type', 'value')).upper()}" for name in missing
        )
        verb = "is" if len(missing) == 1 else "are"
        raise UsageError(f"{', '.join(missing)} {verb} not given", hint=f"add {wanted}", input=missing[0])
    return {
        name: _value(spec, given.get(name, spec.default), name in given, base)
        for name, spec in plan.inputs.items()
    }


def _value(spec: InputSpec, value: Any, is_given: bool, base: Path | None) -> Any:
    if not is_given and value is None:
        return None
    kind = spec.schema.get("type")
    if is_given and isinstance(value, str) and kind != "string":
        value = _read(spec, value, str(kind))
    for path, message in violations(value, spec.schema):
        where = ".".join(map(str, (spec.name, *path)))
        raise UsageError(f"input {quoted(where)} {message}", hint=_form(spec), input=spec.name)
    if spec.schema.get("format") == "path" and isinstance(value, str) and base is not None:
        return str(base / Path(value).expanduser())
    return value


def _read(spec: InputSpec, text: str, kind: str) -> Any:
    """A text of the command line as a value of the declared type."""
    with contextlib.suppress(ValueError):  # Told below, in the words of the input.
        match kind:
            case "integer" if _INTEGER.match(text):
                return int(text)
            case "number" if len(text) <= 64:
                return _number(text)
            case "boolean" if text.lower() in _TRUE | _FALSE:
                return text.lower() in _TRUE
            case "array" | "object" | "null" if len(text) <= GIVEN_CHARS_MAX and _depth(text) <= NESTING_MAX:
                return json.loads(text, parse_constant=_refuse_constant)
    raise UsageError(f"input {quoted(spec.name)} cannot be {quoted(text)}", hint=_form(spec), input=spec.name)


def _number(text: str) -> float | int:
    number = json.loads(text, parse_constant=_refuse_constant)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ValueError(text)
    return number


def _refuse_constant(text: str) -> Any:
    raise ValueError(text)


def _depth(text: str) -> int:
    """An upper bound of the nesting: the reader of JSON recurses."""
    deepest = depth = 0
    for char in text:
        depth += (char in "[{") - (char in "]}")
        deepest = max(deepest, depth)
    return deepest


def _form(spec: InputSpec) -> str:
    examples = {
        "array": "a JSON list, such as '[1, 2]'",
        "object": "a JSON object, such as '{\"a\": 1}'",
        "boolean": "true or false",
        "null": "null",
    }
    kind = str(spec.schema.get("type", "value"))
    limits = ", ".join(
        f"{key} {json.dumps(value)}"
        for key, value in spec.schema.items()
        if key not in ("type", "description")
    )
    return f"give {spec.name} as {examples.get(kind, kind)}" + (f" ({limits[:200]})" if limits else "")
