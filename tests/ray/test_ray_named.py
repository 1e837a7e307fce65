"""Configured agents and the names of a plan, on the real platform."""

from __future__ import annotations

from pathlib import Path

import pytest

from aip.errors import PlanInvalid

pytestmark = pytest.mark.ray

FOLDER = Path(__file__).parent / "agents_named"


def test_agents_of_a_plan_reach_each_other_by_name_each_with_its_configuration(platform):
    run = platform.submit(FOLDER / "plan.yaml", {})
    *_, view = platform.watch(run)
    tasks = view["tasks"]
    assert tasks["edit"]["state"] == tasks["buy_again"]["state"] == tasks["after"]["state"] == "succeeded", (
        tasks
    )
    assert tasks["lost"]["error"]["message"] == "the plan of this run has no agent 'nobody'"
    assert "editor, harsh, plain, warm" in tasks["lost"]["error"]["hint"]
    assert view["spend"]["spent"]["tokens"] == 50


def test_a_configuration_that_does_not_fit_is_a_problem_of_the_plan(platform, tmp_path):
    text = (FOLDER / "plan.yaml").read_text().replace("{tone: harsh}", "{tone: [1]}")
    (tmp_path / "agents.py").write_text((FOLDER / "agents.py").read_text())
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(PlanInvalid) as caught:
        platform.submit(tmp_path / "plan.yaml", {})
    (problem,) = caught.value.details["problems"]
    assert problem["line"] == 8
    assert problem["message"].startswith("agents.harsh.config.tone ")
