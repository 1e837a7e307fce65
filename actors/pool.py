"""One pool of cells as the root knows it: which are wanted, which live, what each holds, and which is one agent's alone.

It keeps and decides, and starts nothing: the root has the pool's supervisor run what is `wanted`.

    cell        named              who lives there
    shared      cell-POOL-NUMBER   whom placement puts there; as many cells as the agents need at the pool's density
    dedicated   cell-POOL-pDIGEST  one agent, which is pinned to it (`isolation: process`); named after it, so that a root that
                                   comes back finds the same one
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Iterable, Mapping

import msgspec

from aip.runtime.placement import CellRecord, Membership

from .pool_spec import PoolSpec
from .sandboxed import contains

IDLE_S = 120.0  # A pool without agents and without a run keeps its cells warm this long.


class Pool:
    def __init__(self, spec: PoolSpec, now: float) -> None:
        self.spec = spec
        self.wanted: set[str] = set()
        self.members: dict[str, CellRecord] = {}
        self.load: dict[str, int] = {}  # cell -> its agents, as it last said
        self.pins: dict[str, str] = {}  # address -> its dedicated cell
        self.runs: set[str] = set()  # Those that hold it, whether or not one of their agents lives.
        self.idle_since = now

    def slots(self, cell: str) -> int:
        return 1 if cell in self.pins.values() else self.spec.density

    # What is wanted; true where that has changed ----------------------------------------------------------------------

    def want(self, pins: Iterable[str], warm: Container[str], now: float) -> None:
        """The cells that live from the beginning; the dedicated ones of others start with their agent's first mail."""
        self.idle_since = now
        own = {address: self._own_cell(address) for address in pins}
        self.pins |= own
        if self.spec.isolation == "process":
            self.wanted.update(cell for address, cell in own.items() if address in warm)
        elif not self.wanted:
            self.wanted.add(self._shared_cell(0))

    def wake(self, address: str, now: float) -> bool:
        """Somebody has mail for this agent."""
        self.idle_since = now
        cell = self.pins.get(address) or self._shared_cell(0)
        is_new = cell not in self.wanted
        self.wanted.add(cell)
        return is_new

    def resize(self, now: float, cells_max: int) -> bool:
        """As many cells as the agents need at the pool's density; none once it has been idle."""
        agents = sum(self.load.values())
        if agents or self.runs:
            self.idle_since = now
        if self.wanted and now - self.idle_since > IDLE_S:
            self.wanted.clear()
            self.pins.clear()
            return True
        shared = self.wanted.difference(self.pins.values())
        needed = min(-(-agents // self.spec.density), cells_max)
        if shared and needed > len(shared):
            self.wanted.update(self._shared_cell(number) for number in range(needed))
            return True
        return False

    def release(self, run: str, now: float, is_active: Callable[[str], bool]) -> bool:
        """The run is over, or rests: the cells that are its agents' alone leave."""
        self.runs.discard(run)
        self.idle_since = now
        own = {cell for address, cell in self.pins.items() if run_of(address) == run}
        leaving = own & self.wanted
        self.wanted -= own
        for cell in own - self.members.keys():
            self._unpin(cell, is_active)  # It was never needed; of the others their end tells.
        return bool(leaving)

    # What lives -------------------------------------------------------------------------------------------------------

    def joined(self, cell: str, node: str, generation: int) -> None:
        self.members[cell] = CellRecord(cell, self.spec.pool, node, generation, slots=self.spec.density)

    def left(self, cell: str, is_active: Callable[[str], bool]) -> None:
        self.members.pop(cell, None)
        self.load.pop(cell, None)
        self._unpin(cell, is_active)

    def _unpin(self, cell: str, is_active: Callable[[str], bool]) -> None:
        """A cell that was one agent's alone is gone: its pin stays as long as the agent's run may want it again."""
        if cell in self.wanted:
            return
        for address in [address for address, pinned in self.pins.items() if pinned == cell]:
            if not is_active(run_of(address)):
                del self.pins[address]

    # Names ------------------------------------------------------------------------------------------------------------

    def _shared_cell(self, number: int) -> str:
        return f"cell-{self.spec.pool}-{number}"

    def _own_cell(self, address: str) -> str:
        return f"cell-{self.spec.pool}-p{hashlib.sha256(address.encode()).hexdigest()[:10]}"


def run_of(address: str) -> str:
    """The run that an agent of a plan belongs to (`kind/RUN.name`), else nothing."""
    run, dot, _ = address.partition("/")[2].partition(".")
    return run if dot else ""


def membership(epoch: int, pools: Mapping[str, Pool]) -> Membership:
    """Who is there. Dedicated cells stand apart, so that no agent without a pin to one of them ever lands there."""
    members: dict[str, tuple[CellRecord, ...]] = {}
    for name, pool in pools.items():
        dedicated = set(pool.pins.values())
        members[name] = tuple(r for r in pool.members.values() if r.cell_id not in dedicated)
        if pool.pins:
            apart = f"{name}-dedicated"
            members[apart] = tuple(
                msgspec.structs.replace(r, pool=apart)
                for r in pool.members.values()
                if r.cell_id in dedicated
            )
    return Membership(
        epoch=epoch,
        pools=members,
        types={kind: name for name, pool in pools.items() for kind in pool.spec.types},
        pins={address: cell for pool in pools.values() for address, cell in pool.pins.items()},
        contained=frozenset(
            name for name, pool in pools.items() if pool.spec.isolation == "container" and contains(pool.spec)
        ),
    )
