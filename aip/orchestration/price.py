"""What an expression will cost, from above, before it runs.

CEL has no loops but its macros, and macros nest. The values that an expression will see are measured, then its tree is walked
once: each step adds its work, each macro multiplies its body's by its list. The work counts the library's own steps (`map` and
`filter` copy their list for every item, so they are quadratic); the largest value on the way is kept as well, since what is built
must be held. A walk costs time in the expression and the values it reads, never in the work that it predicts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .cel_syntax import Node, path_of
from .expression_error import ExpressionFailed

WORK_MAX = 5_000_000  # Steps of one evaluation; a step of the library is about 0.2 us.
SIZE_MAX = 2_000_000  # Values (and 64-character pieces of text) in any one result: what a cell can hold.
VALUE_DEPTH_MAX = 100  # Deeper than payloads may be (64), shallow enough for every recursive reader.
TEXT_PIECE = 64  # Characters of text that are priced like one value.

_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class Extent:
    """An upper bound of a value: values in all, members at the top, and the bound of one member."""

    size: int
    count: int = 0
    inner: Extent | None = None

    @property
    def member(self) -> Extent:
        return self.inner or _ONE


_ONE = Extent(1)


def _either(left: Extent | None, right: Extent | None) -> Extent | None:
    if left is None or right is None or left is right:
        return left or right
    inner = _either(left.inner, right.inner)
    return Extent(max(left.size, right.size), max(left.count, right.count), inner)


class Price:
    """Adds up the work of one evaluation, from above. Sizes come from the values that are really there."""

    def __init__(self, text: str) -> None:
        self.work = 0
        self.largest = 0  # Of all values on the way, too: what is built must be held.
        self._text = text

    def of(self, node: Node, bound: dict[str, Extent], seen: Mapping[str, Any]) -> Extent:
        """The bound of the node's value; its work is added to `self.work`."""
        self.work += 1
        extent = self._of(node, bound, seen)
        self.largest = max(self.largest, extent.size)
        return extent

    def _of(self, node: Node, bound: dict[str, Extent], seen: Mapping[str, Any]) -> Extent:
        match node.kind:
            case "name" | "field" | "index":
                return self._read(node, bound, seen)
            case "text":
                return Extent(1 + len(node.name) // TEXT_PIECE)
            case "macro":
                return self._macro(node, bound, seen)
        parts = [self.of(child, bound, seen) for child in node.children]
        total = 1 + sum(part.size for part in parts)
        match node.kind:
            case "list" | "map":
                inner: Extent | None = None
                for part in parts:
                    inner = _either(inner, part)
                return Extent(total, len(parts), inner)
            case "choice":
                return _either(parts[1], parts[2]) or _ONE
            case "binary" if node.name == "+":
                self.work += total
                return Extent(total, parts[0].count + parts[1].count, _either(parts[0].inner, parts[1].inner))
            case "binary" if node.name in ("==", "!=", "in", "<", "<=", ">", ">="):
                self.work += total
            case "call" | "method":
                self.work += total
                if node.name == "matches":
                    self.work += pattern_work(node.children[1].name, parts[0].size)
                return Extent(total) if node.name in ("string", "bytes", "dyn") else _ONE
        return _ONE

    def _read(self, node: Node, bound: dict[str, Extent], seen: Mapping[str, Any]) -> Extent:
        path = path_of(node, frozenset(bound))
        if path:
            value: Any = seen
            for name in path:
                if not isinstance(value, Mapping) or name not in value:
                    return _ONE
                value = value[name]
            extent = self._measure(value, 0)
            self.work += extent.size
            return extent
        if node.kind == "name":
            return bound[node.name]
        for child in node.children[1:]:
            self.of(child, bound, seen)
        return self.of(node.children[0], bound, seen).member

    def _macro(self, node: Node, bound: dict[str, Extent], seen: Mapping[str, Any]) -> Extent:
        target = self.of(node.children[0], bound, seen)
        before, self.work = self.work, 0
        inside = {**bound, node.variable: target.member}
        bodies = [self.of(body, inside, seen) for body in node.children[1:]]
        count = target.count
        self.work = before + count * (1 + self.work)
        if node.name in ("all", "exists", "exists_one"):
            return _ONE
        self.work += count * count // 4  # The library copies the list so far for every item.
        member = target.member if node.name == "filter" else bodies[-1]
        return Extent(1 + count * member.size, count, member)

    def _measure(self, value: Any, depth: int) -> Extent:
        """The extent of a value of the scope, and a refusal of what the library would change or choke on."""
        if isinstance(value, str):
            return Extent(1 + len(value) // TEXT_PIECE)
        if value is None or isinstance(value, bool | float):
            return _ONE
        if isinstance(value, int):
            if _INT_MIN <= value <= _INT_MAX:
                return _ONE
            raise ExpressionFailed(
                "an integer is larger than 64 bits", self._text, hint="pass it on as a whole, or as text"
            )
        if depth > VALUE_DEPTH_MAX:
            raise ExpressionFailed(f"a value is nested deeper than {VALUE_DEPTH_MAX}", self._text)
        if isinstance(value, Mapping):
            members: Iterable[Any] = value.values()
            size, inner = (
                1 + len(value),
                None if not value else Extent(1 + max(len(str(k)) for k in value) // TEXT_PIECE),
            )
        elif isinstance(value, list | tuple):
            members, size, inner = value, 1, None
        else:
            raise ExpressionFailed(f"a value of type {type(value).__name__} is not JSON", self._text)
        for member in members:
            extent = self._measure(member, depth + 1)
            size += extent.size
            inner = _either(inner, extent)
        return Extent(size, len(value), inner)


def pattern_work(pattern: str, text_size: int) -> int:
    """A search takes time in proportion to pattern times text; counted repeats multiply the pattern."""
    states = len(pattern) + 1
    for repeat in re.finditer(r"\{(\d*),?(\d*)\}", pattern):
        states *= max(1, int(repeat[1][:9] or 0), int(repeat[2][:9] or 0))
    return 2_000 + states + 2 * states * text_size  # 2,000: compiling even a short one takes 0.4 ms.
