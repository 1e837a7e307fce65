"""Code that runs at every start of Python: `import` lines of .pth files, sitecustomize and usercustomize.

Source: the documentation of `site`: lines of a .pth file that start with `import` followed by a space or tab are executed, other
lines are folders that are added to sys.path, lines that start with `#` are comments.
"""

from __future__ import annotations

import os

from .behaviour import trace
from .environment import Environment, Unreadable, read
from .finding import Finding, Severity, finding
from .inventory import Inventory
from .record import Entry
from .source import SOURCE_BYTES_MAX, Unparsed, parse

PTH_BYTES_MAX = 1 << 20
PTH_LINES_MAX = 2_000
_RISKY = frozenset(
    {
        "risk.exec",
        "risk.obfuscated",
        "risk.process",
        "risk.network",
        "risk.deserialise",
        "risk.dynamic",
        "risk.write",
    }
)
_CUSTOMIZE = ("sitecustomize", "usercustomize")


def scan(inventory: Inventory) -> list[Finding]:
    found: list[Finding] = []
    for entry in inventory.entries:
        folder, _, name = entry.path.rpartition("/")
        if folder not in inventory.environment.site and name != "__init__.py":
            continue
        if name.endswith(".pth"):
            found += _pth(inventory.environment, entry, folder)
        elif _module(entry.path, inventory.environment.site) in _CUSTOMIZE:
            found += _customize(inventory.environment, entry)
    return found


def _module(path: str, site: tuple[str, ...]) -> str:
    for folder in site:
        inner = path.removeprefix(folder + "/")
        if inner != path and inner.count("/") <= 1:
            return inner.removesuffix("/__init__.py").removesuffix(".py")
    return ""


def _pth(environment: Environment, entry: Entry, folder: str) -> list[Finding]:
    try:
        lines = read(environment, entry.path, PTH_BYTES_MAX).decode("utf-8", "backslashreplace").splitlines()
    except Unreadable:
        return []  # Reported by the scan of hashes, or it is owned by nobody and a broken link: site skips it too.
    found: list[Finding] = []
    for number, line in enumerate(lines[:PTH_LINES_MAX], 1):
        if line.startswith(("import ", "import\t")):
            found += _line(entry, number, line)
        elif line.strip() and not line.startswith("#"):
            outside = _outside(environment, folder, line.strip())
            if outside:
                found.append(
                    finding(
                        "hook.path",
                        entry.subject,
                        entry.path,
                        number,
                        "a folder outside the environment",
                        line,
                    )
                )
    if len(lines) > PTH_LINES_MAX:
        found.append(
            finding(
                "hook.code",
                entry.subject,
                entry.path,
                PTH_LINES_MAX,
                f"{len(lines)} lines, the rest not read",
            )
        )
    return found


def _line(entry: Entry, number: int, line: str) -> list[Finding]:
    risky = _risky(line.encode("utf-8", "replace"), entry.path)
    found = [] if risky is None else [finding("hook.risky", entry.subject, entry.path, number, risky, line)]
    if not entry.owners:
        return [*found, finding("hook.orphan", "", entry.path, number, "runs at every start of Python", line)]
    return found or [
        finding("hook.code", entry.subject, entry.path, number, "runs at every start of Python", line)
    ]


def _risky(source: bytes, path: str) -> str | None:
    """What a piece of start-up code calls that it should not; None where nothing was found."""
    try:
        sinks = trace(parse(source, "", path)).sinks
    except Unparsed as error:
        return f"cannot be parsed: {error}"
    calls = sorted({sink.call for sink in sinks if sink.rule in _RISKY})
    return f"calls {', '.join(calls)} at every start" if calls else None


def _customize(environment: Environment, entry: Entry) -> list[Finding]:
    severity = Severity.MEDIUM if entry.owners else Severity.HIGH
    found = [
        finding(
            "hook.customize",
            entry.subject,
            entry.path,
            0,
            "imported by site at every start",
            severity=severity,
        )
    ]
    try:
        risky = _risky(read(environment, entry.path, SOURCE_BYTES_MAX), entry.path)
    except Unreadable:
        risky = None
    return found + ([finding("hook.risky", entry.subject, entry.path, 0, risky)] if risky else [])


def _outside(environment: Environment, folder: str, line: str) -> bool:
    place = os.path.normpath(os.path.join(environment.prefix, folder, line))
    return not (place + os.sep).startswith(os.path.normpath(environment.prefix) + os.sep)
