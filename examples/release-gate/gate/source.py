"""Python source as facts: names, imports, functions, classes. Parsed with `ast`, never compiled to code, never run.

A file that cannot be parsed (not Python, another version's syntax, nested too deeply for the parser, too large) is `Unparsed`
with a reason: nothing is known about it, and the report says so.
"""

from __future__ import annotations

import ast
import re
import threading
import warnings
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

SOURCE_BYTES_MAX = 4 << 20  # Generated tables reach 2 MiB; nothing that people wrote reaches 4.
LINE_CHARS_MAX = 1_000_000  # One line of it is data, and makes the parser's error messages as long.
_LATE_IMPORT = re.compile(rb"^[ \t]+(?:import|from)[ \t]", re.MULTILINE)
_LONG_LINE = re.compile(rb"[^\n]{%d}" % LINE_CHARS_MAX)
# CPython 3.11 counts the parser's depth once per interpreter: two threads in `ast.parse` at a time end in SystemError, and
# `catch_warnings` is not for threads either. Whoever wants to parse in parallel takes processes.
_PARSER = threading.Lock()

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class Unparsed(Exception):
    """This source says nothing to us. The text is the reason, without any of the source in it."""


@dataclass(frozen=True, slots=True)
class Import:
    """`module` is absolute. `symbols` are what `from module import ...` names; each may itself be a module.

    kind      when it runs
    plain     whenever the module is imported: without it the module fails
    guarded   in a try, under an if, or in an else: the author expects that it may be absent
    late      inside a function
    typing    under TYPE_CHECKING: never at run time
    """

    module: str
    symbols: tuple[str, ...]
    line: int
    kind: str


@dataclass(slots=True)
class Unit:
    """One parsed module. `functions` and `classes` are keyed by qualified name; `aliases`: name -> what it stands for."""

    name: str
    path: str
    package: bool
    tree: ast.Module
    data: bytes
    late_imports: list[
        int
    ]  # Lines that look like indented imports, sorted: most functions have none and are not entered.
    functions: dict[str, FunctionNode] = field(default_factory=dict)
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    instances: dict[str, str] = field(default_factory=dict)

    def excerpt(self, line: int) -> str:
        lines = self.data.split(b"\n", line)
        return lines[line - 1].decode("utf-8", "replace").strip() if 0 < line <= len(lines) else ""

    def absolute(self, module: str | None, level: int) -> str:
        """The absolute name behind `from ..module import`."""
        if not level:
            return module or ""
        parts = self.name.split(".")
        kept = parts[: len(parts) - level + (1 if self.package else 0)]
        return ".".join([*kept, *([module] if module else [])])


def module_name(path: str, site: tuple[str, ...]) -> tuple[str, bool]:
    """(dotted name, is a package) of a file in site-packages; ("", False) where no import statement can name it."""
    for folder in site:
        if path.startswith(folder + "/"):
            parts = path[len(folder) + 1 :].split("/")
            stem = parts.pop().partition(".")[0]
            package = stem == "__init__"
            names = parts if package else [*parts, stem]
            return (
                (".".join(names), package)
                if names and all(part.isidentifier() for part in names)
                else ("", False)
            )
    return "", False


def parse(data: bytes, name: str, path: str, package: bool = False) -> Unit:
    if len(data) > LINE_CHARS_MAX and _LONG_LINE.search(data):
        raise Unparsed("a line is too long")
    try:
        with _PARSER, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Their invalid escapes are not our output.
            tree = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Unparsed(type(error).__name__) from error
    unit = Unit(name, path, package, tree, data, _late_lines(data))
    _declare(unit, tree.body, "")
    return unit


def _late_lines(data: bytes) -> list[int]:
    found: list[int] = []
    line, position = 1, 0
    for match in _LATE_IMPORT.finditer(data):
        line += data.count(b"\n", position, match.start())
        position = match.start()
        found.append(line)
    return found


def _any_between(lines: list[int], first: int, last: int) -> bool:
    at = bisect_left(lines, first)
    return at < len(lines) and lines[at] <= last


def _declare(unit: Unit, body: list[ast.stmt], inside: str) -> None:
    """Names that stand at module or class level, through `if`, `try` and `with`, not into functions. No recursion over depth."""
    pending: list[tuple[ast.stmt, str]] = [(node, inside) for node in reversed(body)]
    while pending:
        node, scope = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            unit.functions.setdefault(scope + node.name, node)
        elif isinstance(node, ast.ClassDef):
            unit.classes.setdefault(scope + node.name, node)
            pending += [(item, f"{scope}{node.name}.") for item in reversed(node.body)]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bind_import(unit, node, unit.aliases)
        else:
            pending += [(item, scope) for item in reversed(list(blocks(node)))]


def bind_import(unit: Unit, node: ast.Import | ast.ImportFrom, aliases: dict[str, str]) -> None:
    if isinstance(node, ast.Import):
        for item in node.names:
            aliases[item.asname or item.name.partition(".")[0]] = (
                item.name if item.asname else item.name.partition(".")[0]
            )
        return
    module = unit.absolute(node.module, node.level)
    for item in node.names:
        if item.name != "*":
            aliases[item.asname or item.name] = f"{module}.{item.name}"


def blocks(node: ast.AST) -> Iterator[ast.stmt]:
    """The statements inside a compound statement (not those of functions and classes)."""
    for name in ("body", "handlers", "orelse", "finalbody", "cases"):
        for item in getattr(node, name, None) or ():
            if isinstance(item, ast.stmt):
                yield item
            elif isinstance(item, ast.ExceptHandler | ast.match_case):
                yield from item.body


def is_main_guard(node: ast.stmt) -> bool:
    """`if __name__ == "__main__":`, alone or as a term of an `and`: what no import enters. `!=` and `or` are no such guard."""
    if not isinstance(node, ast.If):
        return False
    test = node.test
    terms = test.values if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) else [test]
    return any(
        isinstance(term, ast.Compare)
        and isinstance(term.left, ast.Name)
        and term.left.id == "__name__"
        and len(term.ops) == 1
        and isinstance(term.ops[0], ast.Eq)
        and isinstance(term.comparators[0], ast.Constant)
        and term.comparators[0].value == "__main__"
        for term in terms
    )


def is_typing_guard(node: ast.stmt) -> bool:
    test = node.test if isinstance(node, ast.If) else None
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def imports(unit: Unit) -> list[Import]:
    """Every import statement of the file, in order of lines, with when it runs."""
    found: list[Import] = []
    pending: list[tuple[ast.stmt, str]] = [(node, "plain") for node in unit.tree.body]
    while pending:
        node, kind = pending.pop()
        if isinstance(node, ast.Import):
            found += [Import(item.name, (), node.lineno, kind) for item in node.names]
        elif isinstance(node, ast.ImportFrom):
            symbols = tuple(item.name for item in node.names)
            found.append(Import(unit.absolute(node.module, node.level), symbols, node.lineno, kind))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if _any_between(unit.late_imports, node.lineno, node.end_lineno or node.lineno):
                pending += [(item, "typing" if kind == "typing" else "late") for item in node.body]
        elif isinstance(node, ast.If) and is_typing_guard(node):
            pending += [(item, "typing") for item in node.body] + [(item, kind) for item in node.orelse]
        else:
            inner = (
                "guarded" if kind == "plain" and isinstance(node, ast.Try | ast.TryStar | ast.If) else kind
            )
            pending += [(item, inner) for item in blocks(node)]
    return sorted(found, key=lambda item: (item.line, item.module, item.symbols))
