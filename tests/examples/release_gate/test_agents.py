"""The plan's chain through its agents gives what the pure chain gives, and the plan names only what exists."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from gate.audit import Audit
from gate.finding import canonical
from gate_kit import EXAMPLE

import aip
from aip.agent import manifest
from aip.orchestration.parse import check, parse

PLAN = yaml.safe_load((EXAMPLE / "plan.yaml").read_text())


def wire(value: Any) -> Any:
    """What arrives of a value after a journey: its JSON."""
    return json.loads(json.dumps(value, ensure_ascii=False).encode())


def chain(agents: ModuleType, environment: str, output: Path, baseline: str = "") -> dict[str, Any]:
    """The tasks of plan.yaml, in order."""
    surveyor, scanner, analyst, reporter = (
        agents.Surveyor(),
        agents.Scanner(),
        agents.Analyst(),
        agents.Reporter(),
    )
    voters = {
        "integrity": agents.Integrity(),
        "behaviour": agents.Behaviour(),
        "provenance": agents.Provenance(),
    }
    survey = wire(surveyor.inventory(str(output / ".parts"), environment))
    inventory, slices = survey["whole"], survey["slices"]
    before = wire(surveyor.baseline(baseline))
    hashes = [wire(scanner.hash(part)) for part in slices]
    behaviours = [wire(scanner.behaviour(part)) for part in slices]
    native = [wire(scanner.native(part)) for part in slices]
    dependencies = wire(analyst.dependencies(inventory, behaviours))
    licences = wire(analyst.licences(inventory, dependencies))
    others = [
        wire(analyst.reach(inventory, behaviours)),
        wire(analyst.hooks(inventory)),
        wire(analyst.ownership(inventory)),
        wire(analyst.orphans(inventory)),
        wire(analyst.origins(inventory)),
    ]
    correlated = wire(
        analyst.correlate(inventory, behaviours, dependencies, licences, native, hashes, others)
    )
    votes = [wire(tally(voters, case)) for case in correlated["cases"]]
    verdict = wire(analyst.verdict(correlated, votes))
    common = {"inventory": inventory, "dependencies": dependencies, "licences": licences, "verdict": verdict}
    report = reporter.report(**common, output=str(output), baseline=before)
    held = (output / "report.json").read_bytes()
    end = reporter.conclude(**common, output=str(output), baseline=before, gate=None, status="failed")
    return {"report": wire(report), "held": json.loads(held), "end": wire(end), "verdict": verdict}


def tally(voters: dict[str, Any], case: Any) -> dict[str, Any]:
    """As a vote task of the platform answers."""
    answers = {name: wire(voter.vote(case)) for name, voter in voters.items()}
    counts: dict[str, int] = {}
    for answer in answers.values():
        counts[answer["vote"]] = counts.get(answer["vote"], 0) + 1
    return {
        "decision": max(counts, key=lambda vote: counts[vote]),
        "votes": [{**answer, "voter": name} for name, answer in answers.items()],
        "counts": counts,
        "quorum": 2,
    }


def test_through_the_agents_the_findings_are_the_same_bytes(
    agents: ModuleType, planted: Audit, tmp_path: Path
) -> None:
    done = chain(agents, str(EXAMPLE / "planted"), tmp_path)
    assert (tmp_path / "findings.json").read_bytes() == canonical(planted.verdict.findings)
    assert done["report"]["state"] == "held for approval"
    assert done["held"]["state"] == "held for approval"
    assert done["end"]["state"] == "denied"
    assert done["verdict"]["critical"] > 0


def test_the_baseline_may_be_the_report_that_is_replaced(agents: ModuleType, tmp_path: Path) -> None:
    chain(agents, str(EXAMPLE / "planted"), tmp_path)
    chain(agents, str(EXAMPLE / "planted"), tmp_path, baseline=str(tmp_path / "report.json"))
    assert "0 new findings, 0 gone" in (tmp_path / "report.md").read_text()


def contracts(agents: ModuleType, kind: str) -> dict[str, dict[str, Any]]:
    """Capability -> the JSON Schema of what it takes, as the platform sees it."""
    found: dict[str, dict[str, Any]] = manifest(getattr(agents, kind))["capabilities"]
    return {name: item["input"] for name, item in found.items()}


def test_the_plan_calls_only_capabilities_that_exist_with_arguments_that_they_take(
    agents: ModuleType,
) -> None:
    for name, task in PLAN["tasks"].items():
        users = task["assign"]["voters"] if "assign" in task else [task["agent"]] if "agent" in task else []
        assert users or "gate" in task
        for user in users:
            known = contracts(agents, PLAN["agents"][user]["use"].partition(":")[2])
            takes = known[task["capability"]]
            assert set(task["with"]) <= set(takes["properties"]), name
            assert set(takes.get("required", ())) <= set(task["with"]), name


def test_the_plan_refers_only_to_tasks_and_inputs_that_exist() -> None:
    text = (EXAMPLE / "plan.yaml").read_text()
    assert set(re.findall(r"tasks\.(\w+)", text)) <= set(PLAN["tasks"])
    assert set(re.findall(r"inputs\.(\w+)", text)) <= set(PLAN["inputs"])


def test_the_agents_are_imported_without_ray() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import agents; sys.exit('ray' in sys.modules)"
    subprocess.run([sys.executable, "-c", code, str(EXAMPLE)], check=True, cwd=Path(aip.__file__).parents[1])


def test_the_analyzers_do_not_know_aip() -> None:
    for path in sorted((EXAMPLE / "gate").rglob("*.py")):
        assert not re.search(r"^\s*(?:import|from) (?:aip|ray)\b", path.read_text(), re.MULTILINE), path.name


def test_the_platform_accepts_the_plan_with_these_agents(agents: ModuleType) -> None:
    plan = parse((EXAMPLE / "plan.yaml").read_bytes(), "plan.yaml")
    manifests = {
        name: manifest(getattr(agents, spec.use.partition(":")[2])) for name, spec in plan.agents.items()
    }
    assert check(plan, manifests) == []
