"""Grow the tree in stored hash tiles: new leaf hashes in, the changed tiles and the new right edge out. Pure.

A *stored hash tile* holds 8 levels of the tree. Tile (level L, index N) of width W has, for height h = 0..7,
the W >> h complete nodes at tree level 8 * L + h from index (256 * N) >> h on, height after height. Its first
32 * W bytes are therefore the C2SP tile (tlog-tiles: "the hashes … at the specified level"), and a full one
is 510 * 32 bytes. Height 8 of a full tile is one hash in the tile above, so no node is stored, or hashed,
twice. The tile at the right edge of a level is stored under the same name as the full one that it becomes.

Why the inner nodes are kept: docs/decisions/0001-hash-tile-layout.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from struct import Struct
from typing import ClassVar

from tlog.encoding import MAX_SIZE
from tlog.errors import CorruptionError, MalformedError, OutOfRangeError
from tlog.merkle import HASH_BYTES, CompactRange

TILE_HEIGHT = 8
"""How many levels of the tree one stored tile holds."""

TILE_WIDTH = 1 << TILE_HEIGHT
"""How many hashes a full tile has at its lowest level."""

Heights = tuple[bytes, bytes, bytes, bytes, bytes, bytes, bytes, bytes]
"""Holds the hashes of one tile, those of each height joined, the lowest height first."""

ReadTile = Callable[[int, int], bytes]
"""Reads, by level and index, the stored tile of the tree's current size."""

_NO_HASHES: Heights = (b"", b"", b"", b"", b"", b"", b"", b"")

# Where every height starts in a stored tile, in bytes, by width; the ninth number is the whole length.
_STARTS = [
    [HASH_BYTES * sum(width >> h for h in range(height)) for height in range(TILE_HEIGHT + 1)]
    for width in range(TILE_WIDTH + 1)
]

# node_hash, written out where the loop is: a call a node would cost a tenth of an append.
_NODE_PREFIX = b"\x01"


def stored_tile_bytes(width: int) -> int:
    """Return the length in bytes of a stored tile. Requires 0 <= width <= 256."""
    return _STARTS[width][TILE_HEIGHT]


def tile_width(tree_size: int, level: int, index: int) -> int:
    """Return how many hashes, 0 to 256, tile (level, index) has at its lowest level in a tree of that size.

    Requires tree_size >= 0, level >= 0 and index >= 0.
    """
    return max(0, min(TILE_WIDTH, (tree_size >> (TILE_HEIGHT * level)) - index * TILE_WIDTH))


def node_coordinates(level: int, index: int) -> tuple[int, int, int, int]:
    """Return (tile level, tile index, height, offset) of the node at a tree level and index.

    Requires level >= 0 and index >= 0. The tile has that node when its width W has offset < W >> height.
    """
    tile_level, height = divmod(level, TILE_HEIGHT)
    per_tile = TILE_HEIGHT - height
    return tile_level, index >> per_tile, height, index & ((1 << per_tile) - 1)


def tile_node(stored: bytes | memoryview, width: int, height: int, offset: int) -> bytes:
    """Cut one node's hash (32 bytes) out of a stored tile.

    Requires len(stored) == stored_tile_bytes(width), 0 <= height < 8 and 0 <= offset < width >> height, else
    OutOfRangeError.
    """
    if not (0 <= width <= TILE_WIDTH and 0 <= height < TILE_HEIGHT and 0 <= offset < width >> height):
        raise OutOfRangeError(f"a tile of width {width} has no complete node {offset} at height {height}")
    start = _STARTS[width][height] + HASH_BYTES * offset
    return bytes(stored[start : start + HASH_BYTES])


def _siblings_in_tile(offset: int) -> Struct:
    """Return what cuts the eight siblings of `tile_siblings` out of a full stored tile, in one call."""
    starts = [
        start + HASH_BYTES * ((offset >> height) ^ 1)
        for height, start in enumerate(_STARTS[TILE_WIDTH][:TILE_HEIGHT])
    ]
    ends = [0, *(start + HASH_BYTES for start in starts)]
    return Struct("".join(f"{start - end}x{HASH_BYTES}s" for start, end in zip(starts, ends, strict=False)))


_SIBLINGS = [_siblings_in_tile(offset) for offset in range(TILE_WIDTH)]


def tile_siblings(stored: bytes | memoryview, offset: int) -> tuple[bytes, ...]:
    """Cut the siblings of a full tile's hash `offset`, and of its seven ancestors, out of the stored tile.

    They are the part of an inclusion proof that one tile holds, eight hashes of 32 bytes, the deepest first.
    Requires len(stored) == stored_tile_bytes(256) and 0 <= offset < 256, else OutOfRangeError.
    """
    if len(stored) != stored_tile_bytes(TILE_WIDTH) or not 0 <= offset < TILE_WIDTH:
        raise OutOfRangeError(f"{len(stored)} bytes are no full tile with a hash {offset}")
    return _SIBLINGS[offset].unpack_from(stored)


@dataclass(frozen=True, slots=True)
class TreeEdge:
    """Holds what the next leaves are joined to: the partial tile at the right edge of every level.

    `tiles[L]` belongs to level L, and is empty where the level's last tile is full. At most 8 * 255 * 2
    hashes, whatever the tree's size.
    """

    tree_size: int
    tiles: tuple[Heights, ...]
    _compact_range: CompactRange | None = field(default=None, init=False, repr=False, compare=False)

    EMPTY: ClassVar[TreeEdge]
    """The edge of the tree without leaves."""

    @classmethod
    def load(cls, tree_size: int, read_tile: ReadTile) -> TreeEdge:
        """Read the edge of a tree of `tree_size` leaves from its stored tiles, and hash it anew.

        Requires 0 <= tree_size < 2**63, else OutOfRangeError. Raises CorruptionError when a tile's length or
        inner nodes are wrong, and whatever `read_tile` raises. That the lowest hashes are right shows when
        the caller compares `root_hash` with the signed checkpoint.
        """
        if not 0 <= tree_size <= MAX_SIZE:
            raise OutOfRangeError(f"tree size {tree_size} is not from 0 to {MAX_SIZE}")
        tiles: list[Heights] = []
        while nodes := tree_size >> (TILE_HEIGHT * len(tiles)):
            level, (index, width) = len(tiles), divmod(nodes, TILE_WIDTH)
            if width == 0:
                tiles.append(_NO_HASHES)
                continue
            stored = read_tile(level, index)
            heights = _grow(_NO_HASHES, stored[: HASH_BYTES * width])
            if len(stored) != stored_tile_bytes(width) or b"".join(heights) != stored:
                raise CorruptionError(
                    f"stored tile {index} of level {level} (width {width}, {len(stored)} bytes) is too "
                    "short or too long, or its inner nodes do not follow from its lowest hashes: restore "
                    "the store from a backup"
                )
            tiles.append(heights)
        return cls(tree_size, tuple(tiles))

    @property
    def compact_range(self) -> CompactRange:
        """Return the compact range of all leaves; it is put together once."""
        if self._compact_range is None:
            object.__setattr__(self, "_compact_range", CompactRange(0, self.tree_size, self._roots()))
        assert self._compact_range is not None
        return self._compact_range

    def _roots(self) -> tuple[bytes, ...]:
        hashes: list[bytes] = []
        rest = self.tree_size
        # The last hash of each height stands for a one bit of the size, the lowest height for the lowest bit.
        for heights in self.tiles:
            if rest & (TILE_WIDTH - 1):
                hashes += [nodes[-HASH_BYTES:] for height, nodes in enumerate(heights) if rest >> height & 1]
            rest >>= TILE_HEIGHT
        hashes.reverse()
        return tuple(hashes)

    def node(self, level: int, index: int) -> bytes | None:
        """Return the hash (32 bytes) of a complete subtree that the tiles here hold, else None.

        Those are all roots of the compact range of all leaves, and whatever was appended since the last tile
        of its level was full. Requires level >= 0 and index >= 0.
        """
        tile_level, height = divmod(level, TILE_HEIGHT)
        if tile_level >= len(self.tiles):
            return None
        first = self.tree_size >> (TILE_HEIGHT * (tile_level + 1)) << (TILE_HEIGHT - height)
        start = HASH_BYTES * (index - first)
        if start < 0:
            return None
        return self.tiles[tile_level][height][start : start + HASH_BYTES] or None

    @property
    def root_hash(self) -> bytes:
        """Return the root hash of the tree (32 bytes); folded anew at every call, in O(log n)."""
        return self.compact_range.root_hash()


TreeEdge.EMPTY = TreeEdge(0, ())


def integrate(edge: TreeEdge, leaf_hashes: Sequence[bytes]) -> tuple[TreeEdge, dict[tuple[int, int], bytes]]:
    """Join leaves to the right of a tree; return the new edge and the stored tiles that changed.

    The tiles are by (level, index). Hashes each new complete node exactly once. Raises MalformedError when a
    leaf hash is not 32 bytes, and OutOfRangeError when the tree would grow beyond 2**63 - 1 leaves.
    """
    for position, leaf_hash in enumerate(leaf_hashes):
        if len(leaf_hash) != HASH_BYTES:
            raise MalformedError(
                f"leaf hash {position} of the batch has {len(leaf_hash)} bytes, not {HASH_BYTES}"
            )
    tree_size = edge.tree_size + len(leaf_hashes)
    if tree_size > MAX_SIZE:
        raise OutOfRangeError(f"a tree of {edge.tree_size} leaves cannot take {len(leaf_hashes)} more")
    changed: dict[tuple[int, int], bytes] = {}
    tiles: list[Heights] = list(edge.tiles)
    level, hashes = 0, b"".join(leaf_hashes)
    while hashes:
        if level == len(tiles):
            tiles.append(_NO_HASHES)
        heights, index = tiles[level], (edge.tree_size >> (TILE_HEIGHT * level)) // TILE_WIDTH
        roots: list[bytes] = []
        taken = 0
        while taken < len(hashes):
            room = HASH_BYTES * TILE_WIDTH - len(heights[0])
            heights = _grow(heights, hashes[taken : taken + room])
            taken += room
            changed[level, index] = b"".join(heights)
            if len(heights[0]) == HASH_BYTES * TILE_WIDTH:
                roots.append(sha256(_NODE_PREFIX + heights[-1]).digest())
                heights, index = _NO_HASHES, index + 1
        tiles[level] = heights
        level, hashes = level + 1, b"".join(roots)
    return TreeEdge(tree_size, tuple(tiles)), changed


def _grow(heights: Heights, hashes: bytes) -> Heights:
    """Add hashes on the right of a tile's lowest height, and every inner node that they complete."""
    nodes = heights[0] + hashes
    grown = [nodes]
    for old in heights[1:]:
        # `old` holds the parents of the first 2 * len(old) bytes of `nodes`.
        new = [
            sha256(_NODE_PREFIX + nodes[i : i + 2 * HASH_BYTES]).digest()
            for i in range(2 * len(old), len(nodes) - HASH_BYTES, 2 * HASH_BYTES)
        ]
        nodes = old + b"".join(new)
        grown.append(nodes)
    h0, h1, h2, h3, h4, h5, h6, h7 = grown
    return h0, h1, h2, h3, h4, h5, h6, h7
