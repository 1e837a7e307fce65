"""The filter of system calls, run by a machine of its own: every call gets the answer that the table gives it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.compute.sandbox import seccomp, syscalls
from aip.compute.sandbox.seccomp import ALLOW, KILL, REFUSE, UNKNOWN, compiled

OWN_PID = 1
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def answer(machine, number, *arguments, architecture=None):
    """What the kernel's machine would return; `Documentation/networking/filter.rst`."""
    filled = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("<iIQ6Q", number, AUDIT[machine] if architecture is None else architecture, 0, *filled)
    program, accumulator, place = compiled(machine, OWN_PID), 0, 0
    while True:
        code, yes, no, operand = program[place]
        place += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, operand)
            case 0x15:
                place += yes if accumulator == operand else no
            case 0x35:
                place += yes if accumulator >= operand else no
            case 0x45:
                place += yes if accumulator & operand else no
            case 0x06:
                return operand
            case _:
                raise AssertionError(f"instruction {code:#x}")


machines = pytest.mark.parametrize("machine", syscalls.MACHINES)


@machines
def test_what_an_interpreter_needs_is_done_and_a_break_out_is_death(machine):
    assert {answer(machine, number) for number in syscalls.allowed(machine).values()} == {ALLOW}
    assert {answer(machine, number) for number in syscalls.fatal(machine).values()} == {KILL}


@machines
@given(number=st.integers(0, 2**31 - 1))
def test_what_nobody_listed_is_refused(machine, number):
    listed = {**syscalls.allowed(machine), **syscalls.fatal(machine), **syscalls.judged(machine)}
    if number not in listed.values():
        assert answer(machine, number) in {REFUSE, KILL}


@machines
@given(number=st.integers(0, 1_000), other=st.integers(0, 2**32 - 1))
def test_a_call_of_another_architecture_is_death(machine, number, other):
    if other != AUDIT[machine]:
        assert answer(machine, number, architecture=other) == KILL


@given(number=st.integers(0, 1_000))
def test_the_x32_table_is_death(number):
    assert answer("x86_64", number | 0x40000000) == KILL


NUMBERS = {
    # Not in any table: they are refused because nobody listed them.
    "x86_64": {
        "socket": 41,
        "connect": 42,
        "bind": 49,
        "execve": 59,
        "fork": 57,
        "vfork": 58,
        "kill": 62,
        "memfd": 319,
    },
    "aarch64": {"socket": 198, "connect": 203, "bind": 200, "execve": 221, "kill": 129, "memfd": 279},
}


@machines
def test_no_sockets_no_programs_no_processes_no_signals(machine):
    assert {answer(machine, number) for number in NUMBERS[machine].values()} == {REFUSE}


@machines
def test_threads_are_made_and_processes_and_namespaces_are_not(machine):
    clone = syscalls.judged(machine)["clone"]
    of_a_thread = 0x003D0F00  # As glibc makes one.
    assert answer(machine, clone, of_a_thread) == ALLOW
    assert answer(machine, clone, 0x01200011) == REFUSE  # As glibc forks.
    for new in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert answer(machine, clone, of_a_thread | new) == REFUSE
    assert answer(machine, syscalls.judged(machine)["clone3"], of_a_thread) == UNKNOWN


@machines
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("socketpair", (1, 1, 0), ALLOW),
        ("socketpair", (2, 1, 0), REFUSE),
        ("prctl", (15,), ALLOW),
        ("prctl", (1, 0), REFUSE),  # PR_SET_PDEATHSIG: to outlive its guard
        ("prctl", (4, 1), REFUSE),  # PR_SET_DUMPABLE
        ("prctl", (22, 2), REFUSE),  # PR_SET_SECCOMP
        ("ioctl", (0, 0x5421), ALLOW),
        ("ioctl", (0, 0x5412), REFUSE),  # TIOCSTI: to type for others
        ("tgkill", (OWN_PID, 5), ALLOW),
        ("tgkill", (OWN_PID + 1, 5), REFUSE),
        ("prlimit64", (0,), ALLOW),
        ("prlimit64", (7,), REFUSE),
    ],
)
def test_some_calls_are_judged_by_their_argument(machine, name, arguments, expected):
    assert answer(machine, syscalls.judged(machine)[name], *arguments) == expected


@machines
def test_the_filter_is_one_the_kernel_takes(machine):
    program = compiled(machine, OWN_PID)
    assert len(program) <= seccomp.INSTRUCTIONS_MAX
    assert len(seccomp.packed(program)) == 8 * len(program)
    for place, (code, yes, no, _) in enumerate(program):
        assert code == 0x06 or place + 1 + max(yes, no) < len(program), "a jump beyond the end"


@machines
def test_no_call_is_in_two_tables(machine):
    tables = [table(machine) for table in (syscalls.allowed, syscalls.judged, syscalls.fatal)]
    numbers = [number for table in tables for number in table.values()]
    assert len(numbers) == len(set(numbers))
