"""The record of an embedded platform: what its home knows of it, under the home's lock.

`platform.json` is replaced in one step and read by anybody of the user; whether its platform lives is another question
(`owned.head_is_alive`). The lock is the kernel's: it falls with the process that holds it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from aip.errors import Corrupt, PlatformUnavailable
from aip.settings import Home

MARKER = "AIP_PLATFORM_ID"
LOOPBACK = "127.0.0.1"
LOCK_WAIT_S = 120.0  # Longer than any start or stop that still makes progress.
POLL_S = 0.02


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
    write_private(draft, json.dumps(asdict(record), indent=1).encode())
    draft.replace(path)


def write_private(path: Path, data: bytes) -> None:
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
