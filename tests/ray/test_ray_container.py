"""`isolation: container` on the real platform: a stranger's agent works in a plan, and reaches nobody but through the guard."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray_kit import kill9, pids, until

from actors.run_spec import read_spec
from actors.sandboxed import contains, means_here
from aip.client import Platform
from aip.compute.sandbox import Demand
from aip.errors import AgentLost, AIPError
from aip.orchestration.plan import Isolation

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(bool(means_here().missing(Demand())), reason="this machine cannot close a sandbox"),
]

FOLDER = Path(__file__).parent / "agents_container"
TOLD = Path("/tmp/aip-test-container-was-imported")
HEAD = "apiVersion: aip/v1\nkind: Plan\nmetadata: {name: strangers}\nlimits: {deadline: 1m}\n"
STRANGER = {"use": "agents:Stranger", "isolation": "container"}


@pytest.fixture
def submitted(platform: Platform, tmp_path: Path) -> Callable[..., str]:
    """Submits a plan with the stranger in a container, these other agents and these tasks; the run's id."""

    def submit(tasks: dict[str, Any], outputs: dict[str, str] | None = None, **others: Any) -> str:
        folder = tmp_path / "plan"
        if not folder.exists():
            shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
        whole = {"agents": {"stranger": STRANGER, **others}, "tasks": tasks, "outputs": outputs or {}}
        (folder / "plan.yaml").write_text(HEAD + "\n".join(f"{k}: {json.dumps(v)}" for k, v in whole.items()))
        return platform.submit(folder / "plan.yaml", {})

    return submit


def ended(platform: Platform, run: str) -> dict[str, Any]:
    *_, view = platform.watch(run)
    return view


def cell_of(platform: Platform, pool: str) -> int:
    return pids(platform)[f"cell-{pool}-0"]


def sandboxes(pid: int) -> list[psutil.Process]:
    """Of one cell: each is a launcher and its child, which is the agent."""
    return psutil.Process(pid).children(recursive=True)


def gone(*processes: psutil.Process) -> None:
    until(lambda: not any(process.is_running() for process in processes))


def test_a_plan_with_a_strangers_agent_runs_and_its_code_never_outside_a_sandbox(platform, submitted):
    TOLD.unlink(missing_ok=True)
    address, home = platform.record.address, str(platform.home.root)
    tasks = {
        "try": {
            "agent": "stranger",
            "capability": "attempts",
            "with": {"home": home, "address": address, "pid": os.getpid()},
        },
        "ask": {"agent": "stranger", "capability": "relay", "with": {"text": "ada"}, "needs": ["try"]},
        "again": {"agent": "stranger", "capability": "die_once", "needs": ["ask"], "retry": {"attempts": 2}},
    }
    outputs = {name: f"${{{{ tasks.{name}.output }}}}" for name in tasks}
    run = submitted(tasks, outputs, helper={"use": "helpers:Helper"})
    view = ended(platform, run)
    assert view["state"] == "succeeded", view
    assert view["outputs"]["try"] == {
        "home": "FileNotFoundError",
        "network": "PermissionError",
        "ray": "PermissionError",
        "process": "PermissionError",
        "program": "PermissionError",
        "variables": [],
    }
    assert view["outputs"]["ask"] == "ADA"
    assert (view["outputs"]["again"], view["tasks"]["again"]["attempts"]) == (2, 2)
    assert [contains(use.spec) for use in read_spec(platform.home, run).pools] == [True, False]
    assert not TOLD.exists()


def test_its_stream_is_read_part_by_part_and_its_state_outlives_its_sandbox_and_its_cell(platform):
    address = platform.deploy(FOLDER, "agents:Stranger/kept", Isolation.CONTAINER)
    pool = address.partition("/")[0].partition("@")[2]
    assert [platform.call(address, "add") for _ in range(2)] == [1, 2]
    launcher, child = sandboxes(cell_of(platform, pool))
    launcher.kill()
    gone(launcher, child)
    until(lambda: _added(platform, address) == 3)
    reader = platform.deploy(FOLDER, "helpers:Helper/reader")
    assert platform.call(reader, "gather", {"of": address, "number": 20}) == list(range(20))
    before = cell_of(platform, pool)
    left = sandboxes(before)
    kill9(before)
    gone(*left)
    until(lambda: _added(platform, address) == 4)
    assert cell_of(platform, pool) != before


def _added(platform: Platform, address: str) -> int | None:
    """None where its process was lost on the way."""
    try:
        count: int = platform.call(address, "add")
    except AgentLost:
        return None
    return count


def test_a_kill_ends_a_stranger_that_does_not_listen(platform, submitted):
    run = submitted({"spin": {"agent": "stranger", "capability": "spin", "retry": {"attempts": 1}}})
    (use,) = read_spec(platform.home, run).pools
    until(lambda: [t for t in platform.agents(run) if t["running"] == ["spin"]])
    cell = cell_of(platform, use.spec.pool)
    assert len(sandboxes(cell)) == 2
    platform.kill(f"run/{run}", "it spins")
    try:
        assert ended(platform, run)["state"] == "killed"
        until(lambda: not sandboxes(cell))
        assert cell_of(platform, use.spec.pool) == cell  # Its neighbours in that cell have not noticed.
    finally:
        platform.lift(f"run/{run}")


def test_a_policy_that_demands_a_container_is_met_by_one_and_by_nothing_less(platform):
    """The one that ships: what is called `untrusted` runs in a container only."""
    asker = platform.deploy(FOLDER, "helpers:Helper/asker")
    inside = platform.deploy(FOLDER, "agents:Untrusted/a", Isolation.CONTAINER)
    assert platform.call(asker, "ask", {"of": inside}) == "inside"
    outside = platform.deploy(FOLDER, "helpers:Untrusted/a")
    with pytest.raises(AIPError) as told:
        platform.call(asker, "ask", {"of": outside})
    rules = [reason["rule"] for reason in told.value.details["reasons"]]
    assert (told.value.code, rules) == ("refused.policy", ["isolation.demanded"])
