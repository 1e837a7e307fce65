"""Whose process is it? What descends from the head of an embedded platform, what it costs, and how it is ended.

Proof of descent. Every process inherits AIP_PLATFORM_ID from the head, but Ray's workers and agents call
setproctitle, which overwrites the memory behind /proc/PID/environ: the marker is there and cannot be read. So a
process is ours if it shows the marker; or is in the head's session while the head is proven; or is in the session
of a head that is gone and still has its folder or an open file under our temporary folder (the kernel gives no
new process a pid that still names a session); or is a child of one that is ours. A person's shell that merely
stands in our folder is none of these.

Sources: credentials(7) for sessions, proc(5).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from aip.settings import Home

from .platform_record import MARKER, POLL_S, Platform, read_record, record_path

KILL_WAIT_S = 5.0  # After SIGKILL the kernel needs moments; a process in disk sleep may need these.
SWEEPS_MAX = 20  # A process can fork between look and kill; a tree that outruns this is reported.
RAY_COMMANDS = (
    ("ray.scripts.scripts start", "head"),
    ("gcs/gcs_server", "control store"),
    ("raylet/raylet", "raylet"),
    ("dashboard/dashboard.py", "dashboard"),
    ("ray-dashboard-", "dashboard"),
    ("dashboard/agent.py", "dashboard agent"),
    ("runtime_env/agent/main.py", "runtime-env agent"),
    ("workers/default_worker.py", "idle worker"),
    ("workers/setup_worker.py", "idle worker"),
)


@dataclass(frozen=True, slots=True)
class Stopped:
    """What a stop ended. `left` names what could not be ended or removed: empty, or worth a look."""

    platform_id: str | None
    ended: tuple[str, ...] = ()
    killed: tuple[str, ...] = ()  # Those of `ended` that did not go when asked.
    left: tuple[str, ...] = ()
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """What one process costs. `pss_bytes` counts each shared page by its share; None where it cannot be read."""

    pid: int
    role: str
    is_ray: bool  # Ray's own, as against an actor or a tool of ours.
    rss_bytes: int
    pss_bytes: int | None
    cpu_s: float


def processes(home: Home) -> list[ProcessUse]:
    """Every process of the platform and what it costs, the head first."""
    record = read_record(home)
    if record is None:
        return []
    return [use for process in owned(record) if (use := _use(process, record)) is not None]


def head_is_alive(record: Platform) -> bool:
    """Whether the recorded pid is a live process that carries the record's id."""
    try:
        return record.pid > 0 and carries_marker(psutil.Process(record.pid), record.platform_id)
    except psutil.Error:
        return False


def carries_marker(process: psutil.Process, platform_id: str) -> bool:
    try:
        return process.environ().get(MARKER) == platform_id
    except (psutil.Error, OSError):  # Gone, a zombie, or another user's: in no case ours.
        return False


def owned(record: Platform) -> list[psutil.Process]:
    """Every live process with proof of descent from the record's head, the head first; never the asking one."""
    every = [process for process in psutil.process_iter() if process.pid != os.getpid()]
    head_alive = head_is_alive(record)
    ours = {
        process.pid: process
        for process in every
        if carries_marker(process, record.platform_id) or _in_session(process, record, head_alive)
    }
    parents = {process.pid: _parent_pid(process) for process in every}
    grown = True
    while grown:
        more = {p.pid: p for p in every if p.pid not in ours and parents[p.pid] in ours and is_alive(p)}
        ours |= more
        grown = bool(more)
    return sorted(ours.values(), key=lambda process: (process.pid != record.pid, process.pid))


def _in_session(process: psutil.Process, record: Platform, head_alive: bool) -> bool:
    if record.pid == 0:
        return False
    try:
        if os.getsid(process.pid) != record.pid or not is_alive(process):
            return False
        if head_alive:
            return True
        if process.pid == record.pid:
            return False  # The head's pid without our marker: somebody else's new session.
        paths = [process.cwd(), *(file.path for file in process.open_files())]
        return any(path.startswith(record.temp_dir + os.sep) or path == record.temp_dir for path in paths)
    except (psutil.Error, OSError):
        return False


def is_alive(process: psutil.Process) -> bool:
    """A zombie has ended; when it is reaped is up to its parent, which in a container may never do so."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _parent_pid(process: psutil.Process) -> int:
    try:
        return process.ppid()
    except psutil.Error:
        return 0


def role(command: list[str]) -> tuple[str, bool]:
    """What a process does, by its command line, and whether it is Ray's own. Ray's title: `ray::Actor.method`."""
    line = " ".join(command).strip()
    if line.startswith("ray::"):
        name = line[5:].split("(")[0].split(".")[0].split(":")[0].strip()
        known = {
            "DashboardAgent": "dashboard agent",
            "RuntimeEnvAgent": "runtime-env agent",
            "IDLE": "idle worker",
        }
        return known.get(name, _spaced(name)), name in known
    for part, name in RAY_COMMANDS:
        if part in line:
            return name, True
    program = os.path.basename(command[0]) if command else "?"
    return f"tool {program}", False


def _spaced(name: str) -> str:
    """`ConsensusNode` as `consensus node`."""
    return "".join(f" {c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


def _use(process: psutil.Process, record: Platform) -> ProcessUse | None:
    try:
        with process.oneshot():
            times = process.cpu_times()
            what, is_ray = role(process.cmdline())
            rss_bytes = process.memory_info().rss
        pss_bytes: int | None = process.memory_full_info().pss
    except psutil.AccessDenied:
        pss_bytes = None
    except psutil.Error:
        return None  # It ended while we looked.
    if process.pid == record.pid:
        what, is_ray = "head", True
    return ProcessUse(process.pid, what, is_ray, rss_bytes, pss_bytes, times.user + times.system)


def end(home: Home, record: Platform, grace_s: float) -> Stopped:
    """End every process of the record, then remove its files. The head is asked first: it ends its own in order."""
    began_s = time.monotonic()
    names: dict[int, str] = {}
    killed: dict[int, str] = {}
    shared = _shared_memory(owned(record))
    for sweep in range(SWEEPS_MAX):
        ours = owned(record)
        if not ours:
            break
        names |= {process.pid: f"{role(_command(process))[0]} {process.pid}" for process in ours}
        if sweep == 0 and ours[0].pid == record.pid:
            _signal(ours[:1], "terminate")
            ours = _wait(ours, began_s + grace_s / 2)
        _signal(ours, "terminate")
        stubborn = _wait(ours, began_s + grace_s)
        killed |= {process.pid: names[process.pid] for process in stubborn}
        _signal(stubborn, "kill")
        _wait(stubborn, time.monotonic() + KILL_WAIT_S)
    left = [names.get(process.pid, str(process.pid)) for process in owned(record)]
    if not left:
        _remove_files(home, record)
        left = [path for path in (record.temp_dir, str(record_path(home))) if os.path.exists(path)]
    left += sorted(path for path in shared if os.path.exists(path))
    return Stopped(
        record.platform_id,
        tuple(names.values()),
        tuple(killed.values()),
        tuple(left),
        time.monotonic() - began_s,
    )


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _signal(targets: Iterable[psutil.Process], verb: str) -> None:
    for process in targets:
        # psutil compares start times, so a reused pid is not signalled. What may not be signalled ends up in `left`.
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            getattr(process, verb)()


def _wait(targets: list[psutil.Process], deadline_s: float) -> list[psutil.Process]:
    """Those that still live at the deadline. Nobody is reaped: the exit codes belong to the parents."""
    while (alive := [process for process in targets if is_alive(process)]) and time.monotonic() < deadline_s:
        time.sleep(POLL_S)
    return alive


def _shared_memory(ours: Iterable[psutil.Process]) -> set[str]:
    """Named shared memory that ours map. Ray unlinks its store at once: even kill -9 leaves none of it."""
    found: set[str] = set()
    for process in ours:
        with contextlib.suppress(psutil.Error, OSError):
            found |= {area.path for area in process.memory_maps() if area.path.startswith("/dev/shm/")}  # noqa: S108
    return {path for path in found if not path.endswith(" (deleted)")}


def _remove_files(home: Home, record: Platform) -> None:
    """The folder first and the record last: a removal that is interrupted can be resumed."""
    shutil.rmtree(record.temp_dir, ignore_errors=True)  # What stays is reported by `end`.
    Path(record.token_path).unlink(missing_ok=True)
    record_path(home).unlink(missing_ok=True)
