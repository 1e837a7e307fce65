"""Calls at import that leave their module, followed into the modules they lead to.

Round by round: all calls that lead into a module are resolved together, the module is parsed once, what they reach there is
traced, and the calls that leave it again make the next round. A function is entered once in all, over the first road in sorted
order, so the result does not depend on how files were sliced. A name that another module only re-exports is followed to where it
is defined.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .behaviour import Leap, Sink, trace, unique
from .environment import Environment, Unreadable, read
from .finding import Finding, Severity, finding
from .record import Entry
from .source import SOURCE_BYTES_MAX, Unit, Unparsed, module_name, parse

ROUNDS_MAX = 12  # Modules that one road may cross; beyond it nothing new was ever found.
REEXPORTS_MAX = 8

_RUNS_CODE = frozenset(
    {"risk.exec", "risk.obfuscated", "risk.process", "risk.deserialise", "risk.dynamic", "risk.native"}
)


@dataclass(frozen=True, slots=True)
class Place:
    path: str
    package: bool


def modules(environment: Environment, entries: Iterable[Entry]) -> dict[str, Place]:
    """Importable Python modules by dotted name; a package comes before a module of the same name, as for `import`."""
    found: dict[str, Place] = {}
    for entry in entries:
        if entry.path.endswith(".py"):
            name, package = module_name(entry.path, environment.site)
            if name and (name not in found or package):
                found[name] = Place(entry.path, package)
    return found


def follow(environment: Environment, entries: Iterable[Entry], leaps: Iterable[Leap]) -> list[Sink]:
    """The sinks that `leaps` reach in other modules."""
    known = modules(environment, entries)
    sinks: list[Sink] = []
    entered: set[tuple[str, str]] = set()
    pending = _first(leaps)
    for _ in range(ROUNDS_MAX):
        by_module: dict[str, dict[str, tuple[str, ...]]] = {}
        for target, leap in pending.items():
            module = _module(target, known)
            if module and (target, module) not in entered:
                entered.add((target, module))
                by_module.setdefault(module, {}).setdefault(target[len(module) + 1 :], leap.road)
        leaving: list[Leap] = []
        for module in sorted(by_module):
            unit = _load(environment, module, known[module], by_module[module])
            if unit is not None:
                found = trace(
                    unit, ((name, road) for name, road in sorted(by_module[module].items()) if name)
                )
                sinks += found.sinks
                leaving += found.leaps.values()
                leaving += _reexported(unit, by_module[module])
        pending = _first(leaving)
        if not pending:
            break
    return list(unique(sinks))


def _first(leaps: Iterable[Leap]) -> dict[str, Leap]:
    found: dict[str, Leap] = {}
    for leap in sorted(leaps, key=lambda item: (item.target, len(item.road), item.road)):
        found.setdefault(leap.target, leap)
    return found


def _module(target: str, known: Mapping[str, Place]) -> str:
    """The longest prefix of `target` that is a module; the rest is a name in it."""
    name = target
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name if name != target else ""


def _reexported(unit: Unit, names: Mapping[str, tuple[str, ...]]) -> list[Leap]:
    """Names that this module imported from elsewhere: `from ._make import define`, then `pkg.define()`."""
    found = []
    for name, road in sorted(names.items()):
        head, _, rest = name.partition(".")
        target = unit.aliases.get(head)
        if target and target != f"{unit.name}.{head}" and len(road) <= REEXPORTS_MAX:
            found.append(Leap(f"{target}.{rest}".rstrip("."), road))
    return found


def _load(environment: Environment, module: str, place: Place, names: Iterable[str]) -> Unit | None:
    """The module parsed, or None where its text shows that none of `names` can lead anywhere: parsing costs most of the time."""
    try:
        data = read(environment, place.path, SOURCE_BYTES_MAX)
        if not any(_possible(data, name) for name in names):
            return None
        return parse(data, module, place.path, place.package)
    except (Unparsed, Unreadable):
        return None  # Its own slice's scan has reported it.


def _possible(data: bytes, name: str) -> bool:
    """Whether `name` may be defined or re-exported here. Text that only looks like it costs a parse and changes no result."""
    parts = [part.encode() for part in name.split(".")]
    if any(part not in data for part in parts):
        return False
    last = parts[-1]
    if b"def " + last in data or not re.search(rb"class[ \t]+" + re.escape(last) + rb"\b", data):
        return True
    return any(method in data for method in (b"__init__", b"__new__", b"__post_init__"))


def judge(sinks: Iterable[Sink], owners: Mapping[str, str]) -> list[Finding]:
    """Findings for all sinks of an environment; a file that both fetches and runs code is one more."""
    found: list[Finding] = []
    rules: dict[str, dict[str, Sink]] = {}
    for sink in unique(sinks):
        rules.setdefault(sink.file, {}).setdefault(sink.rule, sink)
        found.append(_finding(sink.rule, sink, owners, f"{sink.call} runs at import{_via(sink)}"))
    for file in sorted(rules):
        network = rules[file].get("risk.network")
        runner = next((rules[file][rule] for rule in sorted(_RUNS_CODE & rules[file].keys())), None)
        if network and runner:
            detail = f"{network.call} at line {network.line} and {runner.call} at line {runner.line}, both at import"
            found.append(_finding("risk.dropper", network, owners, detail))
    return found


def _finding(
    rule: str, sink: Sink, owners: Mapping[str, str], detail: str, severity: Severity | None = None
) -> Finding:
    return finding(
        rule, owners.get(sink.file, ""), sink.file, sink.line, detail, sink.excerpt, severity=severity
    )


def _via(sink: Sink) -> str:
    if not sink.road:
        return ""
    steps = sink.road if len(sink.road) <= 3 else (sink.road[0], "…", *sink.road[-2:])
    return ", by way of " + " → ".join(step.rpartition("site-packages/")[2] for step in steps)
