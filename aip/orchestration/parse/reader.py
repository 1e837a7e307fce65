"""Typed values out of the tree: each reader either answers or notes a problem with its place and goes on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ...settings import Limits
from ..budget import AMOUNT_MAX
from ..expression import Expression, Reference
from ..expression_error import ExpressionInvalid
from ..plan import Position
from ..suggestion import nearest
from ..template import Template, split
from . import units
from .document import Node
from .problem import PROBLEMS_MAX, Problem, invalid, quoted
from .vocabulary import (
    API_VERSION,
    HIDDEN_FORM,
    KNOWN,
    NOT_YET,
    REFERENCE_FORM,
    TEXT_CHARS_MAX,
    UNIT_FORM,
    USD_MAX,
)


@dataclass(frozen=True, slots=True)
class Use:
    """A reference, the node of the file that holds it, and where."""

    reference: Reference
    line: int
    column: int


class Reader:
    """Notes problems; knows the file's name, its lines and its limits."""

    def __init__(self, file: str, text: str, limits: Limits) -> None:
        self.file = file
        self.limits = limits
        self.problems: list[Problem] = []
        self._lines = text.removeprefix("\ufeff").split("\n")

    def problem(self, code: str, place: Node | tuple[int, int], message: str, suggestion: str = "") -> None:
        """Note a problem. Raises `PlanInvalid` when there are more than a person reads."""
        line, column = (place.line, place.column) if isinstance(place, Node) else place
        self.problems.append(Problem(code, self.file, line, column, message, suggestion))
        if len(self.problems) >= PROBLEMS_MAX:
            raise invalid(self.problems)

    def position(self, place: tuple[int, int]) -> Position:
        return Position(self.file, *place)

    def fields(self, node: Node, section: str, what: str) -> dict[str, Node]:
        """The known keys of a section. Unknown ones, and those of a later version, are problems."""
        if not self.is_kind(node, dict, what, "a map"):
            return {}
        known = KNOWN[section]
        for key in node.value:
            if key in known:
                continue
            place = node.keys[key]
            if key in NOT_YET.get(section, ()):
                self.not_yet(place, f"{quoted(key)} of {what}")
            else:
                hint = nearest(key, known) or f"known here: {', '.join(known)}"
                self.problem("plan.unknown_key", place, f"{what} has no {quoted(key)}", hint)
        return {key: value for key, value in node.value.items() if key in known}

    def not_yet(self, place: Node | tuple[int, int], what: str) -> None:
        message = f"{what} is part of plan.yaml {API_VERSION}, but this version of AIP does not enforce it"
        self.problem(
            "plan.not_yet", place, message, "leave it out; it is refused so that it is never ignored"
        )

    def missing(self, node: Node, what: str, suggestion: str) -> None:
        self.problem("plan.missing", node, f"{what} is missing", suggestion)

    def is_kind(self, node: Node, kind: type | tuple[type, ...], what: str, wanted: str) -> bool:
        kinds = kind if isinstance(kind, tuple) else (kind,)
        right = isinstance(node.value, kinds) and (bool in kinds or not isinstance(node.value, bool))
        if not right:
            hint = (
                "quote it if text is meant"
                if str in kinds and not isinstance(node.value, dict | list)
                else ""
            )
            self.problem("plan.type", node, f"{what} is {node.kind}, not {wanted}", hint)
        return right

    def text(self, node: Node, what: str, form: str = "", hint: str = "") -> str | None:
        if not self.is_kind(node, str, what, "a text"):
            return None
        value: str = node.value
        if len(value) > TEXT_CHARS_MAX:
            self.problem(
                "plan.value", node, f"{what} has {len(value)} characters; the limit is {TEXT_CHARS_MAX}"
            )
            return None
        if form and not re.fullmatch(form.rstrip("$").lstrip("^"), value):
            self.problem("plan.value", node, f"{what} cannot be {quoted(value)}", hint)
            return None
        return value

    def integer(self, node: Node, what: str, low: int, high: int) -> int | None:
        if not self.is_kind(node, int, what, "an integer") or not self._within(node, what, low, high):
            return None
        return int(node.value)

    def number(self, node: Node, what: str, low: float, high: float) -> float | None:
        if not self.is_kind(node, (int, float), what, "a number") or not self._within(node, what, low, high):
            return None
        return float(node.value)

    def choice(self, node: Node, what: str, allowed: Iterable[str], later: Iterable[str] = ()) -> str | None:
        value = self.text(node, what)
        allowed = tuple(allowed)
        if value is None or value in allowed:
            return value
        if value in later:
            self.not_yet(node, f"{what}: {value}")
        else:
            hint = nearest(value, allowed) or f"one of {', '.join(allowed)}"
            self.problem("plan.value", node, f"{what} cannot be {quoted(value)}", hint)
        return None

    def duration_s(self, node: Node, what: str, high_s: float = units.DURATION_MAX_S) -> float | None:
        hint = "write it as 250ms, 30s, 5m, 1h30m or 7d"
        if isinstance(node.value, int | float) and not isinstance(node.value, bool):
            self.problem(
                "plan.duration", node, f"{what} has no unit", f"write {node.value}s if seconds are meant"
            )
            return None
        value = self.text(node, what)
        if value is None:
            return None
        seconds = units.duration_s(value)
        if seconds is None or not 0 < seconds <= high_s:
            wrong = (
                f"{what} is no duration: {quoted(value)}"
                if seconds is None
                else f"{what} must be more than 0 and at most {'a year' if high_s == units.DURATION_MAX_S else f'{high_s:g}s'}"
            )
            self.problem("plan.duration", node, wrong, hint)
            return None
        return seconds

    def size_bytes(self, node: Node, what: str, high: int = units.SIZE_BYTES_MAX) -> int | None:
        if isinstance(node.value, int) and not isinstance(node.value, bool):
            return self.integer(node, what, 1, high)
        value = self.text(node, what)
        if value is None:
            return None
        found = units.size_bytes(value)
        if not found or found > high:
            wrong = f"{what} must be 1 to {high} bytes" if found else f"{what} is no size: {quoted(value)}"
            self.problem("plan.size", node, wrong, "write it as 64Mi, 2Gi or a number of bytes")
            return None
        return found

    def entries(
        self, node: Node, what: str, form: str, hint: str, reserved: Iterable[str] = ()
    ) -> dict[str, Node]:
        """A map of names that the author chose."""
        if not self.is_kind(node, dict, what, "a map"):
            return {}
        for key in node.value:
            if not re.fullmatch(form.rstrip("$").lstrip("^"), key) or key in reserved:
                self.problem(
                    "plan.name", node.keys[key], f"{quoted(key)} cannot be a name under {what}", hint
                )
        return dict(node.value)

    def amounts(self, node: Node, what: str) -> dict[str, int]:
        """Whole amounts by unit. `usd: 1.50` is another way to write `usd_micro: 1500000`."""
        found = self.entries(node, what, UNIT_FORM, "a unit is lower case, such as tokens or usd_micro")
        if "usd" in found and "usd_micro" in found:
            self.problem(
                "plan.duplicate", node.keys["usd"], f"{what} has usd and usd_micro", "keep one of them"
            )
        read: dict[str, int | None] = {}
        for unit, value in found.items():
            if unit == "usd":
                read["usd_micro"] = self.usd_micro(value, f"{what}.usd", USD_MAX)
            else:
                read[unit] = self.integer(value, f"{what}.{unit}", 0, AMOUNT_MAX)
        return {unit: amount for unit, amount in read.items() if amount is not None}

    def usd_micro(self, node: Node, what: str, high_usd: int) -> int | None:
        """USD, as a number or a text of digits, in whole micro-dollars."""
        if isinstance(node.value, bool) or not isinstance(node.value, int | float | str):
            self.problem(
                "plan.type", node, f"{what} is {node.kind}, not USD", "write it as 2, 1.50 or '0.15'"
            )
            return None
        amount = units.usd_micro(str(node.value))
        if amount is None or amount > high_usd * 1_000_000:
            self.problem(
                "plan.value",
                node,
                f"{what} cannot be {quoted(node.value)}",
                f"USD from 0 to {high_usd}, with at most six digits after the point",
            )
            return None
        return amount

    def secret(self, node: Node, what: str, *, word: bool = False) -> str | None:
        """A reference to a secret, with one `word` before it where a header has one (`Bearer secret:NAME`).

        A secret itself is refused and repeated nowhere.
        """
        form = HIDDEN_FORM if word else REFERENCE_FORM
        if isinstance(node.value, str) and re.fullmatch(form.rstrip("$").lstrip("^"), node.value):
            return node.value
        self.problem(
            "plan.secret",
            node,
            f"{what} must be a reference to a secret, never the secret itself",
            "keep it with `aip secret set NAME`, and write secret:NAME"
            + (", or one word before it: Bearer secret:NAME" if word else ""),
        )
        return None

    def constant(self, node: Node, what: str) -> Any:
        """A value that no run changes: without expressions."""
        uses: list[Use] = []
        before = len(self.problems)
        template, _ = self.template(node, what)
        self._expressions(node, what, uses)
        if len(self.problems) == before and not template.is_constant:
            self.problem(
                "plan.type",
                node,
                f"{what} is read before there is a run, so it cannot hold an expression",
                "hand values of a run over in `with`",
            )
        return node.plain()

    def texts(self, node: Node, what: str, form: str = "", hint: str = "") -> list[tuple[str, Node]]:
        """A list of texts, each once."""
        if isinstance(node.value, str):
            self.problem("plan.type", node, f"{what} is a text, not a list", f"write [{node.value[:40]}]")
            return []
        if not self.is_kind(node, list, what, "a list"):
            return []
        found: dict[str, Node] = {}
        for item in node.value:
            value = self.text(item, f"an item of {what}", form, hint)
            if value is not None and value in found:
                self.problem("plan.duplicate", item, f"{quoted(value)} stands twice in {what}")
            elif value is not None:
                found[value] = item
        return list(found.items())

    def template(self, node: Node, what: str) -> tuple[Template, list[Use]]:
        """The value with its expressions, and all that they refer to, each with its place."""
        uses: list[Use] = []
        self._expressions(node, what, uses)
        return Template(node.plain()), uses

    def whole_expression(
        self, node: Node, what: str, also: type | tuple[type, ...]
    ) -> tuple[Template, list[Use]] | None:
        """A template that is one expression, or a constant of the type that is wanted."""
        template, uses = self.template(node, what)
        if isinstance(node.value, also):
            return template, uses
        if isinstance(node.value, str) and "${{" in node.value:
            if any(
                problem.line == node.line
                for problem in self.problems
                if problem.code.startswith("expression")
            ):
                return None
            if template.is_whole:
                return template, uses
        hint = (
            f'write "${{{{ {node.value.strip()[:60]} }}}}"'
            if isinstance(node.value, str) and "${{" not in node.value
            else ""
        )
        self.problem(
            "plan.type",
            node,
            f"{what} must be one whole expression",
            hint or 'write "${{ … }}" with nothing around it',
        )
        return None

    def _within(self, node: Node, what: str, low: float, high: float) -> bool:
        if low <= node.value <= high:
            return True
        self.problem("plan.value", node, f"{what} is {node.value}; it must be {low} to {high}")
        return False

    def _expressions(self, node: Node, what: str, uses: list[Use]) -> None:
        value: Any = node.value
        if isinstance(value, str):
            if "${{" in value:
                self._split(node, uses)
        elif isinstance(value, list):
            for item in value:
                self._expressions(item, what, uses)
        elif isinstance(value, dict):
            for key, item in value.items():
                if "${{" in key:
                    self.problem(
                        "expression.key",
                        node.keys[key],
                        "a key cannot be an expression",
                        "compute the map in an agent",
                    )
                self._expressions(item, what, uses)

    def _split(self, node: Node, uses: list[Use]) -> None:
        try:
            parts = split(node.value)
        except ExpressionInvalid as error:
            line, column = self._inside(node, error.details.get("offset", 0))
            self.problem(error.code, (line, column), error.message, error.hint)
            return
        start = 0
        for part in parts:
            if isinstance(part, Expression):
                start = node.value.find("${{" + part.text, start) + 3
                uses.extend(Use(one, *self._inside(node, start + one.at)) for one in part.references)

    def _inside(self, node: Node, offset: int) -> tuple[int, int]:
        """Where a character of a scalar stands in the file, if it stands in the scalar's first line as it is read."""
        column = node.column - 1 + (node.style in ("'", '"'))
        line = self._lines[node.line - 1] if node.line <= len(self._lines) else ""
        if line.startswith(node.value[: offset + 1], column):
            return node.line, column + offset + 1
        return node.line, node.column
