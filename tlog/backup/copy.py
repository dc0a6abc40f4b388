"""A copy of a log as a restore reads it: a backup, an export, a mirror, or the directory of a store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tlog.backup.manifest import MANIFEST_PATH, MAX_MANIFEST_BYTES, Manifest, parse_manifest
from tlog.errors import MalformedError, PolicyError, StorageError, VerificationError
from tlog.log_view import LogView
from tlog.storage.base import Reader
from tlog.tile_source.base import TileSource
from tlog.tile_source.log_view import LogTileSource
from tlog.tile_source.trust import LogKeys, SignedByLog
from tlog.tiles import Tile


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Holds a copy's tiles, the newest checkpoint in it, and what is known beside them, where it is."""

    source: TileSource
    newest: SignedByLog
    manifest: Manifest | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedTiles:
    """Serves the tiles of a store under one committed checkpoint, whatever is committed behind it."""

    tiles: LogTileSource
    note: bytes
    concurrency: int = 1

    @property
    def name(self) -> str:
        """Return the store's name."""
        return self.tiles.name

    def checkpoint(self) -> bytes:
        """Return the committed checkpoint note."""
        return self.note

    def tile(self, tile: Tile) -> bytes:
        """Return a tile of the committed tree. Raises NotFoundError beyond its size, StorageError."""
        return self.tiles.tile(tile)


class BoundStore(Protocol):
    """Is a store that is read only; a `tlog.storage.base.Store` is one."""

    @property
    def origin(self) -> str:
        """Return the origin of the log that the store is bound to."""
        ...

    @property
    def log_vkey(self) -> str:
        """Return the verifier key of the log that the store is bound to."""
        ...

    def reader(self) -> AbstractContextManager[Reader]:
        """Open a snapshot of the last commit. Raises StorageError."""
        ...


def copy_of_store(store: BoundStore, name: str, keys: LogKeys, *, now_s: int) -> Copy:
    """Take a store as it is committed now, published or not; a server may go on writing to it.

    Each tile is read in a view of its own, so that nothing keeps the store's old pages from being used again.
    Raises NotFoundError for an empty store, what `keys` raise, and StorageError.
    """

    @contextmanager
    def view() -> Iterator[LogView]:
        with store.reader() as reader:
            yield LogView(reader)

    with view() as now:
        committed = now.committed()
        manifest = Manifest(
            origin=store.origin,
            vkey=store.log_vkey,
            tree_size=committed.tree_size,
            published=now.published().note,
            is_frozen=now.is_frozen(),
            previous_size=now.previous_size(),
            taken_s=now_s,
        )
    return Copy(
        source=CommittedTiles(tiles=LogTileSource(name=name, open_view=view), note=committed.note),
        newest=keys.read(committed.note),
        manifest=manifest,
    )


def copy_of_tiles(source: TileSource, keys: LogKeys, directory: Path | None = None) -> Copy:
    """Take a tiled copy of a log; in its `directory` there may be a backup's manifest.

    Raises what sources and `keys` raise, and VerificationError when the manifest is another log's.
    """
    newest = keys.read(source.checkpoint())
    manifest = None if directory is None else manifest_in(directory)
    if manifest is not None:
        _require_same_log(manifest, newest, keys)
    return Copy(source=source, newest=newest, manifest=manifest)


def manifest_in(directory: Path) -> Manifest | None:
    """Read the manifest in a folder, or return None where there is none.

    Raises StorageError when it cannot be read, MalformedError when it is none.
    """
    path = directory / MANIFEST_PATH
    try:
        with path.open("rb") as file:
            data = file.read(MAX_MANIFEST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return parse_manifest(data)
    except MalformedError as error:
        raise MalformedError(
            f"{path}: {error}; the tiles beside it need no manifest, move it away"
        ) from error


def _require_same_log(manifest: Manifest, newest: SignedByLog, keys: LogKeys) -> None:
    checkpoint = newest.checkpoint
    problem = None
    if (manifest.origin, manifest.vkey) not in keys.logs:
        problem = f"it is of {manifest.origin!r} with key {manifest.vkey!r}"
    elif manifest.tree_size > checkpoint.tree_size:
        problem = f"it is of size {manifest.tree_size}, and the tiles of {checkpoint.tree_size}"
    else:
        try:
            published = keys.open(manifest.published)
        except (VerificationError, MalformedError) as error:
            problem = f"what it says was published is no checkpoint of this log ({error})"
        else:
            if published.tree_size > checkpoint.tree_size:
                problem = f"it says that size {published.tree_size} was published"
    if problem is not None:
        raise PolicyError(
            f"the manifest does not go with the tiles beside it: {problem}; move it away to restore from the "
            "tiles alone"
        )
