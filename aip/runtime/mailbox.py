"""A mailbox: the bounded queue of one agent, and its memory of whom it has heard how far.

`offer` answers one of three things, at once:
    TAKEN   it stands in the queue
    FULL    there is no room: the sender keeps it and offers again (O3)
    LATE    a later message of the same sender was taken already, or this very one: it must not start any more (D4, O1)
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum

from .envelope import Envelope


class Offer(IntEnum):
    TAKEN = 0
    FULL = 1
    LATE = 2


class Mailbox:
    __slots__ = ("_pairs_max", "_size_max", "queue", "seen")

    def __init__(self, size_max: int, pairs_max: int) -> None:
        self.queue: deque[Envelope] = deque()
        self.seen: dict[str, int] = {}  # sender -> last sequence taken; oldest sender first
        self._size_max = size_max
        self._pairs_max = pairs_max

    def __len__(self) -> int:
        return len(self.queue)

    def offer(self, envelope: Envelope) -> Offer:
        sender = envelope.sender
        if envelope.sequence <= self.seen.get(sender, -1):
            return Offer.LATE
        if len(self.queue) >= self._size_max:
            return Offer.FULL
        self.queue.append(envelope)
        self.seen[sender] = envelope.sequence
        if len(self.seen) > self._pairs_max:
            # Forgetting the longest known sender only forgets how to recognise its very old messages.
            del self.seen[next(iter(self.seen))]
        return Offer.TAKEN

    def take(self) -> Envelope:
        return self.queue.popleft()

    def restore(self, mail: tuple[Envelope, ...], seen: dict[str, int]) -> list[Envelope]:
        """Put handed-over mail in front of what came since, and know what the old owner had taken.

        Returns what came here though the old owner had taken a later message of its sender: it is LATE, and must be told so.
        """
        taken = {envelope.id for envelope in mail}
        came = [e for e in self.queue if e.id not in taken]
        self.queue = deque((*mail, *(e for e in came if e.sequence > seen.get(e.sender, -1))))
        self.seen = {**seen, **{s: max(n, seen.get(s, -1)) for s, n in self.seen.items()}}
        return [e for e in came if e.sequence <= seen.get(e.sender, -1)]

    def discard(self, call_id: str) -> Envelope | None:
        """Take one waiting message out, because nobody waits for its answer any more."""
        for envelope in self.queue:
            if envelope.id == call_id:
                self.queue.remove(envelope)
                return envelope
        return None
