"""A drill: how long after an order's return the last effect is committed, measured on this machine.

Child processes commit governed effects at a steady rate, each after asking the fence, as an agent's process does. Round by round
an order is raised against them, the last commit is compared with the moment in which raising returned, and the order is lifted.
The target is reserved (`aip-drill`), so a drill on the fence of a running platform stops nobody's work; its orders are in the
history, the audit log and the notifications like any other.

These children ask and then commit, in two steps: what the operating system does in between to a process of a machine that is
overloaded is in the figure. An effect gateway has one step.
"""

from __future__ import annotations

import math
import mmap
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from ...errors import PlatformUnavailable
from ...runtime.envelope import Envelope
from .check import KillCheck
from .fence import Fence
from .orders import KillOrder
from .target import DRILL

WORKERS_MAX = 16
ROUNDS_MAX = 10_000
QUIET_S = 0.05  # How long effects flow before an order, and how long is waited for one after it.
START_TIMEOUT_S = 30.0  # A child imports Python and this package; on a busy machine that takes seconds.
_WORDS = 2  # Of each child: when it committed last, and how often.


@dataclass(frozen=True, slots=True)
class Report:
    rounds: int
    workers: int
    offered_per_s: float
    effects: int
    late: int  # Committed after an order had returned.
    raise_ms: tuple[float, float, float]  # Median, 99th percentile, longest.
    stop_ms: tuple[float, float, float]  # 0 where the last effect came before the return.


def run(
    folder: Path,
    raise_it: Callable[[], object],
    lift_it: Callable[[], object],
    *,
    rounds: int,
    workers: int,
    rate_per_s: float,
) -> Report:
    """`folder` is the fence's. Raises `PlatformUnavailable` where the children do not come up."""
    with (
        tempfile.TemporaryDirectory(prefix="aip-drill-") as place,
        _children(folder, Path(place) / "commits", workers, rate_per_s) as words,
    ):
        raised, stopped, late = [], [], 0
        for _ in range(rounds):
            _wait_for_work(words, workers)
            before_s = time.monotonic()
            raise_it()
            returned_ns = time.monotonic_ns()
            committed = _total(words, workers)
            time.sleep(QUIET_S)
            late += _total(words, workers) - committed
            last_ns = max(words[_WORDS * index] for index in range(workers))
            raised.append((returned_ns / 1e9 - before_s) * 1e3)
            stopped.append(max(0.0, (last_ns - returned_ns) / 1e6))
            lift_it()
        effects = _total(words, workers)
    return Report(rounds, workers, rate_per_s * workers, effects, late, _three(raised), _three(stopped))


def rehearse(rounds: int, workers: int, rate_per_s: float) -> Report:
    """On a fence of its own, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="aip-drill-") as place:
        fence = Fence(Path(place))

        def write(lifted: bool) -> None:
            fence.write(KillOrder(DRILL, time.time(), "aip:drill", "drill", lifted))

        return run(
            Path(place),
            lambda: write(False),
            lambda: write(True),
            rounds=rounds,
            workers=workers,
            rate_per_s=rate_per_s,
        )


@contextmanager
def _children(folder: Path, page: Path, workers: int, rate_per_s: float) -> Iterator[memoryview]:
    words = _page(page, workers)
    context = multiprocessing.get_context("spawn")  # Not fork: whoever asks may have threads.
    children: list[BaseProcess] = [
        context.Process(
            target=_work, args=(folder, page, workers, index, rate_per_s, os.getpid()), daemon=True
        )
        for index in range(workers)
    ]
    try:
        for child in children:
            child.start()
        _wait_for_work(words, workers)
        yield words
    finally:
        for child in children:
            if child.pid is not None:
                child.kill()
                child.join()


def _page(path: Path, workers: int) -> memoryview:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        size = math.ceil(workers * _WORDS * 8 / mmap.PAGESIZE) * mmap.PAGESIZE
        if os.fstat(fd).st_size < size:
            os.ftruncate(fd, size)
        return memoryview(mmap.mmap(fd, size)).cast("Q")
    finally:
        os.close(fd)


def _work(folder: Path, page: Path, workers: int, index: int, rate_per_s: float, parent: int) -> None:
    """A child: ask, commit, pause, until it is killed or nobody is left to measure for."""
    fence, words = Fence(folder), _page(page, workers)
    check = KillCheck(fence.revision, fence.orders)
    address = f"{DRILL}/{index}"
    envelope = Envelope(
        id="drill", kind=0, sender=address, recipient=address, capability="commit", payload=b""
    )
    while os.getppid() == parent:
        if check.effect(envelope, 0.0) is None:
            words[_WORDS * index] = time.monotonic_ns()
            words[_WORDS * index + 1] += 1
        time.sleep(1 / rate_per_s)


def _total(words: memoryview, workers: int) -> int:
    return sum(words[_WORDS * index + 1] for index in range(workers))


def _wait_for_work(words: memoryview, workers: int) -> None:
    """Until every child has committed since now, and a while longer: an order is raised in the middle of their work."""
    asked_ns, deadline_s = time.monotonic_ns(), time.monotonic() + START_TIMEOUT_S
    while any(words[_WORDS * index] < asked_ns for index in range(workers)):
        if time.monotonic() > deadline_s:
            raise PlatformUnavailable(f"the processes of the drill did not work within {START_TIMEOUT_S:g} s")
        time.sleep(0.005)
    time.sleep(QUIET_S)


def _three(values: list[float]) -> tuple[float, float, float]:
    ordered = sorted(values)
    return ordered[len(ordered) // 2], ordered[math.ceil(len(ordered) * 0.99) - 1], ordered[-1]
