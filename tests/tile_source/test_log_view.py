"""The tiles of a log at hand: every width of every tile, cut out of what is stored."""

from __future__ import annotations

import pytest
from _support.alliance import Alliance
from _support.tiled_log import path_of, resources, walk

from tlog.errors import NotFoundError
from tlog.log import Log
from tlog.storage.memory import MemoryStore
from tlog.tile_source.log_view import LogTileSource
from tlog.tiles import ENTRIES_LEVEL, Tile, parse_tile_path


def make_log(size: int) -> tuple[Log, list[bytes]]:
    alliance = Alliance()
    log = Log(MemoryStore(alliance.origin, alliance.signer.vkey), alliance.signer)
    entries = [*alliance.governance, *alliance.entries(0, size - len(alliance.governance))]
    log.append(entries)
    return log, entries


@pytest.mark.parametrize("size", [4, 255, 256, 257, 600])
def test_any_client_walks_the_log(size: int) -> None:
    log, entries = make_log(size)
    source = LogTileSource(name="log", open_view=log.view)

    def get(path: str) -> bytes:
        return source.checkpoint() if path == "checkpoint" else source.tile(parse_tile_path(path))

    assert walk(get) == entries
    made = resources(entries)
    assert {path: get(path) for path in made if path != "checkpoint"} == {
        path: data for path, data in made.items() if path != "checkpoint"
    }


def test_every_narrower_tile_is_there_and_nothing_wider() -> None:
    log, entries = make_log(300)
    source = LogTileSource(name="log", open_view=log.view)
    for size in range(1, 301):
        made = resources(entries[:size])
        edges = [path for path in made if ".p/" in path]
        for path in edges:
            assert source.tile(parse_tile_path(path)) == made[path]
    for path in (path_of(0, 1, 45), path_of("entries", 1, 45), path_of(1, 0, 2), path_of(2, 0, 1)):
        with pytest.raises(NotFoundError, match="300"):
            source.tile(parse_tile_path(path))
    for tile in (Tile(63, 0), Tile(0, 2**55), Tile(ENTRIES_LEVEL, 2**62)):
        with pytest.raises(NotFoundError):
            source.tile(tile)
