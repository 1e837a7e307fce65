"""`agents.NAME.effects`: the connectors that a plan lets an agent use."""

from __future__ import annotations

import json

import jsonschema
import pytest

from aip.errors import PlanInvalid
from aip.orchestration.parse import parse
from aip.orchestration.parse.check_effects import unknown_connectors
from aip.orchestration.parse.vocabulary import CONNECTORS_MAX
from aip.orchestration.schema import plan_schema

PLAN = """apiVersion: aip/v1
kind: Plan
metadata: {{name: p}}
agents:
  clerk: {{use: 'm:A', effects: {effects}}}
tasks: {{t: {{agent: clerk, capability: c}}}}
"""


def granted(effects: object) -> tuple[str, ...]:
    return parse(PLAN.format(effects=json.dumps(effects)).encode(), "plan.yaml").agents["clerk"].effects


def test_an_agent_is_granted_what_its_entry_names_and_nothing_where_it_names_nothing() -> None:
    assert granted(["tickets", "mail-out"]) == ("tickets", "mail-out")
    assert granted([]) == ()
    silent = PLAN.replace(", effects: {effects}", "").format()
    assert parse(silent.encode(), "plan.yaml").agents["clerk"].effects == ()


@pytest.mark.parametrize(
    ("effects", "code"),
    [
        ("tickets", "plan.type"),
        ({"tickets": True}, "plan.type"),
        (["*"], "plan.value"),
        (["Tickets"], "plan.value"),
        (["tickets", "tickets"], "plan.duplicate"),
        ([3], "plan.type"),
        ([f"c{number}" for number in range(CONNECTORS_MAX + 1)], "plan.value"),
    ],
)
def test_what_is_no_list_of_connectors_is_refused_here_and_by_the_schema(effects: object, code: str) -> None:
    with pytest.raises(PlanInvalid) as caught:
        granted(effects)
    assert {problem["code"] for problem in caught.value.details["problems"]} == {code}
    plan = {
        "apiVersion": "aip/v1",
        "kind": "Plan",
        "metadata": {"name": "p"},
        "agents": {"clerk": {"use": "m:A", "effects": effects}},
        "tasks": {"t": {"agent": "clerk", "capability": "c"}},
    }
    assert not jsonschema.Draft202012Validator(plan_schema()).is_valid(plan)
    plan["agents"] = {"clerk": {"use": "m:A", "effects": ["tickets"]}}
    jsonschema.Draft202012Validator(plan_schema()).validate(plan)


def test_a_grant_of_a_connector_that_the_platform_has_not_is_told_with_the_nearest_name() -> None:
    plan = parse(PLAN.format(effects="[ticket, mail]").encode(), "plan.yaml")
    (found,) = unknown_connectors(plan, {"tickets", "mail"})
    assert (found.code, found.line, found.suggestion) == ("check.effects", 5, "did you mean `tickets`?")
    assert "`ticket`" in found.message
    assert len(list(unknown_connectors(plan, ()))) == 2
