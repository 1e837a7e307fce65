"""What a plan says of its processes is what Ray and the supervisors do: resources, environment, restarts, replicas, types."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray_kit import pids, until

from actors import platform_record
from actors.run_spec import read_spec
from aip.client import Platform
from aip.governance.audit import log_path, read
from aip.records import stored_events

pytestmark = pytest.mark.ray

POOL = Path(__file__).parent / "agents_pool"
HEAD = "apiVersion: aip/v1\nkind: Plan\nmetadata: {name: pools}\n"
WAITS = 'wait: {gate: {question: "go on?"}}'
MEMORY_BYTES = 64 * 2**20


@pytest.fixture
def submitted(platform: Platform, tmp_path: Path) -> Callable[..., str]:
    """Submits a plan of one agent with these fields and these tasks, beside a copy of the agents; the run's id.

    `tmp_path` gives the copy a digest of its own, so that no test meets another one's pool.
    """

    def submit(agent: dict[str, Any], *tasks: str, outputs: str = "") -> str:
        code = (POOL / "agents.py").read_text()
        (tmp_path / "agents.py").write_text(f"{code}\n# {tmp_path.name}\n")
        text = f"{HEAD}agents: {json.dumps({'one': {'use': 'agents:One', **agent}})}\ntasks:\n"
        text += "".join(f"  {task}\n" for task in tasks) + (f"outputs: {outputs}\n" if outputs else "")
        (tmp_path / "plan.yaml").write_text(text)
        return platform.submit(tmp_path / "plan.yaml", {})

    return submit


def pool_of(platform: Platform, run: str) -> str:
    (use,) = read_spec(platform.home, run).pools
    return use.spec.pool


def cells(platform: Platform, run: str) -> dict[str, int]:
    prefix = f"cell-{pool_of(platform, run)}-"
    return {name: pid for name, pid in pids(platform).items() if name.startswith(prefix)}


def ended(platform: Platform, run: str) -> dict[str, Any]:
    *_, view = platform.watch(run)
    return view


def free(platform: Platform) -> dict[str, float]:
    """What Ray has left, as a driver sees it."""
    record = platform_record.read_record(platform.home)
    assert record is not None
    program = (
        f"import json, ray; ray.init(address={record.address!r}, namespace='aip', log_to_driver=False); "
        "print(json.dumps(ray.available_resources()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **platform_record.connect_environment(record)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_process_reserves_the_resources_that_the_plan_names(platform, submitted):
    before = free(platform)
    run = submitted({"isolation": "process", "resources": {"cpu": 0.5, "memory": "64Mi"}}, WAITS)
    until(lambda: cells(platform, run))
    assert ended(platform, run)["state"] == "held"

    def reserved() -> bool:
        now = free(platform)
        took = {name: before[name] - now.get(name, 0.0) for name in ("CPU", "memory", "agent_slots")}
        return took == {"CPU": 0.5, "memory": MEMORY_BYTES, "agent_slots": 1.0}

    until(reserved)
    platform.cancel(run, "test")


def test_the_runtime_environment_is_that_of_the_agents_process(platform, submitted):
    ask = "ask: {agent: one, capability: environment, with: {name: AIP_TEST_WORD}}"
    told = '{word: "${{ tasks.ask.output }}"}'
    run = submitted({"runtime_env": {"env_vars": {"AIP_TEST_WORD": "seven"}}}, ask, outputs=told)
    assert ended(platform, run)["outputs"] == {"word": "seven"}


def test_all_replicas_of_the_minimum_live_before_anybody_asks_them(platform, submitted):
    run = submitted({"isolation": "process", "replicas": {"min": 2, "max": 3}}, WAITS)
    assert len(until(lambda: len(found := cells(platform, run)) == 2 and found)) == 2
    until(lambda: len(platform.agents(run)) == 2)
    assert not [e for e in stored_events(platform.home, run) if e["event"] == "attempt_started"]
    platform.cancel(run, "test")


def test_no_replica_above_the_minimum_lives_until_there_is_work_for_it(platform, submitted):
    ask = "ask: {for_each: [1, 2, 3, 4], agent: one, capability: tell, with: {words: [a], seconds: 1.5}}"
    run = submitted(
        {"isolation": "process", "replicas": {"min": 0, "max": 2}}, WAITS, f"{ask[:-1]}, needs: [wait]}}"
    )
    assert ended(platform, run)["state"] == "held"
    assert not cells(platform, run)
    platform.decide(run, "wait", True, by="user:ada")
    until(lambda: len(cells(platform, run)) == 2)
    assert ended(platform, run)["state"] == "succeeded"


@pytest.mark.parametrize(("most", "gives_up"), [(0, True), (5, False)])
def test_a_pool_is_given_up_after_as_many_restarts_as_the_plan_allows(platform, submitted, most, gives_up):
    crash = "crash: {agent: one, capability: crash, retry: {attempts: 1}}"
    run = submitted({"restart": {"max": most, "within": "60s"}}, crash)
    view = ended(platform, run)
    assert view["tasks"]["crash"]["error"]["code"] == "undelivered.agent_lost"
    pool = pool_of(platform, run)

    def noted(kind: str, subject: str) -> list[dict[str, Any]]:
        log = read(log_path(platform.home.audit))
        return [entry for entry in log if entry["kind"] == kind and entry["subject"].startswith(subject)]

    if gives_up:
        until(lambda: noted("supervisor.gave_up", f"pool-{pool}"))
        assert len(noted("process.started", f"cell-{pool}-")) == 1
    else:
        until(lambda: len(noted("process.started", f"cell-{pool}-")) == 2)
        assert not noted("supervisor.gave_up", f"pool-{pool}")


def test_a_second_type_of_the_same_code_joins_the_living_pool(platform, tmp_path):
    (tmp_path / "agents.py").write_text((POOL / "agents.py").read_text() + f"\n# {tmp_path.name}\n")
    one = platform.deploy(tmp_path, "agents:One/x")
    first = platform.call(one, "where")
    two = platform.deploy(tmp_path, "agents:Two/x")
    assert platform.call(two, "where") == first, "the same process, not another one for each type"
    assert platform.call(one, "where") == first
