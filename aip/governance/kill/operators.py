"""Operators and their keys, as files: `AIP_HOME/operators/NAME.pub` counts, `NAME.key` signs.

The public files are the register: whose key lies there may sign resets. A private key need not lie beside it, and with two
signers it should not: each operator keeps his own, and names it with `--key`.
"""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ...errors import Corrupt, NotFound, UsageError
from ...ids import KEY
from ...settings import Home

HEAD = "aip-operator"
OPERATORS_MAX = 1_000
KEY_FILE_BYTES_MAX = 4_096


def folder(home: Home) -> Path:
    return home.root / "operators"


def check_name(name: str) -> str:
    if not KEY.match(name):
        raise UsageError(f"not an operator's name: {name!r}", hint="letters, digits and . _ : + = -")
    return name


def public_keys(home: Home) -> dict[str, bytes]:
    """The register. Raises `Corrupt` for a file that is none of ours: it would silently be nobody."""
    found: dict[str, bytes] = {}
    paths = sorted(folder(home).glob("*.pub")) if folder(home).is_dir() else []
    for path in paths[:OPERATORS_MAX]:
        words = path.read_text(errors="replace").split()
        try:
            head, name, key = words
            raw = base64.b64decode(key, validate=True)
        except ValueError:
            head, name, raw = "", "", b""
        if head != HEAD or len(raw) != 32 or name != path.stem:
            raise Corrupt(f"{path}: not an operator's key; it should read: {HEAD} {path.stem} BASE64")
        found[name] = raw
    return found


def create(home: Home, name: str, key_path: Path | None = None) -> Path:
    """A fresh key pair: the public half registered, the private one at `key_path` (default: beside it). Its path."""
    place = folder(home)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    public = place / f"{check_name(name)}.pub"
    private = key_path or place / f"{name}.key"
    if public.exists() or private.exists():
        raise UsageError(
            f"operator {name} has a key already", hint=f"remove {public} and {private} to give it up"
        )
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(private, pem, 0o600)
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    _write(public, f"{HEAD} {name} {base64.b64encode(raw).decode()}\n".encode(), 0o644)
    return private


def _write(path: Path, data: bytes, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)


def private_key(home: Home, name: str, key_path: Path | None = None) -> Ed25519PrivateKey:
    """Raises `NotFound` where there is none, `UsageError` where others may read it or it is no Ed25519 key."""
    path = key_path or folder(home) / f"{check_name(name)}.key"
    if not path.is_file():
        raise NotFound(f"operator {name} has no key at {path}", hint=f"aip kill reset key {name}")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise UsageError(f"{path} may be read by others", hint=f"chmod 600 {path}")
    data = path.read_bytes()[:KEY_FILE_BYTES_MAX]
    try:
        key = serialization.load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path} holds no private key: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path} holds no Ed25519 key")
    return key
