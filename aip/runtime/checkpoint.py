"""Checkpoints, incarnations and effects of agents: the state machine of a checkpoint shard (semantics A2, A3, A5, E1-E4).

Per agent it knows the highest incarnation ever given, the cell that holds it, its last state, and its effects. `decide_*` check
and return the record to journal, or raise; `apply` folds a record in. The shell journals between the two, so that what a cell was
told is what a restarted shard knows.

    activate   free, or held by the asking cell → incarnation + 1, held by the asking cell
               held by another cell             → nothing changes, the answer names the holder and its epoch
               the same, forced                 → as if free, unless the holder was granted it under a newer membership
                                                  than the asking cell knows: that cell may take a living holder for dead
    save, release, begin, end
               with the current incarnation → done;   with a lower one → Fenced

    effect     unknown → begun → done (result kept);   begun → failed (as if unknown)
               begun again while begun: `doubt`, or begun anew where its author calls it idempotent
"""

from __future__ import annotations

import msgspec

from ..errors import Fenced
from .ports import Activated, EffectGrant

EFFECTS_KEPT_MAX = (
    4_096  # Outcomes one agent remembers; the oldest *finished* ones go first, an open one never.
)


class ActivationRecord(msgspec.Struct, frozen=True, array_like=True, tag="a"):
    agent: str
    incarnation: int
    cell: str
    epoch: int = 0


class StateRecord(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    agent: str
    state: bytes


class ReleaseRecord(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    agent: str


class EffectRecord(msgspec.Struct, frozen=True, array_like=True, tag="e"):
    """status: begun, done, failed."""

    agent: str
    key: str
    status: str
    result: bytes | None = None


Record = ActivationRecord | StateRecord | ReleaseRecord | EffectRecord

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


class _Agent(msgspec.Struct, array_like=True):
    incarnation: int = 0
    cell: str = ""
    state: bytes | None = None
    effects: dict[str, tuple[str, bytes | None]] = {}
    epoch: int = 0  # The membership that the cell which holds it knew when it asked.


class CheckpointTable:
    def __init__(self) -> None:
        self._agents: dict[str, _Agent] = {}

    def __len__(self) -> int:
        return len(self._agents)

    # Decide ---------------------------------------------------------------------------------------------------------

    def decide_activate(
        self, agent: str, cell: str, epoch: int, force: bool
    ) -> tuple[Activated, ActivationRecord | None]:
        known = self._agents.get(agent)
        held = known is not None and known.cell and known.cell != cell
        if known is not None and held and not (force and epoch >= known.epoch):
            return Activated(held_by=known.cell, epoch=known.epoch), None
        incarnation = (known.incarnation if known else 0) + 1
        state = known.state if known else None
        return Activated(incarnation, state), ActivationRecord(agent, incarnation, cell, epoch)

    def decide_save(self, agent: str, incarnation: int, state: bytes) -> StateRecord:
        self._check(agent, incarnation)
        return StateRecord(agent, state)

    def decide_release(self, agent: str, incarnation: int) -> ReleaseRecord | None:
        """An old incarnation's release says nothing about the newer holder."""
        known = self._agents.get(agent)
        return ReleaseRecord(agent) if known is not None and known.incarnation == incarnation else None

    def decide_begin(
        self, agent: str, incarnation: int, key: str, idempotent: bool
    ) -> tuple[EffectGrant, EffectRecord | None]:
        known = self._check(agent, incarnation)
        status, result = known.effects.get(key, ("", None))
        if status == "done":
            return EffectGrant("done", result), None
        if status == "begun" and not idempotent:
            return EffectGrant("doubt"), None
        return EffectGrant("go"), EffectRecord(agent, key, "begun")

    def decide_end(self, agent: str, key: str, result: bytes | None) -> EffectRecord | None:
        """Also from a fenced incarnation: what it began did happen, and the newer one must know."""
        known = self._agents.get(agent)
        if known is None or known.effects.get(key, ("", None))[0] != "begun":
            return None
        return EffectRecord(agent, key, "failed" if result is None else "done", result)

    def _check(self, agent: str, incarnation: int) -> _Agent:
        known = self._agents.get(agent)
        if known is None or known.incarnation != incarnation:
            current = known.incarnation if known else 0
            raise Fenced(
                f"{agent}: incarnation {incarnation} is not the current one ({current})", current=current
            )
        return known

    # Apply ----------------------------------------------------------------------------------------------------------

    def apply(self, record: Record) -> None:
        known = self._agents.get(record.agent)
        if known is None:
            known = self._agents[record.agent] = _Agent(effects={})
        match record:
            case ActivationRecord():
                known.incarnation, known.cell, known.epoch = record.incarnation, record.cell, record.epoch
            case StateRecord():
                known.state = record.state
            case ReleaseRecord():
                known.cell = ""
            case EffectRecord(status="failed"):
                known.effects.pop(record.key, None)
            case EffectRecord():
                known.effects[record.key] = (record.status, record.result)
                if len(known.effects) > EFFECTS_KEPT_MAX:
                    oldest = next((k for k, (status, _) in known.effects.items() if status == "done"), None)
                    if oldest is not None:
                        del known.effects[oldest]

    def incarnation(self, agent: str) -> int:
        known = self._agents.get(agent)
        return known.incarnation if known else 0

    def state(self, agent: str) -> bytes | None:
        known = self._agents.get(agent)
        return known.state if known else None

    def snapshot(self) -> bytes:
        return _encoder.encode(self._agents)

    @classmethod
    def restore(cls, snapshot: bytes) -> CheckpointTable:
        table = cls()
        table._agents = msgspec.msgpack.decode(snapshot, type=dict[str, _Agent])
        return table


def encode_record(record: Record) -> bytes:
    return _encoder.encode(record)


def decode_record(data: bytes) -> Record:
    return _decoder.decode(data)


class MemoryCheckpoints:
    """A checkpoint shard in this process's memory, for tests and the simulator: the same table, no journal."""

    def __init__(self) -> None:
        self.table = CheckpointTable()

    def _apply(self, record: Record | None) -> None:
        if record is not None:
            self.table.apply(record)

    async def activate(self, agent: str, cell: str, epoch: int, force: bool) -> Activated:
        answer, record = self.table.decide_activate(agent, cell, epoch, force)
        self._apply(record)
        return answer

    async def save(self, agent: str, incarnation: int, state: bytes) -> None:
        self._apply(self.table.decide_save(agent, incarnation, state))

    async def release(self, agent: str, incarnation: int) -> None:
        self._apply(self.table.decide_release(agent, incarnation))

    async def begin_effect(
        self, agent: str, incarnation: int, key: str, name: str, idempotent: bool
    ) -> EffectGrant:
        grant, record = self.table.decide_begin(agent, incarnation, key, idempotent)
        self._apply(record)
        return grant

    async def end_effect(self, agent: str, incarnation: int, key: str, result: bytes | None) -> None:
        self._apply(self.table.decide_end(agent, key, result))
