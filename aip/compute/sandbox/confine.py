"""The way into a sandbox, in order. Each step narrows what the next could undo; a step that fails ends the process.

    step         by         what                                                            mean
    enter        launcher   namespaces, the map of users                                    user, pids, network, ipc, names
    root         agent's    a root of its own, read-only, pivoted to; the old one let go    mounts
    identity     agent's    transient uid, no groups; no capability, now or later           user
    tied         agent's    dies with the launcher (`launcher.py`)
    privileges   agent's    no new ones                                                     no_new_privs
    limits       agent's    of memory, time, files, threads                                 limits
    files        agent's    Landlock                                                        landlock
    calls        agent's    the filter of system calls, which forbids most of the above     seccomp

Nothing is tried "as far as it goes": an order names the means, and each is in force or the process ends with the step's name.
The agent's process is never given /proc, /sys, a program to run, or a descriptor but its socket and its output.
"""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

from . import kernel, landlock, seccomp
from .means import TRANSIENT, Mean
from .order import CODE, TMP, Order

_STAGE = "/tmp"  # noqa: S108 - any folder that every Linux has: the new root is built over it, in a mount namespace of our own
_HOST = "/.host"
_ROOT_BYTES = 2**20  # Folders and links; everything else is mounted on them.
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_NAMESPACES = {
    Mean.MOUNTS: kernel.CLONE_NEWNS,
    Mean.PIDS: kernel.CLONE_NEWPID,
    Mean.NETWORK: kernel.CLONE_NEWNET,
    Mean.IPC: kernel.CLONE_NEWIPC,
    Mean.NAMES: kernel.CLONE_NEWUTS,
}
_LINKS_MAX = 40  # As the kernel follows; more is a circle.


def enter(order: Order) -> None:
    """New namespaces, for the processes that are forked from here on."""
    flags = 0
    for mean, flag in _NAMESPACES.items():
        if mean in order.means:
            flags |= flag
    if order.user == TRANSIENT:
        kernel.unshare(flags)
        return
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    kernel.unshare(flags | kernel.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{order.uid} {outer_uid} 1")
    Path("/proc/self/gid_map").write_text(f"{order.uid} {outer_gid} 1")


def root(order: Order) -> None:
    """A new root that holds the view, the code, devices without state and an empty /tmp. The old one is gone after it."""
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    quiet = kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("aip", _STAGE, "tmpfs", quiet, f"size={_ROOT_BYTES},mode=0755")
    os.mkdir(_STAGE + _HOST)
    kernel.pivot_root(_STAGE, _STAGE + _HOST)
    os.chdir("/")
    limits = order.limits
    os.mkdir(
        TMP
    )  # Before the view: an interpreter may live below the host's /tmp, and is shown below this one then.
    owner = f"uid={order.uid},gid={order.uid},mode=0700"
    size = f"size={limits.tmp_bytes},nr_inodes={limits.tmp_files}"
    kernel.mount("aip", TMP, "tmpfs", quiet | kernel.MS_NOEXEC, f"{size},{owner}")
    shown: list[str] = []
    for path in order.view:
        _show(path, shown)
    for device in _DEVICES:
        _bind(_HOST + device, device)
    os.mkdir(CODE)
    kernel.mount("aip", CODE, "tmpfs", quiet, f"size={limits.code_bytes + 2**20},mode=0755")
    if order.code_root:
        # A copy: whoever made the bundle may have closed it to others, and the agent is an other.
        _copy(_HOST + order.code_root, CODE)
    kernel.seal(CODE)
    kernel.unmount(_HOST)
    os.rmdir(_HOST)
    kernel.mount("none", "/", "", kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | quiet)


def _copy(source: str, target: str) -> None:
    """Files and folders, as everybody may read them. A link could name any file of the host, which is still here: left out."""
    for entry in os.scandir(source):
        place = os.path.join(target, entry.name)
        if entry.is_dir(follow_symlinks=False):
            os.mkdir(place, 0o755)
            _copy(entry.path, place)
        elif entry.is_file(follow_symlinks=False):
            source_fd = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(source_fd, "rb") as given, open(place, "xb") as taken:
                shutil.copyfileobj(given, taken)
                os.fchmod(taken.fileno(), 0o644)


def _show(path: str, shown: list[str]) -> None:
    """A tree of the host under its own path, read-only; links on the way there as links."""
    real = path
    for _ in range(_LINKS_MAX):
        link = _first_link(real)
        if link is None:
            break
        target = os.readlink(_HOST + link)
        if not os.path.lexists(link):
            os.makedirs(os.path.dirname(link), mode=0o755, exist_ok=True)
            os.symlink(target, link)
        real = os.path.normpath(os.path.join(os.path.dirname(link), target) + real[len(link) :])
    if not any(real == known or real.startswith(known + "/") for known in shown):
        _bind(_HOST + real, real)
        kernel.seal(real)
        shown.append(real)


def _first_link(path: str) -> str | None:
    """The outermost component of a host's path that is a link."""
    whole = ""
    for name in path.strip("/").split("/"):
        whole += "/" + name
        if os.path.islink(_HOST + whole):
            return whole
    return None


def _bind(source: str, target: str) -> None:
    if os.path.isdir(source):
        os.makedirs(target, mode=0o755, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    kernel.mount(source, target, "", kernel.MS_BIND | kernel.MS_REC)


def identity(order: Order) -> None:
    """Nobody: no groups, a uid that owns nothing, no capability. In a user namespace the uid was mapped at its making."""
    if order.user == TRANSIENT:
        os.setgroups([])
        os.setresgid(order.uid, order.uid, order.uid)
        kernel.drop_bounding_set()
        os.setresuid(order.uid, order.uid, order.uid)
    else:
        kernel.drop_bounding_set()
    kernel.drop_capabilities()
    kernel.not_dumpable()


def limit(order: Order) -> None:
    limits = order.limits
    wanted = {
        resource.RLIMIT_AS: limits.memory_bytes,
        resource.RLIMIT_CPU: limits.cpu_s,  # The launcher reads from the time used that it was this.
        resource.RLIMIT_NOFILE: limits.files,
        resource.RLIMIT_NPROC: limits.threads + 1,
        resource.RLIMIT_FSIZE: limits.tmp_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_SIGPENDING: 64,  # Queued signals of its own threads; timers are not allowed.
        resource.RLIMIT_NICE: 0,
        resource.RLIMIT_RTPRIO: 0,
    }
    for kind, most in wanted.items():
        hard = resource.getrlimit(kind)[1]
        kept = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (kept, kept))


def files(order: Order) -> None:
    landlock.restrict(order.landlock_abi, _seen(order), [d for d in _DEVICES if os.path.exists(d)], [TMP])


def _seen(order: Order) -> Iterator[str]:
    yield CODE
    yield from (path for path in order.view if os.path.exists(path))


def calls(order: Order) -> None:
    kernel.filter_calls(seccomp.packed(seccomp.compiled(order.machine, os.getpid())))
