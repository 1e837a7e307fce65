"""A tree with stretches cut away has the root of the whole, and no other leaves fit it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.governance.export.pruned_tree import Frontier, cover, gap_nodes
from aip.governance.merkle import leaf_hash, tree_head
from aip.governance.tree import Tree, verify_inclusion

LEAVES = [f"entry {n}".encode() for n in range(200)]


def pruned(leaves: list[bytes], kept: set[int]) -> Frontier:
    """What somebody comes to who has only the kept leaves, and nodes for the rest."""
    tree = Tree.of(map(leaf_hash, leaves))
    frontier = Frontier()
    for index in sorted(kept):
        if frontier.size < index:
            frontier.gap(index, gap_nodes(tree, frontier.size, index))
        frontier.leaf(leaves[index])
    if frontier.size < len(leaves):
        frontier.gap(len(leaves), gap_nodes(tree, frontier.size, len(leaves)))
    return frontier


@given(st.integers(0, 200), st.data())
def test_whatever_is_cut_away_the_root_stays(size: int, data: st.DataObject) -> None:
    kept = data.draw(st.sets(st.integers(0, size - 1))) if size else set()
    assert pruned(LEAVES[:size], kept).root() == tree_head(LEAVES[:size])


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_a_gap_is_covered_by_aligned_stretches_without_overlap(first: int, length: int) -> None:
    at = first
    for start, level in cover(first, first + length):
        assert start == at
        assert start % (1 << level) == 0
        at += 1 << level
    assert at == first + length


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 100, 199])
def test_one_leaf_and_its_gaps_are_an_inclusion_proof(size: int) -> None:
    for index in range(size):
        hashes = len(list(cover(0, index))) + len(list(cover(index + 1, size)))
        assert hashes <= 2 * size.bit_length()
        assert pruned(LEAVES[:size], {index}).root() == tree_head(LEAVES[:size])


@pytest.mark.parametrize("harm", ["one more", "one less", "short"])
def test_a_gap_takes_exactly_the_nodes_that_stand_for_it(harm: str) -> None:
    nodes = gap_nodes(Tree.of(map(leaf_hash, LEAVES)), 0, 7)
    wrong = {"one more": [*nodes, nodes[0]], "one less": nodes[:-1], "short": [*nodes[:-1], b"x"]}[harm]
    with pytest.raises(ValueError):
        Frontier().gap(7, wrong)


@given(st.integers(2, 64), st.data())
def test_swapped_or_changed_leaves_come_to_another_root(size: int, data: st.DataObject) -> None:
    first, second = sorted(data.draw(st.sets(st.integers(0, size - 1), min_size=2, max_size=2)))
    swapped = list(LEAVES[:size])
    swapped[first], swapped[second] = swapped[second], swapped[first]
    frontier = Frontier()
    for leaf in swapped:
        frontier.leaf(leaf)
    assert frontier.root() != tree_head(LEAVES[:size])


def test_it_agrees_with_the_ordinary_inclusion_proof() -> None:
    from aip.governance.tree import inclusion_proof

    tree = Tree.of(map(leaf_hash, LEAVES))
    verify_inclusion(leaf_hash(LEAVES[77]), 77, 200, inclusion_proof(tree, 77), pruned(LEAVES, {77}).root())
