"""A checkpoint shard: agents' last states, their fencing incarnations and their effects, behind one journal.

Everything it answers, it journaled before (semantics A2, A5, E1-E3). Activations come in batches, because ten thousand agents may
wake in one second; effects wait for the fsync, states for the write.

An agent is taken by the cell that asks, for itself, and kept and let go by the cell that holds it (B6). Effects are begun by that
cell, or by the gateway, which has verified the cell's stamp.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import msgspec

from aip.runtime.border import Misspoken
from aip.runtime.checkpoint import CheckpointTable, Record, decode_record, encode_record
from aip.runtime.disk import DiskStorage
from aip.runtime.group_commit import GroupCommit
from aip.runtime.journal import Journal
from aip.runtime.ports import Activated
from aip.runtime.speaker import SPEAKER

from .process import Process

RECORD_KIND = 1
GATEWAY = "effects"
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
            _only(agent, cell)
            answer, record = self._table.decide_activate(agent, cell, epoch, force)
            # One by one: a batch may name an agent twice. One write() of a record costs some microseconds.
            self._keep(record)
            answers.append(answer)
        return _encode(answers)

    async def _save(self, payload: bytes) -> bytes:
        agent, incarnation, state = _save.decode(payload)
        record = self._table.decide_save(agent, incarnation, state)
        _only(agent, self._table.holder(agent))
        self._keep(record)
        return b""

    async def _release(self, payload: bytes) -> bytes:
        agent, incarnation = _release.decode(payload)
        record = self._table.decide_release(agent, incarnation)
        if record is not None:
            _only(agent, self._table.holder(agent))
        self._keep(record)
        return b""

    async def _begin(self, payload: bytes) -> bytes:
        agent, incarnation, key, idempotent, cell = _begin.decode(payload)
        grant, record = self._table.decide_begin(agent, incarnation, key, idempotent, cell)
        _only(agent, self._table.holder(agent), GATEWAY)
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


def _only(agent: str, *names: str) -> None:
    """Raises `Misspoken` where who speaks has another name than these. Asked after the fence: the fenced are told that."""
    speaker = SPEAKER.get()
    if speaker is not None and speaker.name not in names:
        raise Misspoken(f"{speaker} does not hold {agent}")
