"""The checkpoint shard on a simulated disk, and the cells' way to it.

The table, the journal and the group commit are the runtime's own; this module does for them what the shard's actor does in the
shell, in the same order: decide, journal, apply, wait for the fsync where an effect hangs on it.

`records` remembers what every journal index holds. After a power cut that tells which acknowledged states are rightly gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..errors import PlatformUnavailable
from ..runtime.checkpoint import (
    ActivationRecord,
    CheckpointTable,
    EffectRecord,
    Record,
    StateRecord,
    decode_record,
    encode_record,
)
from ..runtime.group_commit import GroupCommit
from ..runtime.journal import Journal
from ..runtime.ports import Activated, CellLost, EffectGrant, NotSent
from ..runtime.simulated_disk import SimulatedDisk
from .clock import NoThreads
from .network import Network, Process
from .witness import Witness

T = TypeVar("T")

RECORD_KIND = 1
INSIST_S = 30.0
RETRY_FIRST_S = 0.01
RETRY_MAX_S = 0.5
SYNC_BEHIND_S = 0.05


class Shard(Process):
    def __init__(self, generation: int, disk: SimulatedDisk, witness: Witness) -> None:
        super().__init__("checkpoint-0", generation)
        self.disk = disk
        self._witness = witness
        self._journal = Journal(disk)
        self._commit = GroupCommit(self._journal, NoThreads())
        self.table = CheckpointTable()
        self.records: dict[int, Record] = {}
        for entry in self._journal.replay():
            record = decode_record(entry.payload)
            self.records[entry.index] = record
            self.table.apply(record)

    @property
    def last_index(self) -> int:
        return self._journal.last_index

    @property
    def durable_index(self) -> int:
        return self._journal.durable_index

    def begin(self) -> None:
        self.task(self._sync_behind())

    async def _sync_behind(self) -> None:
        while True:
            await self._commit.durable()
            await asyncio.sleep(SYNC_BEHIND_S)

    def _keep(self, record: Record | None) -> None:
        if record is not None:
            index = self._journal.append(RECORD_KIND, encode_record(record))
            self.records[index] = record
            self.table.apply(record)

    def begun_durably(self, agent: str, key: str) -> bool:
        """Whether an intent of this effect would survive a power cut now."""
        return any(
            isinstance(record, EffectRecord)
            and (record.agent, record.key, record.status) == (agent, key, "begun")
            and index <= self.durable_index
            for index, record in self.records.items()
        )

    # What cells ask ---------------------------------------------------------------------------------------------------

    async def activate(self, agent: str, cell: str, epoch: int, force: bool) -> Activated:
        answer, record = self.table.decide_activate(agent, cell, epoch, force)
        self._keep(record)
        if isinstance(record, ActivationRecord):
            self._witness.granted(agent, cell, record.incarnation)
        return answer

    async def save(self, agent: str, incarnation: int, state: bytes) -> None:
        self._keep(self.table.decide_save(agent, incarnation, state))
        self._witness.accepted("checkpoint", agent, incarnation)

    async def release(self, agent: str, incarnation: int) -> None:
        self._keep(self.table.decide_release(agent, incarnation))

    async def begin_effect(self, agent: str, incarnation: int, key: str, idempotent: bool) -> EffectGrant:
        grant, record = self.table.decide_begin(agent, incarnation, key, idempotent)
        self._witness.accepted("effect", agent, incarnation)
        self._keep(record)
        if record is not None:
            await self._commit.durable()
        return grant

    async def end_effect(self, agent: str, key: str, result: bytes | None) -> None:
        self._keep(self.table.decide_end(agent, key, result))
        await self._commit.durable()


def states_of(records: dict[int, Record]) -> dict[str, bytes]:
    """The agents' last states by these records: folded, since a record may say only what differs from the one before."""
    table = CheckpointTable()
    for index in sorted(records):
        table.apply(records[index])
    saved = {record.agent for record in records.values() if isinstance(record, StateRecord)}
    return {agent: state for agent in saved if (state := table.state(agent)) is not None}


class ShardPort:
    """`Checkpoints` of one process: insists where a repeat is harmless, and asks once where it is not."""

    def __init__(self, owner: Process, network: Network, find: Callable[[], Process | None]) -> None:
        self._owner = owner
        self._network = network
        self._find = find

    async def _ask(self, work: Callable[[Shard], Awaitable[T]], *, again: bool = True) -> T:
        loop = asyncio.get_running_loop()
        deadline, pause_s = loop.time() + INSIST_S, RETRY_FIRST_S

        async def at(target: Process) -> T:
            assert isinstance(target, Shard)
            return await work(target)

        while True:
            try:
                return await self._network.exchange(self._owner, self._find, at)
            except NotSent:
                pass
            except CellLost as lost:
                if not again:
                    raise PlatformUnavailable("the shard ended while it had the request") from lost
            if loop.time() + pause_s > deadline:
                raise PlatformUnavailable("the shard does not answer")
            await asyncio.sleep(pause_s)
            pause_s = min(RETRY_MAX_S, pause_s * 2)

    async def activate(self, agent: str, cell: str, epoch: int, force: bool) -> Activated:
        return await self._ask(lambda shard: shard.activate(agent, cell, epoch, force))

    async def save(self, agent: str, incarnation: int, state: bytes) -> None:
        await self._ask(lambda shard: shard.save(agent, incarnation, state))

    async def release(self, agent: str, incarnation: int) -> None:
        await self._ask(lambda shard: shard.release(agent, incarnation))

    async def begin_effect(
        self, agent: str, incarnation: int, key: str, name: str, idempotent: bool
    ) -> EffectGrant:
        return await self._ask(
            lambda shard: shard.begin_effect(agent, incarnation, key, idempotent), again=False
        )

    async def end_effect(self, agent: str, incarnation: int, key: str, result: bytes | None) -> None:
        await self._ask(lambda shard: shard.end_effect(agent, key, result))
