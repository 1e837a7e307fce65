"""A signing key in a file that only its owner can read.

The file holds C2SP's text form of the key, so its name - the log's origin, or the witness's - is made once, with the key, and
stays with it. A key file that others can read is refused: what it signs could be anybody's word.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from ..errors import AIPError, UsageError
from .durable_file import write
from .note import ED25519, KEY_BYTES, Signer

KEY_FILE_BYTES_MAX = 4_096


class KeyUnsafe(AIPError):
    """A signing key that cannot be used as it lies there."""

    code = "audit.key_unsafe"


def signer_of(path: Path, prefix: str, entropy: Callable[[int], bytes], kind: int = ED25519) -> Signer:
    """The key in the file; made on first use, as `prefix/` and eight random bytes in hex."""
    try:
        return _read(path)
    except FileNotFoundError:
        signer = Signer(f"{prefix}/{entropy(8).hex()}", entropy(KEY_BYTES), kind)
        _write(path, signer)
        return _read(path)  # Whoever was first: two that start at once must end with one key.


def _read(path: Path) -> Signer:
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        text = file.read(KEY_FILE_BYTES_MAX).decode("utf-8", "replace")
    if stat.S_IMODE(mode) & 0o077:
        raise KeyUnsafe(
            f"others can read the signing key {path}", hint=f"make a new one, or: chmod 600 {path}"
        )
    try:
        return Signer.parse(text)
    except UsageError as error:
        raise KeyUnsafe(f"{path}: {error}", hint="put the right key back from a copy") from None


def _write(path: Path, signer: Signer) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    write(temporary, f"{signer.private_text}\n".encode(), os.O_CREAT | os.O_EXCL)
    try:
        os.link(temporary, path)  # Unlike a rename, this leaves a key alone that is there by now.
    except FileExistsError:
        pass
    finally:
        os.unlink(temporary)
