"""What this machine has: every mean is tried in a process of its own that ends with the trial. About 0.2 s; nothing stays.

A kernel's configuration and a distribution's switches say what should work; the trial says what does, as this user, here, inside
whatever holds us already.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from . import confine, kernel, landlock, seccomp
from .limits import PROBE_S, SandboxLimits
from .means import NAMESPACE, TRANSIENT, Mean, Means
from .order import Order, interpreter_view

BOOT = "import sys; sys.path[:] = sys.argv[1:]; from aip.compute.sandbox.probe import main; main()"
# Transient uids: a wide range that no account has, or where that is not mapped the one that systemd keeps for the same purpose.
_UIDS = ((1_900_000_000, 1_916_777_215), (61_184, 65_519))
_INNER_UID = 1_000  # What a user namespace shows its agent.
_ERROR_BYTES_MAX = 400


def probe() -> Means:
    """Ask in a process of its own: this one may have threads and must keep its namespaces."""
    if sys.platform != "linux":
        return Means(frozenset(), why=dict.fromkeys(Mean, "Linux only"))
    _, imports = interpreter_view()
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-I", "-S", "-B", "-c", BOOT, *imports],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={},
            cwd="/",
            timeout=PROBE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Means(frozenset(), why=dict.fromkeys(Mean, f"the trials did not end within {PROBE_S:g} s"))
    if done.returncode:
        tail = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        return Means(frozenset(), why=dict.fromkeys(Mean, f"the trials failed: {' '.join(tail)}"))
    return _read(json.loads(done.stdout))


def _read(told: dict[str, object]) -> Means:
    why = told["why"]
    assert isinstance(why, dict)
    return Means(
        has=frozenset(Mean) - {Mean(name) for name in why},
        user=str(told["user"]),
        uids=_uids(),
        landlock_abi=int(str(told["landlock_abi"])),
        machine=kernel.machine(),
        cgroup=_cgroup(),
        podman=shutil.which("podman") or "",
        why={Mean(name): str(text) for name, text in why.items()},
    )


def main() -> None:
    """Entry of the trying process."""
    uids = _uids()
    user = TRANSIENT if os.geteuid() == 0 and uids[0] else NAMESPACE
    if user == TRANSIENT and _tried(lambda: _user(user)):
        user = NAMESPACE  # Root by name, as in a container without the capability.
    failed = {mean.value: why for mean in Mean if (why := _tried(lambda mean=mean: _TRIALS[mean](user)))}  # type: ignore[misc]
    if failed.get(Mean.USER):
        user = ""
    abi = 0 if Mean.LANDLOCK in failed else kernel.landlock_abi()
    print(json.dumps({"why": failed, "user": user, "landlock_abi": abi}))


def _tried(trial: Callable[[], object]) -> str:
    """Why it does not work, or "". In a fork: what a trial changes ends with it."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = b""
        try:
            trial()
        except Exception as error:  # noqa: BLE001 - whatever the trial ran into is the answer
            said = str(error).encode()[:_ERROR_BYTES_MAX] or type(error).__name__.encode()
        finally:
            os.write(write, said)
            os._exit(0 if not said else 1)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        said = answer.read()
    _, status = os.waitpid(pid, 0)
    return said.decode(errors="replace") or ("" if status == 0 else f"the trial ended with {status}")


def _order(user: str, *means: Mean) -> Order:
    uid = _uids()[0] if user == TRANSIENT else _INNER_UID
    return Order(list(means), user, uid, kernel.machine(), 0, -1, "", [], [], SandboxLimits())


def _user(user: str) -> None:
    order = _order(user)
    confine.enter(order)
    confine.identity(order)
    if (os.getuid(), os.getgid()) != (order.uid, order.uid):
        raise OSError("the uid did not change")


def _mounts(user: str) -> None:
    order = _order(user, Mean.MOUNTS)
    confine.enter(order)
    confine.root(order)
    if set(os.listdir("/")) != {"code", "dev", "tmp"}:
        raise OSError("the old root shows through")


def _entered(mean: Mean) -> Callable[[str], None]:
    return lambda user: confine.enter(_order(user, mean))


def _pids(user: str) -> None:
    confine.enter(_order(user, Mean.PIDS))
    pid = os.fork()
    if pid == 0:
        os._exit(0 if os.getpid() == 1 else 1)
    if os.waitpid(pid, 0)[1]:
        raise OSError("a new pid namespace has no first process")


def _limits(user: str) -> None:
    confine.limit(_order(user))
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] > SandboxLimits().files:
        raise OSError("a limit did not take")


def _seccomp(user: str) -> None:
    kernel.can_filter()
    kernel.no_new_privs()
    kernel.filter_calls(seccomp.packed(seccomp.compiled(kernel.machine(), os.getpid())))
    try:
        os.setpriority(os.PRIO_PROCESS, 0, 19)
    except PermissionError:
        return
    raise OSError("the filter did not take")


def _landlock(user: str) -> None:
    kernel.no_new_privs()
    landlock.restrict(kernel.landlock_abi(), [], [], [])
    try:
        os.listdir("/")
    except PermissionError:
        return
    raise OSError("the rules did not take")


_TRIALS: dict[Mean, Callable[[str], None]] = {
    Mean.USER: _user,
    Mean.MOUNTS: _mounts,
    Mean.PIDS: _pids,
    Mean.NETWORK: _entered(Mean.NETWORK),
    Mean.IPC: _entered(Mean.IPC),
    Mean.NAMES: _entered(Mean.NAMES),
    Mean.LIMITS: _limits,
    Mean.NO_NEW_PRIVS: lambda _: kernel.no_new_privs(),
    Mean.SECCOMP: _seccomp,
    Mean.LANDLOCK: _landlock,
}


def _uids() -> tuple[int, int]:
    """A range that our own user namespace maps whole; (0, 0) where it maps none."""
    extents = [tuple(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    for first, last in _UIDS:
        if any(start <= first and last < start + count for start, _, count in extents):
            return first, last
    return 0, 0


def _cgroup() -> str:
    """Our cgroup v2, if it is ours to divide and has memory and pids to hand out."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            folder = Path("/sys/fs/cgroup") / line[3:].strip().lstrip("/")
            controllers = folder / "cgroup.controllers"
            if controllers.is_file() and os.access(folder / "cgroup.subtree_control", os.W_OK):
                return str(folder) if {"memory", "pids"} <= set(controllers.read_text().split()) else ""
    return ""
