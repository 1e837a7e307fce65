"""What `isolation: container` may stand beside in a plan, and what it may not."""

from __future__ import annotations

import pytest

from aip.compute.sandbox import SandboxLimits
from aip.errors import PlanInvalid
from aip.orchestration.parse import parse
from aip.orchestration.parse.vocabulary import ISOLATIONS, SANDBOX_MEMORY_BYTES_MIN
from aip.orchestration.plan import Isolation
from aip.orchestration.schema import plan_schema

HEAD = "apiVersion: aip/v1\nkind: Plan\nmetadata: {name: p}\ntasks: {t: {agent: a, capability: c}}\nagents:\n"


def plan(fields: str):
    return parse(f"{HEAD}  a: {{isolation: container, {fields}}}\n".encode(), "plan.yaml").agents["a"]


@pytest.mark.parametrize(
    "fields",
    [
        "use: 'm:A'",
        "use: 'installed.package:A', replicas: {min: 0, max: 3}, density: 9",
        "use: 'm:A', resources: {cpu: 0.5, memory: 128Mi}, config: {a: 1}, restart: {max: 2}",
    ],
)
def test_a_strangers_agent_may_be_put_in_a_container(fields):
    assert plan(fields).isolation is Isolation.CONTAINER


@pytest.mark.parametrize(
    ("fields", "column_of", "said", "fix"),
    [
        (
            "use: 'aip.models.llm_agent:LLMAgent'",
            "container",
            "AIP's own, and is trusted",
            "leave isolation out",
        ),
        (
            "use: 'm:A', runtime_env: {env_vars: {PYTHONPATH: x}}",
            "{env",
            "outside the sandbox",
            "leave it out",
        ),
        (
            "use: 'm:A', resources: {memory: 64Mi}",
            "64Mi",
            "less than a sandbox's interpreter",
            "128Mi or more",
        ),
        (
            "use: 'mcp://stdio/x', config: {allow: [x]}",
            "isolation",
            "a tool server is one process",
            "leave it out",
        ),
    ],
)
def test_what_a_container_cannot_hold_is_refused_with_the_place_and_the_fix(fields, column_of, said, fix):
    with pytest.raises(PlanInvalid) as told:
        plan(fields)
    (problem,) = told.value.details["problems"]
    assert said in problem["message"]
    assert fix in problem["suggestion"]
    line = f"  a: {{isolation: container, {fields}}}"
    assert problem["line"] == HEAD.count("\n") + 1
    assert line[problem["column"] - 1 :].startswith(column_of)


def test_the_least_memory_of_a_plan_is_the_least_of_a_sandbox():
    assert not SandboxLimits(memory_bytes=SANDBOX_MEMORY_BYTES_MIN).problems()
    assert SandboxLimits(memory_bytes=SANDBOX_MEMORY_BYTES_MIN - 1).problems()


def test_the_word_is_one_of_the_languages_own():
    assert set(ISOLATIONS) == {isolation.value for isolation in Isolation}
    assert "container" in plan_schema()["$defs"]["agent"]["properties"]["isolation"]["enum"]
