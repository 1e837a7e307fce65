"""`${{ … }}` in a plan: the Common Expression Language, with a price computed before anything runs.

Language: CEL as its specification has it (github.com/google/cel-spec, `doc/langdef.md`), evaluated by the
library `common-expression-language`.

What this module guarantees:
- *Nothing unbounded runs.* CEL has no loops but its macros, and macros nest: `x.all(a, x.all(b, …))` over
  a long list does not end. The library cannot be interrupted and holds the interpreter's lock, so the
  price is bounded beforehand: the expression is read into a tree, the values it will see are measured,
  and work and result size are estimated from above, macro by macro. Over the limit it is refused, in
  microseconds. `map` and `filter` are priced as the library runs them: quadratic in the list.
- *Only plain JSON comes out.* Timestamps and durations become text; bytes, infinities and keys that are
  no strings are refused.
- *One kind of error comes out*, naming the expression, the place in it and what to do; a panic of the
  library included.
- *References are exact.* `tasks` must be followed by a task's name as written, so that every dependency
  is known before the run.

What it does not: no type check before values are there (`check` in `parse` knows the schemas); no
wall-clock bound, the price stands for it (about 1 s at WORK_MAX on a slow core).

Read by `cel_syntax`, priced by `price`, set into values by `template`.

Three roads, cheapest first: a constant is returned as it is; a plain path (`tasks.find.output.url`) is
looked up in Python, without copying the value through the library; everything else is compiled once and
sees a projection of the scope, only the paths it names. Where the library departs from the specification,
the specification wins: `size` counts characters, not bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NoReturn

import cel

from .cel_syntax import EXPRESSION_CHARS_MAX, NOT_NAMES, TOKEN, Node, Path, SyntaxProblem, parse, path_of
from .expression_error import ExpressionFailed, ExpressionInvalid, kind
from .price import SIZE_MAX, TEXT_PIECE, VALUE_DEPTH_MAX, WORK_MAX, Price, pattern_work
from .suggestion import nearest

EXPRESSIONS_CACHED_MAX = 16_384  # One plan's worth; an entry is about 2 KB.

TASK_FIELDS = ("output", "outputs", "status", "added")
LATE_RUN_FIELDS = ("state", "error")  # Known when all work has ended.
RUN_FIELDS = ("id", "plan", "attempt", *LATE_RUN_FIELDS)
ROOTS = ("inputs", "tasks", "item", "index", "run")
_PATH = re.compile(r"\s*([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\s*\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reference:
    """A path that an expression reads, as far as it is written out; `tested` if only `has(…)` asks for it."""

    path: Path
    at: int
    tested: bool = False


class Expression:
    """One CEL expression: read and checked at once, compiled when it is first evaluated."""

    __slots__ = ("_functions", "_program", "_projection", "is_path", "references", "text", "tree")

    def __init__(self, text: str) -> None:
        self.text = text
        self._program: cel.Program | None = None
        self._functions: dict[str, Any] = {}
        plain = _PATH.match(text) if len(text) <= EXPRESSION_CHARS_MAX else None
        path = tuple(plain[1].split(".")) if plain else ()
        self.is_path = bool(path) and NOT_NAMES.isdisjoint(path)
        self.tree: Node | None = None
        if self.is_path:
            self.references: tuple[Reference, ...] = (Reference(path, len(text) - len(text.lstrip())),)
        else:
            try:
                self.tree = parse(text)
            except SyntaxProblem as problem:
                raise ExpressionInvalid(problem.message, text, problem.at, hint=problem.hint) from None
            self.references = tuple(_references(self.tree, frozenset(), text))
        for reference in self.references:
            _check_reference(reference, text)
        self._projection = frozenset(_projected(reference.path) for reference in self.references)
        if self.tree is not None:
            self._compile()

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """The value as plain JSON, or `ExpressionFailed`."""
        if self.is_path:
            return self._look_up(scope, self.references[0])
        assert self.tree is not None
        assert self._program is not None
        seen: dict[str, Any] = {}
        for path in self._projection:
            _project(scope, path, seen)
        self._refuse_dear(self.tree, seen)
        try:
            context = cel.Context(variables=seen, functions=self._functions) if self._functions else seen
            value = self._program.execute(context)
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:  # noqa: BLE001 - a panic of the library derives from BaseException
            self._fail(error, scope)
        return self._plain(value, 0)

    def _compile(self) -> None:
        try:
            self._program = cel.compile(self.text)
            if "size" in self._program.functions():
                self._program = cel.compile(TOKEN.sub(_renamed, self.text))
                self._functions = {"size_": _size}
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:  # noqa: BLE001 - as above
            found = re.search(r"<input>:(\d+):(\d+): ([^\n]*)", str(error))
            what = found[3].partition(" expecting ")[0] if found else "the expression cannot be compiled"
            at = _offset(self.text, int(found[1]), int(found[2])) if found else 0
            raise ExpressionInvalid(what, self.text, at) from None

    def _look_up(self, scope: Mapping[str, Any], reference: Reference) -> Any:
        value: Any = scope
        for depth, name in enumerate(reference.path):
            if not isinstance(value, Mapping):
                whole = ".".join(reference.path[:depth])
                raise ExpressionFailed(
                    f"`{whole}` is {kind(value)}, which has no field `{name}`", self.text, reference.at
                )
            if name not in value:
                self._missing(reference.path[:depth], name, value, reference.at)
            value = value[name]
        return value

    def _missing(self, base: Path, name: str, value: Mapping[str, Any], at: int) -> NoReturn:
        where = f"`{'.'.join(base)}` has no field `{name}`" if base else f"`{name}` is not known here"
        hint = nearest(name, [str(key) for key in value]) or "test it first: has(…) ? … : …"
        raise ExpressionFailed(where, self.text, at, hint=hint)

    def _refuse_dear(self, tree: Node, seen: dict[str, Any]) -> None:
        price = Price(self.text)
        price.of(tree, {}, seen)
        if price.work > WORK_MAX or price.largest > SIZE_MAX:
            what = (
                f"up to {price.work:.1g} steps; the limit is {WORK_MAX}"
                if price.work > WORK_MAX and price.work < 1e300
                else f"a result of too many values; the limits are {WORK_MAX} steps and {SIZE_MAX} values"
            )
            raise ExpressionFailed(
                f"too much work: {what}",
                self.text,
                hint="let an agent do it, or use for_each; map and filter cost the square of their list",
            )

    def _fail(self, error: BaseException, scope: Mapping[str, Any]) -> NoReturn:
        for reference in self.references:
            if not reference.tested and isinstance(error, KeyError):
                self._look_up(
                    scope, reference
                )  # Names the path that is missing, where it is one written out.
        text, hint = str(error).strip("'\""), ""
        match error:
            case KeyError():
                text, hint = f"there is no field `{text}`", "test it first: has(…) ? … : …"
            case TypeError():
                text = text.partition(" CEL does not coerce")[0].removeprefix("No such overload: ")
                hint = "operands must have one type: convert with int(), double() or string()"
            case ZeroDivisionError():
                text = "division by zero"
            case Exception():
                text = text.partition(". Check ")[0].partition("\n")[0]
            case _:
                text = f"the expression library gave up ({type(error).__name__})"
        raise ExpressionFailed(text[:500] or type(error).__name__, self.text, hint=hint) from None

    def _plain(self, value: Any, depth: int) -> Any:
        if value is None or isinstance(value, bool | int | str):
            return value
        if depth > VALUE_DEPTH_MAX:
            raise ExpressionFailed(f"the value is nested deeper than {VALUE_DEPTH_MAX}", self.text)
        if isinstance(value, float) and math.isfinite(value):
            return value
        if isinstance(value, list):
            return [self._plain(item, depth + 1) for item in value]
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return {key: self._plain(item, depth + 1) for key, item in value.items()}
        if isinstance(value, datetime):
            return value.isoformat().replace("+00:00", "Z")
        if isinstance(value, timedelta):
            return (
                f"{value.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"
            )  # As protobuf's JSON mapping writes it.
        hint = "convert it with string()" if not isinstance(value, dict) else "keys must be strings"
        raise ExpressionFailed(f"the value, {kind(value)}, is not JSON", self.text, hint=hint)


@lru_cache(maxsize=EXPRESSIONS_CACHED_MAX)
def expression(text: str) -> Expression:
    """The expression of this text; the same object for the same text. `ExpressionInvalid` if it is none."""
    return Expression(text)


def _references(node: Node, bound: frozenset[str], text: str, tested: bool = False) -> Iterator[Reference]:
    """Every path that the tree reads from the scope, and a check of every name that it calls."""
    path = path_of(node, bound)
    if path:
        yield Reference(path, node.start, tested)
        return
    match node.kind:
        case "name" if node.name not in bound:
            yield Reference((node.name,), node.at, tested)
        case "has":
            yield from _references(node.children[0], bound, text, tested=True)
            return
        case "macro":
            target, *bodies = node.children
            yield from _references(target, bound, text)
            for body in bodies:
                yield from _references(body, bound | {node.variable}, text)
            return
        case _:
            pass
    for child in node.children:
        yield from _references(child, bound, text)


def _check_reference(reference: Reference, text: str) -> None:
    root, *rest = reference.path
    at = reference.at
    if root not in ROOTS:
        raise ExpressionInvalid(
            f"unknown name `{root}`",
            text,
            at,
            hint=nearest(root, ROOTS) or f"there are {', '.join(ROOTS)}; a text is written in quotes",
        )
    if root == "tasks" and len(rest) < 2:
        missing = "a task's name" if not rest else f"what of the task is meant: {', '.join(TASK_FIELDS)}"
        raise ExpressionInvalid(f"`{'.'.join(reference.path)}` must be followed by {missing}", text, at)
    for name, known, place in ((rest[1:2], TASK_FIELDS, "tasks"), (rest[:1], RUN_FIELDS, "run")):
        if root == place and name and name[0] not in known:
            hint = nearest(name[0], known) or f"there are {', '.join(known)}"
            raise ExpressionInvalid(f"`{root}` has no `{name[0]}`", text, at, hint=hint)


def _projected(path: Path) -> Path:
    """How much of a path decides what is handed to the library; the rest is looked up there."""
    return path[: {"tasks": 3, "inputs": 2, "run": 2}.get(path[0], 1)]


def _project(scope: Mapping[str, Any], path: Path, seen: dict[str, Any]) -> None:
    """Copy one path of the scope into `seen`. What is missing stays missing, for `has`."""
    source: Any = scope
    for name in path[:-1]:
        if not isinstance(source, Mapping) or name not in source:
            return
        source = source[name]
        inner = seen.setdefault(name, {})
        if inner is source:
            return  # The whole of it is there already.
        seen = inner
    if isinstance(source, Mapping) and path[-1] in source:
        seen[path[-1]] = source[path[-1]]


def _renamed(token: re.Match[str]) -> str:
    """`size(` becomes `size_(`: the library lets nobody replace its own `size`, which counts bytes."""
    is_call = token.string[token.end() :].lstrip().startswith("(")
    return "size_" if token.lastgroup == "name" and token[0] == "size" and is_call else token[0]


def _size(value: Any) -> int | None:
    """Characters or members; null where there is none to count (raising here would write to stderr)."""
    return len(value) if isinstance(value, str | bytes | list | dict) else None


def _offset(text: str, line: int, column: int) -> int:
    before = text.split("\n")[: line - 1]
    return min(len(text), sum(len(part) + 1 for part in before) + column - 1)


def search(pattern: str, text: str) -> bool:
    """Whether the pattern is found in the text, in time linear in the text. `ExpressionInvalid` if it is none."""
    work = pattern_work(pattern, 1 + len(text) // TEXT_PIECE)
    if len(pattern) > EXPRESSION_CHARS_MAX or work > WORK_MAX:
        raise ExpressionInvalid("the pattern is too much work", pattern[:EXPRESSION_CHARS_MAX])
    try:
        return bool(cel.evaluate("text.matches(pattern)", {"text": text, "pattern": pattern}))
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # noqa: BLE001 - a panic of the library derives from BaseException
        what = str(error).partition("error: ")[2].split("error: ")[-1].partition(". Check ")[0]
        raise ExpressionInvalid(f"not a regular expression: {what}"[:500], pattern) from None
