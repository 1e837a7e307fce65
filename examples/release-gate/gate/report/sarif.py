"""SARIF 2.1.0 (OASIS), as code scanners read it. Locations are relative to %ENVROOT%, the prefix of the audited environment."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from ..finding import RULES, Finding, Severity, Status
from .content import Report

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {
    Severity.INFO: "note",
    Severity.LOW: "note",
    Severity.MEDIUM: "warning",
    Severity.HIGH: "error",
    Severity.CRITICAL: "error",
}
_SCORES = {
    Severity.INFO: "0.0",
    Severity.LOW: "3.0",
    Severity.MEDIUM: "5.5",
    Severity.HIGH: "8.0",
    Severity.CRITICAL: "9.5",
}


def document(report: Report) -> dict[str, Any]:
    used = sorted({item.rule for item in report.findings})
    index = {rule: number for number, rule in enumerate(used)}
    run: dict[str, Any] = {
        "tool": {"driver": {"name": "release-gate", "rules": [_rule(rule) for rule in used]}},
        "originalUriBaseIds": {
            "ENVROOT": {"description": {"text": "The prefix of the audited environment."}}
        },
        "columnKind": "unicodeCodePoints",
        "results": [_result(item, index[item.rule]) for item in report.findings],
        "properties": {"verdict": report.verdict.decision, "state": report.state},
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(rule: str) -> dict[str, Any]:
    known = RULES[rule]
    return {
        "id": rule,
        "shortDescription": {"text": known.title},
        "help": {"text": known.fix},
        "defaultConfiguration": {"level": _LEVELS[known.severity]},
        "properties": {"security-severity": _SCORES[known.severity], "tags": [rule.partition(".")[0]]},
    }


def _result(item: Finding, index: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": item.rule,
        "ruleIndex": index,
        "level": _LEVELS[item.severity],
        "message": {"text": f"{item.subject or 'nobody'}: {item.detail}"},
        "partialFingerprints": {"releaseGate/v1": item.id},
        "properties": {"severity": item.severity.value, "subject": item.subject, "status": item.status.value},
    }
    if item.file:
        place: dict[str, Any] = {"artifactLocation": {"uri": quote(item.file), "uriBaseId": "ENVROOT"}}
        if item.line:
            place["region"] = {"startLine": item.line}
            if item.evidence:
                place["region"]["snippet"] = {"text": item.evidence}
        result["locations"] = [{"physicalLocation": place}]
    if item.status == Status.ACCEPTED:
        result["suppressions"] = [
            {"kind": "external", "status": "accepted", "justification": "accepted by the reviewers' vote"}
        ]
    return result
