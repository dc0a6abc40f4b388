"""One worker process: answers calls on the shared port, checks signatures, reads the store by itself.

It is started by `server.worker_pool`, which hands it one end of a socket. It holds no key, and writes
nothing: verified entries go to the main process, which alone sequences and signs. It ends when that process
says so, and at once when that process is gone; signals that mean the whole server are that process's.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from server.backlog import Backlog
from server.call_log import set_up_logging
from server.caller_gate import CallerGate
from server.config import Config
from server.gossip_relay_service import GossipRelay
from server.gossip_service import MAX_CALLS
from server.grpc_server import GOSSIP_SERVICE, LOG_SERVICE, GrpcServer
from server.link import Link
from server.log_service import LogService
from server.metrics import Metrics
from server.publisher import CheckpointFeed
from server.reading_access import ReadingAccess
from server.remote_log import RemoteLog
from server.remote_sequencer import RemoteSequencer
from server.threads import Threads, spare_what_stays
from server.tracing import open_tracing
from server.wire import (
    Count,
    Counted,
    End,
    Exchanged,
    Failed,
    FromMain,
    FromWorker,
    Listening,
    Published,
    Ready,
    RefuseAll,
    Stop,
    Taken,
    Welcome,
    decode_from_main,
    encode_message,
)
from tlog.errors import MalformedError, ReadOnlyError, TlogError
from tlog.exit_codes import ExitCode, exit_code
from tlog.log_view import SignedCheckpoint
from tlog.storage.marked_size import MarkedSize
from tlog.tls import ServerTls

_LOGGER = logging.getLogger("tlog.server")
_TEXT_FORMAT = "%(asctime)s %(levelname)s %(name)s: [worker %(process)d] %(message)s"


class Worker:
    """Serves one log's calls until the main process ends it."""

    def __init__(self, link: Link[FromWorker, FromMain], welcome: Welcome, marked_size: MarkedSize) -> None:
        """Serve what `welcome` says, up to `marked_size`; belongs to the running event loop."""
        self._marked_size = marked_size
        self._link = link
        self._welcome = welcome
        config = welcome.config
        self._metrics = Metrics()
        self._backlog = Backlog(
            self._metrics,
            max_entries=share(config.limits.max_queued_entries, config),
            max_bytes=share(config.limits.max_queued_bytes, config),
            max_wait_s=config.limits.max_queue_s,
            processes=config.server.workers,
        )
        if welcome.refusal:
            self._backlog.refuse_all(ReadOnlyError(welcome.refusal))
        self._feed = CheckpointFeed(SignedCheckpoint.read(welcome.published), self._metrics)
        self._sequencer = RemoteSequencer(link.send, self._backlog.adopt_pace)
        self._server = GrpcServer(
            config.grpc,
            shares_port=True,
            tls=ServerTls(config.tls) if config.tls.is_on else None,
        )

    async def run(self) -> None:
        """Serve until the end. Raises TlogError when it cannot start."""
        async with AsyncExitStack() as stack:
            await self._start(stack)
            await self._listen_to_main()
        self._link.send(Counted(0, self._metrics.samples()))
        await self._link.close()

    async def _start(self, stack: AsyncExitStack) -> None:
        # Whatever is entered first is closed last.
        welcome, config = self._welcome, self._welcome.config
        log = RemoteLog.open(
            Path(config.log.store_path),
            origin=welcome.origin,
            map_size_bytes=config.store.map_size_bytes,
            marked_size=self._marked_size,
            on_lost=_give_up,
        )
        stack.callback(log.close)
        service = LogService(
            log,
            self._sequencer,
            self._backlog,
            self._feed,
            self._metrics,
            ReadingAccess.of(config, log.origin),
            CallerGate.for_log(config, log.origin, log.view_before_mark),
            threads=Threads.open(stack),
            tracing=open_tracing(config.tracing, stack),
            max_calls=share(config.grpc.max_concurrent_calls, config),
            max_streams=share(config.grpc.max_concurrent_streams, config),
        )
        self._server.add(LOG_SERVICE, service)
        if config.gossip.enabled:
            relay = GossipRelay(
                self._sequencer, self._metrics, service.gate, max_calls=share(MAX_CALLS, config)
            )
            self._server.add(GOSSIP_SERVICE, relay)
        await self._server.show_ready(welcome.is_ready)
        await self._server.listen(config.grpc.listen_address, welcome.port)
        await self._server.open()
        stack.push_async_callback(self._server.close)
        stack.callback(self._feed.close)
        spare_what_stays()
        self._link.send(Listening())

    async def _listen_to_main(self) -> None:
        """Do what the main process says, until it says that this is the end."""
        while (message := await self._link.receive()) is not None:
            match message:
                case Taken():
                    self._sequencer.taken(message)
                case Failed():
                    self._sequencer.failed(message)
                case Exchanged():
                    self._sequencer.exchanged(message)
                case Published():
                    self._feed.publish(SignedCheckpoint.read(message.checkpoint))
                case RefuseAll():
                    self._backlog.refuse_all(ReadOnlyError(message.reason))
                case Ready():
                    await self._server.show_ready(message.is_ready)
                case Count():
                    self._link.send(Counted(message.number, self._metrics.samples()))
                case Stop():
                    self._sequencer.stop()
                    await self._server.stop_taking()
                case End():
                    return
                case Welcome():
                    raise MalformedError("the main process said welcome twice")
        _give_up(EOFError("the main process is gone"))


def share(total: int, config: Config) -> int:
    """Return one worker's part of a limit, so that all workers together keep it; at least 1."""
    return max(1, total // config.server.workers)


def _give_up(error: BaseException) -> None:
    """End this process at once: what is under way could not be answered any more."""
    _LOGGER.error("worker %d ends: %s", os.getpid(), error)
    logging.shutdown()
    os._exit(ExitCode.IO_OR_REMOTE)


async def work(end: socket.socket, marked_size: MarkedSize) -> None:
    """Serve over one end of the main process's socket, with the size that it shares. Raises TlogError."""
    link: Link[FromWorker, FromMain] = await Link.open(end, encode=encode_message, decode=decode_from_main)
    welcome = await link.receive()
    if isinstance(welcome, Welcome):
        set_up_logging(welcome.config.logging.format, _TEXT_FORMAT)
        await Worker(link, welcome, marked_size).run()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker; returns its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    parser = argparse.ArgumentParser(prog="tlog-worker", description="Started by the server; not by hand.")
    parser.add_argument("--fd", type=int, required=True, help="the connected socket that it was given")
    parser.add_argument("--marked-fd", type=int, required=True, help="the shared memory that it was given")
    options = parser.parse_args(arguments)
    set_up_logging("text", _TEXT_FORMAT)
    try:
        asyncio.run(work(socket.socket(fileno=options.fd), MarkedSize(options.marked_fd)))
    except TlogError as error:
        sys.stderr.write(f"tlog worker: {error}\n")
        return exit_code(error)
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
