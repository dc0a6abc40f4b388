"""The service in this process, on a real log whose commits can be held up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import pytest
from _support.alliance import Alliance

from server.appending import SHORT_TRIP_ENTRIES
from server.backlog import Backlog
from server.caller_gate import CallerGate
from server.config import parse_config
from server.log_service import LogService, Threads
from server.metrics import Metrics
from server.publisher import CheckpointFeed
from server.reading_access import ReadingAccess
from server.sequencer import Sequenced, Sequencer
from server.together import MIN_CALL_ENTRIES
from server.turns import MAX_CALLS
from tlog.log import Log
from tlog.log_view import SignedCheckpoint
from tlog.marked_store import MarkedStore
from tlog.reading import parse_reading_rule
from tlog.storage.base import CommitBatch
from tlog.storage.high_water_mark import Mark
from tlog.storage.memory import MemoryStore
from tlog.v1 import log_pb2
from tlog.validate import AdmissibleEntry


class _Context:
    """Is a call that comes from one host."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host

    def peer(self) -> str:
        return f"ipv4:{self._host}:1"

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


class HeldMark:
    """Is a high-water mark whose sync takes as long as it is told to."""

    def __init__(self) -> None:
        self.is_writing = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def write(self, mark: Mark) -> None:
        self.is_writing.set()
        assert self.gate.wait(30)


class Running:
    """Is a service on a log in memory, and what a test looks at."""

    def __init__(self, alliance: Alliance) -> None:
        self.store = HeldStore(alliance.origin, alliance.signer.vkey)
        self.mark = HeldMark()
        self.log = Log(MarkedStore(self.store, self.mark), alliance.signer)
        self.log.append(alliance.governance)
        self.metrics = Metrics()
        backlog = Backlog(self.metrics, max_entries=1_000, max_bytes=10**6)
        feed = CheckpointFeed(self.log.checkpoint(), self.metrics)
        self.sequencer = Sequencer(
            self.log,
            self.metrics,
            backlog,
            max_commit_entries=1_000,
            on_committed=feed.publish,
            on_fatal=lambda error: None,
        )
        self.sequencer.start()
        self._pool = ThreadPoolExecutor(2)
        threads = Threads(verifying=self._pool, answering=self._pool, reading=self._pool)
        everybody = ReadingAccess(parse_reading_rule("public"), self.log.origin)
        config = parse_config('[log]\nstore_path = "s"\nkey_path = "k"\n')
        gate = CallerGate.for_log(config, self.log.origin, self.log.view)
        self.service = LogService(
            self.log,
            self.sequencer,
            backlog,
            feed,
            self.metrics,
            everybody,
            gate,
            threads=threads,
            max_calls=100,
            max_streams=10,
        )

    def append(self, entries: list[bytes], host: str = "127.0.0.1") -> asyncio.Task[log_pb2.AppendResponse]:
        request = log_pb2.AppendRequest(entries=entries)
        return asyncio.create_task(self.service.Append(request, _Context(host)))

    def sample(self, name: str) -> float:
        value = self.metrics.registry.get_sample_value(name)
        assert value is not None
        return value

    async def until(self, name: str, value: float) -> None:
        async with asyncio.timeout(30):
            while self.sample(name) != value:
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        await self.sequencer.stop()
        self._pool.shutdown()


def test_a_call_counts_until_the_sequencer_has_dealt_with_it_whatever_its_client_does() -> None:
    async def scenario() -> None:
        alliance = Alliance()
        running = Running(alliance)
        running.store.gate.clear()
        calls = [running.append(alliance.entries(number, number + 10)) for number in range(0, 40, 10)]
        await running.until("tlog_sequencer_queue_entries", 40)
        await asyncio.sleep(0.2)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert running.sample("tlog_sequencer_queue_entries") == 40
        running.store.gate.set()
        await running.until("tlog_sequencer_queue_entries", 0)
        assert running.log.checkpoint().tree_size == len(alliance.governance) + 40
        await running.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("leaves_before_a_full_tile", "opened_views"),
    [(200, 0), (5, 1)],
    ids=["memory holds all that was appended", "a tile was filled"],
)
def test_answers_about_one_commit_are_made_of_what_it_left_in_memory_and_share_a_view_of_the_rest(
    leaves_before_a_full_tile: int, opened_views: int
) -> None:
    async def scenario() -> None:
        alliance = Alliance()
        running = Running(alliance)
        here = len(alliance.governance)
        size = 256 - leaves_before_a_full_tile
        running.log.append(alliance.entries(100, 100 + size - here))
        running.store.gate.clear()
        calls = [running.append(alliance.entries(0, 1))]
        await running.until("tlog_verify_seconds_count", 1)
        calls += [running.append([alliance.entry(number)]) for number in range(1, 9)]
        await running.until("tlog_sequencer_queue_entries", 9)
        views = running.service._appending._views
        with patch.object(views, "_open_view", wraps=views._open_view) as opened:
            running.store.gate.set()
            answers = await asyncio.gather(*calls)
        assert opened.call_count == opened_views
        assert sorted(answer.results[0].leaf_index for answer in answers) == [*range(size, size + 9)]
        with running.log.view() as view:
            for answer in answers:
                proof, index = answer.range_proof, answer.results[0].leaf_index
                tree_size = SignedCheckpoint.read(answer.checkpoint).tree_size
                expected = view.prove_range(index, index + 1, tree_size)
                assert (tuple(proof.left), tuple(proof.right)) == (expected.left, expected.right)
        await running.stop()

    asyncio.run(scenario())


def test_few_entries_are_not_verified_before_those_under_way_are_committed_and_many_are() -> None:
    async def scenario() -> None:
        alliance = Alliance()
        running = Running(alliance)
        verified, queued = "tlog_verify_seconds_count", "tlog_sequencer_queue_entries"
        running.store.gate.clear()
        calls = [running.append(alliance.entries(0, 1))]
        await running.until(verified, 1)
        calls += [running.append(alliance.entries(number, number + 1)) for number in range(1, 11)]
        await running.until(queued, 11)
        await asyncio.sleep(0.2)
        assert running.sample(verified) == 1
        running.store.gate.set()
        await asyncio.gather(*calls)
        assert running.sample(verified) == 11

        running.store.gate.clear()
        calls = [running.append(alliance.entries(11, 12))]
        await running.until(verified, 12)
        calls += [running.append(alliance.entries(12, 12 + SHORT_TRIP_ENTRIES))]
        await running.until(verified, 13)
        running.store.gate.set()
        assert [len(answer.results) for answer in await asyncio.gather(*calls)] == [1, SHORT_TRIP_ENTRIES]
        await running.stop()

    asyncio.run(scenario())


def test_large_calls_that_came_together_are_sequenced_together_even_if_the_last_of_them_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # One call a trip, so that the first is verified long before the last.
    monkeypatch.setattr("server.appending.MAX_TRIP_ENTRIES", MIN_CALL_ENTRIES)

    async def scenario() -> None:
        alliance = Alliance()
        running = Running(alliance)
        submit = running.sequencer.submit
        verified: list[float] = []

        def noting(entries: Sequence[AdmissibleEntry]) -> asyncio.Future[Sequenced]:
            verified.append(running.sample("tlog_verify_seconds_count"))
            return submit(entries)

        monkeypatch.setattr(running.sequencer, "submit", noting)
        entries = alliance.entries(0, 6 * MIN_CALL_ENTRIES)
        batches = [entries[at : at + MIN_CALL_ENTRIES] for at in range(0, len(entries), MIN_CALL_ENTRIES)]
        answers = await asyncio.gather(*[running.append(batch) for batch in batches[:4]])
        assert [len(answer.results) for answer in answers] == [MIN_CALL_ENTRIES] * 4
        assert verified == [4, 4, 4, 4]

        calls = [running.append(batch) for batch in (*batches[4:], [b"no entry"] * MIN_CALL_ENTRIES)]
        *taken, refused = await asyncio.gather(*calls, return_exceptions=True)
        assert not any(isinstance(answer, BaseException) for answer in taken)
        assert isinstance(refused, BaseException)
        assert verified[4:] == [6, 6]
        await running.stop()

    asyncio.run(scenario())


def test_a_mark_that_takes_long_holds_up_no_event_loop_and_nobody_hears_of_its_commit() -> None:
    async def scenario() -> None:
        alliance = Alliance()
        running = Running(alliance)
        first = alliance.entry(1)
        running.mark.is_writing.clear()
        running.mark.gate.clear()
        flood = [running.append([first], "10.0.0.1"), running.append([first], "10.0.0.1")]
        flood += [running.append([entry], "10.0.0.1") for entry in alliance.entries(2, 2 + 4 * MAX_CALLS)]
        await asyncio.to_thread(running.mark.is_writing.wait)
        with running.store.reader() as reader:
            assert reader.tree_size > len(alliance.governance)
        # One that is verified in the event loop, which would stand still if it waited there for the mark.
        began_s = asyncio.get_running_loop().time()
        again = running.append([first])
        steady = running.append([alliance.entry(1_000)])
        await asyncio.sleep(0.2)
        assert asyncio.get_running_loop().time() - began_s < 10
        assert not again.done()
        assert not steady.done()
        running.mark.gate.set()
        (found,), (new,) = (await again).results, (await steady).results
        assert found.already_present
        assert not new.already_present
        assert {(await call).results[0].leaf_index for call in flood[:2]} == {found.leaf_index}
        await asyncio.gather(*flood)
        await running.stop()

    asyncio.run(scenario())


def test_who_brings_one_event_beside_a_flood_is_in_the_very_next_commit() -> None:
    async def scenario() -> None:
        alliance = Alliance()
        running = Running(alliance)
        verified, queued = "tlog_verify_seconds_count", "tlog_sequencer_queue_entries"
        await running.append(alliance.entries(0, 1))
        before = running.log.checkpoint().tree_size
        running.store.gate.clear()
        flood = [running.append([entry], "10.0.0.1") for entry in alliance.entries(1, 1 + 4 * MAX_CALLS)]
        await running.until(queued, len(flood))
        await running.until(verified, 2)  # the first; what is gathered meanwhile waits for its commit
        # It is verified while that commit is under way, and waits for nothing else of the flood.
        steady = running.append(alliance.entries(1_000, 1_001))
        await running.until(verified, 3)
        running.store.gate.set()
        (found,) = (await steady).results
        assert found.leaf_index == before + 1
        answers = await asyncio.gather(*flood)
        indices = [result.leaf_index for answer in answers for result in answer.results]
        assert indices == [before, *range(before + 2, before + 1 + len(flood))]
        await running.stop()

    asyncio.run(scenario())
