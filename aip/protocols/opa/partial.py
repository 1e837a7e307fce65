"""`/v1/compile`: what is left of a query when a part of its input is not known yet.

A query that depends on nothing unknown is decided: `[[]]` says yes whatever comes, no `queries` at all says no whatever comes.
Of a query that does, what is known is decided and the rest comes back, as OPA does it: a list of alternatives, each a list of
conditions in the form of OPA's syntax tree.

Guaranteed of what is answered: for every value of the unknowns, one of the alternatives holds if and only if the query does.

Not all of Rego is answered: comparisons, membership, references, `not` before one of these, and complete rules made of them
that give true. Whatever else a query needs and cannot be decided from what is known - local variables, comprehensions,
functions, `else` - is refused with its place, never guessed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...governance.policy.engine import UNDEFINED
from .failure import Problem, Rejected, invalid
from .rules import Rules, Syntax, reference, rule_name, statements_of

ALTERNATIVES_MAX = 256  # Each may become a database query: who needs more should ask a narrower question.
DEPTH_MAX = 32
OPERATORS = {"Eq": "eq", "Ne": "neq", "Lt": "lt", "Le": "lte", "Gt": "gt", "Ge": "gte"}
SIGNS = {"eq": "==", "neq": "!=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
MEMBER = "internal.member_2"
DEFAULT_UNKNOWNS = ("input",)

Path = tuple[str, ...]
Condition = dict[str, Any]
Alternative = tuple[Condition, ...]
YES: tuple[Alternative, ...] = ((),)
NO: tuple[Alternative, ...] = ()


@dataclass(frozen=True, slots=True)
class _Known:
    value: Any


@dataclass(frozen=True, slots=True)
class _Open:
    path: Path


def compiled(rules: Rules, query: Syntax, input: Any, unknowns: Sequence[str]) -> dict[str, Any]:
    """OPA's result of a compilation. `query` is the query as the body of a module's only rule."""
    paths = tuple(tuple(one.split(".")) for one in unknowns)
    asked = Partial(rules, input, paths)
    alternatives = asked.body(statements_of(query), query, 0)
    if () in alternatives:
        return {"queries": [[]]}
    if not alternatives:
        return {}
    return {"queries": [[{"index": index, **one} for index, one in enumerate(each)] for each in alternatives]}


class Partial:
    """One question. `input` is what is known of it (`UNDEFINED`: nothing)."""

    def __init__(self, rules: Rules, input: Any, unknowns: tuple[Path, ...]) -> None:
        self._rules = rules
        self._input = input
        self._unknowns = unknowns
        self._modules: dict[Path, list[Syntax]] = {}
        for module in rules.syntax:
            self._modules.setdefault(module.package, []).append(module)

    def body(
        self, statements: list[Mapping[str, Any]], module: Syntax, depth: int
    ) -> tuple[Alternative, ...]:
        """The alternatives under which all of these hold."""
        found = YES
        for statement in statements:
            if statement.get("with_mods"):
                raise _refused("with", statement, module)
            each = self._literal(statement["literal"], module, depth)
            found = tuple(_merged(one, other) for one in found for other in each)
            if len(found) > ALTERNATIVES_MAX:
                raise invalid(f"more than {ALTERNATIVES_MAX} alternatives are left")
            if not found:
                return NO
        return found

    def _literal(self, literal: Mapping[str, Any], module: Syntax, depth: int) -> tuple[Alternative, ...]:
        ((kind, node),) = literal.items()
        if kind == "Expr":
            return self._expression(node["expr"], module, depth)
        if kind == "NotExpr":
            return self._negated(self._expression(node["expr"], module, depth), node, module)
        raise _refused(kind, node, module)

    @staticmethod
    def _negated(
        found: tuple[Alternative, ...], node: Mapping[str, Any], module: Syntax
    ) -> tuple[Alternative, ...]:
        if found == NO:
            return YES
        if () in found:
            return NO
        if len(found) == 1 and len(found[0]) == 1:
            return (({**found[0][0], "negated": not found[0][0].get("negated", False)},),)
        raise _refused("not before more than one unknown condition", node, module)

    def _expression(self, tree: Mapping[str, Any], module: Syntax, depth: int) -> tuple[Alternative, ...]:
        ((kind, node),) = tree.items()
        if kind == "BoolExpr":
            if (asked := self._rule_that_is_true(node, module)) is not None:
                return self._truth(asked, module, depth)
            return self._condition(OPERATORS[node["op"]], node["lhs"], node["rhs"], module, depth)
        if kind == "Membership" and node["key"] is None:
            return self._condition(MEMBER, node["value"], node["collection"], module, depth)
        return self._truth(tree, module, depth)

    def _rule_that_is_true(self, node: Mapping[str, Any], module: Syntax) -> Mapping[str, Any] | None:
        """The rule of `rule == true`, which asks the same as `rule` where the rule only ever gives true or false."""
        for side, other in (("lhs", "rhs"), ("rhs", "lhs")):
            term: Mapping[str, Any] = node[other]
            path = reference(term)
            if node["op"] == "Eq" and node[side].get("Bool", {}).get("value") is True and path:
                full = _absolute(path, module)
                if full[0] == "data" and not self._is_unknown(full) and self._depends_on_unknown(full):
                    return term
        return None

    def _truth(self, tree: Mapping[str, Any], module: Syntax, depth: int) -> tuple[Alternative, ...]:
        """A term by itself: it holds unless it is false or undefined."""
        path = reference(tree)
        full = _absolute(path, module) if path else None
        if full and full[0] == "data" and not self._is_unknown(full) and self._depends_on_unknown(full):
            return self._rule(full[1:], tree, module, depth)
        term = self._term(tree, module, depth)
        if isinstance(term, _Known):
            return NO if term.value is UNDEFINED or term.value is False else YES
        return (({"terms": _ref(term.path)},),)

    def _condition(
        self, operator: str, left: Mapping[str, Any], right: Mapping[str, Any], module: Syntax, depth: int
    ) -> tuple[Alternative, ...]:
        one, other = self._term(left, module, depth), self._term(right, module, depth)
        if any(isinstance(term, _Known) and term.value is UNDEFINED for term in (one, other)):
            return NO  # Nothing holds of what is not there, whatever the other side may be.
        if isinstance(one, _Known) and isinstance(other, _Known):
            return YES if self._holds(operator, one.value, other.value) else NO
        call = _ref(tuple(operator.split(".")))
        return (({"terms": [call, _written(one), _written(other)]},),)

    def _holds(self, operator: str, one: Any, other: Any) -> bool:
        """The engine compares: its order of values is Rego's, Python's is not."""
        sign = "in" if operator == MEMBER else SIGNS[operator]
        return bool(self._rules.solutions(f"{json.dumps(one)} {sign} {json.dumps(other)}", UNDEFINED))

    def _term(self, tree: Mapping[str, Any], module: Syntax, depth: int) -> _Known | _Open:
        ((kind, node),) = tree.items()
        if kind in ("String", "Number", "Bool", "RawString"):
            return _Known(node["value"])
        if kind == "Null":
            return _Known(None)
        if kind in ("Array", "Set"):  # A set, for membership, is as good as a list.
            inner = [self._term(item, module, depth) for item in node["items"]]
            if all(isinstance(item, _Known) for item in inner):
                values = [item.value for item in inner if isinstance(item, _Known)]
                return _Known(UNDEFINED if UNDEFINED in values else values)
        path = reference(tree)
        full = _absolute(path, module) if path else None
        if full is None:
            raise _refused(kind, node, module)
        return self._referred(full, tree, module)

    def _referred(self, path: Path, tree: Mapping[str, Any], module: Syntax) -> _Known | _Open:
        if self._is_unknown(path):
            if any(len(one) > len(path) for one in self._unknowns if one[: len(path)] == path):
                raise _refused("a value of which only a part is unknown", next(iter(tree.values())), module)
            return _Open(path)
        if path[0] == "input":
            return _Known(_walk(self._input, path[1:]))
        if path[0] != "data":
            raise _refused(f"the variable {path[0]}", next(iter(tree.values())), module)
        if self._depends_on_unknown(path):
            raise _refused(
                "the value of a rule that depends on what is unknown", next(iter(tree.values())), module
            )
        return _Known(self._rules.value(path[1:], self._input))

    def _is_unknown(self, path: Path) -> bool:
        return any(_overlap(path, one) for one in self._unknowns)

    def _depends_on_unknown(self, path: Path) -> bool:
        """Whether a rule at this path reads an unknown, or a rule that does."""
        seen: set[Path] = set()
        waiting = [path]
        while waiting:
            one = waiting.pop()
            if self._is_unknown(one):
                return True
            if one in seen or one[0] != "data":
                continue
            seen.add(one)
            for module, rule in self._rules_at(one[1:]):
                waiting += [_absolute(path, module) for path in _references(rule)]
        return False

    def _rules_at(self, path: Path) -> Iterator[tuple[Syntax, Mapping[str, Any]]]:
        """Rules that give `data.<path>` a value, or a part of it, or are what it is a part of."""
        for module in self._rules.syntax:
            for rule in module.rules:
                if _overlap(path, (*module.package, rule_name(rule))):
                    yield module, rule

    def _rule(
        self, path: Path, tree: Mapping[str, Any], module: Syntax, depth: int
    ) -> tuple[Alternative, ...]:
        """The alternatives under which a complete rule is true."""
        node = next(iter(tree.values()))
        if depth >= DEPTH_MAX:
            raise _refused(f"rules more than {DEPTH_MAX} deep", node, module)
        found: list[Alternative] = []
        defined = [
            (owner, rule) for owner, rule in self._rules_at(path) if (*owner.package, rule_name(rule)) == path
        ]
        if not defined:
            raise _refused(f"data.{'.'.join(path)}", node, module)
        for owner, rule in defined:
            if "Default" in rule:
                if rule["Default"]["value"].get("Bool", {}).get("value") is not False:
                    raise _refused("a default other than false", node, module)
                continue
            for statements in _bodies(rule, owner):
                found += [one for one in self.body(statements, owner, depth + 1) if one not in found]
        if len(found) > ALTERNATIVES_MAX:
            raise invalid(f"more than {ALTERNATIVES_MAX} alternatives are left")
        return YES if () in found else tuple(found)


# The tree ------------------------------------------------------------------------------------------------------------------


def _bodies(rule: Mapping[str, Any], module: Syntax) -> list[list[Mapping[str, Any]]]:
    """The bodies of a complete rule that gives true."""
    ((kind, head),) = rule["Spec"]["head"].items()
    assigned = head.get("assign")
    gives_true = kind == "Compr" and "Var" in head["refr"]
    if assigned is not None:
        gives_true = gives_true and assigned["value"].get("Bool", {}).get("value") is True
    bodies = rule["Spec"]["bodies"]
    if not gives_true or any(body["is_else"] or body["assign"] for body in bodies):
        raise _refused("a rule that is not simply true", head, module)
    return [body["query"]["stmts"] for body in bodies] or [[]]


def _absolute(path: Path, module: Syntax) -> Path:
    """The path from `data` or `input`; a local variable stays what it is."""
    head, rest = path[0], path[1:]
    if head in ("data", "input"):
        return path
    if head in module.imports:
        return (*module.imports[head], *rest)
    if head in module.rule_names() and module.package:
        return ("data", *module.package, *path)
    return path


def _references(tree: Any) -> Iterator[Path]:
    """Every reference in a tree, as far as it is known from the text."""
    if isinstance(tree, Mapping):
        for kind, node in tree.items():
            if kind in ("Var", "RefDot", "RefBrack") and (path := _prefix({kind: node})):
                yield path
            yield from _references(node)
    elif isinstance(tree, list):
        for item in tree:
            yield from _references(item)


def _prefix(tree: Mapping[str, Any]) -> Path:
    """The part of a reference that is known, up to the first index that is not."""
    ((kind, node),) = tree.items()
    whole = reference(tree)
    if whole is not None or kind not in ("RefDot", "RefBrack"):
        return whole or ()
    return _prefix(node["refr"])


def _overlap(one: Path, other: Path) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _walk(value: Any, path: Path) -> Any:
    for part in path:
        if not isinstance(value, Mapping) or part not in value:
            return UNDEFINED
        value = value[part]
    return value


def _merged(one: Alternative, other: Alternative) -> Alternative:
    return (*one, *(condition for condition in other if condition not in one))


# OPA's tree ----------------------------------------------------------------------------------------------------------------


def _ref(path: Path) -> dict[str, Any]:
    head, *rest = path
    return {
        "type": "ref",
        "value": [{"type": "var", "value": head}, *({"type": "string", "value": part} for part in rest)],
    }


def _written(term: _Known | _Open) -> dict[str, Any]:
    return _ref(term.path) if isinstance(term, _Open) else _constant(term.value)


def _constant(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {"type": "object", "value": [[_constant(key), _constant(item)] for key, item in value.items()]}
    if isinstance(value, list):
        return {"type": "array", "value": [_constant(item) for item in value]}
    kinds = {bool: "boolean", int: "number", float: "number", str: "string"}
    return {"type": "null"} if value is None else {"type": kinds[type(value)], "value": value}


def _refused(what: str, node: Mapping[str, Any], module: Syntax) -> Rejected:
    span = node.get("span") or {}
    problem = Problem(
        "compile_unsupported",
        f"{what} cannot be compiled here",
        module.name,
        span.get("line", 0),
        span.get("col", 0),
    )
    return invalid("partial evaluation of this query is not served", [problem])
