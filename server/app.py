"""The composition root: configuration in, one running server out, and a graceful end.

Stopping is an order: health says NOT_SERVING, the sequencer refuses and drains, its last commit lands,
watchers end, calls in flight get their answers, and only then is the store closed.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from server.announce import Announce
from server.backlog import Backlog, CommitPace
from server.begin_late import BeginLate
from server.caller_gate import CallerGate
from server.config import Config
from server.first_signature import FirstSignature
from server.freeze_watch import FreezeWatch
from server.gossip_service import GossipService, node_transport
from server.grpc_server import GOSSIP_SERVICE, LOG_SERVICE, GrpcServer, format_address
from server.http_side import serve_http
from server.log_keys import open_log
from server.log_service import LogService
from server.loss_desk import HOLD as MARK_HOLD
from server.member_gate import MemberGate
from server.metrics import Metrics
from server.operator_view import OperatorView
from server.own_cosigner import OwnCosigner, Refresher
from server.publisher import CheckpointFeed
from server.reading_access import ReadingAccess
from server.scrub import Scrub
from server.sequencer import NotesPace, Sequencer
from server.signing_guard import SigningGuard
from server.start_check import HOLD as CHECK_HOLD
from server.start_check import StartCheck
from server.threads import Threads, open_pool, spare_what_stays
from server.tracing import open_tracing
from server.wire import Sample
from server.witness_policy import read_policy, require_independent_quorum, witness_clients
from server.witnessed_publisher import WitnessedPublisher
from server.worker_pool import WorkerPool
from tlog.errors import StateUnknownError, StorageError
from tlog.gossip.grpc_transport import GrpcTransport
from tlog.log import Log
from tlog.log_view import SignedCheckpoint
from tlog.policy import Policy, build_policy
from tlog.storage.marked_size import MarkedSize
from tlog.tls import ServerTls, read_client_tls

_LOGGER = logging.getLogger("tlog.server")


class TakesCalls(Protocol):
    """Is what members' calls come in by: a gRPC server in this process, or workers with one each."""

    async def listen(self, address: str, port: int) -> int:
        """Bind an address, and return its port. Raises ConfigError when somebody else listens there."""
        ...

    async def open(self) -> None:
        """Answer calls. Raises ConfigError."""
        ...

    async def show_ready(self, is_ready: bool) -> None:
        """Let health say whether entries are taken, and what is published is fresh."""
        ...

    async def stop_taking(self) -> None:
        """Let health say NOT_SERVING; calls are still answered."""
        ...

    async def close(self) -> None:
        """Take no new calls, and end when those under way have, or when their time is over."""
        ...


OtherSamples: TypeAlias = Callable[[], Sequence[Sample]]
"""Returns what other processes add to the page of metrics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """Holds what both ways of answering calls are made of."""

    stack: AsyncExitStack
    log: Log
    feed: CheckpointFeed
    metrics: Metrics
    threads: Threads
    operator: OperatorView
    on_committed: Callable[[SignedCheckpoint], None]


class Server:
    """Runs one log's server inside an event loop."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._fatal: BaseException | None = None
        self._guard = SigningGuard()
        self._marked_size = MarkedSize.create()
        self._gossip_service: GossipService | None = None
        self._tls = ServerTls(config.tls) if config.tls.is_on else None

    def stop(self) -> None:
        """Begin a graceful stop; belongs to the event loop."""
        self._stop.set()

    def reload(self) -> None:
        """Look at the certificate on disk now; belongs to the event loop."""
        if self._tls is not None:
            self._tls.reload()

    async def run(self, announce: Announce) -> None:
        """Serve until `stop`. Raises TlogError when it cannot start, or when the log failed for good."""
        async with AsyncExitStack() as stack:
            await self._start(stack, announce)
            await self._stop.wait()
        if self._fatal is not None:
            raise StateUnknownError(
                f"the server stopped itself: {self._fatal}; start it again, it recovers from what is durable"
            ) from self._fatal

    async def _start(self, stack: AsyncExitStack, announce: Announce) -> None:
        # Whatever is entered first is closed last.
        config = self._config
        stack.callback(self._marked_size.close)
        metrics = Metrics()
        operator = OperatorView(config, metrics, self._guard)
        log, cosigner, self._loss_desk = open_log(
            config, stack, self._guard, metrics, operator.watch_store, self._marked_size
        )
        metrics.committed_size(log.checkpoint().tree_size)
        threads = Threads.open(stack)
        with log.view() as view:
            feed = CheckpointFeed(view.published(), metrics)
        publisher: WitnessedPublisher | None = None
        if config.witnesses.policy_path:
            publisher = self._publisher(log, feed, metrics, cosigner, threads.answering)
        parts = _Parts(
            stack=stack,
            log=log,
            feed=feed,
            metrics=metrics,
            threads=threads,
            operator=operator,
            on_committed=feed.publish if publisher is None else publisher.committed,
        )
        calls, sequencer, others = self._workers(parts) if config.server.workers else self._alone(parts)
        operator.watch_log(feed, self._own_policy(log), is_cosigned=cosigner is not None)
        urls = await serve_http(stack, config, self._tls, log, metrics, operator.health, threads, others)
        stack.push_async_callback(calls.close)
        port = await calls.listen(config.grpc.listen_address, config.grpc.port)
        begin: Callable[[], Awaitable[None]] = _nothing
        if publisher is not None:
            stack.push_async_callback(publisher.stop)
            begin = publisher.begin
        elif cosigner is not None:
            refresher = Refresher(
                log,
                feed,
                refresh_s=config.witnesses.refresh_s,
                writing=threads.answering,
                on_fatal=self._fail,
            )
            stack.push_async_callback(refresher.stop)
            begin = refresher.start
        await self._ask_around(parts, publisher)
        first = FirstSignature(log, feed if publisher is None else None, threads.answering, begin)
        beginning = BeginLate(self._may_publish, first.begin, on_fatal=self._fail)
        stack.push_async_callback(beginning.stop)
        await beginning.start()
        stack.callback(feed.close)
        if publisher is not None:
            # Before the feed closes, so that calls which wait for the last checkpoint still get it.
            stack.push_async_callback(publisher.stop)
        sequencer.start()
        stack.push_async_callback(sequencer.stop)
        freeze_watch = FreezeWatch(
            log,
            feed,
            metrics,
            store_path=Path(config.log.store_path),
            publishes_at_commit=publisher is None,
            writing=threads.answering,
            on_fatal=self._fail,
        )
        freeze_watch.start()
        stack.push_async_callback(freeze_watch.stop)
        if config.scrub.enabled:
            metrics.watch_scrub()
            scrub = Scrub(
                log,
                metrics,
                entries_per_s=config.scrub.entries_per_s,
                found=self._guard.found_damage,
                ended=self._guard.stop_signing,
            )
            scrub.start()
            stack.push_async_callback(asyncio.to_thread, scrub.stop)
        await calls.open()
        await operator.tell_health(stack, calls, self._fail)
        stack.push_async_callback(calls.stop_taking)
        spare_what_stays()
        announce(
            origin=log.origin,
            vkey=log.vkey,
            tree_size=log.checkpoint().tree_size,
            root_hash=log.checkpoint().checkpoint.root_hash.hex(),
            store=config.log.store_path,
            frozen="yes: it takes no new entry" if log.is_frozen else None,
            workers=config.server.workers or None,
            grpc=format_address(config.grpc.listen_address, port),
            **urls,
        )

    async def _ask_around(self, parts: _Parts, publisher: WitnessedPublisher | None) -> None:
        """Hold the signing until witnesses and nodes were asked what this log signed last."""
        check = StartCheck(
            parts.log,
            self._guard,
            policy=self._own_policy(parts.log),
            witnesses=() if publisher is None else publisher.clients,
            nodes=self._config.gossip.nodes,
            ask_node=None if self._gossip_service is None else self._gossip_service.ask,
            timeout_s=self._config.witnesses.timeout_s,
            reading=parts.threads.answering,
            on_fatal=self._fail,
        )
        await check.start()
        parts.stack.push_async_callback(check.stop)

    def _may_publish(self) -> bool:
        """Return whether nothing is known, or still asked for, that speaks against what is committed."""
        return not (self._guard.is_stopped or any(map(self._guard.is_held, (CHECK_HOLD, MARK_HOLD))))

    def _alone(self, parts: _Parts) -> tuple[TakesCalls, Sequencer, OtherSamples]:
        """Answer calls in this process."""
        config = self._config
        backlog = Backlog(
            parts.metrics,
            max_entries=config.limits.max_queued_entries,
            max_bytes=config.limits.max_queued_bytes,
            max_wait_s=config.limits.max_queue_s,
        )
        sequencer = self._sequencer(parts, backlog, backlog.refuse_all)
        service = LogService(
            parts.log,
            self._member_gate(parts, sequencer),
            backlog,
            parts.feed,
            parts.metrics,
            ReadingAccess.of(config, parts.log.origin),
            CallerGate.for_log(config, parts.log.origin, parts.log.view_before_mark),
            threads=parts.threads,
            tracing=open_tracing(config.tracing, parts.stack),
            max_calls=config.grpc.max_concurrent_calls,
            max_streams=config.grpc.max_concurrent_streams,
        )
        server = GrpcServer(config.grpc, shares_port=False, tls=self._tls)
        server.add(LOG_SERVICE, service)
        if config.gossip.enabled:
            server.add(GOSSIP_SERVICE, self._gossip(parts, service.gate))
        return server, sequencer, tuple

    def _workers(self, parts: _Parts) -> tuple[TakesCalls, Sequencer, OtherSamples]:
        """Answer calls in worker processes, and keep to this one what only one may do."""
        pace = CommitPace()
        sequencer = self._sequencer(parts, pace, lambda error: pool.refuse_all(error))
        pool = WorkerPool(
            self._config,
            origin=parts.log.origin,
            marked_size=self._marked_size,
            sequencer=self._member_gate(parts, sequencer),
            pace=pace,
            feed=parts.feed,
            on_fatal=self._fail,
        )
        parts.operator.health.needs_to_read("workers", pool.look)
        if self._config.gossip.enabled:
            pool.answer_exchanges(self._gossip(parts).relayed)
        return pool, sequencer, pool.samples

    def _member_gate(self, parts: _Parts, sequencer: Sequencer) -> MemberGate:
        gate = MemberGate.of(self._config, sequencer, lambda: parts.log.registry)
        parts.metrics.watch_quotas(gate.left)
        return gate

    def _sequencer(
        self, parts: _Parts, pace: NotesPace, refuse_all: Callable[[StorageError], None]
    ) -> Sequencer:
        self._guard.on_stop(lambda state: self._loop.call_soon_threadsafe(refuse_all, state.error()))
        return Sequencer(
            parts.log,
            parts.metrics,
            pace,
            max_commit_entries=self._config.limits.max_commit_entries,
            on_committed=parts.on_committed,
            on_fatal=self._fail,
            on_damage=self._guard.found_damage,
            watch=parts.operator.commits,
            require_room=parts.operator.room.require,
            loss_desk=self._loss_desk,
        )

    def _gossip(self, parts: _Parts, gate: CallerGate | None = None) -> GossipService:
        config = self._config
        transport: GrpcTransport | None = None
        if config.gossip.nodes:
            transport = node_transport(config)
            parts.stack.push_async_callback(transport.close)
        self._gossip_service = service = GossipService(
            parts.log,
            parts.feed,
            parts.metrics,
            policy=self._own_policy(parts.log),
            state_path=Path(config.gossip.state_path),
            thread=open_pool(parts.stack, 1, "gossip"),
            stop_signing=self._guard.stop_signing,
            transport=transport,
            gate=gate,
        )
        return service

    def _publisher(
        self,
        log: Log,
        feed: CheckpointFeed,
        metrics: Metrics,
        cosigner: OwnCosigner | None,
        reading: Executor,
    ) -> WitnessedPublisher:
        config = self._config
        policy = self._own_policy(log)
        require_independent_quorum(policy, None if cosigner is None else cosigner.public_key)
        return WitnessedPublisher(
            log,
            feed,
            metrics,
            policy=policy,
            witnesses=witness_clients(policy, read_client_tls(config.client_tls)),
            cosigner=cosigner,
            timeout_s=config.witnesses.timeout_s,
            refresh_s=config.witnesses.refresh_s,
            reading=reading,
            on_fatal=self._fail,
        )

    def _own_policy(self, log: Log) -> Policy:
        """Return the witnesses' policy, which lists this log too, or one that lists nothing else."""
        policy_path = self._config.witnesses.policy_path
        return (
            read_policy(Path(policy_path), log)
            if policy_path
            else build_policy(dict.fromkeys((log.vkey, *log.registry.log_vkeys)))
        )

    def _fail(self, error: BaseException) -> None:
        """Take note of what ended the sequencer or the publisher; may be called from any thread."""
        self._fatal = error
        self._loop.call_soon_threadsafe(self._stop.set)


async def _nothing() -> None:
    """Begin nothing: what is committed is published by that, and nobody cosigns it anew."""


async def serve(config: Config, *, as_json: bool) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP looks at the certificate on disk."""
    server = Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    loop.add_signal_handler(signal.SIGHUP, server.reload)
    await server.run(Announce(as_json=as_json))
