"""The courier: one task a receiver, which tells it what waits in the outbox, in order, and tries again when it is due.

Queueing never waits for anybody: `post` journals and wakes the tasks. Time, randomness, the journal and the ways to tell are
handed in.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping

from ...errors import AIPError
from .failure import NotTold
from .outbox import Outbox, Parcel, Record, Settled

Tell = Callable[[Parcel], Awaitable[None]]
ERROR_CHARS_MAX = 300


class Courier:
    def __init__(
        self,
        outbox: Outbox,
        ways: Mapping[str, Tell],
        *,
        keep: Callable[[list[Record]], None],
        note: Callable[[str, str, Mapping[str, object]], None],
        clock: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._outbox = outbox
        self._ways = ways
        self._keep = keep
        self._note = note
        self._clock = clock
        self._rng = rng
        self._wake = {name: asyncio.Event() for name in ways}

    def post(self, id: str, body: bytes, receivers: Iterable[str]) -> None:
        """Queue, durably as the journal is, and go on."""
        names = [name for name in receivers if name in self._ways]
        self._take(self._outbox.queue(id, body, names, self._clock()))
        for name in names:
            self._wake[name].set()

    async def run(self) -> None:
        """Until cancelled."""
        self._take(self._outbox.forget(self._ways))
        async with asyncio.TaskGroup() as group:
            for name in self._ways:
                group.create_task(self._serve(name))

    async def _serve(self, receiver: str) -> None:
        wake = self._wake[receiver]
        while True:
            parcel = self._outbox.head(receiver)
            if parcel is None:
                wake.clear()
                await wake.wait()
            elif (pause_s := parcel.due_at - self._clock()) > 0:
                await asyncio.sleep(pause_s)
            else:
                await self._tell(parcel)

    async def _tell(self, parcel: Parcel) -> None:
        try:
            await self._ways[parcel.receiver](parcel)
        except AIPError as error:
            final = isinstance(error, NotTold) and error.final
            record = self._outbox.failed(parcel, self._clock(), self._rng, final)
            if parcel.attempts == 0:  # Once: what is tried for a day would flood the log.
                detail = {"id": parcel.id, "error": error.message[:ERROR_CHARS_MAX]}
                self._note("notify.failed", parcel.receiver, detail)
        else:
            record = self._outbox.sent(parcel)
        self._take([record])

    def _take(self, records: list[Record]) -> None:
        if not records:
            return
        self._keep(records)
        for record in records:
            self._outbox.apply(record)
            if isinstance(record, Settled):
                kind = "notify.told" if record.told else "notify.given_up"
                self._note(kind, record.receiver, {"id": record.id})
