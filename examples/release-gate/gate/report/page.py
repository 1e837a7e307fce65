"""report.html: one file, no request to anywhere.

Two walls stand between the audited environment and whoever opens the page. Everything from the environment goes through `escape`
(quotes too) and stands only in text or in quoted attributes, never in a script, a style or a URL. And the page's policy allows
exactly one style sheet and one script, both by the hash of their bytes: what would slip through the first wall could not run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from ..finding import RULES, SEVERITIES, Finding, Severity
from ..licence import FAMILIES, MATRIX
from . import graph, timeline
from .content import Report

ROWS_MAX = 20_000  # A browser still filters that many rows at once.

STYLE = """
:root{--ink:#1b1f24;--soft:#5b6570;--line:#d5dae0;--paper:#fff;--back:#f5f6f8;--critical:#9b1c3a;
--high:#b8400e;--medium:#8a6100;--low:#2d6a4f;--info:#4a6078;--accent:#2454a6}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ed;--soft:#9aa5b1;--line:#343c46;--paper:#1a1e23;
--back:#121519;--critical:#ff7b93;--high:#ff9d66;--medium:#e6bf55;--low:#79c7a0;--info:#9db6d0;
--accent:#8ab4ff}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main,header{max-width:1180px;margin:0 auto;padding:0 20px}header{padding-top:28px}
h1{font-size:30px;margin:0}h2{margin:34px 0 10px;font-size:19px}
section>div,.card{background:var(--paper);border:1px solid var(--line);border-radius:8px;padding:14px 16px;
overflow-x:auto}
.ship,.approved{color:var(--low)}.held,.denied{color:var(--critical)}.soft{color:var(--soft)}
.counts{display:flex;gap:10px;flex-wrap:wrap;margin:14px 0 0;padding:0;list-style:none}
.counts li{background:var(--paper);border:1px solid var(--line);border-radius:8px;padding:8px 14px}
.counts b{font-size:20px;display:block}.critical b,.sev.critical{color:var(--critical)}
.high b,.sev.high{color:var(--high)}.medium b,.sev.medium{color:var(--medium)}
.low b,.sev.low{color:var(--low)}.info b,.sev.info{color:var(--info)}
.filters{display:flex;gap:10px;flex-wrap:wrap;margin-bottom:10px}
input,select{font:inherit;color:inherit;background:var(--paper);border:1px solid var(--line);
border-radius:6px;padding:6px 9px}
input{flex:1;min-width:220px}
details{background:var(--paper);border:1px solid var(--line);border-radius:6px;margin:5px 0}
summary{cursor:pointer;padding:7px 12px;display:grid;grid-template-columns:74px 190px 150px 1fr;gap:10px;
align-items:baseline;overflow-wrap:anywhere}
summary::-webkit-details-marker{display:none}
details>div{padding:2px 14px 12px;border-top:1px solid var(--line)}
code,pre{font:13px/1.45 ui-monospace,monospace;overflow-wrap:anywhere;white-space:pre-wrap}
pre{background:var(--back);padding:8px 10px;border-radius:6px;margin:8px 0}.sev{font-weight:600}
.tag{border:1px solid var(--line);border-radius:10px;padding:0 8px;font-size:12px}
.tag.blocked{color:var(--critical);border-color:var(--critical)}
.tag.accepted{color:var(--low);border-color:var(--low)}table{border-collapse:collapse;width:100%}
td,th{border-bottom:1px solid var(--line);padding:5px 9px;text-align:left;vertical-align:top}
td.ok{color:var(--low)}td.review{color:var(--medium)}td.conflict{color:var(--critical);font-weight:600}
svg text{font:11px system-ui,sans-serif;fill:var(--ink)}.node rect{fill:var(--back);stroke:var(--line)}
.node.medium rect{stroke:var(--medium)}.node.high rect{stroke:var(--high);stroke-width:2}
.node.critical rect{stroke:var(--critical);stroke-width:2.5}
.edge{fill:none;stroke:var(--soft);stroke-opacity:.35}
.edge.undeclared{stroke:var(--high);stroke-dasharray:4 3;stroke-opacity:.8}
.edge.declared{stroke-dasharray:1 3}.edge:hover{stroke-opacity:1;stroke-width:2}
.bar rect{fill:none;stroke:var(--soft)}.critical-path rect{fill:var(--accent);stroke:var(--accent)}
.killed{stroke:var(--critical);stroke-width:2;stroke-dasharray:3 3}
@media(max-width:760px){summary{grid-template-columns:74px 1fr}}
@media print{.filters{display:none}body{background:none}}
"""

SCRIPT = """
'use strict';
(() => {
  const rows = [...document.querySelectorAll('#rows > details')];
  const words = document.getElementById('words'), severity = document.getElementById('severity');
  const rule = document.getElementById('rule'), status = document.getElementById('status');
  const shown = document.getElementById('shown');
  const text = new Map(rows.map(row => [row, row.textContent.toLowerCase()]));
  const apply = () => {
    const wanted = words.value.toLowerCase().split(/\\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const hit = (!severity.value || Number(row.dataset.rank) >= Number(severity.value))
        && (!rule.value || row.dataset.rule === rule.value) && (!status.value || row.dataset.status === status.value)
        && wanted.every(word => text.get(row).includes(word));
      row.hidden = !hit;
      count += hit;
    }
    shown.textContent = `${count} of ${rows.length}`;
  };
  for (const control of [words, severity, rule, status]) control.addEventListener('input', apply);
  apply();
})();
"""


def render(report: Report) -> str:
    policy = (
        f"default-src 'none'; style-src '{digest(STYLE)}'; script-src '{digest(SCRIPT)}'; "
        "base-uri 'none'; form-action 'none'; img-src 'none'"
    )
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer">',
            f"<title>Release gate: {escape(report.state)}</title>",
            f"<style>{STYLE}</style></head><body>",
            _header(report),
            "<main>",
            _section("Since the baseline", _changes(report)),
            _section("Findings", _findings(report)),
            _section("Dependencies", _graph(report)),
            _section("Licences", _licences(report)),
            _section("Timeline", timeline.render(report.run)),
            "</main>",
            f"<script>{SCRIPT}</script></body></html>",
            "",
        ]
    )


def digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


def _header(report: Report) -> str:
    verdict, inventory = report.verdict, report.inventory
    counts = "".join(
        f'<li class="{severity.value}"><b>{verdict.counts.get(severity.value, 0)}</b>{severity.value}</li>'
        for severity in reversed(SEVERITIES)
    )
    decision = ""
    if report.decision:
        who, why = str(report.decision.get("decision", "")), str(report.decision.get("reason", ""))
        decision = f"<p>Decision: <b>{escape(who)}</b> {escape(why)}</p>"
    written = f" Written {escape(report.created)}." if report.created else ""
    return (
        f'<header><h1 class="{escape(report.state.split()[0])}">{escape(report.state.capitalize())}</h1>'
        f'<p class="soft">{len(inventory.distributions)} distributions, {len(inventory.entries)} files, '
        f"Python {escape(inventory.environment.python)}.{written} {verdict.blocked} findings blocked by vote, "
        f'{verdict.accepted} accepted.</p>{decision}<ul class="counts">{counts}</ul></header>'
    )


def _changes(report: Report) -> str:
    if report.changes is None:
        return ""
    lines = [f"<li>{escape(item)}</li>" for item in report.changes.distributions]
    lines += [f"<li>new: {_name(item)}</li>" for item in report.changes.new]
    lines += [f"<li>gone: {_name(item)}</li>" for item in report.changes.gone]
    return f"<div><ul>{''.join(lines[:ROWS_MAX])}</ul></div>" if lines else "<div>Nothing changed.</div>"


def _name(item: Finding) -> str:
    return (
        f'<span class="sev {item.severity.value}">{item.severity.value}</span> {escape(item.rule)} {escape(item.subject)} '
        f"<code>{escape(item.location)}</code>"
    )


def _findings(report: Report) -> str:
    rules = sorted({item.rule for item in report.findings})
    options = "".join(f'<option value="{escape(rule)}">{escape(rule)}</option>' for rule in rules)
    levels = "".join(
        f'<option value="{item.rank}">{item.value} and worse</option>' for item in SEVERITIES[1:]
    )
    rows = "".join(_finding(item, report.verdict.votes.get(item.id)) for item in report.findings[:ROWS_MAX])
    return (
        '<p class="filters"><input id="words" type="search" placeholder="Words: a file, a distribution, a call">'
        f'<select id="severity"><option value="">every severity</option>{levels}</select>'
        f'<select id="rule"><option value="">every rule</option>{options}</select>'
        '<select id="status"><option value="">every status</option><option>blocked</option><option>accepted</option>'
        "<option>open</option></select>"
        f'<span id="shown" class="soft">{len(report.findings)}</span></p><div id="rows">{rows}</div>'
    )


def _finding(item: Finding, tally: Mapping[str, Any] | None) -> str:
    votes = _votes(tally) if tally else ""
    evidence = f"<pre>{escape(item.evidence)}</pre>" if item.evidence else ""
    return (
        f'<details data-rank="{item.severity.rank}" data-rule="{escape(item.rule)}" data-status="{item.status.value}"'
        f"{' open' if item.severity.rank >= Severity.CRITICAL.rank else ''}>"
        f'<summary><span class="sev {item.severity.value}">{item.severity.value}</span><span>{escape(item.rule)}</span>'
        f"<span>{escape(item.subject or '–')}</span><span><code>{escape(item.location)}</code> {_tag(item)}</span></summary>"
        f"<div><p><b>{escape(RULES[item.rule].title)}.</b> {escape(item.detail)}</p>{evidence}{votes}"
        f'<p>Fix: {escape(item.fix)}</p><p class="soft">{item.id}</p></div></details>\n'
    )


def _tag(item: Finding) -> str:
    return (
        f'<span class="tag {item.status.value}">{item.status.value}</span>' if item.status != "open" else ""
    )


def _votes(tally: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(str(vote.get('voter', '')))}</td><td><b>{escape(str(vote.get('vote', '')))}</b></td>"
        f"<td>{escape(str(vote.get('confidence', '')))}</td><td>{escape(str(vote.get('reason', '')))}<br>"
        f"<code>{escape(' · '.join(map(str, vote.get('evidence', ()))))}</code></td></tr>"
        for vote in tally.get("votes", ())
    )
    return f"<table><tr><th>reviewer</th><th>vote</th><th>confidence</th><th>why</th></tr>{rows}</table>"


def _graph(report: Report) -> str:
    worst: dict[str, Severity] = {}
    for item in report.findings:  # Worst first, by their order.
        worst.setdefault(item.subject, item.severity)
    names = [item.name for item in report.inventory.distributions]
    return f"<div>{graph.render(names, report.dependencies.edges, worst)}</div>"


def _licences(report: Report) -> str:
    groups: dict[str, list[str]] = {}
    for item in report.licences.licences:
        groups.setdefault(item.family or "unknown", []).append(
            f"{item.distribution} ({item.expression or item.stated or 'none'})"
        )
    head = "".join(f"<th>{escape(name)}</th>" for name in FAMILIES)
    matrix = "".join(f"<tr><th>{escape(row)}</th>{_cells(MATRIX[row])}</tr>" for row in FAMILIES)
    lists = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(', '.join(items))}</td></tr>"
        for name, items in sorted(groups.items())
    )
    return (
        f"<div><table><tr><th>dependant \\ dependency</th>{head}</tr>{matrix}</table></div>"
        f"<p></p><div><table><tr><th>family</th><th>distributions</th></tr>{lists}</table></div>"
    )


def _cells(row: Iterable[str]) -> str:
    return "".join(f'<td class="{escape(cell)}">{escape(cell)}</td>' for cell in row)
