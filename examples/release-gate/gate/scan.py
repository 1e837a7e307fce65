"""One slice, scanned: the three scans that the plan fans out over. Each answers with a small value.

`behaviour` gives facts rather than findings: what is risky can only be said once the calls that leave a module are followed
(`reach.py`), and whether an import is declared only once every distribution is known (`dependency.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .behaviour import Leap, Sink, trace, unique
from .environment import Unreadable, read
from .finding import Finding, finding
from .inventory import Slice
from .source import SOURCE_BYTES_MAX, Import, Unit, Unparsed, imports, module_name, parse


@dataclass(frozen=True, slots=True)
class ImportUse:
    """A distribution's file imports `module`; `kind` as in `source.Import`. One per distribution, module and kind: the first."""

    subject: str
    module: str
    kind: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a slice's Python files do at import and what they import."""

    sinks: tuple[Sink, ...]
    leaps: tuple[Leap, ...]
    imports: tuple[ImportUse, ...]
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "sinks": [asdict(item) for item in self.sinks],
            "leaps": [[item.target, *item.road] for item in self.leaps],
            "imports": [
                [item.subject, item.module, item.kind, item.file, item.line] for item in self.imports
            ],
            "findings": [item.to_json() for item in self.findings],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Behaviour:
        return cls(
            tuple(Sink(**{**item, "road": tuple(item["road"])}) for item in value["sinks"]),
            tuple(Leap(item[0], tuple(item[1:])) for item in value["leaps"]),
            tuple(ImportUse(*item) for item in value["imports"]),
            tuple(Finding.from_json(item) for item in value["findings"]),
        )


def behaviour(part: Slice) -> Behaviour:
    sinks: list[Sink] = []
    leaps: dict[str, Leap] = {}
    uses: dict[tuple[str, str, str], ImportUse] = {}
    findings: list[Finding] = []
    for entry in part.entries:
        name, package = module_name(entry.path, part.environment.site)
        if not entry.path.endswith(".py"):
            continue
        try:
            unit = parse(read(part.environment, entry.path, SOURCE_BYTES_MAX), name, entry.path, package)
        except (Unparsed, Unreadable) as error:
            if getattr(error, "reason", "") != "missing":
                findings.append(
                    finding("source.unparsed", entry.subject, entry.path, 0, "not analysed", str(error))
                )
            continue
        for use in _uses(unit, entry.subject):
            uses.setdefault((use.subject, use.module, use.kind), use)
        if name and not name.endswith("__main__"):  # `python -m` runs __main__; no import does.
            found = trace(unit)
            sinks += found.sinks
            for target in sorted(found.leaps):
                leaps.setdefault(target, found.leaps[target])
    ordered_leaps = tuple(leaps[target] for target in sorted(leaps))
    return Behaviour(
        tuple(unique(sinks)), ordered_leaps, tuple(uses[key] for key in sorted(uses)), tuple(findings)
    )


def _uses(unit: Unit, subject: str) -> Iterable[ImportUse]:
    own = unit.name.partition(".")[0]
    for item in imports(unit):
        for module in _modules(item):
            if (
                module.partition(".")[0] != own
                or not own
                or (module.count(".") <= 2 and _namespace_like(unit.name, module))
            ):
                yield ImportUse(subject, module, item.kind, unit.path, item.line)


def _namespace_like(own: str, module: str) -> bool:
    """`google.auth` imports `google.protobuf`: one top-level name, maybe two distributions. The second part decides."""
    return own.split(".")[1:2] != module.split(".")[1:2]


def _modules(item: Import) -> list[str]:
    """Names that tell whose module it is: two parts suffice, three where a namespace package may be nested."""
    if not item.module:
        return []
    if item.module.count(".") >= 2 or not item.symbols:
        return [".".join(item.module.split(".")[:4])]
    return [f"{item.module}.{symbol}" for symbol in item.symbols if symbol != "*"] or [item.module]
