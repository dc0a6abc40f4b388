from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
from _support.hostile import (
    NOT_HASHES,
    NOT_NUMBERS,
    NOT_PROOFS,
    Untouchable,
    flipped,
    in_another_order,
    of_another_length,
    rejects,
    with_a_flipped_bit,
)
from _support.naive_merkle import NaiveTree, SparseTree, complete_subtrees, path, range_shape
from hypothesis import given, settings
from hypothesis import strategies as st

from tlog.errors import ProofError
from tlog.merkle import (
    CompactRange,
    compact_range_nodes,
    inclusion_proofs_from_range,
    leaf_hash,
    prove_range,
    verified_inclusion_proofs,
    verify_inclusion,
    verify_range,
)

MAX_TREE = 130
MAX_SIZE = 2**63 - 1
ENTRIES = [b"entry %d" % i for i in range(MAX_TREE)]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]
TREE = NaiveTree(ENTRIES)


@cache
def root(size: int) -> bytes:
    return TREE.mth(0, size)


@cache
def inclusion(index: int, size: int) -> list[bytes]:
    return path(TREE.mth, index, 0, size)


@cache
def side(start: int, end: int) -> list[bytes]:
    return [TREE.mth(i << level, (i + 1) << level) for level, i in complete_subtrees(start, end)]


def ranges(largest: int) -> Iterator[tuple[int, int, int]]:
    return (
        (start, end, size)
        for size in range(1, largest + 1)
        for start in range(size)
        for end in range(start + 1, size + 1)
    )


def larger_ranges() -> Iterator[tuple[int, int, int]]:
    """Ranges of trees to 130: short ones, long ones, and ones that end at each power of two."""
    for size in (47, 58, 63, 64, 65, 66, 96, 100, 127, 128, 129, 130):
        for start in range(size):
            ends = {start + 1, start + 2, start + 3, start + 7, start + 32, 32, 64, 96, 128, size - 1, size}
            yield from ((start, end, size) for end in ends if start < end <= size)


def check_range(start: int, end: int, size: int) -> None:
    left, right = side(0, start), side(end, size)
    verify_range(LEAVES[start:end], start, size, left, right, root(size))
    proofs = inclusion_proofs_from_range(LEAVES[start:end], start, size, left, right)
    assert proofs == [inclusion(index, size) for index in range(start, end)]


def test_every_range_proof_verifies_and_gives_the_naive_inclusion_proofs() -> None:
    for start, end, size in ranges(40):
        check_range(start, end, size)


def test_proofs_read_from_a_verified_range_are_those_derived_from_it_and_none_of_a_bad_one() -> None:
    for start, end, size in ranges(16):
        leaves, left, right = LEAVES[start:end], side(0, start), side(end, size)
        derived = inclusion_proofs_from_range(leaves, start, size, left, right)
        assert verified_inclusion_proofs(leaves, start, size, left, right, root(size)) == derived
        for bad in with_a_flipped_bit(leaves):
            assert rejects(verified_inclusion_proofs, bad, start, size, left, right, root(size))


def test_larger_range_proofs_verify_and_give_the_naive_inclusion_proofs() -> None:
    for start, end, size in larger_ranges():
        check_range(start, end, size)


def test_the_parts_merge_with_the_leaves_between_them_to_the_root() -> None:
    for start, end, size in ranges(24):
        left = CompactRange(0, start, tuple(side(0, start)))
        right = CompactRange(end, size, tuple(side(end, size)))
        assert left.extend(LEAVES[start:end]).merge(right).root_hash() == root(size)


def test_a_range_proof_with_a_flipped_bit_is_rejected() -> None:
    for start, end, size in ranges(26):
        left, right, leaves = side(0, start), side(end, size), LEAVES[start:end]
        for bad in with_a_flipped_bit(left):
            assert rejects(verify_range, leaves, start, size, bad, right, root(size))
        for bad in with_a_flipped_bit(right):
            assert rejects(verify_range, leaves, start, size, left, bad, root(size))
        bit = 11 * start + 5 * end + size
        assert rejects(verify_range, leaves, start, size, left, right, flipped(root(size), bit))


def test_a_range_with_one_leaf_changed_is_rejected() -> None:
    for start, end, size in ranges(20):
        for bad in with_a_flipped_bit(LEAVES[start:end]):
            assert rejects(verify_range, bad, start, size, side(0, start), side(end, size), root(size))


def test_a_range_with_leaves_out_of_order_is_rejected() -> None:
    for start, end, size in ranges(20):
        for bad in in_another_order(LEAVES[start:end]):
            assert rejects(verify_range, bad, start, size, side(0, start), side(end, size), root(size))


def test_a_range_with_a_leaf_too_few_or_too_many_is_rejected() -> None:
    for start, end, size in ranges(20):
        leaves = LEAVES[start:end]
        for bad in (leaves[1:], leaves[:-1], [*leaves, leaves[-1]], [leaves[0], *leaves], []):
            assert rejects(verify_range, bad, start, size, side(0, start), side(end, size), root(size))


def test_a_truncated_or_extended_range_proof_is_rejected_and_gives_no_inclusion_proofs() -> None:
    for start, end, size in ranges(20):
        left, right, leaves = side(0, start), side(end, size), LEAVES[start:end]
        spoiled = [(bad, right) for bad in of_another_length(left, root(size), leaves[0])]
        spoiled += [(left, bad) for bad in of_another_length(right, root(size), leaves[-1])]
        # A hash that wanders to the other side leaves the number of hashes as it was.
        if left:
            spoiled += [(left[:-1], [left[-1], *right]), (left[1:], [*right, left[0]])]
        if right:
            spoiled += [([*left, right[0]], right[1:]), ([right[-1], *left], right[:-1])]
        if len(left) != len(right):
            spoiled += [(right, left)]
        for bad_left, bad_right in spoiled:
            assert rejects(verify_range, leaves, start, size, bad_left, bad_right, root(size))
            assert rejects(inclusion_proofs_from_range, leaves, start, size, bad_left, bad_right)


def test_a_reordered_range_proof_is_rejected() -> None:
    for start, end, size in ranges(26):
        left, right, leaves = side(0, start), side(end, size), LEAVES[start:end]
        for bad in in_another_order(left):
            assert rejects(verify_range, leaves, start, size, bad, right, root(size))
        for bad in in_another_order(right):
            assert rejects(verify_range, leaves, start, size, left, bad, root(size))
        if left != right:
            assert rejects(verify_range, leaves, start, size, right, left, root(size))


def test_a_range_proof_is_rejected_at_every_other_start() -> None:
    for start, end, size in ranges(24):
        for other in range(-1, size + 1):
            if other != start:
                arguments = (LEAVES[start:end], other, size, side(0, start), side(end, size), root(size))
                assert rejects(verify_range, *arguments)


def test_with_any_other_numbers_a_range_proof_verifies_only_where_both_have_one_shape() -> None:
    shapes = {numbers: range_shape(*numbers) for numbers in ranges(11)}
    for (start, end, size), shape in shapes.items():
        arguments = (side(0, start), side(end, size), root(size))
        for (start2, end2, size2), shape2 in shapes.items():
            if end2 - start2 == end - start:
                rejected = rejects(verify_range, LEAVES[start:end], start2, size2, *arguments)
                assert rejected == (shape != shape2)
        assert rejects(verify_range, LEAVES[start:end], start, size, *arguments[:2], root(size + 1))
        assert rejects(verify_range, LEAVES[start:end], start, size, *arguments[:2], root(size - 1))


@pytest.mark.parametrize(
    ("start", "size", "count"), [(0, 0, 0), (0, 4, 0), (4, 4, 0), (4, 4, 1), (5, 4, 1), (3, 4, 2), (0, 4, 5)]
)
def test_a_range_without_leaves_or_beyond_the_tree_is_rejected(start: int, size: int, count: int) -> None:
    for verify in (verify_range, lambda *arguments: inclusion_proofs_from_range(*arguments[:-1])):
        assert rejects(
            verify, LEAVES[:count], start, size, side(0, start), side(start + count, size), root(size)
        )


@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_range_proofs_in_huge_trees_verify_and_tampered_ones_do_not(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, MAX_SIZE) | st.integers(MAX_SIZE - 300, MAX_SIZE))
    start = data.draw(
        st.integers(0, size - 1) | st.integers(0, size.bit_length() - 1).map(lambda e: 2**e - 1)
    )
    count = data.draw(st.integers(1, min(40, size - start)))
    tree = SparseTree({start: b"one", start + count - 1: b"two", size - 1: b"three"})
    leaves = [tree.mth(leaf, leaf + 1) for leaf in range(start, start + count)]
    known = tree.mth(0, size)
    left, right = prove_range(
        lambda level, i: tree.mth(i << level, (i + 1) << level), start, start + count, size
    )

    verify_range(leaves, start, size, left, right, known)
    proofs = inclusion_proofs_from_range(leaves, start, size, left, right)
    for position in {0, count // 2, count - 1}:
        assert proofs[position] == path(tree.mth, start + position, 0, size)
    for proof, leaf, index in zip(proofs, leaves, range(start, start + count), strict=True):
        verify_inclusion(leaf, index, size, proof, known)
    for bad in (*with_a_flipped_bit(left), *of_another_length(left)):
        assert rejects(verify_range, leaves, start, size, bad, right, known)
    for bad in (*with_a_flipped_bit(right), *of_another_length(right)):
        assert rejects(verify_range, leaves, start, size, left, bad, known)


@given(data=st.data())
@settings(deadline=None)
def test_range_proofs_in_trees_of_distinct_leaves_verify(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 1500))
    start = data.draw(st.integers(0, size - 1))
    end = data.draw(st.integers(start + 1, size))
    tree = NaiveTree([b"%d" % leaf for leaf in range(size)])
    leaves = [tree.mth(leaf, leaf + 1) for leaf in range(start, end)]
    left, right = prove_range(lambda level, i: tree.mth(i << level, (i + 1) << level), start, end, size)
    verify_range(leaves, start, size, left, right, tree.mth(0, size))
    proofs = inclusion_proofs_from_range(leaves, start, size, left, right)
    assert proofs == [path(tree.mth, index, 0, size) for index in range(start, end)]


@given(
    st.lists(st.binary(min_size=32, max_size=32) | st.binary(max_size=40), max_size=9),
    st.integers(-2, 2**64) | st.integers(0, 8),
    st.integers(-2, 2**64) | st.integers(0, 20),
    st.lists(st.binary(min_size=32, max_size=32), max_size=66),
    st.lists(st.binary(min_size=32, max_size=32) | st.binary(max_size=40), max_size=66),
)
@settings(deadline=None)
def test_arbitrary_range_proofs_raise_nothing_but_proof_error(
    leaves: list[bytes], start: int, size: int, left: list[bytes], right: list[bytes]
) -> None:
    rejects(verify_range, leaves, start, size, left, right, LEAVES[0])
    rejects(inclusion_proofs_from_range, leaves, start, size, left, right)


def test_a_range_proof_of_the_wrong_length_is_rejected_unread() -> None:
    for start, size in ((0, MAX_SIZE), (2**62, MAX_SIZE), (MAX_SIZE - 1, MAX_SIZE)):
        left, right = [LEAVES[0]] * start.bit_count(), [LEAVES[0]] * len(compact_range_nodes(start + 1, size))
        assert rejects(verify_range, [LEAVES[0]], start, size, Untouchable(), right, root(1))
        assert rejects(verify_range, [LEAVES[0]], start, size, left, Untouchable(), root(1))
        assert rejects(inclusion_proofs_from_range, [LEAVES[0]], start, size, left, Untouchable())


GOOD: tuple[object, ...] = (LEAVES[3:5], 3, 11, side(0, 3), side(5, 11), root(11))


def test_arguments_of_the_wrong_kind_raise_proof_error() -> None:
    verify_range(*GOOD)  # type: ignore[arg-type]
    checked = 0
    for position, value in enumerate(GOOD):
        if isinstance(value, int):
            bad: list[object] = NOT_NUMBERS
        elif isinstance(value, bytes):
            bad = NOT_HASHES
        else:
            assert isinstance(value, list)
            bad = [*NOT_PROOFS, *([*value[:-1], element] for element in NOT_HASHES)]
        for spoiled in bad:
            arguments = (*GOOD[:position], spoiled, *GOOD[position + 1 :])
            assert rejects(verify_range, *arguments), (position, ascii(spoiled)[:100])
            if position < 5:
                assert rejects(inclusion_proofs_from_range, *arguments[:5]), (position, ascii(spoiled)[:100])
            checked += 1
    assert checked > 70


def test_any_sequence_will_do_as_a_part_and_none_of_them_is_changed() -> None:
    leaves, left, right = list(LEAVES[3:5]), list(side(0, 3)), list(side(5, 11))
    verify_range(tuple(leaves), 3, 11, tuple(left), tuple(right), root(11))
    verify_range(leaves, 3, 11, left, right, root(11))
    inclusion_proofs_from_range(leaves, 3, 11, left, right)
    assert (leaves, left, right) == (LEAVES[3:5], side(0, 3), side(5, 11))


def test_the_derived_proofs_are_lists_of_their_own() -> None:
    proofs = inclusion_proofs_from_range(LEAVES[:3], 0, 3, [], [])
    proofs[0].append(b"mine")
    assert proofs[1:] == [inclusion(1, 3), inclusion(2, 3)]
    single = inclusion_proofs_from_range(LEAVES[:1], 0, 1, [], [])
    assert single == [[]]


def test_a_message_says_what_was_checked_and_what_came_out() -> None:
    with pytest.raises(ProofError) as caught:
        verify_range(LEAVES[3:5], 3, 11, side(0, 3), side(5, 11), root(12))
    for part in ("2 leaves from 3 on", "tree of 11", root(11).hex(), root(12).hex()):
        assert part in str(caught.value)
    with pytest.raises(ProofError, match=r"leaves \[5, 11\) holds 2 hashes .* ask for 4"):
        verify_range(LEAVES[3:5], 3, 11, side(0, 3), side(5, 11)[:2], root(11))
