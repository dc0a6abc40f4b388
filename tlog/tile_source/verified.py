"""A tiled log that can be believed: every tile is tied to a signed root before it is used, or kept.

The partial tiles at the right edge of the tree hold exactly the hashes that the root is made of; a full tile
hashes to one hash of the tile above it. So the edge is checked against the root, every other tile against its
parent, and an entry bundle against the leaf hashes: nothing rests on what the source says. A cache is no more
believed than a source is.

What is held in memory does not grow with the tree: the edge, and the tiles that were used last.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from tlog.checkpoint import Checkpoint
from tlog.errors import MalformedError, OutOfRangeError, ProofError
from tlog.integrate import TreeEdge, integrate, node_coordinates, tile_node
from tlog.merkle import (
    HASH_BYTES,
    CompactRange,
    compact_range_nodes,
    leaf_hash,
    prove_consistency,
    prove_inclusion,
    prove_range,
)
from tlog.tile_source.base import TileCache, TileSource
from tlog.tile_source.fetching import NewerCheckpoint, fetch_ahead, fetch_tile
from tlog.tiles import (
    ENTRIES_LEVEL,
    MAX_TILE_LEVEL,
    TILE_HEIGHT,
    TILE_WIDTH,
    Tile,
    decode_entry_bundle,
    decode_hash_tile,
    partial_width,
    tile_at,
    tiles_for_size,
)

T = TypeVar("T")

TILES_IN_MEMORY = 256
"""How many authenticated full tiles are held, of 16 KB each with their inner nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaves:
    """Holds the authenticated leaves [start, start + len(hashes)) of one tile, with or without entries."""

    start: int
    hashes: tuple[bytes, ...]
    entries: tuple[bytes, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedTree:
    """Says how much was found right: tiles, bundles, entries, and the entries' length in bytes."""

    hash_tiles: int
    entry_bundles: int
    entries: int
    entry_bytes: int


@dataclass(frozen=True, slots=True)
class _Fetched:
    """Holds a tile's bytes as they came, and whether they came out of the cache."""

    data: bytes
    cached: bool


class VerifiedTiles:
    """Reads one tree of one log; belongs to one thread at a time."""

    def __init__(
        self,
        source: TileSource,
        checkpoint: Checkpoint,
        cache: TileCache | None = None,
        *,
        newer: NewerCheckpoint | None = None,
    ) -> None:
        """Read the tree of a checkpoint whose signature the caller has verified; fetches nothing yet.

        `newer` finds partial tiles that were replaced by wider ones meanwhile. What methods raise: ProofError
        when the source's tiles are not those of this tree, MalformedError when they are no tiles, and what
        sources raise.
        """
        self.checkpoint = checkpoint
        self._source = source
        self._cache = cache
        self._newer = newer
        self._edge: dict[int, bytes] | None = None
        self._full: OrderedDict[tuple[int, int], bytes] = OrderedDict()

    @property
    def tree_size(self) -> int:
        """Return the number of leaves of the tree."""
        return self.checkpoint.tree_size

    def read_node(self, level: int, index: int) -> bytes:
        """Return the root of the complete subtree of leaves [index << level, (index + 1) << level).

        Raises OutOfRangeError when the tree does not have all those leaves; else as said in `__init__`.
        """
        if level < 0 or index < 0 or index >= self.tree_size >> level:
            raise OutOfRangeError(
                f"a tree of {self.tree_size} leaves has no complete subtree {index} at level {level}"
            )
        tile_level, tile_index, height, offset = node_coordinates(level, index)
        width = tile_at(tile_level, tile_index, self.tree_size).width
        return tile_node(self._stored_tile(tile_level, tile_index), width, height, offset)

    def check_edge(self) -> None:
        """Check that the tiles at the tree's right edge lead to its root: the least that can be checked."""
        self._edge_tiles()

    def root_hash(self, tree_size: int) -> bytes:
        """Compute the root of the first `tree_size` leaves. Raises OutOfRangeError beyond the tree."""
        self._require_size(tree_size)
        nodes = tuple(self.read_node(*node) for node in compact_range_nodes(0, tree_size))
        return CompactRange(0, tree_size, nodes).root_hash()

    def prove_inclusion(self, leaf_index: int, tree_size: int | None = None) -> list[bytes]:
        """Prove one leaf. Requires 0 <= leaf_index < tree_size <= self.tree_size, else OutOfRangeError."""
        return prove_inclusion(self.read_node, leaf_index, self._require_size(tree_size))

    def prove_consistency(self, size1: int, size2: int | None = None) -> list[bytes]:
        """Prove a prefix. Requires 0 <= size1 <= size2 <= self.tree_size, else OutOfRangeError."""
        return prove_consistency(self.read_node, size1, self._require_size(size2))

    def prove_range(
        self, start: int, end: int, tree_size: int | None = None
    ) -> tuple[list[bytes], list[bytes]]:
        """Prove leaves [start, end). Requires 0 <= start < end <= tree_size <= self.tree_size."""
        return prove_range(self.read_node, start, end, self._require_size(tree_size))

    def leaf_hashes(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the hashes of leaves [start, end); no entries are fetched. Raises OutOfRangeError."""
        for leaves in self.leaves(start, end, entries=False):
            yield from leaves.hashes

    def entries(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield (leaf index, entry) for [start, end). Raises OutOfRangeError, else as `__init__` says."""
        for leaves in self.leaves(start, end, entries=True):
            yield from enumerate(leaves.entries or (), leaves.start)

    def leaves(self, start: int, end: int, *, entries: bool, rebuild: bool = False) -> Iterator[Leaves]:
        """Yield leaves [start, end), those of one tile at a time, with or without their entries.

        With `rebuild`, full tiles of leaf hashes are made from the entries, and not asked for: whether the
        source has them right stays open then. Requires 0 <= start <= end <= self.tree_size, else
        OutOfRangeError. Fetches ahead where the source allows it.
        """
        if not 0 <= start <= end <= self.tree_size:
            raise OutOfRangeError(
                f"leaves [{start}, {end}) are asked for, and the tree has {self.tree_size}: ask for a range "
                "within that"
            )
        return self._leaves(start, end, entries=entries, rebuild=rebuild and entries)

    def check_all(
        self, *, entries: bool = True, progress: Callable[[int], None] | None = None
    ) -> CheckedTree:
        """Check every tile of the tree, and every entry bundle unless `entries` is false, against the root.

        `progress` is told how many more leaves are done. The root is also rebuilt from the leaves alone, as
        somebody would who has nothing but the entries.
        """
        rebuilt = CompactRange.empty()
        entry_count = entry_bytes = 0
        for leaves in self.leaves(0, self.tree_size, entries=entries):
            rebuilt = rebuilt.extend(leaves.hashes)
            if leaves.entries is not None:
                entry_count += len(leaves.entries)
                entry_bytes += sum(map(len, leaves.entries))
            if progress is not None:
                progress(len(leaves.hashes))
        if rebuilt.root_hash() != self.checkpoint.root_hash:
            raise ProofError(
                f"the leaves of {self._source.name} make root {rebuilt.root_hash().hex()}, and signed is "
                f"{self.checkpoint.root_hash.hex()}"
            )
        return CheckedTree(
            hash_tiles=sum(1 for _ in tiles_for_size(self.tree_size)),
            entry_bundles=-(-entry_count // TILE_WIDTH),
            entries=entry_count,
            entry_bytes=entry_bytes,
        )

    def _leaves(self, start: int, end: int, *, entries: bool, rebuild: bool) -> Iterator[Leaves]:
        self._edge_tiles()
        indices = range(start // TILE_WIDTH, -(-end // TILE_WIDTH)) if start < end else range(0)

        def fetch(index: int) -> tuple[_Fetched | None, _Fetched | None]:
            tile = tile_at(0, index, self.tree_size)
            bundle = tile_at(ENTRIES_LEVEL, index, self.tree_size)
            # A partial tile is of the edge, which is there already.
            return (
                self._fetch(tile) if tile.width == TILE_WIDTH and not rebuild else None,
                self._fetch(bundle) if entries else None,
            )

        for index, (fetched, bundle) in fetch_ahead(indices, fetch, self._source.concurrency):
            found = self._rebuilt(index, bundle) if rebuild and bundle is not None else None
            hashes, read = found or self._read_leaves(index, fetched, bundle)
            first = index * TILE_WIDTH
            cut = slice(max(start - first, 0), min(end - first, len(hashes)))
            yield Leaves(
                start=first + cut.start,
                hashes=tuple(hashes[cut]),
                entries=None if read is None else tuple(read[cut]),
            )

    def _read_leaves(
        self, index: int, fetched: _Fetched | None, bundle: _Fetched | None
    ) -> tuple[list[bytes], list[bytes] | None]:
        """Return the authenticated leaf hashes of one tile, and its entries where there is a bundle."""
        tile = tile_at(0, index, self.tree_size)
        stored = self._stored_tile(0, index, fetched)
        hashes = decode_hash_tile(stored[: HASH_BYTES * tile.width], tile.width)
        return hashes, None if bundle is None else self._bundle(index, bundle, hashes)

    def _rebuilt(self, index: int, bundle: _Fetched) -> tuple[list[bytes], list[bytes]] | None:
        """Return leaf hashes and entries of a full bundle whose root the tile above has, and keep both.

        None where the bundle is not full, or leads elsewhere: which entry is wrong then, the tile tells.
        """
        tile = tile_at(0, index, self.tree_size)
        if tile.width < TILE_WIDTH:
            return None
        try:
            entries = decode_entry_bundle(bundle.data, TILE_WIDTH)
        except MalformedError:
            return None
        hashes = [leaf_hash(entry) for entry in entries]
        data = b"".join(hashes)
        if _stored_form(data, TILE_WIDTH)[1] != self.read_node(TILE_HEIGHT, index):
            return None
        self._keep(tile_at(ENTRIES_LEVEL, index, self.tree_size), bundle)
        if self._cache is not None and self._cache.get(tile) != data:
            self._cache.put(tile, data)
        return hashes, entries

    def _require_size(self, tree_size: int | None) -> int:
        size = self.tree_size if tree_size is None else tree_size
        if size > self.tree_size:
            raise OutOfRangeError(
                f"tree size {size} is asked for, and the signed checkpoint is of size {self.tree_size}: "
                "ask for a size up to that"
            )
        return size

    def _stored_tile(self, level: int, index: int, fetched: _Fetched | None = None) -> bytes:
        """Return an authenticated tile in its stored form (tlog.integrate), fetching what is missing."""
        tile = tile_at(level, index, self.tree_size)
        if tile.width < TILE_WIDTH:
            return self._edge_tiles()[level]
        held = self._full.get((level, index))
        if held is not None:
            self._full.move_to_end((level, index))
            return held
        # The tile above has this one's root. The way up ends at the edge, after at most 7 levels.
        parent = self.read_node(TILE_HEIGHT * (level + 1), index)

        def accept(data: bytes) -> bytes:
            stored, root = _stored_form(data, TILE_WIDTH)
            if root != parent:
                raise ProofError(f"it hashes to {root.hex()}, and the tile above it says {parent.hex()}")
            return stored

        stored = self._accepted(tile, fetched or self._fetch(tile), accept)
        self._full[level, index] = stored
        if len(self._full) > TILES_IN_MEMORY:
            self._full.popitem(last=False)
        return stored

    def _edge_tiles(self) -> dict[int, bytes]:
        """Return the authenticated partial tile of every level that has one, in stored form, by level."""
        if self._edge is None:
            tiles = [
                Tile(level, (self.tree_size >> TILE_HEIGHT * level) // TILE_WIDTH, width)
                for level in range(MAX_TILE_LEVEL + 1)
                if (width := partial_width(level, self.tree_size))
            ]
            self._edge = self._read_edge(tiles, [self._fetch(tile) for tile in tiles])
        return self._edge

    def _read_edge(self, tiles: list[Tile], fetched: list[_Fetched]) -> dict[int, bytes]:
        try:
            edge = self._edge_of(tiles, [one.data for one in fetched])
        except (ProofError, MalformedError):
            # Which of them is wrong cannot be told: only all together lead to the root.
            if not any(one.cached for one in fetched):
                raise
            return self._read_edge(tiles, [self._fetch_anew(tile) for tile in tiles])
        for tile, one in zip(tiles, fetched, strict=True):
            self._keep(tile, one)
        return edge

    def _edge_of(self, tiles: list[Tile], data: list[bytes]) -> dict[int, bytes]:
        edge = {tile.level: _stored_form(one, tile.width)[0] for tile, one in zip(tiles, data, strict=True)}
        widths = {tile.level: tile.width for tile in tiles}
        hashes = []
        for node in compact_range_nodes(0, self.tree_size):
            tile_level, _, height, offset = node_coordinates(*node)
            hashes.append(tile_node(edge[tile_level], widths[tile_level], height, offset))
        root = CompactRange(0, self.tree_size, tuple(hashes)).root_hash()
        if root != self.checkpoint.root_hash:
            paths = ", ".join(tile.path for tile in tiles) or "a tree without leaves"
            raise ProofError(
                f"{paths} of {self._source.name} lead to root {root.hex()}, and signed for size "
                f"{self.tree_size} is {self.checkpoint.root_hash.hex()}: these are not the tiles of this tree"
            )
        return edge

    def _bundle(self, index: int, fetched: _Fetched, hashes: list[bytes]) -> list[bytes]:
        """Return the authenticated entries of one bundle, given the authenticated hashes of its leaves."""

        def accept(data: bytes) -> list[bytes]:
            entries = decode_entry_bundle(data, len(hashes))
            for offset, (entry, expected) in enumerate(zip(entries, hashes, strict=True)):
                if leaf_hash(entry) != expected:
                    raise ProofError(
                        f"entry {index * TILE_WIDTH + offset} hashes to {leaf_hash(entry).hex()}, and the "
                        f"tree has {expected.hex()} there"
                    )
            return entries

        return self._accepted(tile_at(ENTRIES_LEVEL, index, self.tree_size), fetched, accept)

    def _accepted(self, tile: Tile, fetched: _Fetched, accept: Callable[[bytes], T]) -> T:
        """Authenticate a tile, once more from the source where the cache's is wrong, and keep it."""
        try:
            accepted = accept(fetched.data)
        except (ProofError, MalformedError) as error:
            if fetched.cached:
                return self._accepted(tile, self._fetch_anew(tile), accept)
            kind = ProofError if isinstance(error, ProofError) else MalformedError
            raise kind(f"{tile.path} of {self._source.name} is not this tree's: {error}") from error
        self._keep(tile, fetched)
        return accepted

    def _fetch(self, tile: Tile) -> _Fetched:
        """Take a tile from the cache, else from the source; touches nothing else, so any thread may."""
        if self._cache is not None and (data := self._cache.get(tile)) is not None:
            return _Fetched(data, cached=True)
        return self._fetch_anew(tile)

    def _fetch_anew(self, tile: Tile) -> _Fetched:
        return _Fetched(fetch_tile(self._source, tile, self._newer), cached=False)

    def _keep(self, tile: Tile, fetched: _Fetched) -> None:
        if self._cache is not None and not fetched.cached:
            self._cache.put(tile, fetched.data)


def _stored_form(data: bytes, width: int) -> tuple[bytes, bytes]:
    """Return a tile with all its inner nodes (tlog.integrate), and the root of what it spans."""
    edge, tiles = integrate(TreeEdge.EMPTY, decode_hash_tile(data, width))
    return tiles[0, 0], edge.root_hash
