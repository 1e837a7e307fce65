"""What travels: envelopes one way, replies and stream parts the other, all inside frames between cells.

An `Envelope` is everything the road may know of a message: who, to whom, what for, on whose behalf, until when. It is
immutable, and its payload stays bytes until the receiver's turn begins (see `codec.py`).

`sequence` orders the messages of one sender: `incarnation << 32 | count`, so it grows over a sender's life *and* over its
re-activations; a receiver starts what it gets from one sender in growing order and drops what comes too late (D4, O1).
`chain` is the path of calls that wait for this one: the receiver in it means a deadlock (O4).
`run` is the run of a plan on whose behalf the message travels, however many agents it went through: kill and audit go by it.
`budget` names the account that pays; the money itself stays with the account's ledger.

A `Frame` is what one cell hands another in one delivery. Frames of one pair of cells are numbered; a receiver accepts growing
numbers of a sender's newest generation only, so a duplicated or overtaken frame is dropped whole.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum

import msgspec

from ..errors import ErrorRecord


class Kind(IntEnum):
    CALL = 0
    TELL = 1
    STREAM = 2


class Envelope(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="E"):
    id: str
    kind: int
    sender: str
    recipient: str
    capability: str
    payload: bytes
    sequence: int = 0
    deadline: float = 0.0  # Seconds since the Unix epoch; 0 for a tell.
    origin: str = ""  # The cell that sent it, where its reply goes.
    run: str = ""
    budget: str = ""
    idempotency_key: str = ""
    conversation: str = ""
    causation: str = ""
    trace: str = ""
    credential: str = ""
    tenant: str = ""
    chain: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    incarnation: int = 0  # The sender's.


class Reply(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="R"):
    """The one answer of a call: a payload, or an error."""

    id: str
    payload: bytes | None = None
    error: ErrorRecord | None = None


class Part(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="S"):
    """One part of a stream, counted from 0. Its end is a `Reply`, whose payload tells how many parts there were."""

    id: str
    number: int
    payload: bytes


class Progress(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="G"):
    """How far a call is, for whoever waits for it. May be lost; never waited for."""

    id: str
    fraction: float | None
    text: str


class Credit(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="W"):
    """The reader of a stream has taken parts up to `number`: its writer may go on."""

    id: str
    number: int


class Cancel(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="X"):
    """The caller no longer waits."""

    id: str
    recipient: str
    reason: str = ""


class Probe(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="P"):
    """Edge-chasing deadlock probe (Chandy, Misra, Haas 1983): follows the calls that `path[-1]` waits for."""

    call_id: str
    origin: str
    path: tuple[str, ...]
    recipient: str


class HandOver(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="H"):
    """The old owner of an agent gives up: its waiting mail in order, and the last sequence it started per sender."""

    agent: str
    incarnation: int
    mail: tuple[Envelope, ...]
    seen: dict[str, int]


class Taken(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="T"):
    """To the caller's cell: its call came here by a detour and waits in this cell now. Whoever watches its life must know."""

    id: str


class Claim(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="C"):
    """The new owner asks the old one to hand an agent over."""

    agent: str
    claimant: str
    epoch: int


Item = Envelope | Reply | Part | Progress | Credit | Cancel | Probe | HandOver | Claim | Taken


class Frame(msgspec.Struct, frozen=True, array_like=True, tag="F"):
    source: str
    generation: int
    number: int
    items: list[Item]
    epoch: int = (
        0  # The sender's: a receiver that is behind and owns nothing of this waits until it has caught up.
    )


class Ack(msgspec.Struct, frozen=True, array_like=True, tag="A"):
    """The receiver took the frame. `full` are indices of envelopes whose mailbox had no room; `items` go back to the source."""

    accepted: bool = True
    full: list[int] = []
    items: list[Item] = []


_encoder = msgspec.msgpack.Encoder()
_frame_decoder = msgspec.msgpack.Decoder(Frame)
_ack_decoder = msgspec.msgpack.Decoder(Ack)


def encode(message: Frame | Ack | Item) -> bytes:
    return _encoder.encode(message)


def decode_frame(data: bytes) -> Frame:
    return _frame_decoder.decode(data)


def decode_ack(data: bytes) -> Ack:
    return _ack_decoder.decode(data)


def digest(envelope: Envelope) -> bytes:
    """SHA-256 over the whole envelope: the leaf of the audit's Merkle root."""
    return hashlib.sha256(_encoder.encode(envelope)).digest()
