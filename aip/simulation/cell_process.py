"""Processes that hold a cell: those of agents, and those of principals (clients and runs), which host nobody."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any

from ..agent import type_name
from ..errors import AIPError
from ..governance.kill import KillCheck
from ..runtime.activation import AgentType
from ..runtime.cell import Cell
from ..runtime.envelope import Envelope
from ..runtime.guard import Guard
from ..runtime.placement import Membership, Placement
from ..runtime.ports import Clock
from ..runtime.speaker import SPEAKER, Speaker
from ..settings import Limits
from .cast import KINDS
from .network import Network, Process
from .shard import ShardPort
from .witness import Witness


class Tally:
    """A permit that counts: what the guard takes it must settle, once."""

    name = "tally"

    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        self.taken: dict[str, None] = {}

    def peek(self, envelope: Envelope, now: float) -> AIPError | None:
        return None

    def take(self, envelope: Envelope, now: float) -> AIPError | None:
        self._witness.hold("settled", envelope.id not in self.taken, f"{envelope.id} was admitted twice")
        self.taken[envelope.id] = None
        return None

    def give_back(self, envelope: Envelope, now: float) -> None:
        del self.taken[envelope.id]

    def settle(self, envelope: Envelope, now: float, duration_s: float, error: AIPError | None) -> None:
        self._witness.hold(
            "settled", envelope.id in self.taken, f"{envelope.id} was settled without a permit"
        )
        self.taken.pop(envelope.id, None)


class Notes:
    """`Audit` of a cell, told to the witness as long as its process lives."""

    def __init__(self, process: Process, witness: Witness, network: Network) -> None:
        self._process = process
        self._witness = witness
        self._network = network

    def admitted(self, envelope: Envelope) -> None:
        """Counted by `Tally`."""

    def settled(self, envelope: Envelope, started: float, ended: float, code: str) -> None:
        """The witness counts outcomes where they are given."""

    def note(self, kind: str, subject: str, detail: Mapping[str, Any]) -> None:
        if self._process.alive:
            self._witness.event("note", kind, subject, detail.get("code", ""))
            self._witness.noted(kind, detail.get("id", ""))
            # Nobody lies here, so nothing is refused but the late words of a generation that was replaced.
            if kind == "border.refused" and " was replaced by " not in detail["why"]:
                self._witness.violate("B3", f"{self._process.name} of {subject}: {detail['why']}")
            if kind == "cell.task_failed":
                self._witness.violate("internal", f"{subject}: {detail['error']}")

    async def record(self, kind: str, subject: str, detail: Mapping[str, Any]) -> None:
        self.note(kind, subject, detail)
        await asyncio.sleep(0.001)


class WatchedCell(Cell):
    """The runtime's cell; the witness is told of every answer it gives."""

    witness: Witness
    process: Process

    def answer(self, envelope: Envelope, payload: bytes | None = None, error: AIPError | None = None) -> None:
        if self.process.alive:
            self.witness.answered(self.process, envelope, "ok" if error is None else error.code)
        super().answer(envelope, payload, error)


class Wire:
    """`Transport` of one cell."""

    def __init__(self, owner: Process, network: Network, find: Callable[[str], Process | None]) -> None:
        self._owner = owner
        self._network = network
        self._find = find

    async def deliver(self, cell: str, frame: bytes) -> bytes:
        async def at(target: Process) -> bytes:
            assert isinstance(target, CellProcess)
            said = SPEAKER.set(Speaker(self._owner.name, self._owner.generation))
            try:
                return await target.deliver(frame)
            finally:
                SPEAKER.reset(said)

        return await self._network.exchange(self._owner, lambda: self._find(cell), at, frames=True)


class CellProcess(Process):
    def __init__(
        self,
        name: str,
        generation: int,
        *,
        hosts: bool,
        network: Network,
        find: Callable[[str], Process | None],
        witness: Witness,
        kill_check: KillCheck,
        clock: Clock,
        rng: random.Random,
        limits: Limits,
    ) -> None:
        super().__init__(name, generation)
        self.hosts = hosts
        self.placement = Placement(Membership(epoch=0))
        self.joined = asyncio.Event()
        self.tally = Tally(witness)
        self._witness = witness
        types = [AgentType(type_name(kind), "", cls=kind) for kind in KINDS] if hosts else []
        self.cell = WatchedCell(
            name,
            generation,
            types={kind.name: kind for kind in types},
            locator=self.placement,
            transport=Wire(self, network, find),
            checkpoints=ShardPort(self, network, lambda: find("checkpoint-0")),
            audit=Notes(self, witness, network),
            guard=Guard(kill_check, [self.tally]),
            clock=clock,
            rng=rng,
            limits=limits,
        )
        self.cell.witness, self.cell.process = witness, self
        self.cell.start()

    def owned(self) -> list[asyncio.Task[Any]]:
        return list(self.cell._tasks)

    def crash(self) -> None:
        if self.alive:
            super().crash()
            self._witness.gone(self)

    async def leave(self) -> None:
        await self.cell.stop()
        self.crash()

    async def deliver(self, frame: bytes) -> bytes:
        if not self.joined.is_set():
            await self.joined.wait()  # Without a membership it would not know what it owns.
        self._witness.checked["B3"] += 1  # Each frame; what of it is refused is told by a note.
        return await self.cell.deliver(frame)

    def adopt(self, membership: Membership) -> list[str]:
        """Take a newer membership; the cells that live no more in it."""
        old = self.placement.membership
        if not self.placement.offer(membership):
            return []
        alive = {record.cell_id: record.generation for record in membership.cells()}
        gone = [record.cell_id for record in old.cells() if alive.get(record.cell_id) != record.generation]
        self._witness.event("epoch", self.name, membership.epoch, *gone)
        self.cell.moved(gone)
        self.joined.set()
        return gone

    def residue(self) -> list[str]:
        """What this cell holds although nothing goes on."""
        cell, post, host = self.cell, self.cell.post_office, self.cell.host
        waiting = [a.address for a in host.agents.values() if a.mailbox.queue or a.turns or a.server]
        held = {
            "calls": [call.envelope.id for call in cell.calls],
            "turns": list(host.turns),
            "mail": waiting,
            "stalls": list(post.stalls),
            "stall size": post.stalls.size,
            "outboxes": [name for name, box in post._outboxes.items() if box.queue],
            "acks held": list(post._held),
            "waiters for room": list(cell._room),
            "hand-overs awaited": list(host._awaited),
            "permits": list(self.tally.taken),
        }
        return [f"{self.name}: {what} {left}" for what, left in held.items() if left]
