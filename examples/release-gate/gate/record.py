"""RECORD: what an installer wrote down about each file, and whether the files still are what it wrote down.

Source: the "Recording installed projects" specification of PyPA (was PEP 376 and 627): rows of `path,hash,size`; a hash is
`algorithm=urlsafe-base64-without-padding`; paths are relative to site-packages. Hash and size may be empty for RECORD itself,
its signatures and bytecode.

RECORD protects against accidents and against those who change files without changing RECORD. It does not protect against those
who change both: for that, compare with the hashes of a lock file.
"""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .environment import Environment, Unreadable, inside, resolve
from .finding import Finding, Severity, finding

RECORD_BYTES_MAX = 64 << 20
RECORD_ROWS_MAX = 200_000
RECORD_FIELD_CHARS_MAX = 8_192  # PATH_MAX is 4096; a longer field is no path.
HASHED_BYTES_MAX = 4 << 30
READ_BYTES = 1 << 20
STRONG = ("sha256", "sha384", "sha512")
CODE_SUFFIXES = (".py", ".pyc", ".so", ".pyd", ".dll", ".dylib", ".pth", ".sh", ".exe")
_NEVER_HASHED = ("RECORD", "RECORD.jws", "RECORD.p7s")
UNCLAIMED = (
    "-"  # Stands for the hash where an owner has no RECORD at all: that is one finding, not one per file.
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the environment: who owns it and what their RECORDs say. Owners and claims are in the same order."""

    path: str  # Relative to the prefix.
    owners: tuple[str, ...] = ()
    hashes: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()  # -1: not stated.

    @property
    def subject(self) -> str:
        return self.owners[0] if self.owners else ""

    def to_json(self) -> list[object]:
        return [self.path, list(self.owners), list(self.hashes), list(self.sizes)]

    @classmethod
    def from_json(cls, value: Sequence[object]) -> Entry:
        path, owners, hashes, sizes = value
        return cls(str(path), *(tuple(item) for item in (owners, hashes, sizes)))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Row:
    path: str  # Relative to the prefix; "" where it leads out of it.
    written: str  # As RECORD has it.
    hash: str
    size: int
    line: int


def parse(data: bytes, site: str) -> tuple[list[Row], list[tuple[int, str]]]:
    """(rows, problems as (line, text)). A bad row is a problem and the rows after it are still read."""
    rows: list[Row] = []
    problems: list[tuple[int, str]] = []
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        problems.append((data.count(b"\n", 0, error.start) + 1, "not UTF-8"))
        text = data.decode("utf-8", "backslashreplace")
    for number, line in enumerate(io.StringIO(text), 1):
        if number > RECORD_ROWS_MAX:
            problems.append((number, f"more than {RECORD_ROWS_MAX} rows"))
            break
        row = _row(line.rstrip("\r\n"), site, number)
        if isinstance(row, str):
            problems.append((number, row))
        elif row is not None:
            rows.append(row)
    return rows, problems


def _row(line: str, site: str, number: int) -> Row | str | None:
    if not line.strip():
        return None
    if len(line) > RECORD_FIELD_CHARS_MAX:
        return f"a row of {len(line)} characters"
    try:
        cells = next(csv.reader([line], strict=True))
    except (csv.Error, StopIteration) as error:
        return f"not a CSV row: {error}"
    if not 1 <= len(cells) <= 3:
        return f"{len(cells)} fields instead of 3"
    path, hashed, size = (*cells, "", "")[:3]
    if size and not (size.isascii() and size.isdigit()):
        return f"size {size!r} is not a number"
    absolute = path.startswith(("/", "\\")) or (inside(path) is None and not path.startswith(".."))
    place = None if absolute else inside(f"{site}/{path}")
    return Row(place or "", path, hashed, int(size) if size else -1, number)


def verify(environment: Environment, entries: Iterable[Entry]) -> list[Finding]:
    """Every claim of every owner against the file itself."""
    found: list[Finding] = []
    for entry in entries:
        if entry.owners:
            found += _verify(environment, entry)
    return found


def _verify(environment: Environment, entry: Entry) -> list[Finding]:
    try:
        path = resolve(environment, entry.path)
        size_bytes = path.stat().st_size
        if size_bytes > HASHED_BYTES_MAX:
            raise Unreadable("too_large", f"{size_bytes} bytes")
        algorithms = {claim.partition("=")[0] for claim in entry.hashes} & set(hashlib.algorithms_guaranteed)
        real = digests(path, {item for item in algorithms if not item.startswith("shake")})
    except Unreadable as error:
        return _unreadable(entry, error)
    except OSError as error:
        return _unreadable(entry, Unreadable("denied", str(error.strerror)))
    claims = [
        _claim(entry, owner, hashed, size, real, size_bytes)
        for owner, hashed, size in zip(entry.owners, entry.hashes, entry.sizes, strict=True)
    ]
    # A collision is not tampering: where the file is exactly what one of its owners recorded, the others lost a race.
    if len(claims) > 1 and any(claim is None for claim in claims):
        return []
    return [claim for claim in claims if claim is not None]


def _unreadable(entry: Entry, error: Unreadable) -> list[Finding]:
    subject, path, text = entry.subject, entry.path, str(error)
    if error.reason == "missing":
        if path.endswith(".pyc"):
            return []  # Bytecode comes and goes; installers list what they compiled, anyone may delete it.
        return [
            finding("record.missing", owner, path, 0, "in RECORD, not on disk", text)
            for owner in entry.owners
        ]
    rule = "file.symlink" if error.reason == "link" else "file.unreadable"
    return [finding(rule, subject, path, 0, f"not verified: {error.reason}", text)]


def _claim(
    entry: Entry, owner: str, hashed: str, size: int, real: dict[str, str], size_bytes: int
) -> Finding | None:
    path = entry.path
    name = path.rsplit("/", 1)[-1]
    if hashed == UNCLAIMED:
        return None
    if not hashed:
        exempt = name in _NEVER_HASHED or path.endswith(".pyc")
        return None if exempt else finding("record.unhashed", owner, path, 0, "no hash in RECORD", name)
    algorithm, _, _digest = hashed.partition("=")
    actual = real.get(algorithm)
    if actual is None:
        return finding("record.weak", owner, path, 0, f"unknown hash algorithm {algorithm!r}", hashed)
    if actual != _normal(hashed):
        code = path.endswith(CODE_SUFFIXES)
        shown = f"RECORD {hashed}, file {algorithm}={_b64(actual)}, {size_bytes} bytes (RECORD: {size})"
        severity = Severity.CRITICAL if code else Severity.HIGH
        return finding(
            "record.altered", owner, path, 0, "the file is not what was installed", shown, severity=severity
        )
    if algorithm not in STRONG:
        return finding("record.weak", owner, path, 0, f"{algorithm} does not prove anything", hashed)
    if size >= 0 and size != size_bytes:
        return finding(
            "record.size", owner, path, 0, f"RECORD says {size} bytes, the file has {size_bytes}", hashed
        )
    return None


def _normal(hashed: str) -> str:
    """The digest of a RECORD hash in hex; "" where it is no base64."""
    digest = hashed.partition("=")[2]
    try:
        return base64.urlsafe_b64decode(digest + "=" * (-len(digest) % 4)).hex()
    except (ValueError, binascii.Error):
        return ""


def _b64(hexadecimal: str) -> str:
    return base64.urlsafe_b64encode(bytes.fromhex(hexadecimal)).rstrip(b"=").decode()


def record_hash(data: bytes, algorithm: str = "sha256") -> str:
    """`data`'s hash as RECORD writes it."""
    return f"{algorithm}={_b64(hashlib.new(algorithm, data, usedforsecurity=False).hexdigest())}"


def digests(path: os.PathLike[str], algorithms: Iterable[str]) -> dict[str, str]:
    """The file's hex digest under each algorithm, read once, in pieces."""
    hashers = {name: hashlib.new(name, usedforsecurity=False) for name in sorted(algorithms)}
    if hashers:
        with open(path, "rb") as file:
            while piece := file.read(READ_BYTES):
                for hasher in hashers.values():
                    hasher.update(piece)
    return {name: hasher.hexdigest() for name, hasher in hashers.items()}
