"""One entry with the proof that a signed log holds it: a C2SP tlog-proof (c2sp.org/tlog-proof@v1), in one small text file.

    c2sp.org/tlog-proof@v1
    extra eyJhdCI6…                            the entry's own line; opaque to other tools, and not trusted before the proof holds
    index 73894
    gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=        the inclusion proof, from the leaf's sibling up

    aip.example/audit                          the checkpoint, verbatim
    …

Any tool that reads the format can check the tree and the signatures. Verifying costs O(log n) and needs two public keys at most.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from .. import note
from ..canonical import from_base64
from ..entry import LINE_BYTES_MAX, line_hash
from ..merkle import leaf_hash
from ..tree import PROOF_HASHES_MAX, Unverified, inclusion_proof, verify_inclusion
from .form import NotVerified
from .log_files import LogFiles

MAGIC = "c2sp.org/tlog-proof@v1"
SUFFIX = ".tlog-proof"
PROOF_CHARS_MAX = (
    2 * LINE_BYTES_MAX + 2 * note.NOTE_BYTES_MAX
)  # An entry in base64, some 60 hashes, a checkpoint.


@dataclass(frozen=True, slots=True)
class Proved:
    """An entry that is in the log, and under which checkpoint."""

    entry: dict[str, Any]
    checkpoint: note.Checkpoint
    witnesses: dict[str, int]


def prove(log: LogFiles, index: int) -> str:
    """The proof of one entry under the log's last checkpoint. Raises `NotVerified` where the log does not lead to it."""
    line = log.line(index)
    proof = inclusion_proof(log.tree, index)
    try:
        verify_inclusion(leaf_hash(line), index, log.size, proof, log.root)
    except Unverified as error:
        problem = f"the log on disk is not what its checkpoint signs: {error.message}"
        raise NotVerified(problem, hint="see `aip audit verify`") from None
    hashes = "".join(f"{base64.b64encode(one).decode()}\n" for one in proof)
    return f"{MAGIC}\nextra {base64.b64encode(line).decode()}\nindex {index}\n{hashes}\n{log.note}"


def verify_proof(text: str, trusted: Sequence[note.Verifier], witnesses_min: int = 0) -> Proved:
    """Raises `NotVerified`, which says what does not hold."""
    line, index, proof, checkpoint_text = _parts(text)
    try:
        checkpoint = note.verify(checkpoint_text, trusted, witnesses_min)
        verify_inclusion(leaf_hash(line), index, checkpoint.size, proof, checkpoint.root)
        witnesses = note.opened(checkpoint_text, trusted).witnessed
    except Unverified as error:
        raise NotVerified(
            f"the proof of entry {index}: {error.message}", hint="is --trust the key of this log?"
        ) from None
    entry = msgspec.json.decode(line)
    if not isinstance(entry, dict) or entry.get("index") != index or entry.get("hash") != line_hash(line):
        raise NotVerified(f"leaf {index} of the log is no entry of that number")
    return Proved(entry, checkpoint, witnesses)


def _parts(text: str) -> tuple[bytes, int, list[bytes], str]:
    if len(text) > PROOF_CHARS_MAX:
        raise NotVerified("the file is too long to be the proof of an entry")
    head, gap, checkpoint = text.partition("\n\n")
    magic, *lines = head.split("\n")
    try:
        if magic != MAGIC or not gap:
            raise ValueError("it does not begin as one")
        extra, index, *hashes = lines
        if not extra.startswith("extra ") or not index.startswith("index ") or len(hashes) > PROOF_HASHES_MAX:
            raise ValueError("it has not the entry, its index and its hashes")
        number = int(index.removeprefix("index "))
        if index != f"index {number}" or number < 0:
            raise ValueError("its index is no number")
        line = from_base64(extra.removeprefix("extra "))
        return line, number, [from_base64(one) for one in hashes], checkpoint
    except ValueError as error:
        raise NotVerified(
            f"not the proof of an entry: {error}", hint=f"it is a text that begins {MAGIC}"
        ) from None
