"""What Linux offers to hold a process, as Python functions: namespaces, Landlock, a system call filter.

Only what the standard library does not have; no policy. Every function raises `OSError` where the kernel says no. None of it
needs privileges: a user namespace gives what the others ask for. Sources: unshare(2), user_namespaces(7), landlock(7) with
`include/uapi/linux/landlock.h`, seccomp(2), prctl(2).
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterable, Sequence

NAMESPACES = 0x00020000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000  # mount, ipc, user, pid, net

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 8, 32, 4096, 16384
MNT_DETACH = 2

# Landlock: the numbers of its three calls are the same on every architecture.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
ACCESS_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # How many rights on files each version knows.
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
TRUNCATE, IOCTL_DEV = 1 << 14, 1 << 15
FILE_RIGHTS = (
    EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
)  # Those that a file, not a folder, may be given.
READING = EXECUTE | READ_FILE | READ_DIR

# What a snippet has no business with: sockets (path names reach out of a network namespace), rings that make system calls of
# their own, other processes' memory, keys, mounts, and the parts of the kernel where most of its holes were.
CALLS = {
    "x86_64": {
        "socket": 41, "ptrace": 101, "pivot_root": 155, "mount": 165, "umount2": 166, "add_key": 248, "request_key": 249,
        "keyctl": 250, "unshare": 272, "perf_event_open": 298, "open_by_handle_at": 304, "setns": 308,
        "process_vm_readv": 310, "process_vm_writev": 311, "bpf": 321, "userfaultfd": 323, "io_uring_setup": 425,
    },
    "aarch64": {
        "socket": 198, "ptrace": 117, "pivot_root": 41, "mount": 40, "umount2": 39, "add_key": 217, "request_key": 218,
        "keyctl": 219, "unshare": 97, "perf_event_open": 241, "open_by_handle_at": 265, "setns": 268,
        "process_vm_readv": 270, "process_vm_writev": 271, "bpf": 280, "userfaultfd": 282, "io_uring_setup": 425,
    },
}  # fmt: skip
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32 = 0x40000000  # The same calls under other numbers: a filter that forgets them is none.

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def known_machine() -> str:
    machine = platform.machine()
    if machine not in CALLS:
        raise OSError(f"no table of system calls for {machine}")
    return machine


def prctl(option: int, value: int, extra: int = 0) -> None:
    arguments = [ctypes.c_ulong(one) for one in (value, extra, 0, 0)]
    _checked(_libc.prctl(ctypes.c_int(option), *arguments), f"prctl({option})")


def enter_namespaces(uids: Iterable[int], gids: Iterable[int]) -> None:
    """Users, network, processes, IPC and mounts of its own for this process (processes: from its next child on).

    Ids are mapped to themselves: who is not 0 outside is not 0 inside, and has no capabilities after exec. More than one's own
    id can be mapped by root only, and only from outside, so a child that stays outside does it.
    """
    ready, go = os.pipe()
    outer = os.getpid()
    mapper = os.fork()
    if mapper == 0:
        os.close(go)
        os._exit(_map(outer, uids, gids) if os.read(ready, 1) else 1)
    os.close(ready)
    try:
        _checked(_libc.unshare(ctypes.c_int(NAMESPACES)), "unshare")
        os.write(go, b".")
    finally:
        os.close(go)
        code = os.waitstatus_to_exitcode(os.waitpid(mapper, 0)[1])
    if code:
        raise OSError(code, f"map of users: {os.strerror(code)}")


def _map(pid: int, uids: Iterable[int], gids: Iterable[int]) -> int:
    """An errno, or 0. `setgroups` has to be given up before an ordinary user may map a group."""
    lines = (("setgroups", "deny"), ("uid_map", _extents(uids)), ("gid_map", _extents(gids)))
    for name, text in lines:
        try:
            file = os.open(f"/proc/{pid}/{name}", os.O_WRONLY)
            os.write(file, text.encode())
        except OSError as error:
            return error.errno or 1
    return 0


def _extents(ids: Iterable[int]) -> str:
    return "".join(f"{one} {one} 1\n" for one in ids)


def mount_memory(folder: str, size_bytes: int, files_max: int, owner: tuple[int, int] = (-1, -1)) -> None:
    """An empty file system of bounded size over `folder`; it goes with the last process that sees it."""
    # The folder itself is one of the files that are counted.
    options = f"size={size_bytes},nr_inodes={files_max + 1},mode=755"
    if owner != (-1, -1):
        options += f",uid={owner[0]},gid={owner[1]}"
    flags = ctypes.c_ulong(MS_NOSUID | MS_NODEV)
    _checked(_libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", flags, options.encode()), f"mount {folder}")


def show(source: str, target: str) -> None:
    """`source`, with what is mounted below it, also at `target`, read-only."""
    # What the source may not do (no setuid, no devices, no programs) is locked: asking for less is refused.
    kept = os.statvfs(source).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for flags in (MS_BIND | MS_REC, MS_BIND | MS_REMOUNT | MS_RDONLY | kept):
        paths = os.fsencode(source), os.fsencode(target)
        _checked(_libc.mount(*paths, None, ctypes.c_ulong(flags), None), f"mount {target}")


def enter_root(folder: str) -> None:
    """`folder` is the root from now on, and nothing above it can be reached (pivot_root(2), "pivot_root(".", ".")")."""
    os.chdir(folder)
    number = ctypes.c_long(CALLS[known_machine()]["pivot_root"])
    _checked(_libc.syscall(number, b".", b"."), "pivot_root")
    _checked(_libc.umount2(b".", MNT_DETACH), "umount2")
    os.chdir("/")


def landlock_version() -> int:
    return _checked(_libc.syscall(ctypes.c_long(CREATE_RULESET), None, ctypes.c_size_t(0), 1), "landlock")


def restrict_files(readable: Iterable[str], writable: Iterable[str]) -> None:
    """From now on this process and its children may read below `readable`, and do what they like below `writable`."""
    known = ACCESS_BITS.get(landlock_version(), max(ACCESS_BITS.values()))
    every = (1 << known) - 1
    handled = struct.pack("Q", every)
    ruleset = _landlock(CREATE_RULESET, handled, len(handled), 0)
    try:
        for paths, rights in ((readable, READING), (writable, every & ~EXECUTE)):
            for path in paths:
                _allow(ruleset, path, rights & every)
        _landlock(RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # Not every system has every one of them, and what is not there cannot be read.
    try:
        rights = rights if os.path.isdir(path) else rights & FILE_RIGHTS
        _landlock(ADD_RULE, ruleset, 1, struct.pack("=Qi", rights, place), 0)
    finally:
        os.close(place)


def _landlock(number: int, *arguments: int | bytes) -> int:
    given = [one if isinstance(one, bytes) else ctypes.c_long(one) for one in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *given), "landlock")


def filter_of(machine: str) -> bytes:
    """The filter as the kernel runs it: classic BPF over the architecture and a call's number. Denied: EPERM."""
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    kill, allow, refuse = 0x80000000, 0x7FFF0000, 0x00050000 | 1  # SECCOMP_RET_ERRNO with EPERM
    numbers: Sequence[int] = sorted(CALLS[machine].values())
    left = len(numbers)
    program = [(load, 0, 0, 4), (equal, 1, 0, AUDIT_ARCH[machine]), (answer, 0, 0, kill), (load, 0, 0, 0)]
    program.append((at_least, left + 1, 0, X32))  # Jumps count the instructions that are passed over.
    program += [(equal, left - place, 0, number) for place, number in enumerate(numbers)]
    program += [(answer, 0, 0, allow), (answer, 0, 0, refuse)]
    return b"".join(struct.pack("HBBI", *one) for one in program)


def filter_calls() -> None:
    """No call of `CALLS` succeeds in this process from now on, nor in what it starts."""
    program = filter_of(known_machine())
    code = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("HP", len(program) // 8, ctypes.addressof(code))
    kept = ctypes.create_string_buffer(head, len(head))
    prctl(PR_SET_SECCOMP, 2, ctypes.addressof(kept))
