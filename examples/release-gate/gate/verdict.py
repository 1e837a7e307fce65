"""The verdict: may it ship?

    hold    somebody must decide: reviewers blocked something, or something critical was not judged
    ship    nothing stands against it; what is left are remarks

    severity      accepted by
    critical      all reviewers: one that blocks is enough to ask a person
    high          more than half of them

A finding that the reviewers accepted keeps its severity and is shown, but does not hold the release. A case whose vote has no
majority, or did not come about, counts as blocked: doubt is for people to resolve. Unanimity where it is critical is what stands
between a malicious release and those who install it: its RECORD is in order and its origin is known, only its code speaks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .correlate import Case
from .finding import SEVERITIES, Finding, Severity, Status, ordered

ALLOW = "allow"


@dataclass(frozen=True, slots=True)
class Verdict:
    decision: str  # "ship" | "hold"
    reasons: tuple[str, ...]
    counts: Mapping[str, int]
    blocked: int
    accepted: int
    findings: tuple[Finding, ...]
    votes: Mapping[str, Any]  # By finding id: the tally of its vote.

    def to_json(self) -> dict[str, Any]:
        return {
            "decision": self.decision,
            "reasons": list(self.reasons),
            "counts": dict(self.counts),
            "blocked": self.blocked,
            "accepted": self.accepted,
            "critical": self.blocked,
            "findings": [item.to_json() for item in self.findings],
            "votes": dict(self.votes),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Verdict:
        return cls(
            value["decision"],
            tuple(value["reasons"]),
            value["counts"],
            value["blocked"],
            value["accepted"],
            tuple(Finding.from_json(item) for item in value["findings"]),
            value["votes"],
        )


def decide(
    findings: Iterable[Finding], cases: Sequence[Case], tallies: Sequence[Mapping[str, Any] | None]
) -> Verdict:
    """Put the votes to the findings. `tallies` are in the order of `cases`; None is a vote that did not come about."""
    if len(tallies) != len(cases):
        raise ValueError(f"{len(cases)} cases, {len(tallies)} votes")
    votes = {
        case.finding.id: dict(tally or {"decision": None}) for case, tally in zip(cases, tallies, strict=True)
    }
    judged = ordered(_judged(item, votes) for item in findings)
    blocked = [item for item in judged if item.status == Status.BLOCKED]
    counts = Counter(item.severity.value for item in judged)
    return Verdict(
        "hold" if blocked else "ship",
        tuple(f"{item.rule}: {item.location or item.subject}" for item in blocked),
        {severity.value: counts[severity.value] for severity in reversed(SEVERITIES)},
        len(blocked),
        sum(item.status == Status.ACCEPTED for item in judged),
        tuple(judged),
        dict(sorted(votes.items())),
    )


def _judged(item: Finding, votes: Mapping[str, Mapping[str, Any]]) -> Finding:
    tally = votes.get(item.id)
    if tally is None:
        # Nobody judged it: too many cases, or no rule that reviewers can weigh. What is critical then holds by itself.
        return item.with_status(Status.BLOCKED) if item.severity == Severity.CRITICAL else item
    counts = tally.get("counts") or {}
    unanimous = item.severity != Severity.CRITICAL or set(counts) == {ALLOW}
    return item.with_status(
        Status.ACCEPTED if tally.get("decision") == ALLOW and unanimous else Status.BLOCKED
    )
