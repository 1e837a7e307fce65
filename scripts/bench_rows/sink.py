"""An HTTP sink in a process of its own: notes when the first bytes of each request reached it, and answers 204.

    sink.py PAGE          prints its port, serves until its standard input ends

The page is words of 64 bits in shared memory: the number of requests, then the moment of each, in nanoseconds of
CLOCK_MONOTONIC, which all processes of a machine share. A moment is the sink's own reading: a sink that waits for a processor
notes a request later than it came, never earlier. Nothing of AIP is imported here.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import sys
import time
from pathlib import Path

ARRIVALS_MAX = 2_000_000  # 16 MB; a run that sends more is longer than this page was made for.
_ANSWER = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"
_END_OF_HEAD = b"\r\n\r\n"


def page(path: Path) -> memoryview:
    """The words, for the sink and for whoever reads them. Made by whoever is first."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        size = (ARRIVALS_MAX + 1) * 8
        if os.fstat(descriptor).st_size < size:
            os.ftruncate(descriptor, size)
        return memoryview(mmap.mmap(descriptor, size)).cast("Q")
    finally:
        os.close(descriptor)


class Sink(asyncio.Protocol):
    """One connection. Requests have a Content-Length; whatever else comes ends it."""

    def __init__(self, words: memoryview) -> None:
        self._words = words
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        if not self._buffer:
            self._note(now_ns)
        self._buffer += data
        while (whole := self._whole()) is not None:
            self._transport.write(_ANSWER)  # type: ignore[attr-defined]
            self._buffer = self._buffer[whole:]
            if self._buffer:
                self._note(now_ns)

    def _note(self, now_ns: int) -> None:
        count = self._words[0]
        self._words[count + 1] = now_ns
        self._words[0] = count + 1

    def _whole(self) -> int | None:
        """The length of the first request in the buffer, once all of it is there."""
        head, found, _ = self._buffer.partition(_END_OF_HEAD)
        if not found:
            return None
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        end = len(head) + len(_END_OF_HEAD) + length
        return end if len(self._buffer) >= end else None


async def serve(path: Path) -> None:
    words, loop = page(path), asyncio.get_running_loop()
    server = await loop.create_server(lambda: Sink(words), "127.0.0.1", 0, backlog=1_024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
