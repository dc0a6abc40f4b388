"""Who is wrong, the entry or the tile: every single flip in small trees, and several at once."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import pytest

from tlog.fsck.spool import Shelf
from tlog.fsck.tree_check import TreeCheck, TreeVerdict
from tlog.integrate import TreeEdge, integrate, tile_width
from tlog.merkle import leaf_hash

SIZES = [1, 2, 3, 255, 256, 257, 511, 512, 700]

Tiles = dict[tuple[int, int], bytes]


def hashes_of(size: int) -> list[bytes]:
    return [leaf_hash(b"entry %d" % index) for index in range(size)]


def tree(size: int, *, inner_nodes: bool = True) -> tuple[list[bytes], Tiles, bytes]:
    hashes = hashes_of(size)
    edge, tiles = integrate(TreeEdge.EMPTY, hashes)
    if not inner_nodes:
        tiles = {at: stored[: 32 * tile_width(size, *at)] for at, stored in tiles.items()}
    return hashes, tiles, edge.root_hash


def check(
    hashes: list[bytes | None],
    tiles: Mapping[tuple[int, int], bytes],
    root: bytes | None,
    *,
    inner_nodes: bool = True,
) -> TreeVerdict:
    checking = TreeCheck(
        len(hashes), root, lambda level, index: tiles.get((level, index)), inner_nodes=inner_nodes
    )
    for start in range(0, len(hashes), 256):
        checking.add(hashes[start : start + 256])
    return checking.finish()


def flipped(data: bytes, bit: int) -> bytes:
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


@pytest.mark.parametrize("inner_nodes", [True, False])
@pytest.mark.parametrize("size", [0, *SIZES])
def test_a_sound_tree_is_sound(size: int, inner_nodes: bool) -> None:
    hashes, tiles, root = tree(size, inner_nodes=inner_nodes)
    verdict = check(list(hashes), tiles, root, inner_nodes=inner_nodes)
    assert verdict.leads_to_root
    assert verdict.entries_root == root
    assert not verdict.wrong_entries
    assert not list(verdict.wrong_tiles())
    assert verdict.tiles == len(tiles)


@pytest.mark.parametrize("inner_nodes", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_every_wrong_and_every_missing_entry_is_named_with_the_hash_that_it_should_have(
    size: int, inner_nodes: bool
) -> None:
    hashes, tiles, root = tree(size, inner_nodes=inner_nodes)
    for index in range(0, size, 1 if size < 4 else 37):
        for wrong in (flipped(hashes[index], 9), None):
            damaged: list[bytes | None] = list(hashes)
            damaged[index] = wrong
            verdict = check(damaged, tiles, root, inner_nodes=inner_nodes)
            assert verdict.wrong_entries == {index: hashes[index]}
            assert verdict.leads_to_root
            assert not list(verdict.wrong_tiles())


@pytest.mark.parametrize("size", SIZES)
def test_every_flipped_bit_in_a_tile_is_named_with_what_the_tile_should_be(size: int) -> None:
    hashes, tiles, root = tree(size)
    for at, stored in tiles.items():
        width = tile_width(size, *at)
        for bit in range(3, 8 * len(stored), 8 * 32 * (1 if size < 4 else 29)):
            verdict = check(list(hashes), tiles | {at: flipped(stored, bit)}, root)
            (wrong,) = verdict.wrong_tiles()
            assert (wrong.level, wrong.index, wrong.expected) == (*at, stored)
            node = bit // 256
            assert wrong.wrong_nodes == ((node,) if node < width else ())
            assert not wrong.is_missing
            assert not verdict.wrong_entries
            assert verdict.leads_to_root


@pytest.mark.parametrize("size", SIZES)
def test_missing_and_cut_off_tiles_are_named(size: int) -> None:
    hashes, tiles, root = tree(size)
    for at, stored in tiles.items():
        for left, is_missing in ((None, True), (stored[:-1], False), (stored + b"\0", False)):
            damaged = {key: value for key, value in tiles.items() if key != at}
            if left is not None:
                damaged[at] = left
            (wrong,) = check(list(hashes), damaged, root).wrong_tiles()
            assert (wrong.level, wrong.index, wrong.expected) == (*at, stored)
            assert wrong.is_missing is is_missing
            assert wrong.wrong_nodes == ()


def test_swapped_entries_are_both_named() -> None:
    hashes, tiles, root = tree(700)
    damaged: list[bytes | None] = list(hashes)
    damaged[5], damaged[600] = hashes[600], hashes[5]
    verdict = check(damaged, tiles, root)
    assert verdict.wrong_entries == {5: hashes[5], 600: hashes[600]}


def test_all_tiles_lost_are_rebuilt_from_the_entries_alone() -> None:
    hashes, tiles, root = tree(700)
    verdict = check(list(hashes), {}, root)
    assert {(wrong.level, wrong.index): wrong.expected for wrong in verdict.wrong_tiles()} == tiles
    assert not verdict.wrong_entries


def test_all_entries_lost_are_named_with_the_hashes_that_the_tiles_have() -> None:
    hashes, tiles, root = tree(700)
    verdict = check([None] * 700, tiles, root)
    assert verdict.wrong_entries == dict(enumerate(hashes))
    assert verdict.leads_to_root


def test_a_wrong_entry_beside_a_wrong_hash_of_another_one_in_the_same_tile_are_told_apart() -> None:
    for size in (200, 256, 700):
        hashes, tiles, root = tree(size)
        damaged: list[bytes | None] = list(hashes)
        damaged[7] = None
        wrong_tiles = tiles | {(0, 0): flipped(tiles[0, 0], 256 * 100)}
        verdict = check(damaged, wrong_tiles, root)
        assert verdict.wrong_entries == {7: hashes[7]}
        (wrong,) = verdict.wrong_tiles()
        assert (wrong.level, wrong.index, wrong.wrong_nodes) == (0, 0, (100,))
        assert wrong.expected == tiles[0, 0]


def test_a_missing_tile_above_a_wrong_entry_and_a_wrong_tile_is_found_from_what_is_below() -> None:
    hashes, tiles, root = tree(700)
    damaged: list[bytes | None] = list(hashes)
    damaged[300] = None
    damaged[650] = None
    left = tiles | {(0, 0): flipped(tiles[0, 0], 256 * 9)}
    del left[1, 0]
    verdict = check(damaged, left, root)
    assert verdict.wrong_entries == {300: hashes[300], 650: hashes[650]}
    assert {(one.level, one.index): one.expected for one in verdict.wrong_tiles()} == {
        (0, 0): tiles[0, 0],
        (1, 0): tiles[1, 0],
    }
    assert verdict.undecided_tiles == ()


def test_where_entry_and_tile_are_both_wrong_at_one_leaf_it_is_left_open() -> None:
    for size in (200, 256, 700):
        hashes, tiles, root = tree(size)
        damaged: list[bytes | None] = list(hashes)
        damaged[7] = None
        verdict = check(damaged, tiles | {(0, 0): flipped(tiles[0, 0], 256 * 7)}, root)
        assert verdict.wrong_entries == {7: None}
        assert verdict.leads_to_root is (size >= 256)


def test_a_signed_root_of_another_tree_is_told_where_entries_and_tiles_agree() -> None:
    hashes, tiles, _ = tree(700)
    verdict = check(list(hashes), tiles, leaf_hash(b"another tree"))
    assert not verdict.leads_to_root
    assert not verdict.wrong_entries
    assert not list(verdict.wrong_tiles())


def test_without_any_signed_root_entries_and_tiles_are_held_against_each_other() -> None:
    hashes, tiles, _ = tree(700)
    sound = check(list(hashes), tiles, None)
    assert not sound.leads_to_root
    assert not sound.wrong_entries
    damaged: list[bytes | None] = list(hashes)
    damaged[690] = None
    assert check(damaged, tiles, None).wrong_entries == {690: None}


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_flipped_what_is_named_is_wrong_and_what_is_not_is_right(seed: int) -> None:
    """A model: several flips anywhere; with the named parts put right, the tree is sound or left open."""
    rng = random.Random(seed)
    size = rng.choice([250, 256, 520, 700, 66_000 if seed == 0 else 800])
    hashes, tiles, root = tree(size)
    damaged: list[bytes | None] = list(hashes)
    for index in rng.sample(range(size), rng.randrange(1, 4)):
        damaged[index] = rng.choice([None, flipped(hashes[index], 5)])
    wrong_tiles = dict(tiles)
    for at in rng.sample(sorted(tiles), min(len(tiles), rng.randrange(3))):
        wrong_tiles[at] = flipped(wrong_tiles[at], rng.randrange(8 * len(wrong_tiles[at])))
    verdict = check(damaged, wrong_tiles, root)
    truly_wrong = {index for index in range(size) if damaged[index] != hashes[index]}
    decided = {index: one for index, one in verdict.wrong_entries.items() if one is not None}
    assert decided.keys() <= truly_wrong <= verdict.wrong_entries.keys()
    assert all(hashes[index] == one for index, one in decided.items())
    for wrong in verdict.wrong_tiles():
        assert wrong.expected == tiles[wrong.level, wrong.index] != wrong_tiles[wrong.level, wrong.index]


def test_what_differs_may_be_kept_in_files() -> None:
    hashes, tiles, root = tree(700)
    with ExitStack() as stack:
        make: Callable[[], Shelf] = lambda: Shelf(stack)  # noqa: E731
        checking = TreeCheck(700, root, lambda *_: None, inner_nodes=True, make_shelf=make)
        for start in range(0, 700, 256):
            assert checking.add(hashes[start : start + 256]) == tuple(range(min(256, 700 - start)))
        verdict = checking.finish()
        assert {(one.level, one.index): one.expected for one in verdict.wrong_tiles()} == tiles
