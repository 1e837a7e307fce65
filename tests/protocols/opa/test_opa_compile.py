"""What is left of a query holds exactly when the query does; what cannot be left is refused."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aip.governance.policy.engine import UNDEFINED
from aip.protocols.opa import Server
from aip.protocols.opa.failure import Rejected

ORDERS = """
package orders

import data.limits

default allow := false

allow if input.role == "admin"

allow if {
	input.role == "clerk"
	small
	not input.blocked
	input.shop in limits.shops
}

small if input.total <= limits.total

open if limits.total > 5

weekday := "monday"

chatty if {
	some item in input.items
	item == "x"
}

lucky if count(input.items) > 2
"""
DATA = {"total": 10, "shops": ["a", "b"]}


@pytest.fixture(scope="module", autouse=True)
def engines_end_in_their_thread() -> Iterator[None]:
    """Tracebacks of expected errors hold engines; regorus must not be dropped in the thread of another test's server."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def orders() -> Server:
    made = Server(None, {})
    made.put_data(("limits",), DATA)
    made.put_policy("orders", ORDERS)
    return made


def conditions(result: dict[str, Any]) -> list[list[str]]:
    """The alternatives as a person would write them."""
    return [[written(one) for one in each] for each in result.get("queries", [])]


def written(one: dict[str, Any]) -> str:
    terms = one["terms"]
    words = term(terms) if isinstance(terms, dict) else f"{term(terms[0])}({', '.join(map(term, terms[1:]))})"
    return f"not {words}" if one.get("negated") else words


def term(one: dict[str, Any]) -> str:
    if one["type"] == "ref":
        return ".".join(part["value"] for part in one["value"])
    if one["type"] == "array":
        return f"[{', '.join(map(term, one['value']))}]"
    return repr(one.get("value"))


LEFT = [
    ("data.orders.allow == true", {"role": "admin"}, [], [[]]),
    ("data.orders.allow", {"role": "clerk", "total": 3, "shop": "a"}, [], [[]]),
    ("data.orders.allow", {"role": "clerk", "total": 30, "shop": "a"}, [], []),
    ("data.orders.open", None, ["input"], [[]]),
    ('data.orders.weekday == "sunday"', None, ["input"], []),
    ("data.orders.weekday == true", None, ["input"], []),
    ("data.orders.small", None, ["input.total"], [["lte(input.total, 10)"]]),
    ("not data.orders.small", None, ["input"], [["not lte(input.total, 10)"]]),
    (
        "data.orders.allow == true",
        {"role": "clerk", "shop": "b"},
        ["input.total", "input.blocked"],
        [["lte(input.total, 10)", "not input.blocked"]],
    ),
    (
        "data.orders.allow",
        None,
        ["input"],
        [
            ["eq(input.role, 'admin')"],
            [
                "eq(input.role, 'clerk')",
                "lte(input.total, 10)",
                "not input.blocked",
                "internal.member_2(input.shop, ['a', 'b'])",
            ],
        ],
    ),
    ("data.orders.small; input.x != 1", {"x": 2}, ["input.total"], [["lte(input.total, 10)"]]),
    ("data.orders.small; input.x != 1", {"x": 1}, ["input.total"], []),
    ("data.orders.small; input.x != 1", {}, ["input.total"], []),
    ("data.limits.total > 3", None, ["data.limits"], [["gt(data.limits.total, 3)"]]),
]


@pytest.mark.parametrize(("query", "known", "unknowns", "left"), LEFT)
def test_what_is_known_is_decided_and_the_rest_is_left(
    orders: Server, query: str, known: Any, unknowns: list[str], left: Any
) -> None:
    result = orders.compiled(query, UNDEFINED if known is None else known, unknowns)
    assert conditions(result) == left


@pytest.mark.parametrize(
    "query",
    [
        "data.orders.chatty",
        "data.orders.lucky",
        "not data.orders.allow",
        "data.orders.allow == false",
        "x := input.a; x == 1",
        "input.a == input.b[_]",
        "input.items[i] == 1",
        "data.orders.small with input as {}",
        "data.orders",
        "every x in input.items { x == 1 }",
        "input.a == 1 } other if { true",
        "input.a == 1 } else if { true",
        "1 +",
        "",
    ],
)
def test_what_cannot_be_left_whole_is_refused(orders: Server, query: str) -> None:
    with pytest.raises(Rejected) as refused:
        orders.compiled(query, UNDEFINED, ["input"])
    assert refused.value.status == 400


@pytest.mark.parametrize("unknowns", ["input", ["x"], ["input..a"], [3], ["input"] * 101])
def test_unknowns_are_references(orders: Server, unknowns: Any) -> None:
    with pytest.raises(Rejected, match="unknowns"):
        orders.compiled("input.a == 1", UNDEFINED, unknowns)


# For every policy of the part that is answered, and every input: left holds exactly when the query does.

FIELDS = ("a", "b", "c")
VALUES = st.sampled_from([0, 1, 2, "x", True, False, None])
LITERALS = st.one_of(
    st.builds(
        lambda field, sign, value: f"input.{field} {sign} {value}",
        st.sampled_from(FIELDS),
        st.sampled_from(["==", "!=", "<", "<=", ">", ">="]),
        st.sampled_from(["0", "1", '"x"', "true", "null", "data.base", "input.a"]),
    ),
    st.builds(lambda field: f"input.{field}", st.sampled_from(FIELDS)),
    st.builds(lambda field: f"not input.{field}", st.sampled_from(FIELDS)),
    st.builds(lambda field: f'input.{field} in [1, "x"]', st.sampled_from(FIELDS)),
    st.sampled_from(["data.base > 0", "data.base == 7", "data.gone", "not data.gone", "inner"]),
)
BODIES = st.lists(st.lists(LITERALS, min_size=1, max_size=3), min_size=1, max_size=3)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BODIES, st.sets(st.sampled_from(FIELDS)), st.dictionaries(st.sampled_from(FIELDS), VALUES))
def test_what_is_left_holds_exactly_when_the_query_does(
    bodies: list[list[str]], unknown: set[str], input: dict[str, Any]
) -> None:
    rules = "".join(f"answer if {{\n\t{chr(10).join(body)}\n}}\n\n" for body in bodies)
    made = Server(None, {})
    made.put_data(("base",), 1)
    made.put_policy("p", f"package p\n\ndefault answer := false\n\n{rules}\ninner if input.b == 1\n")
    known = {name: value for name, value in input.items() if name not in unknown}
    result = made.compiled("data.p.answer", known, [f"input.{name}" for name in sorted(unknown)])
    expected = bool(made.solutions("data.p.answer", input))
    assert any(all(holds(made, one, input) for one in each) for each in result.get("queries", [])) == expected


def holds(made: Server, one: dict[str, Any], input: dict[str, Any]) -> bool:
    """One condition, asked of the engine as a query of its own."""
    return bool(made.solutions(as_rego(one), input))


def as_rego(one: dict[str, Any]) -> str:
    signs = {
        "eq": "==",
        "neq": "!=",
        "lt": "<",
        "lte": "<=",
        "gt": ">",
        "gte": ">=",
        "internal.member_2": "in",
    }
    terms = one["terms"]
    if isinstance(terms, dict):
        words = rego(terms)
    else:
        words = f"{rego(terms[1])} {signs[term(terms[0])]} {rego(terms[2])}"
    return f"not {words}" if one.get("negated") else words


def rego(one: dict[str, Any]) -> str:
    if one["type"] == "ref":
        return term(one)
    if one["type"] == "array":
        return f"[{', '.join(map(rego, one['value']))}]"
    if one["type"] == "string":
        return f'"{one["value"]}"'
    words = {"boolean": str(one.get("value")).lower(), "null": "null"}
    return words.get(one["type"], str(one.get("value")))
