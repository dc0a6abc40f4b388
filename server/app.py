"""The composition root: configuration in, one running server out, and a graceful end.

Stopping is an order: health says NOT_SERVING, the sequencer refuses and drains, its last commit lands,
watchers end, calls in flight get their answers, and only then is the store closed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from server.backlog import Backlog
from server.config import Config, load_config
from server.gossip_service import GossipService
from server.log_service import LogService, Threads
from server.metrics import Metrics
from server.own_cosigner import OwnCosigner, Refresher
from server.publisher import CheckpointFeed
from server.registration import register
from server.sequencer import Sequencer
from server.tile_http import TileServer
from server.witness_policy import read_policy, require_independent_quorum, witness_clients
from server.witnessed_publisher import WitnessedPublisher
from tlog.errors import ConfigError, StateUnknownError, TlogError
from tlog.exit_codes import ExitCode, exit_code
from tlog.key_file import read_cosigner_key_file, read_key_file
from tlog.log import Log
from tlog.note import Signer
from tlog.policy import Policy, build_policy
from tlog.storage.lmdb_store import LmdbStore
from tlog.v1 import gossip_pb2, log_pb2

_LOGGER = logging.getLogger("tlog.server")

SERVICE_NAME = log_pb2.DESCRIPTOR.services_by_name["LogService"].full_name
GOSSIP_SERVICE_NAME = gossip_pb2.DESCRIPTOR.services_by_name["GossipService"].full_name

# Above the 4 MiB that an Append may hold, so that our own error answers, not the transport's.
MAX_RECEIVE_BYTES = 5 * 2**20
READING_THREADS = 4
ANSWERING_THREADS = 2
GRPC_OPTIONS = (
    # grpc shares a port by default: a second server would silently take half of the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
    ("grpc.max_send_message_length", 16 * 2**20),
    ("grpc.max_metadata_size", 16 * 2**10),
    # Only "identity": grpc unpacks a compressed message before it looks at its size.
    ("grpc.compression_enabled_algorithms_bitset", 1),
    ("grpc.max_concurrent_streams", 512),  # of one connection
    # A client that vanished without a word is noticed, and its streams end.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


class Server:
    """Runs one log's server inside an event loop."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._fatal: BaseException | None = None

    def stop(self) -> None:
        """Begin a graceful stop; belongs to the event loop."""
        self._stop.set()

    async def run(self, announce: _Announce) -> None:
        """Serve until `stop`. Raises TlogError when it cannot start, or when the log failed for good."""
        async with AsyncExitStack() as stack:
            await self._start(stack, announce)
            await self._stop.wait()
        if self._fatal is not None:
            raise StateUnknownError(
                f"the server stopped itself: {self._fatal}; start it again, it recovers from what is durable"
            ) from self._fatal

    async def _start(self, stack: AsyncExitStack, announce: _Announce) -> None:
        # Whatever is entered first is closed last.
        config = self._config
        metrics = Metrics()
        signer = read_key_file(Path(config.log.key_path))
        store = LmdbStore.open(
            Path(config.log.store_path),
            origin=signer.name,
            log_vkey=signer.vkey,
            map_size_bytes=config.store.map_size_bytes,
        )
        is_witnessed = bool(config.witnesses.policy_path)
        try:
            cosigner = self._own_cosigner(signer)
            cosign_at_commit = None if cosigner is None or is_witnessed else cosigner.cosign
            log = Log(store, signer, publish_at_commit=not is_witnessed, cosign=cosign_at_commit)
        except BaseException:
            store.close()
            raise
        stack.callback(log.close)
        metrics.committed_size(log.checkpoint().tree_size)
        threads = Threads(
            verifying=_pool(stack, os.cpu_count() or 1, "verify"),
            answering=_pool(stack, ANSWERING_THREADS, "answer"),
            reading=_pool(stack, READING_THREADS, "read"),
        )
        metrics_port: int | None = None
        if config.metrics.enabled:
            metrics_port, stop_metrics = metrics.serve(config.metrics.listen_address, config.metrics.port)
            stack.callback(stop_metrics)
        tiles_port: int | None = None
        if config.tiles.enabled:
            tile_server = TileServer(
                log, metrics, reading=threads.reading, stop_timeout_s=config.grpc.stop_timeout_s
            )
            tiles_port = await tile_server.start(config.tiles.listen_address, config.tiles.port)
            stack.push_async_callback(tile_server.stop)
        with log.view() as view:
            feed = CheckpointFeed(view.published(), metrics)
        publisher = self._publisher(log, feed, metrics, cosigner, threads.answering) if is_witnessed else None
        server = grpc.aio.server(options=GRPC_OPTIONS)
        backlog = Backlog(
            metrics,
            max_entries=config.limits.max_queued_entries,
            max_bytes=config.limits.max_queued_bytes,
        )
        sequencer = Sequencer(
            log,
            metrics,
            backlog,
            max_commit_entries=config.limits.max_commit_entries,
            on_committed=feed.publish if publisher is None else publisher.committed,
            on_fatal=self._fail,
        )
        service = LogService(
            log,
            sequencer,
            backlog,
            feed,
            metrics,
            threads=threads,
            max_calls=config.grpc.max_concurrent_calls,
            max_streams=config.grpc.max_concurrent_streams,
        )
        register(server, log_pb2.DESCRIPTOR.services_by_name["LogService"], service)
        if config.gossip.enabled:
            gossip = GossipService(
                log,
                feed,
                metrics,
                policy=self._own_policy(log),
                state_path=Path(config.gossip.state_path),
                thread=_pool(stack, 1, "gossip"),
                on_contradicted=backlog.refuse_all,
            )
            register(server, gossip_pb2.DESCRIPTOR.services_by_name["GossipService"], gossip)
        healths = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(healths, server)
        if config.grpc.reflection:
            gossips = (GOSSIP_SERVICE_NAME,) if config.gossip.enabled else ()
            names = (SERVICE_NAME, *gossips, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)
        port = _listen(server, config.grpc.listen_address, config.grpc.port)
        if publisher is not None:
            publisher.start()
            stack.push_async_callback(publisher.stop)
            await publisher.first_round()
        elif cosigner is not None:
            refresher = Refresher(
                log,
                feed,
                refresh_s=config.witnesses.refresh_s,
                writing=threads.answering,
                on_fatal=self._fail,
            )
            await refresher.start()
            stack.push_async_callback(refresher.stop)
        await server.start()
        stack.push_async_callback(server.stop, config.grpc.stop_timeout_s)
        stack.callback(feed.close)
        if publisher is not None:
            # Before the feed closes, so that calls which wait for the last checkpoint still get it.
            stack.push_async_callback(publisher.stop)
        sequencer.start()
        stack.push_async_callback(sequencer.stop)
        stack.push_async_callback(healths.enter_graceful_shutdown)
        for name in ("", SERVICE_NAME):
            await healths.set(name, health_pb2.HealthCheckResponse.SERVING)
        announce(
            origin=log.origin,
            vkey=log.vkey,
            tree_size=log.checkpoint().tree_size,
            root_hash=log.checkpoint().checkpoint.root_hash.hex(),
            store=config.log.store_path,
            grpc=_address(config.grpc.listen_address, port),
            metrics=None
            if metrics_port is None
            else f"http://{_address(config.metrics.listen_address, metrics_port)}/metrics",
            tiles=None
            if tiles_port is None
            else f"http://{_address(config.tiles.listen_address, tiles_port)}",
        )

    def _own_cosigner(self, signer: Signer) -> OwnCosigner | None:
        path = self._config.log.cosigner_key_path
        if not path:
            _LOGGER.warning(
                "[log] cosigner_key_path is not set: nothing that is published says when it was there; make "
                "a key with `tlog keygen %s --cosigner --out cosigner.key`, and set it",
                signer.name,
            )
            return None
        key = read_cosigner_key_file(Path(path))
        if key.public_key == signer.public_key:
            raise ConfigError(
                f"{path} holds the key that the log signs with: a cosigner needs one of its own"
            )
        return OwnCosigner(key, now_s=lambda: int(time.time()))

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
            witnesses=witness_clients(policy),
            cosigner=cosigner,
            timeout_s=config.witnesses.timeout_s,
            refresh_s=config.witnesses.refresh_s,
            reading=reading,
            on_fatal=self._fail,
        )

    def _own_policy(self, log: Log) -> Policy:
        """Return the witnesses' policy, which lists this log too, or one that lists nothing else."""
        policy_path = self._config.witnesses.policy_path
        return read_policy(Path(policy_path), log) if policy_path else build_policy([log.vkey])

    def _fail(self, error: BaseException) -> None:
        """Take note of what ended the sequencer or the publisher; may be called from any thread."""
        self._fatal = error
        self._loop.call_soon_threadsafe(self._stop.set)


class _Announce:
    """Tells, once, where the server listens and what it serves; nothing secret."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def __call__(self, **facts: str | int | None) -> None:
        if self._as_json:
            sys.stdout.write(json.dumps({"event": "serving", **facts}) + "\n")
        else:
            width = max(map(len, facts))
            lines = (f"  {name:<{width}}  {value}" for name, value in facts.items() if value is not None)
            sys.stdout.write("tlog serves\n" + "\n".join(lines) + "\nStop with Ctrl-C.\n")
        sys.stdout.flush()


def _pool(stack: AsyncExitStack, size: int, name: str) -> ThreadPoolExecutor:
    pool = ThreadPoolExecutor(size, name)
    # In a thread of its own: the loop has to go on, or the calls that wait for the pool could never give up.
    stack.push_async_callback(asyncio.to_thread, pool.shutdown, wait=True, cancel_futures=True)
    return pool


def _listen(server: grpc.aio.Server, address: str, port: int) -> int:
    try:
        return server.add_insecure_port(_address(address, port))
    except RuntimeError as error:
        raise ConfigError(
            f"gRPC cannot listen on {_address(address, port)}: is another server running there? "
            "Stop it, or set [grpc] port to a free one (0: let the system choose)"
        ) from error


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def serve(config: Config, *, as_json: bool) -> None:
    """Serve until SIGTERM or SIGINT."""
    server = Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    await server.run(_Announce(as_json=as_json))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server program; returns its exit code."""
    parser = argparse.ArgumentParser(prog="tlog-server", description="Serve one log over gRPC and HTTP.")
    parser.add_argument("--config", type=Path, required=True, help="TOML file, as `tlog init` writes it")
    parser.add_argument("--json", action="store_true", help="announce as one line of JSON")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(serve(load_config(options.config), as_json=options.json))
    except TlogError as error:
        sys.stderr.write(f"tlog serve: {error}\n")
        return exit_code(error)
    return ExitCode.OK
