"""The audit log's process: takes in batches, makes them durable where somebody waits, signs, and asks witnesses.

    append       a producer's batch: written at once; with `durable`, answered after the fsync that many share
    checkpoint   a checkpoint over all that was entered before the question, with the key to verify it
    erase        destroys a person's key; the entry about it is durable first
    retain       drops the bodies of old segments; the entry about it is durable first

A checkpoint is signed a second after an entry at the latest, or after a thousand; one at a time, so that under load each covers
what came during the last one. Witnesses are asked beside that, for the latest one (`witnessing.py`): one that does not answer
holds nothing up.

Entries with personal values are sealed before they are written (`aip.governance.erasure`). A log that does not open, or whose
disk fails, answers no `append`: every effect waits for its record, so there are no effects.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import msgspec

from aip.errors import Corrupt
from aip.governance.audit import Batch
from aip.governance.custody import REASON_CHARS_MAX
from aip.governance.entry import ERASED
from aip.governance.erasure import KeyFolder, Vault
from aip.governance.index import AuditIndex
from aip.governance.key_file import signer_of
from aip.governance.log_writer import LogUnwritable, LogWriter
from aip.governance.retention import Retention, dropped_before
from aip.governance.segments import kept_segments, log_path

from .process import Process, rpc
from .witnessing import Cosigning

__all__ = ["AuditLog", "LogUnwritable"]

CHECKPOINT_EVERY_S = 1.0  # How long an entry is held by the chain alone, before a signature covers it.
CHECKPOINT_ENTRIES = 1_000
INDEX_EVERY_S = 5.0  # A question brings the index up to date itself; this keeps that short.


class AuditLog(Process):
    role = "audit"

    async def opened(self) -> None:
        home = self.site.home
        self._signer = signer_of(home.root / "keys" / "audit.key", "aip/audit", os.urandom)
        self._writer = await asyncio.to_thread(LogWriter, home.audit, self._signer)
        self._vault = Vault(KeyFolder(home.root / "keys" / "persons"), os.urandom)
        self._batches = msgspec.msgpack.Decoder(Batch)
        self._syncing, self._signing = asyncio.Lock(), asyncio.Lock()
        self._many = asyncio.Event()
        self._cosigning = Cosigning(self.peers, self._signer.verifier, self._writer.tree, self.feed.note)
        self.methods["append"] = self._append
        self.methods["checkpoint"] = rpc(self._checkpoint)
        self.methods["erase"] = rpc(self._erase)
        self.methods["retain"] = rpc(self._retain)
        self.feed._send = self._take  # Its own entries need no way to itself.

    def begin(self) -> None:
        self.task(self.feed.run())
        self.task(self._sign_on())
        self.task(self._cosign_on())
        self.task(self._index_on(self.site.home.audit))

    async def _append(self, payload: bytes) -> bytes:
        await self._take(self._batches.decode(payload))
        return b""

    async def _take(self, batch: Batch) -> None:
        sealed = [self._vault.sealed(note) for note in batch.notes]
        self._writer.take(msgspec.structs.replace(batch, notes=sealed))
        if self._writer.size - self._writer.signed >= CHECKPOINT_ENTRIES:
            self._many.set()
        if batch.durable:
            await self._sync()

    async def _sync(self) -> None:
        """One fsync serves everybody whose lines were written before it began."""
        wanted = self._writer.size
        async with self._syncing:
            if self._writer.durable < wanted:
                await asyncio.to_thread(self._writer.sync)

    # Checkpoints

    async def _checkpoint(self) -> dict[str, Any]:
        note = await self._sign()
        return {"note": note, "key": str(self._signer.verifier)}

    async def _sign_on(self) -> None:
        trouble = ""
        while True:
            try:
                async with asyncio.timeout(CHECKPOINT_EVERY_S):
                    await self._many.wait()
            except TimeoutError:
                pass  # A second without many entries: sign for the few.
            self._many.clear()
            if self._writer.size > self._writer.signed:
                try:
                    await self._sign()
                    trouble = ""
                except (OSError, LogUnwritable) as error:
                    if (
                        not trouble
                    ):  # Told once: the disk that refuses a signature has no room for a complaint a second.
                        self.feed.note("audit.not_signed", self.name, {"error": str(error)[:500]})
                    trouble = str(error)

    async def _sign(self) -> str:
        async with self._signing:
            await self._sync()
            if (statement := self._writer.statement()) is not None:
                await asyncio.to_thread(self._writer.publish, *statement)
                self._cosigning.latest(*statement)
            return self._writer.note

    async def _cosign_on(self) -> None:
        while True:
            note = await self._cosigning.next()
            try:
                await asyncio.to_thread(self._writer.publish_witnessed, note)
            except OSError as error:
                self.feed.note("audit.not_signed", self.name, {"error": str(error)[:500]})

    # What is asked rarely

    async def _erase(self, person: str, by: str, reason: str) -> dict[str, Any]:
        key_id = self._vault.key_id(person)
        if key_id is not None:
            self._writer.enter(time.time(), ERASED, key_id, {"by": by, "reason": reason[:REASON_CHARS_MAX]})
            await self._sync()
            await asyncio.to_thread(self._vault.erase, person)
        return {"key": key_id}

    async def _retain(self, keep_days: float, short: bool = False, by: str = "") -> dict[str, Any]:
        """Some segments at a time: whoever wants all that is old enough asks until none is dropped."""
        await self._sign()
        path = log_path(self.site.home.audit)
        segments = await asyncio.to_thread(kept_segments, path)
        end = dropped_before(segments, Retention(keep_days, short), time.time(), self._writer.signed)
        going = await asyncio.to_thread(self._writer.droppable, end)
        self._writer.drop(going, time.time(), by)
        return {"dropped": sum(segment.end - segment.first for segment in going)}

    async def _index_on(self, folder: Path) -> None:
        """A log that cannot be indexed can still be written: the index is made again from it."""
        seen = -1
        while True:
            await asyncio.sleep(INDEX_EVERY_S)
            if self._writer.size != seen:
                seen = self._writer.size
                try:
                    await asyncio.to_thread(_catch_up, folder)
                except Corrupt as error:
                    self.feed.note("audit.index_failed", self.name, {"error": error.message[:500]})
                    return

    async def closing(self) -> None:
        await self._sign()
        # The feed's last entries come after this: its own send goes through `_take`, and needs the file open.


def _catch_up(folder: Path) -> None:
    with AuditIndex(folder) as index:
        index.catch_up()
