"""Rebuild a tree from its entries, hold it against stored tiles and the signed root, and say who is wrong.

There are three witnesses for every leaf: the entry, which hashes to it; the tile, which holds that hash; and
the tile above, which holds the hash of the whole tile, and so on up to the signed root. Where they disagree,
the way down from the root decides: whatever leads to it is right, and nothing else can be. Where neither the
entries' hashes nor the stored ones lead there, nor a mixture of the two, nobody here can tell, and a mirror
has to.

Pure, but for the tiles that it is given a function to read. Memory: the tree's edge, and an index and a hash
for every entry that is wrong; tiles that differ are put where the caller says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice, product
from typing import Final

from tlog.integrate import (
    TILE_HEIGHT,
    TILE_WIDTH,
    TreeEdge,
    integrate,
    node_coordinates,
    stored_tile_bytes,
    tile_node,
    tile_width,
)
from tlog.merkle import HASH_BYTES, CompactRange, compact_range_nodes

MAX_TRIED: Final = 8
"""Of how many hashes in one tile every mixture is tried."""

ReadStored = Callable[[int, int], bytes | None]
"""Reads a tile as it is stored, whole or as a C2SP tile, or None where it is missing."""

_ABSENT: Final = sha256(b"tlog fsck: there is no such entry").digest()
"""Stands for the leaf hash of an entry that is missing: no entry has it."""

Coordinates = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongTile:
    """Names a tile that is not what the entries and the signed root make it.

    `expected` is its stored form, with inner nodes; `wrong_nodes` are positions of wrong hashes at its lowest
    level, none where only inner nodes, or its length, are wrong.
    """

    level: int
    index: int
    expected: bytes
    wrong_nodes: tuple[int, ...]
    is_missing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeVerdict:
    """Says which entries and which tiles are wrong.

    `wrong_entries` are by leaf index, with the leaf hash that the signed tree has there, or None where that
    could not be decided. `entries_root` is the root of the entries as they are; `leads_to_root` says that the
    entries, or the tiles that were believed in their place, lead to the signed root. `tiles` were looked at;
    `wrong_tiles` works them out one by one; `undecided_tiles`, by level and index, may be right or wrong.
    """

    entries_root: bytes
    leads_to_root: bool
    wrong_entries: dict[int, bytes | None]
    wrong_tiles: Callable[[], Iterator[WrongTile]]
    undecided_tiles: tuple[Coordinates, ...]
    tiles: int


class TreeCheck:
    """Takes leaf hashes in order, and ends with a verdict."""

    def __init__(
        self,
        tree_size: int,
        root_hash: bytes | None,
        read_stored: ReadStored,
        *,
        inner_nodes: bool,
        make_shelf: Callable[[], MutableMapping[Coordinates, bytes]] = dict,
    ) -> None:
        """Check a tree of `tree_size` leaves; `root_hash` is None where no signed root is left.

        With `inner_nodes` a tile is stored with all of them (tlog.integrate), else only its lowest level.
        `make_shelf` makes what holds the tiles that differ, of at most 8 KB each.
        """
        self._tree_size = tree_size
        self._root_hash = root_hash
        self._read_stored = read_stored
        self._inner_nodes = inner_nodes
        self._edge = TreeEdge.EMPTY
        self._rebuilt = make_shelf()
        self._right = make_shelf()
        self._undecided: set[Coordinates] = set()
        self._tiles = 0

    @property
    def tree_size(self) -> int:
        """Return how many leaves were added."""
        return self._edge.tree_size

    def root_at(self, hashes: Sequence[bytes | None]) -> bytes:
        """Return the root of the tree with these leaves behind those that were added; nothing changes."""
        return integrate(self._edge, _present(hashes))[0].root_hash

    def add(self, hashes: Sequence[bytes | None]) -> tuple[int, ...]:
        """Add the next leaves, those of one tile; None where an entry is missing.

        Requires that they fill a tile, or are the tree's last ones. Returns the positions, from 0, at which
        the stored tile has another hash.
        """
        index = self._edge.tree_size // TILE_WIDTH
        self._edge, changed = integrate(self._edge, _present(hashes))
        for (level, tile_index), rebuilt in changed.items():
            width = tile_width(self._tree_size, level, tile_index)
            if len(rebuilt) == stored_tile_bytes(width):
                self._compare(level, tile_index, rebuilt, width)
        return self._differing((0, index)) if (0, index) in self._rebuilt else ()

    def finish(self) -> TreeVerdict:
        """Decide what is wrong, after every leaf was added."""
        assert self._edge.tree_size == self._tree_size
        root = self._edge.root_hash
        if root == self._root_hash or (self._root_hash is None and not self._rebuilt):
            # The entries are the log's own, so every tile that differs is wrong.
            for coordinates in self._rebuilt:
                self._right[coordinates] = self._rebuilt[coordinates]
            is_right = self._root_hash is not None
        else:
            is_right = self._resolve()
        return TreeVerdict(
            entries_root=root,
            leads_to_root=is_right,
            wrong_entries=self._wrong_entries(),
            wrong_tiles=self._wrong_tiles,
            undecided_tiles=tuple(sorted(self._undecided)),
            tiles=self._tiles,
        )

    def _compare(self, level: int, index: int, rebuilt: bytes, width: int) -> None:
        self._tiles += 1
        lowest = HASH_BYTES * width
        stored = self._read_stored(level, index)
        if stored == (rebuilt if self._inner_nodes else rebuilt[:lowest]):
            return
        self._rebuilt[level, index] = rebuilt[:lowest]

    def _stored_lowest(self, coordinates: Coordinates) -> bytes | None:
        """Return the lowest hashes of a tile as it is stored, or None where it has not that length."""
        level, index = coordinates
        width = tile_width(self._tree_size, level, index)
        stored = self._read_stored(level, index)
        length = stored_tile_bytes(width) if self._inner_nodes else HASH_BYTES * width
        return stored[: HASH_BYTES * width] if stored is not None and len(stored) == length else None

    def _differing(self, coordinates: Coordinates) -> tuple[int, ...]:
        rebuilt = self._rebuilt[coordinates]
        stored = self._stored_lowest(coordinates)
        return tuple(range(len(rebuilt) // HASH_BYTES)) if stored is None else _apart(rebuilt, stored)

    def _resolve(self) -> bool:
        """Go down from the root, and find the right lowest hashes of every tile that differs.

        Returns whether the tiles at the right edge could be made to lead to the root.
        """
        edge = self._resolve_edge()
        for coordinates in self._edge_tiles():
            if edge is None:
                self._undecided.add(coordinates)
            elif coordinates in self._rebuilt:
                self._right[coordinates] = edge[coordinates]
        full = [one for one in self._rebuilt if tile_width(self._tree_size, *one) == TILE_WIDTH]
        for level, index in sorted(full, reverse=True):
            parent = self._right_node(level + 1, index)
            lowest = None if parent is None else self._resolve_full((level, index), parent)
            if lowest is None:
                self._undecided.add((level, index))
            else:
                self._right[level, index] = lowest
        return edge is not None

    def _edge_tiles(self) -> list[Coordinates]:
        tiles = []
        level = 0
        while nodes := self._tree_size >> TILE_HEIGHT * level:
            if nodes % TILE_WIDTH:
                tiles.append((level, nodes // TILE_WIDTH))
            level += 1
        return tiles

    def _resolve_edge(self) -> dict[Coordinates, bytes] | None:
        """Find the lowest hashes of the tiles at the right edge that lead to the signed root."""
        if self._root_hash is None:
            return None
        tiles = self._edge_tiles()
        choices = [list(_mixtures(self._variants(coordinates))) for coordinates in tiles]
        for number, chosen in enumerate(product(*choices)):
            if number > 1 << MAX_TRIED:
                break
            if self._root_of(tiles, chosen) == self._root_hash:
                return dict(zip(tiles, chosen, strict=True))
        return None

    def _variants(self, coordinates: Coordinates) -> list[bytes]:
        """Return what a tile's lowest hashes may be: as stored, as the entries or the tiles below say."""
        stored = self._stored_lowest(coordinates)
        # What does not differ is the same in both; what does was kept.
        rebuilt = self._rebuilt.get(coordinates, stored)
        assert rebuilt is not None
        variants = [rebuilt] if stored is None else [stored, rebuilt]
        level, index = coordinates
        below = bytearray(rebuilt)
        for offset in range(len(rebuilt) // HASH_BYTES if level else 0):
            child = level - 1, index * TILE_WIDTH + offset
            if child in self._rebuilt and (lowest := self._stored_lowest(child)) is not None:
                below[HASH_BYTES * offset : HASH_BYTES * (offset + 1)] = _tile_root(lowest)
        return [*variants, bytes(below)]

    def _root_of(self, tiles: Sequence[Coordinates], lowest: Sequence[bytes]) -> bytes:
        stored = {level: _stored_form(one) for (level, _), one in zip(tiles, lowest, strict=True)}
        hashes = []
        for node in compact_range_nodes(0, self._tree_size):
            level, _, height, offset = node_coordinates(*node)
            width = self._tree_size >> TILE_HEIGHT * level & (TILE_WIDTH - 1)
            hashes.append(tile_node(stored[level], width, height, offset))
        return CompactRange(0, self._tree_size, tuple(hashes)).root_hash()

    def _right_node(self, level: int, index: int) -> bytes | None:
        """Return the lowest hash `index` at a tile level, or None where it is not decided."""
        coordinates = level, index // TILE_WIDTH
        if coordinates in self._undecided:
            return None
        lowest = self._right.get(coordinates) or self._stored_lowest(coordinates)
        return None if lowest is None else _hash_at(lowest, index % TILE_WIDTH)

    def _resolve_full(self, coordinates: Coordinates, parent: bytes) -> bytes | None:
        for lowest in _mixtures(self._variants(coordinates)):
            if _tile_root(lowest) == parent:
                return lowest
        return None

    def _wrong_entries(self) -> dict[int, bytes | None]:
        wrong: dict[int, bytes | None] = {}
        for level, index in sorted(self._rebuilt):
            if level:
                break
            lowest = self._right.get((level, index))
            if lowest is None:
                for position in self._differing((level, index)):
                    wrong[index * TILE_WIDTH + position] = None
            else:
                for position in _apart(self._rebuilt[level, index], lowest):
                    wrong[index * TILE_WIDTH + position] = _hash_at(lowest, position)
        return wrong

    def _wrong_tiles(self) -> Iterator[WrongTile]:
        # Where nothing is decided, the tile may be right, and an entry wrong.
        for level, index in sorted(self._right):
            lowest = self._right[level, index]
            stored = self._read_stored(level, index)
            expected = _stored_form(lowest)
            if stored == (expected if self._inner_nodes else lowest):
                continue
            stored_lowest = self._stored_lowest((level, index))
            yield WrongTile(
                level=level,
                index=index,
                expected=expected,
                wrong_nodes=() if stored_lowest is None else _apart(stored_lowest, lowest),
                is_missing=stored is None,
            )


def _present(hashes: Sequence[bytes | None]) -> list[bytes]:
    return [_ABSENT if one is None else one for one in hashes]


def _hash_at(lowest: bytes, position: int) -> bytes:
    return lowest[HASH_BYTES * position : HASH_BYTES * (position + 1)]


def _apart(first: bytes, second: bytes) -> tuple[int, ...]:
    """Return the positions at which two tiles of one width have different hashes."""
    if first == second:
        return ()
    count = len(first) // HASH_BYTES
    return tuple(at for at in range(count) if _hash_at(first, at) != _hash_at(second, at))


def _mixtures(variants: Sequence[bytes]) -> Iterator[bytes]:
    """Yield each variant of a tile's lowest hashes, then mixtures of them where few positions differ."""
    whole = list(dict.fromkeys(variants))
    yield from whole
    positions = sorted({at for other in whole[1:] for at in _apart(whole[0], other)})
    if not 1 < len(positions) <= MAX_TRIED:
        return
    choices = [list(dict.fromkeys(_hash_at(one, at) for one in whole)) for at in positions]
    for hashes in islice(product(*choices), 1 << MAX_TRIED):
        mixed = bytearray(whole[0])
        for at, chosen in zip(positions, hashes, strict=True):
            mixed[HASH_BYTES * at : HASH_BYTES * (at + 1)] = chosen
        if bytes(mixed) not in whole:
            yield bytes(mixed)


def _split(lowest: bytes) -> list[bytes]:
    return [lowest[at : at + HASH_BYTES] for at in range(0, len(lowest), HASH_BYTES)]


def _stored_form(lowest: bytes) -> bytes:
    return integrate(TreeEdge.EMPTY, _split(lowest))[1][0, 0]


def _tile_root(lowest: bytes) -> bytes:
    return integrate(TreeEdge.EMPTY, _split(lowest))[0].root_hash
