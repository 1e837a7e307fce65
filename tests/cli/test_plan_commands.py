"""`aip plan make | simulate | diff | graph`, as a person types them and as a script reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from platform_double import Double, one_json, run_view, task

Type = Callable[..., Result]

AGENTS = '''\
import aip


class Base(aip.Agent):
    """Has no capability of its own."""


class Greeter(aip.Agent):
    @aip.capability
    async def greet(self, name: str) -> str:
        """Greet one person."""


class Politely(Greeter):
    """Inherits one."""


raise SystemExit("planning does not run this in its own process")
'''
TEXT = {"type": "string"}
PLAN = """\
apiVersion: aip/v1
kind: Plan
metadata: {name: p}
agents: {g: {use: "agents:Greeter", replicas: 2}}
tasks:
  a: {agent: g, capability: greet, with: {name: Ada}}
  b: {agent: g, capability: greet, needs: [a]}
"""


@pytest.fixture
def folder(platform: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "agents.py").write_text(AGENTS)
    (tmp_path / "plan.yaml").write_text(PLAN)
    greet = {
        "doc": "Greet one person.",
        "input": {"type": "object", "properties": {"name": TEXT}, "required": ["name"]},
        "output": TEXT,
    }
    for name in ("Greeter", "Politely"):
        platform.manifests[f"agents:{name}"] = {"type": name.lower(), "capabilities": {"greet": greet}}
    return tmp_path


def a_run(platform: Double, source: str = PLAN, took_s: float = 4.0, **states: str) -> None:
    platform.views["r-1"] = [
        run_view("r-1", "failed", {name: task(state) for name, state in states.items()}, plan="p")
    ]
    platform.journal = [
        {"event": "run_accepted", "at_s": 0.0, "plan_source": source},
        {"event": "attempt_started", "at_s": 0.0, "task": "a", "unit": 0, "lease": 1, "replica": 0},
        {"event": "attempt_succeeded", "at_s": took_s, "lease": 1, "spent": {"usd_micro": 2_000_000}},
    ]


def test_make_writes_a_plan_that_can_be_submitted_and_never_over_another(typed: Type, folder: Path) -> None:
    words = ("plan", "make", "greet 'Ada'", "-o", "made.yaml", "--agents", "agents:Greeter")
    result = typed(*words)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == "made.yaml"
    assert "aip submit made.yaml" in result.stderr
    assert "with: {name: Ada}" in (folder / "made.yaml").read_text()
    assert typed("plan graph made.yaml").exit_code == 0
    again = typed(*words)
    assert again.exit_code == 2
    assert "already" in again.stderr
    assert typed(*words, "--force").exit_code == 0


def test_make_finds_the_agents_of_a_file_without_running_it(
    typed: Type, folder: Path, platform: Double
) -> None:
    result = typed("plan", "make", "greet 'Ada'", "-o", "json")
    assert result.exit_code == 0, result.output
    assert ("inspect", ["agents:Greeter", "agents:Politely"]) in platform.acts
    assert one_json(result.stdout)["tasks"] == ["greet"]


def test_make_without_a_way_ends_with_3_and_says_what_is_missing(typed: Type, folder: Path) -> None:
    result = typed("plan", "make", "launch a rocket", "-o", "json")
    assert result.exit_code == 3
    error = one_json(result.stderr)["error"]
    assert error["code"] == "plan.invalid.no_method"
    assert error["details"]["missing"] == ['a capability to "launch a rocket"']


def test_make_reads_the_methods_beside_the_agents_and_tells_their_mistakes(typed: Type, folder: Path) -> None:
    (folder / "methods.yaml").write_text(
        "apiVersion: aip/v1\nkind: Methods\nmethods:\n"
        '  hail: {goal: "hail {who}", steps: {say: {capability: greet, with: {name: "{who}"}}}}\n'
    )
    result = typed("plan", "make", "hail Ada", "--agents", "agents:Greeter", "--agents", "agents.py")
    assert result.exit_code == 0, result.output
    assert "methods.yaml:4" in result.stdout
    (folder / "methods.yaml").write_text("apiVersion: aip/v1\nkind: Methods\nmethods: {hail: {gaol: x}}\n")
    broken = typed("plan", "make", "hail Ada")
    assert broken.exit_code == 3
    assert "did you mean `goal`?" in broken.stderr


def test_make_from_the_registry_leaves_the_agent_to_it(typed: Type, folder: Path) -> None:
    result = typed("plan", "make", "greet 'Ada'", "--from", "registry")
    assert result.exit_code == 0, result.output
    assert "agent:" not in result.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["--from", "registry", "--agents", "agents.py"],
        ["--model-url", "http://127.0.0.1:1/v1"],
        ["--template", "pipelin"],
        ["-o", "plan.txt"],
        ["--agents", "missing.py"],
        ["--model-url", "http://127.0.0.1:1/v1", "--model-name", "m", "--api-key", "sk-1234"],
    ],
)
def test_make_refuses_what_cannot_be_meant(words: list[str], typed: Type, folder: Path) -> None:
    result = typed("plan", "make", "greet 'Ada'", *words)
    assert result.exit_code == 2, result.output
    assert "sk-1234" not in result.stderr


def test_diff_ends_with_1_and_names_what_changed(typed: Type, folder: Path) -> None:
    (folder / "other.yaml").write_text(
        PLAN.replace("Ada", "Bob") + "  c: {agent: g, capability: greet, needs: [b]}\n"
    )
    result = typed("plan diff plan.yaml other.yaml")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == ["+ task c", "~ task a: with", "+ edge b → c"]
    same = typed("plan diff plan.yaml plan.yaml")
    assert (same.exit_code, same.stdout.strip()) == (0, "the plans mean the same")


def test_diff_against_a_run_tells_what_would_run_again(typed: Type, folder: Path, platform: Double) -> None:
    a_run(platform, a="succeeded", b="failed")
    found = one_json(typed("plan diff last plan.yaml -o json").stdout)
    assert (found["same"], found["runs_again"], found["kept"]) == (True, ["b"], 1)
    (folder / "other.yaml").write_text(PLAN.replace("Ada", "Bob"))
    result = typed("plan diff r-1 other.yaml")
    assert result.exit_code == 1
    assert "2 of 2 tasks would run: a, b" in result.stdout


def test_simulate_measures_the_runs_there_were_and_names_what_it_assumes(
    typed: Type, folder: Path, platform: Double
) -> None:
    nothing = one_json(typed("plan simulate plan.yaml --runs 5 -o json").stdout)
    assert nothing["measured_runs"] == 0
    assert nothing["assumed"] == ["a takes 1 s", "b takes 1 s"]
    a_run(platform)
    found = one_json(typed("plan simulate plan.yaml --runs 5 -o json").stdout)
    assert found["makespan_p50_s"] == pytest.approx(8.0)
    assert found["path"] == ["a", "b"]
    assert found["cost_p50"] == {"usd_micro": 4_000_000}
    assert found["assumed"] == []
    told = typed("plan simulate plan.yaml --runs 5 --rank-by hops").stdout
    assert "makespan      p50 8.0 s" in told
    assert "usd p50 4.00" in told


@pytest.mark.parametrize(
    ("form", "begins"), [("text", "p: 2 tasks"), ("mermaid", "flowchart"), ("dot", "digraph"), ("json", "{")]
)
def test_graph_is_drawn_as_asked(form: str, begins: str, typed: Type, folder: Path) -> None:
    assert typed(f"plan graph plan.yaml -o {form}").stdout.startswith(begins)


def test_the_critical_path_is_part_of_the_graphs_data(typed: Type, folder: Path) -> None:
    assert one_json(typed("plan graph plan.yaml -o json").stdout)["critical_path"] == ["a", "b"]


def test_check_warns_of_what_may_be_null_with_its_line_and_ends_with_0(typed: Type, folder: Path) -> None:
    reader = '  c: {agent: g, capability: greet, when: none_failed, with: {name: "${{ tasks.b.output }}"}}\n'
    (folder / "plan.yaml").write_text(PLAN.replace("needs: [a]}", "needs: [a], with: {name: Bob}}") + reader)
    result = typed("plan check plan.yaml")
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("no problem found, 1 warning\n")
    assert (
        "plan.yaml:8:3: c reads `tasks.b.output`, which is null if b is skipped because a failed"
        in result.stderr
    )
    found = one_json(typed("plan check plan.yaml -o json").stdout)
    assert [(one["line"], one["column"], one["code"]) for one in found["warnings"]] == [(8, 3, "check.null")]
    assert one_json(typed("plan check plan.yaml --no-code -o json").stdout)["warnings"] == found["warnings"]


def test_what_a_strangers_agent_can_do_is_asked_in_a_sandbox_and_nowhere_else(
    typed: Type, folder: Path, platform: Double
) -> None:
    two = '{g: {use: "agents:Greeter", isolation: container}, h: {use: "agents:Politely"}}'
    (folder / "plan.yaml").write_text(PLAN.replace('{g: {use: "agents:Greeter", replicas: 2}}', two))
    assert typed("plan check plan.yaml").exit_code == 3  # `b` names nobody to greet.
    assert platform.acts == [("inspect in a sandbox", ["agents:Greeter"]), ("inspect", ["agents:Politely"])]
