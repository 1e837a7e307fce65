"""An agent that plans on the real platform: tasks it adds, parts of its budget it hands on."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray_kit import kill9, pids, until

pytestmark = pytest.mark.ray

FOLDER = Path(__file__).parent / "agents_dynamic"


def last(views):
    *_, view = views
    return view


def test_tasks_that_an_agent_adds_are_run_and_those_that_wait_for_it_see_them(platform, tmp_path):
    view = last(platform.watch(platform.submit(FOLDER / "book.yaml", {"folder": str(tmp_path)})))
    assert view["outputs"] == {"book": "chapter 0 / chapter 1 / chapter 2 / the end"}
    assert view["tasks"]["part_1"]["state"] == "succeeded"
    assert view["tasks"]["part_1"]["position"].startswith("added by plan:")


def test_what_was_added_outlives_the_runs_process(platform, tmp_path):
    run = platform.submit(FOLDER / "book.yaml", {"folder": str(tmp_path), "chapters": 6})
    until((tmp_path / "planned").exists)
    kill9(pids(platform)[f"run-{run}"])
    view = last(platform.watch(run))
    assert view["state"] == "succeeded"
    assert view["outputs"]["book"].count("chapter") == 6
    assert set((tmp_path / "drafts").read_text().split()) == {str(n) for n in range(6)}


def test_a_capability_that_nobody_has_is_refused_where_it_is_added(platform):
    view = last(platform.watch(platform.submit(FOLDER / "wrong.yaml", {})))
    assert view["state"] == "failed"
    assert "drift" in str(view["tasks"]["plan"]["error"])
    assert list(view["tasks"]) == ["plan"]


def test_a_part_of_the_budget_holds_a_child_in_another_process(platform):
    run = platform.submit(FOLDER / "split.yaml", {"limit": 500, "costs": [300, 300, 200]})
    view = last(platform.watch(run))
    assert view["outputs"] == {"ends": ["thought", "refused.budget", "thought"]}
    assert view["spend"]["spent"]["tokens"] == 500


def test_a_result_whose_time_is_over_after_the_run_is_let_go(platform):
    run = platform.submit(FOLDER / "passing.yaml", {})
    assert last(platform.watch(run))["state"] == "succeeded"
    journal = platform.home.runs / run / "journal"
    until(lambda: any(b"output_expired" in part.read_bytes() for part in journal.iterdir()), 60)
    assert last(platform.watch(run))["state"] == "succeeded"
