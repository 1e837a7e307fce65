"""Every installed distribution, every file, and who owns it: what all the other analyses start from.

An inventory is a plain value. It is cut into slices of at most 200 files, so that hashing and parsing can be spread over agents;
a slice says all that its scan needs. Files are every RECORD entry (also of files that are gone) and everything that lies in
site-packages. Order is by path, so the same environment always gives the same slices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .environment import Environment, Unreadable, read, walk
from .finding import Finding, finding
from .metadata import Metadata, load
from .record import RECORD_BYTES_MAX, UNCLAIMED, Entry, Row, parse

SLICE_FILES_MAX = 200
DISTRIBUTIONS_MAX = 20_000
PROBLEMS_SHOWN_MAX = 20  # Per RECORD: a million bad rows are one bad file.


@dataclass(frozen=True, slots=True)
class Distribution:
    metadata: Metadata
    folder: str  # Its .dist-info or .egg-info, relative to the prefix.
    recorded: bool

    @property
    def name(self) -> str:
        return self.metadata.name

    def to_json(self) -> dict[str, Any]:
        return {"metadata": self.metadata.to_json(), "folder": self.folder, "recorded": self.recorded}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Distribution:
        return cls(Metadata.from_json(value["metadata"]), value["folder"], value["recorded"])


@dataclass(frozen=True, slots=True)
class Slice:
    number: int
    environment: Environment
    entries: tuple[Entry, ...]
    pure: tuple[str, ...] = ()  # Owners in this slice whose wheels say that they hold no native code.

    def to_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "environment": self.environment.to_json(),
            "entries": [item.to_json() for item in self.entries],
            "pure": list(self.pure),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Slice:
        entries = tuple(Entry.from_json(item) for item in value["entries"])
        return cls(
            value["number"], Environment.from_json(value["environment"]), entries, tuple(value["pure"])
        )


@dataclass(frozen=True, slots=True)
class Inventory:
    environment: Environment
    distributions: tuple[Distribution, ...]
    slices: tuple[Slice, ...]
    findings: tuple[Finding, ...]

    @property
    def entries(self) -> list[Entry]:
        return [entry for part in self.slices for entry in part.entries]

    @property
    def by_name(self) -> dict[str, Distribution]:
        return {item.name: item for item in self.distributions}

    def to_json(self) -> dict[str, Any]:
        return {
            "environment": self.environment.to_json(),
            "distributions": [item.to_json() for item in self.distributions],
            "slices": [item.to_json() for item in self.slices],
            "findings": [item.to_json() for item in self.findings],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Inventory:
        return cls(
            Environment.from_json(value["environment"]),
            tuple(Distribution.from_json(item) for item in value["distributions"]),
            tuple(Slice.from_json(item) for item in value["slices"]),
            tuple(Finding.from_json(item) for item in value["findings"]),
        )


def take(environment: Environment) -> Inventory:
    findings: list[Finding] = []
    distributions: list[Distribution] = []
    claims: dict[str, list[tuple[str, str, int]]] = {}
    for path in walk(environment):
        if _nameable(path):
            claims[path] = []
        else:
            findings.append(
                finding("file.unreadable", "", path, 0, "its name is not UTF-8, so no RECORD can list it")
            )
    for folder in _folders(environment)[:DISTRIBUTIONS_MAX]:
        site, _, name = folder.rpartition("/")
        metadata = load(environment, folder, name.rpartition(".")[0])
        rows, problems = _rows(environment, folder, site, metadata.name)
        findings += problems
        distributions.append(Distribution(metadata, folder, rows is not None))
        for row in rows if rows is not None else _unrecorded(claims, folder, metadata):
            claims.setdefault(row.path, []).append((metadata.name, row.hash, row.size))
    entries = [_entry(path, claims[path]) for path in sorted(claims)]
    pure = frozenset(item.name for item in distributions if item.metadata.purelib is True)
    return Inventory(environment, tuple(distributions), _slices(environment, entries, pure), tuple(findings))


def _nameable(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def load_distribution(environment: Environment, known: Distribution) -> Distribution:
    """The distribution as its files say now, for whoever does not want to rely on what was passed on."""
    fallback = known.folder.rsplit("/", 1)[-1].rpartition(".")[0]
    return Distribution(load(environment, known.folder, fallback), known.folder, known.recorded)


def _folders(environment: Environment) -> list[str]:
    found = []
    for site in environment.site:
        for item in Path(environment.prefix, site).iterdir():
            if item.name.endswith((".dist-info", ".egg-info")) and not item.is_symlink():
                found.append(f"{site}/{item.name}")
    return sorted(found)


def _rows(
    environment: Environment, folder: str, site: str, name: str
) -> tuple[list[Row] | None, list[Finding]]:
    """The RECORD's rows that stay in the environment, and what is wrong with the others."""
    path = f"{folder}/RECORD"
    try:
        rows, problems = parse(read(environment, path, RECORD_BYTES_MAX), site)
    except Unreadable as error:
        egg = folder.endswith(".egg-info")
        text = "an egg-info has none" if egg else str(error)
        return None, [finding("record.absent", name, folder, 0, "its files cannot be verified", text)]
    found = [
        finding("record.malformed", name, path, line, "a row is left out", text)
        for line, text in problems[:PROBLEMS_SHOWN_MAX]
    ]
    escapes = [row for row in rows if not row.path][:PROBLEMS_SHOWN_MAX]
    found += [
        finding(
            "record.escape", name, path, row.line, "not opened; uninstalling would delete it", row.written
        )
        for row in escapes
    ]
    return [row for row in rows if row.path], found


def _unrecorded(claims: Mapping[str, object], folder: str, metadata: Metadata) -> list[Row]:
    """What an egg-info (or a dist-info that lost its RECORD) owns as far as can be told: its folder and its top-level names."""
    site = folder.rpartition("/")[0]
    tops = metadata.top_level or (metadata.name.replace("-", "_"),)
    prefixes = (f"{folder}/", *(f"{site}/{top}/" for top in tops), *(f"{site}/{top}." for top in tops))
    own = [path for path in claims if path == folder or path.startswith(prefixes)]
    return [Row(path, path, UNCLAIMED, -1, 0) for path in own]


def _entry(path: str, claims: list[tuple[str, str, int]]) -> Entry:
    claims = sorted(set(claims))
    return Entry(
        path, tuple(c[0] for c in claims), tuple(c[1] for c in claims), tuple(c[2] for c in claims)
    )  # fmt: skip


def _slices(environment: Environment, entries: list[Entry], pure: frozenset[str]) -> tuple[Slice, ...]:
    parts = [entries[start : start + SLICE_FILES_MAX] for start in range(0, len(entries), SLICE_FILES_MAX)]
    return tuple(
        Slice(
            number,
            environment,
            tuple(part),
            tuple(sorted(pure & {name for item in part for name in item.owners})),
        )
        for number, part in enumerate(parts)
    )
