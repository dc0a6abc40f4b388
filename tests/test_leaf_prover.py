from __future__ import annotations

import random

import pytest
from _support.naive_merkle import NaiveTree, SparseTree, path

from tlog.errors import OutOfRangeError
from tlog.leaf_prover import LeafProver

ENTRIES = [b"entry %d" % i for i in range(600)]


class Nodes:
    """Gives the complete subtrees of a tree of `size` leaves, and refuses all others."""

    def __init__(self, tree: NaiveTree | SparseTree, size: int) -> None:
        self.tree = tree
        self.size = size
        self.reads = 0

    def read_node(self, level: int, index: int) -> bytes:
        self.reads += 1
        assert (index + 1) << level <= self.size
        return self.tree.mth(index << level, (index + 1) << level)

    def read_siblings(self, level: int, index: int) -> tuple[bytes, ...]:
        self.reads += 1
        assert (index // 256 + 1) << (8 * level + 8) <= self.size
        return tuple(
            self.tree.mth(
                ((index >> height) ^ 1) << (8 * level + height),
                (((index >> height) ^ 1) + 1) << (8 * level + height),
            )
            for height in range(8)
        )


@pytest.mark.parametrize("tree_size", [1, 2, 3, 5, 7, 8, 255, 256, 257, 300, 511, 512, 513, 600])
def test_every_leaf_of_a_small_tree_gets_the_proof_of_the_definition(tree_size: int) -> None:
    tree = NaiveTree(ENTRIES)
    # Out of a tree that has grown meanwhile as well as out of that very one.
    for size in (tree_size, len(ENTRIES)):
        prover = LeafProver(Nodes(tree, size), tree_size)
        for leaf_index in range(tree_size):
            assert prover.prove(leaf_index) == path(tree.mth, leaf_index, 0, tree_size)


@pytest.mark.parametrize("seed", range(6))
def test_leaves_of_a_large_tree_get_the_proof_of_the_definition(seed: int) -> None:
    rng = random.Random(seed)
    edges = [2**16, 2**16 + 1, 2**24 - 1, 2**24 + 257, 2**40, 2**40 + 2**33 + 5]
    for tree_size in [*edges, *(rng.randrange(1, 2 ** rng.randrange(10, 60)) for _ in range(10))]:
        leaves = {0, tree_size - 1, tree_size // 2, *(rng.randrange(tree_size) for _ in range(6))}
        tree = SparseTree({leaf: b"leaf %d" % leaf for leaf in leaves})
        prover = LeafProver(Nodes(tree, tree_size), tree_size)
        for leaf_index in sorted(leaves):
            assert prover.prove(leaf_index) == path(tree.mth, leaf_index, 0, tree_size)


def test_a_tile_is_read_once_a_proof_and_what_proofs_share_once_in_all() -> None:
    tree_size = 153 * 2**16 + 12_345
    nodes = Nodes(SparseTree({}), tree_size)
    prover = LeafProver(nodes, tree_size)
    first = prover.prove(77)
    nodes.reads = 0
    assert prover.prove(77) == first
    assert nodes.reads == 2


def test_a_leaf_that_is_not_in_the_tree_is_refused() -> None:
    prover = LeafProver(Nodes(NaiveTree(ENTRIES), 600), 300)
    for leaf_index in (-1, 300, 301, 599, 2**63):
        with pytest.raises(OutOfRangeError):
            prover.prove(leaf_index)
    with pytest.raises(OutOfRangeError):
        LeafProver(Nodes(NaiveTree([]), 0), 0).prove(0)
    for tree_size in (-1, 2**63):
        with pytest.raises(OutOfRangeError):
            LeafProver(Nodes(NaiveTree([]), 0), tree_size)
