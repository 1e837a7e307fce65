"""The embedded platform's Ray: one head per AIP_HOME, started, found and ended as a thing that we own.

`start` runs `ray start --head --block` as a detached child in a session of its own. It outlives the program
that asked for it, and nothing but `stop` (or the machine) ends it. Only Ray is brought up here; the actors are
somebody else's, after `start`.

What it guarantees
    One platform per home    Concurrent `start`s are serialised by flock; the second returns the first's platform.
    All or nothing           A start that fails, or is interrupted, ends every process it made and its files.
    Ours and no other        A process is touched only with proof of descent from our head. Never `ray stop`.
    No false life            `find` believes a record only if the process of that pid shows the record's id in its
                             environment: neither kill -9, nor a reboot, nor a reused pid passes for a platform.
    Closed doors             All of it listens on loopback only, behind a token that one user can read (0600 in a
                             0700 folder). Ray's session folder is world-writable, so it lives in a 0700 one.

What it does not guarantee
    SIGKILL of the *starter* (or a second Ctrl-C) leaves processes behind until the next `start` or `stop`, which
    finds them by the record that was written before the head was. `stop` saves no state: what must survive is
    in the journals already.

    state     platform.json      head                       left by
    absent    none               none                       start -> starting
    starting  without address    none, or not yet ready     ready -> running; failure, Ctrl-C -> absent
    running   whole              alive, shows our id        stop -> absent; kill -9, reboot -> stale
    stale     any                gone, or somebody else's   start -> starting; stop -> absent

Proof of descent. Every process inherits AIP_PLATFORM_ID from the head, but Ray's workers and agents call
setproctitle, which overwrites the memory behind /proc/PID/environ: the marker is there and cannot be read. So a
process is ours if it shows the marker; or is in the head's session while the head is proven; or is in the session
of a head that is gone and still has its folder or an open file under our temporary folder (the kernel gives no
new process a pid that still names a session); or is a child of one that is ours. A person's shell that merely
stands in our folder is none of these.

What Ray would start and an embedded platform has no use for is left out: autoscaler monitor, log monitor, client
server, API server (unless a dashboard is asked for) and prestarted idle workers. On two cores that makes 5
processes instead of 9, 0.3 GiB instead of 0.5, and 2 s instead of 5 until a driver can connect.

Sources: `ray start` of Ray 2.60 (scripts.py, node.py), credentials(7) for sessions, proc(5), unix(7).
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import resource
import secrets
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from aip.errors import AIPError, Corrupt, PlatformUnavailable
from aip.settings import Home

MARKER = "AIP_PLATFORM_ID"
LOOPBACK = "127.0.0.1"
SOCKET_PATH_BYTES_MAX = 107  # sockaddr_un.sun_path less its terminating zero, unix(7).
SESSION_EXAMPLE = "session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"  # With the largest pid.
OPEN_FILES_WANTED = 65_536  # A worker costs the raylet 3; the usual 1,024 end at some 330 workers.
LOG_TAIL_LINES = 30  # What a terminal shows at once.
LOCK_WAIT_S = 120.0  # Longer than any start or stop that still makes progress.
POLL_S = 0.02
KILL_WAIT_S = 5.0  # After SIGKILL the kernel needs moments; a process in disk sleep may need these.
SWEEPS_MAX = 20  # A process can fork between look and kill; a tree that outruns this is reported.

Progress = Callable[[str], None]


def silent(_: str) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, slots=True)
class Platform:
    """The record of one platform. `pid` is 0, and the address empty, while it is still starting."""

    platform_id: str
    address: str
    token_path: str
    pid: int
    started_at_s: float
    temp_dir: str
    node_ip: str = LOOPBACK
    dashboard_url: str | None = None


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """How to start a platform that is not running. A running one is returned as it is."""

    dashboard: bool = False
    dashboard_port: int = 0  # 0: a free one.
    port: int = 0  # Of the control store. 0: the kernel chooses, which no other program can race.
    num_cpus: int | None = None  # None: those this process may run on.
    agent_slots: int = 100_000  # At 5 KB each half a gigabyte of agents; more of them want a second node.
    object_store_bytes: int = 128 * 2**20  # Large values are artifacts on disk; Ray's own floor is 75 MiB.
    start_timeout_s: float = 60.0
    ray_environment: Mapping[str, str] = field(
        default_factory=dict
    )  # Further RAY_… settings; inherited ones are dropped.


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


def find(home: Home) -> Platform | None:
    """The running platform of this home, or None. Cheap: one file and one process are read."""
    record = read_record(home)
    return record if record is not None and record.address and head_is_alive(record) else None


def start(home: Home, options: LaunchOptions | None = None, on_progress: Progress = silent) -> Platform:
    """The running platform of this home, started if there is none. Raises `PlatformUnavailable`."""
    options = options or LaunchOptions()
    with locked(home):
        running = find(home)
        if running is not None:
            return running
        stale = read_record(home)
        if stale is not None:
            on_progress("cleaning up after a platform that did not end well")
            _end(home, stale, grace_s=1.0)
        starting = _prepare(home)
        try:
            return _bring_up(home, starting, options, on_progress)
        except BaseException:  # Ctrl-C too: whoever interrupts a start wants none of it.
            _end(home, read_record(home) or starting, grace_s=1.0)
            raise


def stop(home: Home, grace_s: float = 10.0, on_progress: Progress = silent) -> Stopped:
    """End the platform of this home: Ray is asked, then each process is asked, then killed. Idempotent."""
    if not home.platform.is_dir():
        return Stopped(None)
    with locked(home):
        record = read_record(home)
        if record is None:
            return Stopped(None)
        on_progress("stopping Ray")
        stopped = _end(home, record, grace_s)
        head_log_path(home).unlink(missing_ok=True)  # A failed start keeps it: there it says why.
        return stopped


def stop_from_inside(home: Home, grace_s: float = 10.0) -> None:
    """End the platform from one of its own processes. Returns at once; the end comes from outside."""
    environment = {
        key: value for key, value in os.environ.items() if key != MARKER and not key.startswith("RAY_")
    }
    command = [sys.executable, "-m", "actors.launch", "--stop", str(home.root), "--grace", str(grace_s)]
    with subprocess.Popen(  # noqa: S603  # our own interpreter and module
        command,
        env=environment,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as first:
        first.wait()  # It forks and leaves at once; what remains is nobody's child, so no descendant of ours.


def processes(home: Home) -> list[ProcessUse]:
    """Every process of the platform and what it costs, the head first."""
    record = read_record(home)
    if record is None:
        return []
    return [use for process in owned(record) if (use := _use(process, record)) is not None]


def connect_environment(platform: Platform) -> dict[str, str]:
    """What a driver must have in its environment before `import ray`, to be let in by this platform."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": platform.token_path,
        "RAY_USAGE_STATS_ENABLED": "0",
        # Under this name Ray keeps the switch that makes 127.0.0.1 the node's address instead of the network's:
        # nothing can be reached from outside, and a laptop that changes its network keeps its platform.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }


# The record


def record_path(home: Home) -> Path:
    return home.platform / "platform.json"


def head_log_path(home: Home) -> Path:
    return home.platform / "head.log"


def read_record(home: Home) -> Platform | None:
    """The record as it stands, alive or stale."""
    path = record_path(home)
    try:
        return Platform(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise Corrupt(
            f"{path} is not a platform record: {error}", hint=f"see `aip doctor`, then remove {path}"
        ) from error


def write_record(home: Home, record: Platform) -> None:
    """Replace the record in one step: a reader sees the old one or the new one."""
    path = record_path(home)
    draft = path.with_suffix(".new")
    _write_private(draft, json.dumps(asdict(record), indent=1).encode())
    draft.replace(path)


def _write_private(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)  # An older file would keep its older permissions.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)


@contextlib.contextmanager
def locked(home: Home) -> Iterator[None]:
    """Hold the home's launch lock. The kernel drops it with the process, so no crash can leave it held."""
    home.root.mkdir(parents=True, exist_ok=True)
    home.platform.mkdir(mode=0o700, exist_ok=True)
    home.platform.chmod(0o700)
    deadline_s = time.monotonic() + LOCK_WAIT_S
    with (home.platform / "launch.lock").open("ab") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline_s:
                    hint = f"another `aip up` or `aip down` holds {lock.name}"
                    raise PlatformUnavailable("the platform is being started or stopped", hint=hint) from None
                time.sleep(POLL_S)
        yield


# Starting


def _prepare(home: Home) -> Platform:
    """Folder, token and a record without a pid: from here on a crash of ours can be cleaned up after."""
    temp_dir = tempfile.mkdtemp(prefix="aip-", dir=temp_root())
    token_path = home.platform / "token"
    starting = Platform(uuid.uuid4().hex, "", str(token_path), 0, time.time(), temp_dir)
    write_record(home, starting)
    _write_private(token_path, secrets.token_hex(32).encode())
    return starting


def temp_root(candidates: Iterable[str] | None = None) -> str:
    """The first folder for temporary files whose sockets will have paths that the kernel accepts."""
    tried = list(candidates if candidates is not None else (tempfile.gettempdir(), "/tmp", "/var/tmp"))  # noqa: S108
    for root in tried:
        longest = os.path.join(root, "aip-12345678", "r", SESSION_EXAMPLE)
        if len(os.fsencode(longest)) <= SOCKET_PATH_BYTES_MAX and os.access(root, os.W_OK | os.X_OK):
            return root
    raise PlatformUnavailable(
        f"no usable folder for Ray's sockets among {', '.join(tried)}",
        hint=f"set TMPDIR to a writable folder with a path of at most {temp_root_bytes_max()} bytes",
    )


def temp_root_bytes_max() -> int:
    return SOCKET_PATH_BYTES_MAX - len(f"/aip-12345678/r/{SESSION_EXAMPLE}")


def _bring_up(home: Home, starting: Platform, options: LaunchOptions, on_progress: Progress) -> Platform:
    on_progress("starting Ray")
    if options.dashboard:
        port = options.dashboard_port or free_port()
        starting = replace(starting, dashboard_url=f"http://{LOOPBACK}:{port}")
    log_path = head_log_path(home)
    _write_private(log_path, b"")
    with log_path.open("ab") as log:
        head = subprocess.Popen(  # noqa: S603  # our own interpreter, arguments of our own
            head_command(starting, options),
            env=head_environment(home, starting, options, os.environ),
            cwd=starting.temp_dir,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    # A daemon thread reaps the head whenever it ends: a caller that lives on keeps no zombie of it.
    threading.Thread(target=head.wait, name="aip-head-reaper", daemon=True).start()
    raise_open_files(head.pid)
    starting = replace(starting, pid=head.pid)
    write_record(home, starting)
    running = _wait_until_ready(head, starting, log_path, options.start_timeout_s, on_progress)
    write_record(home, running)
    return running


def head_command(platform: Platform, options: LaunchOptions) -> list[str]:
    """`ray start` by the interpreter that runs us: the platform and its drivers are one installation."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    command += ["--no-monitor", "--include-log-monitor=false", "--disable-usage-stats", "--log-color=false"]
    command += [f"--temp-dir={os.path.join(platform.temp_dir, 'r')}", f"--port={options.port}"]
    command += [f"--num-cpus={options.num_cpus or len(os.sched_getaffinity(0))}"]
    command += [f"--object-store-memory={options.object_store_bytes}"]
    command += [f"--resources={json.dumps({'agent_slots': options.agent_slots})}"]
    if platform.dashboard_url is None:
        return [*command, "--include-dashboard=false"]
    port = platform.dashboard_url.rpartition(":")[2]
    return [*command, "--include-dashboard=true", f"--dashboard-host={LOOPBACK}", f"--dashboard-port={port}"]


def head_environment(
    home: Home, platform: Platform, options: LaunchOptions, inherited: Mapping[str, str]
) -> dict[str, str]:
    """The caller's environment and ours, without its RAY_… settings: RAY_ADDRESS would join a strange cluster."""
    environment = {key: value for key, value in inherited.items() if not key.startswith("RAY_")}
    environment |= options.ray_environment
    environment |= connect_environment(platform)
    environment |= {
        "RAY_START_HOOK": "actors.launch.trim_head",
        "RAY_prestart_worker_first_driver": "0",  # An idle worker is 50 MB that waits for a task; we have actors.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # Else SIGTERM waits 30 s for actors that never finish.
        "RAY_ROTATION_MAX_BYTES": str(16 * 2**20),  # Ray's own bound is 512 MiB for each of its logs.
        "RAY_ROTATION_BACKUP_COUNT": "2",
        "AIP_HOME": str(home.root),
        MARKER: platform.platform_id,
    }
    path = import_path(inherited.get("PYTHONPATH", ""))
    return environment | ({"PYTHONPATH": path} if path else {})


def import_path(inherited: str) -> str:
    """PYTHONPATH under which workers import this very `aip`.

    site-packages stays out of it: PYTHONPATH precedes the standard library, site-packages must not.
    """
    root = str(Path(__file__).resolve().parent.parent)
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    parts = [] if root in installed else [root]
    parts += [part for part in inherited.split(os.pathsep) if part and part not in parts]
    return os.pathsep.join(parts)


def trim_head(ray_params: Any, head: bool) -> None:
    """Ray calls this in the head before it starts anything (RAY_START_HOOK): leave out what no flag leaves out."""
    if not head:
        return
    ray_params.ray_client_server_port = None
    if not ray_params.include_dashboard:
        from ray._private.node import Node

        # `--include-dashboard=false` still starts the dashboard process, with nothing but a usage reporter in it,
        # and waits 2 s for it. Were the method renamed, this would do nothing and the start be slower.
        Node.start_api_server = lambda self, **kwargs: None


def raise_open_files(pid: int) -> None:
    """Give the head, and so all that descends from it, as many descriptors as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES_WANTED if hard == resource.RLIM_INFINITY else min(OPEN_FILES_WANTED, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    with contextlib.suppress(ProcessLookupError):  # It died already: the wait that follows says why.
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (wanted, hard))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(
    head: subprocess.Popen[bytes], starting: Platform, log_path: Path, timeout_s: float, on_progress: Progress
) -> Platform:
    """Wait for the last port file of the node; it registers within 0.2 s of it, and a driver waits for that.

    Ray's own "runtime started" counts as well. It comes up to a second later: Ray polls once a second.
    """
    began_s = time.monotonic()
    address = ""
    while time.monotonic() - began_s < timeout_s:
        if head.poll() is not None:
            raise _failed(f"Ray ended with exit code {head.returncode} while it was starting", log_path)
        port = session_port(starting.temp_dir, "gcs_server_port")
        if port and not address:
            address = f"{LOOPBACK}:{port}"
            on_progress(f"the control store answers at {address}")
        if address and (
            session_port(starting.temp_dir, "dashboard_agent_listen_port") or _says_started(log_path)
        ):
            return replace(starting, address=address)
        time.sleep(POLL_S)
    raise _failed(f"Ray was not ready after {timeout_s:g} s", log_path)


def session_port(temp_dir: str, name: str) -> int | None:
    """A port that Ray wrote down in its session's folder; None while it has not."""
    for path in Path(temp_dir).glob(f"r/session_2*/{name}_*"):
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int(path.read_text())
    return None


def _says_started(log_path: Path) -> bool:
    return b"Ray runtime started" in log_path.read_bytes()


def _failed(text: str, log_path: Path) -> PlatformUnavailable:
    lines = log_path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
    return PlatformUnavailable(
        "\n".join([text, *lines]), hint=f"run `aip doctor`; the whole log is {log_path}", log_tail=lines
    )


# Ours and no other


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


# Stopping


def _end(home: Home, record: Platform, grace_s: float) -> Stopped:
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
    shutil.rmtree(record.temp_dir, ignore_errors=True)  # What stays is reported by `_end`.
    Path(record.token_path).unlink(missing_ok=True)
    record_path(home).unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    """`python -m actors.launch --stop HOME`: how a process inside a platform has it ended from outside."""
    parser = argparse.ArgumentParser(prog="python -m actors.launch")
    parser.add_argument("--stop", metavar="HOME", required=True, type=Path)
    parser.add_argument("--grace", metavar="SECONDS", type=float, default=10.0)
    options = parser.parse_args(arguments)
    if os.fork():
        return 0
    os.setsid()
    try:
        stopped = stop(Home(options.stop), options.grace)
    except AIPError as error:
        print(f"{error.code}: {error.message}", file=sys.stderr)
        return 1
    return 1 if stopped.left else 0


if __name__ == "__main__":
    sys.exit(main())
