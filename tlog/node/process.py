"""The composition root of a node: configuration in, one running process out, a graceful end.

One thread owns the pool; whatever may wait (peers, logs, tiles, a monitor) waits somewhere else. What stops
working is said once, and tried again: a node that reaches nobody now is a node that is needed later.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tlog.errors import StorageError
from tlog.gossip.call_limits import CallLimits
from tlog.gossip.grpc_server import GossipServer
from tlog.gossip.grpc_service import ExchangeDesk, HostLimits
from tlog.gossip.grpc_transport import GrpcTransport
from tlog.gossip.judgement import ALARMS, OFFENCES, Judgement
from tlog.gossip.kept_tiles import KeptForest, KeptTiles
from tlog.gossip.peer_book import PeerBook
from tlog.gossip.pool import Pool
from tlog.gossip.round import Gossiper, RunInThread
from tlog.gossip.state_directory import StateDirectory
from tlog.grpc_tls import channel_credentials
from tlog.monitor.alert_book import AlertBook
from tlog.monitor.alert_desk import AlertDesk
from tlog.monitor.alerts import Alert
from tlog.monitor.assembly import make_sinks
from tlog.node.alarms import alert_of
from tlog.node.config import Config
from tlog.node.following import MemberFollower, ShownWatch, TreeFollower
from tlog.node.leaves import EntryLeaves, TileLeaves
from tlog.node.member_peers import addresses_to_ask
from tlog.node.repeating import repeat
from tlog.node.shown_file import ShownFile
from tlog.node.standing import alerts_directory, load_policy, shown_path, tree_directory
from tlog.policy import Policy
from tlog.storage.writer_lock import WriterLock
from tlog.tls import ClientTls, ServerTls, read_client_tls

if TYPE_CHECKING:
    from tlog.witness.app import WitnessServer

_LOGGER = logging.getLogger("tlog.node")
MEMBERSHIP_S = 600.0
"""How often the membership is read anew."""
STOP_S = 3.0
"""How long calls under way may take when the node stops."""

Facts = dict[str, str | int | list[str]]


class _Rounds:
    """Counts the rounds since the start, and tells of each where the log asks for that much."""

    def __init__(self, gossiper: Gossiper) -> None:
        self._gossiper = gossiper
        self._count = 0

    async def run_one(self) -> None:
        report = await self._gossiper.gossip_round()
        self._count += 1
        asked, answered = len(report.asked), len(report.answered)
        _LOGGER.debug("round %d: %d asked, %d answered", self._count, asked, answered)


class Node:
    """Runs one node inside an event loop."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stopping = asyncio.Event()
        self._news = asyncio.Event()
        # Something in this process has put evidence where all of the node's is.
        self._found = asyncio.Event()
        # A liar who reconnects could fill the log file otherwise.
        self._told_offences = CallLimits(per_s=0.1, burst=10)
        self._fatal: Exception | None = None
        self._witness: WitnessServer | None = None
        self._tls: ServerTls | None = None

    def stop(self) -> None:
        """Begin a graceful stop; belongs to the event loop."""
        self._stopping.set()

    def reload(self) -> None:
        """Read the certificate anew, and let the witness, where one runs here, read its logs."""
        if self._tls is not None:
            self._tls.reload()
        if self._witness is None:
            _LOGGER.info("SIGHUP: no witness runs here, and nothing else is read anew")
        else:
            self._witness.reload()

    async def run(self, announce: Callable[[Facts], None]) -> None:
        """Run until `stop`; calls `announce` once, when it listens. Raises TlogError when it cannot run."""
        async with AsyncExitStack() as stack:
            await self._start(stack, announce)
            await self._stopping.wait()
        if self._fatal is not None:
            raise self._fatal

    async def _start(self, stack: AsyncExitStack, announce: Callable[[Facts], None]) -> None:
        # Whatever is entered first is closed last.
        config, settings = self._config, self._config.gossip
        policy = load_policy(config)
        state_path = Path(config.node.state_path)
        state = StateDirectory(state_path, policy)
        stack.callback(WriterLock(state_path).release)
        desk = self._desk(stack)
        trees: dict[str, KeptTiles] = {}
        for log in config.log:
            trees[log.origin] = KeptTiles(tree_directory(config, log.origin), policy)
            stack.callback(trees[log.origin].close)
        thread = stack.enter_context(ThreadPoolExecutor(1, "pool"))
        reading = stack.enter_context(ThreadPoolExecutor(len(trees) + 1, "read"))
        tls = read_client_tls(config.client_tls)
        self._tls = ServerTls(config.tls) if config.tls.is_on else None
        transport = GrpcTransport(
            timeout_s=settings.timeout_s, credentials=None if tls is None else channel_credentials(tls)
        )
        stack.push_async_callback(transport.close)
        gossiper = Gossiper(
            Pool(policy, state, KeptForest(trees), patience_s=settings.patience_s, now_s=time.monotonic()),
            PeerBook(addresses_to_ask(settings.peers, (), settings.own_address)),
            transport,
            fan_out=settings.fan_out,
            clock=time.monotonic,
            randomness=random.SystemRandom(),
            run=RunInThread(thread),
            logs={log.server: log.origin for log in config.log if log.server},
            on_judgement=lambda who, judgement: self._hear(desk, who, judgement),
        )
        limits = HostLimits(per_s=settings.calls_per_s, burst=settings.burst_calls)
        server = GossipServer(
            ExchangeDesk(gossiper, time.monotonic, limits), max_concurrent_calls=settings.max_concurrent_calls
        )
        address = await server.start(settings.listen_address, settings.port, self._tls)
        stack.push_async_callback(server.stop, STOP_S)
        for work in self._works(stack, gossiper, policy, trees, reading, state.evidence_directory, desk, tls):
            stack.push_async_callback(_cancel, asyncio.ensure_future(self._guard(work)))
        announce(
            {
                "gossip": address,
                "logs": list(gossiper.pool.origins),
                "peers": list(gossiper.book.addresses),
                "state": str(state_path),
                "pid": os.getpid(),
            }
        )

    def _works(
        self,
        stack: AsyncExitStack,
        gossiper: Gossiper,
        policy: Policy,
        trees: dict[str, KeptTiles],
        reading: Executor,
        evidence_directory: Path,
        desk: AlertDesk,
        tls: ClientTls | None,
    ) -> Iterator[Coroutine[None, None, None]]:
        """Yield everything that this process does by itself, each to run until it is cancelled."""
        config, settings = self._config, self._config.gossip
        gossip = _Rounds(gossiper).run_one
        yield repeat("gossip", gossip, period_s=settings.round_s, hurry=self._news)
        loop = asyncio.get_running_loop()

        def found() -> None:
            loop.call_soon_threadsafe(self._found.set)

        members_of: dict[str, tuple[str, ...]] = {}
        yield repeat("evidence", gossiper.look_for_evidence, period_s=settings.round_s, hurry=self._found)
        for log in config.log:
            if not log.server and not log.tiles:
                continue
            source = (
                TileLeaves(log.tiles, policy, log.origin, timeout_s=settings.timeout_s, tls=tls)
                if log.tiles
                else EntryLeaves(log.server, timeout_s=settings.timeout_s, tls=tls)
            )
            stack.callback(source.close)
            shown_file = ShownFile(shown_path(config, log.origin))
            follower = TreeFollower(
                gossiper=gossiper,
                origin=log.origin,
                tree=trees[log.origin],
                source=source,
                reading=reading,
                watch=ShownWatch(
                    view=shown_file.load(),
                    file=shown_file,
                    stale_s=settings.stale_s,
                    tell=lambda alert: _tell(desk, alert),
                    clock=time.time,
                ),
            )
            yield repeat(f"the tree of {log.origin}", follower.follow, period_s=settings.round_s)
            if settings.membership_port and log.server:
                members = MemberFollower(
                    book=gossiper.book,
                    tree=trees[log.origin],
                    gossiper=gossiper,
                    evidence_directory=evidence_directory,
                    found=found,
                    members_of=members_of,
                    listed=settings.peers,
                    own_address=settings.own_address,
                    server=log.server,
                    policy=policy,
                    origin=log.origin,
                    port=settings.membership_port,
                    timeout_s=settings.timeout_s,
                    tls=tls,
                    reading=reading,
                )
                yield repeat(f"the membership of {log.origin}", members.follow, period_s=MEMBERSHIP_S)
        # What a role needs is loaded with it: most nodes only gossip, and HTTP is a quarter of their start.
        if config.monitor.config_path:
            from tlog.node.roles import run_monitor

            yield run_monitor(Path(config.monitor.config_path), evidence_directory, found)
        if config.witness.config_path:
            from tlog.node.roles import run_witness
            from tlog.witness.app import WitnessServer

            # What it convicts is put where gossip spreads it.
            self._witness = WitnessServer(
                Path(config.witness.config_path), also_keep_in=evidence_directory, on_evidence=found
            )
            yield run_witness(self._witness)

    def _desk(self, stack: AsyncExitStack) -> AlertDesk:
        """Open the journal of alerts, and send first what an earlier run could not deliver."""
        directory = alerts_directory(self._config)
        try:
            directory.mkdir(exist_ok=True)
            shown_path(self._config, "").parent.mkdir(exist_ok=True)
        except OSError as error:
            raise StorageError(f"{directory} cannot be made: {error.strerror}") from error
        sinks = make_sinks(self._config.alerts, _LOGGER.warning)
        book = AlertBook(directory, sinks=[sink.name for sink in sinks])
        return stack.enter_context(AlertDesk(book, sinks, time.time))

    def _hear(self, desk: AlertDesk, who: str, judgement: Judgement) -> None:
        """Tell a person, and pass on at once what everybody should know."""
        alert = alert_of(who, judgement)
        if alert is not None:
            if judgement.outcome in ALARMS and not desk.book.knows(alert):
                # What is in doubt comes again with every contact: only the first time is news.
                self._news.set()
            _tell(desk, alert)
        elif judgement.outcome in OFFENCES and self._told_offences.wait_s("", time.monotonic()) == 0.0:
            _LOGGER.warning("%s sent what no honest node sends, and is dropped: %s", who, judgement.reason)

    async def _guard(self, work: Coroutine[None, None, None]) -> None:
        """Stop the node when one of its parts cannot go on."""
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - raised by `run`, a bug as well as a TlogError
            self._fatal = self._fatal or error
        self.stop()


def _tell(desk: AlertDesk, alert: Alert) -> None:
    """Tell of something where a failing disk must not keep it from being told, nor gossip from going on."""
    try:
        desk.tell(alert)
    except StorageError as error:
        _LOGGER.critical("%s: %s; it could not be written down: %s", alert.kind, alert.message, error)


async def _cancel(task: asyncio.Future[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def serve(config: Config, announce: Callable[[Facts], None]) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP makes the witness read its logs anew. Raises TlogError."""
    node = Node(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, node.stop)
    loop.add_signal_handler(signal.SIGHUP, node.reload)
    await node.run(announce)
