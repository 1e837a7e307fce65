"""The Merkle tree and its proofs: RFC 6962 by transparency-dev's vectors, and by trees small enough to try everything."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aip.errors import Corrupt, UsageError
from aip.governance.merkle import leaf_hash, tree_head
from aip.governance.tree import (
    EMPTY_ROOT,
    Frontier,
    MemoryLevels,
    Tree,
    Unverified,
    consistency_proof,
    inclusion_proof,
    verify_consistency,
    verify_inclusion,
)
from aip.governance.tree_files import FileLevels, open_tree

# github.com/transparency-dev/merkle testdata, Apache-2.0; the file names its commit.
VECTORS = json.loads((Path(__file__).parent / "vectors" / "transparency_dev_merkle.json").read_text())


def decoded(text):
    return base64.b64decode(text or "")


def leaves(count):
    return [leaf_hash(b"%d" % n) for n in range(count)]


@pytest.mark.parametrize("name", VECTORS["inclusion"])
def test_a_published_inclusion_proof_holds_or_fails_as_published(name):
    vector = VECTORS["inclusion"][name]

    def check():
        verify_inclusion(
            decoded(vector["leafHash"]),
            vector["leafIdx"],
            vector["treeSize"],
            [decoded(one) for one in vector["proof"] or []],
            decoded(vector["root"]),
        )

    if vector["wantErr"]:
        with pytest.raises(Unverified):
            check()
    else:
        check()


@pytest.mark.parametrize("name", VECTORS["consistency"])
def test_a_published_consistency_proof_holds_or_fails_as_published(name):
    vector = VECTORS["consistency"][name]

    def check():
        verify_consistency(
            vector["size1"],
            vector["size2"],
            decoded(vector["root1"]),
            decoded(vector["root2"]),
            [decoded(one) for one in vector["proof"] or []],
        )

    if vector["wantErr"]:
        with pytest.raises(Unverified):
            check()
    else:
        check()


def test_every_leaf_of_every_small_tree_is_proved_and_no_other_is():
    tree = Tree.of(leaves(20))
    for size in range(1, 21):
        root = tree.root(size)
        for index in range(size):
            proof = inclusion_proof(tree, index, size)
            verify_inclusion(tree.leaf(index), index, size, proof, root)
            for other in range(size):
                if other != index:
                    with pytest.raises(Unverified):
                        verify_inclusion(tree.leaf(index), other, size, proof, root)


def test_every_small_tree_is_proved_to_be_the_beginning_of_every_later_one():
    tree = Tree.of(leaves(20))
    for old in range(1, 21):
        for new in range(old, 21):
            proof = consistency_proof(tree, old, new)
            verify_consistency(old, new, tree.root(old), tree.root(new), proof)
            with pytest.raises(Unverified):
                verify_consistency(old, new, leaf_hash(b"else"), tree.root(new), proof)


@given(st.integers(1, 1_500), st.data())
@settings(max_examples=60, deadline=None)
def test_a_tree_in_levels_has_the_rfcs_root_however_it_grew(size, data):
    tree, edge, at = Tree(), Frontier(), 0
    every = leaves(size)
    while at < size:
        count = data.draw(st.integers(1, size - at))
        tree.append(every[at : at + count])
        edge.append(every[at : at + count])
        at += count
    root = tree_head([b"%d" % n for n in range(size)])
    assert tree.root() == edge.root() == root
    index = data.draw(st.integers(0, size - 1))
    verify_inclusion(every[index], index, size, inclusion_proof(tree, index), root)
    old = data.draw(st.integers(1, size))
    verify_consistency(old, size, tree.root(old), root, consistency_proof(tree, old))


@given(st.data())
def test_no_changed_proof_holds(data):
    tree = Tree.of(leaves(100))
    proof = inclusion_proof(tree, 37)
    at = data.draw(st.integers(0, len(proof) - 1))
    change = data.draw(st.sampled_from(["flip", "drop", "add", "short"]))
    if change == "flip":
        proof[at] = bytes([proof[at][0] ^ data.draw(st.integers(1, 255))]) + proof[at][1:]
    elif change == "drop":
        del proof[at]
    elif change == "add":
        proof.insert(at, proof[at])
    else:
        proof[at] = proof[at][:31]
    with pytest.raises(Unverified):
        verify_inclusion(tree.leaf(37), 37, 100, proof, tree.root())


def test_an_empty_tree_has_the_rfcs_root_and_proves_nothing():
    assert Tree().root() == EMPTY_ROOT == hashlib.sha256().digest()
    with pytest.raises(UsageError):
        inclusion_proof([], 0)
    with pytest.raises(UsageError):
        consistency_proof(leaves(3), 0)


def test_a_level_is_a_run_of_tiles():
    levels = MemoryLevels()
    every = leaves(600)
    Tree(levels).append(every)
    assert levels.read(0, 256, 256) == b"".join(every[256:512])
    assert levels.size(1) == 2
    assert levels.read(1, 1, 1) == tree_head([b"%d" % n for n in range(256, 512)])


def test_a_tree_whose_upper_level_was_lost_makes_it_again(tmp_path):
    levels = FileLevels(tmp_path / "tree", writable=True)
    whole = Tree(levels)
    whole.append(leaves(1_000))
    root = whole.root()
    levels.cut(1, 1)
    with (tmp_path / "tree" / "0").open("ab") as file:
        file.write(b"torn")
    again = Tree(FileLevels(tmp_path / "tree", writable=True))
    assert (again.size, again.root()) == (1_000, root)


def test_a_reader_of_a_growing_tree_sees_the_size_it_asked_for(tmp_path):
    tree = Tree(FileLevels(tmp_path / "tree", writable=True))
    tree.append(leaves(700))
    seen, root = open_tree(tmp_path / "tree", 500), tree.root(500)
    tree.append(leaves(900)[700:])
    assert (seen.size, seen.root()) == (500, root)
    assert inclusion_proof(seen, 3) == inclusion_proof(tree, 3, 500)


def test_a_tree_whose_files_are_gone_says_so(tmp_path):
    levels = FileLevels(tmp_path / "tree", writable=True)
    Tree(levels).append(leaves(300))
    (tmp_path / "tree" / "1").unlink()
    with pytest.raises(Corrupt):
        open_tree(tmp_path / "tree", 300).root()
