"""Kill orders, which of them stand, and what they reach. Pure.

Raising is a join: of two orders for one target the stricter level stands, of two throttles the slower one, whatever came
first. Nothing but a lift (`lifted`) makes it milder, and a lift may leave a milder level standing (`remains`). Each order has an
epoch, its place in the history. Raising anything on a target gives it a new epoch, also where the level stays, so that
signatures which were gathered to lower the old order do not lower the new one (`reset.py`).

An order on an agent or a run covers its descendants too: `inherit` is told who was born of whom (`lineage.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from ...runtime.envelope import Envelope
from .ladder import ENDING, LADDER, Fate, Level
from .target import PLATFORM, names, names_of


class KillOrder(msgspec.Struct, frozen=True):
    target: str
    at: float
    by: str
    reason: str
    lifted: bool = False
    level: Level = Level.TERMINATE  # What orders meant before there were levels.
    rate: float = 0.0  # Of a throttle: turns a second that may begin, on one node.
    remains: Level | None = None  # Of a lift: what is left standing.
    nonce: str = ""  # Of a lift: the reset that it performs, which is spent with it.
    signers: tuple[str, ...] = ()  # Of a lift: who signed that reset.
    epoch: int = 0  # Its place in the history, known when it is read.


def stricter(one: KillOrder, other: KillOrder) -> KillOrder:
    """Of two orders the one that says all; the first where they say the same."""
    if one.level.rank != other.level.rank:
        return one if one.level.rank > other.level.rank else other
    return other if one.level is Level.THROTTLE and other.rate < one.rate else one


def strictest(orders: Iterable[KillOrder]) -> KillOrder | None:
    found: KillOrder | None = None
    for order in orders:
        found = order if found is None else stricter(found, order)
    return found


class KillOrders:
    """The history, folded."""

    def __init__(self) -> None:
        self.standing: dict[str, KillOrder] = {}
        self.epoch = 0
        self.spent: set[str] = set()  # Nonces of resets.
        self._inherited: dict[str, KillOrder] = {}

    def apply(self, order: KillOrder) -> None:
        self.epoch = order.epoch or self.epoch + 1
        order = msgspec.structs.replace(order, epoch=self.epoch)
        if order.nonce:
            self.spent.add(order.nonce)
        known = self.standing.get(order.target)
        if not order.lifted:
            joined = order if known is None else stricter(known, order)
            self.standing[order.target] = msgspec.structs.replace(joined, epoch=order.epoch)
        elif order.remains is None:
            self.standing.pop(order.target, None)
        else:
            left = msgspec.structs.replace(order, lifted=False, level=order.remains, remains=None)
            self.standing[order.target] = left

    @property
    def ending(self) -> dict[str, KillOrder]:
        """Those that end what they cover."""
        return {target: order for target, order in self.standing.items() if order.level >= ENDING}

    @property
    def holding(self) -> bool:
        """Whether any order makes mail wait instead of refusing it."""
        return any(
            LADDER[order.level].waiting in (Fate.METERED, Fate.WAITS) for order in self.standing.values()
        )

    # Descendants ----------------------------------------------------------------------------------------------------

    @property
    def inheritable(self) -> bool:
        """Whether an order stands that descendants inherit: on an agent, a type of agents, or a run."""
        return any(":" not in target for target in self.standing if target != PLATFORM)

    def inherit(self, born: Mapping[str, Iterable[str]]) -> None:
        """`born` tells the children of each parent, by address or `run/ID`. Circles do no harm."""
        self._inherited.clear()
        for parent in born:
            if (order := self._direct(parent)) is not None:
                self._pass_on(order, parent, born)

    def _pass_on(self, order: KillOrder, parent: str, born: Mapping[str, Iterable[str]]) -> None:
        left = [parent]
        while left:
            for child in born.get(left.pop(), ()):
                known = self._inherited.get(child)
                passed = order if known is None else stricter(known, order)
                if passed is not known:
                    self._inherited[child] = passed
                    left.append(child)

    def adopt(self, parent: str, child: str) -> KillOrder | None:
        """A child that is being born: it inherits at once what its parent is under."""
        order = strictest(order for order in (self._direct(parent), self._inherited.get(parent)) if order)
        if order is not None:
            self._pass_on(order, parent, {parent: (child,)})
        return order

    def _direct(self, name: str) -> KillOrder | None:
        return strictest(order for known in names_of(name) if (order := self.standing.get(known)) is not None)

    # What they reach ------------------------------------------------------------------------------------------------

    def covering(self, found: Iterable[str]) -> Iterator[KillOrder]:
        """Every order that covers one of these names."""
        standing, inherited = self.standing, self._inherited
        for name in found:
            if (order := standing.get(name)) is not None:
                yield order
            if inherited and (order := inherited.get(name)) is not None:
                yield order

    def against(self, envelope: Envelope, places: Iterable[str] = ()) -> KillOrder | None:
        """The strictest order that covers this message: to, from, or on behalf of a target, or where it is looked at."""
        if not self.standing:
            return None
        return strictest(self.covering((*names(envelope), *places)))

    def throttles(self, envelope: Envelope, places: Iterable[str] = ()) -> list[KillOrder]:
        """Every throttle that covers this message: it counts against each of them."""
        found = {order.target: order for order in self.covering((*names(envelope), *places))}
        return [order for order in found.values() if order.level is Level.THROTTLE]
