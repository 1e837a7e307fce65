"""What keeps a sandboxed process in, what of it this machine has, and what is asked of it. Pure.

    mean           what it keeps from the agent                                  how
    user           signals to others, files of others                            a transient uid, or a user namespace
    mounts         all files but libraries, its code and a private /tmp          mount namespace, pivot_root, read-only
    pids           other processes, to be seen, signalled or traced              pid namespace
    network        interfaces, addresses, abstract sockets                       network namespace
    ipc            shared memory, semaphores and queues of others                ipc namespace
    names          the host's name, to be changed                                uts namespace
    limits         more memory, processor time, files, threads than its share    setrlimit
    no_new_privs   rights by running a program that has them                     prctl
    seccomp        sockets, processes, the calls of break-outs (`seccomp.py`)    a filter in the kernel
    landlock       the same files, TCP, sockets and signals a second time        Landlock, as far as its ABI has it

`cgroup` and `podman` are found and reported; nothing here uses them. A sandbox is one process without children: its limits
bound what a cgroup would; no image is ever run.

A `Demand` is what must be there. `FLOOR` always must: without these a child is only a child. `DEFAULT` adds what seals it. What
is there and not demanded is used all the same. What is demanded and not there is `MeansMissing`, before anything is run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ...errors import Unavailable, UsageError


class Mean(StrEnum):
    USER = "user"
    MOUNTS = "mounts"
    PIDS = "pids"
    NETWORK = "network"
    IPC = "ipc"
    NAMES = "names"
    LIMITS = "limits"
    NO_NEW_PRIVS = "no_new_privs"
    SECCOMP = "seccomp"
    LANDLOCK = "landlock"


# A process that can be entered, seen into or that keeps its files is no sandbox, whatever else holds it.
FLOOR = frozenset({Mean.USER, Mean.MOUNTS, Mean.PIDS, Mean.LIMITS, Mean.NO_NEW_PRIVS})
# Landlock is a second wall behind `mounts`: used where the kernel has it (5.13), demanded by who wants two.
DEFAULT = frozenset(Mean) - {Mean.LANDLOCK}

TRANSIENT = "transient uid"
NAMESPACE = "user namespace"


class MeansMissing(Unavailable):
    """This machine cannot enforce what is demanded. `details["missing"]` names each mean and why it is not there."""

    code = "user.unavailable.sandbox"


@dataclass(frozen=True, slots=True)
class Means:
    """What a machine has. `why` says for each mean that is missing what the kernel answered."""

    has: frozenset[Mean]
    user: str = ""  # TRANSIENT, NAMESPACE, or "" for neither.
    uids: tuple[int, int] = (0, 0)  # First and last that a transient one is drawn from.
    landlock_abi: int = 0
    machine: str = ""
    cgroup: str = ""  # The folder of a cgroup v2 that is delegated to us, or "".
    podman: str = ""  # Where it is, or "".
    why: dict[Mean, str] = field(default_factory=dict)

    def missing(self, demand: Demand) -> list[Mean]:
        return sorted(demand.means - self.has)

    def require(self, demand: Demand) -> None:
        """Raises `MeansMissing` where this machine falls short."""
        missing = {mean.value: self.why.get(mean, "not there") for mean in self.missing(demand)}
        if missing:
            told = "; ".join(f"{mean} ({why})" for mean, why in missing.items())
            raise MeansMissing(
                f"isolation: container cannot be enforced here: missing {told}",
                hint="run on a Linux where they are there (docs/sandbox.md); `aip doctor` lists what this machine has",
                missing=missing,
            )

    def plain(self) -> dict[str, Any]:
        """For reports: every mean with True or why not."""
        told: dict[str, Any] = {
            mean.value: mean in self.has or self.why.get(mean, "not there") for mean in Mean
        }
        return {
            "means": told,
            "user": self.user,
            "landlock_abi": self.landlock_abi,
            "machine": self.machine,
            "cgroup": self.cgroup,
            "podman": self.podman,
            "container": not self.missing(Demand()),
        }


@dataclass(frozen=True, slots=True)
class Demand:
    """What must be enforced. Never less than `FLOOR`."""

    means: frozenset[Mean] = DEFAULT

    @classmethod
    def of(cls, names: Iterable[str]) -> Demand:
        """From a configuration. Raises `UsageError` for what is no mean."""
        wanted = set(names)
        unknown = sorted(wanted - {mean.value for mean in Mean})
        if unknown:
            raise UsageError(
                f"demand: {', '.join(unknown)}: no such mean of a sandbox",
                hint=f"there are: {', '.join(mean.value for mean in Mean)}",
            )
        return cls(frozenset(Mean(name) for name in wanted) | FLOOR)
