"""Outboxes: what waits to leave this cell, one per destination.

At most one frame per destination is in flight; what gathers meanwhile leaves together in the next. No timer: one message when
idle, thousands under load. Pure book-keeping; the cell moves the frames.

A message whose receiver's mailbox was full comes back in the ack. It is *stalled*: it and every later message to the same
receiver wait here, in order, and are offered again after a growing pause, so one slow receiver holds up nobody else (O3).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from .envelope import Envelope, Item

RETRY_FIRST_S = 0.002  # About one delivery: a mailbox of fast turns has room again by then.
RETRY_MAX_S = 0.1


class Stall:
    """Messages to one receiver that wait for room in its mailbox."""

    __slots__ = ("delay_s", "due", "queue")

    def __init__(self) -> None:
        self.queue: deque[Envelope] = deque()
        self.delay_s = RETRY_FIRST_S
        self.due = 0.0

    def back_off(self, now: float) -> None:
        self.due = now + self.delay_s
        self.delay_s = min(RETRY_MAX_S, self.delay_s * 2)


class Outbox:
    """What waits for one destination cell."""

    __slots__ = ("busy", "queue", "tries")

    def __init__(self) -> None:
        self.queue: deque[Item] = deque()
        self.busy = False
        self.tries = 0  # In a row, at a cell that did not open.

    def take(self, items_max: int, bytes_max: int) -> list[Item]:
        """The next frame's items: up to a count and a size, at least one."""
        items: list[Item] = []
        size = 0
        while self.queue and len(items) < items_max:
            item = self.queue[0]
            size += len(getattr(item, "payload", None) or b"") + 200
            if items and size > bytes_max:
                break
            items.append(self.queue.popleft())
        return items

    def pull(self, wanted: Callable[[Item], bool]) -> list[Item]:
        """Take every waiting item that is wanted, in order, and leave the rest."""
        taken = [item for item in self.queue if wanted(item)]
        if taken:
            self.queue = deque(item for item in self.queue if not wanted(item))
        return taken


class Stalls:
    """All stalled messages of one cell, bounded together."""

    __slots__ = ("_by_recipient", "_max", "size")

    def __init__(self, size_max: int) -> None:
        self._by_recipient: dict[str, Stall] = {}
        self._max = size_max
        self.size = 0

    def __contains__(self, recipient: str) -> bool:
        return recipient in self._by_recipient

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_recipient)

    @property
    def any(self) -> bool:
        return bool(self._by_recipient)

    def overdue(self, now: float) -> list[str]:
        """Receivers whose messages wait although their pause is over: the delivery that should have moved them was lost."""
        return [recipient for recipient, stall in self._by_recipient.items() if stall.due <= now]

    @property
    def room(self) -> bool:
        return self.size < self._max

    def append(self, envelope: Envelope) -> None:
        self._by_recipient.setdefault(envelope.recipient, Stall()).queue.append(envelope)
        self.size += 1

    def put_back(self, recipient: str, envelopes: Iterable[Envelope], now: float) -> float:
        """Refused for want of room: back to the front, in order. Returns when to offer again."""
        stall = self._by_recipient.setdefault(recipient, Stall())
        returned = list(envelopes)
        stall.queue.extendleft(reversed(returned))
        self.size += len(returned)
        stall.back_off(now)
        return stall.due

    def overflow(self, recipient: str) -> list[Envelope]:
        """What is too much after `put_back`, the newest first: it was on its way when the bound was reached."""
        stall = self._by_recipient[recipient]
        spilled: list[Envelope] = []
        while self.size > self._max and stall.queue:
            spilled.append(stall.queue.pop())
            self.size -= 1
        return spilled

    def last(self, recipient: str) -> Envelope | None:
        stall = self._by_recipient.get(recipient)
        return stall.queue[-1] if stall is not None and stall.queue else None

    def withdraw(self, envelope: Envelope) -> bool:
        """Its sender waits no longer. False: it is on its way already."""
        stall = self._by_recipient.get(envelope.recipient)
        if stall is None or envelope not in stall.queue:
            return False
        stall.queue.remove(envelope)
        self.size -= 1
        return True

    def release(self, recipient: str) -> list[Envelope]:
        """Everything that waits for a receiver, to be offered again; later messages queue behind until `clear`."""
        stall = self._by_recipient.get(recipient)
        if stall is None:
            return []
        envelopes = list(stall.queue)
        stall.queue.clear()
        self.size -= len(envelopes)
        return envelopes

    def clear(self, recipient: str) -> bool:
        """The receiver took everything: forget the stall, unless more came meanwhile. True if forgotten."""
        stall = self._by_recipient.get(recipient)
        if stall is not None and not stall.queue:
            del self._by_recipient[recipient]
            return True
        return stall is None
