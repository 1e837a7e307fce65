"""What `aip doctor` finds: is this machine able to carry a platform, and is the one it has in order?

Two halves: `gather` reads the machine and changes nothing, `examine` is a pure judgement of what was read, one
`Finding` for each check. A check is `ok`, `warn` (it will run, worse than it could) or `fail` (it will not).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import resource
import shutil
import stat
import subprocess
import sys
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil

from actors import launch, owned, platform_record, ray_head
from aip.compute.sandbox import DEFAULT, Demand, Mean, Means, probe
from aip.errors import AIPError
from aip.settings import Home

PYTHONS = ((3, 11), (3, 13))  # First and last, as in pyproject.toml.
RAY_VERSION = "2.60"  # Pinned: ray_head.py knows this Ray's session folder and start hook.
RAY_IMPORT_WARN_S = 1.2  # Every actor pays it once. About 0.4 s on a machine of 2020.
RAY_IMPORT_TIMEOUT_S = 60.0
SLOW_IMPORTS = (
    "rfc3987_syntax",
)  # Compiles a grammar (1 s of CPU) in all that import jsonschema, as Ray does.
MEMORY_BYTES_MIN = (
    2 * 2**30
)  # Ray idle is 0.3 GiB, each cell 50 MB; below this Ray's own killer starts early.
DISK_BYTES_MIN = 1 * 2**30  # Journals and artifacts; the raylet stops taking work at 95 % full.
SHM_BYTES_MIN = 128 * 2**20  # The object store. Below, Ray puts it on disk. Containers often have 64 MiB.
OPEN_FILES_MIN = 4_096  # Three for each worker in the raylet, two in the control store.


class Status(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    status: Status
    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """The machine as it was read. A None says that it is not there, or could not be read."""

    python: tuple[int, int]
    ray_version: str | None
    ray_import_s: float | None
    ray_import_error: str
    slow_imports: tuple[str, ...]
    shm_free_bytes: int | None
    open_files_hard: int
    memory_available_bytes: int
    home: str
    home_problem: str
    home_free_bytes: int
    temp_root: str | None
    temp_problem: str
    temp_free_bytes: int
    platform_mode: int | None
    token_mode: int | None
    record_state: str  # absent | running | stale | corrupt
    other_rays: int
    sandbox: Means
    now_s: float
    installed_at_s: float


def doctor(home: Home) -> list[Finding]:
    return examine(gather(home))


def examine(facts: Facts) -> list[Finding]:
    """Every check, in the order in which a person would mend things."""
    return [
        _python(facts),
        _ray(facts),
        _ray_import(facts),
        _home(facts),
        _sockets(facts),
        _permissions(facts),
        _record(facts),
        _shared_memory(facts),
        _open_files(facts),
        _memory(facts),
        _disk(facts),
        _clock(facts),
        _sandbox(facts),
        _other_rays(facts),
    ]


def _python(facts: Facts) -> Finding:
    first, last = PYTHONS
    text = f"Python {facts.python[0]}.{facts.python[1]}"
    if first <= facts.python <= last:
        return Finding("python", Status.OK, text)
    hint = f"use Python {first[0]}.{first[1]} to {last[0]}.{last[1]}"
    return Finding("python", Status.FAIL, text, hint)


def _ray(facts: Facts) -> Finding:
    hint = f'install it: pip install "ray[default]=={RAY_VERSION}.*"'
    if facts.ray_version is None:
        return Finding("ray", Status.FAIL, "Ray is not installed", hint)
    if not facts.ray_version.startswith(RAY_VERSION + "."):
        return Finding("ray", Status.FAIL, f"Ray {facts.ray_version}, not {RAY_VERSION}", hint)
    return Finding("ray", Status.OK, f"Ray {facts.ray_version}")


def _ray_import(facts: Facts) -> Finding:
    if facts.ray_import_s is None:
        hint = "reinstall Ray in this environment"
        return Finding("ray import", Status.FAIL, f"`import ray` fails: {facts.ray_import_error}", hint)
    text = f"`import ray` takes {facts.ray_import_s:.1f} s, and every actor pays it once"
    if facts.ray_import_s <= RAY_IMPORT_WARN_S:
        return Finding("ray import", Status.OK, text)
    hint = "the machine is busy or slow"
    if facts.slow_imports:
        hint = (
            f"{', '.join(facts.slow_imports)} costs most of a second of it: uninstall it, if nothing needs it"
        )
    return Finding("ray import", Status.WARN, text, hint)


def _home(facts: Facts) -> Finding:
    if facts.home_problem:
        hint = "set AIP_HOME to a folder that you own and may write to"
        return Finding("home", Status.FAIL, facts.home_problem, hint)
    return Finding("home", Status.OK, f"AIP_HOME is {facts.home}")


def _sockets(facts: Facts) -> Finding:
    if facts.temp_root is None:
        hint = (
            f"set TMPDIR to a writable folder with a path of at most {ray_head.temp_root_bytes_max()} bytes"
        )
        return Finding("sockets", Status.FAIL, facts.temp_problem, hint)
    return Finding("sockets", Status.OK, f"Ray's sockets go under {facts.temp_root}")


def _permissions(facts: Facts) -> Finding:
    """Who holds the token runs code as this user: nobody else may read it."""
    for name, mode, path in (
        ("platform folder", facts.platform_mode, f"{facts.home}/platform"),
        ("token", facts.token_mode, f"{facts.home}/platform/token"),
    ):
        if mode is not None and mode & 0o077:
            hint = f"chmod go= {path}, then `aip down` and `aip up`: the token may have been read"
            return Finding("permissions", Status.FAIL, f"the {name} is open to others (mode {mode:o})", hint)
    return Finding("permissions", Status.OK, "token and platform folder are closed to others")


def _record(facts: Facts) -> Finding:
    if facts.record_state == "corrupt":
        hint = f"remove {facts.home}/platform/platform.json"
        return Finding("platform", Status.FAIL, "the platform's record cannot be read", hint)
    if facts.record_state == "stale":
        hint = "`aip up` or `aip down` cleans up after it"
        return Finding("platform", Status.WARN, "the last platform did not end well", hint)
    text = "a platform is running" if facts.record_state == "running" else "no platform is running"
    return Finding("platform", Status.OK, text)


def _shared_memory(facts: Facts) -> Finding:
    free_bytes = facts.shm_free_bytes
    text = "no shared memory" if free_bytes is None else f"{size(free_bytes)} of shared memory free"
    if free_bytes is not None and free_bytes >= SHM_BYTES_MIN:
        return Finding("shared memory", Status.OK, text)
    hint = f"give /dev/shm {size(SHM_BYTES_MIN)} (docker run --shm-size): else large values go by disk"
    return Finding("shared memory", Status.WARN, text, hint)


def _open_files(facts: Facts) -> Finding:
    unbounded = facts.open_files_hard == resource.RLIM_INFINITY
    text = "open files are unlimited" if unbounded else f"up to {facts.open_files_hard:,} open files"
    if unbounded or facts.open_files_hard >= OPEN_FILES_MIN:
        return Finding("open files", Status.OK, text)
    return Finding(
        "open files", Status.WARN, text, f"raise the hard limit of ulimit -n to {OPEN_FILES_MIN:,} or more"
    )


def _memory(facts: Facts) -> Finding:
    text = f"{size(facts.memory_available_bytes)} of memory available"
    if facts.memory_available_bytes >= MEMORY_BYTES_MIN:
        return Finding("memory", Status.OK, text)
    return Finding("memory", Status.WARN, text, f"free some: {size(MEMORY_BYTES_MIN)} is a comfortable start")


def _disk(facts: Facts) -> Finding:
    free, where = min((facts.home_free_bytes, facts.home), (facts.temp_free_bytes, facts.temp_root or "/"))
    text = f"{size(free)} free on the disk of {where}"
    if free >= DISK_BYTES_MIN:
        return Finding("disk", Status.OK, text)
    return Finding("disk", Status.WARN, text, "free some: journals and artifacts are written there")


def _clock(facts: Facts) -> Finding:
    """Ids, leases and deadlines trust the clock; one that is behind its own software is certainly wrong."""
    if facts.now_s >= facts.installed_at_s:
        return Finding("clock", Status.OK, "the clock is plausible")
    days = (facts.installed_at_s - facts.now_s) / 86_400
    return Finding(
        "clock", Status.WARN, f"the clock is {days:.1f} days before AIP was installed", "set it, by NTP"
    )


def _other_rays(facts: Facts) -> Finding:
    count = facts.other_rays
    text = (
        f"{count} other Ray node{'s' if count > 1 else ''} on this machine, left alone"
        if count
        else "no other Ray here"
    )
    return Finding("other Rays", Status.OK, text)


def _sandbox(facts: Facts) -> Finding:
    """Which walls `isolation: container` has here. Without one that is demanded such agents are refused; the rest runs."""
    means = facts.sandbox
    has = ", ".join(mean.value for mean in sorted(means.has)) or "none"
    if missing := means.missing(Demand()):
        lacks = "; ".join(f"{mean.value} ({means.why.get(mean, 'not there')})" for mean in missing)
        hint = (
            "plans that ask for `isolation: container` are refused here, all else runs: see docs/sandbox.md"
        )
        return Finding("sandbox", Status.WARN, f"missing: {lacks}; there: {has}", hint)
    further = ", ".join(f"no {mean.value}" for mean in Mean if mean not in means.has | DEFAULT)
    text = f"`isolation: container` holds by {means.user}, {has}"
    return Finding("sandbox", Status.OK, f"{text}; {further}, which none must have" if further else text)


def size(count_bytes: int) -> str:
    """`3.5 GiB`: bytes for a person."""
    value, units = float(count_bytes), ["B", "KiB", "MiB", "GiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.4g} {units[0]}"


# Reading the machine


def gather(home: Home) -> Facts:
    import_s, import_error = _time_ray_import()
    temp_root, temp_problem = _temp_root()
    record_state, other_rays = _platform(home)
    return Facts(
        python=sys.version_info[:2],
        ray_version=_version("ray"),
        ray_import_s=import_s,
        ray_import_error=import_error,
        slow_imports=tuple(name for name in SLOW_IMPORTS if importlib.util.find_spec(name) is not None),
        shm_free_bytes=_free("/dev/shm"),  # noqa: S108  # its size is what we ask for
        open_files_hard=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        memory_available_bytes=psutil.virtual_memory().available,
        home=str(home.root),
        home_problem=_home_problem(home.root),
        home_free_bytes=_free(str(_nearest(home.root))) or 0,
        temp_root=temp_root,
        temp_problem=temp_problem,
        temp_free_bytes=_free(temp_root or "/") or 0,
        platform_mode=_mode(home.platform),
        token_mode=_mode(home.platform / "token"),
        record_state=record_state,
        other_rays=other_rays,
        sandbox=probe(),
        now_s=time.time(),
        installed_at_s=Path(launch.__file__).stat().st_mtime,
    )


def _time_ray_import() -> tuple[float | None, str]:
    """In a child, as an actor's process would; the interpreter's own start is in it and hardly counts."""
    began_s = time.monotonic()
    try:
        done = subprocess.run(  # our own interpreter
            [sys.executable, "-c", "import ray"],
            capture_output=True,
            text=True,
            check=False,
            timeout=RAY_IMPORT_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return None, f"not done after {RAY_IMPORT_TIMEOUT_S:g} s"
    if done.returncode:
        return None, (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return time.monotonic() - began_s, ""


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _temp_root() -> tuple[str | None, str]:
    try:
        return ray_head.temp_root(), ""
    except AIPError as error:
        return None, error.message


def _platform(home: Home) -> tuple[str, int]:
    """The state of the record, and how many raylets run here that are not its."""
    record, state, ours = None, "absent", set[int]()
    try:
        record = platform_record.read_record(home)
    except AIPError:
        state = "corrupt"
    if record is not None:
        state = "running" if launch.find(home) else "stale"
        ours = {process.pid for process in owned.owned(record)}
    raylets = [p for p in psutil.process_iter(["name"]) if p.info["name"] == "raylet" and p.pid not in ours]
    return state, len(raylets)


def _nearest(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _home_problem(root: Path) -> str:
    nearest = _nearest(root)
    if not nearest.is_dir():
        return f"{nearest} is not a folder"
    if not os.access(nearest, os.W_OK | os.X_OK):
        return f"{nearest} cannot be written to"
    if nearest == root and root.stat().st_uid != os.getuid():
        return f"{root} belongs to another user"
    return ""


def _mode(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None


def _free(path: str) -> int | None:
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None
