"""Messages between us and a server, and what of them is refused before the SDK sees it.

A server may send requests of its own (pings, and what we decline). The SDK answers each in a task; a server that asks without end
and never reads would fill our memory with answers. `OpenRequests` counts what is unanswered.
"""

from __future__ import annotations

import re
from types import TracebackType
from typing import Self

import mcp_types as types
from mcp.shared.message import SessionMessage

from .limits import REQUESTS_OPEN_MAX

OVERSIZED = (
    -32_099
)  # Our own, from the range that JSON-RPC leaves to implementations: an answer we refused to read.

_ID_FIRST = re.compile(rb'\A\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*(\d{1,15})\s*,')
_ID_LAST = re.compile(
    rb',\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*(\d{1,15})\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*\Z'
)

Incoming = SessionMessage | Exception


class OpenRequests:
    """The server's requests that we have not answered."""

    __slots__ = ("_count",)

    def __init__(self) -> None:
        self._count = 0

    def heard(self, message: types.JSONRPCMessage) -> bool:
        """Whether this message is still within bounds."""
        if isinstance(message, types.JSONRPCRequest):
            self._count += 1
        return self._count <= REQUESTS_OPEN_MAX

    def answered(self, message: types.JSONRPCMessage) -> None:
        if isinstance(message, types.JSONRPCResponse | types.JSONRPCError):
            self._count -= 1


class Stream:
    """What the SDK wants of a stream beside its items: a context, and an end that may be told twice."""

    async def aclose(self) -> None:
        return None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def refusal_of(head: bytes, tail: bytes, size: int) -> types.JSONRPCError | None:
    """The error that stands for an answer too large to read, from its first and last bytes; None: whose it was is unknown.

    Every JSON-RPC library writes the id at one end. A server that lies about it harms only calls to itself.
    """
    found = _ID_FIRST.search(head) or _ID_LAST.search(tail)
    if found is None:
        return None
    error = types.ErrorData(code=OVERSIZED, message=f"its answer of {size} bytes is too large to read")
    return types.JSONRPCError(jsonrpc="2.0", id=int(found[1]), error=error)
