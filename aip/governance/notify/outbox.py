"""The outbox of notifications: what has to be told to whom, until it is told. Pure.

    state of a parcel    record        left by
    queued               Queued        sent -> gone (Settled); not sent -> queued, due later (Failed)
                                       24 h old, or pushed out by newer ones -> gone, and that is said (Settled)

`queue`, `sent` and `failed` return records; whoever calls them journals these and folds them in with `apply`, so a restarted
outbox is what the last one was. A parcel is due at once when it is queued. Each receiver gets its parcels in order, one at a
time: one that is slow, or down, holds up nobody else.

Delivery is at least once: a crash between a receiver's answer and the record sends again, under the same id.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import msgspec

PARCELS_MAX = 10_000  # Some 10 MB. A receiver that is so far behind needs its operator, not more mail.
AGE_MAX_S = 86_400.0
PAUSE_FIRST_S = 1.0
PAUSE_MAX_S = 300.0
JITTER = 0.2  # So that what failed together does not come back together.


class Parcel(msgspec.Struct, frozen=True, array_like=True):
    receiver: str
    id: str
    body: bytes
    queued_at: float
    due_at: float
    attempts: int = 0


class Queued(msgspec.Struct, frozen=True, array_like=True, tag="q"):
    parcel: Parcel


class Failed(msgspec.Struct, frozen=True, array_like=True, tag="f"):
    receiver: str
    id: str
    attempts: int
    due_at: float


class Settled(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """`told` is false for one that was given up."""

    receiver: str
    id: str
    told: bool


Record = Queued | Failed | Settled

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


def encode_record(record: Record) -> bytes:
    return _encoder.encode(record)


def decode_record(data: bytes) -> Record:
    return _decoder.decode(data)


class Outbox:
    def __init__(self) -> None:
        self._parcels: dict[str, dict[str, Parcel]] = {}  # receiver -> id -> parcel, in order

    def __len__(self) -> int:
        return sum(map(len, self._parcels.values()))

    def queue(self, id: str, body: bytes, receivers: Iterable[str], now: float) -> list[Record]:
        """A notification for these receivers. One that is queued under this id already stays as it is."""
        fresh = [name for name in receivers if id not in self._parcels.get(name, {})]
        records: list[Record] = [Queued(Parcel(name, id, body, now, now)) for name in fresh]
        for name in fresh:
            waiting = self._parcels.get(name, {})
            if len(waiting) >= PARCELS_MAX:
                records.append(Settled(name, next(iter(waiting)), told=False))
        return records

    def head(self, receiver: str) -> Parcel | None:
        """What this receiver is to be told next, whether or not it is due."""
        return next(iter(self._parcels.get(receiver, {}).values()), None)

    def sent(self, parcel: Parcel) -> Record:
        return Settled(parcel.receiver, parcel.id, told=True)

    def failed(self, parcel: Parcel, now: float, rng: random.Random, final: bool = False) -> Record:
        """It was not told: again after a pause that doubles, or no more."""
        if final or now - parcel.queued_at >= AGE_MAX_S:
            return Settled(parcel.receiver, parcel.id, told=False)
        doubled = PAUSE_FIRST_S * 2.0 ** min(parcel.attempts, 30)
        pause_s = min(PAUSE_MAX_S, doubled) * (1 + JITTER * (2 * rng.random() - 1))
        return Failed(parcel.receiver, parcel.id, parcel.attempts + 1, now + pause_s)

    def apply(self, record: Record) -> None:
        match record:
            case Queued(parcel=parcel):
                self._parcels.setdefault(parcel.receiver, {})[parcel.id] = parcel
            case Failed():
                waiting = self._parcels.get(record.receiver, {})
                if (known := waiting.get(record.id)) is not None:
                    waiting[record.id] = msgspec.structs.replace(
                        known, attempts=record.attempts, due_at=record.due_at
                    )
            case Settled():
                self._parcels.get(record.receiver, {}).pop(record.id, None)

    def forget(self, known: Iterable[str]) -> list[Record]:
        """Parcels for receivers that are configured no more are given up."""
        gone = self._parcels.keys() - set(known)
        return [Settled(name, id, told=False) for name in sorted(gone) for id in self._parcels[name]]

    def parcels(self) -> list[Parcel]:
        """Everything that waits: the whole state, for a snapshot."""
        return [parcel for waiting in self._parcels.values() for parcel in waiting.values()]

    @classmethod
    def restore(cls, parcels: Iterable[Parcel]) -> Outbox:
        outbox = cls()
        for parcel in parcels:
            outbox.apply(Queued(parcel))
        return outbox
