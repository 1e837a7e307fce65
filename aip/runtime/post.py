"""The sending side of a cell: outboxes, frames, acks, and the memory of what others have sent.

Guarantees: at most one frame per destination in flight; items to one destination leave in the order they were posted; a frame
that was surely not received is sent again, elsewhere if its receiver moved; of one whose fate is unknown no message is ever
repeated - its calls end in `AgentLost`. Incoming frames of an old generation, or out of their numbering, are refused whole (D4):
frames are numbered over the life of the sending cell, and what was heard of it is remembered even while it is no member, since
a cell may be back that was believed gone. Of a frame whose speaker is known, only what is that one's to say is taken
(`border.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ..errors import AIPError, to_record
from .border import Misspoken
from .envelope import Ack, Envelope, Frame, HandOver, Item, Kind, Reply, decode_ack, encode
from .outbox import Outbox, Stalls
from .ports import CellLost, NotSent, Transport
from .speaker import Speaker

if TYPE_CHECKING:
    from .cell import Cell

UNREACHABLE_PAUSE_S = 0.05  # Between attempts at a cell that does not open its door.
STRANGER_TRIES_MAX = (
    20  # Attempts at one that is no member: a client or a run that is alive opens within a second.
)
CATCH_UP_S = 2.0  # A cell learns of a membership by a push, at the latest with its next heartbeat.
FLUSH_S = 1.0  # How long a cell that leaves waits for its last words to go out.
NOTHING: Mapping[int, str] = {}
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
        self._pumps: dict[asyncio.Task[None], None] = {}
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
            pump = self._cell.start_task(self._pump(destination, box))
            self._pumps[pump] = None
            pump.add_done_callback(lambda done: self._pumps.pop(done, None))

    async def _pump(self, destination: str, box: Outbox) -> None:
        limits = self._cell.limits
        try:
            while box.queue:
                items = box.take(limits.frame_items_max, limits.frame_bytes_max)
                self.frames_sent += 1
                frame = encode(
                    Frame(
                        self._cell.name,
                        self._cell.generation,
                        self.frames_sent,
                        items,
                        self._cell.locator.epoch,
                    )
                )
                try:
                    ack = decode_ack(await self._transport.deliver(destination, frame))
                except NotSent:
                    await self._again(destination, box, items)
                    continue
                except CellLost:
                    self._cell.lost(destination, items)
                except AIPError as refusal:  # It does not hear this cell: nothing of the frame was taken.
                    self._cell.unheard(destination, items, refusal)
                else:
                    self._acknowledged(destination, box, items, ack)
                box.tries = 0
        finally:
            box.busy = False
            if not box.queue and self._cell.locator.generation(destination) is None:
                self._outboxes.pop(destination, None)

    async def _again(self, destination: str, box: Outbox, items: list[Item]) -> None:
        """Nothing arrived. Send what moved to its new place; keep the rest for when the cell opens."""
        box.queue.extendleft(reversed(items))
        box.tries += 1
        await asyncio.sleep(UNREACHABLE_PAUSE_S)
        self.reroute(destination)
        if box.tries >= STRANGER_TRIES_MAX and self._cell.locator.generation(destination) is None:
            self.forget(destination)

    async def flush(self) -> None:
        """What waits leaves, or has had its time."""
        if self._pumps:
            await asyncio.wait(self._pumps, timeout=FLUSH_S)

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
        box = self._outboxes.get(destination)
        if box is None:
            return
        waiting, box.queue = list(box.queue), type(box.queue)()
        for item in waiting:
            if isinstance(item, Envelope):
                self._cell.route(item)
            elif isinstance(item, HandOver):
                for envelope in item.mail:
                    self._cell.route(envelope)

    def _acknowledged(self, destination: str, box: Outbox, items: list[Item], ack: Ack) -> None:
        if not ack.accepted:
            # The receiver knows a newer generation of this cell, so this cell is a ghost; or took this frame already.
            self._cell.lost(destination, items, again=False)
            return
        full: dict[str, list[Envelope]] = {}
        for index in ack.full:
            item = items[index]
            if isinstance(item, Envelope):
                full.setdefault(item.recipient, []).append(item)
        for item in ack.items:
            if isinstance(item, Reply):  # Nothing else is ready within the time that an ack is held.
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

    async def take(
        self, frame: Frame, receive: Callable[[str, Item], bool], speaker: Speaker | None = None
    ) -> Ack:
        """A frame from another cell: everything in it is received, in order; replies ready at once go back with the ack.

        Where its speaker is known, what is not that one's to say is not received, and noted.
        """
        if speaker is not None and (why := self._cell.border.frame(speaker, frame)):
            self._cell.misspoken(speaker, why)
            return Ack(accepted=False)
        known = self._heard.get(frame.source, (-1, 0))
        if (frame.generation, frame.number) <= known:
            return Ack(accepted=False)
        self._heard[frame.source] = (frame.generation, frame.number)
        if frame.epoch > self._cell.locator.epoch:
            await self._catch_up(frame)
        barred = NOTHING if speaker is None else self._cell.border.bars(frame)
        if barred and speaker is not None:
            barred = await self._barred(frame, speaker)
        items = frame.items if not barred else [i for n, i in enumerate(frame.items) if n not in barred]
        calls = {item.id for item in items if isinstance(item, Envelope) and item.kind == 0}
        held = None
        if calls:
            held = Held(calls, asyncio.get_running_loop().create_future())
            self._held.setdefault(frame.source, []).append(held)
        full = [
            index
            for index, item in enumerate(frame.items)
            if not (barred and index in barred) and not receive(frame.source, item)
        ]
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

    async def _barred(self, frame: Frame, speaker: Speaker) -> Mapping[int, str]:
        """What is barred of the frame under the next membership, which may tell more of its source."""
        await self._cell.reached(max(frame.epoch, self._cell.locator.epoch + 1), CATCH_UP_S)
        barred = self._cell.border.bars(frame)
        for index, why in barred.items():
            self._cell.misspoken(speaker, why)
            item = frame.items[index]
            if isinstance(item, Envelope) and item.kind != Kind.TELL:
                self.put(frame.source, Reply(item.id, error=to_record(Misspoken(why))))
        return barred

    async def _catch_up(self, frame: Frame) -> None:
        """Its sender knows a newer membership. Mail that is not ours as far as we know would go back there, and come again."""
        cell = self._cell
        strange = [
            item for item in frame.items if isinstance(item, Envelope) and not cell.serves(item.recipient)
        ]
        if strange:
            await cell.reached(frame.epoch, CATCH_UP_S)


def _open(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
