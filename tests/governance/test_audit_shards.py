"""One root for many logs: an entry of any shard is proved up to it, and no shard can take anything back."""

from __future__ import annotations

import dataclasses

import pytest

from aip.governance import note
from aip.governance.merkle import leaf_hash
from aip.governance.note import Checkpoint, Signer, Unverified
from aip.governance.shards import RootLog, verify_entry, verify_shard
from aip.governance.tree import Tree, consistency_proof, inclusion_proof

ROOT = Signer("root.example", bytes(32))


class Shard:
    def __init__(self, name):
        self.key = Signer(f"shard.example/{name}", name.encode().ljust(32, b"."))
        self.lines = [b'{"of":"%s","n":%d}' % (name.encode(), n) for n in range(50)]
        self.tree = Tree.of(map(leaf_hash, self.lines))

    def note(self, size):
        return note.sign(Checkpoint(self.key.name, size, self.tree.root(size)), self.key)

    def report(self, root, old, new):
        proof = consistency_proof(self.tree, old, new) if 0 < old < new else []
        return root.take(self.note(new), self.key.verifier, proof)


@pytest.fixture
def shards():
    return [Shard(name) for name in "abc"]


@pytest.fixture
def root(shards):
    root = RootLog(ROOT.name)
    for old, new in ((0, 10), (10, 20), (20, 50)):
        for shard in shards:
            shard.report(root, old, new)
    return root


def test_every_entry_of_every_shard_is_proved_up_to_the_root(root, shards):
    point = note.verify(note.sign(root.checkpoint(), ROOT), [ROOT.verifier])
    assert point.size == 9
    for shard in shards:
        proof = root.prove(shard.key.name)
        for index, line in enumerate(shard.lines):
            verify_entry(line, index, inclusion_proof(shard.tree, index), proof, point)
        with pytest.raises(Unverified):
            verify_entry(b"another line", 3, inclusion_proof(shard.tree, 3), proof, point)


def test_a_shards_other_checkpoint_is_not_in_the_root(root, shards):
    proof = root.prove(shards[0].key.name)
    other = dataclasses.replace(proof, checkpoint=dataclasses.replace(proof.checkpoint, size=49))
    with pytest.raises(Unverified):
        verify_shard(other, root.checkpoint())


def test_a_shard_that_takes_something_back_is_not_taken_in(root, shards):
    before = root.checkpoint()
    shard = shards[0]
    for size in (10, 49):
        with pytest.raises(Unverified):
            root.take(shard.note(size), shard.key.verifier)
    shard.tree = Tree.of(map(leaf_hash, reversed(shard.lines)))
    with pytest.raises(Unverified, match="split view"):
        root.take(shard.note(50), shard.key.verifier)
    assert root.checkpoint() == before


def test_nobody_speaks_for_a_shard_but_its_key(root, shards):
    a, b = shards[:2]
    with pytest.raises(Unverified):
        root.take(a.note(50), b.key.verifier)


def test_a_shard_that_rests_adds_nothing(root, shards):
    size = root.checkpoint().size
    assert shards[1].report(root, 50, 50) == root.prove(shards[1].key.name).index
    assert root.checkpoint().size == size


def test_the_root_log_grows_like_any_log_and_comes_back_by_replay(shards):
    root, taken = RootLog(ROOT.name), []
    for old, new in ((0, 5), (5, 9)):
        for shard in shards:
            shard.report(root, old, new)
            taken.append(note.parse(shard.note(new)))
    again = RootLog(ROOT.name)
    again.replay(taken)
    assert again.checkpoint() == root.checkpoint()
    assert again.shards == root.shards
    assert {point.size for point in root.shards.values()} == {9}


def test_an_unknown_shard_has_no_proof(root):
    with pytest.raises(Unverified):
        root.prove("shard.example/z")
