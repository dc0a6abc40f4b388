"""A member's gossip node: the real pool, gossiper and kept tiles, in this process, over real gRPC."""

from __future__ import annotations

import random
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic

import grpc

from tlog.client.log_client import LogClient
from tlog.gossip.grpc_service import ExchangeDesk, GossipServicer
from tlog.gossip.grpc_transport import GrpcTransport
from tlog.gossip.held import hold_checkpoint
from tlog.gossip.judgement import ALARMS, OFFENCES, Judgement, Outcome
from tlog.gossip.kept_tiles import KeptForest, KeptTiles
from tlog.gossip.message import OfferedCheckpoint
from tlog.gossip.peer_book import PeerBook
from tlog.gossip.pool import Pool
from tlog.gossip.round import Gossiper, RoundReport, RunInThread
from tlog.gossip.state_directory import StateDirectory
from tlog.merkle import leaf_hash
from tlog.policy import Policy
from tlog.v1 import gossip_pb2_grpc

FAN_OUT = 2


class Node:
    """Follows one log, and gossips with peers; belongs to one event loop."""

    def __init__(self, name: str, directory: Path, policy: Policy, origin: str) -> None:
        """Make a node that knows no peer yet."""
        self.name = name
        self._directory = directory
        self._policy = policy
        self._origin = origin
        self._state = StateDirectory(directory / "gossip", policy)
        self._tiles = KeptTiles(directory / "tiles", policy)
        self._thread = ThreadPoolExecutor(1, f"{name} pool")
        self._run = RunInThread(self._thread)
        self.told: list[Judgement] = []

    async def start(self) -> None:
        """Serve Exchange on loopback; `address` is where."""
        self._transport = GrpcTransport(timeout_s=5.0)
        self.gossiper = Gossiper(
            Pool(self._policy, self._state, KeptForest({self._origin: self._tiles})),
            PeerBook([]),
            self._transport,
            fan_out=FAN_OUT,
            clock=monotonic,
            randomness=random.Random(self.name),  # noqa: S311 - whom to ask next, the same in every run
            run=self._run,
            on_judgement=lambda _, judgement: self.told.append(judgement),
        )
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        servicer = GossipServicer(ExchangeDesk(self.gossiper, monotonic))
        gossip_pb2_grpc.add_GossipServiceServicer_to_server(servicer, self._server)  # type: ignore[no-untyped-call]
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()

    async def close(self) -> None:
        """End everything."""
        await self._server.stop(None)
        await self._transport.close()
        self._thread.shutdown()
        self._tiles.close()

    def meet(self, peers: Iterable[str]) -> None:
        """Take over a list of peers, without this node's own address."""
        self.gossiper.book.replace([address for address in peers if address != self.address])

    async def follow(self, client: LogClient) -> int:
        """Read the log up to its newest checkpoint, keep the tree, and judge it; returns its size.

        Raises what the client raises, and ProofError when the leaves do not lead to the root.
        """
        return await self._run(lambda: self._follow(client))

    async def judge(self, note: bytes) -> Judgement:
        """Judge one checkpoint that came from elsewhere than a peer."""
        judgement = await self._run(
            lambda: self.gossiper.pool.judge(OfferedCheckpoint(note=note), monotonic())
        )
        self.told.append(judgement)
        return judgement

    async def round(self) -> RoundReport:
        """Contact a few peers."""
        return await self.gossiper.gossip_round(ask_logs=False)

    @property
    def size(self) -> int:
        """Return the size of the newest checkpoint that is held."""
        newest = self.gossiper.pool.newest(self._origin)
        return 0 if newest is None else newest.tree_size

    @property
    def refuses_log(self) -> bool:
        """Whether it holds evidence, and therefore refuses the log."""
        return self.gossiper.pool.convictions.is_refused(self._origin)

    @property
    def alarms(self) -> list[Judgement]:
        """Return what a person should hear of."""
        return [judgement for judgement in self.told if judgement.outcome in ALARMS]

    @property
    def offences(self) -> list[Judgement]:
        """Return what no honest node sends, and somebody sent."""
        return [judgement for judgement in self.told if judgement.outcome in OFFENCES]

    @property
    def evidence(self) -> list[bytes]:
        """Return the evidence files of its directory."""
        return self._state.evidence()

    def _follow(self, client: LogClient) -> int:
        verified = client.checkpoint()
        start = self._tiles.tree_size
        if verified.tree_size > start:
            leaves = [leaf_hash(entry) for _, entry in client.entries(start, verified.tree_size)]
            self._tiles.extend(hold_checkpoint(verified.note, self._policy), [leaves])
        judgement = self.gossiper.pool.judge(OfferedCheckpoint(note=verified.note), monotonic())
        if judgement.outcome not in (Outcome.NEW, Outcome.KNOWN, Outcome.STALE):
            self.told.append(judgement)
        return verified.tree_size
