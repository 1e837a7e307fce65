"""The process between parent and child: makes the namespaces, forks the agent's process into them, waits, tells how it ended.

Its standard input carries the order, then nothing: its end means that the parent is gone or done, and the child is killed. Its
standard output carries a line of JSON for each `Event`. The child dies with the launcher, by the kernel's own hand: it asks for
that before anybody's code is run, and its filter keeps it from taking the wish back.

The interpreter is forked, not started again: a process that may run no program needs none for its beginning either.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

import msgspec

from . import confine, guest, kernel
from .means import Mean
from .order import CODE, Order

ORDER_BYTES_MAX = 2**20
SOCKET, STATUS, _WISHED, _LEAVE = 3, 4, 5, 6  # Of the agent's process, which keeps the first alone.
_FREE = 64  # Descriptors are moved up here before they are put in place.
NICE = 5  # Cells and guards come first.

BOOT = "import sys; sys.path[:] = sys.argv[1:]; from aip.compute.sandbox.launcher import main; main()"


class Event(msgspec.Struct, frozen=True):
    """`ready`; `failed` at a step of `confine.py`; `ended` by an exit code or a signal."""

    event: str
    step: str = ""
    error: str = ""
    exit: int = 0
    signal: int = 0
    cpu_s: float = 0.0


def _tell(descriptor: int, event: Event) -> None:
    os.write(descriptor, msgspec.json.encode(event) + b"\n")


def main() -> None:
    order = msgspec.json.decode(sys.stdin.buffer.readline(ORDER_BYTES_MAX), type=Order)
    os.nice(NICE)
    try:
        confine.enter(order)
    except OSError as error:
        _tell(1, Event("failed", "enter", str(error)))
        sys.exit(1)
    wish, wished = os.pipe()
    leave, left = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(wish)
        os.close(left)
        _become(order, wished, leave)
    os.close(wished)
    os.close(leave)
    os.close(order.socket)
    if os.read(wish, 1):  # It has asked to die with us, and we are here.
        os.write(left, b"g")
    os.close(left)
    _tell(1, _waited(pid))


def _waited(pid: int) -> Event:
    """Until the child has ended, or the parent has."""
    child = os.pidfd_open(pid)
    both = select.poll()
    both.register(child, select.POLLIN)
    both.register(0, select.POLLIN)
    while not any(descriptor == child for descriptor, _ in both.poll()):
        if not os.read(0, 4_096):
            both.unregister(0)
            os.kill(pid, signal.SIGKILL)
    _, status, used = os.wait4(pid, 0)
    spent_s = used.ru_utime + used.ru_stime
    if os.WIFSIGNALED(status):
        return Event("ended", signal=os.WTERMSIG(status), cpu_s=spent_s)
    return Event("ended", exit=os.waitstatus_to_exitcode(status), cpu_s=spent_s)


def _become(order: Order, wished: int, leave: int) -> NoReturn:
    """The agent's process. It ends here, whatever happens: nothing of the launcher may run in it twice."""
    status = 1
    try:
        _arrange(order.socket, 1, wished, leave)
        if _confined(order):
            _tell(STATUS, Event("ready"))
            os.close(STATUS)
            sys.path[:] = [CODE, *order.imports]
            guest.run(SOCKET)
            status = 0
    except BaseException:  # noqa: BLE001 - it goes to the output, whose end the parent shows
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)


def _arrange(*kept: int) -> None:
    """Nothing to read, one output, then what is kept, in this order; every other descriptor is closed."""
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FREE) for descriptor in kept]
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.dup2(2, 1)
    for place, descriptor in enumerate(high, SOCKET):
        os.dup2(descriptor, place)
    os.closerange(SOCKET + len(kept), os.sysconf("SC_OPEN_MAX"))


def _confined(order: Order) -> bool:
    """Whether every step that is ordered was done. Which was not is told."""
    for name, mean, step in _STEPS:
        if mean is None or mean.value in order.means:
            try:
                step(order)
            except (OSError, ValueError, KeyError) as error:
                _tell(STATUS, Event("failed", name, f"{type(error).__name__}: {error}"))
                return False
    return True


def _tied(_: Order) -> None:
    """To the launcher's life. The wish comes before the question whether the launcher lives, so that no death falls between."""
    kernel.die_with_parent(signal.SIGKILL)
    os.write(_WISHED, b"w")
    alive = os.read(_LEAVE, 1)
    os.close(_WISHED)
    os.close(_LEAVE)
    if not alive:
        os._exit(1)


_STEPS: tuple[tuple[str, Mean | None, Callable[[Order], None]], ...] = (
    ("root", Mean.MOUNTS, confine.root),
    ("identity", Mean.USER, confine.identity),
    ("tied", None, _tied),  # After the last change of credentials, at which the kernel forgets the wish.
    ("privileges", Mean.NO_NEW_PRIVS, lambda _: kernel.no_new_privs()),
    ("limits", Mean.LIMITS, confine.limit),
    ("files", Mean.LANDLOCK, confine.files),
    ("calls", Mean.SECCOMP, confine.calls),
)
