"""The whole chain in one process, in the order of plan.yaml: for tests, and for a look without a platform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import collector, dependency, hooks, licence, native, origin, ownership, reach, record, review, scan
from .correlate import Case, correlate
from .dependency import Dependencies
from .environment import locate
from .finding import Finding
from .inventory import Inventory, take
from .licence import Licences
from .verdict import Verdict, decide


@dataclass(frozen=True, slots=True)
class Audit:
    inventory: Inventory
    dependencies: Dependencies
    licences: Licences
    cases: tuple[Case, ...]
    verdict: Verdict


def audit(path: str = "") -> Audit:
    with collector.resting():
        return _audit(path)


def _audit(path: str) -> Audit:
    inventory = take(locate(path))
    behaviours = [scan.behaviour(part) for part in inventory.slices]
    dependencies = dependency.analyse(inventory, (use for part in behaviours for use in part.imports))
    licences = licence.analyse(inventory, dependencies.edges)
    findings: list[Finding] = [
        *inventory.findings,
        *(item for part in inventory.slices for item in record.verify(inventory.environment, part.entries)),
        *native.merged(item for part in inventory.slices for item in native.scan(part)),
        *(item for part in behaviours for item in part.findings),
        *reached(inventory, behaviours),
        *dependencies.findings,
        *licences.findings,
        *hooks.scan(inventory),
        *ownership.collisions(inventory),
        *ownership.orphans(inventory),
        *ownership.bytecode(inventory),
        *origin.scan(inventory),
    ]
    ordered, cases = correlate(inventory, findings, dependencies.edges)
    return Audit(
        inventory,
        dependencies,
        licences,
        tuple(cases),
        decide(ordered, cases, [vote(case) for case in cases]),
    )


def reached(inventory: Inventory, behaviours: list[scan.Behaviour]) -> list[Finding]:
    """Risky calls at import: those that modules reach by themselves, and those that they reach in others."""
    own = [sink for part in behaviours for sink in part.sinks]
    leaps = [leap for part in behaviours for leap in part.leaps]
    elsewhere = reach.follow(inventory.environment, inventory.entries, leaps)
    return reach.judge(own + elsewhere, {entry.path: entry.subject for entry in inventory.entries})


def vote(case: Case) -> Mapping[str, Any]:
    return review.tally({name: judge(case) for name, judge in review.REVIEWERS.items()})
