"""Modules and data compiled together, once for each change: what questions are asked of.

`Rules` is what the server knows of an engine; `Regorus` is the one it has. OPA's REST API asks what a decision never does -
queries typed by hand, data under any path - so it needs more of an engine than `PolicyEngine` gives.

Guaranteed: a question sees one whole version of modules and data, and no earlier question's input; what does not compile is
refused when it is written, with its place; a datum that would stand where a rule stands is refused, for regorus would silently
prefer it.

A query typed by hand is made the body of a rule, and asked as one: regorus answers `not` and `some` wrongly outside of rules.

Not guaranteed: all of Rego as OPA has it. Errors of built-in functions are always errors (OPA's `strict-builtin-errors=true`),
and the ways in which a query holds come without repetitions, in the order of their values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from ...governance.policy.engine import UNDEFINED
from ...governance.policy.regorus_engine import UNDEFINED_TEXT, binding
from . import document
from .failure import COMPILING, EVALUATING, INTERNAL, PARSING, Problem, Rejected, invalid

_PLACE = re.compile(r"--> (?P<file>[^\n]*):(?P<row>\d+):(?P<col>\d+)")
_WORDS = re.compile(r"error: (?P<words>[^\n]*)")
QUERY = "query"  # The file of a query, in errors.
QUERY_PACKAGE = "aip_query"
PARSE_ERROR = "rego_parse_error"
# Regorus's words and OPA's code for them; every other error comes from evaluating.
CODES = {
    "keyword is required": PARSE_ERROR,
    "expect": PARSE_ERROR,
    "unrecognized": PARSE_ERROR,
    "invalid token": PARSE_ERROR,
    "unsafe": "rego_unsafe_var_error",
    "could not find function": "rego_type_error",
    "recursion": "rego_recursion_error",
}


@dataclass(frozen=True, slots=True)
class Syntax:
    """One module, as the parser sees it."""

    name: str
    package: tuple[str, ...]
    imports: Mapping[str, tuple[str, ...]]
    rules: tuple[Mapping[str, Any], ...]

    def rule_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for rule in self.rules if (name := rule_name(rule))))


class Rules(Protocol):
    """One version of modules and data."""

    modules: Mapping[str, str]
    syntax: tuple[Syntax, ...]

    def value(self, path: tuple[str, ...], input: Any) -> Any:
        """The value of `data.<path>` under this input (`UNDEFINED`: none was given), or `UNDEFINED`."""

    def solutions(self, query: str, input: Any) -> list[dict[str, Any]]:
        """The variables of each way in which the query holds."""

    def parsed(self, query: str) -> Syntax:
        """The query as the body of the only rule of a module."""


class Compile(Protocol):
    def __call__(self, modules: Mapping[str, str], data: Mapping[str, Any]) -> Rules: ...


class Regorus:
    """Confined to the thread that made it, as regorus is."""

    def __init__(self, modules: Mapping[str, str], data: Mapping[str, Any]) -> None:
        self.modules = modules
        self._template = binding().Engine()
        # Prints go nowhere: a policy that prints must not write into the log of whoever serves it.
        self._template.set_gather_prints(True)
        for name, text in modules.items():
            self._attempt(COMPILING, partial(self._template.add_policy, name, text))
        self.syntax = tuple(_syntax(one) for one in json.loads(self._template.get_ast_as_json()))
        self._rule_paths = {
            (*module.package, name)
            for module in self.syntax
            for name in module.rule_names()
            if all(map(str.isidentifier, module.package))
        }
        if problems := list(overlaps(self.syntax, data)):
            raise invalid(COMPILING, problems)
        self._template.add_data_json(json.dumps(data))
        # Two engines: input can be replaced, but not taken away again. The template stays unasked, for copies.
        self._without_input, self._with_input = self._template.clone(), self._template.clone()
        # Unsafe variables and recursion are found by the first question: ask one now.
        self._attempt(COMPILING, lambda: self._without_input.eval_query_as_json("1"))

    def value(self, path: tuple[str, ...], input: Any) -> Any:
        engine = self._asked(input)
        if path in self._rule_paths:  # As a rule, which is three times as fast as a query.
            rule = ".".join(("data", *path))
            text = self._attempt(EVALUATING, lambda: engine.eval_rule_as_json(rule))
            if text != UNDEFINED_TEXT:  # Which is also how it writes that very text: then the query tells.
                return json.loads(text)
        query = "data" + "".join(f"[{json.dumps(part)}]" for part in path)
        text = self._attempt(EVALUATING, lambda: engine.eval_query_as_json(query))
        found = json.loads(text).get("result")
        return found[0]["expressions"][0]["value"] if found else UNDEFINED

    def solutions(self, query: str, input: Any) -> list[dict[str, Any]]:
        names = variables(statements_of(self.parsed(query)))
        row = ", ".join(f"{json.dumps(name)}: {name}" for name in names)
        engine = self._asked(input, copy=True)
        text = f"package {QUERY_PACKAGE}\nanswers contains {{{row}}} if {{\n{query}\n}}\n"
        self._attempt(EVALUATING, lambda: engine.add_policy(QUERY, text))
        found = self._attempt(EVALUATING, lambda: engine.eval_rule_as_json(f"data.{QUERY_PACKAGE}.answers"))
        rows: list[dict[str, Any]] = json.loads(found)
        return rows

    def parsed(self, query: str) -> Syntax:
        """The query as the body of the only rule of a module."""
        alone = binding().Engine()
        text = f"package {QUERY_PACKAGE}\nanswers if {{\n{query}\n}}\n"
        self._attempt(PARSING, lambda: alone.add_policy(QUERY, text))
        found = _syntax(json.loads(alone.get_ast_as_json())[0])
        if len(found.rules) != 1 or len(found.rules[0]["Spec"]["bodies"]) != 1:
            raise invalid(PARSING)  # What closes the rule and begins another is no query.
        return replace(found, package=())

    def _asked(self, input: Any, *, copy: bool = False) -> Any:
        """An engine that has this input and no other; a copy where something is to be added to its modules."""
        if input is UNDEFINED:
            return self._template.clone() if copy else self._without_input
        engine = self._template.clone() if copy else self._with_input
        engine.set_input_json(json.dumps(input))
        return engine

    @staticmethod
    def _attempt(message: str, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except RuntimeError as error:
            problem = problem_of(str(error))
            if message == EVALUATING and problem.code == "eval_builtin_error":
                raise Rejected(500, INTERNAL, EVALUATING, [problem]) from error
            raise invalid(message, [problem]) from error


def problem_of(text: str) -> Problem:
    """Regorus's error as OPA tells one. Its words for the most common ones are OPA's."""
    place, words = _PLACE.search(text), _WORDS.search(text)
    said = words["words"] if words else text.partition("\nStack")[0].strip()[:500]
    code = next((code for words, code in CODES.items() if words in said), "eval_builtin_error")
    if place is None:
        return Problem(code, said)
    # A query stands in the third line of its module.
    row = int(place["row"]) - (2 if place["file"] == QUERY else 0)
    return Problem(code, said, place["file"], max(row, 1), int(place["col"]))


def overlaps(syntax: tuple[Syntax, ...], data: Mapping[str, Any]) -> Iterator[Problem]:
    """Data where a rule stands, or a plain value where a package does."""
    for module in syntax:
        for depth in range(1, len(module.package) + 1):
            value = document.get(data, module.package[:depth])
            if value is not document.MISSING and not isinstance(value, Mapping):
                yield _overlap(module, module.package[:depth])
                break
        else:
            paths = [(*module.package, name) for name in module.rule_names()]
            yield from (
                _overlap(module, path) for path in paths if document.get(data, path) is not document.MISSING
            )


def _overlap(module: Syntax, path: tuple[str, ...]) -> Problem:
    return Problem(
        "rego_compile_error", f"conflicting rule for data path {'/'.join(path)} found", module.name
    )


# The parser's tree ---------------------------------------------------------------------------------------------------------


def _syntax(parsed: Mapping[str, Any]) -> Syntax:
    tree = parsed["ast"]
    package = reference(tree["package"]["refr"])
    imports = {}
    for one in tree["imports"]:
        path = reference(one["refr"])
        if path and path[0] in ("data", "input"):
            imports[_alias(one, parsed["source"]["contents"]) or path[-1]] = path
    return Syntax(parsed["source"]["file"], package or (), imports, tuple(tree["rules"]))


def _alias(one: Mapping[str, Any], text: str) -> str:
    """What stands behind `as`: the tree tells only where, in bytes."""
    span = one.get("as")
    return text.encode()[span["start"] : span["end"]].decode() if span else ""


def rule_name(rule: Mapping[str, Any]) -> str:
    """The first part of the name that a rule gives a value to."""
    if "Default" in rule:
        place = rule["Default"]["refr"]
    else:
        (head,) = rule["Spec"]["head"].values()
        place = head["refr"]
    while "Var" not in place:
        ((_, node),) = place.items()
        place = node["refr"]
    return str(place["Var"]["value"])


def reference(tree: Mapping[str, Any]) -> tuple[str, ...] | None:
    """`a.b["c"]` as its parts; None where a part is not known from the text."""
    ((kind, node),) = tree.items()
    if kind == "Var":
        return (str(node["value"]),)
    if kind == "RefDot":
        before = reference(node["refr"])
        return None if before is None else (*before, str(node["field"][1]))
    if kind == "RefBrack" and "String" in node["index"]:
        before = reference(node["refr"])
        return None if before is None else (*before, str(node["index"]["String"]["value"]))
    return None


def statements_of(query: Syntax) -> list[Mapping[str, Any]]:
    """The statements of a parsed query."""
    (rule,) = query.rules
    (body,) = rule["Spec"]["bodies"]
    statements: list[Mapping[str, Any]] = body["query"]["stmts"]
    return statements


# What has variables of its own: they are no variables of the query.
SCOPES = frozenset({"ArrayCompr", "SetCompr", "ObjectCompr", "Every", "NotExpr"})


def variables(tree: Any) -> tuple[str, ...]:
    """The variables that a query gives values to, in the order in which it names them."""
    return tuple(dict.fromkeys(_variables(tree)))


def _variables(tree: Any) -> Iterator[str]:
    if isinstance(tree, list):
        for item in tree:
            yield from _variables(item)
    elif isinstance(tree, Mapping):
        for kind, node in tree.items():
            if kind == "Var":
                if node["value"] not in ("data", "input", "_"):
                    yield str(node["value"])
            elif kind == "Call":
                yield from _variables(node["params"])
            elif kind not in SCOPES:
                yield from _variables(node)
