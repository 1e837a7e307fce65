"""Signed notes and checkpoints: the form in which a log says "this is all of me, so far" (C2SP signed-note, tlog-checkpoint).

    aip.example/audit                                          origin: which log
    42                                                         size: how many entries
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=               root: the Merkle root over them

    — aip.example/audit Az3grlgtzPICa5OS8npVmf1Myq/5...        the log's signature, then any witnesses' cosignatures

A key is known by its name and a key id, the first four bytes of SHA-256(name, newline, type, public key). Two types are spoken:
Ed25519 (0x01) is a log's, and Ed25519 cosignature/v1 (0x04, C2SP tlog-cosignature) a witness's, which signs the time too.

What `verify` guarantees: the text was signed by the log it names as its origin, with a key out of `verifiers`; every signature of
a known key holds (one that does not spoils the note, as the specification advises); as many different witnesses as asked for
cosigned it. Signatures of unknown keys are passed over. What it does not: that the log never signed another checkpoint of the
same size. Witnesses are for that.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ..errors import UsageError
from .canonical import from_base64
from .tree import EMPTY_ROOT, HASH_BYTES, Unverified

__all__ = [
    "Checkpoint",
    "Opened",
    "Signer",
    "Unverified",
    "Verifier",
    "cosign",
    "opened",
    "parse",
    "sign",
    "verify",
]

ED25519 = 0x01
COSIGNATURE = 0x04
KEY_BYTES = 32
SIGNATURE_BYTES = 64
NOTE_BYTES_MAX = 64 * 2**10  # Three lines and the signatures; 16 of them, post-quantum ones too, must fit.
SIGNATURES_MAX = 32  # The specification asks for 16 at least.
_MARK = "— "
_PRIVATE = "PRIVATE+KEY"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log commits to: its first `size` entries have this Merkle root."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lines = (self.origin, *self.extensions)
        if any(not line or not line.isprintable() for line in lines):
            raise UsageError("a checkpoint's origin and extensions are lines of printable text, none empty")
        if self.size < 0 or len(self.root) != HASH_BYTES:
            raise UsageError("a checkpoint has a size of 0 or more and a root of 32 bytes")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise UsageError("the root of an empty log is SHA-256 of nothing")

    @property
    def text(self) -> str:
        root = base64.b64encode(self.root).decode()
        return "".join(f"{line}\n" for line in (self.origin, self.size, root, *self.extensions))


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key by its name. Its text form is C2SP's vkey: `name+keyid+base64(type and key)`."""

    name: str
    public: bytes
    kind: int = ED25519

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.kind not in (ED25519, COSIGNATURE) or len(self.public) != KEY_BYTES:
            raise UsageError(f"the key {self.name!r} is not an Ed25519 key of type 1 (log) or 4 (witness)")

    @property
    def key_id(self) -> bytes:
        key = bytes((self.kind,)) + self.public
        return hashlib.sha256(self.name.encode() + b"\n" + key).digest()[:4]

    def __str__(self) -> str:
        key = base64.b64encode(bytes((self.kind,)) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{key}"

    @classmethod
    def parse(cls, vkey: str) -> Verifier:
        name, kind, public = _parse_key(vkey.strip(), "verifier key", "name+keyid+key")
        verifier = cls(name, public, kind)
        if str(verifier) != vkey.strip():
            raise UsageError(f"the key id of {name!r} does not fit its key", hint="copy the whole key again")
        return verifier

    def check(self, text: str, signature: bytes) -> int | None:
        """Raises `Unverified`, or returns the time that a witness's signature states."""
        message, at, proper = text.encode(), None, signature
        if self.kind == COSIGNATURE:
            if len(signature) != SIGNATURE_BYTES + 8:
                raise Unverified(f"the cosignature of {self.name} has the wrong length")
            (at,) = struct.unpack(">Q", signature[:8])
            message, proper = _cosigned(text, at), signature[8:]
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(proper, message)
        except InvalidSignature:
            raise Unverified(f"the signature of {self.name} does not hold") from None
        return at


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key by its name. `str` gives the *public* half; `private_text` is what a key file holds."""

    name: str
    seed: bytes
    kind: int = ED25519

    @property
    def verifier(self) -> Verifier:
        return Verifier(self.name, self._key.public_key().public_bytes_raw(), self.kind)

    @property
    def private_text(self) -> str:
        key = base64.b64encode(bytes((self.kind,)) + self.seed).decode()
        return f"{_PRIVATE}+{self.name}+{self.verifier.key_id.hex()}+{key}"

    @classmethod
    def parse(cls, text: str) -> Signer:
        text = text.strip()
        if not text.startswith(f"{_PRIVATE}+"):
            raise UsageError("not a signing key", hint=f"one begins with {_PRIVATE}+")
        name, kind, seed = _parse_key(text.removeprefix(f"{_PRIVATE}+"), "signing key", "name+keyid+key")
        signer = cls(name, seed, kind)
        if signer.private_text != text:
            raise UsageError(f"the key id of {name!r} does not fit its key")
        return signer

    def line(self, text: str, at_s: int | None = None) -> str:
        """The signature line over a note's text; a witness's states the time."""
        message, stated = text.encode(), b""
        if self.kind == COSIGNATURE:
            if at_s is None or not 0 < at_s < 2**63:
                raise UsageError("a cosignature states its time")
            message, stated = _cosigned(text, at_s), struct.pack(">Q", at_s)
        signature = self.verifier.key_id + stated + self._key.sign(message)
        return f"{_MARK}{self.name} {base64.b64encode(signature).decode()}\n"

    @property
    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    def __repr__(self) -> str:
        return f"Signer({self.verifier})"

    def __str__(self) -> str:
        return str(self.verifier)


@dataclass(frozen=True, slots=True)
class Opened:
    """A verified note: what it says, and which known keys signed it (a witness's with its time)."""

    checkpoint: Checkpoint
    log_keys: tuple[str, ...]
    witnessed: dict[str, int]


def sign(checkpoint: Checkpoint, signer: Signer) -> str:
    """The note, signed by the log. The key's name must be the origin: that is how a reader knows whose word it is."""
    if signer.name != checkpoint.origin:
        raise UsageError(f"{signer.name} signs for itself, not for {checkpoint.origin}")
    return f"{checkpoint.text}\n{signer.line(checkpoint.text)}"


def cosign(note: str, signer: Signer, at_s: int) -> str:
    """The note with one witness's signature behind the others."""
    text, _ = _parts(note)
    return note + signer.line(text, at_s)


def parse(note: str) -> Checkpoint:
    """What an *unverified* note claims: enough to look for the key that it would have to be verified with."""
    return _checkpoint(_parts(note)[0])


def verify(note: str, verifiers: Iterable[Verifier], witnesses_min: int = 0) -> Checkpoint:
    """The checkpoint, if its log and enough witnesses among `verifiers` signed it. Raises `Unverified`."""
    found = opened(note, verifiers)
    checkpoint = found.checkpoint
    if checkpoint.origin not in found.log_keys:
        raise Unverified(f"{checkpoint.origin} has not signed its checkpoint with a key that is trusted here")
    if len(found.witnessed) < witnesses_min:
        raise Unverified(
            f"{len(found.witnessed)} of the {witnesses_min} witnesses asked for cosigned the checkpoint"
        )
    return checkpoint


def opened(note: str, verifiers: Iterable[Verifier]) -> Opened:
    """The note and its known signatures, of which there is at least one; every one of them was checked."""
    text, lines = _parts(note)
    known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    log_keys: list[str] = []
    witnessed: dict[str, int] = {}
    for name, signature in lines:
        verifier = known.get((name, signature[:4]))
        if verifier is None:
            continue
        at = verifier.check(text, signature[4:])
        if at is None:
            log_keys.append(name)
        else:
            witnessed[name] = at
    if not log_keys and not witnessed:
        raise Unverified("no key that is trusted here signed the note")
    return Opened(_checkpoint(text), tuple(log_keys), witnessed)


def _parts(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """The text, and (name, key id and signature) of each signature line."""
    if len(note) > NOTE_BYTES_MAX:
        raise Unverified(f"a note of more than {NOTE_BYTES_MAX} bytes")
    if any((letter < " " and letter != "\n") or "\ud800" <= letter <= "\udfff" for letter in note):
        raise Unverified("a note has no control characters but newlines, and is UTF-8")
    text, gap, signatures = note.rpartition("\n\n")
    if not gap or not signatures.endswith("\n"):
        raise Unverified("not a signed note: a text, an empty line, signature lines")
    lines = signatures.removesuffix("\n").split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise Unverified(f"a note with more than {SIGNATURES_MAX} signatures")
    return f"{text}\n", [_signature(line) for line in lines]


def _signature(line: str) -> tuple[str, bytes]:
    name, gap, encoded = line.removeprefix(_MARK).partition(" ")
    try:
        signature = from_base64(encoded)
    except ValueError:
        signature = b""
    if not line.startswith(_MARK) or not gap or not _is_name(name) or len(signature) < 5:
        raise Unverified("not a signature line: a dash, a name, key id and signature in base64")
    return name, signature


def _checkpoint(text: str) -> Checkpoint:
    origin, *rest = text.removesuffix("\n").split("\n")
    try:
        size, root, *extensions = rest
        decoded = from_base64(root)
        if not size.isascii() or not size.isdigit() or str(int(size)) != size:
            raise ValueError(f"{size!r} is no size")
        return Checkpoint(origin, int(size), decoded, tuple(extensions))
    except (ValueError, UsageError) as error:
        raise Unverified(f"not a checkpoint: {error}", hint="origin, size and root, a line each") from None


def _cosigned(text: str, at_s: int) -> bytes:
    return f"cosignature/v1\ntime {at_s}\n{text}".encode()


def _parse_key(text: str, what: str, form: str) -> tuple[str, int, bytes]:
    parts = text.split("+", 2)
    try:
        name, _, encoded = parts
        key = from_base64(encoded)
    except ValueError:
        raise UsageError(f"not a {what}: {text[:80]!r}", hint=f"it reads {form}") from None
    if len(key) != KEY_BYTES + 1:
        raise UsageError(f"the {what} {name!r} is not an Ed25519 key")
    return name, key[0], key[1:]


def _check_name(name: str) -> None:
    if not _is_name(name):
        raise UsageError(
            f"{name!r} cannot name a key", hint="a name like example.org/log: no spaces, no plus signs"
        )


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(letter.isspace() for letter in name)
