"""From all findings to the few that reviewers must judge.

Suspicious is what is bad by itself (votable and at least `high`), and what is odd twice: a risky call in a file that was altered,
that nobody owns, or that runs at every start. Each becomes a `Case`: the finding and what else is known about its file and its
distribution, so that a reviewer need not read the whole report.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .dependency import Edge
from .environment import Environment
from .finding import RULES, Finding, Severity, ordered
from .inventory import Distribution, Inventory
from .record import Entry

CASES_MAX = 500  # Beyond it, people must look at the environment as a whole; the worst come first.
RELATED_MAX = 50
_ODD_FILES = ("record.altered", "orphan.code", "native.disguised", "native.unexpected", "hook.orphan")


@dataclass(frozen=True, slots=True)
class Case:
    """One suspicious finding with its context. `entry` is what RECORDs say about the file now."""

    finding: Finding
    environment: Environment
    distribution: Distribution | None
    entry: Entry | None
    related: tuple[Finding, ...]
    dependants: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "finding": self.finding.to_json(),
            "environment": self.environment.to_json(),
            "distribution": self.distribution.to_json() if self.distribution else None,
            "entry": self.entry.to_json() if self.entry else None,
            "related": [item.to_json() for item in self.related],
            "dependants": list(self.dependants),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Case:
        return cls(
            Finding.from_json(value["finding"]),
            Environment.from_json(value["environment"]),
            Distribution.from_json(value["distribution"]) if value["distribution"] else None,
            Entry.from_json(value["entry"]) if value["entry"] else None,
            tuple(Finding.from_json(item) for item in value["related"]),
            tuple(value["dependants"]),
        )


def correlate(
    inventory: Inventory, findings: Iterable[Finding], edges: Iterable[Edge]
) -> tuple[list[Finding], list[Case]]:
    """(all findings, in order, those odd twice raised to high; the cases to judge)."""
    by_file: dict[str, list[Finding]] = defaultdict(list)
    every = ordered(findings)
    for item in every:
        by_file[item.file].append(item)
    raised = ordered(_raised(item, by_file[item.file]) for item in every)
    suspicious = [item for item in raised if judged(item)]
    dependants: dict[str, set[str]] = defaultdict(set)
    for edge in edges:
        dependants[edge.target].add(edge.source)
    entries = {entry.path: entry for entry in inventory.entries}
    known = inventory.by_name
    cases = [
        Case(
            item,
            inventory.environment,
            known.get(item.subject),
            entries.get(item.file),
            tuple(other for other in by_file[item.file] if other.id != item.id)[:RELATED_MAX],
            tuple(sorted(dependants[item.subject])) if item.subject else (),
        )
        for item in suspicious[:CASES_MAX]
    ]
    return raised, cases


def judged(item: Finding) -> bool:
    risky = item.rule.startswith("risk.")
    return (RULES[item.rule].votable or risky) and item.severity.rank >= Severity.HIGH.rank


def _raised(item: Finding, same_file: list[Finding]) -> Finding:
    odd = any(other.rule in _ODD_FILES for other in same_file)
    if odd and item.rule.startswith("risk.") and item.severity.rank < Severity.HIGH.rank:
        return replace(item, severity=Severity.HIGH)
    return item
