"""Plans that run plans, on the real platform."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray_kit import kill9, pids, until

from aip.errors import PlanInvalid

pytestmark = pytest.mark.ray

FOLDER = Path(__file__).parent / "agents_nested"


def last(views):
    *_, view = views
    return view


def children(platform, run):
    return [
        child["run"] for child in platform.runs() if child["run"] != run and child["run"][:12] == run[:12]
    ]


def test_a_task_is_a_run_of_another_plan_and_its_outputs_are_the_result(platform, tmp_path):
    run = platform.submit(FOLDER / "book.yaml", {"titles": ["one", "two"], "folder": str(tmp_path)})
    view = last(platform.watch(run))
    assert view["outputs"] == {"texts": [{"text": "ONE"}, {"text": "TWO"}]}
    assert len(children(platform, run)) == 2


def test_a_parent_that_dies_takes_its_children_up_again(platform, tmp_path):
    given = {"titles": ["one", "two"], "folder": str(tmp_path), "seconds": 3.0}
    run = platform.submit(FOLDER / "book.yaml", given)
    until((tmp_path / "marks").exists)
    kill9(pids(platform)[f"run-{run}"])
    view = last(platform.watch(run))
    assert view["outputs"] == {"texts": [{"text": "ONE"}, {"text": "TWO"}]}
    assert sorted((tmp_path / "marks").read_text().split()) == ["one", "two"]


def test_the_error_of_a_child_is_the_error_of_its_task(platform, tmp_path):
    view = last(
        platform.watch(platform.submit(FOLDER / "book.yaml", {"titles": ["bad"], "folder": str(tmp_path)}))
    )
    assert view["state"] == "failed"
    assert "a bad title" in view["error"]["message"]


def cells_of(platform):
    return {name: pid for name, pid in pids(platform).items() if name.startswith("cell-")}


@pytest.mark.parametrize("end", ["cancel", "kill"])
def test_a_child_ends_with_its_parent(platform, tmp_path, end):
    run = platform.submit(FOLDER / "book.yaml", {"titles": ["one"], "folder": str(tmp_path), "seconds": 60.0})
    until((tmp_path / "marks").exists)
    (child,) = children(platform, run)
    cells = cells_of(platform)
    if end == "cancel":
        platform.cancel(run, "enough")
    else:
        platform.kill(f"run/{run}", "enough")
    wanted = {"cancel": "cancelled", "kill": "killed"}[end]
    assert last(platform.watch(run))["state"] == wanted
    until(lambda: platform.run(child)["state"] == wanted)
    if end == "kill":
        until(
            lambda: cells_of(platform) != cells
        )  # Its thread sleeps on, so its cell is ended, and its neighbours with it (K2).


def test_a_child_spends_what_its_task_was_given_and_no_more(platform):
    view = last(platform.watch(platform.submit(FOLDER / "spender.yaml", {"tokens": 40})))
    assert (view["outputs"], view["spend"]["spent"]["tokens"]) == ({"bought": 40}, 40)
    view = last(platform.watch(platform.submit(FOLDER / "spender.yaml", {"tokens": 60})))
    assert view["state"] == "failed"
    assert view["error"]["code"].startswith("refused.budget")


def test_what_a_child_spent_is_gone_for_its_parents_other_tasks(platform):
    view = last(platform.watch(platform.submit(FOLDER / "sharer.yaml", {})))
    assert view["tasks"]["shop"]["state"] == "succeeded"
    assert view["error"]["code"].startswith("refused.budget"), "40 of 100 are spent: 70 are too many"
    assert view["spend"]["spent"]["tokens"] == 40


def test_a_plan_that_runs_itself_or_nothing_is_refused_with_its_line(platform, tmp_path):
    for name, message in (("me.yaml", "leads back to itself"), ("other.yaml", "there is no plan")):
        text = (FOLDER / "spender.yaml").read_text().replace("./shop.yaml", f"./{name}")
        (tmp_path / "me.yaml").write_text(text)
        with pytest.raises(PlanInvalid) as caught:
            platform.submit(tmp_path / "me.yaml", {"tokens": 1})
        (problem,) = caught.value.details["problems"]
        assert message in problem["message"]
        assert problem["line"] == 7
