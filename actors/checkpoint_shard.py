"""A checkpoint shard: agents' last states, their fencing incarnations and their effects, behind one journal.

Everything it answers, it journaled before (semantics A2, A5, E1-E3). Activations come in batches, because ten thousand agents may
wake in one second; effects wait for the fsync, states for the write.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import msgspec

from aip.runtime.checkpoint import CheckpointTable, Record, decode_record, encode_record
from aip.runtime.disk import DiskStorage
from aip.runtime.group_commit import GroupCommit
from aip.runtime.journal import Journal
from aip.runtime.ports import Activated

from .process import Process

RECORD_KIND = 1
SYNC_EVERY_S = 0.05
SNAPSHOT_EVERY = 200_000  # Records: replaying as many takes about a second.

ActivateRequest = list[tuple[str, str, int, bool]]
_activate = msgspec.msgpack.Decoder(ActivateRequest)
_save = msgspec.msgpack.Decoder(tuple[str, int, bytes])
_release = msgspec.msgpack.Decoder(tuple[str, int])
_begin = msgspec.msgpack.Decoder(tuple[str, int, str, bool, str])
_end = msgspec.msgpack.Decoder(tuple[str, str, bytes | None])
_encode = msgspec.msgpack.Encoder().encode


class CheckpointShard(Process):
    role = "checkpoint"

    async def opened(self) -> None:
        folder = self.site.home.state / self.name
        self._journal = Journal(DiskStorage(folder, holder=f"{self.name}#{self.generation}"))
        snapshot = self._journal.newest_snapshot()
        self._table = CheckpointTable.restore(snapshot.state) if snapshot else CheckpointTable()
        for record in self._journal.replay():
            self._table.apply(decode_record(record.payload))
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="fsync")
        self._commit = GroupCommit(self._journal, self._executor)
        self._unsynced = asyncio.Event()
        self.task(self._sync_behind())
        self.methods.update(
            activate=self._activate, save=self._save, release=self._release, begin=self._begin, end=self._end
        )

    def counts(self) -> tuple[int, int, int, int]:
        return len(self._table), 0, 0, 0

    def _keep(self, *records: Record | None) -> None:
        kept = [record for record in records if record is not None]
        if kept:
            self._journal.append_many((RECORD_KIND, encode_record(record)) for record in kept)
            self._unsynced.set()
            for record in kept:
                self._table.apply(record)
            if self._journal.last_index - self._journal.snapshot_index >= SNAPSHOT_EVERY:
                self._journal.snapshot(self._table.snapshot())

    async def _sync_behind(self) -> None:
        """States and incarnations become durable a moment after they were answered; effects do not wait for this."""
        while True:
            await self._unsynced.wait()
            self._unsynced.clear()
            await self._commit.durable()
            await asyncio.sleep(SYNC_EVERY_S)

    async def _activate(self, payload: bytes) -> bytes:
        answers: list[Activated] = []
        for agent, cell, epoch, force in _activate.decode(payload):
            answer, record = self._table.decide_activate(agent, cell, epoch, force)
            # One by one: a batch may name an agent twice. One write() of a record costs some microseconds.
            self._keep(record)
            answers.append(answer)
        return _encode(answers)

    async def _save(self, payload: bytes) -> bytes:
        self._keep(self._table.decide_save(*_save.decode(payload)))
        return b""

    async def _release(self, payload: bytes) -> bytes:
        self._keep(self._table.decide_release(*_release.decode(payload)))
        return b""

    async def _begin(self, payload: bytes) -> bytes:
        grant, record = self._table.decide_begin(*_begin.decode(payload))
        self._keep(record)
        if record is not None:
            await self._commit.durable()
        return _encode(grant)

    async def _end(self, payload: bytes) -> bytes:
        self._keep(self._table.decide_end(*_end.decode(payload)))
        await self._commit.durable()
        return b""

    async def closing(self) -> None:
        self._journal.snapshot(self._table.snapshot())
        self._journal.close()
