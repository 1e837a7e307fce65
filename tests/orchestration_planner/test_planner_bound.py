"""The lower bound is one: no schedule beats it, and where a plan has waists it is close to the best there is."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planner_kit import edges_of, plan_of, random_plan, taking

from aip.orchestration.planner.bound import Work, lower_bound, pieces, pigeonhole
from aip.orchestration.planner.simulate import Model, simulate

TASKS_MAX = 6  # 720 orders.
LPT_RATIO = 4 / 3 - 1 / 6  # Longest first on two slots is never worse, where nothing waits (Graham, 1969).
Needs = Sequence[Sequence[int]]


def optimum(needs: Needs, took_s: Sequence[float], slots: int) -> float:
    """The shortest of all schedules: each starts its tasks in some order, each task as soon as it can."""
    found = float("inf")
    for order in permutations(range(len(took_s))):
        free, ends, last = [0.0] * slots, dict[int, float](), 0.0
        for task in order:
            if any(need not in ends for need in needs[task]):
                break
            slot = free.index(min(free))
            starts = max(free[slot], last, *(ends[need] for need in needs[task]), 0.0)
            free[slot] = ends[task] = starts + took_s[task]
            last = starts
        else:
            found = min(found, max(ends.values(), default=0.0))
    return found


def bound(needs: Needs, took_s: Sequence[float], slots: int) -> float:
    names = [f"t{number}" for number in range(len(took_s))]
    work = {name: Work(one, [one]) for name, one in zip(names, took_s, strict=True)}
    edges = {name: [names[need] for need in wanted] for name, wanted in zip(names, needs, strict=True)}
    return lower_bound(edges, work, slots, {})


@st.composite
def plans(draw: st.DrawFn) -> tuple[Needs, list[float]]:
    size = draw(st.integers(1, TASKS_MAX))
    needs = [
        draw(st.lists(st.integers(0, number - 1), unique=True)) if number else [] for number in range(size)
    ]
    return needs, draw(st.lists(st.integers(0, 9).map(float), min_size=size, max_size=size))


@settings(max_examples=60, deadline=None)
@given(plan=plans(), slots=st.integers(1, 3))
def test_no_schedule_whatever_beats_the_bound(plan: tuple[Needs, list[float]], slots: int) -> None:
    needs, took_s = plan
    assert bound(needs, took_s, slots) <= optimum(needs, took_s, slots) + 1e-9


@pytest.mark.parametrize(
    ("needs", "took_s", "slots", "least"),
    [
        ([[], [], []], [1, 1, 1], 2, 2),  # Three of one second on two slots: one slot does two.
        ([[], [], [], [], []], [4, 3, 3, 2, 2], 2, 7),  # The mean.
        ([[], [0], [1]], [1, 2, 3], 4, 6),  # The chain.
        ([[], [0], [0], [0], [1, 2, 3]], [1, 2, 2, 2, 1], 2, 6),  # A waist before and behind three.
        ([[], [0], [0], [1, 2], [3], [3], [3]], [1, 1, 1, 1, 2, 2, 2], 2, 7),  # Two bellies.
        ([], [], 2, 0),
    ],
)
def test_phases_and_what_shares_a_slot_are_seen(
    needs: Needs, took_s: Sequence[float], slots: int, least: float
) -> None:
    assert bound(needs, took_s, slots) == pytest.approx(least)
    assert optimum(needs, took_s, slots) == pytest.approx(least) if took_s else True


def test_a_plan_is_cut_at_tasks_that_all_others_come_before_or_after() -> None:
    edges = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c", "a"], "e": ["d"], "f": ["d"]}
    assert [sorted(piece) for piece in pieces(edges)] == [["a"], ["b", "c"], ["d"], ["e", "f"]]
    edges["g"] = ["a"]  # Beside `d`: it is no waist any more.
    assert [sorted(piece) for piece in pieces(edges)] == [["a"], ["b", "c", "d", "e", "f", "g"]]


def test_an_agents_replicas_bound_a_piece_as_slots_do() -> None:
    work = {name: Work(2.0, [2.0], "slow") for name in "abc"}
    edges: dict[str, list[str]] = {name: [] for name in "abc"}
    assert lower_bound(edges, work, 8, {"slow": 1}) == pytest.approx(6.0)
    assert lower_bound(edges, work, 8, {"slow": 2}) == pytest.approx(4.0)


def test_what_did_not_run_binds_nobody() -> None:
    edges = {"slow": [], "skipped": ["slow"], "last": ["skipped"]}
    assert lower_bound(edges, {"slow": Work(5.0, [5.0]), "last": Work(1.0, [1.0])}, 2, {}) == pytest.approx(
        5.0
    )


def test_a_hundred_thousand_units_are_no_danger() -> None:
    assert pigeonhole([1.0] * 100_000, 1) == pytest.approx(100_000.0)


# How good the schedule is, told apart from how good the bound is


@pytest.mark.parametrize("family", ["random", "layered", "tree", "independent"])
def test_ranked_by_durations_a_small_plan_ends_near_the_best_schedule_there_is(family: str) -> None:
    ratios = []
    for seed in range(12):
        rng = random.Random(seed)
        needs = edges_of(family, TASKS_MAX, rng)
        took_s = [rng.lognormvariate(0, 0.7) for _ in needs]
        ratios.append(_listed(needs, took_s, 2) / optimum(needs, took_s, 2))
    assert statistics.median(ratios) <= 1.05
    assert max(ratios) <= LPT_RATIO, ratios


def _listed(needs: Needs, took_s: Sequence[float], slots: int) -> float:
    """The makespan on the machine that executes runs."""
    lines = [f"limits: {{concurrency: {slots}}}\nagents: {{a: {{use: 'm:A', replicas: {slots}}}}}\ntasks:"]
    for number, wanted in enumerate(needs):
        names = ", ".join(f"t{need}" for need in wanted)
        lines.append(f"  t{number}: {{agent: a, capability: w{number}, needs: [{names}]}}")
    plan = plan_of("apiVersion: aip/v1\nkind: Plan\nmetadata: {name: p}\n" + "\n".join(lines))
    model = Model(plan, taking(**{f"w{number}": one for number, one in enumerate(took_s)}), {})
    return simulate(model, 1, model.weights()).makespan_s


@pytest.mark.parametrize("family", ["random", "layered", "tree", "chains", "independent", "fork_join"])
def test_every_family_ends_within_a_tenth_of_its_bound(family: str) -> None:
    ratios = []
    for seed in range(30):
        plan, measured, _ = random_plan(family, seed)
        model = Model(plan, measured, {})
        found = simulate(model, seed, model.weights())
        ratios.append(found.makespan_s / found.bound_s)
    assert statistics.median(ratios) <= 1.05, ratios
    assert max(ratios) <= 1.1, ratios
