"""A plan in the making: what each task will say, and why it is there. Written out as plan.yaml with the reasons as comments.

Values are written by PyYAML in flow style on one line: what a goal said can be quoted in it and never breaks out of its place.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from ..parse.vocabulary import API_VERSION

COMMENT_CHARS_MAX = 140
COMMENTS_MAX = 12  # Of one task.
NAME_CHARS_MAX = 60
_REFERENCE = re.compile(r"\btasks\.(\w+)\.(outputs?|status)\b")


@dataclass(frozen=True, slots=True)
class Result:
    """What a step came to, for those after it: an expression without its braces, and the schema of its value.

    `when` is what a task must say that reads it: a result that is one of several tasks' has skipped tasks behind it.
    """

    expression: str
    gives: Any
    task: str
    when: str | None = None

    @property
    def whole(self) -> str:
        return f"${{{{ {self.expression} }}}}"


@dataclass(frozen=True, slots=True)
class DraftTask:
    """`keys` as plan.yaml has them, agent and capability included."""

    name: str
    keys: Mapping[str, Any]
    comments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """Immutable: the search for a plan tries many."""

    tasks: tuple[DraftTask, ...] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict)
    agents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    last: Result | None = None
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        return frozenset(task.name for task in self.tasks)

    def free_name(self, wanted: str) -> str:
        """The name, with a number if it is taken."""
        name, number = wanted[:NAME_CHARS_MAX] or "task", 1
        while name in self.names:
            number += 1
            name = f"{wanted[:NAME_CHARS_MAX]}_{number}"
        return name

    def with_input(self, name: str, schema: Mapping[str, Any]) -> Draft:
        return self if name in self.inputs else replace(self, inputs={**self.inputs, name: schema})

    def with_agent(self, name: str, use: str, replicas: int = 1) -> Draft:
        before = self.agents.get(name, {})
        told: dict[str, Any] = {"use": use}
        if (most := max(replicas, before.get("replicas", 1))) > 1:
            told["replicas"] = most
        return replace(self, agents={**self.agents, name: told})

    def with_task(self, task: DraftTask, last: Result) -> Draft:
        return replace(self, tasks=(*self.tasks, task), last=last)

    def with_notes(self, *notes: str) -> Draft:
        return replace(self, notes=tuple(dict.fromkeys((*self.notes, *notes))))


def rewired(value: Any, results: Mapping[str, Result]) -> Any:
    """A value of a method with `tasks.STEP.output` meaning what the step has become."""
    if isinstance(value, str):
        return _rewired(value, results)
    if isinstance(value, Mapping):
        return {key: rewired(item, results) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rewired(item, results) for item in value]
    return value


def read_by(value: Any, results: Mapping[str, Result]) -> list[Result]:
    """The results that a value of a method refers to."""
    names = dict.fromkeys(found[1] for found in _REFERENCE.finditer(repr(value)))
    return [results[name] for name in names if name in results]


def _rewired(text: str, results: Mapping[str, Result]) -> str:
    def one(found: re.Match[str]) -> str:
        result = results.get(found[1])
        if result is None:
            return found[0]
        if found[2] == "status":
            return f"tasks.{result.task}.status"
        simple = re.fullmatch(r"[\w.]+", result.expression)
        return result.expression if simple else f"({result.expression})"

    return _REFERENCE.sub(one, text) if "${{" in text else text


def as_yaml(draft: Draft, name: str, outputs: Mapping[str, Any], head: Iterable[str] = ()) -> str:
    """The plan's text. `head` and each task's comments stand above what they are about."""
    lines = [f"# {_comment(line)}".rstrip() for line in (*head, *draft.notes)]
    lines += [f"apiVersion: {API_VERSION}", "kind: Plan", f"metadata: {{name: {name}}}"]
    lines += _map("inputs", draft.inputs)
    lines += _map("agents", draft.agents)
    lines.append("tasks:")
    for task in draft.tasks:
        lines.append(f"  {_flow(task.name)}:")
        lines += [f"    # {_comment(line)}" for line in task.comments[:COMMENTS_MAX]]
        lines += [f"    {key}: {_flow(value)}" for key, value in task.keys.items()]
    lines += _map("outputs", outputs)
    return "\n".join(lines) + "\n"


def plan_name(goal: str) -> str:
    """A name for a plan, made of the goal's first words."""
    ascii_only = unicodedata.normalize("NFKD", goal).encode("ascii", "ignore").decode().lower()
    found = re.findall(r"[a-z0-9]+", ascii_only)[:6]
    name = "-".join(found)[:NAME_CHARS_MAX].strip("-")
    return name if name[:1].isalpha() else f"plan-{name}".rstrip("-")


def _map(key: str, values: Mapping[str, Any]) -> list[str]:
    if not values:
        return []
    return [f"{key}:", *(f"  {_flow(name)}: {_flow(value)}" for name, value in values.items())]


def _flow(value: Any) -> str:
    """The value on one line. JSON's texts are YAML's, and `on`, `no` and `1e3` stay what they are."""
    if isinstance(value, str):
        return _scalar(value)
    dumped = yaml.safe_dump(value, default_flow_style=True, width=10**9, allow_unicode=True, sort_keys=False)
    return str(dumped).removesuffix("\n").removesuffix("\n...").rstrip()


def _scalar(text: str) -> str:
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", text) and yaml.safe_load(text) == text:
        return text
    dumped = yaml.safe_dump(text, default_style='"', width=10**9, allow_unicode=True)
    return str(dumped).strip()


def _comment(line: str) -> str:
    """One line that is a comment and nothing else, whatever a goal or a docstring holds."""
    plain = "".join(char if char.isprintable() else " " for char in line)
    return plain if len(plain) <= COMMENT_CHARS_MAX else plain[: COMMENT_CHARS_MAX - 1] + "…"
