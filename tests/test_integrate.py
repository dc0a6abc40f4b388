from __future__ import annotations

import hashlib
import random
from contextlib import suppress
from itertools import pairwise

import pytest
from _support.naive_merkle import NaiveTree, SparseTree

import tlog.integrate
from tlog.errors import CorruptionError, MalformedError, OutOfRangeError
from tlog.integrate import (
    TreeEdge,
    integrate,
    node_coordinates,
    stored_tile_bytes,
    tile_node,
    tile_siblings,
    tile_width,
)
from tlog.merkle import EMPTY_ROOT, CompactRange, leaf_hash
from tlog.storage.base import changed_tiles

Tiles = dict[tuple[int, int], bytes]

MAX_SIZE = 600
ENTRIES = [b"entry %d" % i for i in range(MAX_SIZE)]
LEAF_HASHES = [leaf_hash(entry) for entry in ENTRIES]


def naive_tiles(tree: NaiveTree | SparseTree, size: int) -> Tiles:
    """Every stored tile of a tree, written down from the definition."""
    tiles: Tiles = {}
    level = 0
    while size >> (8 * level):
        nodes = size >> (8 * level)
        for index in range((nodes + 255) // 256):
            width = min(256, nodes - 256 * index)
            tiles[level, index] = b"".join(
                tree.mth(node << (8 * level + height), (node + 1) << (8 * level + height))
                for height in range(8)
                for node in range((256 * index) >> height, ((256 * index) >> height) + (width >> height))
            )
        level += 1
    return tiles


def grow(sizes: list[int]) -> tuple[TreeEdge, Tiles]:
    """Grow a tree from 0 through every given size; return its edge and all stored tiles."""
    edge, tiles = TreeEdge.EMPTY, Tiles()
    for start, end in pairwise([0, *sizes]):
        edge, changed = integrate(edge, LEAF_HASHES[start:end])
        tiles.update(changed)
    return edge, tiles


@pytest.fixture(scope="module")
def one_by_one() -> list[tuple[TreeEdge, Tiles]]:
    """Edge and tiles of every size from 0 to MAX_SIZE, grown leaf by leaf."""
    states = [(TreeEdge.EMPTY, Tiles())]
    for leaf in LEAF_HASHES:
        edge, changed = integrate(states[-1][0], [leaf])
        states.append((edge, states[-1][1] | changed))
    return states


def test_edge_and_tiles_of_every_size_are_those_of_the_definition(
    one_by_one: list[tuple[TreeEdge, Tiles]],
) -> None:
    tree = NaiveTree(ENTRIES)
    for size, (edge, tiles) in enumerate(one_by_one):
        assert edge.tree_size == size
        assert edge.root_hash == tree.mth(0, size)
        assert tiles == naive_tiles(tree, size)


def test_edge_and_tiles_do_not_depend_on_how_the_leaves_were_split(
    one_by_one: list[tuple[TreeEdge, Tiles]],
) -> None:
    rng = random.Random(1)
    for size, expected in enumerate(one_by_one):
        assert grow([size]) == expected
        assert grow([*range(0, size, 16), size]) == expected
        assert grow([*range(0, size, 256), size]) == expected
        for _ in range(3):
            cuts = sorted(rng.randrange(size + 1) for _ in range(rng.randrange(6)))
            assert grow([*cuts, size]) == expected


def test_the_compact_range_is_the_one_of_the_leaves(one_by_one: list[tuple[TreeEdge, Tiles]]) -> None:
    for size, (edge, _) in enumerate(one_by_one):
        assert edge.compact_range == CompactRange.empty().extend(LEAF_HASHES[:size])


def test_every_complete_node_is_found_in_the_tiles_of_every_size(
    one_by_one: list[tuple[TreeEdge, Tiles]],
) -> None:
    tree = NaiveTree(ENTRIES)
    for size in (1, 2, 3, 255, 256, 257, 511, 512, 513, MAX_SIZE):
        tiles = one_by_one[size][1]
        for level in range(size.bit_length()):
            for index in range(size >> level):
                tile_level, tile_index, height, offset = node_coordinates(level, index)
                width = tile_width(size, tile_level, tile_index)
                stored = tiles[tile_level, tile_index]
                assert len(stored) == stored_tile_bytes(width)
                node = tile_node(stored, width, height, offset)
                assert node == tree.mth(index << level, (index + 1) << level)
                assert node == tile_node(memoryview(stored), width, height, offset)


def test_an_edge_has_the_nodes_of_its_tiles_and_of_no_other(
    one_by_one: list[tuple[TreeEdge, Tiles]],
) -> None:
    tree = NaiveTree(ENTRIES)
    for size, (edge, _) in enumerate(one_by_one):
        for level in range(11):
            for index in range((size >> level) + 2):
                tile_level, tile_index, _, _ = node_coordinates(level, index)
                is_at_the_edge = tile_index == size >> (8 * tile_level + 8)
                is_complete = (index + 1) << level <= size
                expected = (
                    tree.mth(index << level, (index + 1) << level) if is_at_the_edge and is_complete else None
                )
                assert edge.node(level, index) == expected, (size, level, index)


@pytest.mark.parametrize("batch", [1, 7, 256, MAX_SIZE])
def test_every_inner_node_is_hashed_exactly_once(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    hashed: list[bytes] = []

    def counting(data: bytes) -> hashlib._Hash:
        hashed.append(data)
        return hashlib.sha256(data)

    monkeypatch.setattr(tlog.integrate, "sha256", counting)
    edge = TreeEdge.EMPTY
    for start in range(0, MAX_SIZE, batch):
        edge, _ = integrate(edge, LEAF_HASHES[start : start + batch])
    assert len(hashed) == len(set(hashed)) == sum(MAX_SIZE >> level for level in range(1, 10))


@pytest.mark.parametrize("batch", [1, 3, 300])
def test_the_changed_tiles_are_exactly_those_that_growing_touches(batch: int) -> None:
    edge = TreeEdge.EMPTY
    for start in range(0, MAX_SIZE, batch):
        before = edge.tree_size
        edge, changed = integrate(edge, LEAF_HASHES[start : start + batch])
        assert sorted(changed) == sorted(changed_tiles(before, edge.tree_size))


def test_a_third_level_begins_at_65536_leaves() -> None:
    entries = [b"%d" % i for i in range(66_000)]
    leaves = [leaf_hash(entry) for entry in entries]
    tree = NaiveTree(entries)
    edge, tiles = integrate(TreeEdge.EMPTY, leaves[:65_400])
    for start, end in pairwise([65_400, 65_535, 65_536, 65_537, 65_791, 65_792, 66_000]):
        edge, changed = integrate(edge, leaves[start:end])
        tiles.update(changed)
        assert edge.root_hash == tree.mth(0, end)
        assert edge == TreeEdge.load(end, lambda level, index: tiles[level, index])
        assert max(tiles) == ((2, 0) if end >= 65_536 else (1, 0))
    assert tiles == naive_tiles(tree, 66_000)


def test_a_leaf_may_complete_a_tile_at_every_level_of_the_largest_trees() -> None:
    size = 2**62 - 1
    tree = SparseTree({})

    def read_tile(level: int, index: int) -> bytes:
        width = tile_width(size, level, index)
        return b"".join(
            tree.mth(0, 1 << (8 * level + height)) for height in range(8) for _ in range(width >> height)
        )

    edge = TreeEdge.load(size, read_tile)
    assert edge.root_hash == tree.mth(0, size)
    edge, changed = integrate(edge, [leaf_hash(b"filler")])
    assert edge.root_hash == tree.mth(0, 2**62)
    assert sorted(changed) == [(level, ((2**62 - 1) >> (8 * level)) >> 8) for level in range(8)]
    assert edge.tiles[0] == (b"",) * 8  # full, and so no longer at the edge


def test_an_empty_batch_changes_nothing(one_by_one: list[tuple[TreeEdge, Tiles]]) -> None:
    for edge in (one_by_one[0][0], one_by_one[256][0], one_by_one[300][0]):
        assert integrate(edge, []) == (edge, {})
    assert TreeEdge.EMPTY.root_hash == EMPTY_ROOT


def test_an_edge_is_loaded_from_the_tiles_of_every_size(one_by_one: list[tuple[TreeEdge, Tiles]]) -> None:
    for size, (edge, tiles) in enumerate(one_by_one):
        assert TreeEdge.load(size, lambda level, index, tiles=tiles: tiles[level, index]) == edge  # type: ignore[misc]


@pytest.mark.parametrize("size", [5, 255, 300, 513])
def test_loading_notices_every_damaged_inner_node_and_every_wrong_length(
    one_by_one: list[tuple[TreeEdge, Tiles]], size: int
) -> None:
    edge, tiles = one_by_one[size]
    at = max(at for at in tiles if at[0] == 0)
    stored = tiles[at]
    width = tile_width(size, *at)

    def load(damaged: bytes) -> TreeEdge:
        return TreeEdge.load(size, lambda *read: damaged if read == at else tiles[read])

    for position in range(32 * width, len(stored), 8):
        with pytest.raises(CorruptionError, match="restore"):
            load(stored[:position] + bytes([stored[position] ^ 1]) + stored[position + 1 :])
    for wrong in (stored[:-1], stored[:-32], stored + bytes(32), b"", stored[: 32 * width]):
        if wrong != stored:
            with pytest.raises(CorruptionError):
                load(wrong)
    # The lowest hashes have nothing below them: damage there shows in the nodes above, or in the root.
    for position in range(0, 32 * width, 8):
        damaged = stored[:position] + bytes([stored[position] ^ 1]) + stored[position + 1 :]
        with suppress(CorruptionError):
            assert load(damaged).root_hash != edge.root_hash


@pytest.mark.parametrize("size", [-1, 2**63])
def test_sizes_outside_the_range_are_refused(size: int) -> None:
    with pytest.raises(OutOfRangeError, match="tree size"):
        TreeEdge.load(size, lambda *_: b"")


def test_a_tree_does_not_grow_beyond_the_largest_size() -> None:
    edge = TreeEdge(2**63 - 1, ())
    with pytest.raises(OutOfRangeError, match="cannot take 1 more"):
        integrate(edge, LEAF_HASHES[:1])


@pytest.mark.parametrize("wrong", [b"", b"\x00" * 31, b"\x00" * 33, b"\x00" * 64])
def test_a_leaf_hash_of_the_wrong_length_is_refused_and_named(wrong: bytes) -> None:
    with pytest.raises(MalformedError, match=r"leaf hash 1 of the batch"):
        integrate(TreeEdge.EMPTY, [LEAF_HASHES[0], wrong])


@pytest.mark.parametrize(
    ("width", "height", "offset"),
    [(0, 0, 0), (5, 0, 5), (5, 1, 2), (5, 3, 0), (256, 8, 0), (256, 0, -1), (256, -1, 0), (257, 0, 0)],
)
def test_a_node_that_a_tile_does_not_have_is_refused(width: int, height: int, offset: int) -> None:
    with pytest.raises(OutOfRangeError, match="no complete node"):
        tile_node(bytes(510 * 32), width, height, offset)


def test_the_siblings_in_a_tile_are_those_on_the_way_up(one_by_one: list[tuple[TreeEdge, Tiles]]) -> None:
    stored = one_by_one[512][1][0, 1]
    for offset in range(256):
        siblings = tile_siblings(memoryview(stored), offset)
        assert siblings == tuple(tile_node(stored, 256, h, (offset >> h) ^ 1) for h in range(8))


def test_siblings_are_cut_out_of_a_full_tile_only(one_by_one: list[tuple[TreeEdge, Tiles]]) -> None:
    full, partial = one_by_one[600][1][0, 1], one_by_one[600][1][0, 2]
    for stored, offset in ((full, -1), (full, 256), (full[:-1], 0), (full + b"x", 0), (partial, 0)):
        with pytest.raises(OutOfRangeError):
            tile_siblings(stored, offset)
