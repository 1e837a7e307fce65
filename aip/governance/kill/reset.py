"""Lowering an order: a reset that distinct operators sign, each for himself, before it counts.

Whoever may raise an order does so alone and at once; making it milder takes `signers` Ed25519 signatures (RFC 8032) of
different registered keys over the canonical JSON (RFC 8785) of the reset. A reset is a small document that passes between people
as a file: it names the fence it is for, the target (`scope`), what shall be left standing (`level`, null: nothing), the epoch of
the order it lowers, why, until when it may be used, and a nonce.

    refused because             what it prevents
    another fence               a reset of the test platform used on the real one
    expired, or too long valid  a forgotten signature used a month later
    nonce spent                 a reset used twice
    nothing stands, epoch       an order that was raised after the signatures were given, lowered by them
    not milder                  a "reset" that raises, and would need no signature
    a signature does not hold   a document changed after it was signed; a key nobody registered
    too few signers             one person, or one key under two names

What it does not guarantee: who may write the operators' folder decides whose keys count.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ...errors import Denied, InvalidPayload
from ..canonical import canonical, from_base64
from .ladder import Level
from .orders import KillOrder, KillOrders

KIND = "aip.kill.reset/1"  # Signed with the rest, so that no signature over anything else can pass for one.
LIFE_DEFAULT_S = 3_600  # Long enough to reach a second person.
LIFE_MAX_S = 86_400  # Who needs longer no longer signs for what he has seen.
SIGNATURES_MAX = 16
DOCUMENT_BYTES_MAX = 64 * 2**10


class ResetRefused(Denied):
    code = "refused.reset"
    default_hint = "see `aip kill status`, and `aip kill reset make TARGET` for a fresh one"


class Reset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    fence: str
    scope: str
    epoch: int
    reason: str
    expires_at: int  # Seconds since the Unix epoch.
    nonce: str
    level: Level | None = None
    rate: int = 0  # Turns a second, where a throttle is left standing. Whole, so that its JSON is the same everywhere.

    def payload(self) -> bytes:
        """What is signed."""
        return canonical({"kind": KIND, **msgspec.to_builtins(self)})


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    operator: str
    signature: str  # Base64.


class SignedReset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reset: Reset
    signatures: tuple[Signature, ...] = ()

    def signed(self, operator: str, key: Ed25519PrivateKey) -> SignedReset:
        """With this operator's signature, in place of an earlier one of the same name."""
        mine = Signature(operator, base64.b64encode(key.sign(self.reset.payload())).decode())
        others = tuple(one for one in self.signatures if one.operator != operator)
        return SignedReset(self.reset, (*others, mine))

    def encode(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self)) + b"\n"


def decode(document: bytes) -> SignedReset:
    """Raises `InvalidPayload` that says what is wrong with it."""
    if len(document) > DOCUMENT_BYTES_MAX:
        raise InvalidPayload(f"a reset of {len(document)} bytes is none")
    try:
        signed = msgspec.json.decode(document, type=SignedReset)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidPayload(
            f"not a reset: {error}", hint="`aip kill reset make TARGET` writes one"
        ) from None
    if len(signed.signatures) > SIGNATURES_MAX:
        raise InvalidPayload(
            f"a reset with {len(signed.signatures)} signatures; {SIGNATURES_MAX} are the most"
        )
    return signed


def make(
    order: KillOrder,
    fence: str,
    reason: str,
    now: float,
    nonce: str,
    life_s: int,
    level: Level | None,
    rate: int,
) -> Reset:
    """A reset for an order that stands, as it stands now."""
    if not 0 < life_s <= LIFE_MAX_S:
        raise ResetRefused(f"a reset may be valid for {LIFE_MAX_S} s at most, not {life_s}")
    reset = Reset(fence, order.target, order.epoch, reason, int(now) + life_s, nonce, level, rate)
    _check_milder(reset, order)
    return reset


def lift(
    signed: SignedReset,
    orders: KillOrders,
    *,
    fence: str,
    operators: Mapping[str, bytes],
    signers: int,
    now: float,
    by: str,
) -> KillOrder:
    """The order that performs this reset. Raises `ResetRefused`. `operators` are the registered public keys by name."""
    reset = signed.reset
    if reset.fence != fence:
        raise ResetRefused("this reset was made for another platform")
    if now >= reset.expires_at:
        raise ResetRefused(f"this reset expired {now - reset.expires_at:.0f} s ago")
    if reset.expires_at > now + LIFE_MAX_S:
        raise ResetRefused(f"this reset would be valid for more than {LIFE_MAX_S} s")
    if not reset.nonce or reset.nonce in orders.spent:
        raise ResetRefused("this reset was used before")
    order = orders.standing.get(reset.scope)
    if order is None:
        raise ResetRefused(f"no order stands against {reset.scope}")
    if order.epoch != reset.epoch:
        raise ResetRefused(
            f"an order on {reset.scope} was raised after this reset was made (epoch {order.epoch}, signed: {reset.epoch})"
        )
    _check_milder(reset, order)
    names = _signers(signed, operators)
    if len(names) < signers:
        raise ResetRefused(
            f"{len(names)} of {signers} signatures: {', '.join(names) or 'nobody'} signed",
            hint="another operator: `aip kill reset sign FILE`, then `aip kill reset submit FILE`",
            needed=signers,
            signed=list(names),
        )
    return KillOrder(
        reset.scope,
        now,
        by,
        reset.reason,
        lifted=True,
        remains=reset.level,
        rate=float(reset.rate),
        nonce=reset.nonce,
        signers=names,
    )


def _check_milder(reset: Reset, order: KillOrder) -> None:
    level = reset.level
    if level is Level.THROTTLE and reset.rate < 1:
        raise ResetRefused("a throttle that is left standing needs a rate of at least 1 a second")
    same = level is order.level
    if level is not None and (level > order.level or (same and not _slower(order, reset.rate))):
        raise ResetRefused(f"{level} is not milder than what stands against {order.target}: {order.level}")


def _slower(order: KillOrder, rate: float) -> bool:
    return order.level is Level.THROTTLE and order.rate < rate


def _signers(signed: SignedReset, operators: Mapping[str, bytes]) -> tuple[str, ...]:
    """Who signed: one name for each key. Raises `ResetRefused` for a signature that does not hold."""
    payload = signed.reset.payload()
    found: dict[bytes, str] = {}
    for one in signed.signatures:
        key = operators.get(one.operator)
        if key is None:
            raise ResetRefused(
                f"{one.operator!r} is no operator of this platform", hint="see `aip kill reset operators`"
            )
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(from_base64(one.signature), payload)
        except (InvalidSignature, ValueError):
            raise ResetRefused(
                f"the signature of {one.operator} does not hold: the reset was changed after it was given"
            ) from None
        found.setdefault(key, one.operator)
    return tuple(found.values())
