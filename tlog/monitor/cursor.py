"""How far a log was checked, durably: the tree, the membership and the names used so far, in a store of ours.

The store is the log's own kind (`tlog.storage`), filled by us with what we checked. It keeps every hash
tile, 32 bytes a leaf, so that we can prove any checkpoint that we accepted; every (source, id); and the
entries: all of them in a mirror, with their business keys, else only those of governance and those that break
a rule.

What a crash leaves behind: one transaction moves entries, tiles, names and size together, so the cursor
stands before or after a whole number of checked entries. Its checkpoint slots hold: *committed*, our own
record of size and root; *published*, the newest signed checkpoint whose whole tree was checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import msgspec

from tlog.encoding import parse_decimal, parse_hex
from tlog.errors import ConfigError, CorruptionError, MalformedError, NotFoundError, RefusedError
from tlog.integrate import TreeEdge, integrate, node_coordinates, tile_node, tile_width
from tlog.membership import Registry
from tlog.merkle import ReadNode
from tlog.monitor.judge import JudgedEntry
from tlog.storage.base import CommitBatch, Reader, Store
from tlog.storage.lmdb_store import LmdbStore
from tlog.validate import verify_entry

MIRROR_NAME: Final = "mirror"
"""The directory of a store that keeps every entry."""
HASHES_NAME: Final = "hashes"
"""The directory of a store that keeps the entries of governance and the wrong ones only."""
BINDING: Final = "tlog-monitor"
"""Stands where a log's store has its vkey: nobody can sign with a monitor's store."""
NOT_KEPT: Final = b""
"""Stands for an entry that was checked and is not kept; no entry that anybody accepts is empty."""

_HEADER = "tlog-monitor-cursor/v1"


class _Row(msgspec.Struct, frozen=True, gc=False):
    """Holds what is to become durable of one checked entry, and the entry, for those who look it up."""

    entry: bytes
    is_kept: bool
    is_governance: bool
    identity: bytes
    business_keys: tuple[bytes, ...]


class Cursor:
    """Holds what was checked: durable up to the last `flush`, and in memory what was `add`ed since.

    Belongs to one thread; `read_only` ones may be opened beside it by other processes.
    """

    def __init__(self, store: Store, *, keeps_entries: bool) -> None:
        """Take over a store and load from it; use `create` or `open`.

        Raises CorruptionError when the stored tree does not lead to the stored record.
        """
        self.keeps_entries = keeps_entries
        self._store = store
        self._record = store.load()
        if self._record is None:
            self._record = _format_record(store.origin, TreeEdge.EMPTY)
            store.commit(CommitBatch.empty(), expected=None, new=self._record, publish=False)
        with store.reader() as reader:
            self.edge = TreeEdge.load(reader.tree_size, reader.read_tile)
            self.registry = _fold(reader, store.origin)
            self.covered = reader.published()
        if _format_record(store.origin, self.edge) != self._record:
            raise CorruptionError(
                f"the monitor's store has {self.edge.tree_size} leaves with root "
                f"{self.edge.root_hash.hex()}, and its record says otherwise "
                f"({_described(self._record)}): restore it, or begin a new one"
            )
        self._durable_size = self.edge.tree_size
        self._pending: list[_Row] = []
        self._pending_bytes = 0
        self._tiles: dict[tuple[int, int], bytes] = {}
        self._identities: dict[bytes, int] = {}

    @classmethod
    def create(cls, directory: Path, origin: str, *, keeps_entries: bool) -> Self:
        """Make an empty cursor in a directory that has none. Raises StorageError."""
        path = directory / (MIRROR_NAME if keeps_entries else HASHES_NAME)
        return cls._take_over(LmdbStore.create(path, origin, BINDING), keeps_entries=keeps_entries)

    @classmethod
    def open(cls, directory: Path, origin: str, *, keeps_entries: bool) -> Self:
        """Open a cursor where it stopped.

        Raises NotFoundError when there is none, ConfigError when it is another log's or was made with the
        other choice of what to keep, StoreInUseError, CorruptionError and StorageError.
        """
        wanted, other = (MIRROR_NAME, HASHES_NAME) if keeps_entries else (HASHES_NAME, MIRROR_NAME)
        if not (directory / wanted).exists() and (directory / other).exists():
            kept = "without its entries" if keeps_entries else "as a full mirror"
            raise ConfigError(
                f"{directory} holds what was checked {kept}: set `mirror` back, or begin in a new state "
                "directory, which checks everything anew"
            )
        return cls._take_over(
            LmdbStore.open(directory / wanted, origin, BINDING), keeps_entries=keeps_entries
        )

    @classmethod
    def _take_over(cls, store: LmdbStore, *, keeps_entries: bool) -> Self:
        """Make a cursor of a store that was opened for it, or close the store, which releases its lock."""
        try:
            return cls(store, keeps_entries=keeps_entries)
        except BaseException:
            store.close()
            raise

    @property
    def origin(self) -> str:
        """Return the origin of the log."""
        return self._store.origin

    @property
    def position(self) -> int:
        """Return how many entries were checked, those not yet durable included."""
        return self.edge.tree_size

    @property
    def durable_size(self) -> int:
        """Return how many entries a restart finds checked."""
        return self._durable_size

    @property
    def pending_entries(self) -> int:
        """Return how many checked entries the next `flush` makes durable."""
        return len(self._pending)

    @property
    def pending_bytes(self) -> int:
        """Return how many bytes of checked entries are in memory."""
        return self._pending_bytes

    @contextmanager
    def lookups(self) -> Iterator[Lookups]:
        """Open a snapshot to look things up in; no `flush` inside the block."""
        with self._store.reader() as reader:
            yield Lookups(reader, self._tiles, self._identities, self.edge, self._pending)

    def grow(self, leaf_hashes: Sequence[bytes]) -> Grown:
        """Compute the tree with these leaves behind the checked ones; nothing changes."""
        return Grown(*integrate(self.edge, leaf_hashes))

    def add(self, judged: Sequence[JudgedEntry], registry: Registry, grown: Grown) -> None:
        """Take in entries that were fully checked, with the tree and the registry behind them."""
        self.edge, self.registry = grown.edge, registry
        self._tiles.update(grown.tiles)
        self._pending += [self._row(entry) for entry in judged]
        self._pending_bytes += sum([len(entry.entry) for entry in judged])

    def flush(self) -> None:
        """Make everything durable that was added. Raises StorageError; the cursor is then to be re-opened."""
        if not self._pending:
            return
        record = _format_record(self.origin, self.edge)
        batch = CommitBatch(
            start=self._durable_size,
            entries=[row.entry if row.is_kept else NOT_KEPT for row in self._pending],
            identities=[row.identity for row in self._pending],
            business_keys=[row.business_keys for row in self._pending],
            governance_indices=_governance_indices(self._pending, self._durable_size),
            tiles=self._tiles,
        )
        self._store.commit(batch, expected=self._record, new=record, publish=False)
        self._record = record
        self._durable_size = self.edge.tree_size
        self._pending, self._pending_bytes = [], 0
        self._tiles, self._identities = {}, {}

    def cover(self, note: bytes) -> None:
        """Keep a verified checkpoint as the newest one whose tree was checked; its size is `durable_size`."""
        assert not self._pending
        if note != self.covered:
            self._store.publish(note)
            self.covered = note

    def close(self) -> None:
        """Close the store; what was not flushed will be checked again."""
        self._store.close()

    def _row(self, judged: JudgedEntry) -> _Row:
        """Return what is kept of an entry; its name is that of the first entry that has it."""
        verified, identities = judged.verified, self._identities
        identity: bytes | None = None
        if verified is not None:
            first = identities.setdefault(verified.identity, judged.leaf_index)
            owns = judged.finding is None or judged.finding.first_index is None
            if owns and first == judged.leaf_index:
                identity = verified.identity
        keeps, wrong = self.keeps_entries, judged.finding is not None
        return _Row(
            judged.entry,
            keeps or judged.is_governance or wrong,
            judged.is_governance,
            identity or _nameless(judged.leaf_index),
            verified.business_keys if keeps and verified is not None else (),
        )


class Grown:
    """Holds a tree that has grown: its new edge and the changed tiles."""

    __slots__ = ("edge", "tiles")

    def __init__(self, edge: TreeEdge, tiles: dict[tuple[int, int], bytes]) -> None:
        self.edge = edge
        self.tiles = tiles


class Lookups:
    """Looks up what was checked, durable or not. Belongs to one thread and to its `with` block."""

    def __init__(
        self,
        reader: Reader,
        tiles: dict[tuple[int, int], bytes],
        identities: dict[bytes, int],
        edge: TreeEdge,
        pending: Sequence[_Row],
    ) -> None:
        self._reader = reader
        self._tiles = tiles
        self._identities = identities
        self._edge = edge
        self._pending = pending

    def find(self, identity: bytes) -> int | None:
        """Return the index of the first entry with an identity, or None."""
        pending = self._identities.get(identity)
        return self._reader.find_leaf_index(identity) if pending is None else pending

    def entry(self, leaf_index: int) -> bytes:
        """Return a checked entry. Raises NotFoundError when it is not kept here."""
        durable = self._reader.tree_size
        if leaf_index >= durable:
            return self._pending[leaf_index - durable].entry
        kept = self._reader.read_entry(leaf_index)
        if kept == NOT_KEPT:
            raise NotFoundError(f"entry {leaf_index} was checked and is not kept here: this is no mirror")
        return kept

    def governance_indices(self) -> list[int]:
        """Return the leaf indices of all governance entries that count, ascending."""
        pending = _governance_indices(self._pending, self._reader.tree_size)
        return [*self._reader.governance_indices(), *pending]

    def node_reader(self, grown: Grown | None = None) -> ReadNode:
        """Return a reader of all nodes of the checked tree, or of that tree grown further."""
        edge = self._edge if grown is None else grown.edge
        fresh = {} if grown is None else grown.tiles

        def read_node(level: int, index: int) -> bytes:
            tile_level, tile_index, height, offset = node_coordinates(level, index)
            stored = fresh.get((tile_level, tile_index)) or self._tiles.get((tile_level, tile_index))
            if stored is None:
                return self._reader.read_node(level, index)
            return tile_node(stored, tile_width(edge.tree_size, tile_level, tile_index), height, offset)

        return read_node


def read_record(reader: Reader) -> tuple[int, bytes]:
    """Read (size, root hash) of a cursor beside the monitor that runs. Raises CorruptionError."""
    record = reader.committed()
    try:
        _, _, size, root = ("" if record is None else record.decode()).removesuffix("\n").split("\n")
        return parse_decimal(size, "the size"), parse_hex(root, "the root", length=32)
    except (ValueError, MalformedError) as error:
        raise CorruptionError(f"the monitor's record cannot be read: {error}") from error


def _format_record(origin: str, edge: TreeEdge) -> bytes:
    return f"{_HEADER}\n{origin}\n{edge.tree_size}\n{edge.root_hash.hex()}\n".encode()


def _described(record: bytes) -> str:
    return repr(record.decode(errors="replace"))


def _fold(reader: Reader, origin: str) -> Registry:
    registry = Registry.EMPTY
    for index in reader.governance_indices():
        try:
            verified = verify_entry(reader.read_entry(index), origin)
            registry = registry.apply(verified.event, verified.public_keys, verified.leaf_hash)
        except RefusedError as error:
            raise CorruptionError(
                f"governance entry {index} of the monitor's store does not follow from those before it "
                f"({error}): restore it, or begin a new one"
            ) from error
    return registry


def _governance_indices(rows: Sequence[_Row], start: int) -> list[int]:
    return [index for index, row in enumerate(rows, start) if row.is_governance]


def _nameless(leaf_index: int) -> bytes:
    """Return the name of an entry that does not own one: by its index, which no event has."""
    return hashlib.sha256(b"tlog-monitor nameless entry %d" % leaf_index).digest()
