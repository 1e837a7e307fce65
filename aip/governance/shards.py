"""Many logs, one root: a log of the shards' checkpoints.

Where several audit logs are written (one a node, or a tenant), each has a tree and a checkpoint of its own. A `RootLog` takes in
their checkpoints, one after the other, as the leaves of one more append-only tree. Its root commits to all of them, and its
checkpoint is signed and witnessed like any other: one signature to keep elsewhere, for any number of shards.

    entry ──inclusion──► a shard's checkpoint ──inclusion──► the root log's checkpoint

What is guaranteed: a shard's checkpoint is taken in only if it continues the last one of that shard (the rule of a witness,
with the same proof), so that two readers of the root see the same shards. `verify_entry` checks the whole way and needs no log.
What is not: freshness. A shard that stopped reporting stays where it was; who reads a root sees of each shard how far it is.

A leaf is the text of the shard's checkpoint without signatures. Whose word it is was checked on the way in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .merkle import leaf_hash
from .note import Checkpoint, Unverified, Verifier, verify
from .tree import Tree, inclusion_proof, verify_consistency, verify_inclusion

SHARDS_MAX = 10_000  # Shards of one root: beyond a node each of any cluster that Ray runs.


@dataclass(frozen=True, slots=True)
class ShardProof:
    """That a shard's checkpoint is entry `index` of a root log of `size`."""

    checkpoint: Checkpoint
    index: int
    size: int
    path: tuple[bytes, ...]


class RootLog:
    """Pure: whoever calls it keeps the notes that were taken in, in order, and gives them back to `replay`."""

    def __init__(self, origin: str, tree: Tree | None = None) -> None:
        self.origin = origin
        self._tree = tree if tree is not None else Tree()
        self._latest: dict[str, tuple[int, Checkpoint]] = {}

    def take(self, note: str, shard: Verifier, proof: Sequence[bytes] = ()) -> int:
        """Take in a shard's checkpoint that continues its last one. Returns its index; raises `Unverified`."""
        checkpoint = verify(note, [shard])
        known = self._latest.get(checkpoint.origin)
        if known is None and len(self._latest) >= SHARDS_MAX:
            raise Unverified(f"{checkpoint.origin}: a root log has at most {SHARDS_MAX} shards")
        if known is not None and known[1].size:
            before = known[1]
            verify_consistency(before.size, checkpoint.size, before.root, checkpoint.root, proof)
            if before == checkpoint:
                return known[0]  # Nothing new: a shard that rests adds no leaves.
        return self._enter(checkpoint)

    def replay(self, checkpoints: Iterable[Checkpoint]) -> None:
        """After a restart: what was taken in, in the same order."""
        for checkpoint in checkpoints:
            self._enter(checkpoint)

    @property
    def shards(self) -> dict[str, Checkpoint]:
        """How far each shard is."""
        return {origin: checkpoint for origin, (_, checkpoint) in self._latest.items()}

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.origin, self._tree.size, self._tree.root())

    def prove(self, origin: str) -> ShardProof:
        """For the last checkpoint of a shard, in the root log as it is now."""
        if origin not in self._latest:
            raise Unverified(f"{origin} is no shard of {self.origin}")
        index, checkpoint = self._latest[origin]
        return ShardProof(checkpoint, index, self._tree.size, tuple(inclusion_proof(self._tree, index)))

    def _enter(self, checkpoint: Checkpoint) -> int:
        index = self._tree.size
        self._tree.append([leaf_hash(checkpoint.text.encode())])
        self._latest[checkpoint.origin] = (index, checkpoint)
        return index


def verify_shard(proof: ShardProof, root: Checkpoint) -> Checkpoint:
    """The shard's checkpoint, shown to be in the root log whose verified checkpoint `root` is. Raises `Unverified`."""
    if proof.size != root.size:
        raise Unverified(f"a proof for a root log of {proof.size}, and its checkpoint has {root.size}")
    leaf = leaf_hash(proof.checkpoint.text.encode())
    verify_inclusion(leaf, proof.index, root.size, proof.path, root.root)
    return proof.checkpoint


def verify_entry(line: bytes, index: int, path: Sequence[bytes], shard: ShardProof, root: Checkpoint) -> None:
    """An entry's line (without its newline) all the way up to a verified checkpoint of the root log. Raises `Unverified`."""
    checkpoint = verify_shard(shard, root)
    verify_inclusion(leaf_hash(line), index, checkpoint.size, path, checkpoint.root)
