"""`tools:` and `use: mcp://…`: what a plan may say of an outside server, and how each mistake is told with its place."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from test_parse import AGENTS, HEAD, problems_of

from aip.errors import PlanInvalid
from aip.orchestration.parse import check, parse, render
from aip.orchestration.plan import AgentSpec, Isolation
from aip.orchestration.schema import plan_schema

TASK = "tasks:\n  x: {agent: a, capability: c}\n"
VALIDATOR = jsonschema.Draft202012Validator(plan_schema())
FULL = """\
tools:
  git:
    command: [python, -m, mcp_server_git]
    allow: [git_log, git_commit]
    effects: [git_commit]
    timeout: 10s
    start_timeout: 5s
    result_bytes_max: 64Ki
    concurrency: 2
    protocol: 2025-11-25
"""


def agent_of(text: str, name: str) -> AgentSpec:
    return parse((HEAD + AGENTS + text + TASK).encode(), "plan.yaml").agents[name]


def used(use: str, config: str = "{allow: ['*']}") -> str:
    return HEAD + f'agents:\n  a: {{use: "{use}", config: {config}}}\n' + TASK


def mistake(text: str) -> dict[str, Any]:
    [problem] = problems_of(text)
    return problem


def test_everything_that_a_server_is_held_to_stands_in_the_plan() -> None:
    assert agent_of(FULL, "tools.git").config == {
        "name": "git",
        "command": ["python", "-m", "mcp_server_git"],
        "allow": ["git_log", "git_commit"],
        "effects": ["git_commit"],
        "timeout_s": 10.0,
        "start_timeout_s": 5.0,
        "result_bytes_max": 65_536,
        "concurrency": 2,
        "protocol": "2025-11-25",
    }


@pytest.mark.parametrize(
    ("line", "code", "column", "told", "suggested"),
    [
        ("effects: git_log", "plan.type", 14, "tools.g.effects is a text, not a list", "write [git_log]"),
        ("effects: []", "plan.value", 14, "tools.g.effects must name 1 to 256 tools", "['*'] means all"),
        ("effects: [git_push]", "plan.value", 15, "names `git_push`, which tools.g.allow does not", "add it"),
        ("effects: ['*', git_log]", "plan.value", 15, "has '*' beside names", "keep ['*']"),
        ("effects: [git_log, git_log]", "plan.duplicate", 24, "`git_log` stands twice", ""),
        (
            "effects: ['git log']",
            "plan.value",
            15,
            "tools.g.effects cannot name `git log`",
            "as their server",
        ),
        ("concurrency: 0", "plan.value", 18, "tools.g.concurrency is 0; it must be 1 to 256", ""),
        ("concurrency: many", "plan.type", 18, "tools.g.concurrency is a text, not an integer", ""),
        ("protocol: 2024-01-01", "plan.value", 15, "cannot be `2024-01-01`", "did you mean `2026-07-28`?"),
        ("start_timeout: 2m", "plan.duration", 20, "must be more than 0 and at most 55s", "30s"),
        ("start_timeout: 5", "plan.duration", 20, "has no unit", "write 5s"),
        ("result_bytes_max: 9Mi", "plan.size", 23, "must be 1 to 8388608 bytes", "64Mi"),
        ("result_bytes_max: 0", "plan.value", 23, "it must be 1 to 8388608", ""),
        ("result_bytes_max: lots", "plan.size", 23, "is no size: `lots`", "64Mi"),
        ("effect: [git_log]", "plan.unknown_key", 5, "tools.g has no `effect`", "`effects`"),
    ],
    ids=lambda value: value if isinstance(value, str) and ":" in value else "",
)
def test_a_mistake_is_told_at_its_place(line: str, code: str, column: int, told: str, suggested: str) -> None:
    text = HEAD + AGENTS + f"tools:\n  g:\n    command: [x]\n    allow: [git_log]\n    {line}\n" + TASK
    problem = mistake(text)
    assert (problem["file"], problem["line"], problem["column"]) == ("plan.yaml", 11, column)
    assert problem["code"] == code
    assert told in problem["message"]
    assert suggested in problem["suggestion"]
    if (
        "git_push" not in line and "9Mi" not in line and "2m" not in line
    ):  # Arithmetic, and what another key says.
        assert not VALIDATOR.is_valid(yaml.safe_load(text))


def test_all_tools_may_be_effects_of_a_server_that_is_allowed_some() -> None:
    text = "tools: {g: {command: [x], allow: [a, b], effects: ['*']}}\n"
    assert agent_of(text, "tools.g").config["effects"] == ["*"]


# Secrets ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["secret:WEB", "Bearer secret:WEB", "Basic secret:WEB", "token secret:WEB"])
def test_a_header_may_have_one_word_before_its_secret(value: str) -> None:
    text = f"tools: {{w: {{url: 'https://h/mcp', allow: ['*'], headers: {{Authorization: '{value}'}}}}}}\n"
    assert agent_of(text, "tools.w").config["headers"] == {"Authorization": value}


@pytest.mark.parametrize(
    "entry",
    [
        "url: 'https://h', headers: {Authorization: Bearer sk-12345}",
        "url: 'https://h', headers: {Authorization: 'Bearer  secret:sk_12345'}",
        "url: 'https://h', headers: {X-Api-Key: sk-12345}",
        "url: 'https://h', headers: {X-Any: 'a b secret:sk_12345'}",
        "url: 'https://h', headers: {X-Any: 'secret:sk_12345, secret:OTHER'}",
        "url: 'https://h', headers: {X-Any: 'secret:sk-12345'}",
        "url: 'https://me:sk-12345@h/mcp'",
        "command: [x], env: {GIT_TOKEN: sk-12345}",
        "command: [x], env: {PGPASSWORD: x, MY_PASSWORD: sk-12345}",
    ],
)
def test_what_is_no_clean_reference_is_refused_and_repeated_nowhere(entry: str) -> None:
    text = HEAD + AGENTS + f"tools: {{w: {{{entry}, allow: [x]}}}}\n" + TASK
    problems = problems_of(text)
    assert problems[0]["code"] == "plan.secret"
    told = str(problems) + render(problems, text)
    assert "sk-12345" not in told
    assert "sk_12345" not in told


def test_words_about_secrets_are_no_reference() -> None:
    text = "tools: {w: {command: [x], allow: [x], env: {GREETING: 'my secret: none', TOKENIZERS: 'on'}}}\n"
    assert agent_of(text, "tools.w").config["env"] == {"GREETING": "my secret: none", "TOKENIZERS": "on"}


# The short form ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use", "way"),
    [
        ("mcp://stdio/python -m mcp_server_time", {"command": ["python", "-m", "mcp_server_time"]}),
        ("mcp://stdio//opt/tools/serve --port=1", {"command": ["/opt/tools/serve", "--port=1"]}),
        ("mcp://stdio/./serve", {"command": ["./serve"]}),
        ("mcp://stdio/npx -y @scope/server@1.2", {"command": ["npx", "-y", "@scope/server@1.2"]}),
        ("mcp://tools.example.com/mcp", {"url": "https://tools.example.com/mcp"}),
        ("mcp://tools.example.com:8443/a/b-c", {"url": "https://tools.example.com:8443/a/b-c"}),
    ],
)
def test_a_server_has_a_short_form_under_agents(use: str, way: dict[str, Any]) -> None:
    text = used(use, "{allow: [now], timeout: 5s}")
    agent = parse(text.encode(), "plan.yaml").agents["a"]
    assert (agent.use, agent.isolation) == ("aip.protocols.mcp.tool_server:ToolServer", Isolation.PROCESS)
    assert agent.config == {"name": "a", "allow": ["now"], "timeout_s": 5.0, **way}
    assert [error.message for error in VALIDATOR.iter_errors(yaml.safe_load(text))] == []


def test_the_short_form_is_the_long_one() -> None:
    config = "allow: [git_log, git_commit], effects: [git_commit], env: {A: 'secret:B'}"
    short = used("mcp://stdio/python -m m", f"{{{config}}}")
    long = HEAD + f"tools:\n  a: {{command: [python, -m, m], {config}}}\n" + TASK.replace("a,", "tools.a,")
    one = parse(short.encode(), "plan.yaml").agents["a"]
    other = parse(long.encode(), "plan.yaml").agents["tools.a"]
    assert (one.use, one.config, one.replicas_max) == (other.use, other.config, other.replicas_max)


@pytest.mark.parametrize(
    "use",
    [
        "mcp://stdio",
        "mcp://stdio/",
        "mcp://stdio/python/-m/mcp_server_time",  # A path, or words?
        "mcp://stdio/python%20-m",
        "mcp://stdio/python  -m",
        "mcp://stdio/sh -c 'x'",
        "mcp://stdio/x $HOME",
        "mcp://stdio/x | y",
        "mcp://stdio/x *.py",
        "mcp://stdio:80/x",
        "mcp://host",
        "mcp://",
        "mcp:///path",
        "mcp://host/mcp?key=1",
        "mcp://host/mcp#part",
        "mcp://host/a b",
        "mcp://[::1]/mcp",
    ],
)
def test_what_has_another_reading_is_refused_with_the_long_form(use: str) -> None:
    text = used(use)
    problem = mistake(text)
    assert (problem["code"], problem["line"], problem["column"]) == ("plan.value", 5, 12)
    assert problem["message"].startswith("agents.a.use cannot be")
    assert "tools: {NAME:" in problem["suggestion"]
    assert not VALIDATOR.is_valid(yaml.safe_load(text))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "LOCALHOST"])
def test_a_server_on_this_machine_is_written_with_its_url(host: str) -> None:
    problem = mistake(used(f"mcp://{host}/mcp"))
    assert "means https" in problem["message"]
    assert 'url: "http://' in problem["suggestion"]


def test_a_password_in_the_short_form_is_refused_and_not_repeated() -> None:
    text = used("mcp://me:sk-12345@h/mcp")
    problem = mistake(text)
    assert problem["code"] == "plan.secret"
    assert "sk-12345" not in str(problem) + render([problem], text)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("use: 'mcp://h/mcp'", "agents.a.config.allow is missing"),
        ("use: 'mcp://h/mcp', config: {}", "agents.a.config.allow is missing"),
        (
            "use: 'mcp://h/mcp', config: {allow: [x], env: {A: b}}",
            "agents.a.config.env is for a command only",
        ),
        ("use: 'mcp://stdio/x', config: {allow: [x], headers: {A: b}}", "config.headers is for a url only"),
        ("use: 'mcp://stdio/x', config: {allow: [x], command: [y]}", "agents.a.config has no `command`"),
        ("use: 'mcp://stdio/x', config: {allow: [x], timeout_s: 3}", "agents.a.config has no `timeout_s`"),
        ("use: 'mcp://h/mcp', config: {allow: [x]}, replicas: 3", "agents.a.replicas is for an agent of the"),
        ("use: 'mcp://h/mcp', config: {allow: [x]}, isolation: cell", "agents.a.isolation is for an agent"),
        ("use: 'mcp://h/mcp', config: [x]", "agents.a.config is a list, not a map"),
    ],
)
def test_the_short_form_takes_what_a_tool_server_takes(entry: str, told: str) -> None:
    text = HEAD + f"agents: {{a: {{{entry}}}}}\n" + TASK
    assert told in mistake(text)["message"]
    assert not VALIDATOR.is_valid(yaml.safe_load(text))


def test_a_task_that_asks_for_what_is_not_allowed_is_told_before_it_runs() -> None:
    plan = parse(
        used("mcp://stdio/x", "{allow: [now, then]}").replace("capability: c", "capability: them").encode(),
        "p",
    )
    found = check(plan, {"a": {"capabilities": {}, "open_ended": True}})
    assert [(one.code, one.suggestion) for one in found] == [("check.capability", "did you mean `then`?")]


@given(st.text(max_size=60))
def test_no_address_is_anything_but_a_server_or_a_problem_at_its_place(rest: str) -> None:
    use = yaml.safe_dump(f"mcp://{rest}", default_style='"', width=10**6).strip()
    text = HEAD + f"agents: {{a: {{use: {use}, config: {{allow: ['*']}}}}}}\n" + TASK
    try:
        config = parse(text.encode(), "plan.yaml").agents["a"].config
    except PlanInvalid as refused:
        lines = {problem["line"] for problem in refused.details["problems"]}
    else:
        lines = {4} if ("command" in config) != ("url" in config) else set()
    assert lines == {4}
