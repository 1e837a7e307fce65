"""What a snippet looks like, by three kinds of evidence. Pure: source in, votes out; nothing is run or imported.

    reviewer   looks at                  refuses
    imports    import statements         modules that are not in `HARMLESS`
    calls      names and attributes      ways to reach code by text, the interpreter's insides, files, input
    size       shape                     what a person cannot read: long, deep, packed into literals

A vote is an opinion for a person and a first sieve. It holds nothing: whoever wants to hide from a reader of syntax can. What
holds the snippet is its cage.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

REASONS_MAX = 20  # More convince nobody, and every vote stands in the run's journal.
SOURCE_CHARS_MAX = 100_000  # The parser's time and memory grow with it.

# fmt: off
HARMLESS = frozenset({
    "__future__", "abc", "array", "bisect", "cmath", "collections", "copy", "dataclasses", "datetime", "decimal", "enum",
    "fractions", "functools", "graphlib", "heapq", "itertools", "json", "math", "numbers", "operator", "random", "re",
    "statistics", "string", "textwrap", "time", "types", "typing", "unicodedata", "zlib",
})
BY_TEXT = frozenset({
    "eval", "exec", "compile", "__import__", "getattr", "setattr", "delattr", "globals", "locals", "vars", "breakpoint",
})
OUTSIDE = frozenset({"open", "input"})
# fmt: on
LINES_MAX, LINE_CHARS_MAX, NODES_MAX, DEPTH_MAX, LITERAL_CHARS_MAX = 300, 200, 5_000, 12, 1_000


@dataclass(frozen=True, slots=True, order=True)
class Reason:
    line: int
    what: str


@dataclass(frozen=True, slots=True)
class Opinion:
    vote: str  # "run" | "refuse"
    reasons: tuple[Reason, ...]

    def to_json(self) -> dict[str, Any]:
        return {"vote": self.vote, "reasons": [asdict(reason) for reason in self.reasons]}


def judge(code: str, evidence: str) -> Opinion:
    """The opinion of one reviewer. A text that is no program is refused by all of them."""
    try:
        if len(code) > SOURCE_CHARS_MAX:
            raise ValueError(f"more than {SOURCE_CHARS_MAX} characters")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Invalid escapes and the like are the stranger's own business.
            tree = ast.parse(code)
        reasons = sorted(set(REVIEWERS[evidence](code, tree)))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = error.lineno if isinstance(error, SyntaxError) else None
        reasons = [Reason(line or 1, f"not a program: {str(error) or type(error).__name__}"[:200])]
    return Opinion("refuse" if reasons else "run", tuple(reasons[:REASONS_MAX]))


def imports(code: str, tree: ast.Module) -> Iterator[Reason]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            names = ["." * node.level + (node.module or "")]
        for name in names:
            if name.partition(".")[0] not in HARMLESS:
                yield Reason(node.lineno, f"imports {name[:80]}")


def calls(code: str, tree: ast.Module) -> Iterator[Reason]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in BY_TEXT:
            yield Reason(node.lineno, f"{node.id} reaches code by its name, which no reader can follow")
        elif isinstance(node, ast.Name) and node.id in OUTSIDE:
            yield Reason(node.lineno, f"{node.id} reads or writes outside the program")
        elif isinstance(node, ast.Name) and node.id == "__builtins__":
            yield Reason(node.lineno, "__builtins__ has everything by name")
        elif isinstance(node, ast.Attribute) and node.attr.startswith("__") and node.attr != "__init__":
            yield Reason(node.lineno, f"{node.attr[:80]} leads into the interpreter")


def size(code: str, tree: ast.Module) -> Iterator[Reason]:
    lines = code.splitlines()
    if len(lines) > LINES_MAX:
        yield Reason(LINES_MAX + 1, f"{len(lines)} lines, and a person reads {LINES_MAX}")
    for number, line in enumerate(lines, 1):
        if len(line) > LINE_CHARS_MAX:
            yield Reason(number, f"a line of {len(line)} characters")
    nodes = 0
    waiting: list[tuple[ast.AST, int]] = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        nodes += 1
        inner = depth + isinstance(node, ast.stmt)
        if inner > DEPTH_MAX and isinstance(node, ast.stmt):
            yield Reason(node.lineno, f"{inner} statements deep")
        if isinstance(node, ast.Constant):
            length = len(node.value) if isinstance(node.value, str | bytes) else 0
            if length > LITERAL_CHARS_MAX:
                yield Reason(node.lineno, f"a literal of {length} characters")
        waiting += [(child, inner) for child in ast.iter_child_nodes(node)]
    if nodes > NODES_MAX:
        yield Reason(1, f"{nodes} nodes, and a person follows {NODES_MAX}")


REVIEWERS: Mapping[str, Callable[[str, ast.Module], Iterator[Reason]]] = {
    "imports": imports,
    "calls": calls,
    "size": size,
}
