"""Whole consistency paths: made by naive trees, and convicting exactly the forked ones."""

from __future__ import annotations

import pytest
from _support.naive_merkle import NaiveTree, SparseTree, path, proof
from hypothesis import given
from hypothesis import strategies as st

from tlog.errors import OutOfRangeError, ProofError
from tlog.merkle import (
    consistency_path_from_inclusion_proof,
    prove_consistency_path,
    roots_from_consistency_path,
    verify_consistency,
    verify_fork,
)

MOST = 64
HONEST = NaiveTree([b"entry %d" % number for number in range(MOST)])
PAIRS = [(size1, size2) for size2 in range(2, MOST + 1) for size1 in range(1, size2)]


def is_power_of_two(size: int) -> bool:
    return size & (size - 1) == 0


def read_node(tree: NaiveTree | SparseTree, level: int, index: int) -> bytes:
    return tree.mth(index << level, (index + 1) << level)


def path_of(tree: NaiveTree | SparseTree, size1: int, size2: int) -> list[bytes]:
    return prove_consistency_path(lambda level, index: read_node(tree, level, index), size1, size2)


def forked_at(leaf: int) -> NaiveTree:
    """The tree that is the honest one but for one leaf."""
    entries = list(HONEST.entries)
    entries[leaf] = b"another entry"
    return NaiveTree(entries)


FORKED = [forked_at(leaf) for leaf in range(MOST)]


def test_the_path_is_the_proof_of_the_rfc_with_its_first_node() -> None:
    for size1, size2 in PAIRS:
        rfc = proof(HONEST.mth, size1, size2)
        first = [HONEST.mth(0, size1)] if is_power_of_two(size1) else []
        whole = path_of(HONEST, size1, size2)
        assert whole == first + rfc
        roots = roots_from_consistency_path(size1, size2, whole)
        assert roots == (HONEST.mth(0, size1), HONEST.mth(0, size2))


def test_every_pair_of_forked_trees_is_convicted_wherever_they_fork() -> None:
    """The larger tree is the honest one, and the smaller one differs in one leaf; every size, every leaf."""
    for size1, size2 in PAIRS:
        root2, whole = HONEST.mth(0, size2), path_of(HONEST, size1, size2)
        for leaf in range(size1):
            verify_fork(size1, size2, whole, FORKED[leaf].mth(0, size1), root2)


def test_trees_that_agree_are_not_convicted_by_any_path() -> None:
    """Neither by the true path, nor by that of a fork, nor by one that is put together from both."""
    for size1, size2 in PAIRS:
        root1, root2 = HONEST.mth(0, size1), HONEST.mth(0, size2)
        whole = path_of(HONEST, size1, size2)
        with pytest.raises(ProofError, match="the two agree"):
            verify_fork(size1, size2, whole, root1, root2)
        for leaf in {0, size1 - 1, size1 // 2}:
            other = path_of(FORKED[leaf], size1, size2)
            with pytest.raises(ProofError, match="not of that tree"):
                verify_fork(size1, size2, other, root1, root2)
            for at in range(len(whole)):
                mixed = [*whole[:at], other[at], *whole[at + 1 :]]
                with pytest.raises(ProofError):
                    verify_fork(size1, size2, mixed, root1, root2)


def test_the_first_node_is_not_left_to_the_accused_root() -> None:
    """With the accused root as the first node, as RFC 9162 verifies it, the path leads elsewhere."""
    for size1, size2 in PAIRS:
        if is_power_of_two(size1):
            accused, root2 = FORKED[0].mth(0, size1), HONEST.mth(0, size2)
            rfc = proof(HONEST.mth, size1, size2)
            with pytest.raises(ProofError, match="not of that tree"):
                verify_fork(size1, size2, [accused, *rfc], accused, root2)
            with pytest.raises(ProofError, match="sizes and indices ask for"):
                verify_fork(size1, size2, rfc, accused, root2)


def test_the_last_leaf_of_the_smaller_tree_gives_the_path() -> None:
    for size1, size2 in PAIRS:
        inclusion = path(HONEST.mth, size1 - 1, 0, size2)
        leaf = HONEST.mth(size1 - 1, size1)
        made = consistency_path_from_inclusion_proof(leaf, size1, size2, inclusion)
        assert made == path_of(HONEST, size1, size2)


def test_an_inclusion_proof_of_the_wrong_shape_gives_no_path() -> None:
    for size1, size2 in ((1, 2), (3, 7), (8, 9), (5, 64)):
        inclusion = path(HONEST.mth, size1 - 1, 0, size2)
        leaf = HONEST.mth(size1 - 1, size1)
        for bad in (inclusion[:-1], [*inclusion, bytes(32)], [bytes(31), *inclusion[1:]], "text", None):
            with pytest.raises(ProofError):
                consistency_path_from_inclusion_proof(leaf, size1, size2, bad)  # type: ignore[arg-type]
        with pytest.raises(ProofError):
            consistency_path_from_inclusion_proof(leaf[:-1], size1, size2, inclusion)


@pytest.mark.parametrize(
    ("size1", "size2"),
    [(0, 0), (0, 5), (5, 5), (6, 5), (-1, 5), (1, 2**63), (True, 5), (1, 5.0), (None, 5)],
)
def test_sizes_without_a_path_are_refused(size1: int, size2: int) -> None:
    with pytest.raises(OutOfRangeError):
        path_of(HONEST, size1, size2)
    with pytest.raises(ProofError):
        verify_fork(size1, size2, [bytes(32)], bytes(32), bytes(32))
    with pytest.raises(ProofError):
        consistency_path_from_inclusion_proof(bytes(32), size1, size2, [bytes(32)])


def test_huge_trees_fork_too() -> None:
    for size1, size2 in ((2**62, 2**63 - 1), (2**62 - 1, 2**62), (1, 2**63 - 1), (3 << 60, (3 << 60) + 1)):
        tree, fork = SparseTree({}), SparseTree({size1 // 2: b"special"})
        whole = path_of(tree, size1, size2)
        assert len(whole) <= 64
        verify_consistency(
            size1,
            size2,
            whole[1:] if is_power_of_two(size1) else whole,
            tree.mth(0, size1),
            tree.mth(0, size2),
        )
        verify_fork(size1, size2, whole, fork.mth(0, size1), tree.mth(0, size2))
        with pytest.raises(ProofError, match="the two agree"):
            verify_fork(size1, size2, whole, tree.mth(0, size1), tree.mth(0, size2))


@given(
    st.integers(1, 32),
    st.integers(1, 32),
    st.lists(st.binary(min_size=32, max_size=32), max_size=8),
    st.binary(min_size=30, max_size=33),
)
def test_random_hashes_convict_nobody(size1: int, more: int, hashes: list[bytes], root1: bytes) -> None:
    with pytest.raises(ProofError):
        verify_fork(size1, size1 + more, hashes, root1, HONEST.mth(0, size1 + more))
