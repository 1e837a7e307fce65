"""Calls that are out: who waits, for whom, until when.

A call is *open* from the guard's yes until its one outcome: the reply, an error made here (deadline, loss of the receiver's
cell, cancellation, deadlock), or the end of this cell. `OpenCalls` is the only place where outcomes are given, which is how
"exactly one" holds (D1): an outcome for a call that is not open is dropped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator

from ..errors import AIPError
from .envelope import Envelope, Part

Listener = Callable[[float | None, str], None]


class Call:
    """One open call. `future` holds the reply's payload; `parts` those of a stream that were not read yet."""

    __slots__ = (
        "arrived",
        "cell",
        "envelope",
        "future",
        "listener",
        "parts",
        "probed",
        "read",
        "started",
        "wake",
    )

    def __init__(self, envelope: Envelope, now: float, future: asyncio.Future[bytes | None]) -> None:
        self.envelope = envelope
        self.future = future
        self.started = now
        self.probed = now
        self.cell = ""  # Where it was sent; "" while it waits to be.
        self.listener: Listener | None = None
        self.parts: deque[bytes] | None = None
        self.arrived = 0
        self.read = 0
        self.wake: asyncio.Event | None = None

    def take_part(self, part: Part) -> None:
        """Parts come in order and once; anything else is a duplicate of the way and is dropped."""
        if self.parts is not None and part.number == self.arrived:
            self.parts.append(part.payload)
            self.arrived += 1
            if self.wake is not None:
                self.wake.set()


class OpenCalls:
    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: dict[str, Call] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[Call]:
        return iter(list(self._calls.values()))

    def open(self, call: Call) -> None:
        self._calls[call.envelope.id] = call

    def get(self, call_id: str) -> Call | None:
        return self._calls.get(call_id)

    def answer(self, call_id: str, payload: bytes | None) -> bool:
        call = self._calls.pop(call_id, None)
        if call is None or call.future.done():
            return False
        call.future.set_result(payload)
        if call.wake is not None:
            call.wake.set()
        return True

    def fail(self, call_id: str, error: AIPError) -> bool:
        call = self._calls.pop(call_id, None)
        if call is None or call.future.done():
            return False
        call.future.set_exception(error)
        if call.wake is not None:
            call.wake.set()
        return True

    def close(self, call_id: str) -> None:
        """The caller is gone or has its outcome."""
        self._calls.pop(call_id, None)

    def placed(self, call_id: str, cell: str) -> None:
        """The call went to this cell; "" where it came back and waits here."""
        call = self._calls.get(call_id)
        if call is not None:
            call.cell = cell

    def of_sender(self, address: str) -> list[Call]:
        return [call for call in self._calls.values() if call.envelope.sender == address]

    def sent_to(self, cell: str) -> list[Call]:
        return [call for call in self._calls.values() if call.cell == cell]
