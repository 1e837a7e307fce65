"""What the log shows for a clause of a law or a standard, how that can be checked, and what it does not show.

Three columns for each clause, the third as carefully as the first: a log is evidence of events, never of intent, of a complete
risk analysis, or of what people understood. Nothing here says "compliant". The clauses are paraphrased, their source is named,
and their text decides.

Pure: facts in, a report out. The clauses are `clauses.py`'s; `report_markdown.py` and `report_html.py` write a report down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from .record_facts import RecordFacts, StopOrder

DAY_S = 86_400
SIX_MONTHS_DAYS = 183  # Article 19(1) and 26(6): at least six months.


@dataclass(frozen=True, slots=True)
class Standing:
    """How the log itself stood when the report was made."""

    origin: str
    size: int
    root: str
    verified: bool
    problems: tuple[str, ...]
    trusted_key: bool
    """Whether the checkpoint was checked with a key that was handed in, rather than the one beside the log."""
    witnesses: int
    oldest_at: float | None
    """The oldest entry that is kept, of the whole log."""
    dropped: int
    """Entries whose bodies retention dropped; their hashes are kept."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What a report is made of."""

    facts: RecordFacts
    standing: Standing
    since: float | None
    until: float | None
    made_at: float
    made_by: str


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause: what it asks for, in our words, and the three answers."""

    name: str
    asks: str
    shows: Callable[[Basis], list[str]]
    check: tuple[str, ...]
    not_shown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Framework:
    key: str
    title: str
    source: str
    applies: str
    clauses: tuple[Clause, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """A clause with what the log shows for it."""

    name: str
    asks: str
    shows: tuple[str, ...]
    check: tuple[str, ...]
    not_shown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    framework: Framework
    basis: Basis
    findings: tuple[Finding, ...]


CAUTION = (
    "This report counts what an audit log holds. It is evidence for an assessment, not an assessment, a certificate or legal "
    "advice. Whether a system is subject to a clause, and whether a measure is sufficient, is for people to judge."
)


def report(framework: Framework, basis: Basis) -> Report:
    """What the log shows for each clause (`clauses.py` has them)."""
    findings = (
        Finding(one.name, one.asks, tuple(one.shows(basis)), one.check, one.not_shown)
        for one in framework.clauses
    )
    return Report(framework, basis, tuple(findings))


# What the log shows ---------------------------------------------------------------------------------------------------


def moment(at: float | None) -> str:
    if at is None:
        return "never"
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    if seconds < 2 * 3_600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3_600:.0f} h" if seconds < 2 * DAY_S else f"{seconds / DAY_S:.0f} days"


def count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def recording(basis: Basis) -> list[str]:
    """That events were recorded, over which time, and where not."""
    facts, tally = basis.facts, basis.facts.tally
    shown = [
        f"{count(tally.entries, 'entry', 'entries')} of {count(len(facts.kinds), 'kind')}, from {moment(tally.first_at)} to "
        f"{moment(tally.last_at)}.",
        f"{count(facts.calls, 'call')} recorded one by one, {count(facts.admitted, 'admitted message')} recorded as counts with "
        "Merkle roots.",
        f"Longest time without any entry: {duration(facts.longest_silence_s)}.",
    ]
    lost = count(tally.lost, "entry", "entries")
    shown.append(
        f"{lost} that producers numbered never reached the log; each gap is an entry itself."
        if tally.lost
        else "No gap in what producers numbered."
    )
    return shown


def integrity(basis: Basis) -> list[str]:
    standing = basis.standing
    whose = (
        "a key that was handed in" if standing.trusted_key else "the key beside the log, which proves less"
    )
    shown = [
        f"The log {standing.origin} had {count(standing.size, 'entry', 'entries')} at its last signed checkpoint, root "
        f"{standing.root}.",
        f"Hash chain, Merkle tree and checkpoint {'hold' if standing.verified else 'DO NOT HOLD'}, checked with {whose}.",
        f"{count(standing.witnesses, 'witness', 'witnesses')} cosigned that checkpoint.",
    ]
    return shown + [f"Found: {problem}" for problem in standing.problems]


def situations(basis: Basis) -> list[str]:
    """Events that can mean risk: refusals, failures, ends that were not planned."""
    facts = basis.facts
    refused = ", ".join(f"{code} {number:,}" for code, number in facts.refusals.most_common(10)) or "none"
    failures = {
        kind: number
        for kind, number in sorted(facts.kinds.items())
        if kind.endswith(
            ("failed", ".lost", "_expired", ".gave_up", ".escalated", "blocked_loop", ".killed_blocked")
        )
    }
    failed = ", ".join(f"{kind} {number:,}" for kind, number in failures.items()) or "none"
    return [f"Refusals by code: {refused}.", f"Failures by kind: {failed}."]


def changes(basis: Basis) -> list[str]:
    """Policies in force, and that they changed."""
    before, since = basis.facts.revision_before, basis.facts.tally.revisions
    shown = [
        f"Policy revision {one.revision} in force since {moment(one.at)} (entry {one.index})."
        for one in ([before] if before else []) + since
    ]
    return shown if since else [*shown, "No activation of a policy in this time."]


def operation(basis: Basis) -> list[str]:
    kinds, facts = basis.facts.kinds, basis.facts
    ends = ("begun", "done", "failed", "refused", "unknown")
    effects = ", ".join(f"{name} {kinds[f'effect.{name}']:,}" for name in ends)
    return [
        f"Types of agents named: {len(facts.agents):,}.",
        f"Effects on the outside: {effects}; {count(facts.effects_open, 'effect')} without a recorded end in this time.",
        f"Runs ended: {kinds['run.ended']:,}.",
    ]


def stopping(basis: Basis) -> list[str]:
    """Stop orders with their times."""
    facts = basis.facts
    shown = [f"{count(facts.stop_orders_total, 'stop order')} raised, {facts.lifted_total:,} lifted."]
    if facts.stop_orders_total + facts.lifted_total > len(facts.stop_orders):
        shown.append(f"The first {len(facts.stop_orders)} of them:")
    shown += [_order(one) for one in facts.stop_orders]
    after = facts.refusals["refused.killed"]
    return [
        *shown,
        f"{count(after, 'message or effect', 'messages and effects')} refused because of a stop order.",
    ]


def _order(one: StopOrder) -> str:
    did = "lifted the order on" if one.lifted else f"ordered {one.level} on"
    told = (
        f"{moment(one.at)}: {one.by or 'nobody named'} {did} {one.target} ({one.reason or 'no reason given'})"
    )
    if one.recorded_after_s is None:
        return f"{told}."
    return f"{told}; its entry followed after {duration(one.recorded_after_s)}."


def deciding(basis: Basis) -> list[str]:
    """Decisions of people, and other acts by which they stepped in."""
    facts = basis.facts
    waited = sorted(one.waited_s for one in facts.decisions if one.waited_s is not None)
    shown = [
        f"{count(facts.kinds['gate.opened'], 'question')} put to people, {facts.decisions_total:,} answered"
        + (f"; median wait {duration(waited[len(waited) // 2])}." if waited else ".")
    ]
    if facts.decisions_total > len(facts.decisions):
        shown.append(f"The first {len(facts.decisions)} of them:")
    for one in facts.decisions:
        shown.append(
            f"{moment(one.at)}: {one.by or 'nobody named'}: {one.decision} at {one.task} of {one.run}."
        )
    acts = ", ".join(
        f"{kind} {number:,}" for kind, number in sorted(facts.persons.items()) if kind != "run.decide"
    )
    return [*shown, f"Other recorded acts of people: {acts or 'none'}."]


def keeping(basis: Basis) -> list[str]:
    """How far the log reaches back."""
    standing = basis.standing
    if standing.oldest_at is None:
        return ["The log is empty."]
    days = int((basis.made_at - standing.oldest_at) // DAY_S)
    reach = (
        f"that is the {SIX_MONTHS_DAYS} days of six months or more"
        if days >= SIX_MONTHS_DAYS
        else f"less than the {SIX_MONTHS_DAYS} days of six months; a younger system cannot have more"
    )
    shown = [
        f"The oldest entry that is kept is of {moment(standing.oldest_at)}, {count(days, 'day')} ago: {reach}."
    ]
    if standing.dropped:
        shown.append(
            f"The bodies of {count(standing.dropped, 'older entry', 'older entries')} were dropped; their hashes are kept."
        )
    return shown


def responding(basis: Basis) -> list[str]:
    return [*stopping(basis), *deciding(basis)[-1:]]
