"""Merkle tree hash of RFC 6962 section 2.1 (and RFC 9162): what binds many admissions into one audit entry.

MTH({})      = SHA-256()
MTH({d})     = SHA-256(0x00 || d)
MTH(D[n])    = SHA-256(0x01 || MTH(D[0:k]) || MTH(D[k:n])),  k the largest power of two below n
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def tree_head(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf *data*. Folds level by level, so a million leaves need no recursion."""
    if not leaves:
        return hashlib.sha256().digest()
    # Pairing left to right and carrying an odd last node up unchanged gives exactly the RFC's split at powers of two.
    level = [leaf_hash(leaf) for leaf in leaves]
    while len(level) > 1:
        paired = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        if len(level) % 2:
            paired.append(level[-1])
        level = paired
    return level[0]
