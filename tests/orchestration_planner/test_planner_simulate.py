"""A simulated run is a run of the real machine, never shorter than its bound and mostly not much longer."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planner_kit import plan_of, random_plan, taking

from aip.errors import UsageError
from aip.orchestration.planner import Measured, measure, weights
from aip.orchestration.planner.history import Estimate
from aip.orchestration.planner.simulate import Model, drawn, forecast, simulate

FAMILIES = ("random", "layered", "tree", "chains", "independent", "fork_join")
HEAD = "apiVersion: aip/v1\nkind: Plan\nmetadata: {name: p}\n"


def one(text: str, measured: Measured | None = None, inputs: dict[str, Any] | None = None) -> Any:
    return simulate(Model(plan_of(HEAD + text), measured or Measured(), inputs or {}), 1)


@settings(max_examples=40, deadline=None)
@given(family=st.sampled_from(FAMILIES), seed=st.integers(0, 10_000))
def test_no_simulated_run_beats_its_lower_bound(family: str, seed: int) -> None:
    plan, measured, _ = random_plan(family, seed)
    found = simulate(Model(plan, measured, {}), seed)
    assert found.outcome == "succeeded"
    assert found.makespan_s >= found.bound_s * (1 - 1e-9)


def test_an_agent_does_one_thing_at_a_time_so_its_replicas_bound_the_run() -> None:
    text = "agents: {a: {use: 'm:A', replicas: 2}}\ntasks: {t: {for_each: [1, 2, 3, 4, 5, 6], agent: a, capability: work}}\n"
    found = one(text, taking(work=10.0))
    assert found.makespan_s == pytest.approx(30.0)
    assert found.bound_s == pytest.approx(30.0)
    assert found.busy_s["a"] == pytest.approx(60.0)


def test_workers_take_the_place_of_the_plans_slots() -> None:
    text = "agents: {a: {use: 'm:A', replicas: 6}}\ntasks: {t: {for_each: [1, 2, 3, 4, 5, 6], agent: a, capability: work}}\n"
    plan = plan_of(HEAD + text)
    spans = [
        forecast(plan, taking(work=10.0), runs=1, seed=1, workers=workers).makespan_p50_s
        for workers in (1, 3, 6)
    ]
    assert spans == pytest.approx([60.0, 20.0, 10.0])
    with pytest.raises(UsageError, match="at least one worker"):
        forecast(plan, Measured(), runs=1, seed=1, workers=0)


def test_the_inputs_decide_sizes_and_conditions_where_they_can() -> None:
    text = (
        "inputs: {xs: {type: array}, deep: {type: boolean}}\nagents: {a: {use: 'm:A'}}\ntasks:\n"
        '  t: {for_each: "${{ inputs.xs }}", agent: a, capability: work}\n'
        '  u: {if: "${{ inputs.deep }}", needs: [t], agent: a, capability: work}\n'
    )
    assert one(text, taking(work=1.0), {"xs": [1, 2, 3], "deep": False}).makespan_s == pytest.approx(3.0)
    assert one(text, taking(work=1.0), {"xs": [1, 2, 3], "deep": True}).makespan_s == pytest.approx(4.0)


def test_a_budget_that_runs_out_leaves_the_simulated_run_paused() -> None:
    measured = taking(work=1.0)
    spent = Estimate()
    spent.add(60)
    measured.costs["m:A", "work"] = {"tokens": spent}
    text = (
        "limits: {budget: {tokens: 100}, concurrency: 1}\nagents: {a: {use: 'm:A'}}\n"
        "tasks: {t: {for_each: [1, 2, 3, 4], agent: a, capability: work}}\n"
    )
    found = one(text, measured)
    assert found.outcome == "paused"
    assert found.cost == {"tokens": 120}


def test_an_attempt_longer_than_its_timeout_is_ended_and_tried_again_as_in_a_run() -> None:
    text = (
        "agents: {a: {use: 'm:A'}}\ntasks:\n  t: {agent: a, capability: work, timeout: 5s, "
        "retry: {attempts: 2, backoff: {initial: 1s, jitter: 0}}}\n"
    )
    found = one(text, taking(work=60.0))
    assert found.outcome == "failed"
    assert found.makespan_s == pytest.approx(11.0)


def test_votes_and_gates_are_simulated_and_what_is_assumed_is_named() -> None:
    text = (
        "agents: {a: {use: 'm:A', replicas: 3}}\ntasks:\n"
        "  v: {agent: a, capability: judge, assign: {mode: vote, voters: 3, quorum: 2}}\n"
        "  g: {needs: [v], gate: {question: 'go?'}}\n  t: {needs: [g], agent: a, capability: work, timeout: 20s}\n"
    )
    found = forecast(plan_of(HEAD + text), taking(judge=4.0), runs=5, seed=1)
    assert found.outcomes == {"succeeded": 5}
    assert any("t takes 2 s" in line for line in found.assumed)
    assert any("g is approved at once" in line for line in found.assumed)
    assert not any(line.startswith("v ") for line in found.assumed)


def test_equal_seeds_give_equal_forecasts() -> None:
    plan, _, _ = random_plan("random", 3)
    assert forecast(plan, Measured(), runs=5, seed=9) == forecast(plan, Measured(), runs=5, seed=9)
    assert forecast(plan, Measured(), runs=5, seed=9) != forecast(plan, Measured(), runs=5, seed=10)


@settings(max_examples=30, deadline=None)
@given(mean=st.floats(0.01, 100), share=st.floats(0.01, 1.0))
def test_drawn_times_have_the_mean_that_was_measured(mean: float, share: float) -> None:
    estimate, rng = Estimate(mean, (mean * share) ** 2, 9), random.Random(1)
    times = [drawn(estimate, rng) for _ in range(4_000)]
    assert min(times) > 0
    assert sum(times) / len(times) == pytest.approx(mean, rel=0.1)


def test_history_counts_service_and_not_the_wait_for_a_busy_replica() -> None:
    plan = plan_of(
        HEAD + "agents: {a: {use: 'm:A'}}\ntasks: {t: {for_each: [1, 2], agent: a, capability: work}}\n"
    )
    events = [
        {"event": "map_expanded", "at_s": 0.0, "task": "t", "count": 2},
        {"event": "attempt_started", "at_s": 0.0, "task": "t", "unit": 0, "lease": 1, "replica": 0},
        {"event": "attempt_started", "at_s": 0.0, "task": "t", "unit": 1, "lease": 2, "replica": 0},
        {"event": "attempt_succeeded", "at_s": 5.0, "lease": 1, "spent": {"tokens": 10}},
        {"event": "attempt_succeeded", "at_s": 10.0, "lease": 2, "spent": {"tokens": 30}},
    ]
    found = measure([(plan, events)])
    assert found.seconds["m:A", "work"].mean == pytest.approx(5.0)
    assert found.costs["m:A", "work"]["tokens"].mean == pytest.approx(20.0)
    assert found.items["t"].mean == 2


# One long task with nothing behind it, and a chain of short ones: by tasks the chain goes first, and the long one comes last.
MISLEADING = (
    "limits: {concurrency: 2}\nagents: {a: {use: 'm:A', replicas: 9}}\ntasks:\n"
    "  s1: {agent: a, capability: short}\n  s2: {agent: a, capability: short, needs: [s1]}\n"
    "  s3: {agent: a, capability: short, needs: [s2]}\n  s4: {agent: a, capability: short, needs: [s3]}\n"
    "  u1: {agent: a, capability: short}\n  u2: {agent: a, capability: short, needs: [u1]}\n"
    "  u3: {agent: a, capability: short, needs: [u2]}\n  u4: {agent: a, capability: short, needs: [u3]}\n"
    "  deep: {agent: a, capability: long}\n"
)


def test_a_plan_whose_task_counts_mislead_ends_at_its_bound_once_it_was_measured() -> None:
    plan, measured = plan_of(HEAD + MISLEADING), taking(short=1.0, long=8.0)
    model = Model(plan, measured, {})
    first = simulate(model, 1)
    again = simulate(model, 1, weights(plan, measured, {}))
    assert (first.makespan_s, again.makespan_s) == pytest.approx((12.0, 8.0))
    assert again.makespan_s == pytest.approx(again.bound_s)


def test_a_task_that_nobody_measured_weighs_what_the_others_do_and_not_its_timeout() -> None:
    text = MISLEADING + "  new: {agent: a, capability: fresh, timeout: 1h}\n"
    found = weights(plan_of(HEAD + text), taking(short=1.0, long=9.0), {})
    assert found is not None
    assert found["new"] == pytest.approx((8 * 1.0 + 9.0) / 9)
    assert weights(plan_of(HEAD + text), Measured(), {}) is None
    assert weights(plan_of(HEAD + text), taking(other=1.0), {}) is None
