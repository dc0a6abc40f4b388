"""An older copy of a log and a newer mirror of it, read as one log under the newer checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

from tlog.tile_source.base import TileSource
from tlog.tiles import TILE_HEIGHT, TILE_WIDTH, Tile


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedTiles:
    """Serves full tiles of the first `older_size` leaves from `older`, all others from `newer`.

    Is a TileSource. Like any other it is believed in nothing: what does not fit together leads to no root.
    """

    older: TileSource
    older_size: int
    newer: TileSource

    @property
    def name(self) -> str:
        """Return what both are called."""
        return f"{self.older.name} with {self.newer.name}"

    @property
    def concurrency(self) -> int:
        """Return how many may be fetched at once: as many as both allow."""
        return min(self.older.concurrency, self.newer.concurrency)

    def checkpoint(self) -> bytes:
        """Return the newer checkpoint note. Raises what the source raises."""
        return self.newer.checkpoint()

    def tile(self, tile: Tile) -> bytes:
        """Return a tile from the one that has it. Raises what that one raises."""
        return self._holder(tile).tile(tile)

    def _holder(self, tile: Tile) -> TileSource:
        covered = self.older_size >> TILE_HEIGHT * max(tile.level, 0)
        is_held = tile.width == TILE_WIDTH and (tile.index + 1) * TILE_WIDTH <= covered
        return self.older if is_held else self.newer
