"""A log that is read as tiles, over HTTP or from a folder: the runs are its entry bundles."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager

from tlog.checkpoint import Checkpoint
from tlog.client.trusted_log import VerifiedCheckpoint
from tlog.errors import RemoteError, StorageError
from tlog.merkle import compact_range_nodes, prove_consistency_path
from tlog.monitor.source import Run
from tlog.tile_source.base import TileSource
from tlog.tile_source.trust import LogPolicy
from tlog.tile_source.verified import VerifiedTiles


class TileLogSource:
    """Reads a log's tiles from a `TileSource`; it is a `tlog.monitor.source.LogSource`.

    `trust` opens the checkpoints that the tiles are read under. Belongs to one thread.
    """

    may_be_stale = True

    def __init__(
        self, tiles: TileSource, trust: LogPolicy, *, close: Callable[[], None] = lambda: None
    ) -> None:
        """Take over a source of tiles; `close` releases it."""
        self.name = tiles.name
        self.close = close
        self._tiles = tiles
        self._trust = trust
        self._tree: VerifiedTiles | None = None

    def checkpoint(self) -> bytes:
        """Return the newest checkpoint note. Raises as `LogSource` says."""
        with _reading():
            return self._tiles.checkpoint()

    def runs(self, start: int, under: VerifiedCheckpoint) -> Generator[Run, None, None]:
        """Yield entries [start, under.tree_size), those of one bundle at a time."""
        tree = self._tree_of(under.checkpoint)
        with _reading():
            leaves = tree.leaves(start, under.tree_size, entries=True)
        while True:
            with _reading():
                part = next(leaves, None)
                if part is None:
                    return
                entries = part.entries or ()
                behind = compact_range_nodes(part.start + len(entries), under.tree_size)
                right = [tree.read_node(*node) for node in behind]
            yield Run(start=part.start, entries=entries, right=right, note=under.note)

    def prove_consistency(self, smaller: Checkpoint, larger: Checkpoint) -> Sequence[bytes]:
        """Prove the path out of the larger tree's tiles."""
        with _reading():
            return self._tree_of(larger).prove_consistency(smaller.tree_size)

    def fork_path(self, tree_size: int) -> tuple[bytes, Sequence[bytes]]:
        """Prove the whole path out of the newest tree's tiles."""
        note = self.checkpoint()
        newest = self._trust.open(note)
        tree = self._tree_of(newest)
        with _reading():
            return note, prove_consistency_path(tree.read_node, tree_size, newest.tree_size)

    def _tree_of(self, checkpoint: Checkpoint) -> VerifiedTiles:
        if self._tree is None or self._tree.checkpoint != checkpoint:
            self._tree = VerifiedTiles(
                self._tiles, checkpoint, newer=lambda: self._trust.open(self._tiles.checkpoint())
            )
        return self._tree


@contextmanager
def _reading() -> Iterator[None]:
    """Tell a folder that cannot be read from a store of our own that cannot."""
    try:
        yield
    except StorageError as error:
        raise RemoteError(f"the tiles cannot be read: {error}") from error
