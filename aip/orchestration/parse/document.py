"""YAML text to a tree of values with places: the safe half of YAML 1.2, core schema.

Source: yaml.org/spec/1.2.2, section 10.3 (core schema). libyaml gives the events; everything after that is here, because what
a plan must not do is in the loader: construct objects, read `on` as true and `012` as ten, keep the last of two equal keys,
expand aliases without end, recurse as deep as the text says. So:

    bytes            at most Limits.plan_bytes_max, UTF-8, one document
    nesting          at most Limits.plan_depth_max, counted event by event: nothing recurses over hostile text
    nodes            at most NODES_MAX, each alias counted with all that it repeats
    keys             plain scalars, kept as the text that is written; two equal ones are a problem
    plain scalars    null ~ true false, decimal, 0o and 0x integers of 64 bits, finite floats; anything else is text
    refused          tags, merge keys, aliases inside their own anchor, infinities
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from ...settings import Limits
from .problem import PROBLEMS_MAX, Problem, invalid, quoted

NODES_MAX = 1_000_000  # 50 for each of 20,000 tasks; about 300 MB while the plan is read.
KEY_CHARS_MAX = 256
NUMBER_CHARS_MAX = 64  # Longer numbers fit no 64 bits; reading them takes time in the square of their length.

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE, _FALSE = frozenset({"true", "True", "TRUE"}), frozenset({"false", "False", "FALSE"})
_INT = re.compile(r"[-+]?[0-9]+\Z|0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")
_NUMBER_STARTS = frozenset("0123456789+-.")


@dataclass(slots=True)
class Node:
    """One value of the file. `value` is None, bool, int, float, str, a list of nodes, or a dict of nodes by key."""

    value: Any
    line: int
    column: int
    style: str | None = None  # Of a scalar: None plain, else its quote or block sign.
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)  # Of a map: where each key stands.
    nodes: int = 1  # This one and all below it.

    def plain(self) -> Any:
        """The value without places. Depth is bounded since the tree was built."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    @property
    def kind(self) -> str:
        kinds = {
            bool: "a boolean",
            int: "an integer",
            float: "a number",
            str: "a text",
            list: "a list",
            dict: "a map",
        }
        return "nothing" if self.value is None else kinds[type(self.value)]


def read(text: bytes, file: str, limits: Limits) -> Node:
    """The tree of the only document in `text`. Raises `PlanInvalid` with every problem found until reading had to stop."""
    if len(text) > limits.plan_bytes_max:
        message = f"the file has {len(text)} bytes; the limit is {limits.plan_bytes_max}"
        raise invalid(
            [Problem("yaml.size", file, 1, 1, message, "keep data in files of its own and pass their paths")]
        )
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        line, column = _place(text, error.start)
        raise invalid(
            [Problem("yaml.encoding", file, line, column, "this is not UTF-8", "save the file as UTF-8")]
        ) from None
    builder = _Builder(file, limits)
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            builder.take(event)
    except _Stop:
        pass
    except yaml.YAMLError as error:
        builder.problems.append(_from_yaml(error, text, file))
    if builder.root is None and not builder.problems:
        builder.problem(
            "yaml.empty", 1, 1, "the file is empty", "a plan begins with `apiVersion: aip/v1`; see `aip init`"
        )
    if builder.problems:
        raise invalid(builder.problems)
    assert builder.root is not None
    return builder.root


class _Stop(Exception):
    """The text is not worth reading on."""


@dataclass(slots=True)
class _Open:
    """A list or map that is being read; in a map, the key that waits for its value."""

    node: Node
    anchor: str | None
    key: tuple[str, int, int] | None = None


class _Builder:
    """Takes events one by one, with a stack of its own."""

    def __init__(self, file: str, limits: Limits) -> None:
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self._file = file
        self._depth_max = limits.plan_depth_max
        self._stack: list[_Open] = []
        self._anchors: dict[str, Node | None] = {}  # None while the anchored value is still being read.
        self._nodes = 0

    def take(self, event: yaml.Event) -> None:
        mark = event.start_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        match event:
            case yaml.ScalarEvent():
                self._scalar(event, line, column)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._open(event, line, column)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                done = self._stack.pop()
                self._place(done.node, done.anchor, line, column)
            case yaml.AliasEvent():
                self._alias(event.anchor or "", line, column)
            case yaml.DocumentStartEvent() if self.root is not None:
                self.problem(
                    "yaml.documents", line, column, "a second document begins", "one file holds one plan"
                )
                raise _Stop
            case _:
                pass

    def problem(self, code: str, line: int, column: int, message: str, suggestion: str = "") -> None:
        self.problems.append(Problem(code, self._file, line, column, message, suggestion))
        if len(self.problems) >= PROBLEMS_MAX:
            raise _Stop

    def _scalar(self, event: yaml.ScalarEvent, line: int, column: int) -> None:
        self._refuse_tag(event.tag, line, column)
        plain = event.implicit[0]
        place = self._stack[-1] if self._stack else None
        if place is not None and place.key is None and isinstance(place.node.value, dict):
            self._key(place, event.value, plain, line, column)
            return
        value = self._resolved(event.value, line, column) if plain else event.value
        style = None if plain else event.style
        self._place(Node(value, line, column, style), event.anchor, line, column)

    def _key(self, place: _Open, text: str, plain: bool, line: int, column: int) -> None:
        if len(text) > KEY_CHARS_MAX:
            self.problem(
                "yaml.key", line, column, f"a key has {len(text)} characters; the limit is {KEY_CHARS_MAX}"
            )
            text = text[:KEY_CHARS_MAX]
        elif text == "<<" and plain:
            hint = "use `defaults`, or an anchor on each value"
            self.problem("yaml.merge", line, column, "merge keys are not part of YAML 1.2", hint)
        elif text in place.node.keys:
            first = place.node.keys[text][0]
            message = f"the key {quoted(text)} stands here for the second time"
            self.problem("yaml.duplicate", line, column, message, f"the first is in line {first}")
        place.key = (text, line, column)

    def _open(self, event: yaml.CollectionStartEvent, line: int, column: int) -> None:
        self._refuse_tag(event.tag, line, column)
        self._refuse_as_key(line, column)
        if len(self._stack) >= self._depth_max:
            self.problem("yaml.depth", line, column, f"nested deeper than {self._depth_max}")
            raise _Stop
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._stack.append(_Open(Node(value, line, column), event.anchor))

    def _alias(self, anchor: str, line: int, column: int) -> None:
        self._refuse_as_key(line, column)
        target = self._anchors.get(anchor)
        if target is None:
            inside = anchor in self._anchors
            message = f"the alias {quoted('*' + anchor)} " + (
                "stands inside its own anchor" if inside else "has no anchor"
            )
            self.problem("yaml.alias", line, column, message)
            raise _Stop
        if len(self._stack) + _depth(target) > self._depth_max:
            self.problem("yaml.depth", line, column, f"nested deeper than {self._depth_max}")
            raise _Stop
        self._place(target, None, line, column)

    def _place(self, node: Node, anchor: str | None, line: int, column: int) -> None:
        """Put a finished value where it belongs and count it, an alias with all that it repeats."""
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._stack:
            self.root = node
            return
        place = self._stack[-1]
        place.node.nodes += node.nodes
        if place.node.nodes > NODES_MAX:
            self.problem("yaml.nodes", line, column, f"more than {NODES_MAX} values, aliases written out")
            raise _Stop
        if isinstance(place.node.value, list):
            place.node.value.append(node)
            return
        assert place.key is not None
        key, key_line, key_column = place.key
        place.node.value[key] = node
        place.node.keys[key] = (key_line, key_column)
        place.key = None

    def _resolved(self, text: str, line: int, column: int) -> Any:
        if text in _NULL:
            return None
        if text in _TRUE:
            return True
        if text in _FALSE:
            return False
        if text[0] not in _NUMBER_STARTS:
            return text
        is_int = _INT.match(text) is not None
        if not is_int and not _FLOAT.match(text):
            if not _NOT_FINITE.match(text):
                return text
            self.problem(
                "yaml.number",
                line,
                column,
                f"{quoted(text)} is no JSON number",
                "write it in quotes if text is meant",
            )
            return 0
        if len(text) <= NUMBER_CHARS_MAX:
            number = int(text, {"0o": 8, "0x": 16}.get(text[:2], 10)) if is_int else float(text)
            if math.isfinite(number) and (not is_int or -(2**63) <= number < 2**63):
                return number
        self.problem(
            "yaml.number",
            line,
            column,
            f"{quoted(text)} does not fit 64 bits",
            "write it in quotes if text is meant",
        )
        return 0

    def _refuse_tag(self, tag: str | None, line: int, column: int) -> None:
        if tag is not None:
            self.problem("yaml.tag", line, column, f"tags are not accepted: {quoted(tag)}", "leave it out")

    def _refuse_as_key(self, line: int, column: int) -> None:
        place = self._stack[-1] if self._stack else None
        if place is not None and place.key is None and isinstance(place.node.value, dict):
            self.problem(
                "yaml.key",
                line,
                column,
                "a key must be a plain text",
                "quote it if it begins with [, {, * or ?",
            )
            raise _Stop


def _depth(node: Node) -> int:
    if isinstance(node.value, dict | list):
        below = node.value.values() if isinstance(node.value, dict) else node.value
        return 1 + max(map(_depth, below), default=0)
    return 0


def _place(text: bytes, offset: int) -> tuple[int, int]:
    before = text[:offset]
    start = before.rfind(b"\n") + 1
    return before.count(b"\n") + 1, len(before[start:].decode("utf-8", "replace")) + 1


def _from_yaml(error: yaml.YAMLError, text: bytes, file: str) -> Problem:
    """libyaml's message with its place, and what usually is behind it."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        message = ", ".join(part for part in (error.context, error.problem) if part)
        here = text.split(b"\n")[line - 1 : line]
        hint = ""
        if here and here[0][: column + 1].lstrip(b" ").startswith(b"\t"):
            hint = "indent with spaces: YAML takes no tabs"
        elif "escape code" in message:
            hint = "write the character itself, or \\U and eight digits: YAML has no surrogate pairs"
        elif "mapping values are not allowed" in message:
            hint = "put the text in quotes if it holds `: `"
        elif "${{" in message or "flow mapping" in message:
            hint = "put ${{ … }} in quotes"
        return Problem("yaml.syntax", file, line, column, message, hint)
    offset = getattr(error, "position", 0)
    line, column = _place(text, offset if isinstance(offset, int) else 0)
    reason = getattr(error, "reason", None) or "this cannot be read"
    return Problem("yaml.characters", file, line, column, str(reason), "remove the control character")
