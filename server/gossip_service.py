"""The log as a meeting point: it answers Exchange like any node, and learns at once what contradicts it.

Its own tree judges every checkpoint that somebody holds of it, and nothing that it signed can be unknown to
it. If something is (a restored backup, a copied key, a second server on a copy), it must not sign any more:
what it would append to is not what the members hold. It goes on answering, so that they hear of it.

Only what is published is told; every path up to the committed size is given, and the committed tree judges.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

from server.answers import CallLimit, GuardsCalls, OpenGate, unary
from server.callers import Context
from server.config import Config
from server.metrics import Metrics
from server.publisher import CheckpointFeed
from server.signing_guard import REPLAY_WAY_OUT
from server.told_checkpoint import ToldCheckpoint
from tlog.errors import RemoteError
from tlog.gossip.grpc_service import ExchangeDesk
from tlog.gossip.grpc_transport import GrpcTransport
from tlog.gossip.held import HeldCheckpoint, hold_checkpoint
from tlog.gossip.judgement import ALARMS, Judgement, Outcome
from tlog.gossip.message import ConsistencyPath, GossipMessage
from tlog.gossip.peer_book import PeerBook
from tlog.gossip.pool import Pool
from tlog.gossip.round import Gossiper, RunInThread, Transport
from tlog.gossip.state_directory import StateDirectory
from tlog.grpc_tls import channel_credentials
from tlog.log import Log
from tlog.policy import Policy
from tlog.tls import read_client_tls
from tlog.v1 import gossip_pb2, gossip_pb2_grpc

_LOGGER = logging.getLogger("tlog.server")
MAX_CALLS = 32
"""Exchanges under way; more are pushed back, and no Append waits for any."""


def node_transport(config: Config) -> GrpcTransport:
    """Make the transport by which members' nodes are asked; the caller closes it. Raises ConfigError."""
    tls = read_client_tls(config.client_tls)
    return GrpcTransport(
        timeout_s=config.witnesses.timeout_s, credentials=None if tls is None else channel_credentials(tls)
    )


class LogTree:
    """Gives paths out of the log itself; is the KeptTrees of its pool."""

    def __init__(self, log: Log, feed: CheckpointFeed, policy: Policy, memory: ToldCheckpoint) -> None:
        self._log = log
        self._memory = memory
        self._feed = feed
        self._policy = policy
        self._committed: HeldCheckpoint | None = None
        self._published: HeldCheckpoint | None = None

    def anchor(self, origin: str) -> HeldCheckpoint | None:
        """Return the committed checkpoint, which judges whatever comes."""
        self._committed = self._hold(self._log.checkpoint().note, self._committed)
        return self._committed

    def published(self, origin: str) -> HeldCheckpoint | None:
        """Return the published checkpoint, the only one that is told."""
        self._published = self._hold(self._feed.newest.note, self._published)
        self._memory.tell(self._published)
        return self._published

    def path(self, origin: str, start_size: int, end_size: int) -> ConsistencyPath | None:
        """Return the path between two committed sizes."""
        with self._log.view() as view:
            if not 0 < start_size < end_size <= view.tree_size:
                return None
            hashes = tuple(view.prove_consistency(start_size, end_size))
            if start_size & (start_size - 1) == 0:
                # RFC 9162 leaves out the first node where it is the whole smaller tree.
                hashes = (view.root_hash(start_size), *hashes)
        return ConsistencyPath(start_size=start_size, end_size=end_size, hashes=hashes)

    def _hold(self, note: bytes, before: HeldCheckpoint | None) -> HeldCheckpoint:
        if before is not None and before.note == note:
            return before
        return hold_checkpoint(note, self._policy)


class GossipService(gossip_pb2_grpc.GossipServiceServicer):
    """Serves tlog.v1.GossipService for the log's own origin."""

    def __init__(
        self,
        log: Log,
        feed: CheckpointFeed,
        metrics: Metrics,
        *,
        policy: Policy,
        state_path: Path,
        thread: Executor,
        stop_signing: Callable[[str, str], None],
        transport: Transport | None = None,
        gate: GuardsCalls | None = None,
    ) -> None:
        """Judge in `thread`, an executor of one thread; `transport` is for `ask`.

        Exchanges count as calls where there is a `gate`; what judging costs has limits of its own.

        `stop_signing` is told why, and the way out, when somebody holds what this log did not sign as it is
        now; also at once when that was so before a restart, or the store lacks what members were told.
        Raises StorageError and CorruptionError.
        """
        self.metrics = metrics
        self.calls = CallLimit("exchanges", MAX_CALLS)
        self.gate = OpenGate() if gate is None else gate
        self.streams = CallLimit("streams", MAX_CALLS)
        self._origin = log.origin
        self._stop_signing = stop_signing
        state = StateDirectory(state_path, policy)
        memory = ToldCheckpoint(state_path, policy)
        tree = LogTree(log, feed, policy, memory)
        # What the log itself cannot prove nobody can: there is nothing to wait for.
        pool = Pool(policy, state, tree, patience_s=0.0, told=tree.published)
        self._convictions = pool.convictions
        gossiper = Gossiper(
            pool,
            PeerBook(()),
            _NobodyIsAsked() if transport is None else transport,
            fan_out=1,
            clock=time.monotonic,
            randomness=random.Random(),  # noqa: S311 - nobody is drawn
            run=RunInThread(thread),
            on_judgement=self._hear,
        )
        self._gossiper = gossiper
        self._desk = ExchangeDesk(gossiper, time.monotonic)
        # What was in doubt may be in the tree by now, after a replay.
        pool.recheck(self._origin, time.monotonic())
        with log.view() as view:
            contradiction = memory.contradiction(view)
        if pool.convictions.is_refused(self._origin) or pool.unproven(self._origin):
            before = "it was so before this start"
            contradiction = before if contradiction is None else f"{contradiction}; {before}"
        if contradiction is not None:
            self._contradicted(contradiction, str(state_path))

    async def ask(self, address: str) -> bool:
        """Exchange with a member's node, and judge what it holds; returns whether it answered.

        Raises StorageError when something could not be remembered.
        """
        return await self._gossiper.contact(address) is not None

    @unary
    async def Exchange(
        self, request: gossip_pb2.ExchangeRequest, context: Context
    ) -> gossip_pb2.ExchangeResponse:
        """Judge what a node holds, and tell what is published."""
        return await self._desk.exchange(context.peer(), request)

    async def relayed(self, caller: str, request: bytes) -> bytes:
        """Answer an Exchange that a worker process was sent by `caller`; both messages are encoded.

        Raises PushbackError, MalformedError and StorageError.
        """
        answer = await self._desk.exchange(caller, gossip_pb2.ExchangeRequest.FromString(request))
        return answer.SerializeToString()

    def _hear(self, who: str, judgement: Judgement) -> None:
        if judgement.outcome not in ALARMS or judgement.origin != self._origin:
            return
        if judgement.outcome is Outcome.CONVICTED and not self._convictions.is_refused(self._origin):
            # A witness can sign what it likes: that says nothing about this log.
            _LOGGER.error("a witness of this log is convicted: %s (from %s)", judgement.reason, who)
            return
        self._contradicted(judgement.reason, who)

    def _contradicted(self, reason: str, who: str) -> None:
        self.metrics.contradicted()
        self._stop_signing(
            f"its key signed what is not in its tree ({reason}; from {who}): it was restored from an old "
            "copy, or somebody else has its key, and members hold the evidence",
            REPLAY_WAY_OUT,
        )


class _NobodyIsAsked:
    """Is the transport of a log, which only answers."""

    async def exchange(self, address: str, message: GossipMessage) -> GossipMessage:
        """Refuse."""
        raise RemoteError(f"a log asks nobody, and not {address}")
