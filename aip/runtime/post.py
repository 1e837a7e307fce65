"""The sending side of a cell: outboxes, frames, acks, and the memory of what others have sent.

Guarantees: at most one frame per destination in flight; items to one destination leave in the order they were posted; a frame
that was surely not received is sent again, elsewhere if its receiver moved; one whose fate is unknown is never repeated - its
calls end in `AgentLost`. Incoming frames of an old generation, or out of their numbering, are refused whole (D4).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from .envelope import Ack, Envelope, Frame, Item, Reply, decode_ack, encode
from .outbox import Outbox, Stalls
from .ports import CellLost, NotSent, Transport

if TYPE_CHECKING:
    from .cell import Cell

UNREACHABLE_PAUSE_S = 0.05  # Between attempts at a cell that is a member but does not answer its door yet.
ACK_HOLD_S = 0.001  # How long an ack waits for the replies to its own frame: a quick agent answers within one delivery.


class Held:
    """An ack that is being held open for the replies to the frame it acknowledges."""

    __slots__ = ("done", "items", "waiting")

    def __init__(self, waiting: set[str], done: asyncio.Future[None]) -> None:
        self.waiting = waiting
        self.items: list[Item] = []
        self.done = done

    def offer(self, reply: Reply) -> bool:
        if reply.id not in self.waiting:
            return False
        self.waiting.discard(reply.id)
        self.items.append(reply)
        if not self.waiting and not self.done.done():
            self.done.set_result(None)
        return True


class Post:
    def __init__(self, cell: Cell, transport: Transport) -> None:
        self._cell = cell
        self._transport = transport
        self._outboxes: dict[str, Outbox] = {}
        self._heard: dict[str, tuple[int, int]] = {}  # source cell -> (generation, last frame number)
        self._held: dict[str, list[Held]] = {}
        self.stalls = Stalls(cell.limits.stalled_max)
        self.frames_sent = 0

    # Out ------------------------------------------------------------------------------------------------------------

    def put(self, destination: str, item: Item) -> None:
        """Queue one item for another cell and see that it leaves."""
        if isinstance(item, Reply):
            for held in self._held.get(destination, ()):
                if held.offer(item):
                    return
        box = self._outboxes.get(destination)
        if box is None:
            box = self._outboxes[destination] = Outbox()
        box.queue.append(item)
        if not box.busy:
            box.busy = True
            self._cell.start_task(self._pump(destination, box))

    async def _pump(self, destination: str, box: Outbox) -> None:
        limits = self._cell.limits
        try:
            while box.queue:
                items = box.take(limits.frame_items_max, limits.frame_bytes_max)
                box.number += 1
                frame = encode(Frame(self._cell.name, self._cell.generation, box.number, items))
                self.frames_sent += 1
                try:
                    ack = decode_ack(await self._transport.deliver(destination, frame))
                except NotSent:
                    if not await self._again(destination, box, items):
                        return
                except CellLost:
                    self._cell.lost(destination, items)
                else:
                    self._acknowledged(destination, box, items, ack)
        finally:
            box.busy = False

    async def _again(self, destination: str, box: Outbox, items: list[Item]) -> bool:
        """Nothing arrived. Send what moved to its new place; keep the rest for when the cell opens. True: go on pumping."""
        box.queue.extendleft(reversed(items))
        await asyncio.sleep(UNREACHABLE_PAUSE_S)
        if self._cell.locator.generation(destination) is None:
            self.forget(destination)
            return False
        self.reroute(destination)
        return True

    def reroute(self, destination: str) -> None:
        """Envelopes that wait for this cell and whose receiver now lives elsewhere go there; expired ones end."""
        box = self._outboxes.get(destination)
        if box is None:
            return
        locate = self._cell.locator.locate
        moved = box.pull(lambda item: isinstance(item, Envelope) and locate(item.recipient) != destination)
        for item in moved:
            assert isinstance(item, Envelope)
            self._cell.route(item)

    def forget(self, destination: str) -> None:
        """The cell is no longer a member: what waits for agents goes to where they live now, the rest has no reader."""
        box = self._outboxes.pop(destination, None)
        self._heard.pop(destination, None)
        if box is not None:
            waiting, box.queue = list(box.queue), type(box.queue)()
            for item in waiting:
                if isinstance(item, Envelope):
                    self._cell.route(item)

    def _acknowledged(self, destination: str, box: Outbox, items: list[Item], ack: Ack) -> None:
        if not ack.accepted:
            # The receiver knows a newer generation of this cell, so this cell is a ghost; or took this frame already.
            self._cell.lost(destination, items)
            return
        full: dict[str, list[Envelope]] = {}
        for index in ack.full:
            item = items[index]
            if isinstance(item, Envelope):
                full.setdefault(item.recipient, []).append(item)
        for item in ack.items:
            self._cell.receive(destination, item)
        if full:
            for item in box.pull(lambda waiting: isinstance(waiting, Envelope) and waiting.recipient in full):
                assert isinstance(item, Envelope)
                full[item.recipient].append(item)
        for recipient, envelopes in full.items():
            self._cell.stall(recipient, envelopes)
        if self.stalls.any:
            for item in items:
                if (
                    isinstance(item, Envelope)
                    and item.recipient in self.stalls
                    and item.recipient not in full
                ):
                    self._cell.unstall(item.recipient)

    # In -------------------------------------------------------------------------------------------------------------

    async def take(self, frame: Frame, receive: Callable[[str, Item], bool]) -> Ack:
        """A frame from another cell: everything in it is received, in order; replies ready at once go back with the ack."""
        known = self._heard.get(frame.source, (-1, 0))
        if (frame.generation, frame.number) <= known:
            return Ack(accepted=False)
        self._heard[frame.source] = (frame.generation, frame.number)
        calls = {item.id for item in frame.items if isinstance(item, Envelope) and item.kind == 0}
        held = None
        if calls:
            held = Held(calls, asyncio.get_running_loop().create_future())
            self._held.setdefault(frame.source, []).append(held)
        full = [index for index, item in enumerate(frame.items) if not receive(frame.source, item)]
        if held is None:
            return Ack(full=full)
        for index in full:
            item = frame.items[index]
            if isinstance(item, Envelope):
                held.waiting.discard(item.id)
        if held.waiting:
            timer = asyncio.get_running_loop().call_later(ACK_HOLD_S, _open, held.done)
            try:
                await held.done
            finally:
                timer.cancel()
        waiting = self._held[frame.source]
        waiting.remove(held)
        if not waiting:
            del self._held[frame.source]
        return Ack(full=full, items=held.items)


def _open(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
