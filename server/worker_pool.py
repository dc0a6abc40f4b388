"""The worker processes: started, listened to, started again when they die, and ended in order.

A worker is a fresh interpreter (never a fork), connected by a pair of sockets that nobody else can open. It
ends when its end says so, or when this process is gone. One that died loses what it had not handed over and
what it had not answered, nothing that was acknowledged; the others do not notice.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Sequence
from concurrent.futures import CancelledError
from time import monotonic

from server.backlog import CommitPace
from server.config import Config
from server.lasting_task import OnFatal, start_lasting
from server.link import Link
from server.metrics_merge import add_up, without_gauges
from server.publisher import CheckpointFeed
from server.sequencer import SequencesCalls
from server.shared_port import SharedPort
from server.wire import (
    End,
    FromMain,
    FromWorker,
    Published,
    Ready,
    RefuseAll,
    Sample,
    Stop,
    Welcome,
    decode_from_worker,
    encode_message,
)
from server.worker_desk import AnswersExchange, WorkerDesk
from tlog.errors import ConfigError, StorageError
from tlog.storage.marked_size import MarkedSize

_LOGGER = logging.getLogger("tlog.server")

START_TIMEOUT_S = 60.0
EXIT_PATIENCE_S = 5.0
"""How long a worker may take to end, beyond what its calls are given."""
COUNT_TIMEOUT_S = 1.0
"""How long the page of metrics waits for a worker that does not answer."""
MIN_PAUSE_S = 0.1
MAX_PAUSE_S = 10.0
STEADY_S = 60.0
"""Who has lived so long is started again without a pause that earlier deaths made longer."""
MAX_UNSENT_BYTES = 2**25


class WorkerPool:
    """Owns the worker processes of one log; belongs to the event loop that made it."""

    def __init__(
        self,
        config: Config,
        *,
        origin: str,
        marked_size: MarkedSize,
        sequencer: SequencesCalls,
        pace: CommitPace,
        feed: CheckpointFeed,
        on_fatal: OnFatal,
    ) -> None:
        """Answer workers with `sequencer` and `feed`; `config.server.workers` is at least 1.

        They show what is committed up to `marked_size`, which outlives the pool. `on_fatal` is told when
        they are not looked after any more.
        """
        self._config = config
        self._origin = origin
        self._marked_size = marked_size
        self._sequencer = sequencer
        self._pace = pace
        self._feed = feed
        self._on_fatal = on_fatal
        self._exchange: AnswersExchange | None = None
        self._loop = asyncio.get_running_loop()
        self._port: SharedPort | None = None
        self._refusal = ""
        self._is_ready = False
        self._desks: dict[int, WorkerDesk] = {}
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._broadcast: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._ending = False
        self._departed: tuple[Sample, ...] = ()

    def answer_exchanges(self, exchange: AnswersExchange) -> None:
        """Let workers serve gossip, before `open`."""
        self._exchange = exchange

    def refuse_all(self, error: StorageError) -> None:
        """Let no worker take entries any more; those that are under way go on."""
        self._refusal = str(error)
        self._tell(RefuseAll(self._refusal))

    async def listen(self, address: str, port: int) -> int:
        """Reserve the port that the workers will listen on. Raises ConfigError when somebody else does."""
        self._port = await SharedPort.reserve(address, port)
        return self._port.port

    async def open(self) -> None:
        """Start the workers; returns when all of them answer calls. Raises ConfigError when one does not."""
        self._broadcast = start_lasting(
            self._tell_published(), "telling of published checkpoints", self._on_fatal
        )
        started = [self._loop.create_future() for _ in range(self._config.server.workers)]
        self._tasks = [
            start_lasting(self._keep(place, future), f"keeper of worker {place}", self._on_fatal)
            for place, future in enumerate(started)
        ]
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await asyncio.gather(*started)
        except TimeoutError as error:
            raise ConfigError(
                f"the {len(started)} workers did not all start within {START_TIMEOUT_S} s: set "
                "[server] workers lower, or 0"
            ) from error

    async def show_ready(self, is_ready: bool) -> None:
        """Let every worker's health say whether entries are taken, and what is published is fresh."""
        self._is_ready = is_ready
        self._tell(Ready(is_ready))

    def look(self) -> str | None:
        """Say that nobody answers calls; None where somebody does. For any thread."""
        if any(desk.listening.is_set() for desk in list(self._desks.values())):
            return None
        return f"none of the {self._config.server.workers} workers answers calls"

    async def stop_taking(self) -> None:
        """Let the workers' health say NOT_SERVING, and let them hand nothing more over."""
        self._stopping.set()
        self._tell(Stop())

    async def close(self) -> None:
        """Let the workers end when the calls under way have, or kill them when their time is over."""
        self._stopping.set()
        self._ending = True
        self._tell(End())
        if self._tasks:
            patience_s = self._config.grpc.stop_timeout_s + EXIT_PATIENCE_S
            _, late = await asyncio.wait(self._tasks, timeout=patience_s)
            if late:
                _LOGGER.warning("%d workers did not end in time, and are killed", len(late))
                for process in self._processes.values():
                    process.kill()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._broadcast is not None:
            self._broadcast.cancel()
            await asyncio.gather(self._broadcast, return_exceptions=True)
        if self._port is not None:
            self._port.close()

    def samples(self) -> Sequence[Sample]:
        """Return what all workers have counted, the dead ones as well; for any thread but the loop's.

        What a worker has counted since it was last asked is lost when it is killed.
        """
        asking = asyncio.run_coroutine_threadsafe(self._ask_for_samples(), self._loop)
        try:
            asking.result(2 * COUNT_TIMEOUT_S)
        except (TimeoutError, CancelledError):
            _LOGGER.warning("the page of metrics shows what workers had counted when they last answered")
        return add_up([*self._departed, *(one for desk in self._desks.values() for one in desk.samples)])

    async def _ask_for_samples(self) -> None:
        asking = [asyncio.ensure_future(desk.count()) for desk in self._desks.values()]
        if asking:
            await asyncio.wait(asking, timeout=COUNT_TIMEOUT_S)
        for count in asking:
            count.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    def _tell(self, message: FromMain) -> None:
        for desk in self._desks.values():
            desk.tell(message)

    async def _tell_published(self) -> None:
        published = self._feed.newest
        while (newest := await self._feed.wait_for_other(published)) is not None:
            published = newest
            self._tell(Published(published.note))

    async def _keep(self, place: int, started: asyncio.Future[None]) -> None:
        """Keep one worker alive until the stop; `started` ends when the first answers calls, or died."""
        deaths = 0
        while not self._stopping.is_set():
            began_s = monotonic()
            try:
                how = await self._run_one(place, started)
            except OSError as error:
                how = f"could not be started: {error}"
            if not started.done():
                started.set_exception(
                    ConfigError(f"a worker {how} before it answered calls; what it said is above")
                )
                return
            if self._stopping.is_set():
                return
            deaths = 1 if monotonic() - began_s > STEADY_S else deaths + 1
            pause_s = min(MAX_PAUSE_S, MIN_PAUSE_S * 2 ** min(deaths - 1, 16))
            _LOGGER.error(
                "worker %d %s; another one is started in %.1f s. Nothing acknowledged is lost",
                place,
                how,
                pause_s,
            )
            try:
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def _run_one(self, place: int, started: asyncio.Future[None]) -> str:
        """Run one worker until it is gone, and return how it ended."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "server.worker", "--fd", str(theirs.fileno())),
                *("--marked-fd", str(self._marked_size.descriptor)),
                pass_fds=[theirs.fileno(), self._marked_size.descriptor],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
            )
        self._processes[place] = process
        try:
            link: Link[FromMain, FromWorker] = await Link.open(
                ours, encode=encode_message, decode=decode_from_worker, max_unsent_bytes=MAX_UNSENT_BYTES
            )
            desk = WorkerDesk(link, self._sequencer, self._pace, self._exchange)
            await self._attend(place, desk, started)
            try:
                async with asyncio.timeout(EXIT_PATIENCE_S):
                    code = await process.wait()
            except TimeoutError:
                code = -9
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            del self._processes[place]
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"

    async def _attend(self, place: int, desk: WorkerDesk, started: asyncio.Future[None]) -> None:
        assert self._port is not None
        desk.tell(
            Welcome(
                self._config,
                self._origin,
                self._port.port,
                self._feed.newest.note,
                self._refusal,
                self._is_ready,
            )
        )
        self._desks[place] = desk
        if self._stopping.is_set():
            desk.tell(Stop())
        if self._ending:
            desk.tell(End())
        announcing = self._loop.create_task(_announce(desk, started))
        try:
            await desk.run()
        finally:
            announcing.cancel()
            del self._desks[place]
            self._departed = add_up([*self._departed, *without_gauges(desk.samples)])
        # What its successor may bring must not come on top of what it left behind.
        await desk.idle()


async def _announce(desk: WorkerDesk, started: asyncio.Future[None]) -> None:
    await desk.listening.wait()
    if not started.done():
        started.set_result(None)
