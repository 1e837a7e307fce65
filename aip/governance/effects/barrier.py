"""What closes the last gap between an order and a commit: who raises an order waits until no commit is in its one step.

A gateway's process owns a page of one word, odd while it is inside the step and even outside (the writer's half of a seqlock).
The fence goes up first, unconditionally; then the raiser looks at each page:

    even              a step that begins from now on reads the new revision; none is under way
    odd               wait until the word changes, `WAIT_S_MAX` at most
    odd, and stays    a process that stopped inside its step (SIGSTOP, a stuck file system): it is named, and may commit once more

So raising never waits for anybody, and when `settled` answers with no name, whatever was committed was committed before it
returned. It costs the gateway two stores.

Memory order. The gateway stores its word and then reads the fence's; the raiser stores the fence's and then reads the
gateway's. On a machine that lets a load pass an earlier store (x86 does) both could miss each other for as long as a store
buffer drains, which is nanoseconds. The raiser therefore looks a second time after `DRAIN_S`, which is longer than that by a
factor of ten thousand.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SUFFIX = ".commits"
WAIT_S_MAX = 0.1  # A step is some system calls; what takes longer has stopped.
DRAIN_S = 0.001
_POLL_S = 0.0005


class CommitPage:
    """The page of one gateway. Its process is its only writer."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._words = _words(folder / f"{name}{SUFFIX}", os.O_RDWR | os.O_CREAT)
        # A predecessor may have died inside its step; it commits no more.
        self._words[0] += self._words[0] & 1

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around the one step. Not re-entrant: one event loop, no `await` inside."""
        self._words[0] += 1
        try:
            yield
        finally:
            self._words[0] += 1


def settled(
    folder: Path,
    wait_s: float = WAIT_S_MAX,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[str]:
    """Call after the fence was raised. The gateways that were inside a step all this time; [] where none was."""
    pages = {path.name.removesuffix(SUFFIX): _words(path, os.O_RDWR) for path in folder.glob(f"*{SUFFIX}")}
    sleep(DRAIN_S)
    inside = {name: words[0] for name, words in pages.items() if words[0] & 1}
    deadline = clock() + wait_s
    while inside and clock() < deadline:
        inside = {name: word for name, word in inside.items() if pages[name][0] == word}
        if inside:
            sleep(_POLL_S)
    return sorted(inside)


def _words(path: Path, flags: int) -> memoryview:
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(descriptor).st_size < mmap.PAGESIZE:
            os.ftruncate(descriptor, mmap.PAGESIZE)
        return memoryview(mmap.mmap(descriptor, mmap.PAGESIZE)).cast("Q")
    finally:
        os.close(descriptor)
