"""Who asks for an effect: a stamp that the sender's cell makes and the gateway verifies.

A cell holds a key of its own, derived from the platform's stamp key, its name and its generation (HKDF's expand step, RFC 5869,
with one block). It stamps on behalf of the agents it hosts; the MAC covers every field and the digest of the request. So

    forged      a MAC that does not verify, or made with another cell's key            → refused
    altered     another request, agent, incarnation or key under a good MAC            → refused, the MAC does not verify
    stale       older than `AGE_S_MAX`, or from a generation of the cell that a newer one has replaced  → refused
    replayed    the same stamp a second time                                            → refused; a retry makes a new stamp
    void        made with a key that was issued before an order revoked it             → refused, also when that was lowered
    ahead       the sender knew a later kill revision than the gateway does             → refused until the gateway has caught up

What it does not say: that the agent is hosted by that cell, and that its incarnation is the current one. The shard that keeps
the agents' incarnations decides that (semantics A3). And whoever can read the platform's stamp key can stamp as anybody: a
process that must not (a sandboxed child) must not be able to read that file.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import deque
from collections.abc import Callable

import msgspec

from ...errors import PlatformUnavailable, Refused
from ...runtime.envelope import Envelope, Kind

KEY_BYTES = 32
AGE_S_MAX = (
    15.0  # A stamp is made when it is sent, on the same node; a busy machine may need seconds to read it.
)
AHEAD_S_MAX = 2.0  # Clocks of one node agree; of several, a lease apart.
SEEN_MAX = 200_000  # Stamps of one window: 13,000 effects a second. Beyond it the newest is refused, not the check given up.


class StampInvalid(Refused):
    """The request for an effect does not prove who sends it."""

    code = "refused.stamp"
    default_hint = "effects are asked for with ctx.effect(connector, …), by the cell that hosts the agent"


class Stamp(msgspec.Struct, frozen=True, array_like=True):
    cell: str
    generation: int
    agent: str
    incarnation: int
    envelope: str  # Id of the message whose turn asks.
    epoch: int  # The kill fence's revision that the sender knew.
    at: float
    nonce: str
    connector: str
    key: str
    deadline: float
    sender: str = ""  # Who sent that message, and who waits for it: a kill of any of them covers the effect.
    chain: tuple[str, ...] = ()
    run: str = ""
    tenant: str = ""
    capability: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    issued: int = 0  # The newest kill order's epoch when the cell's key was issued.
    mac: bytes = b""

    def told(self) -> Envelope:
        """The message on whose behalf this effect is, as the kill fence and policies look at messages."""
        return Envelope(
            id=self.envelope,
            kind=Kind.CALL,
            sender=self.sender or self.agent,
            recipient=self.agent,
            capability=self.capability,
            payload=b"",
            deadline=self.deadline,
            origin=self.cell,
            run=self.run,
            idempotency_key=self.key,
            tenant=self.tenant,
            chain=self.chain,
            labels=self.labels,
            incarnation=self.incarnation,
        )


def stamp_of(
    cause: Envelope,
    *,
    cell: str,
    generation: int,
    agent: str,
    incarnation: int,
    epoch: int,
    at: float,
    nonce: str,
    connector: str,
    key: str,
    deadline: float,
) -> Stamp:
    """The stamp, still without its MAC, of an agent that asks in the turn of the message `cause`."""
    return Stamp(
        cell=cell,
        generation=generation,
        agent=agent,
        incarnation=incarnation,
        envelope=cause.id,
        epoch=epoch,
        at=at,
        nonce=nonce,
        connector=connector,
        key=key,
        deadline=deadline,
        sender=cause.sender,
        chain=cause.chain,
        run=cause.run,
        tenant=cause.tenant,
        capability=cause.capability,
        labels=cause.labels,
    )


_encode = msgspec.msgpack.Encoder().encode


def cell_key(platform_key: bytes, cell: str, generation: int, issued: int = 0) -> bytes:
    """The stamp key of one generation of one cell, issued at that epoch. Names hold no `#`, so no two cells share one."""
    name = f"aip effect stamp\x00{cell}#{generation}#{issued}\x01"
    return hmac.digest(platform_key, name.encode(), "sha256")


def request_digest(request: bytes) -> bytes:
    return hashlib.sha256(request).digest()


def sealed(stamp: Stamp, key: bytes, request: bytes) -> Stamp:
    """The stamp with its MAC over itself and the request."""
    return msgspec.structs.replace(stamp, mac=_mac(stamp, key, request))


def _mac(stamp: Stamp, key: bytes, request: bytes) -> bytes:
    bare = msgspec.structs.replace(stamp, mac=b"") if stamp.mac else stamp
    return hmac.digest(key, request_digest(request) + _encode(bare), "sha256")


class Stamps:
    """Verifies stamps, and remembers those of the last seconds. Pure; one for each gateway."""

    def __init__(
        self,
        platform_key: bytes,
        revision: Callable[[], int],
        void: Callable[[Envelope, int], Refused | None] = lambda envelope, issued: None,
    ) -> None:
        if len(platform_key) < KEY_BYTES:
            raise ValueError(f"a stamp key has at least {KEY_BYTES} bytes")
        self._platform_key = platform_key
        self._revision = revision
        self._void = void  # Whether what was issued at an epoch was revoked since.
        self._generations: dict[str, int] = {}  # Bounded by the platform's cells: only verified names get in.
        self._seen: set[bytes] = set()
        self._order: deque[tuple[float, bytes]] = deque()

    def verify(self, stamp: Stamp, request: bytes, now: float) -> None:
        """Returns for a stamp that is good, once. Raises `StampInvalid`, or `PlatformUnavailable` where this side is behind."""
        key = cell_key(self._platform_key, stamp.cell, stamp.generation, stamp.issued)
        if not hmac.compare_digest(stamp.mac, _mac(stamp, key, request)):
            raise StampInvalid(f"the stamp of {stamp.cell!r} does not verify", reason="forged")
        if not now - AGE_S_MAX <= stamp.at <= now + AHEAD_S_MAX:
            raise StampInvalid(f"the stamp of {stamp.cell} is {now - stamp.at:.1f} s old", reason="stale")
        newest = self._generations.get(stamp.cell, stamp.generation)
        if stamp.generation < newest:
            raise StampInvalid(
                f"{stamp.cell}#{stamp.generation} was replaced by generation {newest}", reason="stale"
            )
        if stamp.epoch > self._revision():
            raise PlatformUnavailable("the gateway has not seen the kill order that the sender has")
        if (refusal := self._void(stamp.told(), stamp.issued)) is not None:
            raise refusal
        self._once(stamp.mac, now)
        self._generations[stamp.cell] = stamp.generation

    def _once(self, mac: bytes, now: float) -> None:
        while self._order and self._order[0][0] < now - AGE_S_MAX - AHEAD_S_MAX:
            self._seen.discard(self._order.popleft()[1])
        if mac in self._seen:
            raise StampInvalid("this stamp was used before", reason="replayed")
        if len(self._seen) >= SEEN_MAX:
            raise PlatformUnavailable(f"more than {SEEN_MAX} effects were asked for in {AGE_S_MAX:g} s")
        self._seen.add(mac)
        self._order.append((now, mac))
