from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from _support.naive_merkle import NaiveTree, SparseTree, complete_subtrees, path, proof
from hypothesis import given, settings
from hypothesis import strategies as st

from tlog.errors import OutOfRangeError
from tlog.merkle import ReadNode, prove_consistency, prove_inclusion, prove_range

MAX_TREE = 130
TREE = NaiveTree([b"entry %d" % i for i in range(MAX_TREE)])


class Reads:
    """Reads nodes of a tree of `size` leaves, keeps a list, and refuses what such a tree cannot have."""

    def __init__(self, mth: Callable[[int, int], bytes], size: int) -> None:
        self.mth, self.size = mth, size
        self.nodes: list[tuple[int, int]] = []

    def __call__(self, level: int, index: int) -> bytes:
        assert level >= 0
        assert index >= 0
        assert (index + 1) << level <= self.size, f"node {(level, index)} is not complete at {self.size}"
        self.nodes.append((level, index))
        return self.mth(index << level, (index + 1) << level)


nodes_of = cache(complete_subtrees)


def as_range(begin: int, end: int) -> tuple[int, int]:
    return begin, end


def never(level: int, index: int) -> bytes:
    raise AssertionError(f"nothing had to be read, but {(level, index)} was")


def test_every_inclusion_proof_is_the_naive_one() -> None:
    for size in range(1, MAX_TREE + 1):
        for index in range(size):
            assert prove_inclusion(Reads(TREE.mth, size), index, size) == path(TREE.mth, index, 0, size)


def test_every_consistency_proof_is_the_naive_one() -> None:
    for size2 in range(1, MAX_TREE + 1):
        for size1 in range(1, size2):
            proved = prove_consistency(Reads(TREE.mth, size2), size1, size2)
            assert proved == proof(TREE.mth, size1, size2)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 64, 127, 2**63 - 1])
def test_a_consistency_proof_with_nothing_to_prove_is_empty(size: int) -> None:
    assert prove_consistency(never, 0, size) == []
    assert prove_consistency(never, size, size) == []


def test_a_range_proof_is_the_compact_ranges_on_both_sides() -> None:
    for size in range(1, 41):
        for start in range(size):
            for end in range(start + 1, size + 1):
                reads = Reads(TREE.mth, size)
                left, right = prove_range(reads, start, end, size)
                nodes = [*nodes_of(0, start), *nodes_of(end, size)]
                assert reads.nodes == nodes
                assert left + right == [TREE.mth(i << level, (i + 1) << level) for level, i in nodes]
                assert len(left) == len(nodes_of(0, start))


def test_inclusion_reads_each_node_of_the_proof_once_and_nothing_else() -> None:
    for size in range(1, MAX_TREE + 1):
        for index in range(size):
            reads = Reads(TREE.mth, size)
            prove_inclusion(reads, index, size)
            siblings = path(as_range, index, 0, size)
            assert reads.nodes == [node for ends in siblings for node in nodes_of(*ends)]


def test_consistency_reads_each_node_of_the_proof_once_and_nothing_else() -> None:
    for size2 in range(1, MAX_TREE + 1):
        for size1 in range(1, size2):
            reads = Reads(TREE.mth, size2)
            prove_consistency(reads, size1, size2)
            siblings = proof(as_range, size1, size2)
            assert reads.nodes == [node for ends in siblings for node in nodes_of(*ends)]


@given(data=st.data())
@settings(deadline=None)
def test_proofs_in_huge_trees_are_the_naive_ones(data: st.DataObject) -> None:
    size2 = data.draw(st.integers(2, 2**63 - 1))
    size1 = data.draw(st.integers(1, size2 - 1))
    index = data.draw(st.integers(0, size2 - 1))
    tree = SparseTree({index: b"one", size1 - 1: b"two", size2 - 1: b"three"})
    reads = Reads(tree.mth, size2)
    assert prove_inclusion(reads, index, size2) == path(tree.mth, index, 0, size2)
    assert prove_consistency(reads, size1, size2) == proof(tree.mth, size1, size2)
    assert len(reads.nodes) <= 4 * 64


BAD_NUMBERS = [-1, 2**63, 10**5000, True, 1.0, "1", None]


@pytest.mark.parametrize(
    "bad", BAD_NUMBERS, ids=["negative", "2**63", "long", "bool", "float", "str", "None"]
)
@pytest.mark.parametrize(
    "prove",
    [
        lambda bad: prove_inclusion(never, bad, 4),
        lambda bad: prove_inclusion(never, 0, bad),
        lambda bad: prove_consistency(never, bad, 4),
        lambda bad: prove_consistency(never, 0, bad),
        lambda bad: prove_range(never, bad, 4, 4),
        lambda bad: prove_range(never, 0, bad, 4),
        lambda bad: prove_range(never, 0, 1, bad),
    ],
)
def test_what_is_no_size_or_index_is_refused(prove: Callable[[object], object], bad: object) -> None:
    with pytest.raises(OutOfRangeError):
        prove(bad)


@pytest.mark.parametrize(
    ("prove", "numbers"),
    [
        (prove_inclusion, (0, 0)),
        (prove_inclusion, (4, 4)),
        (prove_inclusion, (5, 4)),
        (prove_consistency, (1, 0)),
        (prove_consistency, (5, 4)),
        (prove_range, (0, 0, 0)),
        (prove_range, (0, 0, 4)),
        (prove_range, (4, 4, 4)),
        (prove_range, (3, 2, 4)),
        (prove_range, (0, 5, 4)),
        (prove_range, (4, 5, 4)),
    ],
)
def test_what_the_tree_does_not_have_is_refused(
    prove: Callable[..., object], numbers: tuple[int, ...]
) -> None:
    with pytest.raises(OutOfRangeError):
        prove(never, *numbers)


def test_an_error_of_the_reader_comes_through() -> None:
    def broken(level: int, index: int) -> bytes:
        raise KeyError((level, index))

    reader: ReadNode = broken
    for prove in (
        lambda: prove_inclusion(reader, 0, 2),
        lambda: prove_consistency(reader, 1, 2),
        lambda: prove_range(reader, 1, 2, 2),
    ):
        with pytest.raises(KeyError):
            prove()
