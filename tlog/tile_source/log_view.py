"""The tiles of a log that is at hand: cut out of what its store keeps, never kept twice.

A stored hash tile begins with the C2SP tile, and a narrower tile is the beginning of a wider one; so every
partial up to the committed size is there, whatever sizes were ever signed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tlog.errors import NotFoundError
from tlog.log_view import LogView
from tlog.merkle import HASH_BYTES
from tlog.tiles import ENTRIES_LEVEL, TILE_HEIGHT, TILE_WIDTH, Tile, encode_entry_bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class LogTileSource:
    """Serves the tiles of one log from its views; is a `tlog.tile_source.base.TileSource`.

    `open_view` opens a view for one answer (`Log.view`), so that a long walk holds no old snapshot.
    """

    name: str
    open_view: Callable[[], AbstractContextManager[LogView]]
    concurrency: int = 1

    def checkpoint(self) -> bytes:
        """Return the published checkpoint note. Raises NotFoundError before the first, StorageError."""
        with self.open_view() as view:
            return view.published().note

    def tile(self, tile: Tile) -> bytes:
        """Return a tile of the committed tree. Raises NotFoundError beyond its size, StorageError."""
        with self.open_view() as view:
            return read_tile(view, tile)


def read_tile(view: LogView, tile: Tile) -> bytes:
    """Read a tile, full or partial, of the tree that a view shows.

    Raises NotFoundError where the tile reaches beyond the committed size, and StorageError.
    """
    start = tile.index * TILE_WIDTH
    end = start + tile.width
    if end > view.tree_size >> TILE_HEIGHT * max(tile.level, 0):
        raise NotFoundError(f"a tree of {view.tree_size} leaves has no {tile.path}")
    if tile.level == ENTRIES_LEVEL:
        return encode_entry_bundle(view.entries(start, end))
    return view.hash_tile(tile.level, tile.index)[: HASH_BYTES * tile.width]
