"""A plan's agents in containers: asked in a sandbox what they can do, and deployed so that no cell has their code on its path."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from sandbox_kit import here, needs_container

from actors import sandboxed
from actors.pool_spec import PoolSpec
from actors.run_spec import RunSpec
from actors.sandboxed import SANDBOXED, SANDBOXED_REENTRANT, SandboxedConfig, contains
from aip import deployment
from aip.compute.sandbox import Demand, Mean, MeansMissing
from aip.deployment import SANDBOXES_PER_CELL, inspect_contained, prepare, single
from aip.errors import PlanInvalid
from aip.orchestration.plan import Isolation
from aip.settings import DEFAULT_LIMITS, Home

AGENTS = '''
import pathlib
import aip

try:
    pathlib.Path("{mark}").write_text("imported")
except OSError:
    pass

class Worker(aip.Agent):
    """Works."""
    @aip.capability
    async def work(self, number: int = 1) -> int:
        return number

class Busy(Worker):
    reentrant = True
'''
HEAD = "apiVersion: aip/v1\nkind: Plan\nmetadata: {name: p}\ntasks: {t: {agent: a, capability: work}}\n"


class Deployer:
    """A home and a folder with strangers' code, which leaves a mark wherever it is imported."""

    def __init__(self, place: Path) -> None:
        self.home = Home(place / "home")
        self.folder = place / "plan"
        self.mark = place / "mark"
        self.folder.mkdir()
        for module in ("one", "two"):
            (self.folder / f"{module}.py").write_text(AGENTS.format(mark=self.mark))

    def __call__(self, **agents: str) -> RunSpec:
        self.text = (
            HEAD + "agents: {" + ", ".join(f"{n}: {{{fields}}}" for n, fields in agents.items()) + "}\n"
        )
        return prepare(self.home, self.text.encode(), "plan.yaml", self.folder, {})


@pytest.fixture
def deployed(tmp_path: Path) -> Deployer:
    needs_container()
    return Deployer(tmp_path)


def test_a_plan_is_made_ready_without_a_line_of_the_strangers_code_outside_a_sandbox(deployed):
    deployed(a="use: 'one:Worker', isolation: container")
    assert not deployed.mark.exists()
    inspect_contained(deployed.folder, ["one:Worker"])
    single(deployed.home, deployed.folder, "one:Worker", Isolation.CONTAINER)
    assert not deployed.mark.exists()
    deployed(a="use: 'one:Worker'")
    assert deployed.mark.exists()  # That is what it would have looked like.


def test_its_cells_have_none_of_its_code_and_are_told_how_to_start_it_in_a_sandbox(deployed):
    run = deployed(
        a="use: 'one:Worker', isolation: container, config: {}, resources: {memory: 256Mi}",
        b="use: 'one:Busy', isolation: container, density: 7",
        c="use: 'one:Worker'",
    )
    a, b, c = (next(use.spec for use in run.pools if run.types[name] in use.spec.types) for name in "abc")
    assert (a.code_root, a.isolation, a.density) == ("", "container", SANDBOXES_PER_CELL)
    assert (a.types[run.types["a"]], b.types[run.types["b"]]) == (SANDBOXED, SANDBOXED_REENTRANT)
    given = SandboxedConfig.model_validate(a.configs[run.types["a"]])
    assert (given.entry, given.limits) == ("one:Worker", {"memory_bytes": 256 * 2**20})
    assert (Path(given.code_root) / "one.py").is_file()
    assert given.manifest["capabilities"]["work"]["kind"] == "async"
    assert b.density == 7
    assert (c.types[run.types["c"]], c.density) == ("one:Worker", DEFAULT_LIMITS.density)
    assert [contains(spec) for spec in (a, b, c)] == [True, True, False]


def test_what_differs_in_class_or_configuration_is_a_type_of_its_own_and_the_same_is_the_same(deployed):
    run = deployed(
        a="use: 'one:Worker', isolation: container",
        same="use: 'one:Worker', isolation: container",
        namesake="use: 'two:Worker', isolation: container",
        told="use: 'one:Worker', isolation: container, config: {tone: dry}",
    )
    assert run.types["a"] == run.types["same"]
    assert len({run.types[name] for name in ("a", "namesake", "told")}) == 3
    assert all(kind.startswith("worker.") for kind in run.types.values())
    (use,) = run.pools
    assert {config["entry"] for config in use.spec.configs.values()} == {"one:Worker", "two:Worker"}


def test_outside_of_containers_two_classes_of_one_name_are_still_refused(deployed):
    with pytest.raises(PlanInvalid, match="same class name"):
        deployed(a="use: 'one:Worker'", b="use: 'two:Worker'")


def test_a_call_that_its_manifest_does_not_know_is_a_problem_of_the_plan(deployed):
    with pytest.raises(PlanInvalid) as told:
        prepare(
            deployed.home,
            HEAD.replace("capability: work", "capability: wrok").encode()
            + b"agents: {a: {use: 'one:Worker', isolation: container}}\n",
            "plan.yaml",
            deployed.folder,
            {},
        )
    (problem,) = told.value.details["problems"]
    assert problem["code"] == "check.capability"


@pytest.mark.parametrize("known", [False, True], ids=["new code", "code that was asked before"])
def test_where_a_wall_is_missing_the_plan_is_refused_and_nothing_of_it_has_run(deployed, monkeypatch, known):
    plan = {"a": "use: 'one:Worker', isolation: container", "b": "use: 'one:Busy'"}
    if known:
        deployed(**plan)
        deployed.mark.unlink()
    short = replace(here(), has=here().has - {Mean.SECCOMP}, why={Mean.SECCOMP: "taken away by this test"})
    monkeypatch.setattr(deployment, "means_here", lambda: short)
    with pytest.raises(MeansMissing, match=r"missing seccomp \(taken away by this test\)") as told:
        deployed(**plan)
    assert told.value.details["missing"] == {"seccomp": "taken away by this test"}
    assert not deployed.mark.exists()


def test_what_was_found_out_in_a_sandbox_is_not_asked_again(deployed, monkeypatch):
    plan = {"a": "use: 'one:Worker', isolation: container"}
    first = deployed(**plan)
    monkeypatch.setattr(deployment, "inspect_sandboxed", None)  # Whoever calls it fails.
    assert deployed(**plan).types == first.types


def test_one_class_without_a_plan_is_deployed_the_same_way(deployed):
    spec, manifests = single(deployed.home, deployed.folder, "one:Worker", Isolation.CONTAINER)
    (kind,) = manifests
    assert contains(spec)
    assert spec.types == {kind: SANDBOXED}
    assert spec.configs[kind]["entry"] == "one:Worker"
    plain, _ = single(deployed.home, deployed.folder, "one:Worker", Isolation.CELL)
    assert (plain.types, plain.configs) == ({f"worker@{plain.pool}": "one:Worker"}, {})
    assert plain.pool != spec.pool


@pytest.mark.parametrize(
    "change",
    [
        {"code_root": "/somewhere"},
        {"runtime_env": {"env_vars": {"PYTHONPATH": "/somewhere"}}},
        {"types": {"worker@1": SANDBOXED, "other@1": "one:Worker"}},
    ],
)
def test_a_pool_with_anything_else_in_it_does_not_pass_for_contained(change):
    whole = PoolSpec("1", {"worker@1": SANDBOXED}, "", 50, "container")
    assert contains(whole)
    assert not contains(msgspec.structs.replace(whole, **change))


def test_this_machine_is_asked_once_in_the_life_of_a_process():
    assert sandboxed.means_here() is sandboxed.means_here()
    assert sandboxed.means_here().missing(Demand()) == here().missing(Demand())
