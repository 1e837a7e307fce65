"""`aip kill --local`: end processes of ours from outside, when none of them answers any more.

The fence is up before this is called. What may go on behind it is work that is under way: a turn that does not yield, a thread.
So the processes that could be at such work are ended:

    the platform, this node    every cell and every run
    a pool                     its cells
    anything else              runs of that name; cells that have a turn under way, or are silent and cannot say

A cell hosts agents of many: who shares one with the target is ended with it and comes back from its checkpoint. Whose process is
whose is proven as `owned.py` does it - a pid on a health page counts only if that process descends from our own Ray - so a page
that outlived its process never names somebody else's.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

import psutil

from aip.governance.kill import PLATFORM
from aip.ids import pool_of
from aip.settings import Home

from .health import Health, read_all
from .owned import is_alive, owned
from .platform_record import read_record

POLL_S = 0.02
WAIT_S = 5.0  # For the kernel to take them down. One in an uninterruptible wait stays until its disk answers.


@dataclass(frozen=True, slots=True)
class Ended:
    killed: tuple[str, ...]
    left: tuple[str, ...]  # Still alive after `WAIT_S`.


def reached(page: Health, target: str) -> bool:
    """Whether the process of this page is to end for an order on `target`. Pure."""
    cell = page.name.startswith("cell-")
    if not cell and not page.name.startswith("run-"):
        return False
    kind, _, name = target.partition(":")
    if target == PLATFORM or kind == "node":
        return True
    if kind == "pool":
        return pool_of(page.name) == name
    if not cell:
        return target == f"run/{page.name.removeprefix('run-')}"
    return page.turns > 0 or not page.ok or bool(page.blocked_by)


def end(home: Home, target: str) -> Ended:
    """SIGKILL, and wait until they are gone. Nothing runs: nothing is done."""
    record = read_record(home)
    if record is None:
        return Ended((), ())
    ours = {process.pid: process for process in owned(record)}
    pages = [page for page in read_all(home.platform / "health") if reached(page, target)]
    doomed: dict[str, psutil.Process] = {page.name: ours[page.pid] for page in pages if page.pid in ours}
    for process in doomed.values():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()  # psutil compares start times, so a reused pid is not signalled.
    deadline_s = time.monotonic() + WAIT_S
    while (alive := [name for name, process in doomed.items() if is_alive(process)]) and (
        time.monotonic() < deadline_s
    ):
        time.sleep(POLL_S)
    left = tuple(alive)
    return Ended(tuple(doomed), left)
