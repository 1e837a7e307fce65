"""A compliance report as one HTML file that asks nothing of anywhere.

Two walls stand between what agents wrote into the log and whoever opens the page: every word goes through `escape` and stands
only in text, never in an attribute, a style or a URL; and the page's policy allows one style sheet, by the hash of its bytes, and
no script at all.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from html import escape

from .compliance import CAUTION, Finding, Report, moment
from .report_markdown import period

STYLE = """
:root{--ink:#1b1f24;--soft:#5b6570;--line:#d5dae0;--paper:#fff;--back:#f5f6f8;--bad:#9b1c3a;--good:#2d6a4f}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ed;--soft:#9aa5b1;--line:#343c46;--paper:#1a1e23;--back:#121519;
--bad:#ff7b93;--good:#79c7a0}}
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:960px;margin:0 auto;padding:28px 20px}h1{font-size:28px;margin:0}h2{margin:0 0 6px;font-size:18px}
h3{font-size:14px;margin:14px 0 4px}.soft{color:var(--soft)}.bad{color:var(--bad)}.good{color:var(--good)}
section,blockquote{background:var(--paper);border:1px solid var(--line);border-radius:8px;padding:14px 18px;margin:16px 0}
code{font:13px/1.45 ui-monospace,monospace;overflow-wrap:anywhere}li{overflow-wrap:anywhere}ul{margin:4px 0;padding-left:20px}
@media print{body{background:none}section{break-inside:avoid}}
"""


def render(report: Report) -> str:
    framework, basis = report.framework, report.basis
    standing = basis.standing
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    title = escape(f"{framework.title}: what the audit log shows")
    state = '<b class="good">verified</b>' if standing.verified else '<b class="bad">does not verify</b>'
    facts = (
        f"Source: {escape(framework.source)}.",
        f"Applies: {escape(framework.applies)}",
        f"Time: {escape(period(report))}.",
        f"Log: {escape(standing.origin)}, {standing.size:,} entries, root <code>{escape(standing.root)}</code>, {state}.",
        f"Made {escape(moment(basis.made_at))} by {escape(basis.made_by)}.",
    )
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer">',
            f"<title>{title}</title>",
            f"<style>{STYLE}</style></head><body><main>",
            f"<h1>{title}</h1><blockquote>{escape(CAUTION)}</blockquote>{_list(facts)}",
            *(_finding(finding) for finding in report.findings),
            "</main></body></html>",
            "",
        ]
    )


def _finding(finding: Finding) -> str:
    return (
        f'<section><h2>{escape(finding.name)}</h2><p class="soft">{escape(finding.asks)}</p>'
        f"<h3>The log shows</h3>{_list(map(escape, finding.shows))}"
        f"<h3>To check it</h3>{_list(f'<code>{escape(one)}</code>' for one in finding.check)}"
        f"<h3>It does not show</h3>{_list(map(escape, finding.not_shown))}</section>"
    )


def _list(items: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"
