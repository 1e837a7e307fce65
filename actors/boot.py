"""Starts the tree of actors on a running Ray: `python -m actors.boot AIP_HOME`, in a process of its own that then leaves.

The command line never imports Ray: this process does, once, and what it started stays (detached actors).
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from aip.errors import PlatformUnavailable
from aip.settings import Home

from . import launch, platform_record

IDLE_STOP_S = 1800.0
BOOT_TIMEOUT_S = 120.0


def sockets_of(platform: platform_record.Platform) -> Path:
    return Path(platform.temp_dir) / "aip"


def boot(home: Home, platform: platform_record.Platform, idle_stop_s: float = IDLE_STOP_S) -> None:
    """Start the tree, in another process. Returns when the root answers. Idempotent."""
    environment = {
        **os.environ,
        **platform_record.connect_environment(platform),
        "AIP_HOME": str(home.root),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    command = [sys.executable, "-m", "actors.boot", str(home.root), str(idle_stop_s)]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=BOOT_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise PlatformUnavailable(f"the actors did not start within {BOOT_TIMEOUT_S:g} s") from None
    if done.returncode:
        tail = "\n".join(done.stderr.decode(errors="replace").strip().splitlines()[-15:])
        raise PlatformUnavailable(f"the actors did not start:\n{tail}", hint="see `aip doctor`")


def _start(home: Home, platform: platform_record.Platform, idle_stop_s: float) -> None:
    import ray

    from .orchestrator import NAME, Orchestrator
    from .peers import NAMESPACE
    from .process import spawn
    from .site import Site

    ray.init(
        address=platform.address,
        namespace=NAMESPACE,
        log_to_driver=False,
        logging_level="ERROR",
        configure_logging=False,
    )
    site = Site(platform.platform_id, str(home.root), str(sockets_of(platform)))
    root = spawn(Orchestrator, site, NAME, 0, idle_stop_s, max_restarts=-1, get_if_exists=True)
    ray.get(root.open.remote(), timeout=BOOT_TIMEOUT_S)
    with contextlib.suppress(Exception):
        ray.shutdown()


def main() -> None:
    home, idle_stop_s = Home(Path(sys.argv[1])), float(sys.argv[2])
    platform = launch.find(home)
    if platform is None:
        print("no platform runs in this home", file=sys.stderr)
        raise SystemExit(7)
    started = time.monotonic()
    _start(home, platform, idle_stop_s)
    print(json.dumps({"booted_s": round(time.monotonic() - started, 3)}))


if __name__ == "__main__":
    main()
