"""A method: one known way to reach goals of one kind, as its author declares it.

    goal        patterns; `{slot}` stands for what the goal says there: "research {topic}". The first occurrence of what follows
                a slot ends it; what stands in quotes is one piece. Words are compared by their stems
    words       or: words that must all be in the goal, in any order
    needs       capabilities that must be there
    if          an expression over `inputs`: what was given, and the slots
    steps       in order, each one capability by name, one that is looked for by words, a smaller goal, or a gate

A method says what it needs and nothing of who offers it: which agent, and what feeds which parameter, `decompose` finds out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .lexicon import STOP_WORDS, stem, stems

GOAL_CHARS_MAX = 2_000  # A goal is a sentence or a few; more is a document for an agent to read.
_TOKEN = re.compile(r"\"[^\"]*\"|'(?=\w)[^']*'(?!\w)|\{\w+\}|[\w][\w'’-]*|[^\w\s]")
_SLOT = re.compile(r"\{(\w+)\}\Z")
_IN_TEXT = re.compile(r"(?<!\{)\{(\w+)\}(?!\})")
_EXPRESSION = re.compile(r"\$\{\{.*?\}\}(?!\})", re.DOTALL)


class StepKind(StrEnum):
    CAPABILITY = "capability"  # One capability, by name.
    FIND = "find"  # The capability that fits these words.
    GOAL = "goal"  # Whatever reaches this smaller goal.
    GATE = "gate"  # A person.


@dataclass(frozen=True, slots=True)
class Step:
    """`keys` are keys of a plan's task, as written. `gives` is a schema that the answer must fit."""

    name: str
    kind: StepKind
    text: str
    keys: Mapping[str, Any] = field(default_factory=dict)
    gives: Any = None


@dataclass(frozen=True, slots=True)
class Method:
    """`output` is the step whose answer is the result, or an expression. `place` is where a person finds the method."""

    name: str
    patterns: tuple[str, ...]
    words: tuple[str, ...]
    needs: tuple[str, ...]
    condition: str | None
    inputs: Mapping[str, Any]
    steps: tuple[Step, ...]
    output: str
    place: str
    shipped: bool = False

    @property
    def texts(self) -> list[tuple[str, int]]:
        """What it says about itself, for the search for near methods."""
        plain = [_IN_TEXT.sub(" ", pattern) for pattern in self.patterns]
        return [(self.name, 2), *((text, 1) for text in plain), (" ".join(self.words), 2)]


@dataclass(frozen=True, slots=True)
class Reading:
    """How a method reads a goal. `weight`: how much of the goal it names itself; the heaviest reading goes first."""

    method: Method
    slots: Mapping[str, str]
    weight: int


def read(method: Method, goal: str) -> Reading | None:
    """The method's best reading of the goal, or None where it is no goal of its kind."""
    found = []
    for pattern in method.patterns:
        slots = _matched(pattern, goal)
        if slots is not None:
            literal = [one for one in _TOKEN.findall(pattern) if not _SLOT.match(one)]
            found.append(Reading(method, slots, len(literal)))
    asked = set(stems(goal))
    if method.words and asked.issuperset(stems(" ".join(method.words))):
        found.append(Reading(method, {}, len(method.words)))
    return max(found, key=lambda one: one.weight, default=None)


def slots_of(method: Method) -> frozenset[str]:
    """Every slot that some pattern has."""
    return frozenset(name for pattern in method.patterns for name in _IN_TEXT.findall(pattern))


def filled(value: Any, slots: Mapping[str, str]) -> Any:
    """The value with every `{slot}` in its texts replaced: by its words, inside an expression by a name made of them."""
    if isinstance(value, str):
        return _filled(value, slots)
    if isinstance(value, Mapping):
        return {_filled(str(key), slots): filled(item, slots) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [filled(item, slots) for item in value]
    return value


def name_of(text: str) -> str:
    """Words as a name that expressions can say: `the open files` becomes `open_files`."""
    found = [word for word in re.findall(r"[A-Za-z0-9]+", text.lower()) if word not in STOP_WORDS]
    name = "_".join(found)[:60].strip("_")
    return name if name[:1].isalpha() else f"n_{name}".rstrip("_")


def unquoted(text: str) -> str:
    """The text without the quotes around it, if it is one quoted piece."""
    bare = text.strip()
    return bare[1:-1] if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "\"'" else bare


def inert(text: str) -> str:
    """A goal's words as a plan's text: an expression in them stays words."""
    return text.replace("${{", "$${{")


def _filled(text: str, slots: Mapping[str, str]) -> str:
    def words(found: re.Match[str]) -> str:
        return inert(unquoted(slots[found[1]])) if found[1] in slots else found[0]

    def name(found: re.Match[str]) -> str:
        return name_of(slots[found[1]]) if found[1] in slots else found[0]

    parts, done = [], 0
    for one in _EXPRESSION.finditer(text):
        parts += [_IN_TEXT.sub(words, text[done : one.start()]), _IN_TEXT.sub(name, one[0])]
        done = one.end()
    return "".join([*parts, _IN_TEXT.sub(words, text[done:])])


def _matched(pattern: str, goal: str) -> dict[str, str] | None:
    """What each slot holds. From left to right, without going back: linear in the goal, whatever the pattern."""
    wanted = _TOKEN.findall(pattern)
    there = list(_TOKEN.finditer(goal[:GOAL_CHARS_MAX].strip().rstrip(".!")))
    slots: dict[str, str] = {}
    at = 0
    for index, token in enumerate(wanted):
        slot = _SLOT.match(token)
        if slot is None:
            if at >= len(there) or not _same(token, there[at][0]):
                return None
            at += 1
            continue
        literal = _run_of_literals(wanted, index + 1)
        end = len(there) if index + 1 == len(wanted) else _find(literal, there, at + 1, wanted, index)
        if end is None or end <= at:
            return None
        held = there[0].string[there[at].start() : there[end - 1].end()]
        slots[slot[1]] = held.strip(" ,;")
        at = end
    return slots if at == len(there) and all(slots.values()) else None


def _run_of_literals(wanted: list[str], start: int) -> list[str]:
    run = []
    for token in wanted[start:]:
        if _SLOT.match(token):
            break
        run.append(token)
    return run


def _find(
    literal: list[str], there: list[re.Match[str]], start: int, wanted: list[str], index: int
) -> int | None:
    """Where the literal begins: at its first occurrence, or, if the pattern ends with it, at the goal's end."""
    places = range(start, len(there) - len(literal) + 1)
    if index + 1 + len(literal) == len(wanted):
        places = range(max(start, len(there) - len(literal)), len(there) - len(literal) + 1)
    for place in places:
        if all(_same(one, there[place + offset][0]) for offset, one in enumerate(literal)):
            return place
    return None


def _same(left: str, right: str) -> bool:
    return left.lower() == right.lower() or (left[0].isalpha() and stem(left) == stem(right))
