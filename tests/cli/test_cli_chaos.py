"""`submit --chaos`: one cell of the run's code and the run's own process are killed, nothing else, by the seed's order."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from actors.pool_spec import PoolSpec
from actors.run_spec import PoolUse, RunSpec, write_spec
from aip.cli import chaos
from aip.cli.chaos import Chaos
from aip.cli.session import Session
from aip.errors import PlatformUnavailable
from aip.settings import Home

CELLS = ("cell-ours-0", "cell-ours-p1")
BYSTANDERS = ("cell-theirs-0", "run-r-2", "registry", "cell-ours")


def node(name: str, pid: int | None = None, *children: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "pid": pid, "children": list(children)}


class Tree:
    """A platform of which only its tree is asked. Before `ready` looks it is busy."""

    def __init__(self, pids: dict[str, int], ready: int = 0) -> None:
        self.pids, self.looks, self._ready = pids, 0, ready

    def status(self) -> dict[str, Any]:
        self.looks += 1
        if self.looks <= self._ready:
            raise PlatformUnavailable("the root is being brought back")
        leaves = [node(name, pid) for name, pid in self.pids.items()]
        return {"tree": node("root", None, node("pool", None, *leaves[:1]), *leaves[1:])}


@pytest.fixture
def processes() -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """A real process for each name of the tree: what is killed is seen to die."""
    wait = "import sys; sys.stdin.read()"
    born = {
        name: subprocess.Popen([sys.executable, "-I", "-S", "-c", wait], stdin=subprocess.PIPE)
        for name in (*CELLS, "run-r-1", *BYSTANDERS)
    }
    yield born
    for process in born.values():
        process.kill()
        process.communicate()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(Session, "say", lambda _, words: lines.append(words))
    monkeypatch.setattr(chaos, "QUIET_S", (0.0, 0.0))
    monkeypatch.setattr(chaos, "LOOK_EVERY_S", 0.001)
    return lines


@pytest.fixture
def session(home: Home) -> Session:
    pools = [PoolUse(PoolSpec("ours", {}, "/code"), {})]
    write_spec(home, RunSpec("r-1", b"", "plan.yaml", b"", {}, pools, "user:ada", 0.0))
    return Session(home=home)


def struck(session: Session, platform: Any, seed: int) -> None:
    """Chaos to its end, however long the run would have gone on."""
    with Chaos(session, platform, "r-1", seed) as blows:
        blows._thread.join(20)
        assert not blows._thread.is_alive()


def test_a_cell_and_the_run_die_and_nobody_else(
    session: Session, said: list[str], processes: dict[str, subprocess.Popen[bytes]]
) -> None:
    struck(session, Tree({name: process.pid for name, process in processes.items()}, ready=3), seed=1)
    killed = [line.split()[2] for line in said]
    assert len(killed) == 2
    assert "run-r-1" in killed
    assert set(killed) - {"run-r-1"} < set(CELLS)
    assert [processes[name].wait(10) for name in killed] == [-9, -9]
    spared = [psutil.Process(processes[name].pid) for name in processes if name not in killed]
    assert all(process.status() != psutil.STATUS_ZOMBIE for process in spared)


def test_a_seed_strikes_the_same_again_and_another_one_differently(
    session: Session, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chaos.os, "kill", lambda pid, number: None)
    platform = Tree(dict.fromkeys((*CELLS, "run-r-1", *BYSTANDERS), 1))
    courses = []
    for seed in (*range(12), *range(12)):
        said.clear()
        struck(session, platform, seed)
        courses.append(tuple(said))
    assert courses[:12] == courses[12:]
    assert len(set(courses)) == 4  # Two cells to choose from, two orders.


@pytest.mark.parametrize("there", [(), CELLS, ("run-r-1", *BYSTANDERS)])
def test_a_run_that_ends_before_both_are_there_is_left_in_peace(
    session: Session, said: list[str], there: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chaos.os, "kill", lambda pid, number: pytest.fail("nothing may be killed"))
    platform = Tree(dict.fromkeys(there, 1))
    with Chaos(session, platform, "r-1", 1):
        while platform.looks < 2:
            time.sleep(0.001)
    assert said == ["chaos: the run ended before anything was killed"]


def test_who_died_by_itself_meanwhile_is_not_claimed(
    session: Session, said: list[str], processes: dict[str, subprocess.Popen[bytes]]
) -> None:
    gone = processes["run-r-1"]
    gone.kill()
    gone.wait(10)
    struck(session, Tree({name: process.pid for name, process in processes.items()}), seed=1)
    assert [line.split()[2] in CELLS for line in said] == [True]
