"""What an agent remembers of a conversation: its last turns, bounded by number and by bytes. Pure.

A turn is what was asked and what was answered; tool calls and their results are not kept, they can be made again. The oldest
turns go first.

A checkpoint is the whole memory; of it a shard journals only the one place that differs from the checkpoint before
(`runtime/checkpoint.py`). So turns are encoded one by one, the newest first, and one that is forgotten stays in the state until
there are more of these than of the others. A turn is thus written at most twice, however long the conversation is.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterator
from typing import Any

import msgspec

TURNS_MAX = 1_000
BYTES_MAX = 1 * 2**20  # Each checkpoint carries it; more belongs in a memory store.
STATE_VERSION = 2


class Conversation:
    """The last turns, oldest first."""

    def __init__(self, turns_max: int, bytes_max: int) -> None:
        self._turns: deque[tuple[str, str]] = deque()
        self._frames: deque[bytes] = deque()  # Of the turns, and before them of `_forgotten` older ones.
        self._forgotten = 0
        self._bytes = 0
        self._turns_max = turns_max
        self._bytes_max = bytes_max

    def __len__(self) -> int:
        return len(self._turns)

    def add(self, asked: str, answered: str) -> None:
        """Remember a turn. One that is too large by itself is not remembered, and neither is what came before it."""
        self._take(asked, answered, zlib.compress(msgspec.msgpack.encode((asked, answered))))

    def _take(self, asked: str, answered: str, frame: bytes) -> None:
        self._turns.append((asked, answered))
        self._frames.append(frame)
        self._bytes += _size(asked, answered)
        while self._turns and (len(self._turns) > self._turns_max or self._bytes > self._bytes_max):
            self._bytes -= _size(*self._turns.popleft())
            self._forgotten += 1
        if self._forgotten > len(self._turns):
            for _ in range(self._forgotten):
                self._frames.popleft()
            self._forgotten = 0

    def messages(self) -> Iterator[dict[str, Any]]:
        for asked, answered in self._turns:
            yield {"role": "user", "content": asked}
            yield {"role": "assistant", "content": answered}

    def to_state(self) -> dict[str, Any]:
        return {"version": STATE_VERSION, "turns": list(reversed(self._frames))}

    def restore(self, state: Any) -> None:
        """Take up what `to_state` gave, under today's bounds."""
        if isinstance(state, dict) and state.get("version") == STATE_VERSION:
            for frame in reversed(state["turns"]):
                turn = msgspec.msgpack.decode(zlib.decompress(frame), type=tuple[str, str])
                self._take(*turn, frame)


def _size(asked: str, answered: str) -> int:
    return len(asked.encode()) + len(answered.encode())
