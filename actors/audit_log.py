"""The audit log's process: appends batches to the hash-chained file, one write each, fsync where somebody waits for it."""

from __future__ import annotations

import asyncio
import os

import msgspec

from aip.errors import AIPError
from aip.governance.audit import Batch, log_path, resume

from .process import Process


class LogUnwritable(AIPError):
    """The audit log's disk refuses. Nothing that waits for a record may go on."""

    code = "audit.unwritable"
    retryable = True


class AuditLog(Process):
    role = "audit"

    async def opened(self) -> None:
        folder = self.site.home.audit
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = log_path(folder)
        self._chain, size = resume(path)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.ftruncate(self._fd, size)
        self._batches = msgspec.msgpack.Decoder(Batch)
        self._written = self._synced = 0
        self._sync_lock = asyncio.Lock()
        self.methods["append"] = self._append
        self.feed._send = self._take  # Its own entries need no way to itself.
        self.task(self.feed.run())

    async def _append(self, payload: bytes) -> bytes:
        await self._take(self._batches.decode(payload))
        return b""

    async def _take(self, batch: Batch) -> None:
        lines = self._chain.lines(batch)
        if lines:
            self._write(lines)
        if batch.durable:
            await self._sync()

    def _write(self, lines: bytes) -> None:
        try:
            written = os.write(self._fd, lines)
            if written != len(lines):
                raise OSError(f"wrote {written} of {len(lines)} bytes")
        except OSError as error:
            # What is on disk and what the chain holds may differ now: start again from the file.
            self._chain, size = resume(log_path(self.site.home.audit))
            os.ftruncate(self._fd, size)
            raise LogUnwritable(f"audit log: {error}") from error
        self._written += len(lines)

    async def _sync(self) -> None:
        """One fsync serves everybody whose lines were written before it began."""
        wanted = self._written
        async with self._sync_lock:
            if self._synced >= wanted and self._written:
                return
            upto = self._written
            await asyncio.to_thread(os.fdatasync, self._fd)
            self._synced = upto

    async def closing(self) -> None:
        await self._sync()
