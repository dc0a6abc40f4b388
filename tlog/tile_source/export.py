"""Copy a tiled log into a folder of static files, verified, and only what the folder does not have yet.

The folder can be served by any web server or CDN, and read by any tiled-log client. It holds whole trees
only: its checkpoint is replaced last, and never by one that is not proven to continue it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tlog.checkpoint import Checkpoint
from tlog.errors import NotFoundError, OutOfRangeError, SplitViewError
from tlog.tile_source.base import TileSource
from tlog.tile_source.tile_folder import TileFolder
from tlog.tile_source.trust import OpenCheckpoint
from tlog.tile_source.verified import VerifiedTiles
from tlog.tiles import ENTRIES_LEVEL, MAX_TILE_LEVEL, TILE_HEIGHT, TILE_WIDTH, Tile, tile_at


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signed:
    note: bytes
    checkpoint: Checkpoint


class Export:
    """Is one copy that was begun: what it starts from and where it leads. Use `begin`."""

    def __init__(
        self,
        folder: TileFolder,
        tiles: VerifiedTiles,
        newest: _Signed,
        previous: _Signed | None,
        *,
        entries: bool,
    ) -> None:
        self._folder = folder
        self._tiles = tiles
        self._newest = newest
        self._previous = previous
        self._entries = entries

    @classmethod
    @contextmanager
    def begin(
        cls,
        source: TileSource,
        open_checkpoint: OpenCheckpoint,
        directory: Path,
        *,
        entries: bool = True,
    ) -> Iterator[Export]:
        """Read both checkpoints, verify them, and prove that one continues the other; writes nothing yet.

        Raises SplitViewError when they contradict each other, whichever is larger; StoreInUseError when
        another process writes to the directory; what `open_checkpoint` and sources raise.
        """
        with TileFolder.open(directory) as folder:
            previous = _previous(folder, open_checkpoint)
            note = source.checkpoint()
            newest = _Signed(note=note, checkpoint=open_checkpoint(note))
            if previous is not None:
                _require_one_origin(previous.checkpoint, newest.checkpoint, directory)

            def newer() -> Checkpoint:
                return open_checkpoint(source.checkpoint())

            if previous is not None:
                # Without the folder as a cache, because a cache is also written to.
                tiles = VerifiedTiles(source, newest.checkpoint, newer=newer)
                _require_one_history(previous, newest, folder, tiles)
            tiles = VerifiedTiles(source, newest.checkpoint, folder, newer=newer)
            yield cls(folder, tiles, newest, previous, entries=entries)

    @property
    def checkpoint(self) -> Checkpoint:
        """Return the checkpoint that the directory has when this export is done."""
        if self._previous is not None and self.is_behind:
            return self._previous.checkpoint
        return self._newest.checkpoint

    @property
    def previous_tree_size(self) -> int:
        """Return the size that the directory had; 0 when it is new."""
        return 0 if self._previous is None else self._previous.checkpoint.tree_size

    @property
    def is_behind(self) -> bool:
        """Tell whether the source shows a smaller tree than the directory has: nothing is written then."""
        return self._newest.checkpoint.tree_size < self.previous_tree_size

    @property
    def start(self) -> int:
        """Return the first leaf whose tiles are looked at."""
        old_size = self.previous_tree_size
        if not self._entries or old_size == 0:
            return old_size
        # Exported without entries before, and now with them.
        last = tile_at(ENTRIES_LEVEL, (old_size - 1) // TILE_WIDTH, old_size)
        full = Tile(last.level, last.index)
        return old_size if any(self._folder.get(tile) is not None for tile in (last, full)) else 0

    def run(
        self,
        progress: Callable[[int], None] | None = None,
        *,
        before_checkpoint: Callable[[], None] = lambda: None,
    ) -> None:
        """Copy what is missing, and then the checkpoint; `progress` is told how many more leaves are done.

        May be broken off at any moment and begun again: what is there already is not fetched again.
        `before_checkpoint` is called when every tile is on the disk. Raises what it raises, what
        VerifiedTiles raises, and StorageError; the old checkpoint and all of its tiles stay then.
        """
        if self.is_behind:
            return
        self._tiles.check_edge()
        start, end = self.start, self._newest.checkpoint.tree_size
        # What is made of the entries is the tile that the log has, or it would not lead to the signed root.
        for leaves in self._tiles.leaves(start, end, entries=self._entries, rebuild=True):
            if progress is not None:
                progress(len(leaves.hashes))
        self._folder.flush()
        before_checkpoint()
        self._folder.put_checkpoint(self._newest.note)
        for tile in _edge(self.previous_tree_size):
            # tlog-tiles: a log "MAY delete any partial tile once the corresponding full tile is … available".
            self._folder.remove_partials(tile)


def _previous(folder: TileFolder, open_checkpoint: OpenCheckpoint) -> _Signed | None:
    try:
        note = folder.source.checkpoint()
    except NotFoundError:
        return None
    return _Signed(note=note, checkpoint=open_checkpoint(note))


def _require_one_origin(old: Checkpoint, new: Checkpoint, directory: Path) -> None:
    if old.origin != new.origin:
        raise OutOfRangeError(
            f"{directory} holds the log {old.origin}, and this is {new.origin}: give each log a directory of "
            "its own"
        )


def _require_one_history(old: _Signed, new: _Signed, folder: TileFolder, tiles: VerifiedTiles) -> None:
    """Check that the smaller tree begins the larger one, as computed from the larger one's tiles."""
    smaller, larger = sorted((old, new), key=lambda signed: signed.checkpoint.tree_size)
    if larger is old:
        tiles = VerifiedTiles(folder.source, old.checkpoint)
    require_beginning(smaller.note, smaller.checkpoint, larger.note, tiles)


def require_beginning(note: bytes, checkpoint: Checkpoint, larger_note: bytes, tiles: VerifiedTiles) -> None:
    """Check that a checkpoint's tree begins the larger one that `tiles` and `larger_note` are of.

    Raises SplitViewError with both notes where it does not, and what VerifiedTiles raises.
    """
    size = checkpoint.tree_size
    root_hash = tiles.root_hash(size)
    if root_hash != checkpoint.root_hash:
        raise SplitViewError(
            f"size {size} and size {tiles.tree_size} of {checkpoint.origin} are two histories: the log "
            f"signed root {checkpoint.root_hash.hex()} for the smaller one, and the larger one begins with "
            f"{root_hash.hex()}; nothing was written, keep both checkpoints",
            checkpoints=(note, larger_note),
        )


def _edge(tree_size: int) -> Iterator[Tile]:
    """Yield what is last at every level of a tree, and its last entry bundle."""
    for level in range(ENTRIES_LEVEL, MAX_TILE_LEVEL + 1):
        count = tree_size >> TILE_HEIGHT * max(level, 0)
        if count:
            yield tile_at(level, (count - 1) // TILE_WIDTH, tree_size)
