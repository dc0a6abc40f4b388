"""Keeps the trees of a node up with its newest checkpoints, and its peers up with the membership."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from tlog.client import LogClient, RetryPolicy, VerifiedCheckpoint
from tlog.errors import RuleBrokenError, SplitViewError
from tlog.gossip.held import HeldCheckpoint
from tlog.gossip.judgement import Outcome
from tlog.gossip.kept_tiles import KeptTiles
from tlog.gossip.message import OfferedCheckpoint
from tlog.gossip.peer_book import PeerBook
from tlog.gossip.round import Gossiper
from tlog.grpc_tls import channel_credentials
from tlog.membership import Registry
from tlog.monitor.alerts import Alert
from tlog.node.leaves import LeafSource
from tlog.node.member_peers import addresses_to_ask, member_addresses
from tlog.node.shown_file import ShownFile
from tlog.node.shown_view import Shown, ShownView
from tlog.policy import Policy
from tlog.tls import ClientTls

_SIGNED = frozenset(
    {Outcome.NEW, Outcome.KNOWN, Outcome.STALE, Outcome.CLEARED, Outcome.UNSETTLED, Outcome.UNPROVEN}
)
"""Outcomes of what the log has signed, and was not convicted by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownWatch:
    """Tells when a log shows this node less than it has signed, and remembers it across restarts."""

    view: ShownView
    file: ShownFile
    stale_s: float
    tell: Callable[[Alert], None]
    clock: Callable[[], float]

    def saw(self, shown: Shown) -> None:
        """Take note of one answer of the log. Raises StorageError when it cannot be remembered."""
        for alert in self.view.saw(shown, self.stale_s, self.clock()):
            self.tell(alert)
        self.file.save(self.view)


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeFollower:
    """Reads one log for itself, beside what peers say of it: its newest checkpoint, and its tree.

    Waits in `reading`, so that gossip goes on meanwhile.
    """

    gossiper: Gossiper
    origin: str
    tree: KeptTiles
    source: LeafSource
    reading: Executor
    watch: ShownWatch

    async def follow(self) -> None:
        """Judge what the log shows now, and extend the kept tree to the newest checkpoint.

        What waited for the tree is judged again. A log that is convicted is not read any more. Raises
        TlogError when the log cannot be read, or its leaves are not those of the checkpoint.
        """
        loop = asyncio.get_running_loop()
        newest = await self._newest()
        if newest is not None or not await self._is_refused():
            known_size = 0 if newest is None else newest.tree_size
            offered = await loop.run_in_executor(self.reading, self.source.newest, known_size)
            judgement = await self.gossiper.see(self.source.name, offered)
            if judgement.outcome in _SIGNED:
                self._watch(newest or await self._newest(), offered, judgement.tree_size)
            newest = await self._newest()
        if newest is None or newest.tree_size <= self.tree.tree_size:
            return
        await loop.run_in_executor(self.reading, self._extend, newest)
        await self.gossiper.tree_grew(self.origin)

    def _extend(self, newest: HeldCheckpoint) -> None:
        """Go on where a fetch broke off, unless that had another aim."""
        fetched = self.tree.fetched_size
        start = fetched if fetched <= newest.tree_size else self.tree.tree_size
        leaves = self.source.leaf_hashes(start, newest) if start < newest.tree_size else ()
        self.tree.extend(newest, leaves, start=start)

    def _watch(self, held: HeldCheckpoint | None, offered: OfferedCheckpoint, size: int) -> None:
        """Compare what the log shows with what was held before it was asked; at first that is the same."""
        if held is None:
            return
        shown = Shown(
            source=self.source.name,
            note=offered.note,
            tree_size=size,
            held=held,
            may_be_behind=self.source.may_be_behind,
        )
        self.watch.saw(shown)

    async def _is_refused(self) -> bool:
        return await self.gossiper.ask(lambda pool: pool.convictions.is_refused(self.origin))

    async def _newest(self) -> HeldCheckpoint | None:
        """Return the newest checkpoint; None before the first, and of a convicted log."""
        return None if await self._is_refused() else await self.gossiper.ask(lambda p: p.newest(self.origin))


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberFollower:
    """Reads the members of a log, and puts their nodes beside the listed ones.

    What the log proves on the way is held against the kept tree, and against the log's rules; what convicts
    it is kept in `evidence_directory`, and `found` is called.
    """

    book: PeerBook
    tree: KeptTiles
    gossiper: Gossiper
    evidence_directory: Path
    found: Callable[[], None]
    members_of: dict[str, tuple[str, ...]]
    """The members' nodes by log, shared by the followers of all logs."""
    listed: Sequence[str]
    own_address: str
    server: str
    policy: Policy
    origin: str
    port: int
    timeout_s: float
    tls: ClientTls | None
    reading: Executor

    async def follow(self) -> None:
        """Replace the list of peers. Raises TlogError when the membership cannot be read or verified."""
        try:
            registry, shown = await asyncio.get_running_loop().run_in_executor(self.reading, self._read)
        except (SplitViewError, RuleBrokenError):
            self.found()
            raise
        if shown is not None:
            await self.gossiper.see(self.server, OfferedCheckpoint(note=shown.note))
        self.members_of[self.origin] = member_addresses(registry, self.port)
        self.book.replace(addresses_to_ask(self.listed, self.members_of.values(), self.own_address))

    def _read(self) -> tuple[Registry, VerifiedCheckpoint | None]:
        with LogClient(
            self.server,
            self.policy,
            checkpoint_file=None,
            evidence_directory=self.evidence_directory,
            origin=self.origin,
            receipts=self.tree.prove_leaf,
            timeout_s=self.timeout_s,
            credentials=None if self.tls is None else channel_credentials(self.tls),
            retry=RetryPolicy(deadline_s=self.timeout_s),
        ) as client:
            return client.registry(), client.trusted
