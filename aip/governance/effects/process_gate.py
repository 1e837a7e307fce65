"""Becomes a program once the gateway says so. Run as a script: `process_gate.py PARENT GATE FAULT LIMITS PROGRAM ARGUMENTS…`.

It asks to end with its parent, sets its limits, says `r` on the fault pipe and reads one byte from the gate. That byte is the
effect's commit; without it (the pipe closed: the gateway gave up or died) it ends and nothing was run. Then the same process
becomes the program. Where that fails, the error's number goes into the fault pipe; where it does not, the kernel closes the
pipe, which says that the program runs.
"""

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


def main() -> None:
    parent, gate, fault = (int(word) for word in sys.argv[1:4])
    limits, command = sys.argv[4], sys.argv[5:]
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)  # A program with the setuid bit gains nothing.
        if os.getppid() != parent:
            sys.exit("the gateway ended while this started")
    os.set_inheritable(fault, False)
    for limit in limits.split(","):
        name, _, value = limit.partition("=")
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        wanted = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
        resource.setrlimit(kind, (wanted, wanted))
    os.write(fault, b"r")
    if os.read(gate, 1) != b"g":
        sys.exit(0)
    os.close(gate)
    try:
        os.execve(command[0], command, os.environ)  # noqa: S606 - no shell; the words were checked by the connector
    except OSError as error:
        os.write(fault, str(error.errno or 1).encode())
        sys.exit(127)


if __name__ == "__main__":
    main()
