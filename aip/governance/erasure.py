"""Personal values in the audit log, and how they are erased from a record that nothing can be erased from.

A note may carry `personal(person, {...})` in its detail. Before the entry is written its values are encrypted with a key of that
person's own (AES-256-GCM), so that the entry, its hash and every proof commit to the ciphertext:

    "personal": {"key": "9f2c…", "sealed": "base64 of nonce and ciphertext"}

To erase a person is to destroy the key. What was sealed with it is noise from then on, in the log, in copies of it and in
exports; not one byte of the log changes, and all proofs hold. The erasure is an entry (`audit.erased`), durable before the key
goes, that names the key and not the person. The same person gets a new key with the next note.

What is guaranteed: values sealed under a destroyed key cannot be read by who has the log only, or the log and all other keys.
A sealed value is bound to its kind of entry and its key: it cannot be moved into an entry of another kind unnoticed. What is not:
that nobody kept a copy of the key (backups of the key folder must be erased too), or wrote the value elsewhere in the entry.
Which values are personal is for the producer to say. Disks may keep old blocks: a key file is overwritten before it is
unlinked, which an SSD or a copy-on-write file system need not honour; there, encrypt the disk.

A nonce is 96 random bits: one key is good for 2^32 values (NIST SP 800-38D section 8.3), more than a log has of one person.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import Corrupt, InvalidPayload
from .canonical import canonical, from_base64, speakable
from .durable_file import sync_folder, write
from .entry import Noted

MEMBER = "personal"
KEY_BYTES = 32
NONCE_BYTES = 12
KEY_ID_BYTES = 16
PERSON_CHARS_MAX = 1_000


class Keys(Protocol):
    """Where persons' keys are. `of` and `destroy` take the person's name, `by_id` what an entry says."""

    def of(self, person: str) -> tuple[str, bytes] | None: ...

    def by_id(self, key_id: str) -> bytes | None: ...

    def add(self, person: str, key_id: str, key: bytes) -> None:
        """Durable when it returns: what is sealed with a key that is lost is lost."""

    def destroy(self, person: str) -> str | None:
        """The id of the key that is no more; none where there was none."""


def personal(person: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """For a note's detail: `{"capability": "mail", **personal("ada@example.org", {"address": …})}`."""
    return {MEMBER: {"of": person, "values": dict(values)}}


class Vault:
    """Seals, opens and forgets. `entropy` is `os.urandom` outside of tests."""

    def __init__(self, keys: Keys, entropy: Callable[[int], bytes]) -> None:
        self._keys = keys
        self._entropy = entropy

    def sealed(self, note: Noted) -> Noted:
        """The note as it may be written down: without plain personal values. Most notes have none and come back as they are."""
        told = note.detail.get(MEMBER)
        if told is None:
            return note
        if not isinstance(told, Mapping) or set(told) != {"of", "values"} or not _is_person(told["of"]):
            # A note that says "personal" and not whose: nothing of it is written, for nobody could ever erase it.
            return msgspec.structs.replace(
                note, detail={**note.detail, MEMBER: {"refused": "not from personal()"}}
            )
        key_id, key = self._key_of(told["of"])
        plain = canonical(speakable(told["values"]))
        nonce = self._entropy(NONCE_BYTES)
        cipher = AESGCM(key).encrypt(nonce, plain, _bound_to(note.kind, key_id))
        sealed = {"key": key_id, "sealed": base64.b64encode(nonce + cipher).decode()}
        return msgspec.structs.replace(note, detail={**note.detail, MEMBER: sealed})

    def opened(self, entry: Mapping[str, Any]) -> dict[str, Any] | None:
        """The personal values of an entry; none where it has none or their key was destroyed."""
        told = entry["detail"].get(MEMBER)
        if told is None or "sealed" not in told:
            return None
        key = self._keys.by_id(told["key"])
        if key is None:
            return None
        try:
            sealed = from_base64(told["sealed"])
            plain = AESGCM(key).decrypt(
                sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _bound_to(entry["kind"], told["key"])
            )
        except (InvalidTag, ValueError):
            raise Corrupt(f"entry {entry['index']}: its personal values are not what was sealed") from None
        values: dict[str, Any] = msgspec.json.decode(plain)
        return values

    def key_id(self, person: str) -> str | None:
        """What the entry about an erasure names; none if nothing of the person is sealed."""
        if not _is_person(person):
            raise InvalidPayload(f"a person's name has 1 to {PERSON_CHARS_MAX} characters")
        known = self._keys.of(person)
        return known[0] if known else None

    def erase(self, person: str) -> str | None:
        """Destroys the person's key; returns its id. `audit.erased` comes before, durably: a crash leaves no erasure untold."""
        return self._keys.destroy(person)

    def _key_of(self, person: str) -> tuple[str, bytes]:
        known = self._keys.of(person)
        if known is None:
            known = self._entropy(KEY_ID_BYTES).hex(), self._entropy(KEY_BYTES)
            self._keys.add(person, *known)
        return known


def _bound_to(kind: str, key_id: str) -> bytes:
    return canonical([kind, key_id])


def _is_person(name: Any) -> bool:
    return isinstance(name, str) and 0 < len(name) <= PERSON_CHARS_MAX


class KeyFolder:
    """Persons' keys in a folder, a file each, for its owner only.

    A file is named by a hash of the person's name: a listing tells nobody who is in the log. Keys that are in use are remembered;
    a folder has one process that adds and destroys.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ids: dict[str, bytes] | None = None

    def of(self, person: str) -> tuple[str, bytes] | None:
        return self._read(self._path(person))

    def by_id(self, key_id: str) -> bytes | None:
        if self._ids is None:
            found = [self._read(path) for path in self._folder.glob("*.key")]
            self._ids = dict(one for one in found if one is not None)
        return self._ids.get(key_id)

    def add(self, person: str, key_id: str, key: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(person)
        temporary = path.with_suffix(".tmp")
        write(temporary, f"{key_id} {key.hex()}\n".encode(), os.O_CREAT | os.O_TRUNC)
        os.rename(temporary, path)
        sync_folder(self._folder)
        self._ids = None

    def destroy(self, person: str) -> str | None:
        path = self._path(person)
        known = self._read(path)
        if known is None:
            return None
        write(path, bytes(path.stat().st_size), 0)
        path.unlink()
        sync_folder(self._folder)
        self._ids = None
        return known[0]

    def _path(self, person: str) -> Path:
        return self._folder / f"{hashlib.sha256(person.encode('utf-8', 'surrogatepass')).hexdigest()}.key"

    @staticmethod
    def _read(path: Path) -> tuple[str, bytes] | None:
        try:
            key_id, _, key = path.read_text().strip("\0\n").partition(" ")
        except FileNotFoundError:
            return None
        if not key_id:
            return None  # Overwritten, and its eraser died before the unlink: it is destroyed.
        return key_id, bytes.fromhex(key)
