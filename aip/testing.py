"""AIP without Ray: the same road in one process, for the tests of agents.

    async with aip.testing.platform(Greeter) as p:
        assert await p.call("greeter/ada", "greet", name="Ada") == "hello, Ada"

The cells, the guard, the mailboxes, activation, checkpoints and effects are the ones of the real platform (`aip.runtime`); only
the way between cells is a function call, and checkpoints live in memory. `cells=2` spreads the agents over two cells.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from .agent import Agent, agent_of, type_name
from .errors import AIPError
from .runtime import codec
from .runtime.activation import AgentType
from .runtime.cell import Cell
from .runtime.checkpoint import MemoryCheckpoints
from .runtime.envelope import Envelope, Kind
from .runtime.guard import Check, Guard, OpenFence, Permit
from .runtime.placement import CellRecord, Membership, Placement
from .runtime.ports import CellLost, NotSent
from .settings import DEFAULT_LIMITS, Limits

CLIENT = "client/test"


class MemoryAudit:
    """What the cells accounted for, as a list to look at."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, dict[str, Any]]] = []
        self.admissions = 0

    def admitted(self, envelope: Envelope) -> None:
        self.admissions += 1

    def note(self, kind: str, subject: str, detail: Mapping[str, Any]) -> None:
        self.entries.append((kind, subject, dict(detail)))

    async def record(self, kind: str, subject: str, detail: Mapping[str, Any]) -> None:
        self.note(kind, subject, detail)

    def of(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        return [(subject, detail) for k, subject, detail in self.entries if k == kind]


class LocalTransport:
    """Frames as function calls between the cells of one process."""

    def __init__(self, cells: Mapping[str, Cell]) -> None:
        self._cells = cells

    async def deliver(self, cell: str, frame: bytes) -> bytes:
        target = self._cells.get(cell)
        if target is None:
            raise NotSent(cell)
        ack = await target.deliver(frame)
        if self._cells.get(cell) is not target:
            raise CellLost(cell)
        return ack


class TestPlatform:
    """A platform in this process. `call`, `tell`, `stream` speak to agents as a client."""

    __test__ = False

    def __init__(
        self, kinds: Sequence[type[Agent]], cells: int, limits: Limits, checks: Sequence[Check | Permit]
    ) -> None:
        self.audit = MemoryAudit()
        self.checkpoints = MemoryCheckpoints()
        self.cells: dict[str, Cell] = {}
        self.limits = limits
        self._kinds = kinds
        self._checks = checks
        self._sequence = 0
        names = [f"cell-{index}" for index in range(cells)]
        self.membership = Membership(
            epoch=1,
            pools={
                "test": tuple(
                    CellRecord(cell_id=name, pool="test", node="here", generation=1) for name in names
                )
            },
            types={type_name(kind): "test" for kind in kinds},
        )
        self.placement = Placement(self.membership)
        for name in names:
            self.add_cell(name)

    def add_cell(self, name: str, generation: int = 1) -> Cell:
        types = {type_name(kind): AgentType(type_name(kind), "", cls=kind) for kind in self._kinds}
        cell = self.cells[name] = Cell(
            name,
            generation,
            types=types,
            locator=self.placement,
            transport=LocalTransport(self.cells),
            checkpoints=self.checkpoints,
            audit=self.audit,
            guard=Guard(OpenFence(), self._checks),
            clock=time.time,
            rng=random.Random(generation),
            limits=self.limits,
        )
        return cell

    def _envelope(
        self,
        target: str,
        capability: str,
        arguments: Mapping[str, Any],
        kind: Kind,
        timeout_s: float | None,
        fields: Any,
    ) -> tuple[Cell, Envelope]:
        cell = next(iter(self.cells.values()))
        self._sequence += 1
        envelope = cell.request(
            CLIENT, self._sequence, target, capability, arguments, kind=kind, timeout_s=timeout_s, **fields
        )
        return cell, envelope

    async def call(
        self,
        target: str,
        capability: str,
        /,
        *,
        timeout_s: float | None = None,
        fields: Any = None,
        **arguments: Any,
    ) -> Any:
        cell, envelope = self._envelope(target, capability, arguments, Kind.CALL, timeout_s, fields or {})
        return codec.decode(await cell.ask(envelope) or b"\xc0")

    async def tell(self, target: str, capability: str, /, **arguments: Any) -> None:
        cell, envelope = self._envelope(target, capability, arguments, Kind.TELL, None, {})
        await cell.send(envelope)

    async def stream(
        self, target: str, capability: str, /, *, timeout_s: float | None = None, **arguments: Any
    ) -> AsyncIterator[Any]:
        cell, envelope = self._envelope(target, capability, arguments, Kind.STREAM, timeout_s, {})
        async for part in cell.read(envelope):
            yield codec.decode(part)

    async def watch(
        self, target: str, capability: str, listener: Callable[[float | None, str], None], /, **arguments: Any
    ) -> Any:
        """A call whose progress is heard by `listener`."""
        cell, envelope = self._envelope(target, capability, arguments, Kind.CALL, None, {})
        return codec.decode(await cell.ask(envelope, listener) or b"\xc0")


@asynccontextmanager
async def platform(
    *things: Any, cells: int = 1, limits: Limits = DEFAULT_LIMITS, checks: Sequence[Check | Permit] = ()
) -> AsyncIterator[TestPlatform]:
    """A platform that hosts these agent classes (or plain functions); stopped, with every agent's `on_stop`, at the end."""
    running = TestPlatform([agent_of(thing) for thing in things], cells, limits, checks)
    for cell in running.cells.values():
        cell.start()
    try:
        yield running
    finally:
        for cell in list(running.cells.values()):
            await cell.stop()


__all__ = ["AIPError", "LocalTransport", "MemoryAudit", "TestPlatform", "platform"]
