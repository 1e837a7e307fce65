"""The Common Expression Language, read into a tree.

Grammar: cel-spec, `doc/langdef.md`, "Syntax", by precedence climbing; no evaluation happens here. The tree is what an expression
is checked and priced by before the library compiles its text: the names it reads, the macros it nests, the functions it calls. An
unknown function, a macro without a variable and a pattern that is not written out are refused here.

Bounded: characters, nesting, and the depth of the tree, since every walk over it is recursive. `scan_end` finds where an
expression ends within a longer text by the same tokens, so that braces and quotes inside it are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .suggestion import nearest

EXPRESSION_CHARS_MAX = 4_000  # Longer logic belongs in an agent, where it can be tested.
NESTING_MAX = 32  # The library takes 96; a person reads less.
TREE_DEPTH_MAX = 100  # A chain such as a && b && …: every walk over the tree is recursive.

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
NOT_NAMES = frozenset({"true", "false", "null", "in"})

Path = tuple[str, ...]

TOKEN = re.compile(
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


class SyntaxProblem(Exception):
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
            raise SyntaxProblem(f"unexpected `{text[:40]}`", at, _HABITS.get(text, ""))
        return node

    def _expression(self) -> Node:
        self._depth += 1
        if self._depth > NESTING_MAX:
            raise SyntaxProblem(f"nested deeper than {NESTING_MAX}", self._tokens[self._next][2])
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
        raise SyntaxProblem(found, at, _HABITS.get(text, ""))

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
            raise SyntaxProblem(f"expected `{sign}`, {found}", at, _HABITS.get(text, ""))

    def _name(self, wanted: str) -> tuple[str, int]:
        kind, text, at = self._tokens[self._next]
        if kind != "name" or text in NOT_NAMES:
            raise SyntaxProblem(f"expected {wanted}", at, f"write ['{text}']" if kind == "name" else "")
        self._next += 1
        return text, at


def _tokens(text: str, start: int) -> Iterator[tuple[str, str, int]]:
    """(kind, text, position) of each token, lazily: what stands behind an expression is not read."""
    while start < len(text):
        found = TOKEN.match(text, start)
        if found is None:
            sign = text[start]
            raise SyntaxProblem(f"unexpected {sign!r}", start, _HABITS.get(sign, ""))
        yield found.lastgroup or "", found[0], start
        start = found.end()


def _node(kind: str, name: str, children: tuple[Node, ...], at: int, start: int, variable: str = "") -> Node:
    depth = 1 + max((child.depth for child in children), default=0)
    if depth > TREE_DEPTH_MAX:
        raise SyntaxProblem(
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
            raise SyntaxProblem(f"`{name}` needs a variable and a body", at, f"write list.{name}(x, …)")
        return _node("macro", name, (target, *arguments[1:]), at, target.start, variable.name)
    if target is None:
        if name == "has":
            if len(arguments) != 1 or arguments[0].kind != "field":
                raise SyntaxProblem("`has` asks for one field", at, "write has(item.url)")
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
            raise SyntaxProblem(wrong, at, hint)
        return _node("call", name, arguments, at, at)
    if name not in METHODS | DATE_PARTS | FUNCTIONS:
        raise SyntaxProblem(
            f"unknown function `{name}`", at, nearest(name, METHODS | DATE_PARTS | FUNCTIONS | MACROS)
        )
    if name == "matches" and not (len(arguments) == 1 and arguments[0].kind == "text"):
        raise SyntaxProblem(
            "the pattern of `matches` must be written out", at, "its price depends on it: write r'…'"
        )
    return _node("method", name, (target, *arguments), at, target.start)


def _body(token: str) -> tuple[str, bool]:
    """What stands between the quotes of a text token, and whether it is text (not bytes)."""
    prefix = token[: len(token) - len(token.lstrip("bBrR"))]
    quoted = token[len(prefix) :]
    ticks = 3 if quoted[:3] in ("'''", '"""') else 1
    return quoted[ticks:-ticks], "b" not in prefix.lower()


def parse(text: str) -> Node:
    if len(text) > EXPRESSION_CHARS_MAX:
        raise SyntaxProblem(f"longer than {EXPRESSION_CHARS_MAX} characters", 0, "let an agent do it")
    if not text.strip():
        raise SyntaxProblem(
            "there is nothing between ${{ and }}", 0, "write $${{ for the characters themselves"
        )
    return _Reader(text).whole()


def scan_end(text: str, start: int) -> int:
    """Where the `}}` stands that closes the expression at `start`; braces and texts inside are skipped."""
    depth = 0
    for _, sign, at in _tokens(text, start):
        if at - start > EXPRESSION_CHARS_MAX:
            raise SyntaxProblem(f"longer than {EXPRESSION_CHARS_MAX} characters", start, "let an agent do it")
        if sign == "}" and depth == 0:
            if text.startswith("}}", at):
                return at
            raise SyntaxProblem("a single `}` closes nothing", at, "an expression ends with }}")
        depth += (sign == "{") - (sign == "}")
    raise SyntaxProblem(
        "`${{` is not closed", start - 3, "close it with }}, or write $${{ for the characters themselves"
    )


def path_of(node: Node, bound: frozenset[str]) -> Path:
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
