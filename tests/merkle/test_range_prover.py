"""One prover for many ranges gives each the proof that it would have got alone, and reads little."""

from __future__ import annotations

from random import Random

import pytest
from _support.naive_merkle import NaiveTree, complete_subtrees

from tlog.errors import OutOfRangeError
from tlog.merkle import RangeProver

MAX_TREE = 70
ENTRIES = [b"entry %d" % i for i in range(MAX_TREE)]
TREE = NaiveTree(ENTRIES)


class Reads:
    """Reads nodes of a tree, counts them, and fails when it is told to."""

    def __init__(self) -> None:
        self.nodes: list[tuple[int, int]] = []
        self.fails = False

    def __call__(self, level: int, index: int) -> bytes:
        if self.fails:
            raise OSError("the disk")
        self.nodes.append((level, index))
        return TREE.mth(index << level, (index + 1) << level)


def hashes(start: int, end: int) -> tuple[bytes, ...]:
    return tuple(
        TREE.mth(index << level, (index + 1) << level) for level, index in complete_subtrees(start, end)
    )


def test_every_range_of_every_tree_gets_its_own_proof_whatever_was_proven_before() -> None:
    random = Random(4)
    for size in range(1, MAX_TREE + 1):
        prover = RangeProver(Reads(), size)
        ranges = [(start, end) for start in range(size) for end in range(start + 1, size + 1)]
        random.shuffle(ranges)
        for start, end in ranges:
            assert prover.prove(start, end) == (hashes(0, start), hashes(end, size))


def test_neighbours_take_two_nodes_each_at_most_taken_together() -> None:
    for size in range(2, MAX_TREE + 1):
        reads = Reads()
        prover = RangeProver(reads, size)
        for start in range(size):
            prover.prove(start, start + 1)
        assert len(reads.nodes) <= 2 * size
        alone = sum(len(hashes(0, start)) + len(hashes(start + 1, size)) for start in range(size))
        assert len(reads.nodes) < alone or size < 4


def test_what_could_not_be_read_is_not_kept() -> None:
    reads = Reads()
    prover = RangeProver(reads, 13)
    reads.fails = True
    with pytest.raises(OSError, match="the disk"):
        prover.prove(5, 7)
    reads.fails = False
    assert prover.prove(5, 7) == (hashes(0, 5), hashes(7, 13))


@pytest.mark.parametrize(("start", "end"), [(0, 0), (3, 2), (4, 14), (-1, 3), (True, 3), (0, 2**63)])
def test_a_range_that_the_tree_does_not_have_is_refused(start: int, end: int) -> None:
    with pytest.raises(OutOfRangeError):
        RangeProver(Reads(), 13).prove(start, end)


def test_a_size_that_is_none_is_refused() -> None:
    for size in (-1, 2**63):
        with pytest.raises(OutOfRangeError):
            RangeProver(Reads(), size)
