"""What parent and child say to each other: frames of MessagePack over one socket pair. Pure.

    parent → child    Load · Begin · Cancel · More · Act · Answer
    child → parent    Loaded · Ask · Drop · Next · Acted · Progress · Log · Part · Done

A frame is four bytes of length (big-endian) and one of these, as a tagged array. Values of agents travel inside as bytes that the
frame's reader does not open. The parent takes a frame only whole, within its bounds and of the second row; anything else is
`BrokenFrame`, and the end of the child. Order is the socket's; a turn, an ask and a part are numbers given by who begins them.
"""

from __future__ import annotations

import struct
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ...errors import AIPError, ErrorRecord
from .limits import BYTES_PER_S, FRAME_BYTES_MAX, LOG_CHARS_MAX, NOTES_PER_S

_LENGTH = struct.Struct(">I")
HEADER_BYTES = _LENGTH.size

Number = Annotated[int, Meta(ge=0, le=2**48)]
Name = Annotated[str, Meta(max_length=256)]
Line = Annotated[str, Meta(max_length=LOG_CHARS_MAX)]


class BrokenFrame(AIPError):
    """Bytes that are no frame: their sender is broken or hostile, and nothing after them can be read."""

    code = "sandbox.broken_frame"


class Frame(msgspec.Struct, frozen=True, array_like=True, tag=True, forbid_unknown_fields=True):
    pass


class Load(Frame, frozen=True):
    """Import this agent class. Answered by `Loaded`."""

    entry: str
    config: dict[str, Any] | None  # None: only to see what it can do.


class About(msgspec.Struct, frozen=True, array_like=True):
    """What `Context` tells of a turn."""

    agent: str
    sender: str
    run: str
    idempotency_key: str
    labels: dict[str, str]
    remaining_s: float | None
    restored: bytes | None = None


class Begin(Frame, frozen=True):
    """A turn. `what` is start, stop, failure, call or stream."""

    turn: int
    what: str
    about: About
    capability: str = ""
    arguments: bytes = b"\xc0"
    error: ErrorRecord | None = None


class Cancel(Frame, frozen=True):
    turn: int


class More(Frame, frozen=True):
    """One more part of this turn's stream may come."""

    turn: int


class Act(Frame, frozen=True):
    """The intent of this effect is durable: do it."""

    ask: int


class Answer(Frame, frozen=True):
    """To an `Ask`. With `last` False it is one part of a stream, and the next comes when asked for."""

    ask: int
    value: bytes | None = None
    error: ErrorRecord | None = None
    last: bool = True


class Loaded(Frame, frozen=True):
    manifest: bytes | None = None
    error: ErrorRecord | None = None


class Ask(Frame, frozen=True):
    """Do this in my turn (`errands.py` has the verbs). `part` is 0, or a budget split off."""

    turn: Number
    ask: Number
    part: Number
    verb: Name
    arguments: bytes


class Drop(Frame, frozen=True):
    """Nobody waits for this ask any more."""

    ask: Number


class Next(Frame, frozen=True):
    """The next part of this ask's stream."""

    ask: Number


class Acted(Frame, frozen=True):
    ask: Number
    value: bytes | None = None
    error: ErrorRecord | None = None


class Progress(Frame, frozen=True):
    turn: Number
    fraction: float | None
    text: Line


class Log(Frame, frozen=True):
    turn: Number
    level: Annotated[int, Meta(ge=0, le=50)]
    text: Line


class Part(Frame, frozen=True):
    turn: Number
    value: bytes


class Done(Frame, frozen=True):
    turn: Number
    value: bytes | None = None
    error: ErrorRecord | None = None


ToChild = Load | Begin | Cancel | More | Act | Answer
ToParent = Loaded | Ask | Drop | Next | Acted | Progress | Log | Part | Done

_encode = msgspec.msgpack.Encoder().encode
_to_child: msgspec.msgpack.Decoder[ToChild] = msgspec.msgpack.Decoder(ToChild)
_to_parent: msgspec.msgpack.Decoder[ToParent] = msgspec.msgpack.Decoder(ToParent)


def packed(frame: Frame) -> bytes:
    body = _encode(frame)
    if len(body) > FRAME_BYTES_MAX:
        raise BrokenFrame(f"a frame of {len(body)} bytes exceeds the limit of {FRAME_BYTES_MAX}")
    return _LENGTH.pack(len(body)) + body


def length_of(header: bytes) -> int:
    """Of the body that follows. Raises `BrokenFrame` before anything of that size is made room for."""
    length: int = _LENGTH.unpack(header)[0]
    if not 0 < length <= FRAME_BYTES_MAX:
        raise BrokenFrame(f"a frame that says it has {length} bytes")
    return length


def from_parent(body: bytes) -> ToChild:
    return _to_child.decode(body)


def from_child(body: bytes) -> ToParent:
    try:
        return _to_parent.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BrokenFrame(f"not a frame: {str(error)[:200]}") from None


def line(text: str) -> str:
    """A child's text for a person or a log: one line, without what steers a terminal or begins another line."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


class Pace:
    """How long to wait before the next frame is read, so that one child's talk costs its cell a bounded share of its time."""

    def __init__(
        self, now_s: float, count_per_s: float = NOTES_PER_S, bytes_per_s: float = BYTES_PER_S
    ) -> None:
        self._count_s = 1.0 / count_per_s
        self._byte_s = 1.0 / bytes_per_s
        self._free_at_s = now_s

    def took(self, size_bytes: int, now_s: float) -> float:
        """One more of this size came. A second's worth may come at once; what is beyond waits."""
        cost_s = self._count_s + size_bytes * self._byte_s
        self._free_at_s = max(self._free_at_s, now_s) + cost_s
        return max(0.0, self._free_at_s - now_s - 1.0)
