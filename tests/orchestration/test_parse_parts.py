"""Agents that are configured: what a plan hands to a class, and its models and tools, which are agents too."""

from __future__ import annotations

from typing import Any

import click
import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from test_parse import AGENTS, HEAD, plan_of, problems_of

from aip.cli.key_value import AMOUNT
from aip.orchestration.parse import check, parse, render
from aip.orchestration.parse.units import usd_micro
from aip.orchestration.plan import Isolation
from aip.orchestration.schema import plan_schema

TASK = "tasks:\n  x: {agent: a, capability: c}\n"
MODEL = "base_url: 'http://127.0.0.1:8000/v1', model: small-1"
WRITER = f"""\
models:
  writer:
    {{{MODEL}, api_key: secret:WRITER_KEY, prices: {{input: 0.15, output: '0.60'}}, timeout: 1m, idle_timeout: 5s,
     retries: 2, concurrency: 4, max_output_tokens: 900, context_tokens: 8192, structured_output: validate,
     output_limit_field: max_completion_tokens}}
  free: {{{MODEL}}}
"""
GIT = """\
tools:
  git: {command: [python, -m, mcp_server_git], env: {TOKEN: 'secret:GIT', LANG: C}, allow: [git_log], cwd: repo}
  web: {url: 'https://h/mcp', headers: {Authorization: 'secret:WEB'}, allow: ['*'], timeout: 2s}
"""


def parsed(text: str) -> Any:
    return parse((HEAD + AGENTS + text + TASK).encode(), "plan.yaml")


def test_an_agent_is_given_its_config_as_it_is_written() -> None:
    plan = plan_of("  x: {agent: a, capability: c}").agents["a"]
    assert plan.config == {}
    text = (
        HEAD
        + "agents:\n  a: {use: 'm:A', config: {n: 012, deep: {key: 'secret:K'}, list: [1, null]}}\n"
        + TASK
    )
    assert parse(text.encode(), "plan.yaml").agents["a"].config == {
        "n": 12,
        "deep": {"key": "secret:K"},
        "list": [1, None],
    }


def test_a_config_is_known_before_there_is_a_run() -> None:
    problem = problems_of(HEAD + "agents: {a: {use: 'm:A', config: {q: '${{ inputs.q }}'}}}\n" + TASK)[0]
    assert problem["code"] == "plan.type"
    assert "cannot hold an expression" in problem["message"]
    assert problems_of(HEAD + "agents: {a: {use: 'm:A', config: 3}}\n" + TASK)[0]["code"] == "plan.type"


def test_a_config_is_held_against_what_its_class_asks_for() -> None:
    schema = {"type": "object", "properties": {"depth": {"type": "integer"}}, "additionalProperties": False}
    text = HEAD + "agents: {a: {use: 'm:A', config: {dept: 3}}}\n" + TASK
    plan = parse(text.encode(), "plan.yaml")
    found = check(plan, {"a": {"capabilities": {"c": {}}, "config": schema}})
    assert [(one.code, one.message, one.suggestion) for one in found] == [
        ("check.config", "agents.a.config.dept is not known", "did you mean `depth`?")
    ]
    assert check(plan, {"a": {"capabilities": {"c": {}}}}) == []


def test_a_model_is_an_agent_of_our_own_code() -> None:
    agents = parsed(WRITER).agents
    writer, free = agents["models.writer"], agents["models.free"]
    assert writer.name == "models.writer"
    assert writer.use == "aip.models.agent:ModelAgent"
    assert writer.isolation is Isolation.CELL
    assert writer.config == {
        "base_url": "http://127.0.0.1:8000/v1",
        "model": "small-1",
        "api_key": "secret:WRITER_KEY",
        "prices": {"input": 150_000, "output": 600_000},
        "timeout_s": 60.0,
        "idle_timeout_s": 5.0,
        "retries": 2,
        "concurrency": 4,
        "max_output_tokens": 900,
        "context_tokens": 8192,
        "structured_output": "validate",
        "output_limit_field": "max_completion_tokens",
    }
    assert free.config == {"base_url": "http://127.0.0.1:8000/v1", "model": "small-1", "concurrency": 8}


def test_a_tool_server_is_an_agent_in_a_process_of_its_own() -> None:
    agents = parsed(GIT).agents
    git, web = agents["tools.git"], agents["tools.web"]
    assert (git.use, git.isolation) == ("aip.protocols.mcp.tool_server:ToolServer", Isolation.PROCESS)
    assert git.config == {
        "name": "git",
        "command": ["python", "-m", "mcp_server_git"],
        "env": {"TOKEN": "secret:GIT", "LANG": "C"},
        "allow": ["git_log"],
        "cwd": "repo",
        "timeout_s": 30.0,
    }
    assert web.config == {
        "name": "web",
        "url": "https://h/mcp",
        "headers": {"Authorization": "secret:WEB"},
        "allow": ["*"],
        "timeout_s": 2.0,
    }


def test_tasks_and_voters_may_name_them() -> None:
    text = HEAD + GIT + "tasks:\n  x: {agent: tools.git, capability: git_log}\n"
    plan = parse(text.encode(), "plan.yaml")
    assert plan.tasks["x"].agent == "tools.git"
    manifest = {"tools.git": {"capabilities": {}, "open_ended": True}}
    assert check(plan, manifest) == []
    other = parse(text.replace("git_log}", "git_lag}").encode(), "plan.yaml")
    assert [one.suggestion for one in check(other, manifest)] == ["did you mean `git_log`?"]


def test_no_agent_of_the_author_takes_the_place_of_one_of_ours() -> None:
    problem = problems_of(HEAD + "agents: {models.writer: {use: 'm:A'}}\n" + TASK)[0]
    assert (problem["code"], problem["line"], problem["column"]) == ("plan.name", 4, 10)
    assert "belongs to the section models" in problem["message"]


@pytest.mark.parametrize("use", ["aip.models.agent:ModelAgent", "aip.models:ModelAgent"])
def test_a_model_that_stands_under_agents_needs_its_price_too(use: str) -> None:
    config = "{base_url: 'http://h/v1', model: m}"
    text = (
        HEAD + f"agents: {{a: {{use: '{use}', config: {config}}}}}\nlimits: {{budget: {{usd: 1}}}}\n" + TASK
    )
    assert problems_of(text)[0]["code"] == "plan.price"


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("limits: {budget: {usd: 1}}\n" + TASK, "limits.budget limits money"),
        ("tasks:\n  x: {agent: a, capability: c, budget: {usd_micro: 5}}\n", "tasks.x.budget limits money"),
    ],
)
def test_a_model_without_a_price_is_refused_where_money_is_limited(place: str, told: str) -> None:
    model = f"models:\n  writer: {{{MODEL}}}\n"
    problem = problems_of(HEAD + AGENTS + model + place)[0]
    assert (problem["code"], problem["line"], problem["column"]) == ("plan.price", 8, 3)
    assert told in problem["message"]
    assert "add prices: {input: USD, output: USD}" in problem["suggestion"]
    priced = model.replace("small-1", "small-1, prices: {input: 0, output: 0}")
    assert (
        parse((HEAD + AGENTS + priced + place).encode(), "plan.yaml").agents["models.writer"].config["prices"]
    )


def test_a_key_in_a_plan_is_repeated_nowhere() -> None:
    for line in (
        f"models: {{w: {{{MODEL}, api_key: sk-12345}}}}\n",
        "models: {w: {base_url: 'http://me:sk-12345@h/v1', model: m}}\n",
        "tools: {w: {url: 'http://h', allow: [x], headers: {authorization: sk-12345}}}\n",
        "tools: {w: {command: [x], allow: [x], env: {A: 'secret:sk-12345 and more'}}}\n",
    ):
        text = HEAD + AGENTS + line + TASK
        problems = problems_of(text)
        assert problems[0]["code"] == "plan.secret"
        assert "sk-12345" not in str(problems) + render(problems, text)


def test_a_budget_in_usd_is_whole_micro_dollars() -> None:
    plan = plan_of(
        "  x: {agent: a, capability: c, budget: {usd: 0.29, tokens: 5}}", "limits: {budget: {usd: 1.50}}\n"
    )
    assert plan.limits.budget == {"usd_micro": 1_500_000}
    assert plan.tasks["x"].budget == {"usd_micro": 290_000, "tokens": 5}


def test_the_command_line_takes_usd_too() -> None:
    assert AMOUNT.convert("usd=2.50", None, None) == ("usd_micro", 2_500_000)
    assert AMOUNT.convert("tokens=500_000", None, None) == ("tokens", 500_000)
    with pytest.raises(click.BadParameter, match="no amount in USD"):
        AMOUNT.convert("usd=0.0000001", None, None)


@given(st.integers(0, 10**9 * 10**6))
def test_money_is_read_without_a_cent_lost(micro: int) -> None:
    assert usd_micro(f"{micro // 10**6}.{micro % 10**6:06d}") == micro


@pytest.mark.parametrize("text", ["", "1e9", "-1", "1.", ".5", "nan", "1.0000001", "١"])
def test_what_is_no_money_is_not_guessed_at(text: str) -> None:
    assert usd_micro(text) is None


def test_the_schema_takes_them_too() -> None:
    document = yaml.safe_load(HEAD + AGENTS + WRITER + GIT + TASK + "limits: {budget: {usd: 1.5}}\n")
    assert [one.message for one in jsonschema.Draft202012Validator(plan_schema()).iter_errors(document)] == []
