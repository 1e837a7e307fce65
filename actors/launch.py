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

How a process is proven ours stands in `owned.py`, what is left out of Ray in `ray_head.py`."""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path

from aip.errors import AIPError
from aip.settings import Home

from .owned import Stopped, end, head_is_alive
from .platform_record import (
    LOOPBACK,
    MARKER,
    Platform,
    head_log_path,
    locked,
    read_record,
    write_private,
    write_record,
)
from .ray_head import (
    LaunchOptions,
    Progress,
    free_port,
    head_command,
    head_environment,
    raise_open_files,
    temp_root,
    wait_until_ready,
)


def silent(_: str) -> None:
    """Progress that nobody watches."""


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
            end(home, stale, grace_s=1.0)
        starting = _prepare(home)
        try:
            return _bring_up(home, starting, options, on_progress)
        except BaseException:  # Ctrl-C too: whoever interrupts a start wants none of it.
            end(home, read_record(home) or starting, grace_s=1.0)
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
        stopped = end(home, record, grace_s)
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


def _prepare(home: Home) -> Platform:
    """Folder, token and a record without a pid: from here on a crash of ours can be cleaned up after."""
    temp_dir = tempfile.mkdtemp(prefix="aip-", dir=temp_root())
    token_path = home.platform / "token"
    starting = Platform(uuid.uuid4().hex, "", str(token_path), 0, time.time(), temp_dir)
    write_record(home, starting)
    write_private(token_path, secrets.token_hex(32).encode())
    return starting


def _bring_up(home: Home, starting: Platform, options: LaunchOptions, on_progress: Progress) -> Platform:
    on_progress("starting Ray")
    if options.dashboard:
        port = options.dashboard_port or free_port()
        starting = replace(starting, dashboard_url=f"http://{LOOPBACK}:{port}")
    log_path = head_log_path(home)
    write_private(log_path, b"")
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
    running = wait_until_ready(head, starting, log_path, options.start_timeout_s, on_progress)
    write_record(home, running)
    return running


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
