from __future__ import annotations

import pytest
from _support.naive_merkle import NaiveTree

from tlog.merkle import EMPTY_ROOT, HASH_BYTES, CompactRange, leaf_hash, node_hash

# The eight leaves that implementations of RFC 6962 have tested themselves with since 2013, and their roots.
KNOWN_ENTRIES = [
    bytes.fromhex(entry)
    for entry in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
KNOWN_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.mark.parametrize("size", range(9))
def test_the_known_trees_have_their_known_roots(size: int) -> None:
    leaves = [leaf_hash(entry) for entry in KNOWN_ENTRIES[:size]]
    assert CompactRange.empty().extend(leaves).root_hash().hex() == KNOWN_ROOTS[size]


@pytest.mark.parametrize("size", range(9))
def test_the_oracle_of_these_tests_gives_the_known_roots_too(size: int) -> None:
    assert NaiveTree(KNOWN_ENTRIES).mth(0, size).hex() == KNOWN_ROOTS[size]


def test_the_empty_root_is_the_hash_of_nothing() -> None:
    assert EMPTY_ROOT.hex() == KNOWN_ROOTS[0]
    assert len(EMPTY_ROOT) == HASH_BYTES


def test_two_child_hashes_as_an_entry_are_not_their_parent() -> None:
    left, right = leaf_hash(b"left"), leaf_hash(b"right")
    assert leaf_hash(left + right) != node_hash(left, right)
    assert node_hash(left, right) != node_hash(right, left)
