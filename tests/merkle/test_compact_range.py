from __future__ import annotations

from functools import cache

import pytest
from _support.naive_merkle import NaiveTree, SparseTree, complete_subtrees
from hypothesis import given, settings
from hypothesis import strategies as st

from tlog.errors import MalformedError, OutOfRangeError
from tlog.merkle import EMPTY_ROOT, CompactRange, compact_range_nodes, leaf_hash
from tlog.merkle.compact_range import count_compact_range_nodes

MAX_TREE = 130
ENTRIES = [b"entry %d" % i for i in range(MAX_TREE)]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]
TREE = NaiveTree(ENTRIES)


@cache
def naive_range(start: int, end: int) -> CompactRange:
    nodes = complete_subtrees(start, end)
    return CompactRange(start, end, tuple(TREE.mth(i << level, (i + 1) << level) for level, i in nodes))


def test_the_nodes_are_the_complete_subtrees_whose_parents_reach_outside() -> None:
    for end in range(MAX_TREE + 1):
        for start in range(end + 1):
            assert compact_range_nodes(start, end) == complete_subtrees(start, end)


def test_the_nodes_are_counted_without_listing_them() -> None:
    sizes = (*range(MAX_TREE + 1), *(2**power + offset for power in (31, 62) for offset in (-1, 0, 1)))
    for end in sizes:
        for start in sizes:
            if start <= end:
                assert count_compact_range_nodes(start, end) == len(compact_range_nodes(start, end))


def test_appending_one_by_one_gives_every_range_and_every_root() -> None:
    for start in range(MAX_TREE + 1):
        grown = CompactRange.empty(start)
        for end in range(start, MAX_TREE + 1):
            if end > start:
                grown = grown.append(LEAVES[end - 1])
            assert grown == naive_range(start, end)
            if start == 0:
                assert grown.root_hash() == TREE.mth(0, end)


def test_extending_at_once_gives_every_range() -> None:
    for start in range(MAX_TREE + 1):
        for end in range(start, MAX_TREE + 1):
            assert CompactRange.empty(start).extend(LEAVES[start:end]) == naive_range(start, end)


def test_ranges_that_touch_merge_wherever_they_are_cut() -> None:
    sizes = [0, 1, 2, 3, 7, 8, 9, 21, 32, 33, 47, 64, 65, 100, 127, 128, 129, 130]
    for end in sizes:
        for start in range(end + 1):
            for cut in range(start, end + 1, 1 if end <= 33 else 5):
                assert naive_range(start, cut).merge(naive_range(cut, end)) == naive_range(start, end)


@given(data=st.data())
@settings(deadline=None)
def test_merging_is_associative_and_extending_is_merging(data: st.DataObject) -> None:
    entries = [b"%d" % i for i in range(data.draw(st.integers(0, 600)))]
    leaves = [leaf_hash(entry) for entry in entries]
    end = len(leaves)
    cuts = sorted(data.draw(st.lists(st.integers(0, end), min_size=3, max_size=3)))
    a, b, c = (
        CompactRange.empty(start).extend(leaves[start:stop])
        for start, stop in zip(cuts, [*cuts[1:], end], strict=True)
    )
    assert a.merge(b).merge(c) == a.merge(b.merge(c)) == a.extend(leaves[cuts[1] :])
    whole = CompactRange.empty().extend(leaves[: cuts[0]]).merge(a.merge(b).merge(c))
    assert whole.root_hash() == NaiveTree(entries).mth(0, end)


@given(data=st.data())
@settings(deadline=None)
def test_ranges_of_huge_trees_merge_to_the_same_root(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 2**63 - 1))
    cut = data.draw(st.integers(0, size))
    tree = SparseTree({data.draw(st.integers(0, size - 1)): b"one", size - 1: b"last"})

    def read_range(start: int, end: int) -> CompactRange:
        nodes = compact_range_nodes(start, end)
        return CompactRange(start, end, tuple(tree.mth(i << level, (i + 1) << level) for level, i in nodes))

    assert read_range(0, cut).merge(read_range(cut, size)).root_hash() == tree.mth(0, size)


@pytest.mark.parametrize("at", [0, 1, 2, 64, 2**63 - 1])
def test_the_empty_range_is_neutral(at: int) -> None:
    empty = CompactRange.empty(at)
    assert empty.hashes == ()
    assert empty.extend([]) == empty == empty.merge(empty)


def test_the_root_of_no_leaves_is_the_empty_root() -> None:
    assert CompactRange.empty().root_hash() == EMPTY_ROOT


def test_a_range_that_starts_later_has_no_root() -> None:
    with pytest.raises(OutOfRangeError, match=r"merge the range of leaves \[0, 4\)"):
        naive_range(4, 8).root_hash()
    with pytest.raises(OutOfRangeError):
        CompactRange.empty(1).root_hash()


@pytest.mark.parametrize("other", [(0, 4), (3, 9), (6, 9)])
def test_ranges_that_do_not_touch_cannot_be_merged(other: tuple[int, int]) -> None:
    with pytest.raises(OutOfRangeError, match="must start at 5"):
        naive_range(2, 5).merge(naive_range(*other))


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (3, 2), (0, 2**63), (True, 2), (0, 2.0), (None, 1)])
def test_a_range_with_impossible_ends_is_refused(start: int, end: int) -> None:
    with pytest.raises(OutOfRangeError):
        compact_range_nodes(start, end)
    with pytest.raises(OutOfRangeError):
        CompactRange(start, end, ())


@pytest.mark.parametrize("hashes", [(), (LEAVES[0],), (LEAVES[0],) * 3, (LEAVES[0], b"short"), b"x" * 32])
def test_a_range_with_other_hashes_than_its_ends_ask_for_is_refused(hashes: tuple[bytes, ...]) -> None:
    with pytest.raises(MalformedError, match=r"compact range of leaves \[0, 3\)"):
        CompactRange(0, 3, hashes)


@pytest.mark.parametrize("bad", [b"", b"x" * 31, b"x" * 33, "x" * 32, None, bytearray(32)])
def test_only_hashes_can_be_appended(bad: bytes) -> None:
    with pytest.raises(MalformedError):
        naive_range(0, 3).append(bad)
    with pytest.raises(MalformedError):
        naive_range(0, 3).extend([LEAVES[3], bad])
    # Inside a pair, where nothing but its parent would be left of it.
    with pytest.raises(MalformedError):
        naive_range(0, 4).extend([bad, LEAVES[5]])


def test_a_range_cannot_grow_beyond_the_largest_size() -> None:
    full = CompactRange.empty(2**63 - 1)
    with pytest.raises(OutOfRangeError):
        full.append(LEAVES[0])
    with pytest.raises(OutOfRangeError):
        full.extend([LEAVES[0]])


def test_a_range_does_not_change_when_it_grows() -> None:
    before = naive_range(0, 7)
    hashes = before.hashes
    before.append(LEAVES[7])
    before.extend(LEAVES[7:20])
    assert before.hashes == hashes
    with pytest.raises(AttributeError):
        before.end = 8  # type: ignore[misc]
