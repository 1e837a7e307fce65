"""Leases: what makes an order hold on a node that cannot be told of it. Pure.

    one node      its fence is the authority: no lease, and killing needs no process alive
    more of them  each node has a fence of its own, which follows the history of the kill switch's (`fence.py`, `shared.jsonl`)

The node agent renews: it tells what was raised on its node, and is given the orders that it lacks and a term to live. It merges
first (durable, then visible), then writes the end of the term into the fence page, where every guard and the effect gateway read
it. So for an order that stands on the switch's node from the moment t, whatever the network does:

    a term that was asked for before t    ends at t + LIFE_S - MARGIN_S at the latest: it counts from when it was *asked* for
    a term that was asked for after t     came with the order, which stood on the node before that term did

and no effect begins on any node later than t + LIFE_S. When a term has ended, effects are refused (`LeaseLapsed`, retryable) and
mail waits, up to its deadline; running turns go on. Merging never makes anything milder: a lift comes only in its place in the
switch's history, so it lowers what its signers saw; what was raised on this node since stands until the switch's history has it.

    the word in the page    0                          no lease is needed here
                            a time within a term       effects may begin until then
                            anything else              lapsed; also what was written before the machine was booted

The clock counts while a machine sleeps (`CLOCK_BOOTTIME`), and is compared with itself only. What is not covered: a virtual
machine that is stopped from outside with its clock, or a process that is off the processor for more than `MARGIN_S` between its
last look and the commit. What a cut-off node raises holds there at once, and elsewhere when it is back.

Source: Gray, Cheriton, "Leases" (SOSP 1989).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, MutableSequence
from typing import Protocol

import msgspec

from ...errors import Refused, UsageError
from .orders import KillOrder

LIFE_S = 2.0  # How long an order may go unheard on a node that is cut off.
MARGIN_S = 0.1  # Of it: for clocks that drift apart by up to 5 %, and from the last look to the commit.
WAIT_S = 0.5  # A renewal without news is answered after this; three may be lost before a term ends.
ASK_TIMEOUT_S = 0.9  # For one renewal. Two that time out leave a term standing; a longer one would not.
ORDERS_MAX = 1_000  # Of one answer. A node that lacks more has no term until it has them all.
WORD = 511  # Its place in the fence page.
_NANO = 1_000_000_000
_NEEDED = 1  # A time long past.

CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_ns() -> int:
    return time.clock_gettime_ns(CLOCK)


class LeaseLapsed(Refused):
    """This node has not heard from the kill switch: an order may stand that it does not know."""

    code = "refused.lease"
    retryable = True
    default_hint = "the node's lease from the kill switch has run out: `aip kill status` on the switch's node"


class FenceChanged(UsageError):
    """The kill switch has lost orders, or is another than the one this node follows. Nothing is merged, no term is taken."""

    code = "user.fence_changed"
    default_hint = "restore state/kill on the kill switch's node from its snapshot"


class Renewal(msgspec.Struct, frozen=True, array_like=True):
    node: str
    fence: str  # The identity of the node's own fence.
    after: int  # As far as the node has merged the switch's history.
    raised: tuple[KillOrder, ...] = ()  # On that node, and not in the switch's history yet.


class Grant(msgspec.Struct, frozen=True, array_like=True):
    fence: str  # The identity of the switch's.
    epoch: int  # Its newest.
    orders: tuple[KillOrder, ...]  # Those behind `after`, each with its epoch.
    life_s: float  # From when it was asked for; 0 where `orders` are not all that the node lacks.


class Switch(Protocol):
    """The switch's fence, as a grant needs it."""

    def revision(self) -> int: ...
    def identity(self) -> str: ...
    def history(self) -> Iterable[KillOrder]: ...
    def adopt(self, fence: str, raised: Iterable[KillOrder]) -> int: ...


class Follower(Protocol):
    """A node's fence, as a renewal needs it."""

    def revision(self) -> int: ...
    def identity(self) -> str: ...
    def follow(self, fence: str) -> None: ...
    def merged(self) -> int: ...
    def merge(self, orders: Iterable[KillOrder]) -> int: ...
    def untold(self) -> list[KillOrder]: ...


class LeaseWord:
    """The end of the term, in a word that all processes of a node share."""

    def __init__(self, words: MutableSequence[int], now_ns: Callable[[], int] = boot_ns) -> None:
        self._words = words
        self._now_ns = now_ns

    def lapsed(self) -> bool:
        until_ns = self._words[WORD]
        return until_ns != 0 and not 0 < until_ns - self._now_ns() <= LIFE_S * _NANO

    def need(self) -> None:
        """From now on nothing goes without a term. One that runs goes on: a node agent was restarted."""
        if not self._words[WORD]:
            self._words[WORD] = _NEEDED

    def needless(self) -> None:
        self._words[WORD] = 0

    def extend(self, until_ns: int) -> None:
        """Answers may come in any order: a term never gets shorter."""
        if self.lapsed() or until_ns > self._words[WORD]:
            self._words[WORD] = until_ns


class Granter:
    """The switch's side: one for its fence."""

    def __init__(self, fence: Switch, life_s: float = LIFE_S) -> None:
        self._fence = fence
        self._life_s = life_s
        self._revision = -1
        self._history: list[KillOrder] = []

    def answer(self, renewal: Renewal) -> Grant:
        identity = self._fence.identity()
        if renewal.fence == identity:
            raise UsageError(
                f"{renewal.node} has the fence folder of the kill switch's own node",
                hint="give each node an AIP_HOME on a disk of its own: shared memory does not reach through a network",
            )
        if renewal.raised:
            self._fence.adopt(renewal.fence, renewal.raised)
        revision = self._fence.revision()  # Before the reading: what is written meanwhile is read again.
        if revision != self._revision:
            self._history = list(self._fence.history())
            self._revision = revision
        history = self._history
        orders = tuple(history[renewal.after : renewal.after + ORDERS_MAX])
        whole = renewal.after + len(orders) == len(history)
        return Grant(identity, len(history), orders, self._life_s if whole else 0.0)

    @property
    def epoch(self) -> int:
        """As far as the last answer went."""
        return len(self._history)


class Holder:
    """The node's side: one for its fence and its page."""

    def __init__(self, node: str, fence: Follower, word: LeaseWord) -> None:
        self._node = node
        self._fence = fence
        self._word = word
        self._revision = -1
        self._after = 0
        self._untold: tuple[KillOrder, ...] = ()
        word.need()

    def renewal(self) -> Renewal:
        fence, revision = self._fence, self._fence.revision()
        if revision != self._revision:
            self._after, self._untold = fence.merged(), tuple(fence.untold()[:ORDERS_MAX])
            self._revision = revision
        return Renewal(self._node, fence.identity(), self._after, self._untold)

    def take(self, grant: Grant, renewal: Renewal, asked_ns: int) -> bool:
        """Whether this was a term. Raises `FenceChanged`."""
        self._fence.follow(grant.fence)
        if grant.epoch < renewal.after:
            raise FenceChanged(
                f"the kill switch knows {grant.epoch} orders; it has told this node {renewal.after} before"
            )
        merged = self._fence.merge(grant.orders) if grant.orders else renewal.after
        if merged < grant.epoch or not grant.life_s:
            return False
        self._word.extend(asked_ns + int((grant.life_s - MARGIN_S) * _NANO))
        return True
