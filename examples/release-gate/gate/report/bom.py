"""CycloneDX 1.6: the environment's distributions, their licences, and who depends on whom. Without a serial number and, unless a
time is handed in, without a timestamp, so that the same environment gives the same bytes."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from ..inventory import Distribution
from .content import Report


def document(report: Report) -> dict[str, Any]:
    licences = {item.distribution: item for item in report.licences.licences}
    components = [
        _component(item, licences[item.name].expression, licences[item.name].stated)
        for item in sorted(
            report.inventory.distributions, key=lambda item: (item.name, item.metadata.version)
        )
    ]
    unique = {item["bom-ref"]: item for item in components}
    references = {item["name"]: item["bom-ref"] for item in components}
    needs: dict[str, set[str]] = {item["bom-ref"]: set() for item in components}
    for edge in report.dependencies.edges:
        if edge.source in references and edge.target in references:
            needs[references[edge.source]].add(references[edge.target])
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "release-gate"}]},
            "component": {"type": "application", "bom-ref": "environment", "name": "environment"},
            "properties": [{"name": "release-gate:verdict", "value": report.verdict.decision}],
        },
        "components": list(unique.values()),
        "dependencies": [{"ref": "environment", "dependsOn": sorted(unique)}]
        + [{"ref": reference, "dependsOn": sorted(needs[reference])} for reference in sorted(unique)],
    }


def _component(item: Distribution, expression: str, stated: str) -> dict[str, Any]:
    metadata = item.metadata
    purl = f"pkg:pypi/{quote(item.name, safe='')}@{quote(metadata.version, safe='')}"
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": item.name,
        "version": metadata.version,
        "purl": purl,
        "properties": [{"name": "release-gate:installer", "value": metadata.installer or "unknown"}],
    }
    if metadata.summary:
        component["description"] = metadata.summary
    if metadata.author:
        component["author"] = metadata.author
    if expression:
        component["licenses"] = [{"expression": expression}]
    elif stated:
        component["licenses"] = [{"license": {"name": stated}}]
    return component
