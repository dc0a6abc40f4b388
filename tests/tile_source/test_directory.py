"""Folders of tiles: read as they are, and written so that nothing half done is ever believed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from _support.tiled_log import ORIGIN, SIGNER, numbered_entries, resources, write_resources

from tlog.errors import MalformedError, NotFoundError, RemoteError, StorageError
from tlog.tile_source.directory import DirectoryTileCache, DirectoryTileSource
from tlog.tile_source.trust import LogKey
from tlog.tile_source.verified import VerifiedTiles
from tlog.tiles import ENTRIES_LEVEL, Tile

MADE = resources(numbered_entries(600))


def test_a_folder_is_read_whole(tmp_path: Path) -> None:
    source = DirectoryTileSource(path=write_resources(tmp_path, MADE))
    checkpoint = LogKey.from_vkey(SIGNER.vkey).open(source.checkpoint())
    assert (checkpoint.origin, checkpoint.tree_size) == (ORIGIN, 600)
    assert VerifiedTiles(source, checkpoint).check_all().entries == 600
    assert source.name == str(tmp_path)


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    write_resources(tmp_path, MADE)
    source = DirectoryTileSource(path=tmp_path)
    for tile in (Tile(0, 3), Tile(0, 2), Tile(3, 0), Tile(0, 0, 5), Tile(ENTRIES_LEVEL, 10**9)):
        with pytest.raises(NotFoundError):
            source.tile(tile)
    with pytest.raises(NotFoundError):
        DirectoryTileSource(path=tmp_path / "absent").checkpoint()
    # A file where a folder is needed, and the other way round.
    (tmp_path / "tile/5").write_bytes(b"x")
    (tmp_path / "tile/0/009").mkdir()
    for tile in (Tile(5, 0), Tile(0, 9)):
        with pytest.raises(NotFoundError):
            source.tile(tile)


def test_files_of_the_wrong_length_are_refused(tmp_path: Path) -> None:
    source = DirectoryTileSource(path=write_resources(tmp_path, MADE))
    (tmp_path / "tile/0/000").write_bytes(b"x" * 8191)
    with pytest.raises(MalformedError, match="8191"):
        source.tile(Tile(0, 0))
    for name in ("tile/0/000", "checkpoint"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(2**33)  # sparse: it must not be read whole
    with pytest.raises(RemoteError, match="longer"):
        source.tile(Tile(0, 0))
    with pytest.raises(RemoteError, match="longer"):
        source.checkpoint()


def test_what_is_no_file_is_told_and_not_waited_for(tmp_path: Path) -> None:
    source = DirectoryTileSource(path=write_resources(tmp_path, MADE))
    place = tmp_path / "tile/0/000"
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(RemoteError, match="no regular file"):
        source.tile(Tile(0, 0))
    assert DirectoryTileCache(tmp_path).get(Tile(0, 0)) is None
    (tmp_path / "checkpoint").unlink()
    (tmp_path / "checkpoint").symlink_to("/dev/zero")
    with pytest.raises(RemoteError, match="no regular file"):
        source.checkpoint()
    for target in ("checkpoint", "absent"):
        (tmp_path / "checkpoint").unlink()
        (tmp_path / "checkpoint").symlink_to(target)
        with pytest.raises((StorageError, NotFoundError), match="checkpoint"):
            source.checkpoint()
    # A link to a tile is as good as the tile: it is checked by its hashes, as everything is.
    (tmp_path / "linked").symlink_to("tile/0/001")
    place.unlink()
    place.symlink_to("../../linked")
    assert source.tile(Tile(0, 0)) == source.tile(Tile(0, 1))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    source = DirectoryTileSource(path=write_resources(tmp_path, MADE))
    (tmp_path / "checkpoint").chmod(0)
    with pytest.raises(StorageError, match="checkpoint"):
        source.checkpoint()


def test_a_cache_keeps_what_it_is_given_and_never_fails_to_answer(tmp_path: Path) -> None:
    cache = DirectoryTileCache(tmp_path / "deep" / "cache")
    tile = Tile(0, 1234067, 3)
    assert cache.get(tile) is None
    cache.put(tile, b"x" * 96)
    assert cache.get(tile) == b"x" * 96
    place = tmp_path / "deep/cache/tile/0/x001/x234/067.p/3"
    assert place.read_bytes() == b"x" * 96
    assert [path.name for path in place.parent.iterdir()] == ["3"]
    cache.put(tile, b"y" * 96)
    assert cache.get(tile) == b"y" * 96
    place.write_bytes(b"torn")
    assert cache.get(tile) is None
    place.unlink()
    place.mkdir()
    assert cache.get(tile) is None
    with pytest.raises(StorageError):
        cache.put(tile, b"x" * 96)
