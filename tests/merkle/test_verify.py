from __future__ import annotations

from collections.abc import Callable, Iterator
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
from _support.naive_merkle import (
    NaiveTree,
    SparseTree,
    consistency_shape,
    inclusion_shape,
    path,
    proof,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tlog.errors import ProofError
from tlog.merkle import (
    EMPTY_ROOT,
    leaf_hash,
    root_from_inclusion_proof,
    roots_from_consistency_path,
    verify_consistency,
    verify_inclusion,
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
def consistency(size1: int, size2: int) -> list[bytes]:
    return proof(TREE.mth, size1, size2)


def leaves_of_trees(largest: int = MAX_TREE) -> Iterator[tuple[int, int]]:
    return ((index, size) for size in range(1, largest + 1) for index in range(size))


def growing_trees(largest: int = MAX_TREE) -> Iterator[tuple[int, int]]:
    return ((size1, size2) for size2 in range(2, largest + 1) for size1 in range(1, size2))


def is_power_of_two(size: int) -> bool:
    return size in {2**exponent for exponent in range(64)}


# Inclusion


def test_every_inclusion_proof_verifies() -> None:
    for index, size in leaves_of_trees():
        verify_inclusion(LEAVES[index], index, size, inclusion(index, size), root(size))
        assert root_from_inclusion_proof(LEAVES[index], index, size, inclusion(index, size)) == root(size)


def test_an_inclusion_proof_with_a_flipped_bit_is_rejected() -> None:
    for index, size in leaves_of_trees():
        good = inclusion(index, size)
        for bad in with_a_flipped_bit(good):
            assert rejects(verify_inclusion, LEAVES[index], index, size, bad, root(size))
        bit = 11 * index + size
        assert rejects(verify_inclusion, flipped(LEAVES[index], bit), index, size, good, root(size))
        assert rejects(verify_inclusion, LEAVES[index], index, size, good, flipped(root(size), bit))


def test_a_truncated_or_extended_inclusion_proof_is_rejected() -> None:
    for index, size in leaves_of_trees():
        for bad in of_another_length(inclusion(index, size), LEAVES[index], root(size)):
            assert rejects(verify_inclusion, LEAVES[index], index, size, bad, root(size))


def test_a_reordered_inclusion_proof_is_rejected() -> None:
    for index, size in leaves_of_trees():
        for bad in in_another_order(inclusion(index, size)):
            assert rejects(verify_inclusion, LEAVES[index], index, size, bad, root(size))


def test_an_inclusion_proof_is_rejected_at_every_other_index() -> None:
    for index, size in leaves_of_trees():
        near = {index ^ 1 << bit for bit in range(8)} | {
            index - 1,
            index + 1,
            size - 1,
            size - 1 - index,
            size,
        }
        for other in range(-1, size + 2) if size <= 48 else near:
            if other != index:
                arguments = (LEAVES[index], other, size, inclusion(index, size), root(size))
                assert rejects(verify_inclusion, *arguments), (index, size, other)


def test_an_inclusion_proof_of_another_leaf_is_rejected() -> None:
    for index, size in leaves_of_trees(48):
        for other in range(size):
            if other != index:
                assert rejects(
                    verify_inclusion, LEAVES[other], index, size, inclusion(index, size), root(size)
                )


def test_with_another_size_an_inclusion_proof_verifies_only_where_both_have_one_shape() -> None:
    for index, size in leaves_of_trees(34):
        shape = inclusion_shape(index, size)
        for other in range(70):
            same = index < other and inclusion_shape(index, other) == shape
            rejected = rejects(
                verify_inclusion, LEAVES[index], index, other, inclusion(index, size), root(size)
            )
            assert rejected != same, (index, size, other)
            # The root is what binds the size: with the root of that other tree there is no way through.
            if other != size:
                assert rejects(
                    verify_inclusion, LEAVES[index], index, other, inclusion(index, size), root(other)
                )


def test_with_any_other_numbers_an_inclusion_proof_verifies_only_where_both_have_one_shape() -> None:
    shapes = {(index, size): inclusion_shape(index, size) for index, size in leaves_of_trees(20)}
    for (index, size), shape in shapes.items():
        for (index2, size2), shape2 in shapes.items():
            arguments = (LEAVES[index], index2, size2, inclusion(index, size), root(size))
            assert rejects(verify_inclusion, *arguments) == (shape != shape2)


# Consistency


def test_every_consistency_proof_verifies() -> None:
    for size1, size2 in growing_trees():
        verify_consistency(size1, size2, consistency(size1, size2), root(size1), root(size2))


def test_a_consistency_proof_with_a_flipped_bit_is_rejected() -> None:
    for size1, size2 in growing_trees():
        good = consistency(size1, size2)
        for bad in with_a_flipped_bit(good):
            assert rejects(verify_consistency, size1, size2, bad, root(size1), root(size2))
        bit = 11 * size1 + size2
        assert rejects(verify_consistency, size1, size2, good, flipped(root(size1), bit), root(size2))
        assert rejects(verify_consistency, size1, size2, good, root(size1), flipped(root(size2), bit))


def test_a_truncated_or_extended_consistency_proof_is_rejected() -> None:
    for size1, size2 in growing_trees():
        for bad in of_another_length(consistency(size1, size2), root(size1), root(size2)):
            assert rejects(verify_consistency, size1, size2, bad, root(size1), root(size2))


def test_a_reordered_consistency_proof_is_rejected() -> None:
    for size1, size2 in growing_trees():
        for bad in in_another_order(consistency(size1, size2)):
            assert rejects(verify_consistency, size1, size2, bad, root(size1), root(size2))


def test_a_consistency_proof_with_its_roots_or_sizes_swapped_is_rejected() -> None:
    for size1, size2 in growing_trees():
        good = consistency(size1, size2)
        assert rejects(verify_consistency, size1, size2, good, root(size2), root(size1))
        assert rejects(verify_consistency, size2, size1, good, root(size1), root(size2))
        assert rejects(verify_consistency, size2, size1, good, root(size2), root(size1))


def test_a_consistency_proof_is_rejected_at_every_other_smaller_size() -> None:
    for size1, size2 in growing_trees():
        near = {size1 ^ 1 << bit for bit in range(8)} | {
            0,
            size1 - 1,
            size1 + 1,
            2 * size1,
            size1 // 2,
            size2,
        }
        for other in range(size2 + 2) if size2 <= 48 else near:
            if other != size1:
                arguments = (other, size2, consistency(size1, size2), root(size1), root(size2))
                assert rejects(verify_consistency, *arguments), (size1, size2, other)


def test_with_any_other_sizes_a_consistency_proof_verifies_only_where_both_have_one_shape() -> None:
    shapes = {(size1, size2): consistency_shape(size1, size2) for size1, size2 in growing_trees(20)}
    for (size1, size2), shape in shapes.items():
        for (other1, other2), shape2 in shapes.items():
            arguments = (other1, other2, consistency(size1, size2), root(size1), root(size2))
            assert rejects(verify_consistency, *arguments) == (shape != shape2)
            # The roots are what binds the sizes: with those of the other trees there is no way through.
            if (size1, size2) != (other1, other2):
                arguments = (other1, other2, consistency(size1, size2), root(other1), root(other2))
                assert rejects(verify_consistency, *arguments)


def test_trees_that_fork_are_inconsistent_from_the_fork_on() -> None:
    for fork in range(24):
        other = NaiveTree([*ENTRIES[:fork], b"another history", *ENTRIES[fork + 1 :]])
        for size1, size2 in growing_trees(24):
            root2 = other.mth(0, size2)
            verify_consistency(size1, size2, proof(other.mth, size1, size2), other.mth(0, size1), root2)
            for good in (consistency(size1, size2), proof(other.mth, size1, size2)):
                rejected = rejects(verify_consistency, size1, size2, good, root(size1), root2)
                assert rejected == (fork < size1 or good != proof(other.mth, size1, size2))


def test_a_whole_path_of_a_forked_tree_implies_another_smaller_root() -> None:
    for fork in range(24):
        other = NaiveTree([*ENTRIES[:fork], b"another history", *ENTRIES[fork + 1 :]])
        for size1, size2 in growing_trees(24):
            omitted = [other.mth(0, size1)] if is_power_of_two(size1) else []
            whole = [*omitted, *proof(other.mth, size1, size2)]
            implied1, implied2 = roots_from_consistency_path(size1, size2, whole)
            assert implied2 == other.mth(0, size2)
            assert (implied1 != root(size1)) == (fork < size1)


def test_from_nothing_every_tree_is_consistent_with_an_empty_proof() -> None:
    for size2 in (*range(MAX_TREE + 1), MAX_SIZE):
        root2 = root(size2) if size2 <= MAX_TREE else LEAVES[0]
        verify_consistency(0, size2, [], EMPTY_ROOT, root2)
        assert rejects(verify_consistency, 0, size2, [LEAVES[0]], EMPTY_ROOT, root2)
        assert rejects(verify_consistency, 0, size2, [root2], EMPTY_ROOT, root2)
        assert rejects(verify_consistency, 0, size2, [], LEAVES[1], root2)
        assert rejects(verify_consistency, 0, size2, [], flipped(EMPTY_ROOT), root2)


def test_the_empty_tree_has_one_root() -> None:
    verify_consistency(0, 0, [], EMPTY_ROOT, EMPTY_ROOT)
    assert rejects(verify_consistency, 0, 0, [], EMPTY_ROOT, LEAVES[0])
    assert rejects(verify_consistency, 0, 0, [], LEAVES[0], EMPTY_ROOT)
    assert rejects(verify_consistency, 0, 0, [], LEAVES[0], LEAVES[0])


def test_equal_sizes_need_equal_roots_and_an_empty_proof() -> None:
    for size in (*range(1, MAX_TREE + 1), 2**62, MAX_SIZE):
        known = root(size) if size <= MAX_TREE else LEAVES[0]
        verify_consistency(size, size, [], known, known)
        assert rejects(verify_consistency, size, size, [], known, flipped(known, size))
        assert rejects(verify_consistency, size, size, [known], known, known)
        assert rejects(verify_consistency, size, size, [known], known, flipped(known))


def test_a_log_never_shrinks_whatever_the_proof() -> None:
    for size2 in range(24):
        for size1 in range(size2 + 1, 25):
            for given_proof in ([], [root(size1)], [root(size2)], [root(size1), root(size2)]):
                with pytest.raises(ProofError, match="cannot be the beginning of one of"):
                    verify_consistency(size1, size2, given_proof, root(size1), root(size2))


def test_a_whole_consistency_path_gives_both_roots_at_powers_of_two_as_well() -> None:
    for size1, size2 in growing_trees(80):
        good = consistency(size1, size2)
        whole = [root(size1), *good] if is_power_of_two(size1) else good
        assert roots_from_consistency_path(size1, size2, whole) == (root(size1), root(size2))
        for bad in with_a_flipped_bit(whole):
            # Every node of the path is part of the larger tree.
            assert roots_from_consistency_path(size1, size2, bad)[1] != root(size2)
        for bad in of_another_length(whole):
            assert rejects(roots_from_consistency_path, size1, size2, bad)


@pytest.mark.parametrize("sizes", [(0, 0), (0, 1), (1, 1), (2, 1), (8, 8), (MAX_SIZE, MAX_SIZE)])
def test_a_consistency_path_needs_two_trees_that_differ(sizes: tuple[int, int]) -> None:
    for length in range(3):
        assert rejects(roots_from_consistency_path, *sizes, [LEAVES[0]] * length)


# Any size


@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_proofs_in_huge_trees_verify_and_tampered_ones_do_not(data: st.DataObject) -> None:
    size2 = data.draw(st.integers(2, MAX_SIZE) | st.integers(MAX_SIZE - 200, MAX_SIZE))
    size1 = data.draw(st.integers(1, size2 - 1) | st.integers(0, size2.bit_length() - 2).map(lambda e: 2**e))
    index = data.draw(st.integers(0, size2 - 1))
    tree = SparseTree({index: b"one", size1 - 1: b"two", size2 - 1: b"three"})
    leaf, root1, root2 = tree.mth(index, index + 1), tree.mth(0, size1), tree.mth(0, size2)

    good = path(tree.mth, index, 0, size2)
    verify_inclusion(leaf, index, size2, good, root2)
    assert all(rejects(verify_inclusion, leaf, index, size2, bad, root2) for bad in with_a_flipped_bit(good))
    assert all(rejects(verify_inclusion, leaf, index, size2, bad, root2) for bad in of_another_length(good))

    good = proof(tree.mth, size1, size2)
    verify_consistency(size1, size2, good, root1, root2)
    assert all(
        rejects(verify_consistency, size1, size2, bad, root1, root2) for bad in with_a_flipped_bit(good)
    )
    assert all(
        rejects(verify_consistency, size1, size2, bad, root1, root2) for bad in of_another_length(good)
    )


@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_proofs_in_trees_of_distinct_leaves_verify(data: st.DataObject) -> None:
    size2 = data.draw(st.integers(1, 2000))
    size1 = data.draw(st.integers(1, size2))
    index = data.draw(st.integers(0, size2 - 1))
    tree = NaiveTree([b"%d" % leaf for leaf in range(size2)])
    verify_inclusion(
        tree.mth(index, index + 1), index, size2, path(tree.mth, index, 0, size2), tree.mth(0, size2)
    )
    verify_consistency(size1, size2, proof(tree.mth, size1, size2), tree.mth(0, size1), tree.mth(0, size2))


@given(
    st.integers(-2, 2**64) | st.integers(0, 8),
    st.integers(-2, 2**64) | st.integers(0, 8),
    st.lists(st.binary(min_size=32, max_size=32) | st.binary(max_size=40), max_size=66),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32) | st.binary(max_size=40),
)
@settings(deadline=None)
def test_arbitrary_proofs_raise_nothing_but_proof_error(
    number1: int, number2: int, hashes: list[bytes], hash1: bytes, hash2: bytes
) -> None:
    assert rejects(verify_inclusion, hash1, number1, number2, hashes, hash2) or hash1 == hash2
    rejects(verify_consistency, number1, number2, hashes, hash1, hash2)
    rejects(roots_from_consistency_path, number1, number2, hashes)


@pytest.mark.parametrize(
    "verify",
    [
        lambda proof: verify_inclusion(LEAVES[0], 2**62 + 5, MAX_SIZE, proof, LEAVES[1]),
        lambda proof: root_from_inclusion_proof(LEAVES[0], 0, MAX_SIZE, proof),
        lambda proof: verify_consistency(0, MAX_SIZE, proof, EMPTY_ROOT, LEAVES[1]),
        lambda proof: verify_consistency(5, 5, proof, LEAVES[0], LEAVES[0]),
        lambda proof: verify_consistency(2**62, MAX_SIZE, proof, LEAVES[0], LEAVES[1]),
        lambda proof: verify_consistency(2**62 + 1, MAX_SIZE, proof, LEAVES[0], LEAVES[1]),
        lambda proof: roots_from_consistency_path(2**62, MAX_SIZE, proof),
    ],
)
def test_a_proof_of_the_wrong_length_is_rejected_unread(verify: Callable[[object], object]) -> None:
    assert rejects(verify, Untouchable())


@pytest.mark.parametrize("index", [0, 1, 2**62 - 1, 2**62, MAX_SIZE - 1])
def test_at_the_largest_size_only_one_length_has_the_right_shape(index: int) -> None:
    right = len(inclusion_shape(index, MAX_SIZE))
    for length in range(66):
        rejected = rejects(root_from_inclusion_proof, LEAVES[0], index, MAX_SIZE, [LEAVES[1]] * length)
        assert rejected == (length != right)


# Arguments that are not what they should be

GOOD_INCLUSION: tuple[object, ...] = (LEAVES[3], 3, 6, inclusion(3, 6), root(6))
GOOD_CONSISTENCY: tuple[object, ...] = (3, 6, consistency(3, 6), root(3), root(6))
GOOD_POWER: tuple[object, ...] = (4, 6, consistency(4, 6), root(4), root(6))
EMPTY_EDGE: tuple[object, ...] = (0, 6, [], EMPTY_ROOT, root(6))
EQUAL_EDGE: tuple[object, ...] = (6, 6, [], root(6), root(6))


def replaced(arguments: tuple[object, ...], position: int, value: object) -> tuple[object, ...]:
    return (*arguments[:position], value, *arguments[position + 1 :])


def wrong_arguments() -> Iterator[tuple[Callable[..., object], tuple[object, ...]]]:
    def spoil(good: tuple[object, ...]) -> Iterator[tuple[object, ...]]:
        for position, value in enumerate(good):
            if isinstance(value, int):
                bad: list[object] = NOT_NUMBERS
            elif isinstance(value, bytes):
                bad = NOT_HASHES
            else:
                assert isinstance(value, list)
                bad = [*NOT_PROOFS, *([*value[:-1], element] for element in NOT_HASHES)]
            yield from (replaced(good, position, spoiled) for spoiled in bad)

    for arguments in spoil(GOOD_INCLUSION):
        yield verify_inclusion, arguments
    for arguments in spoil(GOOD_INCLUSION[:-1]):
        yield root_from_inclusion_proof, arguments
    for good in (GOOD_CONSISTENCY, GOOD_POWER, EMPTY_EDGE, EQUAL_EDGE):
        for arguments in spoil(good):
            yield verify_consistency, arguments
    for arguments in spoil(GOOD_CONSISTENCY[:3]):
        yield roots_from_consistency_path, arguments


def test_arguments_of_the_wrong_kind_raise_proof_error() -> None:
    cases = list(wrong_arguments())
    assert len(cases) > 300
    for verify, arguments in cases:
        assert rejects(verify, *arguments), (verify.__name__, ascii(arguments)[:200])


def test_the_arguments_that_were_spoiled_are_good_otherwise() -> None:
    verify_inclusion(*GOOD_INCLUSION)  # type: ignore[arg-type]
    for good in (GOOD_CONSISTENCY, GOOD_POWER, EMPTY_EDGE, EQUAL_EDGE):
        verify_consistency(*good)  # type: ignore[arg-type]


def test_any_sequence_will_do_as_a_proof() -> None:
    verify_inclusion(LEAVES[3], 3, 6, tuple(inclusion(3, 6)), root(6))
    verify_consistency(3, 6, tuple(consistency(3, 6)), root(3), root(6))
    verify_consistency(4, 6, tuple(consistency(4, 6)), root(4), root(6))


def test_a_message_says_what_was_checked_and_what_came_out() -> None:
    with pytest.raises(ProofError) as caught:
        verify_inclusion(LEAVES[3], 3, 6, inclusion(3, 6), root(7))
    assert all(part in str(caught.value) for part in ("leaf 3", "tree of 6", root(6).hex(), root(7).hex()))
    with pytest.raises(ProofError) as caught:
        verify_consistency(3, 6, consistency(3, 6), root(3), root(7))
    assert all(part in str(caught.value) for part in ("from size 3 to 6", root(6).hex(), root(7).hex()))
    with pytest.raises(ProofError, match=r"holds 2 hashes where the sizes and indices ask for 3"):
        verify_inclusion(LEAVES[3], 3, 6, inclusion(3, 6)[:2], root(6))
    with pytest.raises(ProofError) as caught:
        verify_inclusion(LEAVES[3], 10**5000, 6, [], root(6))
    assert len(str(caught.value)) < 120
