"""A value of a plan with `${{ … }}` in it.

A string that is wholly one `${{ … }}` keeps the type of the expression's value; otherwise the values are set into the text
(strings as they are, everything else as JSON). `$${{` writes a literal `${{`. Keys are never templates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .cel_syntax import SyntaxProblem, scan_end
from .expression import Expression, expression
from .expression_error import ExpressionInvalid
from .price import VALUE_DEPTH_MAX

_MARKER = re.compile(r"\$?\$\{\{")
_Part = str | Expression


class Template:
    """A value of a plan: constants, and strings with `${{ … }}` in them, at any depth.

    Immutable; equal if the sources are.
    Nothing is read before it is asked for: ten thousand constant templates cost ten thousand small objects.
    """

    __slots__ = ("_expressions", "_tree", "source")

    def __init__(self, source: Any) -> None:
        self.source = source
        self._tree: Any = _UNREAD
        self._expressions: tuple[Expression, ...] = ()

    def __repr__(self) -> str:
        return f"Template({self.source!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Template) and self.source == other.source

    def __hash__(self) -> int:
        return hash(repr(self.source))

    def __reduce__(self) -> tuple[Any, ...]:
        return Template, (self.source,)

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """Every expression in the value, in order. Raises `ExpressionInvalid` for the first that is none."""
        self._read()
        return self._expressions

    @property
    def is_constant(self) -> bool:
        return not self.expressions

    @property
    def is_whole(self) -> bool:
        """Whether the value is one string that is wholly one expression: its value may have any type."""
        self._read()
        return isinstance(self._tree, Expression)

    @property
    def references(self) -> frozenset[str]:
        """What the value depends on: `inputs.topic`, `tasks.find`, `item`, `index`, `run.id`."""
        return frozenset(
            ".".join(reference.path[: 1 if reference.path[0] in ("item", "index") else 2])
            for one in self.expressions
            for reference in one.references
        )

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that the value depends on, in order of first mention."""
        names = (
            reference.path[1]
            for one in self.expressions
            for reference in one.references
            if reference.path[0] == "tasks"
        )
        return tuple(dict.fromkeys(names))

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """The value as plain JSON. Raises `ExpressionFailed` (`ExpressionInvalid`, if nobody checked before)."""
        self._read()
        return _evaluate(self._tree, scope)

    def known(self, unknown: Any) -> Any:
        """The value before the run: every string with an expression in it is `unknown`."""
        self._read()
        return _known(self._tree, unknown)

    def _read(self) -> None:
        if self._tree is _UNREAD:
            found: list[Expression] = []
            tree = _tree(self.source, found, 0)
            self._expressions = tuple(found)
            self._tree = tree


_UNREAD: Any = object()


@dataclass(frozen=True, slots=True)
class _Text:
    """A string made of text and expressions in turn."""

    parts: tuple[_Part, ...]


def split(text: str) -> list[_Part]:
    """The text and the expressions of one string, in order; errors carry the `offset` within the string."""
    parts: list[_Part] = []
    done = 0
    while marker := _MARKER.search(text, done):
        parts.append(text[done : marker.start()])
        if marker[0].startswith("$$"):
            parts.append("${{")
            done = marker.end()
            continue
        try:
            end = scan_end(text, marker.end())
            parts.append(expression(text[marker.end() : end]))
        except SyntaxProblem as problem:
            raise ExpressionInvalid(
                problem.message, text, problem.at, hint=problem.hint, offset=problem.at
            ) from None
        except ExpressionInvalid as error:
            error.details["offset"] = marker.end() + error.at
            raise
        done = end + 2
    parts.append(text[done:])
    return [part for part in parts if part != ""]


def _tree(value: Any, found: list[Expression], depth: int) -> Any:
    """The value with every templated string replaced by an `Expression` or a `_Text`."""
    if isinstance(value, str):
        if "${{" not in value:
            return value
        parts = split(value)
        expressions = [part for part in parts if isinstance(part, Expression)]
        found.extend(expressions)
        if not expressions:
            return "".join(str(part) for part in parts)
        return parts[0] if len(parts) == 1 else _Text(tuple(parts))
    if depth > VALUE_DEPTH_MAX:
        raise ExpressionInvalid(f"the value is nested deeper than {VALUE_DEPTH_MAX}")
    if isinstance(value, Mapping):
        return {key: _tree(item, found, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_tree(item, found, depth + 1) for item in value]
    return value


def _evaluate(tree: Any, scope: Mapping[str, Any]) -> Any:
    match tree:
        case Expression():
            return tree.evaluate(scope)
        case _Text():
            return "".join(
                part if isinstance(part, str) else _as_text(part.evaluate(scope)) for part in tree.parts
            )
        case dict():
            return {key: _evaluate(item, scope) for key, item in tree.items()}
        case list():
            return [_evaluate(item, scope) for item in tree]
        case _:
            return tree


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _known(tree: Any, unknown: Any) -> Any:
    match tree:
        case Expression() | _Text():
            return unknown
        case dict():
            return {key: _known(item, unknown) for key, item in tree.items()}
        case list():
            return [_known(item, unknown) for item in tree]
        case _:
            return tree
