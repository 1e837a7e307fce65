"""The filter of system calls that a sandboxed process runs under: a table, compiled to classic BPF. Pure.

    system call                                              answer
    of another architecture, or of the x32 table             the process is killed
    `syscalls.fatal`                                         the process is killed
    `syscalls.allowed`                                       done
    `clone` of a thread; `clone3`                            done; ENOSYS, so that libc falls back to `clone`
    `socketpair(AF_UNIX)`                                    done: an event loop wakes itself with it, and it leads nowhere
    `prctl`, `ioctl`                                         done for the harmless requests listed here
    `tgkill`, `prlimit64` of the process itself              done
    any other, or with any other argument                    EPERM

An argument is compared in its whole 64 bits, or in the 32 that the kernel looks at; pointers are never judged, as what they point
to can change after the look. A filter stays for the life of the process and its threads, and cannot be taken back.
Source: Linux `Documentation/userspace-api/seccomp_filter.rst`, `include/uapi/linux/seccomp.h`.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator, Sequence

from . import syscalls

KILL = 0x8000_0000
ALLOW = 0x7FFF_0000
ERRNO = 0x0005_0000
REFUSE = ERRNO | errno.EPERM
UNKNOWN = ERRNO | errno.ENOSYS
INSTRUCTIONS_MAX = 4_096  # BPF_MAXINSNS of the kernel.

_ARCHITECTURES = {syscalls.X86_64: 0xC000_003E, syscalls.AARCH64: 0xC000_00B7}
_X32_BIT = 0x4000_0000
# Offsets in `struct seccomp_data`. Both machines are little-endian: the low half of an argument comes first.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K

CLONE_THREAD = 0x0001_0000
# New namespaces: a thread with one would be a process with other rights.
CLONE_NEW = 0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000
AF_UNIX = 1
# PR_GET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_GET_SECCOMP, PR_GET_TIMERSLACK, PR_GET_NO_NEW_PRIVS,
# PR_SET_VMA (names for memory areas). Not PR_SET_PDEATHSIG: it would outlive who guards it.
PRCTL = (2, 3, 15, 16, 21, 30, 39, 0x53564D41)
# TCGETS and TIOCGWINSZ (isatty, terminal size), FIONREAD, FIONBIO, FIONCLEX, FIOCLEX. Not TIOCSTI: it types for others.
IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


def compiled(machine: str, own_pid: int) -> list[Instruction]:
    """The filter for a process that sees itself as `own_pid`. Raises `KeyError` for a machine that has no table."""
    program: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == syscalls.X86_64:
        program += [(_AT_LEAST, 0, 1, _X32_BIT), (_RETURN, 0, 0, KILL)]
    for numbers, answer in ((syscalls.allowed(machine), ALLOW), (syscalls.fatal(machine), KILL)):
        for number in numbers.values():
            program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, answer)]
    for name, number in syscalls.judged(machine).items():
        body = list(_judgement(name, own_pid))
        program += [(_EQUAL, 0, len(body), number), *body]
    program.append((_RETURN, 0, 0, REFUSE))
    assert len(program) <= INSTRUCTIONS_MAX, "a filter of this size is not taken by the kernel"
    return program


def packed(program: Sequence[Instruction]) -> bytes:
    """As an array of `struct sock_filter`."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _judgement(name: str, own_pid: int) -> Iterator[Instruction]:
    """Of one system call, by its arguments. Every path through it ends in an answer."""
    if name == "clone":
        yield (_LOAD, 0, 0, _ARGUMENTS)
        yield (_ANY_BIT, 0, 2, CLONE_THREAD)
        yield (_ANY_BIT, 1, 0, CLONE_NEW)
        yield (_RETURN, 0, 0, ALLOW)
        yield (_RETURN, 0, 0, REFUSE)
    elif name == "clone3":
        yield (_RETURN, 0, 0, UNKNOWN)  # Its flags lie behind a pointer.
    elif name == "socketpair":
        yield from _one_of(0, (AF_UNIX,))
    elif name == "prctl":
        yield from _one_of(0, PRCTL)
    elif name == "ioctl":
        yield from _one_of(1, IOCTL)
    elif name == "tgkill":
        yield from _one_of(0, (own_pid,))
    elif name == "prlimit64":
        yield from _one_of(0, (0, own_pid))
    else:
        raise KeyError(name)


def _one_of(argument: int, values: Sequence[int]) -> Iterator[Instruction]:
    """Allowed where the argument, an `int` or an `unsigned int` of the kernel, is one of these."""
    yield (_LOAD, 0, 0, _ARGUMENTS + 8 * argument)
    for left, value in zip(range(len(values) - 1, -1, -1), values, strict=True):
        yield (_EQUAL, left + 1, 0, value)
    yield (_RETURN, 0, 0, REFUSE)
    yield (_RETURN, 0, 0, ALLOW)
