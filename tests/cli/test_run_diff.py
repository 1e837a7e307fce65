"""Two runs side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st
from platform_double import T0, Double, run_view

from aip.cli.run_diff import MISSING, compared, differences, digest, opener, told
from aip.orchestration.artifact import ArtifactStore
from aip.runtime import codec
from aip.settings import Home

Type = Callable[..., Result]


def journal(
    *,
    plan: str = "d",
    find: Any = (1, 2),
    read: Any = "x",
    took_s: float = 2,
    state: str = "succeeded",
    **more: Any,
) -> list[dict[str, Any]]:
    """A chain of two tasks; what is not said is as in every other run of it."""
    events: list[dict[str, Any]] = [
        {"event": "run_accepted", "plan_digest": plan, "inputs": more.get("inputs", {"topic": "bees"})},
        {"event": "run_moved", "state": "running"},
        {"event": "task_ready", "task": "find", "units": 1},
        start("find", 1, 1),
        {
            "event": "attempt_succeeded",
            "lease": 1,
            "value": list(find),
            "spent": more.get("spent", {"tokens": 5}),
        },
        {"event": "task_ended", "task": "find", "state": "succeeded"},
        {"event": "task_ready", "task": "read", "units": 1},
        start("read", 2, 1, arguments=more.get("arguments", "aa")),
        {"event": "attempt_succeeded", "lease": 2, "value": read, "spent": {}},
        {"event": "task_ended", "task": "read", "state": "succeeded"},
        {"event": "run_finished", "state": state, "outputs": more.get("outputs"), "error": None},
    ]
    return [{**event, "at_s": T0 + number * took_s} for number, event in enumerate(events)]


def start(task: str, lease: int, attempt: int, arguments: str = "aa", unit: int = 0) -> dict[str, Any]:
    return {
        "event": "attempt_started",
        "task": task,
        "unit": unit,
        "attempt": attempt,
        "lease": lease,
        "replica": 0,
        "arguments_sha256": arguments,
    }


def diff(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> dict[str, Any]:
    return compared(told("r-a", a), told("r-b", b))


# Outcomes


@pytest.mark.parametrize(
    "other",
    [{"took_s": 50}, {"spent": {"tokens": 900}}, {"plan": "e"}],
    ids=["slower", "dearer", "another plan"],
)
def test_runs_that_came_to_the_same_by_another_way_are_the_same(other: dict[str, Any]) -> None:
    found = diff(journal(), journal(**other))
    assert found["same_outcome"]
    assert found["first_divergence"] is None


@pytest.mark.parametrize(
    "other",
    [{"read": "y"}, {"find": (1, 3)}, {"state": "failed"}, {"outputs": {"url": 1}}],
    ids=["last task", "first task", "state", "outputs"],
)
def test_runs_that_came_to_something_else_differ(other: dict[str, Any]) -> None:
    assert not diff(journal(), journal(**other))["same_outcome"]


def test_the_plan_and_the_inputs_are_compared_too() -> None:
    found = diff(journal(), journal(plan="e", inputs={"topic": "wasps"}))
    assert not found["same_plan"]
    assert found["inputs"] == {"same": False, "differences": [{"path": "$.topic", "a": "bees", "b": "wasps"}]}


def test_each_task_tells_state_attempts_time_and_spending_of_both() -> None:
    row = diff(journal(), journal(took_s=4))["tasks"][0]
    assert (row["task"], row["same"]) == ("find", True)
    assert (row["a"]["took_s"], row["b"]["took_s"]) == (4.0, 8.0)
    assert (row["a"]["attempts"], row["a"]["spent"]) == (1, {"tokens": 5})
    assert row["a"]["output_sha256"] == row["b"]["output_sha256"]


# Where they part


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"read": "y"}, {"task": "read", "unit": 0, "why": "same arguments, another result"}),
        ({"arguments": "bb", "read": "y"}, {"task": "read", "unit": 0, "why": "other arguments"}),
        (
            {"find": (1, 3), "arguments": "bb", "read": "y"},
            {"task": "find", "unit": 0, "why": "same arguments, another result"},
        ),
    ],
)
def test_the_first_divergence_is_the_earliest_task_and_says_whose_it_is(other: Any, expected: Any) -> None:
    assert diff(journal(), journal(**other))["first_divergence"] == expected


def test_a_task_that_only_one_run_has_is_a_divergence() -> None:
    shorter = [event for event in journal() if event.get("task") != "read" and event.get("lease") != 2]
    assert diff(journal(), shorter)["first_divergence"] == {"task": "read", "why": "only in r-a"}


def test_a_gate_that_was_decided_otherwise_is_a_divergence() -> None:
    def gate(decision: str) -> list[dict[str, Any]]:
        asked = {"event": "task_ready", "task": "ok", "units": 0, "at_s": T0}
        decided = {"event": "gate_decided", "task": "ok", "decision": decision, "at_s": T0}
        return [
            *journal(),
            asked,
            decided,
            {"event": "task_ended", "task": "ok", "state": "succeeded", "at_s": T0},
        ]

    assert diff(gate("approve"), gate("deny"))["first_divergence"] == {
        "task": "ok",
        "why": "decided otherwise",
    }


def test_a_retry_by_a_person_counts_by_its_last_generation() -> None:
    first = journal(read="y")
    again = [
        {"event": "run_retried", "task": "read", "by": "user:ada", "at_s": T0 + 90},
        *({**event, "at_s": T0 + 91} for event in journal()[6:]),
    ]
    found = diff(journal(), [*first, *again])
    assert found["same_outcome"]


def test_the_platforms_own_crash_is_no_attempt() -> None:
    events = journal()
    fenced = [{**start("find", 9, 1), "at_s": T0}, {"event": "attempt_fenced", "lease": 9, "at_s": T0}]
    events[3:3] = fenced
    assert told("r-a", events).tasks["find"].attempts == 1


# Values


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (1, 1, []),
        ({"x": 1}, {"x": 1, "y": 2}, [{"path": "$.y", "b": 2}]),
        ({"x": [1, {"z": 0}]}, {"x": [1, {"z": None}]}, [{"path": "$.x[1].z", "a": 0, "b": None}]),
        ([1, 2], [1], [{"path": "$[1]", "a": 2}]),
        (1, 1.5, [{"path": "$", "a": 1, "b": 1.5}]),
        ({"x": 1}, [1], [{"path": "$", "a": {"x": 1}, "b": [1]}]),
    ],
)
def test_differences_name_their_place(a: Any, b: Any, expected: list[Any]) -> None:
    assert list(differences(a, b)) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(JSON, JSON)
def test_values_differ_somewhere_exactly_if_their_digests_do(a: Any, b: Any) -> None:
    assert bool(list(differences(a, b))) == (digest(a) != digest(b))


def test_no_value_is_not_null() -> None:
    assert digest(MISSING) != digest(None)


def test_artifacts_are_compared_by_hash_and_opened_to_say_where(home: Home) -> None:
    store = ArtifactStore(home.artifacts)

    def large(last: int) -> dict[str, Any]:
        ref = store.put(codec.encode({"rows": [*range(2_000), last]}))
        return {"sha256": ref.sha256, "size_bytes": ref.size_bytes}

    a, b = told("r-a", journal(read=large(1))), told("r-b", journal(read=large(2)))
    found = compared(a, b, opener(home))
    assert found["tasks"][1]["differences"] == [{"path": "$.rows[2000]", "a": 1, "b": 2}]
    assert compared(a, told("r-c", journal(read=large(1))), opener(home))["same_outcome"]


def test_an_artifact_that_is_gone_stays_its_reference(home: Home) -> None:
    gone = {"sha256": "0" * 64, "size_bytes": 9}
    assert opener(home)(gone) == gone


# As it is typed


@pytest.fixture
def two_runs(platform: Double) -> Double:
    platform.views = {"r-01a": [run_view("r-01a", "succeeded")], "r-01b": [run_view("r-01b", "succeeded")]}
    kept = {"r-01a": journal(), "r-01b": journal(read="\x1b[31my")}

    def events(run_id: str, after: int = 0, follow: bool = False) -> Iterator[dict[str, Any]]:
        return iter(kept[run_id][after:])

    platform.events = events  # type: ignore[method-assign]
    return platform


@pytest.mark.usefixtures("two_runs")
def test_runs_with_another_outcome_exit_with_1(typed: Type) -> None:
    result = typed("run diff r-01a r-01b -o json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["first_divergence"]["task"] == "read"


@pytest.mark.usefixtures("two_runs")
def test_a_person_sees_the_tasks_the_difference_and_the_cause(typed: Type) -> None:
    result = typed("run diff r-01a r-01b")
    assert "plan     same" in result.stdout
    assert "differs" in next(line for line in result.stdout.splitlines() if line.startswith("read "))
    assert "they part at read: same arguments, another result" in result.stderr
    assert "\x1b" not in result.output


@pytest.mark.usefixtures("two_runs")
def test_a_run_is_the_same_as_itself(typed: Type) -> None:
    result = typed("run diff last last")
    assert result.exit_code == 0
    assert "same outcome" in result.stderr
