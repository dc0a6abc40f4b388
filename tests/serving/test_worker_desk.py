"""Both ends of the line between the main process and a worker, over a real socket, in one process."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from _support.alliance import ORIGIN, Alliance, key

from server.backlog import Backlog, CommitPace
from server.link import Link
from server.metrics import Metrics
from server.remote_sequencer import RemoteSequencer
from server.sequencer import Sequencer
from server.wire import (
    Count,
    Counted,
    Exchanged,
    Failed,
    FromMain,
    FromWorker,
    Sample,
    Taken,
    decode_from_main,
    decode_from_worker,
    encode_message,
)
from server.worker_desk import WorkerDesk
from tlog.errors import BatchRefusedError, MalformedError, PushbackError, RemoteError, StorageError
from tlog.log import Log
from tlog.storage.base import CommitBatch
from tlog.storage.memory import MemoryStore
from tlog.validate import VerifiedEntry, verify_entries


class HeldStore(MemoryStore):
    """A real store whose commits wait for a gate, and can be made to fail."""

    def __init__(self, origin: str, log_vkey: str) -> None:
        super().__init__(origin, log_vkey)
        self.gate = threading.Event()
        self.gate.set()
        self.failure: Exception | None = None

    def commit(self, batch: CommitBatch, *, expected: bytes | None, new: bytes, publish: bool) -> None:
        assert self.gate.wait(30)
        if self.failure is not None:
            raise self.failure
        super().commit(batch, expected=expected, new=new, publish=publish)


class Line:
    """A log with its sequencer at one end of a socket, a worker's part at the other."""

    def __init__(self) -> None:
        self.alliance = Alliance()
        self.store = HeldStore(ORIGIN, self.alliance.signer.vkey)
        self.log = Log(self.store, self.alliance.signer)
        self.log.append(self.alliance.governance)
        self.pace = CommitPace()
        self.sequencer = Sequencer(
            self.log,
            Metrics(),
            self.pace,
            max_commit_entries=1_000,
            on_committed=lambda signed: None,
            on_fatal=lambda error: None,
        )
        self.paces: list[float] = []

    async def open(self) -> None:
        self.sequencer.start()
        ours, theirs = socket.socketpair()
        self.link: Link[FromWorker, FromMain] = await Link.open(
            theirs, encode=encode_message, decode=decode_from_main
        )
        self.remote = RemoteSequencer(self.link.send, self.paces.append)
        self.desk = WorkerDesk(
            await Link.open(ours, encode=encode_message, decode=decode_from_worker),
            self.sequencer,
            self.pace,
            self.exchange,
        )
        self.tasks = [asyncio.create_task(self.desk.run()), asyncio.create_task(self.listen())]

    async def close(self) -> None:
        self.store.gate.set()
        await self.link.close()
        await asyncio.gather(*self.tasks)
        await self.sequencer.stop()

    async def listen(self) -> None:
        while (message := await self.link.receive()) is not None:
            match message:
                case Taken():
                    self.remote.taken(message)
                case Failed():
                    self.remote.failed(message)
                case Exchanged():
                    self.remote.exchanged(message)
                case Count():
                    self.link.send(Counted(message.number, (Sample("f", "f_total", (), 3.0),)))

    async def exchange(self, caller: str, request: bytes) -> bytes:
        if request == b"bug":
            raise ZeroDivisionError
        if request == b"junk":
            raise MalformedError("no honest node sends this")
        return caller.encode() + request

    def call(self, start: int, end: int) -> list[VerifiedEntry]:
        return verify_entries(self.alliance.entries(start, end), ORIGIN)


@asynccontextmanager
async def line() -> AsyncIterator[Line]:
    made = Line()
    await made.open()
    try:
        async with asyncio.timeout(20):
            yield made
    finally:
        await made.close()


def test_a_call_is_answered_with_where_its_entries_are_under_a_checkpoint_that_holds_them() -> None:
    async def scenario() -> None:
        async with line() as it:
            first, second = it.remote.submit(it.call(0, 3)), it.remote.submit(it.call(2, 4))
            one, two = await first, await second
            assert one.outcome.leaf_indices == (4, 5, 6)
            assert two.outcome.leaf_indices == (6, 7)
            assert two.outcome.already_present == (True, False)
            assert two.outcome.new_range == (7, 8)
            assert two.checkpoint == it.log.checkpoint()
            assert it.paces[-1] == it.pace.seconds_per_entry
            assert it.log.entries(4, 8) == it.alliance.entries(0, 4)

    asyncio.run(scenario())


def test_a_refusal_and_a_failed_commit_arrive_as_what_they_are_and_the_next_call_is_taken() -> None:
    async def scenario() -> None:
        async with line() as it:
            stranger = verify_entries([it.alliance.entry(0, signer=key("stranger"))], ORIGIN)
            with pytest.raises(BatchRefusedError, match=r"entry 0 .* no member's"):
                await it.remote.submit(stranger)
            it.store.failure = StorageError("no space left: nothing was written")
            with pytest.raises(StorageError, match="no space left"):
                await it.remote.submit(it.call(0, 1))
            it.store.failure = None
            assert (await it.remote.submit(it.call(0, 1))).outcome.new_range == (4, 5)

    asyncio.run(scenario())


def test_whichever_end_stops_first_what_was_taken_is_answered_and_the_rest_is_pushed_back() -> None:
    async def scenario() -> None:
        async with line() as it:
            it.store.gate.clear()
            taken = it.remote.submit(it.call(0, 2))
            while not it.desk._calls:
                await asyncio.sleep(0.01)
            stopping = asyncio.create_task(it.sequencer.stop())
            await asyncio.sleep(0)
            with pytest.raises(PushbackError, match="stopping") as caught:
                await it.remote.submit(it.call(2, 3))
            assert caught.value.retry_after_s == 1.0
            it.remote.stop()
            with pytest.raises(PushbackError, match="stopping"):
                it.remote.submit(it.call(2, 3))
            it.store.gate.set()
            await stopping
            assert (await taken).outcome.new_range == (4, 6)

    asyncio.run(scenario())


def test_calls_of_a_worker_that_died_are_carried_through_before_the_desk_is_idle() -> None:
    async def scenario() -> None:
        async with line() as it:
            it.store.gate.clear()
            it.remote.submit(it.call(0, 5))
            while not it.desk._calls:
                await asyncio.sleep(0.01)
            await it.link.close()
            await it.tasks[0]
            idle = asyncio.create_task(it.desk.idle())
            await asyncio.sleep(0.1)
            assert not idle.done()
            it.store.gate.set()
            await idle
            assert it.log.checkpoint().tree_size == 9

    asyncio.run(scenario())


def test_exchanges_go_through_with_their_caller_and_their_errors(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with line() as it:
            assert await it.remote.exchange("ipv4:1.2.3.4:5 ", b"request") == b"ipv4:1.2.3.4:5 request"
            with pytest.raises(MalformedError, match="no honest node"):
                await it.remote.exchange("x", b"junk")
            with pytest.raises(Exception, match="its log has the details"):
                await it.remote.exchange("x", b"bug")
            assert "ZeroDivisionError" in caplog.text

    asyncio.run(scenario())


def test_a_worker_is_counted_and_its_last_count_stays_when_it_is_gone() -> None:
    async def scenario() -> None:
        async with line() as it:
            await it.desk.count()
            await it.link.close()
            await it.tasks[0]
            assert [sample.value for sample in it.desk.samples] == [3.0]
            with pytest.raises(RemoteError, match="gone"):
                await it.desk.count()

    asyncio.run(scenario())


def test_a_worker_that_says_what_is_no_message_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with line() as it:
            it.link._writer.write(b"\0\0\0\x01\xff")
            await it.tasks[0]
            await it.tasks[1]  # its end was closed
            assert "given up" in caplog.text

    asyncio.run(scenario())


def test_a_backlog_that_others_share_the_sequencer_with_tells_longer_delays() -> None:
    def delay_s(processes: int) -> float:
        backlog = Backlog(Metrics(), max_entries=100, max_bytes=1_000, processes=processes)
        backlog.adopt_pace(0.01)
        with backlog.holding(100, 100), pytest.raises(PushbackError) as caught, backlog.holding(1, 1):
            pass
        return caught.value.retry_after_s

    assert delay_s(1) == pytest.approx(1.0)
    assert delay_s(3) == pytest.approx(3.0)
