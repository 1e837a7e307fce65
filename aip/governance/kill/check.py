"""The guard's side of the kill switch: one comparison of a word while nothing stands, a look-up by name while something does.

    enters     a new message wants to be sent, or one that waited wants to begin     Killed, or None
    waits      a message that stands in a mailbox is held back for now
    take       ... is not, and begins: it counts against the throttles that cover it
    peek       what is under way on behalf of a message must end                      Killed, or None
    effect     an effect wants to begin                                               Killed, LeaseLapsed, or None
    credential one that was issued at an epoch is used on behalf of a message         Killed, or None
    born       an agent is about to be born of another
    stop       an agent ends itself or what descends from it                          done, or Denied

On a node that needs a lease (`lease.py`) and has none, mail waits and effects are refused whatever stands.

The orders are read again when the fence's revision moves. With nothing standing each question is one call and two comparisons
(some 100 ns); with any number of orders its cost grows with the chain of the message only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableSequence

from ...errors import Killed, Refused, UsageError
from ...runtime.envelope import Envelope
from .authority import check_raise, checked
from .fence import Fence
from .ladder import ENDING, FREE, LADDER, Conduct, Fate, Level
from .lease import WORD, LeaseLapsed
from .orders import KillOrder, KillOrders, strictest
from .pace import Pace
from .target import PLATFORM, names_of

NO_MESSAGES = frozenset(level for level, conduct in LADDER.items() if conduct.messages >= Fate.REFUSED)
NO_TURNS = frozenset(level for level, conduct in LADDER.items() if conduct.turns >= Fate.STOPPED)
NO_EFFECTS = frozenset(level for level, conduct in LADDER.items() if conduct.effects >= Fate.REFUSED)
PACE_WORDS = WORD - 1  # As many as a page has beside its revision and the lease.


class KillCheck:
    name = "kill"

    def __init__(
        self,
        revision: Callable[[], int],
        orders: Callable[[], KillOrders],
        *,
        places: tuple[str, ...] = (),
        pace: MutableSequence[int] | None = None,
        on_birth: Callable[[str, str], None] | None = None,
        look_again: Callable[[], None] | None = None,
        lapsed: Callable[[], bool] | None = None,
        write: Callable[[KillOrder], None] | None = None,
        children: Callable[[], Mapping[str, Iterable[str]]] = dict,
    ) -> None:
        self._revision = revision
        self._read = orders
        self._places = places  # Where this process is: `node:NAME`, `pool:NAME`.
        self._pace = Pace([0] * PACE_WORDS if pace is None else pace)
        self._on_birth = on_birth
        self._look_again = look_again
        self._lapsed = lapsed
        self._write = write
        self._children = children
        self._known = -1
        self._orders = KillOrders()
        self._holding = False
        self._any = False

    @classmethod
    def at(cls, fence: Fence, places: tuple[str, ...] = ()) -> KillCheck:
        """The check of a process that hosts agents or does effects: all that the fence of its node has to say."""
        return cls(
            fence.revision,
            fence.orders,
            places=places,
            pace=fence.pace,
            on_birth=fence.born,
            look_again=fence.look_again,
            lapsed=fence.lease.lapsed,
            write=fence.write,
            children=fence.children,
        )

    # The guard's questions ------------------------------------------------------------------------------------------

    def enters(self, envelope: Envelope, now: float) -> Killed | None:
        if self._revision() != self._known:
            self.refresh()
        return self._refused(envelope, NO_MESSAGES) if self._any else None

    def peek(self, envelope: Envelope, now: float) -> Killed | None:
        if self._revision() != self._known:
            self.refresh()
        return self._refused(envelope, NO_TURNS) if self._any else None

    def effect(self, envelope: Envelope, now: float) -> Refused | None:
        if self._revision() != self._known:
            self.refresh()
        if self._any and (refused := self._refused(envelope, NO_EFFECTS)) is not None:
            return refused
        if self._lapsed is not None and self._lapsed():
            return LeaseLapsed("this node's lease from the kill switch has run out: no effect begins here")
        return None

    def credential(self, envelope: Envelope, issued: int) -> Killed | None:
        """`issued` is the newest order's epoch when it was. What was revoked stays void when the order is lowered."""
        if self._revision() != self._known:
            self.refresh()
        void_since = self._orders.void_since(envelope, self._places)
        if issued >= void_since:
            return None
        return Killed(
            f"a credential of {envelope.recipient} was issued before order {void_since} revoked it",
            hint="one that is issued after the order was lowered counts: `aip kill status`",
            issued=issued,
            void_since=void_since,
        )

    def _refused(self, envelope: Envelope, levels: frozenset[Level]) -> Killed | None:
        order = self._orders.against(envelope, self._places)
        return None if order is None or order.level not in levels else refusal(order)

    def holds(self) -> bool:
        """Whether anything at all may have to wait: what a mailbox asks before it looks at its mail."""
        if self._revision() != self._known:
            self.refresh()
        return self._holding or (self._lapsed is not None and self._lapsed())

    def waits(self, envelope: Envelope, now: float) -> bool:
        if not self.holds():
            return False
        if self._lapsed is not None and self._lapsed():
            return True
        order = self._orders.against(envelope, self._places)
        fate = Fate.GOES_ON if order is None else LADDER[order.level].waiting
        if fate is Fate.METERED:
            throttles = self._orders.throttles(envelope, self._places)
            return any(self._pace.due(throttle, now) > now for throttle in throttles)
        return fate is Fate.WAITS

    def take(self, envelope: Envelope, now: float) -> None:
        if self.holds():
            for throttle in self._orders.throttles(envelope, self._places):
                self._pace.take(throttle, now)

    def born(self, parent: str, child: str) -> None:
        if self._on_birth is not None:
            self._on_birth(parent, child)
        if self._any and self._orders.adopt(parent, child) is not None and self._look_again is not None:
            self._look_again()

    def stop(self, by: str, target: str, reason: str, now: float) -> None:
        """An agent ends itself, or what descends from it: in force when this returns. Raises `Denied`, `UsageError`."""
        if self._write is None:
            raise UsageError("orders are not raised here", hint="aip kill TARGET")
        order = checked(target, by, reason, now)
        check_raise(by, order.target, self._children())
        self._write(order)

    # For whoever starts, restarts or credentials --------------------------------------------------------------------

    def conduct(self, *names: str) -> Conduct:
        """Under which rung an agent, a run, a pool, a tenant stands: `.processes` and `.credentials` are asked here."""
        order = self.order_on(*names)
        return FREE if order is None else LADDER[order.level]

    def order_on(self, *names: str) -> KillOrder | None:
        """The strictest order that covers one of these, the platform's included."""
        if self._revision() != self._known:
            self.refresh()
        every = [known for name in names for known in (names_of(name) if "/" in name else (name,))]
        return strictest(self._orders.covering((PLATFORM, *self._places, *every)))

    def level(self, envelope: Envelope) -> str:
        """The level of the strictest order that covers this message, or `none`: what policies are told."""
        if self._revision() != self._known:
            self.refresh()
        order = self._orders.against(envelope, self._places) if self._any else None
        return "none" if order is None else str(order.level)

    @property
    def standing(self) -> Mapping[str, KillOrder]:
        """The orders that end what they cover, by target: what a run looks for."""
        if self._revision() != self._known:
            self.refresh()
        return self._orders.ending

    @property
    def orders(self) -> KillOrders:
        """All that stand."""
        if self._revision() != self._known:
            self.refresh()
        return self._orders

    def refresh(self) -> None:
        # The revision first: an order written while we read makes us read again, never overlook it.
        known = self._revision()
        self._orders = self._read()
        self._any = bool(self._orders.standing)
        self._holding = self._orders.holding
        self._known = known


def refusal(order: KillOrder) -> Killed:
    done = "was killed" if order.level >= ENDING else f"is under {order.level}"
    return Killed(
        f"{order.target} {done} by {order.by}: {order.reason}", target=order.target, level=str(order.level)
    )
