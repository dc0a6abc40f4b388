"""VerifiedTiles against trees made by hand: what is right is read, what is not is told, whatever changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random

import pytest
from _support.hostile import flipped
from _support.naive_merkle import NaiveTree, path, proof
from _support.tiled_log import (
    ORIGIN,
    numbered_entries,
    path_of,
    resources,
    sha256,
    signed_size_and_root,
)

from tlog.checkpoint import Checkpoint
from tlog.errors import MalformedError, NotFoundError, OutOfRangeError, ProofError, VerificationError
from tlog.integrate import TreeEdge, integrate
from tlog.merkle import EMPTY_ROOT, leaf_hash, verify_inclusion, verify_range
from tlog.tile_source.base import check_tile_bytes
from tlog.tile_source.verified import TILES_IN_MEMORY, VerifiedTiles
from tlog.tiles import Tile

# Around every change of shape of tiles and of the tree of tiles.
SIZES = (0, 1, 2, 3, 7, 8, 255, 256, 257, 511, 512, 513, 600)


@dataclass
class Folder:
    """Is a source of tiles in memory, that counts what it is asked for."""

    resources: dict[str, bytes]
    name: str = "a folder"
    concurrency: int = 1
    asked: list[str] = field(default_factory=list)

    def checkpoint(self) -> bytes:
        return self.resources["checkpoint"]

    def tile(self, tile: Tile) -> bytes:
        self.asked.append(tile.path)
        if tile.path not in self.resources:
            raise NotFoundError(f"no {tile.path}")
        data = self.resources[tile.path]
        check_tile_bytes(tile, data, self.name)
        return data


@dataclass
class Cache:
    """Is a cache in memory."""

    kept: dict[str, bytes] = field(default_factory=dict)

    def get(self, tile: Tile) -> bytes | None:
        return self.kept.get(tile.path)

    def put(self, tile: Tile, data: bytes) -> None:
        self.kept[tile.path] = data


def checkpoint_of(made: Mapping[str, bytes]) -> Checkpoint:
    return Checkpoint(ORIGIN, *signed_size_and_root(made["checkpoint"]))


def tiles_of(made: dict[str, bytes], **options) -> VerifiedTiles:
    return VerifiedTiles(Folder(made), checkpoint_of(made), **options)


def changed_once(made: Mapping[str, bytes], seed: int = 1) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Every resource but the checkpoint, with one bit of it flipped."""
    random = Random(seed)
    for name, data in made.items():
        if name != "checkpoint":
            yield name, {**made, name: flipped(data, random.randrange(8 * len(data)))}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("concurrency", [1, 4])
def test_every_leaf_and_entry_of_a_tree_is_read(size: int, concurrency: int) -> None:
    entries = numbered_entries(size)
    made = resources(entries)
    tiles = VerifiedTiles(Folder(made, concurrency=concurrency), checkpoint_of(made))
    assert list(tiles.entries(0, size)) == list(enumerate(entries))
    assert list(tiles.leaf_hashes(0, size)) == [leaf_hash(entry) for entry in entries]
    seen: list[int] = []
    checked = tiles.check_all(progress=seen.append)
    assert sum(seen) == checked.entries == size
    assert checked.entry_bytes == sum(map(len, entries))
    assert checked.hash_tiles == sum(name.startswith("tile/") and "entries" not in name for name in made)
    assert checked.entry_bundles == sum("entries" in name for name in made)
    assert tiles.root_hash(size) == checkpoint_of(made).root_hash


def test_every_range_of_entries_is_cut_right() -> None:
    entries = numbered_entries(600)
    tiles = tiles_of(resources(entries))
    edges = [0, 1, 2, 255, 256, 257, 300, 511, 512, 513, 599, 600]
    for start in edges:
        for end in edges:
            if start <= end:
                assert list(tiles.entries(start, end)) == list(enumerate(entries))[start:end]
                expected = [leaf_hash(entry) for entry in entries[start:end]]
                assert list(tiles.leaf_hashes(start, end)) == expected
    for start, end in ((1, 0), (-1, 1), (0, 601), (601, 601)):
        with pytest.raises(OutOfRangeError):
            tiles.leaves(start, end, entries=True)


def test_proofs_and_roots_are_those_of_the_naive_tree() -> None:
    entries = numbered_entries(600)
    tree = NaiveTree(entries)
    tiles = tiles_of(resources(entries))
    sizes = [1, 2, 3, 100, 255, 256, 257, 300, 511, 512, 513, 599, 600]
    assert tiles.root_hash(0) == EMPTY_ROOT
    for n in sizes:
        assert tiles.root_hash(n) == tree.mth(0, n)
        for m in (size for size in sizes if size < n):
            assert tiles.prove_consistency(m, n) == proof(tree.mth, m, n)
            assert tiles.prove_inclusion(m, n) == path(tree.mth, m, 0, n)
            left, right = tiles.prove_range(m, n, 600)
            leaves = [leaf_hash(entry) for entry in entries[m:n]]
            verify_range(leaves, m, 600, left, right, tree.mth(0, 600))
    for bad in ((0, 601), (600, 600), (-1, 5)):
        with pytest.raises(OutOfRangeError):
            tiles.prove_inclusion(*bad)
    for level, index in ((0, 600), (9, 1), (10, 0), (-1, 0), (0, -1), (70, 0)):
        with pytest.raises(OutOfRangeError):
            tiles.read_node(level, index)


@pytest.mark.parametrize("size", [size for size in SIZES if size])
def test_one_flipped_bit_in_any_tile_or_bundle_is_told(size: int) -> None:
    made = resources(numbered_entries(size))
    for name, wrong in changed_once(made, size):
        with pytest.raises((VerificationError, MalformedError)) as caught:
            tiles_of(wrong).check_all()
        assert name in str(caught.value)


def test_one_flipped_bit_in_the_root_is_told() -> None:
    for size in SIZES:
        made = resources(numbered_entries(size))
        signed = checkpoint_of(made)
        wrong = Checkpoint(ORIGIN, size, flipped(signed.root_hash, size))
        with pytest.raises(ProofError):
            VerifiedTiles(Folder(made), wrong).check_edge()
        with pytest.raises(ProofError):
            VerifiedTiles(Folder(made), wrong).check_all()


def test_nothing_wrong_is_used_for_a_proof_or_kept() -> None:
    """Whatever is wrong, a proof that comes out verifies, and the cache holds only what is right."""
    made = resources(numbered_entries(600))
    signed = checkpoint_of(made)
    failed = 0
    for _, wrong in changed_once(made, 7):
        cache = Cache()
        tiles = VerifiedTiles(Folder(wrong), signed, cache)
        for leaf in (0, 255, 256, 511, 512, 599):
            try:
                found = tiles.prove_inclusion(leaf)
            except ProofError:
                failed += 1
                continue
            node = leaf_hash(b"entry %d" % leaf)
            verify_inclusion(node, leaf, 600, found, signed.root_hash)
        assert all(made[name] == data for name, data in cache.kept.items())
    assert failed > 6


def test_tiles_of_another_tree_of_the_same_size_are_refused() -> None:
    made = resources(numbered_entries(600))
    other = resources(numbered_entries(600, start=1))
    with pytest.raises(ProofError, match="not the tiles of this tree"):
        VerifiedTiles(Folder(other), checkpoint_of(made)).check_edge()
    swapped = {**made, path_of(0, 0, 256): made[path_of(0, 1, 256)]}
    with pytest.raises(ProofError, match="tile/0/000"):
        tiles_of(swapped).check_all(entries=False)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: b"",
        lambda data: data[:-32],
        lambda data: data + data[:32],
    ],
)
def test_a_tile_of_another_length_is_refused(change) -> None:
    made = resources(numbered_entries(600))
    for name, data in made.items():
        if name != "checkpoint":
            with pytest.raises((VerificationError, MalformedError)) as caught:
                tiles_of({**made, name: change(data)}).check_all()
            assert name in str(caught.value)


def test_a_tree_without_bundles_is_checked_and_proven_without_them() -> None:
    made = resources(numbered_entries(600), bundles=False)
    folder = Folder(made)
    tiles = VerifiedTiles(folder, checkpoint_of(made))
    assert tiles.check_all(entries=False).entries == 0
    assert tiles.prove_inclusion(3)
    assert not any("entries" in name for name in folder.asked)
    with pytest.raises(NotFoundError, match="tile/entries/000"):
        list(tiles.entries(0, 1))


def test_where_partials_are_gone_full_tiles_take_their_place() -> None:
    entries = numbered_entries(700)
    old, new = resources(entries[:600]), resources(entries[:768])
    new |= resources(numbered_entries(768))
    only_full = {name: data for name, data in new.items() if ".p/" not in name}
    assert path_of(0, 2, 256) in only_full
    # Level 1 is partial in both trees; its partial of the old tree is there still.
    only_full[path_of(1, 0, 2)] = old[path_of(1, 0, 2)]
    tiles = VerifiedTiles(Folder(only_full), checkpoint_of(old))
    assert [entry for _, entry in tiles.entries(0, 600)] == entries[:600]
    tiles.check_all()


def test_where_partials_are_gone_those_of_the_newest_checkpoint_take_their_place() -> None:
    entries = numbered_entries(700)
    old, new = resources(entries[:520]), resources(entries[:700])
    folder = Folder(new)
    with pytest.raises(NotFoundError, match="wider"):
        VerifiedTiles(folder, checkpoint_of(old)).check_all()
    newer_asked: list[int] = []

    def newer() -> Checkpoint:
        newer_asked.append(1)
        return checkpoint_of(new)

    tiles = VerifiedTiles(folder, checkpoint_of(old), newer=newer)
    assert [entry for _, entry in tiles.entries(0, 520)] == entries[:520]
    tiles.check_all()
    assert newer_asked
    # Full, partial or wider: nothing is asked for that no checkpoint promises.
    assert set(folder.asked) <= set(old) | set(new) | {path_of(level, 2, 256) for level in (0, "entries")}


def test_a_newest_checkpoint_that_is_smaller_or_no_wider_does_not_help() -> None:
    made = resources(numbered_entries(600))
    del made[path_of(0, 2, 88)]
    for size in (0, 5, 512, 600):
        tiles = tiles_of(made, newer=lambda size=size: Checkpoint(ORIGIN, size, bytes(32)))
        with pytest.raises(NotFoundError, match=r"tile/0/002\.p/88"):
            tiles.check_edge()


def test_the_beginning_of_a_wider_tile_is_checked_like_any_tile() -> None:
    old, new = resources(numbered_entries(520)), resources(numbered_entries(700))
    for name in (path_of(0, 2, 188), path_of("entries", 2, 188)):
        wrong = {**new, name: flipped(new[name], 20)}
        tiles = VerifiedTiles(Folder(wrong), checkpoint_of(old), newer=lambda: checkpoint_of(new))
        with pytest.raises((ProofError, MalformedError)):
            tiles.check_all()


def test_a_cache_spares_requests_and_is_checked_at_every_use() -> None:
    made = resources(numbered_entries(600))
    cache, folder = Cache(), Folder(made)
    VerifiedTiles(folder, checkpoint_of(made), cache).check_all()
    assert cache.kept == {name: data for name, data in made.items() if name != "checkpoint"}
    asked = len(folder.asked)
    VerifiedTiles(folder, checkpoint_of(made), cache).check_all()
    assert len(folder.asked) == asked

    for name in list(cache.kept):
        cache.kept[name] = flipped(made[name], 9)
        VerifiedTiles(folder, checkpoint_of(made), cache).check_all()
        assert cache.kept[name] == made[name], "the wrong tile is replaced by the right one"
    cache.kept = dict.fromkeys(cache.kept, b"torn")
    VerifiedTiles(folder, checkpoint_of(made), cache).check_all()
    assert cache.kept == {name: data for name, data in made.items() if name != "checkpoint"}


def test_a_wrong_cache_does_not_excuse_a_wrong_source() -> None:
    made = resources(numbered_entries(600))
    for name, wrong in changed_once(made, 3):
        cache = Cache({name: b"torn"})
        with pytest.raises((VerificationError, MalformedError)):
            VerifiedTiles(Folder(wrong), checkpoint_of(made), cache).check_all()
        assert cache.kept[name] == b"torn"


def stored_resources(size: int) -> tuple[dict[str, bytes], Checkpoint]:
    """The hash tiles of a large tree, made by tlog.integrate in no time."""
    hashes = [sha256(b"\x00entry %d" % number) for number in range(size)]
    edge, stored = integrate(TreeEdge.EMPTY, hashes)
    made = {}
    for (level, index), data in stored.items():
        width = min(256, (size >> 8 * level) - 256 * index)
        made[path_of(level, index, width)] = data[: 32 * width]
    return made, Checkpoint(ORIGIN, size, edge.root_hash)


def test_a_tree_of_70000_leaves_has_the_tiles_of_the_specification_and_bounded_memory() -> None:
    """tlog-tiles: "a tree of size 70,000 will be represented by 273 full level 0 tiles, …"."""
    made, checkpoint = stored_resources(70_000)
    counts = [
        sum(name.startswith(f"tile/{level}/") and ".p/" not in name for name in made) for level in range(4)
    ]
    assert counts == [273, 1, 0, 0]
    assert {name for name in made if ".p/" in name} == {
        "tile/0/273.p/112",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
    }
    folder = Folder(made)
    tiles = VerifiedTiles(folder, checkpoint)
    assert tiles.check_all(entries=False).hash_tiles == len(made)
    assert sorted(folder.asked) == sorted(made), "each tile is fetched once"
    assert len(tiles._full) <= TILES_IN_MEMORY
    for leaf in (0, 65_535, 65_536, 69_999):
        node = sha256(b"\x00entry %d" % leaf)
        verify_inclusion(node, leaf, 70_000, tiles.prove_inclusion(leaf), checkpoint.root_hash)
    for name in ("tile/0/000", "tile/0/272", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"):
        wrong = {**made, name: flipped(made[name], 77)}
        with pytest.raises(ProofError):
            VerifiedTiles(Folder(wrong), checkpoint).check_all(entries=False)


def test_one_proof_needs_a_handful_of_tiles() -> None:
    made, checkpoint = stored_resources(70_000)
    folder = Folder(made)
    VerifiedTiles(folder, checkpoint).prove_inclusion(1_000)
    assert sorted(folder.asked) == [
        "tile/0/003",
        "tile/0/273.p/112",
        "tile/1/000",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
    ]
