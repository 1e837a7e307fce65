"""`ray start --head` as an embedded platform wants it: its command, its environment, and when it is ready.

What Ray would start and an embedded platform has no use for is left out: autoscaler monitor, log monitor, client
server, API server (unless a dashboard is asked for) and prestarted idle workers. On two cores that makes 5
processes instead of 9, 0.3 GiB instead of 0.5, and 2 s instead of 5 until a driver can connect.

Sources: `ray start` of Ray 2.60 (scripts.py, node.py), unix(7).
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aip.errors import PlatformUnavailable
from aip.settings import Home

from .platform_record import LOOPBACK, MARKER, POLL_S, Platform, connect_environment

SOCKET_PATH_BYTES_MAX = 107  # sockaddr_un.sun_path less its terminating zero, unix(7).
SESSION_EXAMPLE = "session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"  # With the largest pid.
OPEN_FILES_WANTED = 65_536  # A worker costs the raylet 3; the usual 1,024 end at some 330 workers.
LOG_TAIL_LINES = 30  # What a terminal shows at once.

Progress = Callable[[str], None]


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
        "RAY_START_HOOK": "actors.ray_head.trim_head",
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


def wait_until_ready(
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
