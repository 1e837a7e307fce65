"""Files with two owners, and files with none."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable
from importlib.machinery import EXTENSION_SUFFIXES

from .environment import Environment, Unreadable, read, resolve
from .finding import Finding, Severity, finding
from .inventory import Inventory
from .record import Entry

PYC_BYTES_MAX = 64 << 20
PYC_HEADER_BYTES = 16
_PYC_HASHED, _PYC_CHECKED = 0b01, 0b10  # PEP 552.
_IGNORED = ("__pycache__/", ".dist-info/", ".egg-info/")
_EMPTY_BYTES_MAX = 0


def collisions(inventory: Inventory) -> list[Finding]:
    """One finding per group of owners. Where they agree on the content (an empty `__init__.py`), nothing is lost."""
    groups: dict[tuple[str, ...], list[Entry]] = defaultdict(list)
    for entry in inventory.entries:
        if len(set(entry.owners)) > 1 and not entry.path.endswith(".pyc"):
            groups[tuple(sorted(set(entry.owners)))].append(entry)
    found = []
    for owners, entries in sorted(groups.items()):
        differing = [item for item in entries if len(set(item.hashes)) > 1]
        first = (differing or entries)[0]
        detail = f"{', '.join(owners)} claim {len(entries)} files together, {len(differing)} with different content"
        severity = Severity.MEDIUM if differing else Severity.INFO
        shown, names = "; ".join(first.hashes), ",".join(owners)
        found.append(
            finding(
                "ownership.collision",
                owners[0],
                first.path,
                0,
                detail,
                shown,
                symbol=names,
                severity=severity,
            )
        )
    return found


def orphans(inventory: Inventory) -> list[Finding]:
    """Files of site-packages without an owner: code each by itself, other files one finding per folder."""
    found: list[Finding] = []
    data: dict[str, list[str]] = defaultdict(list)
    paths = {entry.path for entry in inventory.entries}
    code = (".py", *EXTENSION_SUFFIXES, ".pyd")
    for entry in inventory.entries:
        path = entry.path
        if entry.owners or path.endswith(".pth"):
            continue  # .pth files are the hooks' business.
        if path.endswith(".pyc"):
            if "/__pycache__/" not in path or _source(path) not in paths:
                found.append(finding("bytecode.sourceless", "", path, 0, "owned by nobody, source not there"))
        elif path.endswith(code):
            found.append(finding("orphan.code", "", path, 0, "no RECORD lists it"))
        elif not any(part in path for part in _IGNORED):
            data[path.rpartition("/")[0]].append(path)
    for folder, files in sorted(data.items()):
        found.append(finding("orphan.data", "", files[0], 0, f"{len(files)} in {folder}", symbol=folder))
    return found


def bytecode(inventory: Inventory) -> list[Finding]:
    """Bytecode that Python runs as it is: without a source, or marked never to be compared with its source."""
    found: list[Finding] = []
    for entry in inventory.entries:
        if not entry.path.endswith(".pyc"):
            continue
        if entry.owners and "/__pycache__/" not in entry.path and _exists(inventory.environment, entry.path):
            detail = "importable bytecode, its source was not shipped"
            found.append(
                finding("bytecode.sourceless", entry.subject, entry.path, 0, detail, severity=Severity.MEDIUM)
            )
        found += _unchecked(inventory.environment, entry)
    return found


def _unchecked(environment: Environment, entry: Entry) -> Iterable[Finding]:
    try:
        with resolve(environment, entry.path).open("rb") as file:
            header = file.read(PYC_HEADER_BYTES)
        if len(header) < PYC_HEADER_BYTES:
            return
        flags, recorded = struct.unpack("<4xI8s", header)
        if not flags & _PYC_HASHED or flags & _PYC_CHECKED:
            return
        source = read(environment, _source(entry.path), PYC_BYTES_MAX)
    except (Unreadable, OSError):
        return  # Gone, or not readable: the scan of hashes reports what a RECORD claims about it.
    from importlib.util import source_hash

    stale = source_hash(source) != recorded
    rule = "bytecode.stale" if stale else "bytecode.unchecked"
    yield finding(
        rule,
        entry.subject,
        entry.path,
        0,
        "hash-based and unchecked (PEP 552)",
        f"source hash {recorded.hex()}",
    )


def _source(path: str) -> str:
    """The source that a file of `__pycache__` was made from."""
    folder, _, name = path.rpartition("/")
    return f"{folder.removesuffix('/__pycache__')}/{name.partition('.')[0]}.py"


def _exists(environment: Environment, path: str) -> bool:
    try:
        resolve(environment, path)
    except Unreadable:
        return False
    return True
