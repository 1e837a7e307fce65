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

A state is journaled whole, or, where that is much shorter, as the one place in which it differs from the state before: an agent
whose state grows at one end writes what it adds, not each time all that it knows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import msgspec

from ..errors import Corrupt, Fenced
from .ports import Activated, EffectGrant

EFFECTS_KEPT_MAX = (
    4_096  # Outcomes one agent remembers; the oldest *finished* ones go first, an open one never.
)

WHOLE_BYTES = 256  # A state this small is journaled whole: comparing it saves nothing.


class ActivationRecord(msgspec.Struct, frozen=True, array_like=True, tag="a"):
    agent: str
    incarnation: int
    cell: str
    epoch: int = 0


class StateRecord(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    agent: str
    state: bytes


class EditRecord(msgspec.Struct, frozen=True, array_like=True, tag="d"):
    """The state before, with all but its first `before` and its last `after` bytes replaced by `middle`."""

    agent: str
    before: int
    middle: bytes
    after: int


class ReleaseRecord(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    agent: str


class EffectRecord(msgspec.Struct, frozen=True, array_like=True, tag="e"):
    """status: begun, done, failed."""

    agent: str
    key: str
    status: str
    result: bytes | None = None


Record = ActivationRecord | StateRecord | EditRecord | ReleaseRecord | EffectRecord

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

    def decide_save(self, agent: str, incarnation: int, state: bytes) -> StateRecord | EditRecord:
        known = self._check(agent, incarnation)
        if known.state is not None and len(state) > WHOLE_BYTES:
            before, after = _kept(known.state, state)
            if 2 * (before + after) > len(state):
                return EditRecord(agent, before, state[before : len(state) - after], after)
        return StateRecord(agent, state)

    def decide_release(self, agent: str, incarnation: int) -> ReleaseRecord | None:
        """An old incarnation's release says nothing about the newer holder."""
        known = self._agents.get(agent)
        return ReleaseRecord(agent) if known is not None and known.incarnation == incarnation else None

    def decide_begin(
        self, agent: str, incarnation: int, key: str, idempotent: bool, cell: str = ""
    ) -> tuple[EffectGrant, EffectRecord | None]:
        """With a `cell`: that cell asks on the agent's behalf, and must be the one that holds it."""
        known = self._check(agent, incarnation)
        if cell and known.cell != cell:
            raise Fenced(f"{agent} is not held by {cell}", current=known.incarnation)
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
            case EditRecord():
                state = known.state or b""
                if record.before + record.after > len(state):
                    raise Corrupt(f"{record.agent}: an edit of a state that is not there")
                known.state = state[: record.before] + record.middle + state[len(state) - record.after :]
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

    def holder(self, agent: str) -> str:
        """The cell that took this agent last and has not let it go; "" for none."""
        known = self._agents.get(agent)
        return known.cell if known else ""

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


def _kept(old: bytes, new: bytes) -> tuple[int, int]:
    """How many bytes both begin with, and how many of the others both end with."""
    most = min(len(old), len(new))
    before = _longest(most, lambda count: old[:count] == new[:count])
    after = _longest(most - before, lambda count: old[len(old) - count :] == new[len(new) - count :])
    return before, after


def _longest(most: int, same: Callable[[int], bool]) -> int:
    """The largest count, up to `most`, that is the `same`: each comparison is one pass of memcmp, and there are few."""
    return bisect_left(range(1, most + 1), True, key=lambda count: not same(count))


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
