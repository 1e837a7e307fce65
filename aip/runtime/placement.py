"""Placement: which cell owns an agent. Rendezvous hashing under a membership epoch, without asking anybody.

Every cell holds the same `Membership`, pushed whole, and computes the same owner for every address. For
each (agent, cell) a hash gives a uniform draw u; the cell with the least -ln(u) / slots owns the agent.
That is the race of exponential clocks, so a cell wins in proportion to its slots, and

  - a cell that leaves hands over its own agents and nobody else's; one that joins takes agents for itself
    only;
  - a cell that restarts keeps its id, hence its agents; its generation tells the old process from the new
    one;
  - a pin overrides the hash. A pinned agent whose cell is gone has no owner until that cell is back or the
    pin is lifted: it was pinned for what only that cell has, so another one would be a guess;
  - a cell with 0 slots is drained: it stays a member, owns what is pinned to it and nothing else;
  - an epoch that is not newer than the one held is ignored, so that late and repeated pushes do no harm.

The same answer everywhere rests on arithmetic that is the same everywhere: BLAKE2b, 64-bit integers, and a
logarithm made of IEEE additions, multiplications and divisions (the C library's differs in the last bit
between machines).

What it does not guarantee: two cells that hold different epochs may disagree for a moment. The receiver's
check of ownership, and the incarnation taken at activation, decide then.

Sources: Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates" (1998), for rendezvous
hashing; Schindelhauer and Schomaker, "Weighted Distributed Hash Tables" (SPAA 2005), for the logarithmic
weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from math import frexp
from typing import Literal, NamedTuple

import msgspec

from ..errors import AIPError, NotFound, PlatformUnavailable, UsageError
from ..ids import check_address, pool_of, type_of

CELLS_MAX = 10_000  # One push carries them all; at about 100 bytes each that stays a megabyte.
PINS_MAX = 100_000
CACHE_MAX = 200_000  # Addresses one cell remembers the owners of, within an epoch: about 40 MB when full.

_MASK = 2**64 - 1
_LN2 = 0.6931471805599453


class NoCell(PlatformUnavailable):
    """The agent's type is deployed, and no living cell may own the agent just now."""

    code = "platform.unavailable.no_cell"
    default_hint = "its pool has no cell to give it; see `aip status`"


class CellRecord(msgspec.Struct, frozen=True):
    """A member. `generation` grows with every start of its process; `slots` is its share of the agents."""

    cell_id: str
    pool: str
    node: str
    generation: int
    socket: str = ""  # Where its node's other cells reach it without Ray; empty: only through Ray.
    slots: int = 500


class Membership(msgspec.Struct, frozen=True):
    """Who is there, as of `epoch`. A supervisor is the only author; everybody else holds copies."""

    epoch: int
    pools: dict[str, tuple[CellRecord, ...]] = {}
    types: dict[str, str] = {}  # agent type (with its code digest) -> pool
    pins: dict[str, str] = {}  # address -> cell_id
    contained: frozenset[str] = frozenset()  # Pools whose agents are in sandboxes, each and all.

    def cells(self) -> Iterator[CellRecord]:
        for cells in self.pools.values():
            yield from cells


class Move(NamedTuple):
    """An agent whose owner changes. None stands for nobody."""

    address: str
    old: str | None
    new: str | None


def check_membership(membership: Membership) -> Membership:
    """The membership itself, or `UsageError` that names what cannot be meant."""
    seen: set[str] = set()
    for pool, cells in membership.pools.items():
        for cell in cells:
            if cell.pool != pool:
                raise UsageError(f"cell {cell.cell_id} says pool {cell.pool!r} and stands in {pool!r}")
            if cell.cell_id in seen:
                raise UsageError(f"cell {cell.cell_id} is listed twice")
            if cell.slots < 0 or cell.generation < 0:
                raise UsageError(f"cell {cell.cell_id} has negative slots or generation")
            seen.add(cell.cell_id)
    for kind, pool in membership.types.items():
        if pool not in membership.pools:
            raise UsageError(f"agent type {kind} is mapped to pool {pool!r}, which does not exist")
    if len(seen) > CELLS_MAX or len(membership.pins) > PINS_MAX:
        raise UsageError(f"a membership holds at most {CELLS_MAX} cells and {PINS_MAX} pins")
    for address in membership.pins:
        check_address(address)
    return membership


class Placement:
    """The owner of every address, as of the newest membership offered; a dictionary look-up when warm."""

    def __init__(self, membership: Membership) -> None:
        self._adopt(membership)

    @property
    def epoch(self) -> int:
        return self.membership.epoch

    def offer(self, membership: Membership) -> bool:
        """Adopts a newer membership; ignores one that is not newer. True where it was adopted."""
        if membership.epoch <= self.membership.epoch:
            return False
        self._adopt(membership)
        return True

    def locate(self, address: str) -> str | None:
        """The id of the cell that owns this agent; None where nobody may (`absent` says why)."""
        try:
            return self._owners[address]
        except KeyError:
            return self._remember(address)

    def cell(self, cell_id: str) -> CellRecord | None:
        return self._cells.get(cell_id)

    def isolation(self, address: str) -> Literal["cell", "process", "container"]:
        """How this agent is kept apart: by a sandbox, or, where it is pinned, by a cell and so a process of its own."""
        if self.membership.types.get(type_of(address)) in self.membership.contained:
            return "container"
        return "process" if address in self.membership.pins else "cell"

    def generation(self, cell_id: str) -> int | None:
        """The living generation of a cell, or None where it is not a member."""
        cell = self._cells.get(cell_id)
        return None if cell is None else cell.generation

    def hosts(self, cell_id: str, address: str) -> bool:
        """Whether this cell is of the agent's pool. By its name: one that has left still has its last words to say."""
        return self.membership.types.get(type_of(address)) == pool_of(cell_id)

    def absent(self, address: str) -> AIPError:
        """What to tell the sender to an address that nobody owns."""
        kind = type_of(address)
        if kind not in self.membership.types and address not in self.membership.pins:
            return NotFound(f"no agent type {kind!r} is deployed", hint="see `aip agents list`")
        pinned = self.membership.pins.get(address)
        where = f"its pin to cell {pinned}" if pinned else f"pool {self.membership.types[kind]}"
        return NoCell(f"no cell owns {address}: {where} has no living cell")

    def _adopt(self, membership: Membership) -> None:
        self.membership = check_membership(membership)
        self._cells = {cell.cell_id: cell for cell in membership.cells()}
        self._circles = {pool: _Circle(cells) for pool, cells in membership.pools.items()}
        self._owners: dict[str, str | None] = {}

    def _remember(self, address: str) -> str | None:
        if len(self._owners) >= CACHE_MAX:
            self._owners.clear()  # Starting over is cheap; evicting one by one would cost every look-up.
        owner = self._owners[address] = self._compute(address)
        return owner

    def _compute(self, address: str) -> str | None:
        pinned = self.membership.pins.get(address)
        if pinned is not None:
            return pinned if pinned in self._cells else None
        pool = self.membership.types.get(type_of(address))
        return None if pool is None else self._circles[pool].owner(address)


def moved(old: Membership, new: Membership, addresses: Iterable[str]) -> list[Move]:
    """Which of these agents change owner between two memberships. A cell's new generation moves nobody."""
    before, after = Placement(old), Placement(new)
    return [
        Move(address, was, now)
        for address in addresses
        if (was := before.locate(address)) != (now := after.locate(address))
    ]


class _Circle:
    """The cells of one pool, ready to be drawn from.

    -ln(u) / slots falls as u grows, so that among cells of equal slots the greatest draw wins: a logarithm
    is needed once per distinct number of slots and not per cell. Cells stand in order of their ids, which
    settles a tie.
    """

    def __init__(self, cells: Iterable[CellRecord]) -> None:
        by_slots: dict[int, list[tuple[int, str]]] = {}
        for cell in sorted(cells, key=lambda cell: cell.cell_id):
            if cell.slots > 0:
                by_slots.setdefault(cell.slots, []).append((_hash(cell.cell_id), cell.cell_id))
        self._by_slots: Mapping[int, list[tuple[int, str]]] = dict(sorted(by_slots.items()))

    def owner(self, address: str) -> str | None:
        agent = _hash(address)
        best, best_cell = float("inf"), None
        for slots, cells in self._by_slots.items():
            most, candidate = -1, ""
            for cell, cell_id in cells:
                mixed = (agent ^ cell) * 0x9E3779B97F4A7C15 & _MASK
                mixed = (mixed ^ mixed >> 32) * 0xD6E8FEB86659FD93 & _MASK
                mixed ^= mixed >> 32
                if mixed > most:
                    most, candidate = mixed, cell_id
            time = _minus_log(most) / slots
            if time < best:
                best, best_cell = time, candidate
        return best_cell


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def _minus_log(draw: int) -> float:
    """-ln((draw + 1/2) / 2**64), to about 12 digits and to the same bit on every machine.

    With u = m * 2**e and sqrt(1/2) <= m < sqrt(2): ln m = 2 artanh((m - 1) / (m + 1)), whose series
    converges fast there.
    """
    mantissa, exponent = frexp(draw + 0.5)
    if mantissa < 0.7071067811865476:
        mantissa, exponent = mantissa * 2.0, exponent - 1
    z = (mantissa - 1.0) / (mantissa + 1.0)
    square, term, total = z * z, z, 0.0
    for odd in (1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0):
        total += term / odd
        term *= square
    return (64 - exponent) * _LN2 - 2.0 * total
