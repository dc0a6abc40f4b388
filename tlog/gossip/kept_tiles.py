"""The tree that a node keeps of one log, so that it can make every consistency path itself: 32 bytes a leaf.

A directory holds, for each level of tiles, one file with the level's hashes end to end: `level-0` the leaf
hashes, `level-1` the root of every 256 of those, and so on. Cut into pieces of 256 hashes these are the C2SP
tiles. The file `checkpoint` names the size that all of it was verified for, and is replaced last. Leaves
behind that size came before a fetch was interrupted: nobody reads them, and the next fetch may begin behind
them, because all of it has to lead to a signed root in the end; if it does not, they are cut off.

One thread extends, any thread reads: what a reader sees never changes below the size in `checkpoint`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tlog.durable_file import replace_file
from tlog.errors import CorruptionError, OutOfRangeError, ProofError, StorageError
from tlog.evidence.find import ReceivedLeaf
from tlog.gossip.held import HeldCheckpoint, hold_checkpoint, prove_path
from tlog.gossip.message import ConsistencyPath
from tlog.gossip.state import verify_stored
from tlog.merkle import HASH_BYTES, CompactRange, compact_range_nodes, node_hash, prove_inclusion
from tlog.policy import Policy
from tlog.receipt import Receipt, format_receipt
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
        self._fetched = 0
        try:
            directory.mkdir(parents=True, exist_ok=True)
            note = _read_if_there(directory / CHECKPOINT_NAME)
            if note is not None:
                self._held = verify_stored(note, policy, hold_checkpoint)
            self._fetched = max(self.tree_size, os.fstat(self._file(0)).st_size // HASH_BYTES)
            # A crash may have lost what stands above the leaves, never what was synced below the size.
            self._cut_to(self.tree_size, leaves=self._fetched)
            self._complete(self.tree_size, self._fetched)
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

    @property
    def fetched_size(self) -> int:
        """Return the number of leaves on disk: those that are kept, and those of a fetch that broke off."""
        return self._fetched

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

    def prove_leaf(self, leaf_index: int) -> ReceivedLeaf | None:
        """Prove a kept leaf; None beyond the kept size. Raises CorruptionError, StorageError."""
        held = self._held
        if held is None or not 0 <= leaf_index < held.tree_size:
            return None
        proof = prove_inclusion(self.read_node, leaf_index, held.tree_size)
        receipt = Receipt(leaf_index=leaf_index, proof=tuple(proof), checkpoint=held.note)
        return ReceivedLeaf(receipt=format_receipt(receipt), leaf_hash=self.read_node(0, leaf_index))

    def read_node(self, level: int, index: int) -> bytes:
        """Return the root of the complete subtree of leaves [index << level, (index + 1) << level).

        Raises OutOfRangeError where the tree has no such subtree, CorruptionError, and StorageError.
        """
        if level < 0 or index < 0 or (index + 1) << level > self.tree_size:
            raise OutOfRangeError(f"{self.tree_size} leaves have no complete subtree {index} at {level}")
        return self._node(level, index)

    def extend(
        self, held: HeldCheckpoint, leaf_hashes: Iterable[Sequence[bytes]], *, start: int | None = None
    ) -> None:
        """Add the leaves from `start` on, durably, if they lead to the root of a larger checkpoint.

        Requires self.tree_size < held.tree_size, and that `start` is the kept size, which is also meant where
        it is None, or the fetched size, if that is at most held.tree_size. Raises ProofError when they do
        not, StorageError when they cannot be written, and what the iterable raises; then the tree is what it
        was, and after an error of the iterable the leaves that it gave are fetched.
        """
        assert held.tree_size > self.tree_size
        start = self.tree_size if start is None else start
        assert start in {self.tree_size, self.fetched_size}
        assert start <= held.tree_size
        try:
            if start < self._fetched:
                self._forget_fetched()
            for hashes in leaf_hashes:
                with self._or_forget():
                    self._take(held, hashes)
            with self._or_forget():
                self._keep(held)
        except OSError as error:
            raise StorageError(f"tiles cannot be written to {self._directory}: {error}") from error

    def _take(self, held: HeldCheckpoint, hashes: Sequence[bytes]) -> None:
        """Write a run of leaves behind those that are fetched."""
        start, end = self._fetched, self._fetched + len(hashes)
        if end > held.tree_size:
            raise ProofError(f"{end} leaves came where the checkpoint has {held.tree_size}")
        if any(len(leaf_hash) != HASH_BYTES for leaf_hash in hashes):
            raise ProofError(f"something that is no hash came among the leaves [{start}, {end})")
        self._write(0, start, hashes)
        self._complete(start, end)
        self._fetched = end

    def _keep(self, held: HeldCheckpoint) -> None:
        """Keep what is fetched, durably, if it leads to the root."""
        size = self._fetched
        if size != held.tree_size or self._root_hash(size) != held.root_hash:
            raise ProofError(
                f"the leaves of {held.origin} up to {size} do not lead to its checkpoint of size "
                f"{held.tree_size}"
            )
        for file in self._files:
            os.fsync(file)
        replace_file(self._directory / CHECKPOINT_NAME, held.note)
        self._held = held

    @contextmanager
    def _or_forget(self) -> Iterator[None]:
        """Forget, on any error, what was fetched: some of it may be wrong, or half written."""
        try:
            yield
        except BaseException:
            self._forget_fetched()
            raise

    def _forget_fetched(self) -> None:
        self._fetched = self.tree_size
        self._cut_to(self.tree_size, leaves=self.tree_size)

    def _complete(self, start: int, end: int) -> None:
        """Write every tile's root that the leaves [start, end), which are written, complete."""
        level = 0
        while start < end:
            first, last = start // TILE_WIDTH, end // TILE_WIDTH
            # The tile that was partial before has its first hashes in the file already.
            roots = [self._fold(level, index * TILE_WIDTH, TILE_WIDTH) for index in range(first, last)]
            level += 1
            self._write(level, first, roots)
            start, end = first, last

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
        if not hashes:
            return
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

    def _cut_to(self, tree_size: int, *, leaves: int) -> None:
        """Take away what lies behind a size, and behind so many leaves: it was never verified."""
        level = 0
        while level < len(self._files) or (self._directory / f"level-{level}").exists():
            length = HASH_BYTES * (leaves if level == 0 else tree_size >> TILE_HEIGHT * level)
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
