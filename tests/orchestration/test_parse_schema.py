"""The JSON Schema for editors: valid itself, as wide as `parse` where it must be, as strict where it can."""

from __future__ import annotations

import jsonschema
import pytest
import yaml
from test_parse import AGENTS, HEAD, INPUTS, MISTAKES, WHOLE

from aip.errors import PlanInvalid
from aip.orchestration.parse import parse
from aip.orchestration.schema import plan_schema

VALIDATOR = jsonschema.Draft202012Validator(plan_schema())

# What a schema cannot see: names, expressions, arithmetic between values, and YAML itself.
BEYOND_A_SCHEMA = (
    "plan.unknown_agent",
    "plan.unknown_task",
    "plan.unknown_reference",
    "plan.voters",
    "plan.default",
    "plan.duplicate",
    "plan.secret",
    "plan.unknown_label",
    "plan.cycle",
    "expression",
    "yaml",
)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(plan_schema())


@pytest.mark.parametrize(
    "text", [WHOLE.replace("on: yes", "on_: 'yes'"), HEAD + AGENTS + INPUTS + "tasks: {x: {capability: c}}"]
)
def test_what_parse_takes_the_schema_takes(text: str) -> None:
    parse(text.encode(), "plan.yaml")
    document = yaml.load(text.replace(" on:", " 'on':").replace("{on:", "{'on':"), yaml.CSafeLoader)
    assert [error.message for error in VALIDATOR.iter_errors(document)] == []


@pytest.mark.parametrize(
    "row",
    [row for row in MISTAKES if not row[1].startswith(BEYOND_A_SCHEMA)],
    ids=lambda row: row[0].strip()[:60],
)
def test_what_the_schema_can_see_it_refuses_too(row: tuple[str, str, str, str, str]) -> None:
    text = HEAD + AGENTS + "tasks:\n" + row[0]
    with pytest.raises(PlanInvalid):
        parse(text.encode(), "plan.yaml")
    unseen = (
        "longer than",
        "mode: vote only",
        "already",
        "whose replicas",
        "voters is missing",
        "1 to 3",
        "a ${{",
        "('",
        "cannot be a name",
        "yes",
        "1.2345678",
        "a task already",
        "finds the agent",
        "how votes weigh",
        "weights and weight",
        "count one each",
        "is work",
        "for_each: [1], max_parallel: 3",
        "at most 3600s",
    )
    if not any(words in row[3] + row[0] for words in unseen):
        assert not VALIDATOR.is_valid(
            yaml.load(text.replace(" on:", " 'on':").replace("{on:", "{'on':"), yaml.CSafeLoader)
        )


def test_every_key_has_hover_text() -> None:
    schema = plan_schema()
    bare = [key for key, value in schema["properties"].items() if not value.get("description")]
    bare += [
        key
        for one in ("agent", "task", "retry", "input")
        for key, value in schema["$defs"][one]["properties"].items()
        if not value.get("description")
    ]
    assert bare == []
