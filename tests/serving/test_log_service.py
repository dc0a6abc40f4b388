"""The service in this process, on a real log whose commits can be held up."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

from _support.alliance import Alliance

from server.backlog import Backlog
from server.caller_gate import CallerGate
from server.config import parse_config
from server.log_service import LogService, Threads
from server.metrics import Metrics
from server.publisher import CheckpointFeed
from server.reading_access import ReadingAccess
from server.sequencer import Sequencer
from tlog.log import Log
from tlog.reading import parse_reading_rule
from tlog.storage.base import CommitBatch
from tlog.storage.memory import MemoryStore
from tlog.v1 import log_pb2


class _Context:
    """Is a call that comes from this machine."""

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def invocation_metadata(self) -> tuple[()]:
        return ()


class HeldStore(MemoryStore):
    def __init__(self, origin: str, log_vkey: str) -> None:
        super().__init__(origin, log_vkey)
        self.gate = threading.Event()
        self.gate.set()

    def commit(self, batch: CommitBatch, *, expected: bytes | None, new: bytes, publish: bool) -> None:
        assert self.gate.wait(30)
        super().commit(batch, expected=expected, new=new, publish=publish)


def test_a_call_counts_until_the_sequencer_has_dealt_with_it_whatever_its_client_does() -> None:
    async def scenario() -> None:
        alliance = Alliance()
        store = HeldStore(alliance.origin, alliance.signer.vkey)
        log = Log(store, alliance.signer)
        log.append(alliance.governance)
        metrics = Metrics()
        backlog = Backlog(metrics, max_entries=100, max_bytes=10**6)
        feed = CheckpointFeed(log.checkpoint(), metrics)
        sequencer = Sequencer(
            log,
            metrics,
            backlog,
            max_commit_entries=1_000,
            on_committed=feed.publish,
            on_fatal=lambda error: None,
        )
        sequencer.start()
        pool = ThreadPoolExecutor(2)
        threads = Threads(verifying=pool, answering=pool, reading=pool)
        everybody = ReadingAccess(parse_reading_rule("public"), log.origin)
        config = parse_config('[log]\nstore_path = "s"\nkey_path = "k"\n')
        gate = CallerGate.for_log(config, log.origin, log.view)
        service = LogService(
            log,
            sequencer,
            backlog,
            feed,
            metrics,
            everybody,
            gate,
            threads=threads,
            max_calls=100,
            max_streams=10,
        )

        def counted() -> float | None:
            return metrics.registry.get_sample_value("tlog_sequencer_queue_entries")

        store.gate.clear()
        calls = []
        for number in range(0, 40, 10):
            request = log_pb2.AppendRequest(entries=alliance.entries(number, number + 10))
            calls.append(asyncio.create_task(service.Append(request, _Context())))
        async with asyncio.timeout(30):
            while counted() != 40:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert counted() == 40
        store.gate.set()
        async with asyncio.timeout(30):
            while counted() != 0:
                await asyncio.sleep(0.01)
        assert log.checkpoint().tree_size == len(alliance.governance) + 40
        await sequencer.stop()
        pool.shutdown()

    asyncio.run(scenario())
