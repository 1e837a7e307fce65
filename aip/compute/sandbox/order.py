"""What the launcher of a sandbox is told: one line of JSON on its standard input, written by the parent, who is trusted."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

import msgspec

from .limits import SandboxLimits

CODE = "/code"  # Where the agent finds its own files; no path of the host is told.
TMP = "/tmp"  # noqa: S108 - a private one, made for this process alone
PACKAGE = Path(__file__).parents[2]  # `aip`.


class Order(msgspec.Struct, frozen=True):
    means: list[str]
    user: str  # `means.TRANSIENT` or `means.NAMESPACE`
    uid: int  # Of the agent: transient on the host, or the one it sees in its user namespace.
    machine: str
    landlock_abi: int
    socket: int  # The child's end of the socketpair.
    code_root: str  # On the host; "" for none.
    view: list[str]  # Trees of the host that it may read.
    imports: list[str]  # Its `sys.path`, after CODE.
    limits: SandboxLimits


def interpreter_view() -> tuple[list[str], list[str]]:
    """Trees to read and the import path, for this interpreter with its packages: its libraries, and of us only `aip`.

    The rest of `sys.path` is left out: folders there hold whatever the host keeps beside its code.
    """
    standard = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    packages = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    ours = str(PACKAGE.parent)
    dynamic = {str(Path(path) / "lib-dynload") for path in standard}
    named = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    view = {*standard, *packages, *named, str(Path(sys.base_prefix) / "lib"), str(PACKAGE)}
    for system in ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache"):
        view.add(system)
    imports = [*sorted(standard), *sorted(dynamic), *sorted(packages), *named, ours]
    there = [path for path in dict.fromkeys(imports) if Path(path).exists()]
    return _outermost(path for path in view if Path(path).exists()), there


def _outermost(paths: Iterable[str]) -> list[str]:
    """Without those that lie below another one."""
    kept: list[str] = []
    for path in sorted(paths):
        if not any(path == known or path.startswith(known + "/") for known in kept):
            kept.append(path)
    return kept
