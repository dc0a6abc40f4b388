from __future__ import annotations

import pytest
from _support.naive_merkle import NaiveTree

from tlog.edge_prover import EdgeProver
from tlog.errors import OutOfRangeError
from tlog.integrate import TreeEdge, integrate
from tlog.merkle import leaf_hash, prove_consistency, prove_range

MAX_SIZE = 300
ENTRIES = [b"entry %d" % i for i in range(MAX_SIZE)]
TREE = NaiveTree(ENTRIES)


def read_node(level: int, index: int) -> bytes:
    return TREE.mth(index << level, (index + 1) << level)


def edge_of(size: int) -> TreeEdge:
    return integrate(TreeEdge.EMPTY, [leaf_hash(entry) for entry in ENTRIES[:size]])[0]


class Asked:
    """Reads nodes, and remembers which."""

    def __init__(self) -> None:
        self.nodes: list[tuple[int, int]] = []

    def __call__(self, level: int, index: int) -> bytes:
        self.nodes.append((level, index))
        return read_node(level, index)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 100, 255, 256, 257, 258, 299, 300])
def test_every_range_and_prefix_is_proven_as_from_the_store(size: int) -> None:
    prover = EdgeProver(edge_of(size), read_node)
    for start in range(size):
        for end in {start + 1, start + 2, (start + size + 1) // 2, size}:
            if start < end <= size:
                proof = prover.prove_range(start, end, size)
                expected = prove_range(read_node, start, end, size)
                assert (list(proof.left), list(proof.right)) == expected, (start, end)
        assert prover.prove_consistency(start, size) == prove_consistency(read_node, start, size)
    assert prover.prove_consistency(size, size) == []


@pytest.mark.parametrize("size", range(1, 300))
def test_what_was_appended_since_the_last_full_tile_is_proven_without_reading(size: int) -> None:
    asked = Asked()
    prover = EdgeProver(edge_of(size), asked)
    newest = range(max(0, size - 20, size // 256 * 256), size)
    for leaf in newest:
        prover.prove_range(leaf, leaf + 1, size)
        prover.prove_consistency(leaf, size)
    assert asked.nodes == []


def test_another_trees_size_is_refused() -> None:
    with pytest.raises(OutOfRangeError, match="asked about a tree of 8"):
        EdgeProver(edge_of(7), read_node).prove_range(0, 1, 8)
