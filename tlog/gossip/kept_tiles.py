"""The tree that a node keeps of one log, so that it can make every consistency path itself: 32 bytes a leaf.

A directory holds, for each level of tiles, one file with the level's hashes end to end: `level-0` the leaf
hashes, `level-1` the root of every 256 of those, and so on. Cut into pieces of 256 hashes these are the C2SP
tiles. The file `checkpoint` names the size that all of it was verified for, and is replaced last: what a
crash leaves behind it is cut off at the next start.

One thread extends, any thread reads: what a reader sees never changes below the size in `checkpoint`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from tlog.errors import CorruptionError, OutOfRangeError, ProofError, StorageError
from tlog.gossip.durable_file import replace_file
from tlog.gossip.held import HeldCheckpoint, hold_checkpoint, prove_path
from tlog.gossip.message import ConsistencyPath
from tlog.gossip.state import verify_stored
from tlog.merkle import HASH_BYTES, CompactRange, compact_range_nodes, node_hash
from tlog.policy import Policy
from tlog.tiles import TILE_HEIGHT, TILE_WIDTH

CHECKPOINT_NAME = "checkpoint"


class KeptTiles:
    """Keeps the tree of one log in a directory of its own."""

    def __init__(self, directory: Path, policy: Policy) -> None:
        """Open the directory, which is made if need be, and check that its edge leads to its checkpoint.

        Raises CorruptionError when it does not, StorageError when it cannot be read.
        """
        self._directory = directory
        self._held: HeldCheckpoint | None = None
        self._files: list[int] = []
        try:
            directory.mkdir(parents=True, exist_ok=True)
            note = _read_if_there(directory / CHECKPOINT_NAME)
            if note is not None:
                self._held = verify_stored(note, policy, hold_checkpoint)
            self._cut_to(self.tree_size)
        except OSError as error:
            self.close()
            raise StorageError(f"the kept tiles in {directory} cannot be opened: {error}") from error
        if self._held is not None and self._root_hash(self.tree_size) != self._held.root_hash:
            self.close()
            raise CorruptionError(
                f"the tiles in {directory} do not lead to the checkpoint beside them: remove that directory, "
                "and they are fetched and verified again"
            )

    @property
    def held(self) -> HeldCheckpoint | None:
        """Return the checkpoint whose tree is kept; None before the first."""
        return self._held

    @property
    def tree_size(self) -> int:
        """Return the number of leaves that are kept."""
        return 0 if self._held is None else self._held.tree_size

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            os.close(file)
        self._files = []

    def path(self, start_size: int, end_size: int) -> ConsistencyPath | None:
        """Return the path between two kept sizes; None beyond them. Raises CorruptionError, StorageError."""
        if not 0 < start_size < end_size <= self.tree_size:
            return None
        return prove_path(self.read_node, start_size, end_size)

    def read_node(self, level: int, index: int) -> bytes:
        """Return the root of the complete subtree of leaves [index << level, (index + 1) << level).

        Raises OutOfRangeError where the tree has no such subtree, CorruptionError, and StorageError.
        """
        if level < 0 or index < 0 or (index + 1) << level > self.tree_size:
            raise OutOfRangeError(f"{self.tree_size} leaves have no complete subtree {index} at {level}")
        return self._node(level, index)

    def extend(self, held: HeldCheckpoint, leaf_hashes: Iterable[Sequence[bytes]]) -> None:
        """Add the leaves from the kept size on, durably, if they lead to the root of a larger checkpoint.

        Requires held.tree_size > self.tree_size. Raises ProofError when they do not, StorageError when they
        cannot be written, and what the iterable raises; then the tree is what it was.
        """
        assert held.tree_size > self.tree_size
        try:
            self._add_leaves(held, leaf_hashes)
            for file in self._files:
                os.fsync(file)
            replace_file(self._directory / CHECKPOINT_NAME, held.note)
        except OSError as error:
            self._cut_to(self.tree_size)
            raise StorageError(f"tiles cannot be written to {self._directory}: {error}") from error
        except BaseException:
            self._cut_to(self.tree_size)
            raise
        self._held = held

    def _add_leaves(self, held: HeldCheckpoint, leaf_hashes: Iterable[Sequence[bytes]]) -> None:
        size, end = self.tree_size, held.tree_size
        nodes = tuple(self._node(*node) for node in compact_range_nodes(0, size))
        tree = CompactRange(0, size, nodes)
        for hashes in leaf_hashes:
            if size + len(hashes) > end:
                raise ProofError(f"{size + len(hashes)} leaves came where the checkpoint has {end}")
            tree = tree.extend(hashes)
            self._append(size, hashes)
            size += len(hashes)
        if size != end or tree.root_hash() != held.root_hash:
            raise ProofError(
                f"the leaves of {held.origin} up to {size} do not lead to its checkpoint of size {end}"
            )

    def _append(self, size: int, hashes: Sequence[bytes]) -> None:
        """Write the leaves from `size` on, and every tile's root where they complete it."""
        level = 0
        while hashes:
            self._write(level, size, hashes)
            first, end = size // TILE_WIDTH, (size + len(hashes)) // TILE_WIDTH
            # The tile that was partial before has its first hashes in the file already.
            hashes = [self._fold(level, index * TILE_WIDTH, TILE_WIDTH) for index in range(first, end)]
            size, level = first, level + 1

    def _node(self, level: int, index: int) -> bytes:
        tile_level, height = divmod(level, TILE_HEIGHT)
        return self._fold(tile_level, index << height, 1 << height)

    def _fold(self, tile_level: int, first: int, count: int) -> bytes:
        """Hash `count`, a power of two, neighbours of one level into the root above them."""
        data = os.pread(self._files[tile_level], HASH_BYTES * count, HASH_BYTES * first)
        if len(data) != HASH_BYTES * count:
            raise CorruptionError(
                f"the tiles in {self._directory} are cut off at level {tile_level}: remove that directory, "
                "and they are fetched and verified again"
            )
        nodes = [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]
        while len(nodes) > 1:
            nodes = [node_hash(nodes[at], nodes[at + 1]) for at in range(0, len(nodes), 2)]
        return nodes[0]

    def _root_hash(self, tree_size: int) -> bytes:
        nodes = tuple(self._node(*node) for node in compact_range_nodes(0, tree_size))
        return CompactRange(0, tree_size, nodes).root_hash()

    def _write(self, level: int, first: int, hashes: Sequence[bytes]) -> None:
        data = b"".join(hashes)
        at = HASH_BYTES * first
        file = self._file(level)
        while data:
            written = os.pwrite(file, data, at)
            data, at = data[written:], at + written

    def _file(self, level: int) -> int:
        while level >= len(self._files):
            path = self._directory / f"level-{len(self._files)}"
            self._files.append(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644))
        return self._files[level]

    def _cut_to(self, tree_size: int) -> None:
        """Take away what lies behind a size: it was never verified, or never finished."""
        level = 0
        while level < len(self._files) or (self._directory / f"level-{level}").exists():
            length = HASH_BYTES * (tree_size >> TILE_HEIGHT * level)
            file = self._file(level)
            if os.fstat(file).st_size > length:
                os.ftruncate(file, length)
            level += 1


class KeptForest:
    """Gives the kept tree of each log by its origin; is the KeptTrees of a node."""

    def __init__(self, trees: dict[str, KeptTiles]) -> None:
        self._trees = trees

    def anchor(self, origin: str) -> HeldCheckpoint | None:
        """Return the newest checkpoint whose whole tree is kept."""
        tree = self._trees.get(origin)
        return None if tree is None else tree.held

    def path(self, origin: str, start_size: int, end_size: int) -> ConsistencyPath | None:
        """Return the path between two kept sizes."""
        tree = self._trees.get(origin)
        return None if tree is None else tree.path(start_size, end_size)


def _read_if_there(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
