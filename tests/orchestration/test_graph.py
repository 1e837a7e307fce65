"""The shape of plans: order, critical path, ranks, bounds and drawings, against plain definitions of each."""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.orchestration import graph
from aip.orchestration.parse import parse
from aip.orchestration.plan import Plan

DIAMOND = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"], "e": ["a", "d"]}


def plan_of(needs: Mapping[str, list[str]]) -> Plan:
    rows = [f"  {name}: {{capability: c, needs: [{', '.join(wanted)}]}}" for name, wanted in needs.items()]
    text = "apiVersion: aip/v1\nkind: Plan\nmetadata: {name: demo}\ntasks:\n" + "\n".join(rows)
    return parse(text.encode(), "plan.yaml")


@st.composite
def dags(draw: st.DrawFn) -> dict[str, list[str]]:
    count = draw(st.integers(1, 9))
    return {f"t{n}": [f"t{m}" for m in range(n) if draw(st.booleans())] for n in range(count)}


def longest(needs: Mapping[str, list[str]], weights: Mapping[str, float], name: str) -> float:
    """By its definition: the weight of a task and of the heaviest path to it."""
    return weights.get(name, 1.0) + max((longest(needs, weights, need) for need in needs[name]), default=0.0)


def test_the_critical_path_is_the_heaviest() -> None:
    plan = plan_of(DIAMOND)
    assert graph.critical_path(plan) == (["a", "b", "d", "e"], 4.0)
    assert graph.critical_path(plan, {"c": 5.0}) == (["a", "c", "d", "e"], 8.0)
    assert graph.first_ready(plan) == ["a"]
    assert graph.upward_ranks(plan, {"c": 5.0}) == {"a": 8.0, "b": 3.0, "c": 7.0, "d": 2.0, "e": 1.0}


@given(dags(), st.randoms(use_true_random=False))
def test_path_ranks_and_bound_agree_with_their_definitions(
    needs: dict[str, list[str]], rng: random.Random
) -> None:
    plan = plan_of(needs)
    weights = {name: rng.choice([0.5, 1.0, 2.0, 8.0]) for name in needs}
    path, length = graph.critical_path(plan, weights)
    assert (
        length == max(longest(needs, weights, name) for name in needs) == sum(weights[name] for name in path)
    )
    assert all(left in needs[right] for left, right in pairwise(path))
    ranks = graph.upward_ranks(plan, weights)
    assert all(
        ranks[need] >= ranks[name] + weights[need] for name, wanted in needs.items() for need in wanted
    )
    assert max(ranks.values()) == length
    assert graph.lower_bound(plan, weights, 1) == sum(weights.values())
    assert graph.lower_bound(plan, weights, 10**6) == length
    position = {name: n for n, name in enumerate(graph.order(needs))}
    assert all(position[need] < position[name] for name, wanted in needs.items() for need in wanted)


@given(dags(), st.data())
def test_a_cycle_is_found_exactly_if_there_is_one(needs: dict[str, list[str]], data: st.DataObject) -> None:
    assert graph.cycle(needs) == []
    late, early = data.draw(st.sampled_from([(a, b) for a in needs for b in needs if a >= b]))
    turned = {
        **needs,
        early: [*needs[early], late],
        late: [*needs[late], early] if late != early else [early],
    }
    ring = graph.cycle(turned)
    assert ring[0] == ring[-1]
    assert len(ring) > 1
    assert all(left in turned[right] for left, right in pairwise(ring))


def test_a_schedule_needs_a_slot() -> None:
    with pytest.raises(ValueError, match="at least one slot"):
        graph.lower_bound(plan_of(DIAMOND), None, 0)


def test_a_chain_of_20_000_is_no_danger() -> None:
    plan = plan_of({f"t{n}": [f"t{n - 1}"] if n else [] for n in range(20_000)})
    assert graph.critical_path(plan)[1] == 20_000
    assert graph.as_text(plan).count("\n") == 20_001


def test_the_drawings_leave_out_what_is_implied() -> None:
    plan = plan_of(DIAMOND)
    assert graph.as_text(plan).splitlines() == [
        "demo: 5 tasks, * is the critical path",
        "* └─ a: c",
        "*    ├─ b: c",
        "*    │  └─ d: c  (also after c)",
        "*    │     └─ e: c",
        "     └─ c: c",
    ]
    mermaid, dot = graph.as_mermaid(plan), graph.as_dot(plan)
    assert "  t_a ==> t_b\n" in mermaid
    assert "  t_a --> t_c\n" in mermaid
    assert "t_a --> t_e" not in mermaid
    assert '  "d" -> "e" [style=bold];\n' in dot
    assert '"a" -> "e"' not in dot
