"""The release gate's agents: thin over the analyzers of `gate/`, which know nothing of AIP.

Every capability takes and gives plain JSON values; what is large lies on a shelf beside the report (`gate/shelf.py`) and travels
as its path: `inventory`, `part` and `behaviours` are such paths. The synchronous ones run in threads, off the cell's loop: they
read files and parse. `Integrity`, `Behaviour` and `Provenance` answer the same capability, `review.vote`, each on evidence of its
own.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from gate import (
    collector,
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
    shelf,
    verdict,
)
from gate.audit import reached
from gate.environment import locate
from gate.finding import Finding
from gate.inventory import Inventory, Slice, take
from gate.report import content, history

import aip
from aip.errors import NotFound
from aip.governance import audit
from aip.records import stored_run
from aip.settings import Home

Json = dict[str, Any]
ENDED = frozenset({"succeeded", "failed", "cancelled", "killed"})
T = TypeVar("T")


class Surveyor(aip.Agent):
    """Finds the environment, its distributions and its files, and cuts them into slices."""

    @aip.capability("gate.inventory")
    def inventory(self, parts: str, environment: str | None = None, run: str | None = None) -> Json:
        """`parts` is where the shelves stand; what ended runs left there goes. `environment` None: the one this runs in."""
        shelf.clear(Path(parts), _has_ended)
        found, place = take(locate(environment or "")), Path(parts, run or "alone")
        return {
            "whole": shelf.put(place, found.to_json()),
            "slices": [shelf.put(place, part.to_json()) for part in found.slices],
        }

    @aip.capability("gate.baseline")
    def baseline(self, path: str | None = None) -> Json | None:
        """The earlier report to compare with. Read before anything is written: it may be the very file that is replaced."""
        return content.load_baseline(Path(path)) if path else None


class Scanner(aip.Agent):
    """Scans one slice of at most 200 files. Stateless: any number of replicas may work side by side.

    `marker` is a file that every finished scan leaves a line in: from outside one sees what ran, and how often.
    """

    @aip.capability("gate.hash")
    def hash(self, part: str, marker: str | None = None) -> list[Json]:
        given = _slice(part)
        found = _plain(record.verify(given.environment, given.entries))
        return _marked(found, marker, f"hashes/{given.number}")

    @aip.capability("gate.behaviour")
    def behaviour(self, part: str, marker: str | None = None) -> str:
        given = _slice(part)
        with collector.resting():
            found = shelf.put(Path(part).parent, scan.behaviour(given).to_json())
        return _marked(found, marker, f"behaviours/{given.number}")

    @aip.capability("gate.native")
    def native(self, part: str, marker: str | None = None) -> list[Json]:
        given = _slice(part)
        return _marked(_plain(native.scan(given)), marker, f"native_code/{given.number}")


class Analyst(aip.Agent):
    """What can only be said once all slices are known."""

    @aip.capability("gate.reach")
    def reach(self, inventory: str, behaviours: list[str]) -> list[Json]:
        with collector.resting():
            return _plain(reached(_inventory(inventory), _behaviours(behaviours)))

    @aip.capability("gate.dependencies")
    def dependencies(self, inventory: str, behaviours: list[str]) -> Json:
        uses = (use for part in _behaviours(behaviours) for use in part.imports)
        return dependency.analyse(_inventory(inventory), uses).to_json()

    @aip.capability("gate.licences")
    def licences(self, inventory: str, dependencies: Json) -> Json:
        edges = dependency.Dependencies.from_json(dependencies).edges
        return licence.analyse(_inventory(inventory), edges).to_json()

    @aip.capability("gate.hooks")
    def hooks(self, inventory: str) -> list[Json]:
        return _plain(hooks.scan(_inventory(inventory)))

    @aip.capability("gate.ownership")
    def ownership(self, inventory: str) -> list[Json]:
        given = _inventory(inventory)
        return _plain([*ownership.collisions(given), *ownership.bytecode(given)])

    @aip.capability("gate.orphans")
    def orphans(self, inventory: str) -> list[Json]:
        return _plain(ownership.orphans(_inventory(inventory)))

    @aip.capability("gate.origins")
    def origins(self, inventory: str) -> list[Json]:
        return _plain(origin.scan(_inventory(inventory)))

    @aip.capability("gate.correlate")
    def correlate(
        self,
        inventory: str,
        behaviours: list[str],
        dependencies: Json,
        licences: Json,
        native_code: list[list[Json]],
        hashes: list[list[Json]],
        others: list[list[Json]],
    ) -> Json:
        """`native_code` and `hashes` come by slice; `others` are the lists of the analyses that only give findings."""
        given = _inventory(inventory)
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
        inventory: str,
        dependencies: Json,
        licences: Json,
        verdict: Json,
        output: str,
        baseline: Json | None = None,
        run: str | None = None,
    ) -> Json:
        report = _report(inventory, dependencies, licences, verdict, run)
        if baseline:
            report = content.with_changes(report, content.compare(baseline, report.verdict, report.inventory))
        files = content.write(Path(output).absolute(), report)
        return {"state": report.state, "files": files}

    @aip.capability("gate.conclude")
    def conclude(
        self,
        inventory: str,
        dependencies: Json,
        licences: Json,
        verdict: Json,
        output: str,
        gate: Json | None = None,
        status: str = "skipped",
        baseline: Json | None = None,
        run: str | None = None,
    ) -> Json:
        """`gate` is the gate's output, or None where it did not open or was denied; `status` tells which."""
        report = content.decided(_report(inventory, dependencies, licences, verdict, run), gate, status)
        if baseline:
            report = content.with_changes(report, content.compare(baseline, report.verdict, report.inventory))
        files = content.write(Path(output).absolute(), report)
        return {"state": report.state, "files": files}


def _report(
    inventory: str, dependencies: Json, licences: Json, given: Json, run: str | None
) -> content.Report:
    """`run` is the id of the run that this report is a part of: its timeline is read from the platform's records."""
    decided = verdict.Verdict.from_json(given)
    return content.Report(
        _inventory(inventory),
        dependency.Dependencies.from_json(dependencies),
        licence.Licences.from_json(licences),
        decided,
        content.state_of(decided),
        run=_history(run) if run else None,
        created=datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds"),
    )


def _marked(value: T, marker: str | None, line: str) -> T:
    if marker:
        with Path(marker).open("ab", buffering=0) as file:  # One write of an appending file: lines never mix.
            file.write(f"{line}\n".encode())
    return value


def _has_ended(run: str) -> bool:
    """Whether nothing of that run is at work any more. Of a run that this platform does not know, nobody can say."""
    try:
        return stored_run(Home.find(), run)["state"] in ENDED
    except NotFound:
        return False


def _history(run: str) -> Json:
    home = Home.find()
    log = audit.log_path(home.audit)
    return history.history(stored_run(home, run), audit.read(log) if log.exists() else ())


def _inventory(part: str) -> Inventory:
    return Inventory.from_json(shelf.take(part))


def _slice(part: str) -> Slice:
    return Slice.from_json(shelf.take(part))


def _behaviours(parts: list[str]) -> list[scan.Behaviour]:
    return [scan.Behaviour.from_json(shelf.take(part)) for part in parts]


def _findings(groups: list[list[Json]]) -> list[Finding]:
    return [Finding.from_json(item) for group in groups for item in group]


def _plain(findings: list[Finding]) -> list[Json]:
    return [item.to_json() for item in findings]
