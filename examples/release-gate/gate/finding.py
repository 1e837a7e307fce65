"""A finding: one thing that is wrong with one place of an environment, and the table of all the rules there are.

A finding's `id` is the hash of its rule, its subject and its location. The same fault in the same place therefore has the same
id in every run, on every machine, and a baseline can be compared by ids alone. Nothing in a finding depends on the time, on the
order in which files were read, or on where the environment stands on the disk: paths are relative to its prefix.

Severity is what the rule says about the fault by itself. Whether it may ship is decided later, by the reviewers' votes on the
`votable` ones (`correlate.py`, `verdict.py`); that is the finding's `status`.

    status      means
    open        reported, nobody was asked
    blocked     the reviewers voted that it must not ship
    accepted    the reviewers looked at it and voted that it may
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

EVIDENCE_CHARS_MAX = 240  # An excerpt that shows the fault, not the file.
FIX_CHARS_MAX = 400
ID_HEX_CHARS = 16  # 64 bits: no two findings of one environment collide by chance.


class Severity(StrEnum):
    INFO = "info"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        return SEVERITIES.index(self)


SEVERITIES: tuple[Severity, ...] = tuple(Severity)


class Status(StrEnum):
    OPEN = "open"
    BLOCKED = "blocked"
    ACCEPTED = "accepted"


@dataclass(frozen=True, slots=True)
class Rule:
    """`severity` is the usual one; an analyzer may say another where the case differs. `votable`: reviewers can judge it."""

    id: str
    severity: Severity
    title: str
    fix: str
    votable: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    rule: str
    severity: Severity
    subject: str  # The distribution (normalised name), or "" where nobody owns the file.
    file: (
        str  # Relative to the environment's prefix, with forward slashes; "" for the environment as a whole.
    )
    line: int  # From 1; 0 where a line makes no sense.
    detail: str  # One sentence: what is wrong here.
    evidence: str
    fix: str
    symbol: str = (
        ""  # What the location is about where file:line alone is ambiguous (a requirement, a module).
    )
    status: Status = Status.OPEN

    @property
    def id(self) -> str:
        text = "\0".join((self.rule, self.subject, self.file, str(self.line), self.symbol))
        return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:ID_HEX_CHARS]

    @property
    def location(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, **asdict(self)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Finding:
        fields = {key: value[key] for key in value if key != "id"}
        fields["severity"] = Severity(fields["severity"])
        fields["status"] = Status(fields.get("status", Status.OPEN))
        return cls(**fields)

    def with_status(self, status: Status) -> Finding:
        return replace(self, status=status)


def _rules(*rows: tuple[str, Severity, bool, str, str]) -> dict[str, Rule]:
    return {row[0]: Rule(row[0], row[1], row[3], row[4], row[2]) for row in rows}


_I, _L, _M, _H, _C = SEVERITIES
_REINSTALL = "Reinstall the distribution from a locked, hashed requirement: pip install --force-reinstall --require-hashes."
_READ = "Read the code; if it is not what the distribution needs at import, pin another version or report it upstream."

RULES: dict[str, Rule] = _rules(
    ("record.altered", _C, True, "A file differs from its RECORD hash", _REINSTALL),
    ("record.missing", _M, False, "A file of RECORD does not exist", _REINSTALL),
    ("record.size", _M, False, "RECORD states another size than the file has", _REINSTALL),
    ("record.unhashed", _M, False, "RECORD has no hash for a file",
     "Rebuild the wheel with a tool that hashes every file."),
    ("record.weak", _M, False, "RECORD uses a hash that can be forged", "Rebuild the wheel with sha256 or stronger."),
    ("record.escape", _H, True, "RECORD names a path outside the environment",
     "Do not uninstall it with pip; remove it by hand and report it."),
    ("record.malformed", _M, False, "RECORD cannot be read in full", _REINSTALL),
    ("record.absent", _M, False, "The distribution has no RECORD",
     "Install it from a wheel, so that its files can be verified."),
    ("file.symlink", _M, False, "A link leads out of the environment", "Replace the link by the file."),
    ("file.unreadable", _M, False, "A file cannot be read", "Make it readable, or reinstall its distribution."),
    ("ownership.collision", _L, False, "Two distributions claim one file",
     "Keep one of the two; whichever was installed last wins."),
    ("orphan.code", _M, False, "Importable code that no distribution owns",
     "Delete it, or package it so that it has a RECORD."),
    ("orphan.data", _I, False, "Files that no distribution owns", "Delete them, or package them."),
    ("bytecode.sourceless", _H, True, "Importable bytecode without its source",
     "Ship the source; bytecode alone cannot be reviewed."),
    ("bytecode.unchecked", _M, False, "Bytecode that Python runs without comparing it to its source",
     "Delete it; Python compiles the source again."),
    ("bytecode.stale", _C, True, "Unchecked bytecode that was not made from its source",
     "Delete it at once and find out who wrote it."),
    ("dependency.missing", _H, False, "A declared dependency is not installed", "Install it, or drop the requirement."),
    ("dependency.version", _H, False, "An installed version does not satisfy a requirement", "Resolve the lock again."),
    ("dependency.undeclared", _L, False, "Imports a distribution that it does not declare",
     "Declare the dependency upstream; until then pin it yourself."),
    ("dependency.unresolved", _L, False, "Imports a module that nothing installed provides",
     "Install its distribution, or guard the import."),
    ("dependency.unused", _I, False, "Declares a dependency that it never imports",
     "Drop the requirement if it is not a plug-in or a run-time tool."),
    ("dependency.invalid", _M, False, "A requirement that cannot be parsed", "Fix the Requires-Dist line upstream."),
    ("licence.unknown", _M, False, "No licence is stated",
     "Ask the author; without a licence there is no right to ship it."),
    ("licence.invalid", _L, False, "The licence is not an SPDX expression",
     "State the licence as License-Expression (PEP 639)."),
    ("licence.disagree", _L, False, "The metadata state two different licences", "Ask the author which one holds."),
    ("licence.conflict", _H, False, "Two licences that cannot be shipped together",
     "Replace one of the two, or obtain another licence."),
    ("licence.review", _M, False, "A licence whose obligations reach the dependant",
     "Let counsel look at how the two are combined."),
    ("native.extension", _I, False, "Contains native code, as its wheel declares",
     "Nothing to do; native code is not analysed further."),
    ("native.unexpected", _H, True, "Native code in a distribution that says it is pure Python",
     "Compare it with the project's own release files."),
    ("native.disguised", _C, True, "Native code under a name that says otherwise",
     "Find out what loads it; delete it if nothing may."),
    ("hook.code", _L, False, "A .pth file runs code at every start of Python",
     "Remove the hook if the tool works without it."),
    ("hook.risky", _C, True, "A start-up hook makes a risky call", "Delete the hook and find out what installed it."),
    ("hook.orphan", _H, True, "A start-up hook that no distribution owns",
     "Delete it, or package it so that it has a RECORD."),
    ("hook.path", _M, False, "A .pth file adds a folder outside the environment",
     "Install the code instead of linking to it; it was not audited."),
    ("hook.customize", _M, False, "sitecustomize or usercustomize runs at every start",
     "Move the code into the application."),
    ("risk.exec", _L, False, "Runs code made from text at import", _READ),
    ("risk.process", _M, False, "Starts a process at import", _READ),
    ("risk.network", _M, False, "Opens a connection at import", _READ),
    ("risk.native", _L, False, "Loads a native library by hand at import", _READ),
    ("risk.deserialise", _M, False, "Loads pickled or marshalled objects at import", _READ),
    ("risk.write", _M, False, "Writes, moves or deletes files at import", _READ),
    ("risk.dynamic", _M, False, "Calls a name computed from text on a dangerous module at import", _READ),
    ("risk.obfuscated", _C, True, "Runs code that it first decodes", _READ),
    ("risk.dropper", _C, True, "Fetches from the network and runs code in one module at import", _READ),
    ("source.unparsed", _I, False, "Python source that could not be analysed", "Nothing is known about it; read it."),
    ("entry.missing", _L, False, "An entry point names a module that does not exist", "Fix entry_points.txt upstream."),
    ("entry.collision", _L, False, "Two distributions install one command", "Keep one of the two."),
    ("origin.direct", _L, False, "Installed from a URL or a folder, not from an index",
     "Install the released version from the index."),
    ("origin.insecure", _M, False, "Its origin is not tied to what was installed",
     "Use https and a hash, or a commit id."),
)  # fmt: skip


def finding(
    rule: str,
    subject: str,
    file: str,
    line: int,
    detail: str,
    evidence: str = "",
    *,
    symbol: str = "",
    severity: Severity | None = None,
) -> Finding:
    """A finding by its rule. What comes from the audited environment is cut and made printable here, once."""
    known = RULES[rule]
    return Finding(
        rule,
        severity or known.severity,
        printable(subject),
        printable(file, 1_000),
        line,
        printable(detail),
        printable(evidence),
        known.fix[:FIX_CHARS_MAX],
        printable(symbol),
    )


def printable(text: str, chars_max: int = EVIDENCE_CHARS_MAX) -> str:
    """`text` on one line, without control or surrogate characters (they would garble a terminal or break UTF-8), cut."""
    clean = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text[: chars_max * 2].strip())
    return clean if len(clean) <= chars_max else clean[: chars_max - 1] + "…"


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Worst first, then by place; one per id (the first in that order)."""
    unique: dict[str, Finding] = {}
    for item in sorted(findings, key=_order):
        unique.setdefault(item.id, item)
    return list(unique.values())


def _order(item: Finding) -> tuple[int, str, str, str, int, str, str]:
    return -item.severity.rank, item.rule, item.subject, item.file, item.line, item.symbol, item.detail


def canonical(findings: Iterable[Finding]) -> bytes:
    """The findings as bytes that are equal whenever the findings are."""
    rows = [item.to_json() for item in ordered(findings)]
    return (json.dumps(rows, ensure_ascii=False, sort_keys=True, indent=1) + "\n").encode()
