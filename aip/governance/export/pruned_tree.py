"""A Merkle tree with whole stretches of leaves cut away: the proof that an export is what the log holds, in order.

The tree is RFC 6962's. Somebody who has *some* of its leaves gets, for each stretch of leaves that he lacks, the fewest node
hashes that stand for it: one for each aligned, perfect subtree of the gap. He hashes what he has, puts the nodes where the gaps
are, and must come to the root that was signed.

    leaves      0 1 2 3 4 5 6 7 8        he has 2, 3, 6
    proof       [0,2) n  [4,6) n  [7,9) n n

Guaranteed: with the right root, each leaf stands at its place and none of his is changed, added, moved or missing; a gap is a
gap of exactly that many leaves. So an export without a gap between its first and its last entry is complete between them.
Not guaranteed: anything about what a gap holds. One leaf and two gaps are an ordinary inclusion proof (at most 2 log2 n hashes);
a contiguous range costs as much, whatever its length. Memory is O(log n) on both sides. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..merkle import leaf_hash, node_hash
from ..tree import EMPTY_ROOT, HASH_BYTES

LEVEL_MAX = 62  # 4.6e18 entries; a proof that names a higher node is no proof.
GAP_NODES_MAX = 2 * LEVEL_MAX


class Nodes(Protocol):
    """Whoever knows the whole tree: `tree.Tree` is one."""

    def range_root(self, first: int, end: int) -> bytes: ...


def cover(first: int, end: int) -> Iterator[tuple[int, int]]:
    """The fewest aligned stretches [first, first + 2**level) that make up [first, end), from left to right, as (first, level)."""
    while first < end:
        alignment = (first & -first).bit_length() - 1 if first else LEVEL_MAX
        level = min(alignment, (end - first).bit_length() - 1)
        yield first, level
        first += 1 << level


def gap_nodes(tree: Nodes, first: int, end: int) -> list[bytes]:
    """What stands for the leaves [first, end) that somebody does not get."""
    return [tree.range_root(at, at + (1 << level)) for at, level in cover(first, end)]


@dataclass(slots=True)
class Frontier:
    """The left part of a tree: the roots of its perfect subtrees, largest first, as the bits of its size are."""

    size: int = 0
    _nodes: list[bytes] = field(default_factory=list)

    def leaf(self, data: bytes) -> None:
        """The next leaf: the bytes of an entry."""
        self._node(0, leaf_hash(data))

    def gap(self, end: int, nodes: Sequence[bytes]) -> None:
        """Leaves up to `end`, by the nodes that stand for them. Raises `ValueError` unless they are as many as must be."""
        for (_, level), digest in zip(list(cover(self.size, end)), nodes, strict=True):
            if len(digest) != HASH_BYTES:
                raise ValueError(f"a node is not {HASH_BYTES} bytes")
            self._node(level, digest)

    def _node(self, level: int, digest: bytes) -> None:
        """A perfect subtree of 2**level leaves that comes next; its place is aligned to its size."""
        carry = self.size >> level
        while carry & 1:
            digest = node_hash(self._nodes.pop(), digest)
            carry >>= 1
        self._nodes.append(digest)
        self.size += 1 << level

    def root(self) -> bytes:
        """RFC 6962's tree hash of what is there."""
        if not self._nodes:
            return EMPTY_ROOT
        digest = self._nodes[-1]
        for left in reversed(self._nodes[:-1]):
            digest = node_hash(left, digest)
        return digest
