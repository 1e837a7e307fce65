"""What a report says, whatever form it takes; and how it is written to a folder.

`findings.json` and everything derived from findings alone is the same bytes in every run over the same environment. What differs
from run to run (time, duration, who decided) is handed in and appears in `report.*` only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..dependency import Dependencies
from ..finding import Finding, canonical
from ..inventory import Inventory
from ..licence import Licences
from ..verdict import Verdict

FORMAT = "release-gate/1"
BASELINE_BYTES_MAX = 256 << 20


class BaselineInvalid(ValueError):
    """The file that was given as baseline is no report of this gate."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Against the baseline, by finding id and by distribution."""

    new: tuple[Finding, ...]
    gone: tuple[Finding, ...]
    distributions: tuple[str, ...]  # "name: 1.0 → 1.1", "name: 1.0 added", "name: 1.0 removed".


@dataclass(frozen=True, slots=True)
class Report:
    """`state`: ship, held for approval, approved, denied. `run` is None, or what timeline.py describes."""

    inventory: Inventory
    dependencies: Dependencies
    licences: Licences
    verdict: Verdict
    state: str
    changes: Changes | None = None
    run: Mapping[str, Any] | None = None
    decision: Mapping[str, Any] | None = None
    created: str = ""  # RFC 3339, handed in; "" leaves it out.
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self.verdict.findings


def state_of(verdict: Verdict) -> str:
    return "ship" if verdict.decision == "ship" else "held for approval"


def with_changes(report: Report, changes: Changes) -> Report:
    return replace(report, changes=changes)


def decided(report: Report, gate: Mapping[str, Any] | None, status: str) -> Report:
    """The report after its gate: `status` is the gate task's end, `gate` its output, if it was approved."""
    if report.verdict.decision == "ship":
        return report
    if status == "succeeded":
        note = (gate or {}).get("note") or ""
        decision = {
            "decision": "approve",
            "reason": f"by {(gate or {}).get('by') or 'its default'}. {note}".strip(),
        }
        return replace(report, state="approved", decision=decision)
    return replace(
        report, state="denied", decision={"decision": "deny", "reason": f"the gate ended as {status}"}
    )


def to_json(report: Report) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "state": report.state,
        "created": report.created,
        "environment": {
            "python": report.inventory.environment.python,
            "site": list(report.inventory.environment.site),
        },
        "distributions": versions(report.inventory),
        "verdict": report.verdict.to_json(),
        "licences": [[item.distribution, item.expression, item.family] for item in report.licences.licences],
        "dependencies": [edge.to_json() for edge in report.dependencies.edges],
        "decision": dict(report.decision) if report.decision else None,
        "run": dict(report.run) if report.run else None,
    }


def versions(inventory: Inventory) -> dict[str, str]:
    return {
        item.name: item.metadata.version
        for item in sorted(inventory.distributions, key=lambda item: item.name)
    }


def load_baseline(path: Path) -> dict[str, Any]:
    if path.stat().st_size > BASELINE_BYTES_MAX:
        raise BaselineInvalid(f"{path} is larger than {BASELINE_BYTES_MAX} bytes")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BaselineInvalid(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise BaselineInvalid(f"{path} is no report.json of format {FORMAT}")
    return {
        "distributions": value.get("distributions"),
        "verdict": {"findings": (value.get("verdict") or {}).get("findings")},
    }


def compare(baseline: Mapping[str, Any], verdict: Verdict, inventory: Inventory) -> Changes:
    try:
        before = {item["id"]: Finding.from_json(item) for item in baseline["verdict"]["findings"]}
        old: dict[str, str] = dict(baseline["distributions"])
    except (KeyError, TypeError, ValueError) as error:
        raise BaselineInvalid(f"the baseline is incomplete: {error!r}") from error
    now = {item.id: item for item in verdict.findings}
    new = versions(inventory)
    lines = []
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            lines.append(f"{name}: {old[name]} removed")
        elif name not in old:
            lines.append(f"{name}: {new[name]} added")
        elif old[name] != new[name]:
            lines.append(f"{name}: {old[name]} → {new[name]}")
    return Changes(
        tuple(item for key, item in now.items() if key not in before),
        tuple(item for key, item in before.items() if key not in now),
        tuple(lines),
    )


def write(folder: Path, report: Report) -> dict[str, str]:
    """All files of the report; each appears whole or not at all. Returns name -> path."""
    from . import bom, markdown, page, sarif

    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "findings.json": canonical(report.findings),
        "report.json": dump(to_json(report)),
        "report.sarif": dump(sarif.document(report)),
        "bom.cdx.json": dump(bom.document(report)),
        "report.md": encoded(markdown.render(report)),
        "report.html": encoded(page.render(report)),
    }
    for name, data in files.items():
        beside = folder / f".{name}.part"
        beside.write_bytes(data)
        os.replace(beside, folder / name)
    return {name: str(folder / name) for name in files}


def dump(value: Any) -> bytes:
    return encoded(json.dumps(value, ensure_ascii=False, sort_keys=True, indent=1) + "\n")


def encoded(text: str) -> bytes:
    """UTF-8, also of text with lone surrogates, such as names that are not UTF-8 have in Python."""
    return text.encode("utf-8", "backslashreplace")
