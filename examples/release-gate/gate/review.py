"""Three reviewers that look at different evidence, so that no single forged thing decides.

    reviewer     reads                                                   does not read
    integrity    the file's bytes now, RECORD, who owns it               what the code does
    behaviour    the file's syntax tree and what an import of it reaches RECORD, metadata
    provenance   INSTALLER, direct_url, URLs, who depends on it          the file

Each answers `block` or `allow` with a confidence, a reason and the evidence it saw, and judges from that evidence alone, also
where another reviewer's says more: that is why what is critical needs all three to pass (`verdict.py`). They are
deterministic rules, written to be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .behaviour import Sink, trace
from .correlate import Case
from .environment import Environment, Unreadable, read
from .inventory import Distribution, load_distribution
from .native import MAGIC_BYTES, SAFE_SUFFIXES, kind
from .record import verify
from .source import SOURCE_BYTES_MAX, Unparsed, module_name, parse

EVIDENCE_MAX = 10
FILE_BYTES_MAX = 64 << 20
_INDEX_INSTALLERS = frozenset({"pip", "uv", "poetry", "pdm", "conda", "pipenv"})
_DECIDING = frozenset({"risk.obfuscated", "risk.dropper", "risk.dynamic"})
_CHANGED = frozenset({"record.altered", "bytecode.stale"})
_CONCERNING = frozenset({"risk.process", "risk.network", "risk.exec", "risk.deserialise"})


@dataclass(frozen=True, slots=True)
class Vote:
    vote: str  # "block" | "allow"
    confidence: float
    reason: str
    evidence: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "vote": self.vote,
            "confidence": self.confidence,
            "reason": self.reason,
            "evidence": list(self.evidence),
        }


def integrity(case: Case) -> Vote:
    """Is the file, now, what an installer recorded?"""
    item = case.finding
    if item.rule == "record.escape":
        return Vote("block", 0.9, "RECORD claims files that no wheel may contain", (item.evidence,))
    entry = case.entry
    if entry is None or not entry.owners:
        return Vote("block", 0.8, "no RECORD vouches for this file", (item.file,))
    problems = [
        problem
        for problem in verify(case.environment, [entry])
        if problem.rule.startswith(("record.", "file."))
    ]
    if problems:
        shown = tuple(f"{problem.rule}: {problem.evidence}" for problem in problems)[:EVIDENCE_MAX]
        return Vote("block", 0.95, "the file does not match its RECORD", shown)
    if not any(hashed.partition("=")[2] for hashed in entry.hashes):
        return Vote("block", 0.6, "RECORD has no hash to compare with", entry.hashes)
    return Vote("allow", 0.8, "the file is what its RECORD says", entry.hashes[:EVIDENCE_MAX])


def behaviour(case: Case) -> Vote:
    """What does the file do when it is imported, or at a start of Python?"""
    item = case.finding
    if item.rule == "record.escape":
        return Vote(
            "block", 0.8, "uninstalling it would delete a file outside the environment", (item.evidence,)
        )
    try:
        data = read(case.environment, item.file, FILE_BYTES_MAX)
    except Unreadable as error:
        return Vote("block", 0.5, "the file cannot be read, so nothing can be said for it", (str(error),))
    native = kind(data[:MAGIC_BYTES])
    if native:
        disguised = item.file.endswith(tuple(SAFE_SUFFIXES))
        reason = (
            "native code under a false name"
            if disguised
            else "native code is not analysed, and it was not announced"
        )
        return Vote("block", 0.9 if disguised else 0.6, reason, (native,))
    if item.file.endswith(".pyc"):
        return Vote("block", 0.7, "bytecode without a source that can be read", (item.file,))
    sinks = _sinks(case.environment, item.file, data)
    if sinks is None:
        return Vote("block", 0.5, "it cannot be parsed, so nothing can be said for it", (item.file,))
    return _weighed(case, sinks)


def _sinks(environment: Environment, file: str, data: bytes) -> list[Sink] | None:
    if not file.endswith((".py", ".pth")):
        return []
    if file.endswith(".pth"):
        data = b"\n".join(line for line in data.splitlines() if line.startswith((b"import ", b"import\t")))
    name, package = module_name(file, environment.site)
    try:
        return trace(parse(data[:SOURCE_BYTES_MAX], name, file, package)).sinks
    except Unparsed:
        return None


def _weighed(case: Case, sinks: list[Sink]) -> Vote:
    """Weigh the file's own sinks, and those that calls from other modules reach in it."""
    reached = {other.rule for other in (case.finding, *case.related)}
    rules = {sink.rule for sink in sinks} | {rule for rule in reached if rule.startswith("risk.")}
    seen = tuple(f"{sink.file}:{sink.line} {sink.call}" for sink in sinks)[:EVIDENCE_MAX]
    seen = seen or ((f"{case.finding.location} {case.finding.evidence}",) if rules else ())
    deciding, concerning = rules & _DECIDING, rules & _CONCERNING
    start_up = case.finding.rule.startswith("hook.")
    if deciding:
        return Vote("block", 0.95, f"it does what honest code does not: {', '.join(sorted(deciding))}", seen)
    if concerning and start_up:
        return Vote(
            "block", 0.9, f"a start of Python must not do this: {', '.join(sorted(concerning))}", seen
        )
    if len(concerning) > 1:
        return Vote("block", 0.7, f"an import reaches {', '.join(sorted(concerning))}", seen)
    if concerning:
        return Vote("allow", 0.5, f"an import reaches {', '.join(concerning)}, which alone is usual", seen)
    return Vote("allow", 0.7, "an import of it reaches nothing risky", seen)


def provenance(case: Case) -> Vote:
    """Does where it comes from vouch for what is there?"""
    item = case.finding
    if case.distribution is None:
        return Vote("block", 0.8, "it belongs to no distribution, so it has no origin", (item.file,))
    fresh = load_distribution(case.environment, case.distribution)
    known, doubts = _origin(fresh, case.dependants)
    if _CHANGED.intersection((item.rule, *(other.rule for other in case.related))):
        if fresh.metadata.editable:
            return Vote(
                "allow",
                0.5,
                "an editable installation changes its files by design",
                (fresh.metadata.direct_url,),
            )
        return Vote(
            "block", 0.85, "an origin vouches for what was installed, and this was changed since", known
        )
    if len(doubts) >= 2:
        return Vote("block", 0.4 + 0.1 * min(len(doubts), 5), "its origin cannot be told", doubts)
    return Vote("allow", 0.4 + 0.1 * min(len(known), 5), "its origin is known", known)


def _origin(item: Distribution, dependants: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(what speaks for it, what speaks against it)."""
    metadata = item.metadata
    checks = (
        (
            metadata.installer.lower() in _INDEX_INSTALLERS,
            f"installer {metadata.installer}",
            "no known installer",
        ),
        (not metadata.direct_url, "from an index", f"from {metadata.direct_url}"),
        (
            any("https://" in url for url in metadata.urls),
            f"{len(metadata.urls)} project URLs",
            "no project URL",
        ),
        (bool(metadata.author), "has an author", "has no author"),
        (bool(dependants), f"{len(dependants)} distributions depend on it", "nothing depends on it"),
    )
    return tuple(yes for good, yes, _ in checks if good), tuple(no for good, _, no in checks if not good)


REVIEWERS = {"integrity": integrity, "behaviour": behaviour, "provenance": provenance}


def tally(votes: Mapping[str, Vote]) -> dict[str, Any]:
    """The votes as a vote task of the platform gives them: the answer of more than half, and every voter's whole answer."""
    counts: dict[str, int] = {}
    for vote in votes.values():
        counts[vote.vote] = counts.get(vote.vote, 0) + 1
    decision = next((answer for answer, count in sorted(counts.items()) if count * 2 > len(votes)), None)
    return {
        "decision": decision,
        "votes": [{"voter": name, **vote.to_json()} for name, vote in votes.items()],
        "counts": counts,
    }
