"""Native code: where it is, and where it should not be. Recognised by its first bytes, not by its name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from .environment import Unreadable, resolve
from .finding import Finding, finding
from .inventory import Slice

MAGIC_BYTES = 8
NATIVE_SUFFIXES = (".so", ".pyd", ".dll", ".dylib", ".exe", ".a", ".o", ".bin", ".node")
SAFE_SUFFIXES = [
    ".py",
    ".pyi",
    ".txt",
    ".md",
    ".rst",
    ".json",
    ".toml",
    ".yaml",
    ".yml",
    ".cfg",
    ".ini",
    ".png",
    ".jpg",
    ".gif",
    ".svg",
    ".css",
    ".js",
    ".html",
    ".csv",
    ".pth",
    ".xml",
    ".dat",
    ".pyc",
]
_MAGIC = {
    b"\x7fELF": "ELF",
    b"\xcf\xfa\xed\xfe": "Mach-O",
    b"\xce\xfa\xed\xfe": "Mach-O",
    b"\xfe\xed\xfa\xcf": "Mach-O",
    b"!<arch>\n": "static library",
}


def kind(head: bytes) -> str:
    """What the first bytes are of; "" where it is no native code. `MZ` is too short to mean PE by itself."""
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "")


def scan(part: Slice) -> list[Finding]:
    """Unexpected and disguised native code, and one summary per distribution that rightly has some."""
    found: list[Finding] = []
    expected: dict[str, list[str]] = defaultdict(list)
    pure = frozenset(part.pure)
    for entry in part.entries:
        name = entry.path.rsplit("/", 1)[-1]
        what = _head(part, entry.path)
        if what == "MZ":
            what = "PE" if name.endswith((".pyd", ".dll", ".exe")) else ""
        if not what:
            continue
        disguised = name.endswith(tuple(SAFE_SUFFIXES)) and ".so." not in name
        if disguised:
            found.append(
                finding(
                    "native.disguised",
                    entry.subject,
                    entry.path,
                    0,
                    f"{what} in a {name.rpartition('.')[2]} file",
                    name,
                )
            )
        elif what == "PE" and name.endswith(".exe"):
            expected[entry.subject].append(
                entry.path
            )  # Launchers of pip and distlib, in pure wheels by custom.
        elif pure.intersection(entry.owners):
            found.append(
                finding("native.unexpected", entry.subject, entry.path, 0, f"{what} in a pure wheel", name)
            )
        elif entry.owners:
            expected[entry.subject].append(entry.path)
    for subject, paths in sorted(expected.items()):
        found.append(finding("native.extension", subject, paths[0], 0, f"{len(paths)} files", symbol=subject))
    return found


def _head(part: Slice, path: str) -> str:
    try:
        with resolve(part.environment, path).open("rb") as file:
            head = file.read(MAGIC_BYTES)
    except (Unreadable, OSError):
        return ""  # Reported by the scan of hashes.
    return "MZ" if head.startswith(b"MZ") else kind(head)


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Findings of all slices; the summaries of one distribution become one."""
    first: dict[str, Finding] = {}
    counts: dict[str, int] = defaultdict(int)
    other: list[Finding] = []
    for item in findings:
        if item.rule != "native.extension":
            other.append(item)
            continue
        counts[item.subject] += int(item.detail.split()[0])
        if item.subject not in first or item.file < first[item.subject].file:
            first[item.subject] = item
    return other + [
        finding("native.extension", name, item.file, 0, f"{counts[name]} files", symbol=name)
        for name, item in sorted(first.items())
    ]
