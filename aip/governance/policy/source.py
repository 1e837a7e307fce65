"""Rego as text: its tokens, enough of them to know what a policy mentions and where.

Not a parser: whether a module is Rego is for the engines to say. This lexer tells strings, comments and names apart, which is
all that is needed to find the line of a rule's id, the literals that a generated input should hit, and the references that
decide whether a decision may be cached. What it cannot tell it overstates: a reference too many costs a cache hit, one too few
would cost correctness.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from .engine import BundleRejected

OPENING, CLOSING = frozenset("([{"), frozenset(")]}")
NOT_HEADS = frozenset({"package", "import", "else", "default"})


class Kind(Enum):
    STRING = "string"
    NUMBER = "number"
    NAME = "name"
    MARK = "mark"


class Token(NamedTuple):
    kind: Kind
    text: str  # Of a string: its value.
    line: int
    start: int
    end: int


_TOKEN = re.compile(
    r"""(?P<space>\s+)|(?P<comment>\#[^\n]*)
    |(?P<string>"(?:[^"\\\n]|\\.)*")|(?P<raw>`[^`]*`)
    |(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<mark>:=|==|!=|<=|>=|[^\s\w"`])""",
    re.VERBOSE,
)


def tokens(text: str, file: str = "") -> Iterator[Token]:
    """The tokens of a module without its comments. Raises `BundleRejected` where a string does not end."""
    line, at = 1, 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise BundleRejected(f"{file}:{line}: not Rego: {text[at : at + 20]!r}")
        group, raw = str(match.lastgroup), match.group()
        if raw == "$" and text[match.end() : match.end() + 1] in ('"', "`"):
            # It would read facts out of sight of `references`, and no engine in this process has it.
            raise BundleRejected(f"{file}:{line}: string interpolation is not served", hint="use sprintf")
        if group not in ("space", "comment"):
            yield Token(*_value(group, raw, file, line), line, at, match.end())
        line += raw.count("\n")
        at = match.end()


def _value(group: str, raw: str, file: str, line: int) -> tuple[Kind, str]:
    if group == "raw":
        return Kind.STRING, raw[1:-1]
    if group == "string":
        try:
            return Kind.STRING, str(json.loads(raw, strict=False))
        except ValueError as error:
            raise BundleRejected(f"{file}:{line}: not a Rego string: {raw[:40]}") from error
    return Kind(group), raw


def package_of(text: str, file: str = "") -> tuple[str, ...]:
    """The path of the module's package."""
    found = list(_first(tokens(text, file), 64))
    if not found or found[0].text != "package" or found[0].kind is not Kind.NAME:
        raise BundleRejected(f"{file}: a module begins with its package")
    path, _ = reference(found, 1)
    if not path or None in path:
        raise BundleRejected(f"{file}:{found[0].line}: the package has no plain name")
    return tuple(str(part) for part in path)


def reference(found: list[Token], index: int) -> tuple[list[str | None], int]:
    """The reference that starts at `index`: `a.b["c"][x]` is `["a", "b", "c", None]`; and the index behind it."""
    path: list[str | None] = [found[index].text] if index < len(found) else []
    at = index + 1
    while at + 1 < len(found):
        mark, part = found[at], found[at + 1]
        if mark.text == "." and part.kind is Kind.NAME:
            path.append(part.text)
            at += 2
        elif mark.text == "[" and mark.kind is Kind.MARK and mark.start == found[at - 1].end:
            closed = at + 2 < len(found) and found[at + 2].text == "]"
            path.append(part.text if closed and part.kind is Kind.STRING else None)
            if not closed or part.kind is not Kind.STRING:
                return path, at + 1  # What stands in the brackets is read as references of its own.
            at += 3
        else:
            break
    return path, at


def references(text: str, root: str) -> Iterator[tuple[str | None, ...]]:
    """Every reference that begins with the name `root`. `None` stands where a part is not known from the text."""
    found = list(tokens(text))
    for index, token in enumerate(found):
        preceded = index > 0 and found[index - 1].text == "." and found[index - 1].kind is Kind.MARK
        if token.kind is Kind.NAME and token.text == root and not preceded:
            path, _ = reference(found, index)
            yield tuple(path)


def heads(text: str) -> set[str]:
    """Names of rules and functions: the first name of a line outside all brackets."""
    names: set[str] = set()
    depth, line, default = 0, 0, False
    for token in tokens(text):
        if token.kind is Kind.MARK:
            depth += (token.text in OPENING) - (token.text in CLOSING)
        elif token.kind is Kind.NAME and depth == 0 and (token.line > line or default):
            default = token.text == "default"
            if not default and token.text not in NOT_HEADS:
                names.add(token.text)
        line = token.line
    return names


def calls(text: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """Every function called by name, with its line; imported names are spelled out from `data`."""
    found = list(tokens(text))
    known = dict(_imports(found))
    for index, token in enumerate(found):
        preceded = index > 0 and found[index - 1].text == "." and found[index - 1].kind is Kind.MARK
        if token.kind is not Kind.NAME or preceded:
            continue
        path, at = reference(found, index)
        adjacent = at < len(found) and found[at].text == "(" and found[at].start == found[at - 1].end
        if adjacent and None not in path:
            names = tuple(str(part) for part in path)
            yield (*known.get(names[0], (names[0],)), *names[1:]), token.line


def _imports(found: list[Token]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for index, token in enumerate(found):
        if token.kind is Kind.NAME and token.text == "import" and index + 1 < len(found):
            path, at = reference(found, index + 1)
            names = tuple(str(part) for part in path)
            if names[0] in ("data", "input"):
                aliased = at + 1 < len(found) and found[at].text == "as"
                yield (found[at + 1].text if aliased else names[-1]), names


def _first(found: Iterator[Token], count: int) -> Iterator[Token]:
    for _, token in zip(range(count), found, strict=False):
        yield token
