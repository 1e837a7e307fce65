"""AIP without Ray: the same road in one process, for the tests of agents.

    async with aip.testing.platform(Greeter) as p:
        assert await p.call("greeter/ada", "greet", name="Ada") == "hello, Ada"

The cells, the guard, the mailboxes, activation, checkpoints and effects are the ones of the real platform (`aip.runtime`); only
the way between cells is a function call, and checkpoints live in memory. `cells=2` spreads the agents over two cells.
`configured(Writer, "critic", tone="harsh")` hosts a class under a name of its own with a configuration, as a plan does;
`budget={"tokens": 1_000}` puts every call of the test under one account, and `p.spent` tells what it came to.
`effects={"tickets": callable}` gives agents the connector `tickets` (`ctx.effect("tickets", {...})`): the callable is the outside
world, and the way to it is the effect gateway's (`testing_effects.py`). `p.kill("greeter/ada")` raises a kill order, which
`p.lift("greeter/ada")` takes back.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from .agent import agent_of, type_name
from .errors import AIPError, NotFound
from .governance.kill import KillCheck, KillOrder, KillOrders, Level, check_target
from .ids import check_address
from .orchestration.budget import Ledger
from .orchestration.parse.added import source_of
from .orchestration.purse import BudgetCheck
from .orchestration.purse import Purses as CorePurses
from .runtime import codec
from .runtime.activation import AgentType
from .runtime.cell import Cell
from .runtime.checkpoint import MemoryCheckpoints
from .runtime.envelope import Envelope, Kind
from .runtime.guard import Check, Guard, Permit
from .runtime.placement import CellRecord, Membership, Placement
from .runtime.ports import CellLost, NotSent
from .settings import DEFAULT_LIMITS, Limits
from .testing_effects import LocalEffects, Outside, gateway

CLIENT = "client/test"
ACCOUNT = "test"
RUN = "r-test"


class MemoryAudit:
    """What the cells accounted for, as a list to look at."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, dict[str, Any]]] = []
        self.admissions = 0
        self.calls: list[tuple[str, str, str]] = []  # id, cause, error code of those that ended.

    def admitted(self, envelope: Envelope) -> None:
        self.admissions += 1

    def settled(self, envelope: Envelope, started: float, ended: float, code: str) -> None:
        self.calls.append((envelope.id, envelope.causation, code))

    def note(self, kind: str, subject: str, detail: Mapping[str, Any]) -> None:
        self.entries.append((kind, subject, dict(detail)))

    async def record(self, kind: str, subject: str, detail: Mapping[str, Any]) -> None:
        self.note(kind, subject, detail)

    def of(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        return [(subject, detail) for k, subject, detail in self.entries if k == kind]


class LocalPurses:
    """`Purses` whose ledger is in this process."""

    def __init__(self, holder: str, ledger: Ledger) -> None:
        self._core = CorePurses(holder)
        self._ledger = ledger

    async def spend(self, account: str, amounts: Mapping[str, int]) -> None:
        while self._core.of(account).spend(amounts) is not None:
            await self.fill(account, amounts)

    async def hold(self, account: str, amounts: Mapping[str, int]) -> None:
        while self._core.of(account).hold(amounts) is not None:
            await self.fill(account, amounts)

    def unhold(self, account: str, held: Mapping[str, int], spent: Mapping[str, int]) -> None:
        purse = self._core.of(account)
        purse.unhold(held)
        purse.charge(spent)

    async def split(self, account: str, part: str, limits: Mapping[str, int]) -> None:
        self._ledger.part(account, part, limits)

    async def fill(self, account: str, need: Mapping[str, int]) -> None:
        purse = self._core.of(account)
        draw = purse.want(need)
        assert draw is not None, "a ledger that answers at once leaves no draw under way"
        refusal = purse.served(self._ledger.serve(draw))
        if refusal is not None and not purse.covers(need):
            raise refusal

    async def close(self, account: str) -> None:
        purse = self._core.find(account)
        if purse is not None and purse.unheard and (draw := purse.want()) is not None:
            purse.served(self._ledger.serve(draw))
        given = None if purse is None else purse.give_back()
        if purse is not None and given is not None:
            self._ledger.settle(given.reservation, given.spent)
            purse.gave_back()

    @property
    def checks(self) -> list[Check | Permit]:
        return [BudgetCheck(self._core)]


class Names:
    """`Resolver` of a test: a name is that agent's `any`, a capability the first agent that has it."""

    def __init__(self, kinds: Sequence[AgentType], added: dict[str, Any]) -> None:
        self._kinds = kinds
        self._added = added

    async def resolve(self, capability: str) -> str:
        for kind in self._kinds:
            if capability in kind.load().capabilities:
                return f"{kind.name}/any"
        raise NotFound(f"no agent of this test has the capability {capability!r}")

    async def named(self, run: str, name: str) -> str:
        return check_address(f"{name}/any")

    async def add_tasks(self, run: str, attempt: str, tasks: Mapping[str, Any]) -> None:
        self._added |= json.loads(source_of(tasks))


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


class Orders:
    """The kill orders of a test, behind the revision that a fence page has."""

    def __init__(self) -> None:
        self._history: list[KillOrder] = []
        self._children: dict[str, list[str]] = {}
        self.check = KillCheck(
            self.revision,
            self._orders,
            on_birth=self._born,
            write=self.write,
            children=lambda: self._children,
        )

    def revision(self) -> int:
        return len(self._history)

    def write(self, order: KillOrder) -> None:
        self._history.append(order)

    def _born(self, parent: str, child: str) -> None:
        self._children.setdefault(parent, []).append(child)

    def _orders(self) -> KillOrders:
        orders = KillOrders()
        for order in self._history:
            orders.apply(order)
        orders.inherit(self._children)
        return orders


class TestPlatform:
    """A platform in this process. `call`, `tell`, `stream` speak to agents as a client."""

    __test__ = False

    def __init__(
        self,
        kinds: Sequence[AgentType],
        cells: int,
        limits: Limits,
        checks: Sequence[Check | Permit],
        budget: Mapping[str, int] | None,
        effects: Mapping[str, Outside],
    ) -> None:
        self.audit = MemoryAudit()
        self.checkpoints = MemoryCheckpoints()
        self.cells: dict[str, Cell] = {}
        self.limits = limits
        self._kinds = kinds
        self._checks = checks
        self._orders = Orders()
        fence = self._orders.check, self._orders.revision
        self._gateway = gateway(effects, self.checkpoints, self.audit, *fence, time.time)
        self._ledger = Ledger()
        self._account = "" if budget is None else ACCOUNT
        self._ledger.open(ACCOUNT, budget or {})
        self._sequence = 0
        self.added: dict[str, Any] = {}  # What agents added to their run (`ctx.add_tasks`), by name.
        names = [f"cell-test-{index}" for index in range(cells)]
        self.membership = Membership(
            epoch=1,
            pools={
                "test": tuple(
                    CellRecord(cell_id=name, pool="test", node="here", generation=1) for name in names
                )
            },
            types={kind.name: "test" for kind in kinds},
        )
        self.placement = Placement(self.membership)
        for name in names:
            self.add_cell(name)

    def add_cell(self, name: str, generation: int = 1) -> Cell:
        purses = LocalPurses(f"{name}#{generation}", self._ledger)
        cell = self.cells[name] = Cell(
            name,
            generation,
            types={kind.name: kind for kind in self._kinds},
            locator=self.placement,
            transport=LocalTransport(self.cells),
            checkpoints=self.checkpoints,
            audit=self.audit,
            guard=Guard(self._orders.check, [*self._checks, *purses.checks]),
            resolver=Names(self._kinds, self.added),
            purses=purses,
            effects=LocalEffects(self._gateway, name, generation, self._orders.revision, time.time),
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
        fields = {"budget": self._account, "run": RUN, **fields}
        envelope = cell.request(
            CLIENT, self._sequence, target, capability, arguments, kind=kind, timeout_s=timeout_s, **fields
        )
        return cell, envelope

    def kill(self, target: str, level: Level = Level.TERMINATE) -> None:
        """In force when this returns, as `aip kill` is: the guards, the mailboxes and the gateway ask it."""
        order = KillOrder(check_target(target), time.time(), "user:test", "the test says so", level=level)
        self._orders.write(order)

    def lift(self, target: str) -> None:
        order = KillOrder(check_target(target), time.time(), "user:test", "the test says so", lifted=True)
        self._orders.write(order)

    @property
    def spent(self) -> Mapping[str, int]:
        """Of the budget, by all whose turns have ended."""
        return self._ledger.statement(ACCOUNT).spent

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


def configured(thing: Any, name: str = "", config: Mapping[str, Any] | None = None, **more: Any) -> AgentType:
    """An agent class (or function) under a name of its own, with a configuration: what an entry of a plan's `agents` is."""
    kind = agent_of(thing)
    return AgentType(name or type_name(kind), "", cls=kind, config={**(config or {}), **more})


@asynccontextmanager
async def platform(
    *things: Any,
    cells: int = 1,
    limits: Limits = DEFAULT_LIMITS,
    checks: Sequence[Check | Permit] = (),
    budget: Mapping[str, int] | None = None,
    effects: Mapping[str, Outside] | None = None,
) -> AsyncIterator[TestPlatform]:
    """A platform that hosts these agent classes (functions, `configured` ones); stopped, with every `on_stop`, at the end."""
    kinds = [thing if isinstance(thing, AgentType) else configured(thing) for thing in things]
    running = TestPlatform(kinds, cells, limits, checks, budget, effects or {})
    for cell in running.cells.values():
        cell.start()
    try:
        yield running
    finally:
        for cell in list(running.cells.values()):
            await cell.stop()


__all__ = ["AIPError", "Level", "LocalTransport", "MemoryAudit", "TestPlatform", "configured", "platform"]
