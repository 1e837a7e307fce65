"""`-i name=Ada`: values typed on a command line; `-i name=@file` takes one from a file (`value_file`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import click

from ..errors import UsageError
from . import text
from .value_file import value_of

VALUES_MAX = 1_000  # A command line; larger input comes from a file.


class KeyValueType(click.ParamType):  # type: ignore[type-arg]  # Generic in newer click only.
    """`KEY=VALUE`; the first `=` divides."""

    name = "key=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        key, equals, given = str(value).partition("=")
        if not equals or not key.strip():
            self.fail(f"{value!r} is not KEY=VALUE", param, ctx)
        return key.strip(), given


KEY_VALUE = KeyValueType()


def collected(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The pairs as one mapping: texts as typed, and what files hold. A key that is given twice is a mistake, not an order."""
    found: dict[str, str] = {}
    for key, value in pairs:
        if key in found:
            raise UsageError(f"{key!r} is given twice", hint=f"keep one -i {key}=…")
        found[key] = value
    if len(found) > VALUES_MAX:
        raise UsageError(f"more than {VALUES_MAX} values on a command line")
    return {key: value_of(key, value) for key, value in found.items()}


def typed(given: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a capability by its input schema: text where it wants text, else JSON. What a file held is typed already.

    Only the reading of the words is decided here; whether the values fit is the capability's own check.
    """
    properties = schema.get("properties") or {}
    return {
        key: _typed(key, value, properties.get(key) or {}) if isinstance(value, str) else value
        for key, value in given.items()
    }


def _typed(key: str, value: str, schema: Mapping[str, Any]) -> Any:
    wanted = _types(schema)
    if wanted == {"string"}:
        return value
    try:
        return json.loads(value)
    except ValueError:
        if not wanted or "string" in wanted:
            return value
        raise UsageError(
            f"{key} wants {' or '.join(sorted(wanted))}, not {text.line(value, 60)!r}",
            hint=f"write it as JSON, for example -i {key}={_example(wanted)}",
        ) from None


def _types(schema: Mapping[str, Any]) -> set[str]:
    """The JSON types a schema names; empty where it does not say."""
    found: set[str] = set()
    declared = schema.get("type")
    found.update([declared] if isinstance(declared, str) else declared or ())
    for branch in (*(schema.get("anyOf") or ()), *(schema.get("oneOf") or ())):
        found |= _types(branch)
    return found


def _example(wanted: set[str]) -> str:
    examples = {"array": "'[1,2]'", "object": "'{\"a\":1}'", "boolean": "true", "null": "null"}
    return next((examples[one] for one in sorted(wanted) if one in examples), "3")


class AmountType(click.ParamType):  # type: ignore[type-arg]  # Generic in newer click only.
    """`UNIT=AMOUNT` of a budget: a whole number of the unit's name, such as `tokens=500_000`; `usd=2.50` is usd_micro."""

    name = "unit=amount"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        unit, given = KEY_VALUE.convert(value, param, ctx)
        digits = given.strip().replace("_", "").replace(",", "")
        if unit == "usd":
            from ..orchestration.parse.units import usd_micro

            micro = usd_micro(digits)
            if micro is None:
                self.fail(
                    f"{given!r} is no amount in USD with at most six digits after the point", param, ctx
                )
            return "usd_micro", micro
        if not (digits.isascii() and digits.isdigit()):
            self.fail(f"{given!r} is not a whole number of {unit}", param, ctx)
        return unit, int(digits)


AMOUNT = AmountType()
