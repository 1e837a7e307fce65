"""A compliance report in Markdown. What comes out of the log is escaped: agents choose some of its words."""

from __future__ import annotations

import re

from .compliance import CAUTION, Finding, Report, moment

# What begins markup inside a line, and what begins a link that nobody marked as one.
MARKUP = re.compile(r"([\\`*_{}\[\]<>#!|~&@]|:(?=//)|(?<=www)\.)", re.IGNORECASE)


def text(words: str) -> str:
    """Words as words: no link, no markup, no second line."""
    return MARKUP.sub(r"\\\1", " ".join(words.split()))


def render(report: Report) -> str:
    framework, basis = report.framework, report.basis
    lines = [
        f"# {framework.title}: what the audit log shows",
        "",
        f"> {CAUTION}",
        "",
        f"- Source: {framework.source}.",
        f"- Applies: {framework.applies}",
        f"- Time: {period(report)}.",
        f"- Log: {text(basis.standing.origin)}, {basis.standing.size:,} entries, root `{basis.standing.root}`.",
        f"- Made {moment(basis.made_at)} by {text(basis.made_by)}.",
        "",
    ]
    for finding in report.findings:
        lines += _finding(finding)
    return "\n".join(lines).rstrip() + "\n"


def period(report: Report) -> str:
    since, until = report.basis.since, report.basis.until
    start = "the beginning of the log" if since is None else moment(since)
    return f"from {start} until {'now' if until is None else moment(until)}"


def _finding(finding: Finding) -> list[str]:
    return [
        f"## {finding.name}",
        "",
        f"*Asks:* {finding.asks}",
        "",
        "**The log shows**",
        "",
        *(f"- {text(one)}" for one in finding.shows),
        "",
        "**To check it**",
        "",
        *(f"- `{one}`" for one in finding.check),
        "",
        "**It does not show**",
        "",
        *(f"- {one}" for one in finding.not_shown),
        "",
    ]
