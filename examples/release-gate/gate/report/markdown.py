"""report.md: for a pull request or a terminal. What comes from the environment is escaped or in a code span."""

from __future__ import annotations

import re

from ..finding import Finding, Severity
from .content import Report

ROWS_MAX = 200  # People stop reading; report.html and findings.json have them all.


def render(report: Report) -> str:
    verdict = report.verdict
    lines = [f"# Release gate: {report.state}", ""]
    if report.created:
        lines += [f"Written {text(report.created)}.", ""]
    lines += [
        f"{len(report.inventory.distributions)} distributions, {len(report.inventory.entries)} files, "
        f"Python {text(report.inventory.environment.python)}. "
        f"{verdict.blocked} findings blocked by vote, {verdict.accepted} accepted.",
        "",
        "| severity | findings |",
        "|---|---:|",
        *(f"| {severity} | {count} |" for severity, count in verdict.counts.items()),
        "",
    ]
    if report.decision:
        lines += [
            f"Decision: {code(str(report.decision.get('decision', '')))} {text(str(report.decision.get('reason', '')))}",
            "",
        ]
    lines += _changes(report) + _judged(report) + _findings(report)
    return "\n".join(lines).rstrip() + "\n"


def _changes(report: Report) -> list[str]:
    changes = report.changes
    if changes is None:
        return []
    lines = ["## Since the baseline", "", f"{len(changes.new)} new findings, {len(changes.gone)} gone.", ""]
    lines += [f"- {text(item)}" for item in changes.distributions[:ROWS_MAX]]
    lines += [f"- new: {_short(item)}" for item in changes.new[:ROWS_MAX]]
    lines += [f"- gone: {_short(item)}" for item in changes.gone[:ROWS_MAX]]
    return [*lines, ""]


def _judged(report: Report) -> list[str]:
    lines: list[str] = []
    for item in report.findings:
        tally = report.verdict.votes.get(item.id)
        if tally is None:
            continue
        lines += [f"### {item.status.value}: {_short(item)}", "", text(item.detail), ""]
        if item.evidence:
            lines += [code(item.evidence), ""]
        lines += [
            f"- {text(str(vote.get('voter', '')))}: **{text(str(vote.get('vote', '')))}** "
            f"({vote.get('confidence', 0):.2f}) {text(str(vote.get('reason', '')))}"
            for vote in tally.get("votes", ())
        ]
        lines += ["", f"Fix: {text(item.fix)}", ""]
    return ["## Judged by the reviewers", "", *lines] if lines else []


def _findings(report: Report) -> list[str]:
    rows = [item for item in report.findings if item.severity.rank > Severity.INFO.rank]
    if not rows:
        return ["## Findings", "", "None above info.", ""]
    lines = ["## Findings", "", "| severity | rule | subject | where | what |", "|---|---|---|---|---|"]
    lines += [
        f"| {item.severity.value} | {item.rule} | {text(item.subject)} | {code(item.location)} | {text(item.detail)} |"
        for item in rows[:ROWS_MAX]
    ]
    if len(rows) > ROWS_MAX:
        lines.append(f"\n{len(rows) - ROWS_MAX} more in findings.json.")
    return [*lines, ""]


def _short(item: Finding) -> str:
    return f"{item.severity.value} {item.rule} {text(item.subject)} {code(item.location)}"


def text(value: str) -> str:
    """Plain text in Markdown: every character that could mean something is escaped, and HTML is not possible."""
    flat = " ".join(value.split())
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#+!|~-])", r"\\\1", flat)


def code(value: str) -> str:
    """A code span that its content cannot end: its fence is longer than any run of backticks. Pipes would end a cell."""
    flat = " ".join(value.split()).replace("|", "¦")
    fence = "`" * (max((len(run) for run in re.findall(r"`+", flat)), default=0) + 1)
    return f"{fence} {flat} {fence}" if flat else ""
