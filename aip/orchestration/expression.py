"""`${{ … }}` in a plan: the Common Expression Language, with a price computed before anything runs.

Language: CEL as its specification has it (github.com/google/cel-spec, `doc/langdef.md`), evaluated by the
library `common-expression-language`. A string that is wholly one `${{ … }}` keeps the type of its value;
otherwise the values are set into the text (strings as they are, everything else as JSON). `$${{` writes a
literal `${{`. Keys are never templates.

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

Three roads, cheapest first: a constant is returned as it is; a plain path (`tasks.find.output.url`) is
looked up in Python, without copying the value through the library; everything else is compiled once and
sees a projection of the scope, only the paths it names. Where the library departs from the specification,
the specification wins: `size` counts characters, not bytes.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NoReturn

import cel

from ..errors import UserError

EXPRESSION_CHARS_MAX = 4_000  # Longer logic belongs in an agent, where it can be tested.
NESTING_MAX = 32  # The library takes 96; a person reads less.
TREE_DEPTH_MAX = 100  # A chain such as a && b && …: every walk over the tree is recursive.
WORK_MAX = 5_000_000  # Steps of one evaluation; a step of the library is about 0.2 us.
SIZE_MAX = 2_000_000  # Values (and 64-character pieces of text) in any one result: what a cell can hold.
VALUE_DEPTH_MAX = 100  # Deeper than payloads may be (64), shallow enough for every recursive reader.
TEXT_PIECE = 64  # Characters of text that are priced like one value.
EXPRESSIONS_CACHED_MAX = 16_384  # One plan's worth; an entry is about 2 KB.

TASK_FIELDS = ("output", "outputs", "status")
RUN_FIELDS = ("id", "plan", "attempt")
ROOTS = ("inputs", "tasks", "item", "index", "run")
MACROS = frozenset({"all", "exists", "exists_one", "map", "filter"})
METHODS = frozenset({"contains", "endsWith", "matches", "startsWith"})
DATE_PARTS = frozenset(
    f"get{part}"
    for part in (
        *("Date", "DayOfMonth", "DayOfWeek", "DayOfYear", "FullYear"),
        *("Hours", "Milliseconds", "Minutes", "Month", "Seconds"),
    )
)
FUNCTIONS = frozenset(
    {"bytes", "double", "duration", "dyn", "int", "size", "string", "timestamp", "type", "uint"}
)
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1
_MARKER = re.compile(r"\$?\$\{\{")
_PATH = re.compile(r"\s*([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\s*\Z", re.ASCII)
_NOT_NAMES = frozenset({"true", "false", "null", "in"})

Path = tuple[str, ...]


class _ExpressionError(UserError):
    """An expression, where in it, and what is wrong. Details: `expression`, `column` (from 1, within it)."""

    def __init__(
        self, problem: str, expression: str = "", at: int = 0, *, hint: str = "", **details: Any
    ) -> None:
        shown = expression.strip() if len(expression) <= 120 else expression[:117].strip() + "..."
        super().__init__(
            f"{problem} in `{shown}`",
            hint=hint,
            expression=expression,
            column=at + 1,
            problem=problem,
            **details,
        )
        self.problem = problem
        self.at = at


class ExpressionInvalid(_ExpressionError):
    """The expression can never be evaluated: syntax, an unknown name, too long, too deep."""

    code = "expression.invalid"


class ExpressionFailed(_ExpressionError):
    """The expression could not be evaluated with these values."""

    code = "expression.failed"


def nearest(name: str, known: Iterable[str]) -> str:
    """The question "did you mean `topic`?", or nothing where no known name is near."""
    found = difflib.get_close_matches(name[:64], list(known)[:1_000], n=1, cutoff=0.6)
    return f"did you mean `{found[0]}`?" if found else ""


# --- how an expression is read ----------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
    |(?P<text>[bB]?[rR](?:'''.*?'''|\"\"\".*?\"\"\"|'[^'\n]*'|"[^"\n]*")
             |[bB]?(?:'''(?:\\.|[^\\])*?'''|\"\"\"(?:\\.|[^\\])*?\"\"\"|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"))
    |(?P<number>0[xX][0-9a-fA-F]+[uU]?|(?:\d+\.\d+|\.\d+|\d+)(?:[eE][-+]?\d+)?[uU]?)
    |(?P<name>[A-Za-z_]\w*)
    |(?P<sign>&&|\|\||[<>=!]=|[-+*/%<>!?:.,()\[\]{}])""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_BINDING = {"||": 1, "&&": 2, "+": 4, "-": 4, "*": 5, "/": 5, "%": 5} | dict.fromkeys(
    ("<", "<=", ">", ">=", "==", "!=", "in"), 3
)
_HABITS = {
    "and": "write &&",
    "or": "write ||",
    "not": "write !",
    "is": "write ==",
    "=": "write == to compare",
    "&": "write &&",
    "|": "write ||; there are no filters",
    "'": "the text is not closed",
    '"': "the text is not closed",
}


class _SyntaxProblem(Exception):
    """Where and why the text is no expression; becomes `ExpressionInvalid` where the whole text is known."""

    def __init__(self, message: str, at: int, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.at, self.hint = message, at, hint


@dataclass(frozen=True, slots=True)
class Node:
    """A place in the tree. `start` is where its text begins, `at` where its own sign or name stands.

    kind                    name            children
    name, text, number      as written      -
    field                   of the field    base
    index                   -               base, key
    list, map               -               members; keys and values in turn
    call, method            of the function arguments; target, arguments
    macro                   of the macro    list, bodies (`variable` is bound in them)
    has                     -               the field asked for
    unary, binary, choice   the sign        operands
    """

    kind: str
    name: str
    children: tuple[Node, ...]
    at: int
    start: int
    variable: str = ""
    depth: int = 1


class _Reader:
    """A precedence climber over the tokens of one expression (cel-spec, langdef.md, "Syntax")."""

    def __init__(self, text: str) -> None:
        self._tokens = [token for token in _tokens(text, 0) if token[0] != "space"]
        self._tokens.append(("end", "", len(text)))
        self._next = 0
        self._depth = 0

    def whole(self) -> Node:
        node = self._expression()
        kind, text, at = self._tokens[self._next]
        if kind != "end":
            raise _SyntaxProblem(f"unexpected `{text[:40]}`", at, _HABITS.get(text, ""))
        return node

    def _expression(self) -> Node:
        self._depth += 1
        if self._depth > NESTING_MAX:
            raise _SyntaxProblem(f"nested deeper than {NESTING_MAX}", self._tokens[self._next][2])
        node = self._binary(1)
        if self._taken("?"):
            yes = self._binary(1)
            self._take(":")
            node = _node("choice", "?:", (node, yes, self._expression()), node.start, node.start)
        self._depth -= 1
        return node

    def _binary(self, level: int) -> Node:
        left = self._unary()
        while True:
            _, sign, at = self._tokens[self._next]
            binding = _BINDING.get(sign, 0)
            if binding < level:
                return left
            self._next += 1
            left = _node("binary", sign, (left, self._binary(binding + 1)), at, left.start)

    def _unary(self) -> Node:
        signs: list[tuple[str, int]] = []
        while self._tokens[self._next][1] in ("!", "-"):
            signs.append(self._tokens[self._next][1:])
            self._next += 1
        node = self._member()
        for sign, at in reversed(signs):
            node = _node("unary", sign, (node,), at, at)
        return node

    def _member(self) -> Node:
        node = self._primary()
        while True:
            at = self._tokens[self._next][2]
            if self._taken("."):
                name, at = self._name("a field's name after the dot")
                if self._taken("("):
                    node = _called(node, name, self._list(")"), at)
                else:
                    node = _node("field", name, (node,), at, node.start)
            elif self._taken("["):
                node = _node("index", "", (node, self._expression()), at, node.start)
                self._take("]")
            else:
                return node

    def _primary(self) -> Node:
        kind, text, at = self._tokens[self._next]
        self._next += 1
        match kind, text:
            case "number", _:
                return Node("number", text, (), at, at)
            case "text", _:
                body, plain = _body(text)
                return Node("text" if plain else "number", body, (), at, at)
            case "name", "true" | "false" | "null":
                return Node("number", text, (), at, at)
            case "name", _ if text != "in":
                if self._taken("("):
                    return _called(None, text, self._list(")"), at)
                return Node("name", text, (), at, at)
            case "sign", "(":
                node = self._expression()
                self._take(")")
                return node
            case "sign", "[":
                return _node("list", "", self._list("]"), at, at)
            case "sign", "{":
                return _node("map", "", self._map(), at, at)
        found = f"unexpected `{text[:40]}`" if text else "the expression ends too early"
        raise _SyntaxProblem(found, at, _HABITS.get(text, ""))

    def _list(self, close: str) -> tuple[Node, ...]:
        found: list[Node] = []
        while not self._taken(close):
            found.append(self._expression())
            if not self._taken(","):
                self._take(close)
                break
        return tuple(found)

    def _map(self) -> tuple[Node, ...]:
        found: list[Node] = []
        while not self._taken("}"):
            found.append(self._expression())
            self._take(":")
            found.append(self._expression())
            if not self._taken(","):
                self._take("}")
                break
        return tuple(found)

    def _taken(self, sign: str) -> bool:
        kind, text, _ = self._tokens[self._next]
        taken = kind == "sign" and text == sign
        self._next += taken
        return taken

    def _take(self, sign: str) -> None:
        if not self._taken(sign):
            _, text, at = self._tokens[self._next]
            found = f"found `{text[:40]}`" if text else "the expression ends"
            raise _SyntaxProblem(f"expected `{sign}`, {found}", at, _HABITS.get(text, ""))

    def _name(self, wanted: str) -> tuple[str, int]:
        kind, text, at = self._tokens[self._next]
        if kind != "name" or text in _NOT_NAMES:
            raise _SyntaxProblem(f"expected {wanted}", at, f"write ['{text}']" if kind == "name" else "")
        self._next += 1
        return text, at


def _tokens(text: str, start: int) -> Iterator[tuple[str, str, int]]:
    """(kind, text, position) of each token, lazily: what stands behind an expression is not read."""
    while start < len(text):
        found = _TOKEN.match(text, start)
        if found is None:
            sign = text[start]
            raise _SyntaxProblem(f"unexpected {sign!r}", start, _HABITS.get(sign, ""))
        yield found.lastgroup or "", found[0], start
        start = found.end()


def _node(kind: str, name: str, children: tuple[Node, ...], at: int, start: int, variable: str = "") -> Node:
    depth = 1 + max((child.depth for child in children), default=0)
    if depth > TREE_DEPTH_MAX:
        raise _SyntaxProblem(
            f"more than {TREE_DEPTH_MAX} steps in one chain", at, "split it into several tasks"
        )
    return Node(kind, name, children, at, start, variable, depth)


def _called(target: Node | None, name: str, arguments: tuple[Node, ...], at: int) -> Node:
    """A call as what it is: a macro, `has`, a method or a function; refused if there is no such one."""
    if name in MACROS and target is not None:
        variable = arguments[0] if arguments else None
        if (
            variable is None
            or variable.kind != "name"
            or len(arguments) not in ((2, 3) if name == "map" else (2,))
        ):
            raise _SyntaxProblem(f"`{name}` needs a variable and a body", at, f"write list.{name}(x, …)")
        return _node("macro", name, (target, *arguments[1:]), at, target.start, variable.name)
    if target is None:
        if name == "has":
            if len(arguments) != 1 or arguments[0].kind != "field":
                raise _SyntaxProblem("`has` asks for one field", at, "write has(item.url)")
            return _node("has", name, arguments, at, at)
        if name not in FUNCTIONS:
            wrong = (
                f"`{name}` is called on a value"
                if name in METHODS | DATE_PARTS | MACROS
                else f"unknown function `{name}`"
            )
            hint = (
                f"write value.{name}(…)"
                if name in METHODS | DATE_PARTS | MACROS
                else nearest(name, FUNCTIONS | {"has"})
            )
            raise _SyntaxProblem(wrong, at, hint)
        return _node("call", name, arguments, at, at)
    if name not in METHODS | DATE_PARTS | FUNCTIONS:
        raise _SyntaxProblem(
            f"unknown function `{name}`", at, nearest(name, METHODS | DATE_PARTS | FUNCTIONS | MACROS)
        )
    if name == "matches" and not (len(arguments) == 1 and arguments[0].kind == "text"):
        raise _SyntaxProblem(
            "the pattern of `matches` must be written out", at, "its price depends on it: write r'…'"
        )
    return _node("method", name, (target, *arguments), at, target.start)


def _body(token: str) -> tuple[str, bool]:
    """What stands between the quotes of a text token, and whether it is text (not bytes)."""
    prefix = token[: len(token) - len(token.lstrip("bBrR"))]
    quoted = token[len(prefix) :]
    ticks = 3 if quoted[:3] in ("'''", '"""') else 1
    return quoted[ticks:-ticks], "b" not in prefix.lower()


def _parse(text: str) -> Node:
    if len(text) > EXPRESSION_CHARS_MAX:
        raise _SyntaxProblem(f"longer than {EXPRESSION_CHARS_MAX} characters", 0, "let an agent do it")
    if not text.strip():
        raise _SyntaxProblem(
            "there is nothing between ${{ and }}", 0, "write $${{ for the characters themselves"
        )
    return _Reader(text).whole()


def _scan_end(text: str, start: int) -> int:
    """Where the `}}` stands that closes the expression at `start`; braces and texts inside are skipped."""
    depth = 0
    for _, sign, at in _tokens(text, start):
        if at - start > EXPRESSION_CHARS_MAX:
            raise _SyntaxProblem(
                f"longer than {EXPRESSION_CHARS_MAX} characters", start, "let an agent do it"
            )
        if sign == "}" and depth == 0:
            if text.startswith("}}", at):
                return at
            raise _SyntaxProblem("a single `}` closes nothing", at, "an expression ends with }}")
        depth += (sign == "{") - (sign == "}")
    raise _SyntaxProblem(
        "`${{` is not closed", start - 3, "close it with }}, or write $${{ for the characters themselves"
    )


# --- what an expression is --------------------------------------------------------------------------------


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
        self.is_path = bool(path) and _NOT_NAMES.isdisjoint(path)
        self.tree: Node | None = None
        if self.is_path:
            self.references: tuple[Reference, ...] = (Reference(path, len(text) - len(text.lstrip())),)
        else:
            try:
                self.tree = _parse(text)
            except _SyntaxProblem as problem:
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
                self._program = cel.compile(_SIZE_CALL.sub(_renamed, self.text))
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
                    f"`{whole}` is {_kind(value)}, which has no field `{name}`", self.text, reference.at
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
        price = _Price(self.text)
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
        raise ExpressionFailed(f"the value, {_kind(value)}, is not JSON", self.text, hint=hint)


@lru_cache(maxsize=EXPRESSIONS_CACHED_MAX)
def expression(text: str) -> Expression:
    """The expression of this text; the same object for the same text. `ExpressionInvalid` if it is none."""
    return Expression(text)


def _references(node: Node, bound: frozenset[str], text: str, tested: bool = False) -> Iterator[Reference]:
    """Every path that the tree reads from the scope, and a check of every name that it calls."""
    path = _path_of(node, bound)
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


def _path_of(node: Node, bound: frozenset[str]) -> Path:
    """`("tasks", "find", "output")` for what is written so, with dots or with constant text in brackets."""
    names: list[str] = []
    while True:
        if node.kind == "field":
            names.append(node.name)
        elif node.kind == "index" and node.children[1].kind == "text":
            names.append(node.children[1].name)
        else:
            break
        node = node.children[0]
    if node.kind != "name" or node.name in bound:
        return ()
    return (node.name, *reversed(names))


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


_SIZE_CALL = re.compile(_TOKEN.pattern, _TOKEN.flags)


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


def _kind(value: Any) -> str:
    kinds = {
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "a map",
    }
    return "null" if value is None else kinds.get(type(value), f"a {type(value).__name__}")


# --- what an expression costs -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Extent:
    """An upper bound of a value: values in all, members at the top, and the bound of one member."""

    size: int
    count: int = 0
    inner: _Extent | None = None

    @property
    def member(self) -> _Extent:
        return self.inner or _ONE


_ONE = _Extent(1)


def _either(left: _Extent | None, right: _Extent | None) -> _Extent | None:
    if left is None or right is None or left is right:
        return left or right
    inner = _either(left.inner, right.inner)
    return _Extent(max(left.size, right.size), max(left.count, right.count), inner)


class _Price:
    """Adds up the work of one evaluation, from above. Sizes come from the values that are really there."""

    def __init__(self, text: str) -> None:
        self.work = 0
        self.largest = 0  # Of all values on the way, too: what is built must be held.
        self._text = text

    def of(self, node: Node, bound: dict[str, _Extent], seen: Mapping[str, Any]) -> _Extent:
        """The bound of the node's value; its work is added to `self.work`."""
        self.work += 1
        extent = self._of(node, bound, seen)
        self.largest = max(self.largest, extent.size)
        return extent

    def _of(self, node: Node, bound: dict[str, _Extent], seen: Mapping[str, Any]) -> _Extent:
        match node.kind:
            case "name" | "field" | "index":
                return self._read(node, bound, seen)
            case "text":
                return _Extent(1 + len(node.name) // TEXT_PIECE)
            case "macro":
                return self._macro(node, bound, seen)
        parts = [self.of(child, bound, seen) for child in node.children]
        total = 1 + sum(part.size for part in parts)
        match node.kind:
            case "list" | "map":
                inner: _Extent | None = None
                for part in parts:
                    inner = _either(inner, part)
                return _Extent(total, len(parts), inner)
            case "choice":
                return _either(parts[1], parts[2]) or _ONE
            case "binary" if node.name == "+":
                self.work += total
                return _Extent(
                    total, parts[0].count + parts[1].count, _either(parts[0].inner, parts[1].inner)
                )
            case "binary" if node.name in ("==", "!=", "in", "<", "<=", ">", ">="):
                self.work += total
            case "call" | "method":
                self.work += total
                if node.name == "matches":
                    self.work += _pattern_work(node.children[1].name, parts[0].size)
                return _Extent(total) if node.name in ("string", "bytes", "dyn") else _ONE
        return _ONE

    def _read(self, node: Node, bound: dict[str, _Extent], seen: Mapping[str, Any]) -> _Extent:
        path = _path_of(node, frozenset(bound))
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

    def _macro(self, node: Node, bound: dict[str, _Extent], seen: Mapping[str, Any]) -> _Extent:
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
        return _Extent(1 + count * member.size, count, member)

    def _measure(self, value: Any, depth: int) -> _Extent:
        """The extent of a value of the scope, and a refusal of what the library would change or choke on."""
        if isinstance(value, str):
            return _Extent(1 + len(value) // TEXT_PIECE)
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
                None if not value else _Extent(1 + max(len(str(k)) for k in value) // TEXT_PIECE),
            )
        elif isinstance(value, list | tuple):
            members, size, inner = value, 1, None
        else:
            raise ExpressionFailed(f"a value of type {type(value).__name__} is not JSON", self._text)
        for member in members:
            extent = self._measure(member, depth + 1)
            size += extent.size
            inner = _either(inner, extent)
        return _Extent(size, len(value), inner)


def _pattern_work(pattern: str, text_size: int) -> int:
    """A search takes time in proportion to pattern times text; counted repeats multiply the pattern."""
    states = len(pattern) + 1
    for repeat in re.finditer(r"\{(\d*),?(\d*)\}", pattern):
        states *= max(1, int(repeat[1][:9] or 0), int(repeat[2][:9] or 0))
    return 2_000 + states + 2 * states * text_size  # 2,000: compiling even a short one takes 0.4 ms.


def search(pattern: str, text: str) -> bool:
    """Whether the pattern is found in the text, in time linear in the text. `ExpressionInvalid` if it is none."""
    work = _pattern_work(pattern, 1 + len(text) // TEXT_PIECE)
    if len(pattern) > EXPRESSION_CHARS_MAX or work > WORK_MAX:
        raise ExpressionInvalid("the pattern is too much work", pattern[:EXPRESSION_CHARS_MAX])
    try:
        return bool(cel.evaluate("text.matches(pattern)", {"text": text, "pattern": pattern}))
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # noqa: BLE001 - a panic of the library derives from BaseException
        what = str(error).partition("error: ")[2].split("error: ")[-1].partition(". Check ")[0]
        raise ExpressionInvalid(f"not a regular expression: {what}"[:500], pattern) from None


# --- a YAML value with expressions in it ------------------------------------------------------------------

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
            end = _scan_end(text, marker.end())
            parts.append(expression(text[marker.end() : end]))
        except _SyntaxProblem as problem:
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
