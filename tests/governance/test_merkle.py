"""RFC 6962 section 2.1 against the reference vectors of transparency-dev/merkle (testonly/reference.go, inputs and roots)."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aip.governance.merkle import leaf_hash, node_hash, tree_head

LEAVES = [
    b"",
    b"\x00",
    b"\x10",
    b"\x20\x21",
    b"\x30\x31",
    b"\x40\x41\x42\x43",
    bytes(range(0x50, 0x58)),
    bytes(range(0x60, 0x70)),
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def test_the_empty_tree():
    assert tree_head([]) == hashlib.sha256().digest()


@pytest.mark.parametrize("size", range(1, 9))
def test_reference_roots(size):
    assert tree_head(LEAVES[:size]).hex() == ROOTS[size - 1]


def by_the_rfc(leaves):
    """The recursive definition, word for word."""
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(by_the_rfc(leaves[:split]), by_the_rfc(leaves[split:]))


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=70))
def test_folding_by_levels_is_the_rfcs_recursion(leaves):
    assert tree_head(leaves) == by_the_rfc(leaves)
