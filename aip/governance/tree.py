"""The append-only Merkle tree of the audit log, and its proofs (RFC 6962 section 2.1, RFC 9162 sections 2.1.3 and 2.1.4).

What is guaranteed
  - `inclusion_proof` shows that a leaf is in a tree of a given size and root: at most 63 hashes, for any size.
  - `consistency_proof` shows that the smaller tree is the beginning of the larger one: nothing in it was changed, removed or
    moved. That is what makes a log of a list.
  - `verify_inclusion` and `verify_consistency` need nothing but the proof and the two roots. They raise `Unverified`, and treat
    every malformed proof so, too short ones and too long ones too.

What is not: a proof says nothing of whose tree it is. That is a signed checkpoint's part (`note.py`), and that there is no
second tree beside it is the witnesses' (`witness.py`).

A `Tree` keeps leaf hashes and, of each complete subtree of 256 leaves, its root, and of 256 such roots theirs: the levels of
C2SP's tlog-tiles with a tile's height of 8. A level is one append-only run of hashes, so that tile N of level L is its bytes
[8192 N, 8192 (N + 1)) as they stand, the partial tile at the end included. Hashes between two such levels are worked out when
asked for, at most 255 a node: a proof out of a million leaves takes about a millisecond and no more disk than the leaves.

A proof of a consistency from size 0 is an error here as it is in transparency-dev/merkle, whose vectors we follow: RFC 9162
calls it trivially true, which would let a forgotten size pass as a proof.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Protocol

from ..errors import AIPError, Corrupt, UsageError
from .merkle import node_hash

HASH_BYTES = 32
TILE_HEIGHT = 8
TILE_HASHES = 1 << TILE_HEIGHT
PROOF_HASHES_MAX = 63  # tlog-witness: no tree of 2^63 leaves or fewer needs more.
EMPTY_ROOT = hashlib.sha256().digest()
_NODE = repeat(b"\x01")


class Unverified(AIPError):
    """A proof or a signature that does not hold. What it was to show is not shown."""

    code = "audit.unverified"
    default_hint = "treat what it came with as changed; compare with a checkpoint that was kept elsewhere"


class Levels(Protocol):
    """Where a tree keeps its hashes: one append-only run of them a level."""

    def size(self, level: int) -> int:
        """How many hashes the level holds."""

    def read(self, level: int, first: int, count: int) -> bytes:
        """`count` hashes as one string."""

    def append(self, level: int, hashes: bytes) -> None: ...

    def cut(self, level: int, size: int) -> None:
        """Forget all but the first `size` hashes."""


class MemoryLevels:
    """Levels that live as long as the process."""

    def __init__(self) -> None:
        self._levels: list[bytearray] = []

    def size(self, level: int) -> int:
        return len(self._levels[level]) // HASH_BYTES if level < len(self._levels) else 0

    def read(self, level: int, first: int, count: int) -> bytes:
        return bytes(self._levels[level][first * HASH_BYTES : (first + count) * HASH_BYTES])

    def append(self, level: int, hashes: bytes) -> None:
        while len(self._levels) <= level:
            self._levels.append(bytearray())
        self._levels[level] += hashes

    def cut(self, level: int, size: int) -> None:
        if level < len(self._levels):
            del self._levels[level][size * HASH_BYTES :]


class Tree:
    """An append-only tree over leaf *hashes* (`merkle.leaf_hash`), in whatever `Levels` it is given."""

    def __init__(self, levels: Levels | None = None) -> None:
        self._levels = levels if levels is not None else MemoryLevels()
        self._size = self._levels.size(0)
        # A writer that died between two levels left the upper one short: it is made again.
        self.cut(self._size)

    @classmethod
    def view(cls, levels: Levels, size: int) -> Tree:
        """The tree that the first `size` leaves are, for reading only, while its writer goes on."""
        tree = object.__new__(cls)
        tree._levels, tree._size = levels, min(size, levels.size(0))
        return tree

    @classmethod
    def of(cls, leaf_hashes: Iterable[bytes]) -> Tree:
        tree = cls()
        tree.append(leaf_hashes)
        return tree

    @property
    def size(self) -> int:
        return self._size

    def append(self, leaf_hashes: Iterable[bytes]) -> int:
        """Returns the new size."""
        joined = b"".join(leaf_hashes)
        if len(joined) % HASH_BYTES:
            raise UsageError(f"a leaf hash has {HASH_BYTES} bytes")
        if joined:
            self._levels.append(0, joined)
            self._size += len(joined) // HASH_BYTES
            self._complete()
        return self._size

    def cut(self, size: int) -> None:
        """Back to the first `size` leaves: for leaves whose entries a crash took back, never for entries that stand."""
        level, kept = 0, size
        while level == 0 or self._levels.size(level):
            self._levels.cut(level, kept)
            level, kept = level + 1, kept // TILE_HASHES
        self._size = size
        self._complete()

    def leaf(self, index: int) -> bytes:
        if not 0 <= index < self._size:
            raise UsageError(f"leaf {index} of a tree of {self._size}")
        return self._levels.read(0, index, 1)

    def leaves(self, first: int, count: int) -> list[bytes]:
        return _hashes(self._levels.read(0, first, count))

    def root(self, size: int | None = None) -> bytes:
        """The root of the whole tree, or of the tree that its first `size` leaves are."""
        end = self._size if size is None else size
        if not 0 <= end <= self._size:
            raise UsageError(f"a tree of {self._size} leaves has no beginning of {end}")
        return self.range_root(0, end) if end else EMPTY_ROOT

    def range_root(self, first: int, end: int) -> bytes:
        """MTH(D[first:end]) of the RFC. `first` must be where such a range can begin: a multiple of its largest subtree."""
        parts = []
        while first < end:
            height = (end - first).bit_length() - 1
            parts.append(self._subtree(height, first >> height))
            first += 1 << height
        root = parts.pop()
        while parts:
            root = node_hash(parts.pop(), root)
        return root

    def _subtree(self, height: int, index: int) -> bytes:
        """The root of the complete subtree number `index` of those that are `height` high."""
        level, rest = divmod(height, TILE_HEIGHT)
        read = self._levels.read(level, index << rest, 1 << rest)
        if len(read) != HASH_BYTES << rest:
            raise Corrupt(
                f"the tree's level {level} is shorter than its size says", hint="`aip audit verify`"
            )
        return _folded(_hashes(read))

    def _complete(self) -> None:
        """Give every complete tile its hash on the level above."""
        level, below = 0, self._size
        while below >= TILE_HASHES:
            wanted = below // TILE_HASHES
            made = []
            for tile in range(self._levels.size(level + 1), wanted):
                read = self._levels.read(level, tile * TILE_HASHES, TILE_HASHES)
                made.append(_folded(_hashes(read)))
            if made:
                self._levels.append(level + 1, b"".join(made))
            level, below = level + 1, wanted


class Frontier:
    """The right edge of a tree that is only ever appended to: what its root takes, in a few kilobytes whatever its size."""

    def __init__(self) -> None:
        self.size = 0
        self._edge: list[list[bytes]] = [[]]

    def append(self, leaf_hashes: Sequence[bytes]) -> None:
        self.size += len(leaf_hashes)
        self._edge[0] += leaf_hashes
        level = 0
        while len(self._edge[level]) >= TILE_HASHES:
            hashes = self._edge[level]
            whole = len(hashes) - len(hashes) % TILE_HASHES
            made = [_folded(hashes[at : at + TILE_HASHES]) for at in range(0, whole, TILE_HASHES)]
            self._edge[level] = hashes[whole:]
            level += 1
            if level == len(self._edge):
                self._edge.append([])
            self._edge[level] += made

    def root(self) -> bytes:
        root: bytes | None = None
        for hashes in self._edge:  # From the right, so from the smallest subtree up.
            end = len(hashes)
            while end:
                count = end & -end
                part = _folded(hashes[end - count : end])
                root = part if root is None else node_hash(part, root)
                end -= count
        return EMPTY_ROOT if root is None else root


def inclusion_proof(leaves: Tree | Iterable[bytes], index: int, size: int | None = None) -> list[bytes]:
    """PATH(index, D[size]): the hashes beside the way from a leaf up to the root. `leaves`: a tree, or leaf hashes in order."""
    tree = leaves if isinstance(leaves, Tree) else Tree.of(leaves)
    end = tree.size if size is None else size
    if not 0 <= index < end <= tree.size:
        raise UsageError(f"no leaf {index} in the first {end} of {tree.size}")
    first, beside = 0, []
    while end - first > 1:
        middle = first + _split(end - first)
        if index < middle:
            beside.append(tree.range_root(middle, end))
            end = middle
        else:
            beside.append(tree.range_root(first, middle))
            first = middle
    return beside[::-1]


def consistency_proof(
    leaves: Tree | Iterable[bytes], old_size: int, new_size: int | None = None
) -> list[bytes]:
    """PROOF(old_size, D[new_size]): what shows that the first `old_size` leaves are the same in both trees."""
    tree = leaves if isinstance(leaves, Tree) else Tree.of(leaves)
    end = tree.size if new_size is None else new_size
    if not 0 < old_size <= end <= tree.size:
        raise UsageError(f"no proof from {old_size} to {end} in a tree of {tree.size}")
    first, known, beside = 0, True, []
    while old_size != end:
        middle = first + _split(end - first)
        if old_size <= middle:
            beside.append(tree.range_root(middle, end))
            end = middle
        else:
            beside.append(tree.range_root(first, middle))
            first, known = middle, False
    # `known`: what is left is the whole old tree, whose root the verifier has.
    return ([] if known else [tree.range_root(first, end)]) + beside[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """RFC 9162 section 2.1.3.2. `leaf` is a leaf hash."""
    if not 0 <= index < size:
        raise Unverified(f"inclusion: no leaf {index} in a tree of {size}")
    _check_hashes("inclusion", leaf, root, *proof)
    at, last, found = index, size - 1, leaf
    for beside in proof:
        if last == 0:
            raise Unverified("inclusion: the proof is longer than the tree is high")
        if at & 1 or at == last:
            found = node_hash(beside, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, beside)
        at, last = at >> 1, last >> 1
    if last:
        raise Unverified("inclusion: the proof is shorter than the tree is high")
    if found != root:
        raise Unverified(f"inclusion: leaf {index} does not lead to the root of the tree of {size}")


def verify_consistency(
    old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """RFC 9162 section 2.1.4.2, except that a tree of size 0 is an error (see above)."""
    if not 0 < old_size <= new_size:
        raise Unverified(f"consistency: a tree of {old_size} is no beginning of one of {new_size}")
    if old_size == new_size:
        if proof:
            raise Unverified("consistency: trees of one size need no proof")
        if old_root != new_root:
            raise Unverified(f"consistency: two roots for one size, {old_size}: a split view")
        return
    if not proof:
        raise Unverified("consistency: the proof is empty")
    _check_hashes("consistency", old_root, new_root, *proof)
    steps = list(proof) if old_size & (old_size - 1) else [old_root, *proof]
    at, last = old_size - 1, new_size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = steps[0]
    for beside in steps[1:]:
        if last == 0:
            raise Unverified("consistency: the proof is longer than the tree is high")
        if at & 1 or at == last:
            old, new = node_hash(beside, old), node_hash(beside, new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            new = node_hash(new, beside)
        at, last = at >> 1, last >> 1
    if last:
        raise Unverified("consistency: the proof is shorter than the tree is high")
    if old != old_root or new != new_root:
        raise Unverified(
            f"consistency: the tree of {new_size} does not begin with the tree of {old_size}: its past was changed"
        )


def _check_hashes(what: str, *hashes: bytes) -> None:
    if len(hashes) > PROOF_HASHES_MAX + 2 or any(len(one) != HASH_BYTES for one in hashes):
        raise Unverified(f"{what}: not a proof of at most {PROOF_HASHES_MAX} hashes of {HASH_BYTES} bytes")


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << ((count - 1).bit_length() - 1)


def _folded(level: list[bytes]) -> bytes:
    """The root over a power of two of hashes."""
    sha256 = hashlib.sha256
    while len(level) > 1:
        one = iter(level)
        level = [sha256(pair).digest() for pair in map(b"".join, zip(_NODE, one, one, strict=False))]
    return level[0]


def _hashes(joined: bytes) -> list[bytes]:
    return [joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES)]
