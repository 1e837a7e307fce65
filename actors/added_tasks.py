"""What an agent wants to add to its run, against what the agents of its plan can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aip.orchestration import run_added
from aip.orchestration.parse import check
from aip.orchestration.parse.problem import invalid
from aip.orchestration.run_state import Run

from .run_spec import RunSpec


def refuse_unfit(run: Run, spec: RunSpec, attempt: str, source: bytes) -> None:
    """Raises `PlanInvalid` for a capability or an argument that its agent has not, as `aip plan check` does for a plan's own."""
    adder = next((one.task for one in run.in_flight.values() if one.id == attempt), None)
    fresh = None if adder is None else run_added.fresh(run, adder, source)
    if adder is None or fresh is None:
        return  # Too late, or a repeat: the machine says which.
    added = run_added.specs(run, adder, fresh)
    siblings = {one.name: one.spec for one in adder.added}
    tasks = {**run.plan.tasks, **siblings, adder.name: adder.spec, **added}
    if problems := check(replace(run.plan, tasks=tasks), manifests(spec)):
        raise invalid(problems)


def manifests(spec: RunSpec) -> Mapping[str, dict[str, Any]]:
    """By the plan's names for its agents."""
    known = {kind: manifest for pool in spec.pools for kind, manifest in pool.manifests.items()}
    return {name: known[kind] for name, kind in spec.types.items()}
