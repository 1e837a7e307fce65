"""Where an environment's files are, and how to read them without trusting them.

Guarantees: every read is bounded; only regular files are opened; no path leads out of the prefix, neither by `..` nor through a
symbolic link. What cannot be read is an `Unreadable`, never an exception out of an analyzer.

Not guaranteed: a file that changes while it is read. Audit an environment at rest.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.markers import default_environment

WALK_FILES_MAX = 500_000  # The largest environments known to us have a tenth of it.
WALK_DEPTH_MAX = 64
PYVENV_BYTES_MAX = 64 * 1024
_VERSION_KEYS = ("version_info", "version")  # virtualenv and uv write the first, venv the second.


class Unreadable(Exception):
    """A file that the audit does not open. `reason` is one of: missing, escapes, link, special, too_large, denied."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Environment:
    """`site` holds the site-packages folders, relative to `prefix`, in import order."""

    prefix: str
    site: tuple[str, ...]
    python: str  # "3.11"

    def to_json(self) -> dict[str, Any]:
        return {"prefix": self.prefix, "site": list(self.site), "python": self.python}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Environment:
        return cls(value["prefix"], tuple(value["site"]), value["python"])

    def markers(self) -> dict[str, str]:
        """What markers such as `python_version < "3.12"` are evaluated against: this platform, the audited Python."""
        known = {key: str(value) for key, value in default_environment().items()}
        if self.python != known["python_version"]:
            known["python_version"] = self.python
            known["python_full_version"] = f"{self.python}.0"
        return known


def locate(path: str = "", *, prefix: str = sys.prefix) -> Environment:
    """The environment at `path`: a venv, a site-packages folder, or (empty) the one whose prefix is handed in."""
    root = Path(path or prefix).absolute()
    if not root.is_dir():
        raise FileNotFoundError(
            f"no environment at {root}: give a virtual environment or a site-packages folder"
        )
    if root.name in ("site-packages", "dist-packages"):
        home = _home(root)
        return Environment(str(home), (root.relative_to(home).as_posix(),), _python(home, root))
    site = _site_folders(root)
    if not site:
        raise FileNotFoundError(
            f"{root} has no site-packages folder: give a virtual environment or a site-packages folder"
        )
    return Environment(
        str(root), tuple(item.relative_to(root).as_posix() for item in site), _python(root, site[0])
    )


def _home(site: Path) -> Path:
    """The prefix above a site-packages folder: .../lib/pythonX.Y/site-packages or ...\\Lib\\site-packages."""
    for parent in site.parents:
        if parent.name.lower() in ("lib", "lib64"):
            return parent.parent
    return site.parent


def _site_folders(root: Path) -> list[Path]:
    found: list[Path] = []
    for pattern in ("lib/python3*/site-packages", "lib64/python3*/site-packages", "Lib/site-packages"):
        for item in sorted(root.glob(pattern)):
            # lib64 is usually a link to lib: the same folder must not be audited twice.
            if item.is_dir() and not any(item.samefile(known) for known in found):
                found.append(item)
    return found


def _python(prefix: Path, site: Path) -> str:
    match = re.search(r"python(3\.\d+)", site.as_posix())
    if match:
        return match[1]
    try:
        text = (prefix / "pyvenv.cfg").read_bytes()[:PYVENV_BYTES_MAX].decode("utf-8", "replace")
    except OSError:
        text = ""
    for line in text.splitlines():
        key, _, value = line.partition("=")
        match = re.match(r"\s*(3\.\d+)", value)
        if key.strip() in _VERSION_KEYS and match:
            return match[1]
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def inside(relative: str) -> str | None:
    """`relative` without `.` and `..`, or None where it is absolute or leaves the folder it is relative to."""
    if not relative or "\0" in relative or os.path.isabs(relative) or re.match(r"[A-Za-z]:", relative):
        return None
    normal = os.path.normpath(relative).replace(os.sep, "/")
    return None if normal == ".." or normal.startswith("../") or normal == "." else normal


def resolve(environment: Environment, relative: str) -> Path:
    """The file behind `relative`, checked to be a regular file whose real place is in the environment."""
    path = Path(environment.prefix, relative)
    if inside(relative) is None:
        raise Unreadable("escapes", relative)
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode) or os.path.realpath(path.parent) != str(path.parent):
            real, home = os.path.realpath(path, strict=True), os.path.realpath(environment.prefix)
            if not real.startswith(home + os.sep):
                # What the link says, not where it leads here: findings must not differ between machines.
                raise Unreadable(
                    "link", os.readlink(path) if path.is_symlink() else "through a linked folder"
                )
            status = os.stat(path)
    except FileNotFoundError as error:
        raise Unreadable("missing", relative) from error
    except (
        OSError,
        ValueError,
    ) as error:  # ELOOP of a circular link, a name too long, a NUL byte, no permission.
        raise Unreadable("denied", str(getattr(error, "strerror", error))) from error
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable("special", relative)
    return path


def read(environment: Environment, relative: str, size_bytes_max: int) -> bytes:
    path = resolve(environment, relative)
    try:
        with path.open("rb") as file:
            data = file.read(size_bytes_max + 1)
    except OSError as error:
        raise Unreadable("denied", str(error.strerror)) from error
    if len(data) > size_bytes_max:
        raise Unreadable("too_large", f"more than {size_bytes_max} bytes")
    return data


def walk(environment: Environment) -> Iterator[str]:
    """Every file of the site-packages folders, sorted, links to folders not followed, relative to the prefix."""
    count = 0
    for site in environment.site:
        top = os.path.join(environment.prefix, site)
        for folder, folders, files in os.walk(top, followlinks=False):
            folders.sort()
            inner = os.path.relpath(folder, environment.prefix).replace(os.sep, "/")
            if inner.count("/") > WALK_DEPTH_MAX:
                folders.clear()
            links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
            for name in sorted(files + links):
                count += 1
                if count > WALK_FILES_MAX:
                    raise OverflowError(f"more than {WALK_FILES_MAX} files in {environment.prefix}")
                yield f"{inner}/{name}"
