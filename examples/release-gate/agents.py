"""The release gate's agents: thin over the analyzers of `gate/`, which know nothing of AIP.

Every capability takes and gives plain JSON values. The synchronous ones run in threads, off the cell's loop: they read files and
parse. `Integrity`, `Behaviour` and `Provenance` answer the same capability, `review.vote`, each on evidence of its own.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gate import (
    correlate,
    dependency,
    hooks,
    licence,
    native,
    origin,
    ownership,
    record,
    review,
    scan,
    verdict,
)
from gate.audit import reached
from gate.environment import locate
from gate.finding import Finding
from gate.inventory import Inventory, Slice, take
from gate.report import content

import aip

Json = dict[str, Any]


class Surveyor(aip.Agent):
    """Finds the environment, its distributions and its files, and cuts them into slices."""

    @aip.capability("gate.inventory")
    def inventory(self, environment: str = "") -> Json:
        return take(locate(environment)).to_json()

    @aip.capability("gate.baseline")
    def baseline(self, path: str = "") -> Json | None:
        """The earlier report to compare with. Read before anything is written: it may be the very file that is replaced."""
        return content.load_baseline(Path(path)) if path else None


class Scanner(aip.Agent):
    """Scans one slice of at most 200 files. Stateless: any number of replicas may work side by side."""

    @aip.capability("gate.hash")
    def hash(self, part: Json) -> list[Json]:
        given = Slice.from_json(part)
        return _plain(record.verify(given.environment, given.entries))

    @aip.capability("gate.behaviour")
    def behaviour(self, part: Json) -> Json:
        return scan.behaviour(Slice.from_json(part)).to_json()

    @aip.capability("gate.native")
    def native(self, part: Json) -> list[Json]:
        return _plain(native.scan(Slice.from_json(part)))


class Analyst(aip.Agent):
    """What can only be said once all slices are known."""

    @aip.capability("gate.reach")
    def reach(self, inventory: Json, behaviours: list[Json]) -> list[Json]:
        return _plain(reached(Inventory.from_json(inventory), _behaviours(behaviours)))

    @aip.capability("gate.dependencies")
    def dependencies(self, inventory: Json, behaviours: list[Json]) -> Json:
        uses = (use for part in _behaviours(behaviours) for use in part.imports)
        return dependency.analyse(Inventory.from_json(inventory), uses).to_json()

    @aip.capability("gate.licences")
    def licences(self, inventory: Json, dependencies: Json) -> Json:
        edges = dependency.Dependencies.from_json(dependencies).edges
        return licence.analyse(Inventory.from_json(inventory), edges).to_json()

    @aip.capability("gate.hooks")
    def hooks(self, inventory: Json) -> list[Json]:
        return _plain(hooks.scan(Inventory.from_json(inventory)))

    @aip.capability("gate.ownership")
    def ownership(self, inventory: Json) -> list[Json]:
        given = Inventory.from_json(inventory)
        return _plain([*ownership.collisions(given), *ownership.bytecode(given)])

    @aip.capability("gate.orphans")
    def orphans(self, inventory: Json) -> list[Json]:
        return _plain(ownership.orphans(Inventory.from_json(inventory)))

    @aip.capability("gate.origins")
    def origins(self, inventory: Json) -> list[Json]:
        return _plain(origin.scan(Inventory.from_json(inventory)))

    @aip.capability("gate.correlate")
    def correlate(
        self,
        inventory: Json,
        behaviours: list[Json],
        dependencies: Json,
        licences: Json,
        native_code: list[list[Json]],
        hashes: list[list[Json]],
        others: list[list[Json]],
    ) -> Json:
        """`native_code` and `hashes` come by slice; `others` are the lists of the analyses that only give findings."""
        given = Inventory.from_json(inventory)
        needs = dependency.Dependencies.from_json(dependencies)
        every = [
            *given.findings,
            *native.merged(_findings(native_code)),
            *(item for part in _behaviours(behaviours) for item in part.findings),
            *needs.findings,
            *licence.Licences.from_json(licences).findings,
            *_findings([*hashes, *others]),
        ]
        ordered, cases = correlate.correlate(given, every, needs.edges)
        return {"findings": _plain(ordered), "cases": [case.to_json() for case in cases]}

    @aip.capability("gate.verdict")
    def verdict(self, correlated: Json, votes: list[Json | None]) -> Json:
        findings = [Finding.from_json(item) for item in correlated["findings"]]
        cases = [correlate.Case.from_json(item) for item in correlated["cases"]]
        return verdict.decide(findings, cases, votes).to_json()


class Integrity(aip.Agent):
    """Votes on what the files are: their bytes now, against RECORD."""

    @aip.capability("review.vote")
    def vote(self, case: Json) -> Json:
        return review.integrity(correlate.Case.from_json(case)).to_json()


class Behaviour(aip.Agent):
    """Votes on what the code does, whoever wrote it."""

    @aip.capability("review.vote")
    def vote(self, case: Json) -> Json:
        return review.behaviour(correlate.Case.from_json(case)).to_json()


class Provenance(aip.Agent):
    """Votes on where it comes from, whatever it does."""

    @aip.capability("review.vote")
    def vote(self, case: Json) -> Json:
        return review.provenance(correlate.Case.from_json(case)).to_json()


class Reporter(aip.Agent):
    """Writes the report, and adds the decision to it. Both write whole files under fixed names: doing it twice does no harm."""

    @aip.capability("gate.report")
    def report(
        self,
        inventory: Json,
        dependencies: Json,
        licences: Json,
        verdict: Json,
        output: str,
        baseline: Json | None = None,
        run: Json | None = None,
    ) -> Json:
        report = _report(inventory, dependencies, licences, verdict, run)
        if baseline:
            report = content.with_changes(report, content.compare(baseline, report.verdict, report.inventory))
        files = content.write(Path(output).absolute(), report)
        return {"state": report.state, "files": files}

    @aip.capability("gate.conclude")
    def conclude(
        self,
        inventory: Json,
        dependencies: Json,
        licences: Json,
        verdict: Json,
        output: str,
        gate: Json | None = None,
        status: str = "skipped",
        baseline: Json | None = None,
        run: Json | None = None,
    ) -> Json:
        """`gate` is the gate's output, or None where it did not open or was denied; `status` tells which."""
        report = content.decided(_report(inventory, dependencies, licences, verdict, run), gate, status)
        if baseline:
            report = content.with_changes(report, content.compare(baseline, report.verdict, report.inventory))
        files = content.write(Path(output).absolute(), report)
        return {"state": report.state, "files": files}


def _report(
    inventory: Json, dependencies: Json, licences: Json, given: Json, run: Json | None
) -> content.Report:
    decided = verdict.Verdict.from_json(given)
    return content.Report(
        Inventory.from_json(inventory),
        dependency.Dependencies.from_json(dependencies),
        licence.Licences.from_json(licences),
        decided,
        content.state_of(decided),
        run=run,
        created=datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds"),
    )


def _behaviours(values: list[Json]) -> list[scan.Behaviour]:
    return [scan.Behaviour.from_json(item) for item in values]


def _findings(groups: list[list[Json]]) -> list[Finding]:
    return [Finding.from_json(item) for group in groups for item in group]


def _plain(findings: list[Finding]) -> list[Json]:
    return [item.to_json() for item in findings]
