"""What distributions declare that they need, against what they import and what is installed.

A requirement holds if its marker holds for the audited Python, without extras or with an extra that some installed requirement
asks for (`ray[default]` asks for the extra `default` of ray; what an extra brings along in turn is found by repeating this until
nothing new appears).

An import is resolved to a distribution by its longest dotted prefix that a RECORD lists, so that namespace packages
(`google.auth`, `google.protobuf`) are told apart. Standard library modules need no declaration. Imports of tests, of examples and
those that the author guards need none either.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from typing import Any

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from .finding import Finding, Severity, finding
from .inventory import Inventory
from .scan import ImportUse
from .source import module_name

EXTRA_ROUNDS_MAX = 50
_STDLIB = frozenset(sys.stdlib_module_names) | {
    "__main__",
    "distutils",
    "imp",
    "asyncore",
    "asynchat",
    "smtpd",
}  # Left in 3.12.
_ASIDE = frozenset(
    {
        "test",
        "tests",
        "testing",
        "conftest",
        "examples",
        "benchmarks",
        "docs",
        "_vendor",
        "vendor",
        "thirdparty",
    }
)


@dataclass(frozen=True, slots=True)
class Edge:
    """`source` needs `target`. `declared` by a requirement that holds here, `imported` by its code."""

    source: str
    target: str
    declared: bool
    imported: bool

    def to_json(self) -> list[Any]:
        return [self.source, self.target, self.declared, self.imported]

    @classmethod
    def from_json(cls, value: list[Any]) -> Edge:
        return cls(*value)


@dataclass(frozen=True, slots=True)
class Dependencies:
    edges: tuple[Edge, ...]
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "edges": [item.to_json() for item in self.edges],
            "findings": [item.to_json() for item in self.findings],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Dependencies:
        edges = tuple(Edge.from_json(item) for item in value["edges"])
        return cls(edges, tuple(Finding.from_json(item) for item in value["findings"]))


def analyse(inventory: Inventory, uses: Iterable[ImportUse]) -> Dependencies:
    requirements, findings = _requirements(inventory)
    declared, any_declared, more = _declared(inventory, requirements)
    imported, unresolved = _imported(inventory, uses)
    findings += more
    edges: list[Edge] = []
    for name in sorted(inventory.by_name):
        targets = imported.get(name, {})
        for target in sorted(declared[name] | set(targets)):
            edges.append(Edge(name, target, target in declared[name], target in targets))
            use = targets.get(target)
            if use is not None and use.kind == "plain" and target not in any_declared[name]:
                findings.append(_undeclared(use, target, declared))
            elif use is None and target in inventory.by_name:
                findings.append(_unused(inventory, name, target))
    findings += [
        finding(
            "dependency.unresolved",
            use.subject,
            use.file,
            use.line,
            f"nothing provides {top}",
            use.module,
            symbol=top,
        )
        for (_, top), use in sorted(unresolved.items())
    ]
    return Dependencies(tuple(edges), tuple(findings))


def _requirements(inventory: Inventory) -> tuple[dict[str, list[Requirement]], list[Finding]]:
    parsed: dict[str, list[Requirement]] = {}
    bad: list[Finding] = []
    for item in inventory.distributions:
        parsed[item.name] = []
        for text in item.metadata.requires:
            try:
                requirement = Requirement(text)
                _holds(requirement, inventory.environment.markers(), frozenset())
            except (
                InvalidRequirement,
                UndefinedComparison,
                UndefinedEnvironmentName,
                RecursionError,
            ) as error:
                detail = str(error).splitlines()[0]
                bad.append(
                    finding(
                        "dependency.invalid",
                        item.name,
                        f"{item.folder}/METADATA",
                        0,
                        detail,
                        text,
                        symbol=text,
                    )
                )
            else:
                parsed[item.name].append(requirement)
    return parsed, bad


def _holds(requirement: Requirement, markers: Mapping[str, str], extras: frozenset[str]) -> bool:
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({**markers, "extra": extra}) for extra in ("", *sorted(extras)))


def _declared(
    inventory: Inventory, requirements: Mapping[str, list[Requirement]]
) -> tuple[dict[str, set[str]], dict[str, set[str]], list[Finding]]:
    """(declared and holding, declared under any marker, findings about missing and wrong versions)."""
    markers = inventory.environment.markers()
    wanted: dict[str, frozenset[str]] = {name: frozenset() for name in requirements}
    for _ in range(EXTRA_ROUNDS_MAX):
        before = dict(wanted)
        for name, items in requirements.items():
            for item in items:
                target = canonicalize_name(item.name)
                if item.extras and target in wanted and _holds(item, markers, wanted[name]):
                    wanted[target] |= item.extras
        if wanted == before:
            break
    holding: dict[str, set[str]] = defaultdict(set)
    any_declared: dict[str, set[str]] = defaultdict(set)
    found: list[Finding] = []
    for name, items in sorted(requirements.items()):
        for item in items:
            target = canonicalize_name(item.name)
            any_declared[name].add(target)
            if _holds(item, markers, wanted[name]) and target != name:
                holding[name].add(target)
                found += _satisfied(inventory, name, item, target)
    return holding, any_declared, found


def _satisfied(inventory: Inventory, name: str, item: Requirement, target: str) -> list[Finding]:
    installed = inventory.by_name.get(target)
    file = f"{inventory.by_name[name].folder}/METADATA"
    if installed is None:
        return [
            finding(
                "dependency.missing", name, file, 0, f"{target} is not installed", str(item), symbol=str(item)
            )
        ]
    try:
        version = Version(installed.metadata.version)
    except InvalidVersion:
        return [
            finding(
                "dependency.version",
                name,
                file,
                0,
                f"{target} has no valid version",
                str(item),
                symbol=str(item),
            )
        ]
    if item.specifier.contains(version, prereleases=True):
        return []
    return [
        finding(
            "dependency.version",
            name,
            file,
            0,
            f"{target} {version} is installed",
            str(item),
            symbol=str(item),
        )
    ]


def providers(inventory: Inventory) -> dict[str, str]:
    """Dotted module name -> the distribution that provides it; of a folder, the one that alone has files in it."""
    found: dict[str, str] = {}
    folders: dict[str, set[str]] = defaultdict(set)
    suffixes = (".py", ".pyi", *EXTENSION_SUFFIXES, ".pyd")
    for entry in inventory.entries:
        if not entry.owners or not entry.path.endswith(suffixes):
            continue
        name, _package = module_name(entry.path, inventory.environment.site)
        if not name:
            continue
        if not entry.path.endswith(".pyi"):
            found[name] = entry.subject
        while name := name.rpartition(".")[0]:
            folders[name].add(entry.subject)
    for name, owners in folders.items():
        if name not in found and len(owners) == 1:
            found[name] = next(iter(owners))
    return found


def _imported(
    inventory: Inventory, uses: Iterable[ImportUse]
) -> tuple[dict[str, dict[str, ImportUse]], dict[tuple[str, str], ImportUse]]:
    """(who imports whom, by the most binding use; what is provided by nobody)."""
    known = providers(inventory)
    tops = {name.partition(".")[0] for name in known} | _orphan_tops(inventory)
    imported: dict[str, dict[str, ImportUse]] = defaultdict(dict)
    unresolved: dict[tuple[str, str], ImportUse] = {}
    for use in sorted(
        uses, key=lambda item: (item.kind != "plain", item.subject, item.module, item.file, item.line)
    ):
        top = use.module.partition(".")[0]
        if not use.subject or top in _STDLIB:
            continue
        aside = bool(_ASIDE.intersection(use.file.split("/"))) or use.file.rsplit("/", 1)[-1].startswith(
            ("test_", "conftest")
        )
        target = _provider(use.module, known)
        if target == use.subject:
            continue
        if target:
            if not (aside and use.kind == "plain"):
                imported[use.subject].setdefault(target, use)
        elif top not in tops and use.kind == "plain" and not aside:
            unresolved.setdefault((use.subject, top), use)
    return imported, unresolved


def _orphan_tops(inventory: Inventory) -> set[str]:
    site = inventory.environment.site
    return {
        module_name(entry.path, site)[0].partition(".")[0] for entry in inventory.entries if not entry.owners
    }


def _provider(module: str, known: Mapping[str, str]) -> str:
    while module and module not in known:
        module = module.rpartition(".")[0]
    return known.get(module, "")


def _undeclared(use: ImportUse, target: str, declared: Mapping[str, set[str]]) -> Finding:
    """A dependency that a declared one brings along works today by luck; one that nobody brings is worse."""
    brought = any(target in declared.get(item, ()) for item in declared.get(use.subject, ()))
    severity = Severity.INFO if brought else Severity.LOW
    detail = f"needs {target}" + (", which only comes along with another dependency" if brought else "")
    return finding(
        "dependency.undeclared", use.subject, use.file, use.line, detail, use.module, symbol=target, severity=severity
    )  # fmt: skip


def _unused(inventory: Inventory, name: str, target: str) -> Finding:
    file = f"{inventory.by_name[name].folder}/METADATA"
    return finding("dependency.unused", name, file, 0, f"{target} is never imported", symbol=target)
