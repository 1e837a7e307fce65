"""Kill orders, which of them stand, and what they reach. Pure.

Raising is a join: of two orders for one target the stricter level stands, of two throttles the slower one, whatever came
first. Nothing but a lift (`lifted`) makes it milder, and a lift may leave a milder level standing (`remains`). Each order has an
epoch, its place in the history. Raising anything on a target gives it a new epoch, also where the level stays, so that
signatures which were gathered to lower the old order do not lower the new one (`reset.py`).

An order on an agent or a run covers its descendants too: `inherit` is told who was born of whom (`lineage.py`).

An order that makes credentials void (`revoke` and above) is remembered beyond its lift: what was issued before it stays void,
and `void_since` says from which epoch on a credential has to be.
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
    origin: str = ""  # Where it was raised, if on another node: the identity of that fence,
    origin_epoch: int = 0  # and its epoch there.


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


def not_lifted(history: Iterable[KillOrder], after: int) -> list[KillOrder]:
    """Of the orders behind this epoch those that no later lift took back, in their order; of a lift what it left."""
    found: list[KillOrder] = []
    for order in history:
        if order.epoch <= after:
            continue
        if order.lifted:
            found = [one for one in found if one.target != order.target]
        if (left := left_by(order)) is not None:
            found.append(left)
    return found


def left_by(order: KillOrder) -> KillOrder | None:
    """What an entry of the history leaves standing on its target by itself."""
    if not order.lifted:
        return order
    if order.remains is None:
        return None
    return msgspec.structs.replace(order, lifted=False, level=order.remains, remains=None)


class KillOrders:
    """The history, folded."""

    def __init__(self) -> None:
        self.standing: dict[str, KillOrder] = {}
        self.epoch = 0
        self.spent: set[str] = set()  # Nonces of resets.
        self.revoked: dict[
            str, int
        ] = {}  # By target: the epoch of the newest order that made its credentials void.
        self._inherited: dict[str, KillOrder] = {}
        self._inherited_revoked: dict[str, int] = {}

    def apply(self, order: KillOrder) -> None:
        self.epoch = order.epoch or self.epoch + 1
        order = msgspec.structs.replace(order, epoch=self.epoch)
        if order.nonce:
            self.spent.add(order.nonce)
        known = self.standing.get(order.target)
        if not order.lifted:
            if LADDER[order.level].credentials is Fate.VOID:
                self.revoked[order.target] = order.epoch
            joined = order if known is None else stricter(known, order)
            self.standing[order.target] = msgspec.structs.replace(joined, epoch=order.epoch)
        elif (left := left_by(order)) is None:
            self.standing.pop(order.target, None)
        else:
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

    def join(self, others: KillOrders) -> None:
        """What stands there stands here, too: the stricter of two. Epochs go on being this history's, if it has any."""
        for target, epoch in others.revoked.items():
            # An entry that this history is yet to have: later than all it has.
            self.revoked[target] = self.epoch + 1 if self.epoch else epoch
        self.epoch = self.epoch or others.epoch
        self.spent |= others.spent
        for target, order in others.standing.items():
            known = self.standing.get(target)
            self.standing[target] = order if known is None else stricter(known, order)

    # Descendants ----------------------------------------------------------------------------------------------------

    @property
    def inheritable(self) -> bool:
        """Whether an order stands that descendants inherit: on an agent, a type of agents, or a run."""
        return any(":" not in target for target in (*self.standing, *self.revoked) if target != PLATFORM)

    def inherit(self, born: Mapping[str, Iterable[str]]) -> None:
        """`born` tells the children of each parent, by address or `run/ID`. Circles do no harm."""
        self._inherited.clear()
        self._inherited_revoked.clear()
        for parent in born:
            if (order := self._direct(parent)) is not None:
                self._pass_on(order, parent, born)
            if epoch := self._revoked(parent):
                self._pass_on_revoked(epoch, parent, born)

    def _revoked(self, name: str) -> int:
        return max(self.revoked.get(known, 0) for known in names_of(name))

    def _pass_on_revoked(self, epoch: int, parent: str, born: Mapping[str, Iterable[str]]) -> None:
        left = [parent]
        while left:
            for child in born.get(left.pop(), ()):
                if self._inherited_revoked.get(child, 0) < epoch:
                    self._inherited_revoked[child] = epoch
                    left.append(child)

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

    def void_since(self, envelope: Envelope, places: Iterable[str] = ()) -> int:
        """The epoch before which no credential counts that is used on behalf of this message; 0 where none was revoked."""
        if not self.revoked:
            return 0
        direct, inherited = self.revoked, self._inherited_revoked
        found = (*names(envelope), *places)
        return max(max(direct.get(name, 0), inherited.get(name, 0)) for name in found)

    def against(self, envelope: Envelope, places: Iterable[str] = ()) -> KillOrder | None:
        """The strictest order that covers this message: to, from, or on behalf of a target, or where it is looked at."""
        if not self.standing:
            return None
        return strictest(self.covering((*names(envelope), *places)))

    def throttles(self, envelope: Envelope, places: Iterable[str] = ()) -> list[KillOrder]:
        """Every throttle that covers this message: it counts against each of them."""
        found = {order.target: order for order in self.covering((*names(envelope), *places))}
        return [order for order in found.values() if order.level is Level.THROTTLE]
