"""methods.yaml: from bytes to methods, or to every problem with its line.

    apiVersion: aip/v1
    kind: Methods
    methods:
      research-report:
        goal: ["research {topic}", "report on {topic}"]
        needs: [web.search, report.write]
        steps:
          find: {capability: web.search, with: {query: "{topic}"}}
          read: {find: "summarise a page"}
          write: {capability: report.write}
        output: write

Read by the loader of plans (`parse.document`), with its limits; problems are told as a plan's are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import PlanInvalid
from ...settings import DEFAULT_LIMITS, Limits
from ..parse.document import Node
from ..parse.document import read as read_yaml
from ..parse.problem import invalid, quoted
from ..parse.reader import Reader
from ..parse.vocabulary import API_VERSION, CAPABILITY_FORM, KNOWN, NAME_FORM
from ..suggestion import nearest
from .method import Method, Step, StepKind

METHODS_MAX = 1_000  # A file of this many is a program's work; each goal reads them all.
PATTERNS_MAX = 50
STEPS_MAX = 100  # Of one method: longer ones are goals of their own.
METHOD_FORM = r"^[a-z][a-z0-9_.-]{0,62}$"

FILE_KEYS = {
    "apiVersion": "aip/v1.",
    "kind": "Methods.",
    "methods": "Ways to reach goals, by name.",
}
METHOD_KEYS = {
    "goal": "Patterns of goals; {slot} stands for what the goal says there.",
    "words": "Or words that must all be in the goal.",
    "needs": "Capabilities that must be there.",
    "if": "An expression over inputs, the slots among them: where it is false, the method is not used.",
    "inputs": "Inputs that the plan gets, as in plan.yaml.",
    "steps": "What is done, in order.",
    "output": "The step whose answer is the result (left out: the last one), or an expression.",
}
STEP_KEYS = {
    "capability": "One capability, by name.",
    "find": "The capability that these words describe.",
    "goal": "A smaller goal.",
    "gate": "A question to a person.",
    "gives": "A schema that the answer must fit.",
}
# What a task of a plan may say besides; whether it is right there, the plan's own parser tells.
TASK_KEYS = tuple(key for key in KNOWN["task"] if key not in ("agent", "capability", "gate"))


class MethodsInvalid(PlanInvalid):
    code = "plan.invalid.methods"
    default_hint = "methods.yaml stands beside the agents; docs/planning.md has every key"


def parse_methods(
    text: bytes, file: str, limits: Limits = DEFAULT_LIMITS, *, shipped: bool = False
) -> list[Method]:
    """The file's methods, in its order. Raises `MethodsInvalid`; `details["problems"]` lists what is wrong."""
    try:
        root = read_yaml(text, file, limits)
        found = _File(file, text.decode("utf-8"), limits, shipped)
        methods = found.read(root)
        if found.reader.problems:
            raise invalid(found.reader.problems)
    except PlanInvalid as error:
        raise MethodsInvalid(error.message, **error.details) from None
    return methods


class _File:
    """One file that is being read: its problems, and the methods so far."""

    def __init__(self, file: str, text: str, limits: Limits, shipped: bool) -> None:
        self.reader = Reader(file, text, limits)
        self._shipped = shipped

    def read(self, root: Node) -> list[Method]:
        found = self._fields(root, FILE_KEYS, "the file")
        for key, wanted in (("apiVersion", API_VERSION), ("kind", "Methods")):
            if key not in found or found[key].value != wanted:
                self.reader.problem(
                    "methods.version",
                    found.get(key, root),
                    f"{key} must be {wanted}",
                    f"write {key}: {wanted}",
                )
        if "methods" not in found:
            self.reader.missing(root, "methods", "name at least one method")
            return []
        entries = self.reader.entries(found["methods"], "methods", METHOD_FORM, "lower case, digits, - _ .")
        if len(entries) > METHODS_MAX:
            self.reader.problem("methods.count", found["methods"], f"more than {METHODS_MAX} methods")
            return []
        keys = found["methods"].keys
        return [self._method(name, node, keys[name]) for name, node in entries.items()]

    def _method(self, name: str, node: Node, place: tuple[int, int]) -> Method:
        what = f"method {quoted(name)}"
        found = self._fields(node, METHOD_KEYS, what)
        if not found.keys() & {"goal", "words"}:
            self.reader.missing(node, f"`goal` or `words` of {what}", 'write goal: ["research {topic}"]')
        patterns = self._names(found, "goal", what)
        if len(patterns) > PATTERNS_MAX:
            self.reader.problem(
                "methods.count", found["goal"], f"{what} has more than {PATTERNS_MAX} patterns"
            )
        inputs = found["inputs"].plain() if "inputs" in found else {}
        steps = self._steps(found["steps"], what) if "steps" in found else ()
        if not steps:
            self.reader.missing(found.get("steps", node), f"a step of {what}", "name what is done")
        method = Method(
            name=name,
            patterns=patterns,
            words=self._names(found, "words", what),
            needs=self._names(found, "needs", what, CAPABILITY_FORM),
            condition=self._text(found, "if", what),
            inputs=inputs if isinstance(inputs, Mapping) else {},
            steps=steps,
            output=self._text(found, "output", what) or (steps[-1].name if steps else ""),
            place=f"{self.reader.file}:{place[0]}",
            shipped=self._shipped,
        )
        self._refuse_unknown_output(method, found.get("output", node))
        return method

    def _refuse_unknown_output(self, method: Method, node: Node) -> None:
        names = [step.name for step in method.steps]
        if method.output and "${{" not in method.output and method.output not in names:
            message = f"method {quoted(method.name)} has no step {quoted(method.output)}"
            self.reader.problem("methods.output", node, message, nearest(method.output, names))

    def _steps(self, node: Node, what: str) -> tuple[Step, ...]:
        entries = self.reader.entries(
            node, f"steps of {what}", NAME_FORM, "a letter, then letters, digits, _"
        )
        if len(entries) > STEPS_MAX:
            self.reader.problem("methods.count", node, f"{what} has more than {STEPS_MAX} steps")
            return ()
        steps = [self._step(name, one, f"step {quoted(name)} of {what}") for name, one in entries.items()]
        return tuple(step for step in steps if step is not None)

    def _step(self, name: str, node: Node, what: str) -> Step | None:
        known = {**STEP_KEYS, **{key: KNOWN["task"][key] for key in TASK_KEYS}}
        found = self._fields(node, known, what)
        kinds = [kind for kind in StepKind if kind.value in found]
        if len(kinds) != 1:
            if isinstance(node.value, dict):
                message = f"{what} must have one of capability, find, goal and gate"
                self.reader.problem("methods.step", node, message, "say what is done, once")
            return None
        kind = kinds[0]
        head = found.pop(kind.value)
        gives = found.pop("gives").plain() if "gives" in found else None
        keys = {key: one.plain() for key, one in found.items()}
        if kind is StepKind.GATE:
            return Step(name, kind, "", {"gate": head.plain(), **keys}, gives)
        if kind is StepKind.GOAL and (keys or gives is not None):
            message = f"{what} is a goal, which may become several tasks; it takes no other keys"
            self.reader.problem("methods.step", node, message, "write `find` if one capability is meant")
        form = CAPABILITY_FORM if kind is StepKind.CAPABILITY else ""
        text = self.reader.text(head, f"{what}: {kind.value}", form, "as under @capability")
        return None if text is None else Step(name, kind, text, keys, gives)

    def _fields(self, node: Node, known: Mapping[str, Any], what: str) -> dict[str, Node]:
        if not self.reader.is_kind(node, dict, what, "a map"):
            return {}
        for key in node.value:
            if key not in known:
                hint = nearest(key, known) or f"known here: {', '.join(known)}"
                self.reader.problem(
                    "methods.unknown_key", node.keys[key], f"{what} has no {quoted(key)}", hint
                )
        return {key: value for key, value in node.value.items() if key in known}

    def _names(self, found: Mapping[str, Node], key: str, what: str, form: str = "") -> tuple[str, ...]:
        if key not in found:
            return ()
        if isinstance(found[key].value, str) and key == "goal":
            return (str(found[key].value),)
        return tuple(text for text, _ in self.reader.texts(found[key], f"{key} of {what}", form))

    def _text(self, found: Mapping[str, Node], key: str, what: str) -> str | None:
        return self.reader.text(found[key], f"{key} of {what}") if key in found else None


__all__ = ["FILE_KEYS", "METHOD_KEYS", "STEP_KEYS", "MethodsInvalid", "parse_methods"]
