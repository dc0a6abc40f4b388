"""Where right entries come from: a mirror, believed in nothing.

A mirror that is at least as large as the tree to repair proves each entry under that tree's own signed root.
A smaller one can only show a checkpoint of its own; what is taken from it is held against the leaf hash that
the tree has there, and the whole repaired tree against the signed root, before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable

from tlog.checkpoint import Checkpoint
from tlog.errors import OutOfRangeError, ProofError
from tlog.merkle import leaf_hash
from tlog.tile_source.base import TileSource
from tlog.tile_source.verified import VerifiedTiles
from tlog.tiles import TILE_WIDTH


class Mirror:
    """Gets entries of one tree from a tiled copy of the log, those of one bundle at a time."""

    def __init__(
        self, source: TileSource, open_checkpoint: Callable[[bytes], Checkpoint], own: Checkpoint | None
    ) -> None:
        """Read the mirror's checkpoint; `own` is the signed one of the tree to repair, if it is known.

        Raises what `open_checkpoint` and sources raise.
        """
        self.note = source.checkpoint()
        self.checkpoint = open_checkpoint(self.note)
        self._name = source.name
        is_larger = own is not None and self.checkpoint.tree_size >= own.tree_size
        self._tree = VerifiedTiles(
            source,
            own if own is not None and is_larger else self.checkpoint,
            newer=lambda: open_checkpoint(source.checkpoint()),
        )
        self._start = -1
        self._entries: tuple[bytes, ...] = ()

    def entry(self, leaf_index: int, right_leaf_hash: bytes | None) -> bytes:
        """Return a verified entry; `right_leaf_hash` is what the tree to repair has there, if it is known.

        Raises ProofError when the mirror has another tree, OutOfRangeError when it does not reach so far, and
        what sources raise.
        """
        if leaf_index >= self._tree.tree_size:
            raise OutOfRangeError(
                f"entry {leaf_index} has to be restored, and {self._name} has {self._tree.tree_size} "
                "entries: name a mirror that is further"
            )
        start = leaf_index - leaf_index % TILE_WIDTH
        if start != self._start:
            end = min(start + TILE_WIDTH, self._tree.tree_size)
            (leaves,) = self._tree.leaves(start, end, entries=True)
            self._start, self._entries = start, leaves.entries or ()
        entry = self._entries[leaf_index - start]
        if right_leaf_hash is not None and leaf_hash(entry) != right_leaf_hash:
            raise ProofError(
                f"entry {leaf_index} of {self._name} hashes to {leaf_hash(entry).hex()}, and this log's tree "
                f"has {right_leaf_hash.hex()} there: the mirror has another history, keep its checkpoint"
            )
        return entry
