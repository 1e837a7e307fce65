"""Configured agents and the names of a plan, on the real platform."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ray_kit import until

from aip.errors import PlanInvalid
from aip.governance import audit
from aip.ids import base_type

pytestmark = pytest.mark.ray

FOLDER = Path(__file__).parent / "agents_named"


def calls_of(platform, run):
    """Who called what on behalf of this run, as the audit log has it."""
    lines = audit.log_path(platform.home.audit).read_text().splitlines()
    entries = [json.loads(line) for line in lines if f'"{run}"' in line and '"messages"' in line]
    rows = [row for entry in entries for row in entry["detail"]["rows"]]
    return {(base_type(row[3]), row[5]) for row in rows}


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
    until(lambda: calls_of(platform, run) >= {("editor", "write"), ("run", "edit"), ("run", "buy")})


def test_a_configuration_that_does_not_fit_is_a_problem_of_the_plan(platform, tmp_path):
    text = (FOLDER / "plan.yaml").read_text().replace("{tone: harsh}", "{tone: [1]}")
    (tmp_path / "agents.py").write_text((FOLDER / "agents.py").read_text())
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(PlanInvalid) as caught:
        platform.submit(tmp_path / "plan.yaml", {})
    (problem,) = caught.value.details["problems"]
    assert problem["line"] == 8
    assert problem["message"].startswith("agents.harsh.config.tone ")
