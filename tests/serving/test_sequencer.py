"""The sequencer on a real log: group commit, pushback, draining, and what a failed commit does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from _support.alliance import ORIGIN, Alliance, key

from server.backlog import Backlog
from server.metrics import Metrics
from server.sequencer import Sequencer
from tlog.errors import BatchRefusedError, PushbackError, StateUnknownError, StorageError
from tlog.log import Log
from tlog.log_view import SignedCheckpoint
from tlog.storage.base import CommitBatch
from tlog.storage.memory import MemoryStore
from tlog.validate import VerifiedEntry, verify_entries


class HeldStore(MemoryStore):
    """A real store whose commits wait for a gate, and can be made to fail."""

    def __init__(self, origin: str, log_vkey: str) -> None:
        super().__init__(origin, log_vkey)
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.failure: Exception | None = None
        self.batches: list[int] = []

    def commit(self, batch: CommitBatch, *, expected: bytes | None, new: bytes, publish: bool) -> None:
        self.entered.set()
        assert self.gate.wait(30)
        if self.failure is not None:
            raise self.failure
        super().commit(batch, expected=expected, new=new, publish=publish)
        self.batches.append(len(batch.entries))


class Bench:
    """One log behind one sequencer, with everything it reported."""

    def __init__(self) -> None:
        self.alliance = Alliance()
        signer = self.alliance.signer
        self.store = HeldStore(signer.name, signer.vkey)
        self.log = Log(self.store, signer)
        self.log.append(self.alliance.governance)
        self.store.batches.clear()
        self.committed: list[SignedCheckpoint] = []
        self.fatal: list[BaseException] = []
        self.bug: Exception | None = None
        self.metrics = Metrics()
        self.sequencer = Sequencer(
            self.log,
            self.metrics,
            Backlog(self.metrics, max_entries=100, max_bytes=10**6),
            max_commit_entries=1_000,
            on_committed=self.take_note,
            on_fatal=self.fatal.append,
        )
        self.sequencer.start()

    def take_note(self, signed: SignedCheckpoint) -> None:
        if self.bug is not None:
            raise self.bug
        self.committed.append(signed)

    def call(self, start: int, end: int) -> list[VerifiedEntry]:
        return verify_entries(self.alliance.entries(start, end), ORIGIN)

    async def hold(self) -> asyncio.Future[object]:
        """Put one call into a commit that waits, so that what follows has to queue."""
        self.store.gate.clear()
        self.store.entered.clear()
        future = self.sequencer.submit(self.call(1_000, 1_001))
        await asyncio.to_thread(self.store.entered.wait, 10)
        return future  # type: ignore[return-value]


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    try:
        yield made
    finally:
        made.store.gate.set()
        await made.sequencer.stop()


def value(metrics: Metrics, name: str, **labels: str) -> float:
    found = metrics.registry.get_sample_value(name, labels)
    assert found is not None, name
    return found


def test_what_arrives_during_a_commit_becomes_one_commit() -> None:
    async def scenario() -> None:
        async with bench() as b:
            held = await b.hold()
            futures = [b.sequencer.submit(b.call(n, n + 1)) for n in range(10)]
            b.store.gate.set()
            await held
            results = await asyncio.gather(*futures)
            assert b.store.batches == [1, 10]
            assert len({result.checkpoint.tree_size for result in results}) == 1
            ranges = [result.outcome.new_range for result in results]
            assert ranges == [(n, n + 1) for n in range(5, 15)]
            assert [signed.tree_size for signed in b.committed] == [5, 15]
            assert value(b.metrics, "tlog_append_entries_total") == 11

    asyncio.run(scenario())


def test_a_member_that_floods_has_its_share_of_the_next_commit_and_no_more() -> None:
    async def scenario() -> None:
        async with bench() as made:
            first = await made.hold()
            # Three times what a commit may hold, and then one call of somebody else.
            flood = [
                made.sequencer.submit(made.call(start, start + 100), lane="flood")
                for start in range(2_000, 5_000, 100)
            ]
            steady = made.sequencer.submit(made.call(0, 1), lane="steady")
            made.store.gate.set()
            await first
            await steady
            assert made.store.batches[:2] == [1, 901]
            await asyncio.gather(*flood)
            positions = [(await call).outcome.leaf_indices[0] for call in flood]
            assert positions == sorted(positions)

    asyncio.run(scenario())


def test_a_refused_call_does_not_disturb_its_neighbours() -> None:
    async def scenario() -> None:
        async with bench() as b:
            held = await b.hold()
            stranger = verify_entries([b.alliance.entry(7, signer=key("stranger"))], ORIGIN)
            good, bad = b.sequencer.submit(b.call(0, 2)), b.sequencer.submit(stranger)
            after = b.sequencer.submit(b.call(2, 3))
            b.store.gate.set()
            results = await asyncio.gather(held, good, bad, after, return_exceptions=True)
            assert isinstance(results[2], BatchRefusedError)
            assert not any(isinstance(results[n], BaseException) for n in (0, 1, 3))

    asyncio.run(scenario())


def test_a_client_that_went_away_disturbs_nobody_and_its_entries_are_kept() -> None:
    async def scenario() -> None:
        async with bench() as b:
            held = await b.hold()
            gone, stays = b.sequencer.submit(b.call(0, 1)), b.sequencer.submit(b.call(1, 2))
            gone.cancel()
            b.store.gate.set()
            await held
            assert (await stays).outcome.leaf_indices == (6,)
            assert b.log.append(b.alliance.entries(0, 1)).already_present == (True,)

    asyncio.run(scenario())


def test_stopping_refuses_new_calls_and_commits_what_waits() -> None:
    async def scenario() -> None:
        async with bench() as b:
            held = await b.hold()
            waiting = b.sequencer.submit(b.call(0, 3))
            stop = asyncio.create_task(b.sequencer.stop())
            await asyncio.sleep(0)
            with pytest.raises(PushbackError, match="stopping"):
                b.sequencer.submit(b.call(3, 4))
            b.store.gate.set()
            await stop
            assert (await waiting).outcome.new_range == (5, 8)
            await held
            assert b.log.checkpoint().tree_size == 8

    asyncio.run(scenario())


def test_a_storage_error_fails_its_calls_and_the_next_ones_go_on() -> None:
    async def scenario() -> None:
        async with bench() as b:
            b.store.failure = StorageError("no space left: nothing was written")
            with pytest.raises(StorageError, match="no space"):
                await b.sequencer.submit(b.call(0, 1))
            b.store.failure = None
            assert (await b.sequencer.submit(b.call(0, 1))).outcome.leaf_indices == (4,)
            assert value(b.metrics, "tlog_commit_failures_total") == 1
            assert b.fatal == []

    asyncio.run(scenario())


def test_an_unknown_state_fails_every_waiter_and_ends_the_sequencer() -> None:
    async def scenario() -> None:
        async with bench() as b:
            held = await b.hold()
            waiting = b.sequencer.submit(b.call(0, 1))
            b.store.failure = OSError("EIO")
            b.store.gate.set()
            for future in (held, waiting):
                with pytest.raises(StateUnknownError):
                    await future
            with pytest.raises(PushbackError):
                b.sequencer.submit(b.call(1, 2))
            # The waiters hear of it first: its thread has told the rest once it has ended.
            await b.sequencer.stop()
            assert len(b.fatal) == 1

    asyncio.run(scenario())


def test_a_bug_beside_the_commit_fails_every_waiter_and_ends_the_sequencer() -> None:
    async def scenario() -> None:
        async with bench() as b:
            held = await b.hold()
            waiting = b.sequencer.submit(b.call(0, 1))
            b.bug = RuntimeError("a bug")
            b.store.gate.set()
            for future in (held, waiting):
                with pytest.raises(RuntimeError, match="a bug"):
                    await future
            await b.sequencer.stop()  # its thread tells of the end after it has failed the waiters
            assert len(b.fatal) == 1
            with pytest.raises(PushbackError):
                b.sequencer.submit(b.call(1, 2))

    asyncio.run(scenario())
