"""The producing side of the audit: what one process has to account for, on its way to the log.

`admitted` and `note` only append to lists: that is all the hot path pays. A flush turns the admissions since the last one into
one `flush` entry with their Merkle root, numbers everything, and sends it. What could not be sent stays and is sent again; what
would exceed the bound is dropped, counted, and shows in the log as a gap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ..errors import AIPError, PlatformUnavailable
from ..runtime.envelope import Envelope, digest
from .audit import Batch, Noted
from .merkle import tree_head

FLUSH_EVERY_S = 0.2  # An admission is accounted for within this time.
NOTES_MAX = 50_000  # Unsent notes of one process: about 15 MB. Beyond it the log is down, and that is what the gap says.
ADMISSIONS_MAX = 20_000  # One flush entry covers at most this many.
BATCH_MAX = 2_000
ROWS_MAX = 1_000  # Calls of one `messages` entry: a line of the log holds 1 MiB, a row some 300 bytes.
RECORD_TIMEOUT_S = 30.0

Send = Callable[[Batch], Awaitable[None]]


class AuditFeed:
    """`Audit` for a cell or any other actor. `run()` is its flushing task."""

    def __init__(self, producer: str, send: Send, clock: Callable[[], float]) -> None:
        self._producer = producer
        self._send = send
        self._clock = clock
        self._number = 0
        self._admitted: list[Envelope] = []
        self._settled: list[tuple[Envelope, float, float, str]] = []
        self._notes: list[Noted] = []
        self._sending = asyncio.Lock()
        self._sent = 0
        self._durable = 0
        self.dropped = 0

    def admitted(self, envelope: Envelope) -> None:
        admitted = self._admitted
        admitted.append(envelope)
        if len(admitted) >= ADMISSIONS_MAX:
            self._close_admissions()

    def settled(self, envelope: Envelope, started: float, ended: float, code: str) -> None:
        settled = self._settled
        settled.append((envelope, started, ended, code))
        if len(settled) >= ROWS_MAX:
            self._close_settled()

    def note(self, kind: str, subject: str, detail: Mapping[str, Any]) -> None:
        self._number += 1
        if len(self._notes) >= NOTES_MAX:
            self.dropped += 1
            return
        self._notes.append(Noted(self._number, self._clock(), kind, subject, dict(detail)))

    async def record(self, kind: str, subject: str, detail: Mapping[str, Any]) -> None:
        """Returns when the entry is fsynced. Raises `PlatformUnavailable` if the log cannot be reached in time."""
        self.note(kind, subject, detail)
        last = self._number
        try:
            async with asyncio.timeout(RECORD_TIMEOUT_S):
                while self._durable < last:
                    if not await self.flush(durable=True, upto=last):
                        await asyncio.sleep(0.05)
        except TimeoutError:
            raise PlatformUnavailable(
                "the audit log did not confirm an entry that an effect waits for"
            ) from None

    def _close_admissions(self) -> None:
        admitted, self._admitted = self._admitted, []
        if admitted:
            root = tree_head([digest(envelope) for envelope in admitted]).hex()
            self.note("flush", self._producer, {"admitted": len(admitted), "root": root})

    def _close_settled(self) -> None:
        """One entry a run: which calls ended, who asked whom, because of what. `aip run trace` is made of them."""
        settled, self._settled = self._settled, []
        rows: dict[str, list[list[Any]]] = {}
        for envelope, started, ended, code in settled:
            attempt = next((value for name, value in envelope.labels if name == "attempt"), "")
            rows.setdefault(envelope.run, []).append(
                [
                    envelope.id,
                    envelope.causation,
                    attempt,
                    envelope.sender,
                    envelope.recipient,
                    envelope.capability,
                    started,
                    ended,
                    code,
                ]
            )
        for run, found in rows.items():
            self.note("messages", run, {"run": run, "rows": found})

    async def flush(self, durable: bool = False, upto: int = 0) -> bool:
        """Send what waits. False if the log could not be reached; it all stays for the next time."""
        async with self._sending:
            if upto and self._durable >= upto:
                return True  # Somebody's flush took it along while this one waited for its turn.
            self._close_admissions()
            self._close_settled()
            while self._notes or durable:
                notes = self._notes[:BATCH_MAX]
                try:
                    await self._send(Batch(self._producer, notes, durable))
                except AIPError:
                    return False
                del self._notes[: len(notes)]
                if notes:
                    self._sent = notes[-1].number
                if durable and not self._notes:
                    self._durable = self._sent
                    break
        return True

    async def run(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            await self.flush()
