"""The program between us and a stranger's snippet: it gives up what it has, then becomes the interpreter that runs it.

    cage.py (the Runner agent)
      └─ confine        reads the request; enters namespaces and a room of its own; drops root; bounds itself; waits
           └─ init      process 1 of its namespace, our code: when it ends, the kernel ends everybody in there
                └─ the snippet     Landlock, the filter, no new privileges; then exec

The order matters. Root goes once the room stands, and before anything of a stranger. Limits come before the forks, so that
all inherit them. Landlock and the filter come last, and hold the snippet only: init must still be able to report.

`init` is not the snippet, since a process may undo its own parent-death signal; nobody inside can signal process 1 or trace it.

It reports in JSON lines on the pipe that it was given: `{"held": [...], "lacks": {hold: why}}` before the snippet runs (with
`refused` if it will not), `{"code"}` or `{"signal"}` and `{"cpu_s", "memory_bytes"}` after it. The pipe closes on exec: a snippet
cannot write there.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from . import kernel, room

NOBODY = 65534  # Root is above RLIMIT_NPROC and reads every file: it never runs a snippet.
OURS = 2  # Processes of our own in the snippet's namespace of users: this one and init.
FILES_OPEN_MAX = 64

PYTHON = os.path.realpath(
    sys.executable
)  # Now: a link may lead there through folders that the room does not have.

# What an interpreter needs to start. Nothing with a person's data in it.
READABLE = (
    *(
        os.path.realpath(sys.base_prefix),
        PYTHON,
        "/lib",
        "/lib64",
        "/usr/lib",
        "/usr/lib64",
        "/usr/share/zoneinfo",
    ),
    *("/etc/ld.so.cache", "/dev/null", "/dev/urandom"),
)


class Report:
    """What was achieved and what not, on its way to whoever asked."""

    def __init__(self, pipe: int, may_lack: list[str]) -> None:
        os.set_inheritable(pipe, False)
        self._pipe = pipe
        self._may_lack = may_lack
        self.held: list[str] = []
        self.lacks: dict[str, str] = {}

    def tell(self, **facts: Any) -> None:
        os.write(self._pipe, json.dumps(facts).encode() + b"\n")

    def attempt(self, hold: str, action: Callable[[], None]) -> bool:
        """Whether it holds now. Where it does not and has to, this is the end, before anything of a stranger ran."""
        try:
            action()
        except OSError as error:
            self.lacks[hold] = str(error)
            if hold not in self._may_lack:
                self.tell(refused=True, held=self.held, lacks=self.lacks)
                os._exit(0)
            return False
        self.held.append(hold)
        return True


def main() -> NoReturn:
    request = json.load(sys.stdin)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    bounds, folder = request["bounds"], request["folder"]
    report = Report(int(sys.argv[1]), bounds["may_lack"])
    user = (NOBODY, NOBODY) if os.geteuid() == 0 else (os.getuid(), os.getgid())
    own = report.attempt("namespaces", lambda: move(folder, user, bounds))
    if os.geteuid() == 0:
        drop_root(user, "" if own else folder)
    # After the change of user, which clears it. A parent that died before that will not send the signal any more.
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != request["parent"]:
        os._exit(0)
    request["folder"] = room.WORK if own else folder
    os.chdir(request["folder"])
    limit(bounds, OURS if own else 0)
    init = os.fork()
    if init == 0:
        be_init(request, report)
    os.waitpid(init, 0)
    os._exit(0)


def move(folder: str, user: tuple[int, int], bounds: dict[str, Any]) -> None:
    """Into namespaces and a room of its own. Whoever is root has to be until the room stands: its user owns nothing."""
    if os.geteuid() == 0:
        os.setgroups([])
    kernel.enter_namespaces(sorted({os.geteuid(), user[0]}), sorted({os.getegid(), user[1]}))
    room.enter(folder, user, READABLE, bounds["disk_bytes"], bounds["files_max"])


def drop_root(user: tuple[int, int], folder: str) -> None:
    if folder:
        os.chown(folder, *user)
        os.setgroups([])
    os.setresgid(user[1], user[1], user[1])
    os.setresuid(user[0], user[0], user[0])


def limit(bounds: dict[str, Any], ours: int) -> None:
    """For this process and all that follow. In a namespace of its own the count of processes starts at nothing."""
    cpu_s, memory_bytes, disk_bytes = bounds["cpu_s"], bounds["memory_bytes"], bounds["disk_bytes"]
    for what, soft, hard in (
        (resource.RLIMIT_CPU, cpu_s, cpu_s + 1),  # SIGXCPU, which tells why; a second later SIGKILL.
        (resource.RLIMIT_AS, memory_bytes, memory_bytes),
        (resource.RLIMIT_FSIZE, disk_bytes, disk_bytes),
        (resource.RLIMIT_NPROC, bounds["processes_max"] + ours, bounds["processes_max"] + ours),
        (resource.RLIMIT_NOFILE, FILES_OPEN_MAX, FILES_OPEN_MAX),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        ceiling = resource.getrlimit(what)[1]  # A limit of the system's own that is lower stays.
        bounded = [one if ceiling == resource.RLIM_INFINITY else min(one, ceiling) for one in (soft, hard)]
        resource.setrlimit(what, (bounded[0], bounded[1]))


def be_init(request: dict[str, Any], report: Report) -> NoReturn:
    """Start the snippet, wait for it (and for whatever it leaves behind), say how it ended."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    snippet = os.fork()
    if snippet == 0:
        become(request, report)
    ended, status = 0, 0
    while ended != snippet:
        ended, status = os.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = os.waitstatus_to_exitcode(status)
    report.tell(
        **({"signal": -code} if code < 0 else {"code": code}),
        cpu_s=round(used.ru_utime + used.ru_stime, 3),
        memory_bytes=used.ru_maxrss * 1024,
    )
    os._exit(0)


def become(request: dict[str, Any], report: Report) -> NoReturn:
    """The last steps before the snippet, in its own process."""
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    writable = [request["folder"], os.devnull]
    report.attempt("landlock", lambda: kernel.restrict_files(READABLE, writable))
    report.attempt("filter", kernel.filter_calls)
    report.tell(held=report.held, lacks=report.lacks)
    # -I: nothing of this environment. -S: the standard library only. -B: nothing is written beside it.
    command = [PYTHON, "-I", "-S", "-B", "-X", "utf8", "-c", request["code"]]
    environment = {"HOME": request["folder"], "TMPDIR": request["folder"], "LC_ALL": "C.UTF-8"}
    try:
        os.execve(PYTHON, command, environment)  # noqa: S606 - the purpose of this program; no shell is in between
    except OSError as error:
        report.tell(broken=f"the interpreter cannot be started as user {os.getuid()}: {error}")
        os._exit(127)


if __name__ == "__main__":
    main()
