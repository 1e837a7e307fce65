"""Two plans side by side, and what a half-done run would do again."""

from __future__ import annotations

import pytest
from planner_kit import plan_of

from aip.orchestration.planner import difference, runs_again

BASE = """\
apiVersion: aip/v1
kind: Plan
metadata: {name: p}
agents: {x: {use: "m:X"}, y: {use: "m:Y"}}
tasks:
  a: {agent: x, capability: work, with: {n: 1}}
  b: {agent: y, capability: work, with: {n: "${{ tasks.a.output }}"}}
  c: {agent: x, capability: work, needs: [b]}
  d: {agent: x, capability: work}
outputs: {all: "${{ tasks.c.output }}"}
"""
ALL = ("a", "b", "c", "d")


def test_layout_comments_and_written_out_defaults_are_no_difference() -> None:
    other = "# a comment\n" + BASE.replace("with: {n: 1}", "when: all_ok, with:  {n:  1}")
    found = difference(plan_of(BASE), plan_of(other))
    assert not found
    assert runs_again(plan_of(BASE), plan_of(other), ALL) == ()


@pytest.mark.parametrize(
    ("old", "new", "keys", "again"),
    [
        ("with: {n: 1}", "with: {n: 2}", {"a": ("with",)}, ("a", "b", "c")),
        ("with: {n: 1}", "with: {n: 1}, timeout: 5s", {"a": ("timeout",)}, ()),
        ("needs: [b]", "needs: [b], if: true", {"c": ("if",)}, ("c",)),
        ("{agent: x, capability: work}", "{agent: x, capability: rest}", {"d": ("capability",)}, ("d",)),
    ],
)
def test_a_task_runs_again_if_what_it_does_has_changed_and_so_does_all_behind_it(
    old: str, new: str, keys: dict[str, tuple[str, ...]], again: tuple[str, ...]
) -> None:
    before, after = plan_of(BASE), plan_of(BASE.replace(old, new))
    assert dict(difference(before, after).tasks.changed) == keys
    assert sorted(runs_again(before, after, ALL)) == sorted(again)


def test_what_was_not_finished_runs_whatever_changed() -> None:
    assert sorted(runs_again(plan_of(BASE), plan_of(BASE), ["a"])) == ["b", "c", "d"]


def test_added_and_removed_tasks_take_their_edges_with_them() -> None:
    other = BASE.replace(
        "  d: {agent: x, capability: work}\n", "  e: {agent: x, capability: work, needs: [c]}\n"
    )
    found = difference(plan_of(BASE), plan_of(other))
    assert (found.tasks.added, found.tasks.removed) == (("e",), ("d",))
    assert found.edges_added == (("c", "e"),)
    assert found.edges_removed == ()


def test_other_code_of_an_agent_makes_its_tasks_run_again_and_more_replicas_do_not() -> None:
    code, replicas = BASE.replace("m:Y", "m:Z"), BASE.replace('use: "m:Y"', 'use: "m:Y", replicas: 4')
    assert runs_again(plan_of(BASE), plan_of(code), ALL) == ("b", "c")
    assert set(difference(plan_of(BASE), plan_of(replicas)).agents.changed["y"]) == {
        "replicas.min",
        "replicas.max",
    }
    assert runs_again(plan_of(BASE), plan_of(replicas), ALL) == ()


def test_settings_of_the_whole_plan_are_named_by_their_keys() -> None:
    other = BASE.replace("metadata: {name: p}", "metadata: {name: q, labels: {a: b}}\nlimits: {deadline: 1h}")
    assert set(difference(plan_of(BASE), plan_of(other)).settings) == {
        "metadata.name",
        "metadata.labels",
        "limits.deadline",
    }
