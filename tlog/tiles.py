"""Tiles: the tree and the entries of a log cut into static resources (C2SP tlog-tiles).

A hash tile of level L is up to 256 consecutive roots of complete subtrees of 256**L leaves; an entry bundle
is up to 256 consecutive entries. What a full tile holds never changes again, so it can be cached for ever.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tlog.encoding import MAX_SIZE, check_bytes, shown
from tlog.errors import MalformedError, OutOfRangeError
from tlog.merkle import HASH_BYTES

TILE_HEIGHT = 8
"""How many levels of the tree one tile stands for."""
TILE_WIDTH = 256
"""How many hashes or entries a full tile has."""
ENTRIES_LEVEL = -1
"""The level of an entry bundle, which is no level of hashes."""
MAX_TILE_LEVEL = 63
"""The highest level that a path can name."""
MAX_BUNDLED_ENTRY_BYTES = 2**16 - 1
"""The longest entry that an entry bundle can carry: its length prefix has two bytes."""

_LENGTH_BYTES = 2
# Seven groups of three digits hold every index below 2**63; a leading group of zeroes is ruled out later.
_PATH = re.compile(
    r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Tile:
    """Names one tile: level -1 (an entry bundle) or 0 to 63, index within the level, and width 1 to 256.

    Raises MalformedError when a number is outside its range (0 <= index < 2**63).
    """

    level: int
    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        _check_int(self.level, "the level of a tile", ENTRIES_LEVEL, MAX_TILE_LEVEL)
        _check_int(self.index, "the index of a tile", 0, MAX_SIZE)
        _check_int(self.width, "the width of a tile", 1, TILE_WIDTH)

    @property
    def path(self) -> str:
        """The path below the log's prefix, such as `tile/0/x001/x234/067.p/5` or `tile/entries/000`."""
        level = "entries" if self.level == ENTRIES_LEVEL else str(self.level)
        digits = str(self.index)
        digits = digits.zfill(-len(digits) // 3 * -3)
        *groups, last = (digits[at : at + 3] for at in range(0, len(digits), 3))
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{level}/{''.join(f'x{group}/' for group in groups)}{last}{partial}"

    @property
    def start_index(self) -> int:
        """The first leaf index that the full tile spans: `n * 256**(l+1)`."""
        return self.index << TILE_HEIGHT * (max(self.level, 0) + 1)

    @property
    def end_index(self) -> int:
        """One past the last leaf index that the full tile spans, also where this one is partial."""
        return self.index + 1 << TILE_HEIGHT * (max(self.level, 0) + 1)


def parse_tile_path(path: str) -> Tile:
    """Parse the path of a tile below the log's prefix, in its one spelling. Raises MalformedError."""
    found = _PATH.fullmatch(path)
    if found is None:
        raise MalformedError(f"{shown(path)} is not the path of a tile, tile/<L>/<N>[.p/<W>]")
    level, index, width = found.groups()
    tile = Tile(
        ENTRIES_LEVEL if level == "entries" else int(level),
        int(index.replace("x", "").replace("/", "")),
        TILE_WIDTH if width is None else int(width),
    )
    if tile.path != path:
        raise MalformedError(f"{shown(path)} is not how the path of a tile is spelled: that is {tile.path}")
    return tile


def partial_width(level: int, tree_size: int) -> int:
    """Compute the width of the partial tile at a level: `floor(s / 256**l) mod 256`; 0 when there is none.

    Requires -1 <= level <= 63 and 0 <= tree_size < 2**63. Raises OutOfRangeError.
    """
    return _complete_subtrees(level, tree_size) % TILE_WIDTH


def tile_at(level: int, index: int, tree_size: int) -> Tile:
    """Name the tile at a place, as wide as it is in a tree of this size: full where it can be.

    Requires -1 <= level <= 63, 0 <= tree_size < 2**63, and index in the tree. Raises OutOfRangeError.
    """
    width = min(TILE_WIDTH, _complete_subtrees(level, tree_size) - index * TILE_WIDTH)
    if index < 0 or width <= 0:
        raise OutOfRangeError(f"a tree of {tree_size} leaves has no tile {index} at level {level}")
    return Tile(level, index, width)


def tiles_for_size(tree_size: int) -> Iterator[Tile]:
    """List the hash tiles of a tree, by level and then by index, one by one: a large tree has very many.

    Requires 0 <= tree_size < 2**63. Raises OutOfRangeError.
    """
    return itertools.chain.from_iterable(
        [_level_tiles(level, tree_size) for level in range(MAX_TILE_LEVEL + 1)]
    )


def entry_bundles_for_size(tree_size: int) -> Iterator[Tile]:
    """List the entry bundles of a tree by index, one by one. Requires 0 <= tree_size < 2**63.

    Raises OutOfRangeError.
    """
    return _level_tiles(ENTRIES_LEVEL, tree_size)


def locate_node(level: int, index: int) -> tuple[int, int, int, int]:
    """Find what the root of a complete subtree is computed from: (tile level, tile index, start, end).

    The subtree is that of leaves [index << level, (index + 1) << level); its root is the Merkle root of the
    tile's hashes [start, end), one hash where end == start + 1. Requires level >= 0, index >= 0, and
    (index + 1) << level < 2**63. Raises OutOfRangeError.
    """
    if level < 0 or index < 0 or level > MAX_SIZE.bit_length() or (index + 1) << level > MAX_SIZE:
        raise OutOfRangeError(f"no tree has a complete subtree {index} at level {level}")
    tile_level, height = divmod(level, TILE_HEIGHT)
    first = index << height
    start = first % TILE_WIDTH
    return tile_level, first // TILE_WIDTH, start, start + (1 << height)


def decode_hash_tile(data: bytes, width: int) -> list[bytes]:
    """Decode a hash tile into its hashes; a full one is 8,192 bytes. Requires 1 <= width <= 256.

    Raises MalformedError when the length is not exactly 32 bytes a hash.
    """
    check_bytes(data, "the tile")
    _check_int(width, "the width of a tile", 1, TILE_WIDTH)
    if len(data) != width * HASH_BYTES:
        raise MalformedError(
            f"a tile of width {width} has {width * HASH_BYTES} bytes, not {len(data)}: "
            "it was cut off, or is of another width"
        )
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


def encode_entry_bundle(entries: Sequence[bytes]) -> bytes:
    """Encode at most 256 entries of at most 65,535 bytes, each after its length as a big-endian uint16.

    Raises MalformedError for more entries or a longer one.
    """
    if len(entries) > TILE_WIDTH:
        raise MalformedError(f"an entry bundle has at most {TILE_WIDTH} entries, not {len(entries)}")
    parts: list[bytes] = []
    for position, entry in enumerate(entries):
        if len(entry) > MAX_BUNDLED_ENTRY_BYTES:
            raise MalformedError(
                f"entry {position} has {len(entry)} bytes; a bundle takes at most {MAX_BUNDLED_ENTRY_BYTES}"
            )
        parts += (len(entry).to_bytes(_LENGTH_BYTES, "big"), entry)
    return b"".join(parts)


def decode_entry_bundle(data: bytes, width: int | None = None) -> list[bytes]:
    """Decode an entry bundle into its entries; `width`, where given, is the exact number that must come out.

    A bundle cut off between two entries is a shorter bundle: only the width, or the tree, can tell. Raises
    MalformedError for more than 256 entries, and for anything after the last whole one.
    """
    check_bytes(data, "the entry bundle")
    entries: list[bytes] = []
    at = 0
    while at < len(data):
        start = at + _LENGTH_BYTES
        end = start + int.from_bytes(data[at:start], "big")
        if end > len(data):
            raise MalformedError(f"the entry bundle is cut off in its entry {len(entries)}, at byte {at}")
        if len(entries) == TILE_WIDTH:
            raise MalformedError(f"the entry bundle has more than {TILE_WIDTH} entries")
        entries.append(data[start:end])
        at = end
    if width is not None and len(entries) != width:
        raise MalformedError(f"the entry bundle has {len(entries)} entries where {width} are needed")
    return entries


def _complete_subtrees(level: int, tree_size: int) -> int:
    """Count the hashes of a level: complete subtrees of 256**level leaves, or entries."""
    if not ENTRIES_LEVEL <= level <= MAX_TILE_LEVEL:
        raise OutOfRangeError(f"tiles have levels {ENTRIES_LEVEL} to {MAX_TILE_LEVEL}, not {level}")
    if not 0 <= tree_size <= MAX_SIZE:
        raise OutOfRangeError(f"a tree has 0 to {MAX_SIZE} leaves")
    return tree_size >> TILE_HEIGHT * max(level, 0)


def _level_tiles(level: int, tree_size: int) -> Iterator[Tile]:
    # No generator function: a wrong size is told now, not when somebody asks for the first tile.
    full, width = divmod(_complete_subtrees(level, tree_size), TILE_WIDTH)
    partial = [Tile(level, full, width)] if width else []
    return itertools.chain((Tile(level, index) for index in range(full)), partial)


def _check_int(value: int, what: str, minimum: int, maximum: int) -> None:
    if type(value) is not int or not minimum <= value <= maximum:
        raise MalformedError(f"{what} has to be an int from {minimum} to {maximum}")
