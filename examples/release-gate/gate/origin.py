"""Where distributions come from, and whether their entry points lead anywhere."""

from __future__ import annotations

from collections import defaultdict

from .finding import Finding, Severity, finding
from .inventory import Distribution, Inventory
from .reach import modules
from .source import module_name


def scan(inventory: Inventory) -> list[Finding]:
    found: list[Finding] = []
    for item in inventory.distributions:
        found += _direct(item)
    return found + _entry_points(inventory)


def _direct(item: Distribution) -> list[Finding]:
    metadata, file = item.metadata, f"{item.folder}/direct_url.json"
    if not metadata.direct_url:
        return []
    insecure = (
        metadata.direct_url.startswith(("http://", "git+http://", "ftp://")) or not metadata.direct_pinned
    )
    if insecure:
        return [
            finding(
                "origin.insecure",
                item.name,
                file,
                0,
                "no https, no hash or no commit id",
                metadata.direct_url,
            )
        ]
    # The folder's own path is this machine's: it would make findings differ between machines, so only its kind is told.
    shown = "a local folder" if metadata.direct_url.startswith("file:") else metadata.direct_url
    severity = Severity.MEDIUM if metadata.editable else Severity.LOW
    detail = (
        "editable: its code is outside the environment and was not audited"
        if metadata.editable
        else "not from an index"
    )
    return [finding("origin.direct", item.name, file, 0, detail, shown, severity=severity)]


def _entry_points(inventory: Inventory) -> list[Finding]:
    entries = inventory.entries
    known = set(modules(inventory.environment, entries))
    native = {
        module_name(entry.path, inventory.environment.site)[0]
        for entry in entries
        if entry.path.endswith((".so", ".pyd"))
    }
    packages = {parent for name in known | native for parent in _parents(name)}
    commands: dict[str, list[str]] = defaultdict(list)
    found: list[Finding] = []
    for item in inventory.distributions:
        for script in item.metadata.scripts:
            group, _, rest = script.partition(" ")
            name, _, target = rest.partition(" = ")
            module = target.partition(":")[0].partition("[")[0].strip()
            file = f"{item.folder}/entry_points.txt"
            if group in ("console_scripts", "gui_scripts"):
                commands[name].append(item.name)
                if module and module not in known | native | packages:
                    found.append(
                        finding(
                            "entry.missing",
                            item.name,
                            file,
                            0,
                            f"module {module} is not there",
                            script,
                            symbol=name,
                        )
                    )
    for name, owners in sorted(commands.items()):
        if len(owners) > 1:
            detail = f"{name} is installed by {', '.join(sorted(owners))}"
            file = f"{inventory.by_name[owners[0]].folder}/entry_points.txt"
            found.append(finding("entry.collision", owners[0], file, 0, detail, symbol=name))
    return found


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]
