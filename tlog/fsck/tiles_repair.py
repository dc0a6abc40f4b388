"""Repair a folder of tiles: put what is wrong there again, verified under its own checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tlog.checkpoint import Checkpoint
from tlog.tile_source.base import TileSource
from tlog.tile_source.fetching import NewerCheckpoint
from tlog.tile_source.tile_folder import TileFolder
from tlog.tile_source.verified import VerifiedTiles
from tlog.tiles import ENTRIES_LEVEL, TILE_HEIGHT, TILE_WIDTH, Tile, encode_entry_bundle


def repair_tiles(
    directory: Path,
    checkpoint: Checkpoint,
    mirror: TileSource,
    newer: NewerCheckpoint,
    wrong: Sequence[Tile],
    *,
    write: bool,
    progress: Callable[[int], None],
) -> None:
    """Get tiles from a mirror, verify them under the folder's own checkpoint, and `write` them.

    `newer` opens the mirror's own checkpoint, which says which partial tiles it has. Each file is replaced
    whole. Raises ProofError when the mirror has another tree, StoreInUseError when somebody else writes
    there, and what the mirror and the disk raise.
    """
    tree = VerifiedTiles(mirror, checkpoint, newer=newer)
    if not write:
        for tile in wrong:
            _right_bytes(tree, tile)
            progress(1)
        return
    with TileFolder.open(directory) as folder:
        for tile in wrong:
            folder.put(tile, _right_bytes(tree, tile))
            progress(1)
        folder.flush()


def _right_bytes(tree: VerifiedTiles, tile: Tile) -> bytes:
    first = tile.index * TILE_WIDTH
    indices = range(first, first + tile.width)
    if tile.level == ENTRIES_LEVEL:
        return encode_entry_bundle([entry for _, entry in tree.entries(indices.start, indices.stop)])
    return b"".join(tree.read_node(TILE_HEIGHT * tile.level, index) for index in indices)
