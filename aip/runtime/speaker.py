"""Who speaks: how a process proves its name and generation to another, once for each connection or once for each Ray call.

    over a socket    hearer ──challenge──► speaker ──proof──► hearer      then every request on this line is the speaker's
    over Ray         speaker ──request, seal──► hearer                    one MAC for each call, which carries a whole frame

A speaker's key is derived from the platform's link key, its name and its generation. A proof is a MAC over the challenge and the
hearer's name; a seal is one over the hearer's name, the method, the payload's digest, the time and a nonce. So

    unproven    no proof, or no seal                                                     → refused
    forged      a MAC that does not verify, or is meant for another hearer or challenge  → refused
    altered     another method or payload under a good seal                              → refused, the MAC does not verify
    stale       an older generation than was heard of that name, or a seal older than `SEAL_AGE_S_MAX`  → refused
    replayed    the same seal a second time                                              → refused; a retry makes a new one

What it proves: that the speaker holds a key of this platform. What it does not: *which* holder it is, where several can read the
link key. All processes of one account can read it from the platform's folder, so between them a name is a declaration, kept to by
code that has not been made to lie; who has the network, a handle or the cluster's token and not that folder, gets nowhere. Nor
does the hearer prove itself: a socket's folder belongs to its user alone, and Ray says who an actor is.

Pure: keys, time and randomness are handed in. Sources: RFC 2104 (HMAC); RFC 5869, section 2.3, for the derivation.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar

import msgspec

from ..errors import PlatformUnavailable, Refused

CHALLENGE_BYTES = 16
SEAL_AGE_S_MAX = 15.0  # As an effect's stamp: a busy machine may need seconds to read what was sent.
AHEAD_S_MAX = 2.0  # Clocks of one node agree; of several, a lease apart.
SEALS_MAX = 200_000  # Of one window. Beyond it the newest is refused, not the check given up.
NAMES_MAX = 100_000  # Whose newest generation is remembered: every run of a platform's life has a name.


class Unproven(Refused):
    """A request does not prove which process of this platform sends it."""

    code = "refused.speaker"
    default_hint = "the road is for processes of this platform: use `aip.connect()`, or `aip call`"


class Speaker(msgspec.Struct, frozen=True, array_like=True):
    name: str
    generation: int

    def __str__(self) -> str:
        return f"{self.name}#{self.generation}"


VISITOR = Speaker("client", 0)  # All clients speak under this name: whoever may open the sockets may be one.
SPEAKER: ContextVar[Speaker | None] = ContextVar("speaker", default=None)  # Whose request is being handled.


class Proof(msgspec.Struct, frozen=True, array_like=True):
    speaker: Speaker
    mac: bytes


class Seal(msgspec.Struct, frozen=True, array_like=True):
    speaker: Speaker
    at: float
    nonce: bytes
    mac: bytes = b""


_encode = msgspec.msgpack.Encoder().encode
_proof = msgspec.msgpack.Decoder(Proof)
_seal = msgspec.msgpack.Decoder(Seal)


def speaker_key(link_key: bytes, speaker: Speaker) -> bytes:
    """Names hold no `#`, so no two speakers share one."""
    return hmac.digest(link_key, f"aip speaker\x00{speaker}\x01".encode(), "sha256")


def _proof_mac(key: bytes, hearer: str, challenge: bytes) -> bytes:
    return hmac.digest(key, _encode(("proof", hearer, challenge)), "sha256")


def _seal_mac(key: bytes, hearer: str, method: str, payload: bytes, seal: Seal) -> bytes:
    said = ("seal", hearer, method, hashlib.sha256(payload).digest(), seal.at, seal.nonce)
    return hmac.digest(key, _encode(said), "sha256")


class Voice:
    """The speaking side of one process. `speaker` is asked each time: a restarted root learns its generation late."""

    def __init__(self, speaker: Callable[[], Speaker], key_of: Callable[[Speaker], bytes]) -> None:
        self._speaker = speaker
        self._key_of = key_of

    def prove(self, hearer: str, challenge: bytes) -> bytes:
        speaker = self._speaker()
        return _encode(Proof(speaker, _proof_mac(self._key_of(speaker), hearer, challenge)))

    def seal(self, hearer: str, method: str, payload: bytes, now: float, nonce: bytes) -> bytes:
        speaker = self._speaker()
        bare = Seal(speaker, now, nonce)
        mac = _seal_mac(self._key_of(speaker), hearer, method, payload, bare)
        return _encode(msgspec.structs.replace(bare, mac=mac))


class Door:
    """The hearing side of one process."""

    def __init__(self, hearer: str, link_key: bytes) -> None:
        self._hearer = hearer
        self._link_key = link_key
        self._newest: dict[str, int] = {}  # Only verified names get in.
        self._seen: set[bytes] = set()
        self._order: deque[tuple[float, bytes]] = deque()

    def enter(self, challenge: bytes, proof: bytes) -> Speaker:
        """Who has answered this challenge. Raises `Unproven`."""
        try:
            given = _proof.decode(proof)
        except msgspec.DecodeError:
            raise Unproven("what was sent as a proof is none", reason="unproven") from None
        key = speaker_key(self._link_key, given.speaker)
        if not hmac.compare_digest(given.mac, _proof_mac(key, self._hearer, challenge)):
            raise Unproven(f"the proof of {given.speaker} does not verify", reason="forged")
        self._hear(given.speaker)
        return given.speaker

    def open(self, seal: bytes, method: str, payload: bytes, now: float) -> Speaker:
        """Who has sealed this request, once. Raises `Unproven`, or `PlatformUnavailable` where there are too many."""
        try:
            given = _seal.decode(seal)
        except msgspec.DecodeError:
            raise Unproven(
                f"a call of {self._hearer} through Ray without a seal", reason="unproven"
            ) from None
        speaker, key = given.speaker, speaker_key(self._link_key, given.speaker)
        if not hmac.compare_digest(given.mac, _seal_mac(key, self._hearer, method, payload, given)):
            raise Unproven(f"the seal of {speaker} does not verify", reason="forged")
        if not now - SEAL_AGE_S_MAX <= given.at <= now + AHEAD_S_MAX:
            raise Unproven(f"the seal of {speaker} is {now - given.at:.1f} s old", reason="stale")
        self._hear(speaker)
        self._once(given.mac, now)
        return speaker

    def hears(self, speaker: Speaker) -> bool:
        """Whether a speaker that entered before may go on: no newer generation of it was heard since."""
        return self._newest.get(speaker.name, speaker.generation) <= speaker.generation

    def _hear(self, speaker: Speaker) -> None:
        if not self.hears(speaker):
            newest = self._newest[speaker.name]
            raise Unproven(f"{speaker} was replaced by generation {newest}", reason="stale")
        if speaker.name not in self._newest and len(self._newest) >= NAMES_MAX:
            del self._newest[next(iter(self._newest))]
        self._newest[speaker.name] = speaker.generation

    def _once(self, mac: bytes, now: float) -> None:
        while self._order and self._order[0][0] < now - SEAL_AGE_S_MAX - AHEAD_S_MAX:
            self._seen.discard(self._order.popleft()[1])
        if mac in self._seen:
            raise Unproven("this seal was used before", reason="replayed")
        if len(self._seen) >= SEALS_MAX:
            raise PlatformUnavailable(f"more than {SEALS_MAX} calls through Ray within {SEAL_AGE_S_MAX:g} s")
        self._seen.add(mac)
        self._order.append((now, mac))
