"""The system calls that Python has no name for, each as a function that raises `OSError`. Linux only."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

CLONE_NEWNS = 0x0002_0000
CLONE_NEWCGROUP = 0x0200_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_RDONLY = 2, 4, 8, 1
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4_096, 16_384, 1 << 18
MNT_DETACH = 2

_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITIES_MAX = 64  # The kernel counts them in two words; it has 41 today and says EINVAL beyond its own.
_CAPABILITY_VERSION_3 = 0x2008_0522
_SECCOMP_SET_MODE_FILTER, _SECCOMP_GET_ACTION_AVAIL, _SECCOMP_FILTER_FLAG_TSYNC = 1, 2, 1
_LANDLOCK_VERSION, _LANDLOCK_PATH_BENEATH = 1, 1

# These have one number on all machines, but for the first three.
_NUMBERS = {
    "x86_64": {"seccomp": 317, "pivot_root": 155, "capset": 126},
    "aarch64": {"seccomp": 277, "pivot_root": 41, "capset": 91},
}
_MOUNT_SETATTR = 442
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def machine() -> str:
    """As `syscalls.py` names it; others have no tables here, so nothing that needs them."""
    return platform.machine() if struct.calcsize("P") == 8 else ""


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _syscall(number: int, what: str, *arguments: int | bytes | None) -> int:
    """Numbers go as longs: a variadic call would leave the upper half of a register as it was."""
    given = [ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a) for a in arguments]
    return _check(int(_libc.syscall(ctypes.c_long(number), *given)), what)


def _own(name: str) -> int:
    numbers = _NUMBERS.get(machine())
    if numbers is None:
        raise OSError(f"{name}: not known for {platform.machine()}")
    return numbers[name]


def unshare(flags: int) -> None:
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    given = (source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())
    _check(_libc.mount(*given), f"mount {target}")


def unmount(target: str) -> None:
    _check(_libc.umount2(target.encode(), ctypes.c_int(MNT_DETACH)), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    _syscall(_own("pivot_root"), "pivot_root", new.encode(), old.encode())


def seal(target: str) -> None:
    """A mount and all below it read-only, without set-user-id and devices (Linux 5.12)."""
    attributes = struct.pack("=QQQQ", 1 | 2 | 4, 0, 0, 0)
    given = (_AT_FDCWD, target.encode(), _AT_RECURSIVE, attributes, len(attributes))
    _syscall(_MOUNT_SETATTR, f"mount_setattr {target}", *given)


def _prctl(what: str, *arguments: int) -> None:
    filled = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:5]]
    _check(_libc.prctl(*filled), what)


def die_with_parent(signal: int) -> None:
    """Forgotten by the kernel when the credentials change: ask last."""
    _prctl("PR_SET_PDEATHSIG", _PR_SET_PDEATHSIG, signal)


def no_new_privs() -> None:
    _prctl("PR_SET_NO_NEW_PRIVS", _PR_SET_NO_NEW_PRIVS, 1)


def not_dumpable() -> None:
    """Nobody of the same user looks into this process."""
    _prctl("PR_SET_DUMPABLE", _PR_SET_DUMPABLE, 0)


def drop_bounding_set() -> None:
    """No program that is run later has any capability either. Needs one itself: before `drop_capabilities`."""
    for capability in range(_CAPABILITIES_MAX):
        try:
            _prctl("PR_CAPBSET_DROP", _PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return  # Beyond the last that this kernel has.


def drop_capabilities() -> None:
    _prctl("PR_CAP_AMBIENT", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _syscall(_own("capset"), "capset", header, bytes(24))


def can_filter() -> None:
    """Raises `OSError` where the kernel cannot kill by a filter."""
    action = struct.pack("=I", 0x8000_0000)
    _syscall(_own("seccomp"), "seccomp", _SECCOMP_GET_ACTION_AVAIL, 0, action)


def filter_calls(program: bytes) -> None:
    """Install a filter (`seccomp.packed`) on every thread of this process."""
    kept = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("=HxxxxxxQ", len(program) // 8, ctypes.addressof(kept))
    given = (_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC, header)
    if thread := _syscall(_own("seccomp"), "seccomp", *given):
        raise OSError(f"seccomp: thread {thread} cannot be brought under the filter")


def landlock_abi() -> int:
    """Raises `OSError` where there is none."""
    return _syscall(_LANDLOCK_CREATE, "landlock", None, 0, _LANDLOCK_VERSION)


def landlock_ruleset(files: int, network: int, scopes: int, abi: int) -> int:
    whole = struct.pack("=QQQ", files, network, scopes)
    attributes = whole[: 8 if abi < 4 else 16 if abi < 6 else 24]
    return _syscall(_LANDLOCK_CREATE, "landlock_create_ruleset", attributes, len(attributes), 0)


def landlock_beneath(ruleset: int, rights: int, path: int) -> None:
    rule = struct.pack("=Qi", rights, path)
    _syscall(_LANDLOCK_ADD, "landlock_add_rule", ruleset, _LANDLOCK_PATH_BENEATH, rule, 0)


def landlock_restrict(ruleset: int) -> None:
    _syscall(_LANDLOCK_RESTRICT, "landlock_restrict_self", ruleset, 0)
