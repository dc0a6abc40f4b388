"""Look again at what was stored before: entries, names, tiles with their inner nodes, the root."""

from __future__ import annotations

from tlog.envelope import decode_entry
from tlog.errors import CorruptionError, MalformedError
from tlog.event import parse_event
from tlog.integrate import TILE_HEIGHT, TILE_WIDTH, TreeEdge, integrate
from tlog.log_view import LogView
from tlog.merkle import leaf_hash

NEWEST_TILES = 16
"""How many tiles of leaves a start looks at: more than the largest commit of a server has."""


def check_stored_leaves(view: LogView, tile_index: int) -> int:
    """Check the leaves of one tile of the lowest level; returns how many there are.

    Requires that the tree has that tile. Raises CorruptionError, which names what is wrong.
    """
    start = tile_index * TILE_WIDTH
    entries = view.entries(start, min(start + TILE_WIDTH, view.tree_size))
    hashes = [leaf_hash(entry) for entry in entries]
    edge, tiles = integrate(TreeEdge.EMPTY, hashes)
    stored = view.stored_tile(0, tile_index)
    if tiles[0, 0] != stored:
        for offset, hashed in enumerate(hashes):
            found = stored[32 * offset : 32 * offset + 32]
            if found != hashed:
                raise CorruptionError(
                    f"stored entry {start + offset} hashes to {hashed.hex()}, and the stored tree has "
                    f"{found.hex()} there"
                )
        raise CorruptionError(
            f"the inner nodes of stored tile {tile_index} of level 0 do not follow from its entries"
        )
    if len(entries) == TILE_WIDTH and edge.root_hash != view.node(TILE_HEIGHT, tile_index):
        raise CorruptionError(
            f"stored tile {tile_index} of level 0 does not hash to what the tile above it has there"
        )
    for index, entry in enumerate(entries, start):
        try:
            event = parse_event(decode_entry(entry).payload)
        except MalformedError as error:
            raise CorruptionError(f"stored entry {index} is none: {error}") from error
        found_index = view.leaf_index(event.source, event.id)
        if found_index != index:
            raise CorruptionError(f"the (source, id) of stored entry {index} leads to entry {found_index}")
    return len(entries)


def check_newest_leaves(view: LogView) -> None:
    """Check the leaves of the last commit, but no more than NEWEST_TILES tiles of them.

    For a start: what a commit wrote last is what a disk that failed, or lost its power, may not have.
    Raises CorruptionError, which names what is wrong.
    """
    size = view.tree_size
    if size:
        first = (view.previous_size() or 0) // TILE_WIDTH
        last = (size - 1) // TILE_WIDTH
        for tile_index in range(max(min(first, last), last - NEWEST_TILES + 1), last + 1):
            check_stored_leaves(view, tile_index)


def check_stored_root(view: LogView) -> None:
    """Check that the stored tiles of the upper levels lead to the committed checkpoint.

    Raises CorruptionError.
    """
    size = view.tree_size
    level = 1
    while full := size >> TILE_HEIGHT * (level + 1):
        for index in range(full):
            stored = view.stored_tile(level, index)
            hashes = [stored[at : at + 32] for at in range(0, 32 * TILE_WIDTH, 32)]
            edge, tiles = integrate(TreeEdge.EMPTY, hashes)
            parent = view.node(TILE_HEIGHT * (level + 1), index)
            if tiles[0, 0] != stored or edge.root_hash != parent:
                raise CorruptionError(f"stored tile {index} of level {level} is not what its hashes make it")
        level += 1
    root_hash = TreeEdge.load(size, view.stored_tile).root_hash
    committed = view.committed().checkpoint
    if (size, root_hash) != (committed.tree_size, committed.root_hash):
        raise CorruptionError(
            f"the stored tree of {size} leaves has root {root_hash.hex()}, and its checkpoint says "
            f"{committed.tree_size} and {committed.root_hash.hex()}"
        )
