"""Ends a tool server with the cell that started it. Run as a script, with the server's command as arguments.

A cell that is ended with SIGKILL cannot stop its servers. A server that reads its stdin ends by itself then; one that does not
would stay for ever. Linux ends a process with its parent if it asked for that, so this program asks, then becomes the server:
same process, same pid. Elsewhere it only becomes the server.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit("the cell ended while its tool server started")  # Before it was asked for.
    os.execvp(command[0], command)  # noqa: S606 - no shell, and the words are the plan's own


if __name__ == "__main__":
    main()
