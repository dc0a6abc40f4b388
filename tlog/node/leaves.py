"""Where a node reads the leaves of a log from: its tiles, or its entries over gRPC. Nothing here is believed.

`KeptTiles.extend` takes only what leads to the root of a checkpoint that was judged before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from tlog.checkpoint import Checkpoint
from tlog.client.trusted_log import VerifiedCheckpoint
from tlog.evidence import stated_checkpoint
from tlog.gossip.held import HeldCheckpoint, prove_path
from tlog.gossip.message import OfferedCheckpoint
from tlog.merkle import leaf_hash
from tlog.monitor.grpc_source import GrpcSource
from tlog.policy import Policy
from tlog.tile_source.base import TileSource
from tlog.tile_source.directory import DirectoryTileSource
from tlog.tile_source.trust import LogPolicy
from tlog.tile_source.verified import VerifiedTiles
from tlog.tls import ClientTls


class LeafSource(Protocol):
    """Reads one log; raises TlogError where it cannot."""

    @property
    def name(self) -> str:
        """Return what messages call this source."""
        ...

    @property
    def may_be_behind(self) -> bool:
        """Whether this may be a copy, which is behind what it showed before without anybody lying."""
        ...

    def newest(self, known_size: int) -> OfferedCheckpoint:
        """Return the checkpoint that the log shows now, with the path from `known_size` if it is larger."""
        ...

    def leaf_hashes(self, start: int, under: HeldCheckpoint) -> Iterator[Sequence[bytes]]:
        """Yield the hashes of leaves [start, under.tree_size) in order, in runs of bounded length."""
        ...

    def close(self) -> None:
        """Release connections."""
        ...


class TileLeaves:
    """Reads leaves out of a log's tiles, without any entries."""

    may_be_behind = True

    def __init__(
        self, tiles: str, policy: Policy, origin: str, *, timeout_s: float, tls: ClientTls | None = None
    ) -> None:
        """Read below a URL prefix, or in a directory. Raises ConfigError for what is neither."""
        self._source: TileSource
        self._close: Callable[[], None] = lambda: None
        if "://" in tiles:
            from tlog.tile_source.http import HttpTileSource  # and with it an HTTP client: a fifth of a start

            source = HttpTileSource(tiles, timeout_s=timeout_s, tls=tls)
            self._source, self._close = source, source.close
        else:
            self._source = DirectoryTileSource(path=Path(tiles))
        # Whoever cosigned it or not: a checkpoint that the log signed is one to gossip about.
        self._trust = LogPolicy(policy=replace(policy, quorum=None), origin=origin)
        self.name = self._source.name

    def newest(self, known_size: int) -> OfferedCheckpoint:
        """Return the checkpoint beside the tiles, and the path that these make."""
        note = self._source.checkpoint()
        checkpoint = self._trust.open(note)
        if not 0 < known_size < checkpoint.tree_size:
            return OfferedCheckpoint(note=note)
        path = prove_path(self._tiles(checkpoint).read_node, known_size, checkpoint.tree_size)
        return OfferedCheckpoint(note=note, path_start_size=known_size, path=path.hashes)

    def leaf_hashes(self, start: int, under: HeldCheckpoint) -> Iterator[Sequence[bytes]]:
        """Yield the hashes of leaves [start, under.tree_size), a tile at a time."""
        for leaves in self._tiles(under.checkpoint).leaves(start, under.tree_size, entries=False):
            yield leaves.hashes

    def close(self) -> None:
        """Release connections."""
        self._close()

    def _tiles(self, checkpoint: Checkpoint) -> VerifiedTiles:
        return VerifiedTiles(
            self._source, checkpoint, newer=lambda: self._trust.open(self._source.checkpoint())
        )


class EntryLeaves:
    """Reads entries from a log's server, and hashes them: for a log that serves no tiles."""

    may_be_behind = False

    def __init__(self, address: str, *, timeout_s: float, tls: ClientTls | None = None) -> None:
        self._source = GrpcSource(address, timeout_s=timeout_s, tls=tls)
        self.name = address

    def newest(self, known_size: int) -> OfferedCheckpoint:
        """Return the published checkpoint, and the path that the log's own range proof makes."""
        note = self._source.checkpoint()
        if not 0 < known_size < stated_checkpoint(note).tree_size:
            return OfferedCheckpoint(note=note)
        note, path = self._source.fork_path(known_size)
        return OfferedCheckpoint(note=note, path_start_size=known_size, path=tuple(path))

    def leaf_hashes(self, start: int, under: HeldCheckpoint) -> Iterator[Sequence[bytes]]:
        """Yield the hashes of leaves [start, under.tree_size)."""
        runs = self._source.runs(start, VerifiedCheckpoint(note=under.note, checkpoint=under.checkpoint))
        for run in runs:
            yield [leaf_hash(entry) for entry in run.entries]

    def close(self) -> None:
        """Release connections."""
        self._source.close()
