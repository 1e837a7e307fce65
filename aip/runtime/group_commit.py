"""Group commit: many wait for durability, one fsync serves them all.

    at most one fsync is in flight; it runs in an executor that is handed in, so that the event loop goes on
    who asked for a record that was appended before an fsync started is released when that fsync ends who
    came later waits for the next one, which starts at once when the first ends: no timer, no window to tune

An idle journal pays one fsync for one record; under load the groups grow by themselves with the disk's
latency. When an fsync fails, everybody who waits gets the `JournalFailed`, and so does everybody who comes
later. A caller that is cancelled leaves; its record stays and becomes durable with the others. What waits
here is the callers' own coroutines, so their number is their bound. Source: DeWitt et al., "Implementation
Techniques for Main Memory Database Systems" (SIGMOD 1984), section on group commit.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

from ..errors import UsageError
from .journal import Journal, JournalFailed

_Waiter = tuple[int, asyncio.Future[None]]


class GroupCommit:
    """Belongs to one event loop: the one whose thread appends to the journal."""

    def __init__(self, journal: Journal, executor: Executor) -> None:
        self._journal = journal
        self._executor = executor
        self._waiting: list[_Waiter] = []
        self._busy = False  # An fsync is in flight or about to start.
        self.syncs = 0  # fsyncs started, to see how large the groups are

    async def durable(self, index: int | None = None) -> None:
        """Returns once record `index` (default: the last one) survives a power cut."""
        index = self._journal.last_index if index is None else index
        if index > self._journal.last_index:
            raise UsageError(
                f"record {index} was not appended; the journal ends at {self._journal.last_index}"
            )
        if index <= self._journal.durable_index:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((index, done))
        if not self._busy:
            self._begin()
        await done

    def _begin(self) -> None:
        """Starts behind everything that is ready to run, so that those just released append first and are in it."""
        self._busy = True
        asyncio.get_running_loop().call_soon(self._start)

    def _start(self) -> None:
        self.syncs += 1
        try:
            sync = asyncio.get_running_loop().run_in_executor(self._executor, self._journal.sync)
        except RuntimeError as error:  # The executor takes no more work.
            self._fail(JournalFailed(f"no fsync can run any more: {error}"))
        else:
            sync.add_done_callback(self._landed)

    def _landed(self, sync: asyncio.Future[int]) -> None:
        if sync.cancelled():
            self._fail(JournalFailed("the executor ended before the fsync"))
        elif (error := sync.exception()) is not None:
            self._fail(error)
        else:
            self._release(sync.result())

    def _release(self, durable_index: int) -> None:
        waiting, self._waiting, self._busy = self._waiting, [], False
        for index, done in waiting:
            if done.done():
                continue  # Its caller was cancelled and has left.
            if index <= durable_index:
                done.set_result(None)
            else:
                self._waiting.append((index, done))
        if self._waiting:
            self._begin()

    def _fail(self, error: BaseException) -> None:
        waiting, self._waiting, self._busy = self._waiting, [], False
        for _, done in waiting:
            if not done.done():
                done.set_exception(error)
