"""What is wrong with a plan, where, and what to do about it; and how a person is shown it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ...errors import PlanInvalid

PROBLEMS_MAX = (
    100  # More than a person reads; a generated plan with one fault repeated 20,000 times ends here.
)
EXCERPT_CHARS_MAX = 100  # A line of a minified plan may be megabytes long.
_QUOTED_CHARS_MAX = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """`code` is for programs and stable; lines and columns count from 1."""

    code: str
    file: str
    line: int
    column: int
    message: str
    suggestion: str = ""

    def __str__(self) -> str:
        hint = f" ({self.suggestion})" if self.suggestion else ""
        return f"{self.file}:{self.line}:{self.column}: {self.message}{hint}"


def invalid(problems: Iterable[Problem]) -> PlanInvalid:
    """The error that carries all problems, in the order of the file."""
    found = sorted(dict.fromkeys(problems), key=lambda problem: (problem.line, problem.column))[:PROBLEMS_MAX]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return PlanInvalid(
        f"{found[0]}{more}",
        hint="`aip plan check FILE` shows each with its line",
        problems=[asdict(problem) for problem in found],
    )


def render(problems: Iterable[Problem | Mapping[str, Any]], source: str | bytes) -> str:
    """Each problem with the line it stands in and a caret under the place, for a terminal."""
    text = source.decode("utf-8", "replace") if isinstance(source, bytes) else source
    lines = text.removeprefix("\ufeff").split("\n")
    return "\n\n".join(
        _shown(problem if isinstance(problem, Problem) else Problem(**problem), lines) for problem in problems
    )


def quoted(text: object) -> str:
    """A name from the file as it may stand in a message: short, and without characters that act on a terminal."""
    short = str(text)
    short = short if len(short) <= _QUOTED_CHARS_MAX else short[: _QUOTED_CHARS_MAX - 1] + "…"
    return f"`{_visible(short)}`"


def _shown(problem: Problem, lines: list[str]) -> str:
    shown = [f"{problem.file}:{problem.line}:{problem.column}: {problem.message}  [{problem.code}]"]
    if (
        0 < problem.line <= len(lines) and problem.code != "plan.secret"
    ):  # The line holds what must not be shown.
        line = lines[problem.line - 1].rstrip("\r")
        column = min(problem.column - 1, len(line))
        start = max(0, column - EXCERPT_CHARS_MAX // 2) if len(line) > EXCERPT_CHARS_MAX else 0
        before = _visible(line[start:column])
        number = f"{problem.line:>5} | "
        shown.append(f"{number}{before}{_visible(line[column : start + EXCERPT_CHARS_MAX])}")
        shown.append(f"{' ' * (len(number) - 2)}| {' ' * _width(before)}^")
    if problem.suggestion:
        shown.append(f"      = {problem.suggestion}")
    return "\n".join(shown)


def _visible(text: str) -> str:
    """Control and format characters (escape sequences, text direction) as dots; tabs as one space."""
    return "".join(
        " " if char == "\t" else "·" if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") else char
        for char in text
    )


def _width(text: str) -> int:
    """Columns of a terminal: wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )
