"""What every source of tiles promises, and what a cache of them does (C2SP tlog-tiles).

A source only fetches: nothing that it returns is true before `tlog.tile_source.verified` has checked it
against a signed checkpoint.
"""

from __future__ import annotations

from typing import Protocol

from tlog.errors import MalformedError
from tlog.merkle import HASH_BYTES
from tlog.tiles import ENTRIES_LEVEL, MAX_BUNDLED_ENTRY_BYTES, Tile

CHECKPOINT_PATH = "checkpoint"
"""Where a tiled log keeps its signed checkpoint, below its prefix."""


class TileSource(Protocol):
    """Fetches the checkpoint and the tiles of one log, unverified.

    Every method raises NotFoundError where the source has no such resource, MalformedError where a hash tile
    does not have 32 bytes a hash, RemoteError or StorageError where the source cannot be read.
    """

    @property
    def name(self) -> str:
        """Return what messages call this source: a URL, a directory."""
        ...

    @property
    def concurrency(self) -> int:
        """Return from how many threads at once it pays to ask; 1: from one thread only."""
        ...

    def checkpoint(self) -> bytes:
        """Return the newest signed checkpoint note."""
        ...

    def tile(self, tile: Tile) -> bytes:
        """Return a hash tile (32 * width bytes) or an entry bundle, exactly as wide as it is named."""
        ...


class TileCache(Protocol):
    """Keeps tiles that were authenticated before; they are authenticated again when they are taken out."""

    def get(self, tile: Tile) -> bytes | None:
        """Return what was put under this name, or None; never raises because of what it finds."""
        ...

    def put(self, tile: Tile, data: bytes) -> None:
        """Keep an authenticated tile. Raises StorageError."""
        ...


def max_tile_bytes(tile: Tile) -> int:
    """Return how long a tile can be, in bytes: exactly that for a hash tile, at most for an entry bundle."""
    if tile.level == ENTRIES_LEVEL:
        return tile.width * (2 + MAX_BUNDLED_ENTRY_BYTES)
    return tile.width * HASH_BYTES


def check_tile_bytes(tile: Tile, data: bytes, source_name: str) -> None:
    """Check that a tile can be the one that it is named after, as far as its length tells.

    Raises MalformedError.
    """
    limit = max_tile_bytes(tile)
    if len(data) > limit or (tile.level != ENTRIES_LEVEL and len(data) != limit):
        at_most = "at most " if tile.level == ENTRIES_LEVEL else ""
        raise MalformedError(
            f"{tile.path} of {source_name} has {len(data)} bytes, and has to have {at_most}{limit}: "
            "it was cut off, or is something else"
        )
