from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future

import grpc
import pytest
from _support.lying_log import LyingLog

from tlog.checkpoint import Checkpoint
from tlog.client import Appended, Batcher, LogClient, VerifiedCheckpoint
from tlog.errors import (
    BatchRefusedError,
    ConfigError,
    ProofError,
    PushbackError,
    RefusalReason,
    RefusedError,
    RemoteError,
    SubmitError,
)
from tlog.policy import Policy
from tlog.receipt import verify_receipt
from tlog.v1 import log_pb2

CHECKPOINT = VerifiedCheckpoint(note=b"", checkpoint=Checkpoint("log.example", 1, bytes(32)))


class FakeLog:
    """Remembers every batch; holds each back while `running` is not set, and refuses entries that say so."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.running = threading.Event()
        self.running.set()
        self.arrived = threading.Semaphore(0)
        self.count = 0
        self.error: Exception | None = None
        self.lock = threading.Lock()

    def append(self, entries: Sequence[bytes]) -> list[Appended]:
        with self.lock:
            self.batches.append(list(entries))
        self.arrived.release()
        assert self.running.wait(30)
        if self.error is not None:
            raise self.error
        bad = {
            position: RefusedError(RefusalReason.BAD_SIGNATURE, f"{entry!r} is bad")
            for position, entry in enumerate(entries)
            if entry.startswith(b"bad")
        }
        if bad:
            raise BatchRefusedError(bad)
        with self.lock:
            first, self.count = self.count, self.count + len(entries)
        return [
            Appended(leaf_index=first + position, already_present=False, proof=(), checkpoint=CHECKPOINT)
            for position in range(len(entries))
        ]

    def hold(self) -> None:
        self.running.clear()

    def wait_for_call(self) -> None:
        assert self.arrived.acquire(timeout=30)


@pytest.fixture
def fake() -> Iterator[FakeLog]:
    fake = FakeLog()
    yield fake
    fake.running.set()


def indices(futures: Sequence[Future[Appended]]) -> list[int]:
    return [future.result(30).leaf_index for future in futures]


def numbered(start: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(start, end)]


def test_a_lone_entry_leaves_at_once(fake: FakeLog) -> None:
    with Batcher(fake) as batcher:
        assert batcher.submit(b"alone").result(30).leaf_index == 0
    assert fake.batches == [[b"alone"]]


def test_what_comes_while_a_call_is_in_flight_leaves_together(fake: FakeLog) -> None:
    fake.hold()
    with Batcher(fake) as batcher:
        futures = [batcher.submit(b"0")]
        fake.wait_for_call()
        futures += [batcher.submit(entry) for entry in numbered(1, 50)]
        fake.running.set()
        assert indices(futures) == list(range(50))
    assert fake.batches == [[b"0"], numbered(1, 50)]


def test_batches_keep_to_their_limits_and_to_the_order(fake: FakeLog) -> None:
    fake.hold()
    with Batcher(fake, max_entries=10) as batcher:
        futures = [batcher.submit(entry) for entry in numbered(0, 34)]
        fake.running.set()
        assert indices(futures) == list(range(34))
    assert [entry for batch in fake.batches for entry in batch] == numbered(0, 34)
    assert max(map(len, fake.batches)) == 10
    fake.batches.clear()
    fake.hold()
    with Batcher(fake, max_bytes=100_000) as batcher:
        futures = [batcher.submit(bytes(40_000)) for _ in range(5)]
        fake.running.set()
        assert len(indices(futures)) == 5
    assert max(sum(map(len, batch)) for batch in fake.batches) == 80_000


def test_refused_entries_fail_alone_and_the_others_are_sent_again(fake: FakeLog) -> None:
    fake.hold()
    with Batcher(fake) as batcher:
        blocker = batcher.submit(b"blocker")
        fake.wait_for_call()
        entries = [b"a", b"bad 1", b"b", b"bad 2", b"c"]
        futures = dict(zip(entries, map(batcher.submit, entries), strict=True))
        fake.running.set()
        assert blocker.result(30).leaf_index == 0
        assert indices([futures[entry] for entry in (b"a", b"b", b"c")]) == [1, 2, 3]
        for entry in (b"bad 1", b"bad 2"):
            error = futures[entry].exception(30)
            assert isinstance(error, RefusedError)
            assert error.reason is RefusalReason.BAD_SIGNATURE
            assert str(entry) in error.message
    assert fake.batches == [[b"blocker"], entries, [b"a", b"b", b"c"]]


def test_a_batch_of_bad_entries_only_is_not_sent_again(fake: FakeLog) -> None:
    with Batcher(fake) as batcher:
        assert isinstance(batcher.submit(b"bad").exception(30), RefusedError)
    assert fake.batches == [[b"bad"]]


def test_a_refusal_of_positions_that_were_not_sent_fails_the_batch(fake: FakeLog) -> None:
    fake.error = BatchRefusedError({7: RefusedError(RefusalReason.TOO_LARGE, "no such entry")})
    with Batcher(fake) as batcher:
        assert batcher.submit(b"entry").exception(30) is fake.error
    assert len(fake.batches) == 1


@pytest.mark.parametrize("error", [RemoteError("gone"), ProofError("a lie"), KeyError("a bug")])
def test_a_failure_fails_its_batch_only(fake: FakeLog, error: Exception) -> None:
    fake.error = error
    with Batcher(fake) as batcher:
        assert batcher.submit(b"lost").exception(30) is error
        fake.error = None
        assert batcher.submit(b"kept").result(30).leaf_index == 0


def test_too_few_results_are_an_outcome_too(fake: FakeLog) -> None:
    class Forgetful:
        def append(self, entries: Sequence[bytes]) -> list[Appended]:
            return []

    with Batcher(Forgetful()) as batcher:
        assert isinstance(batcher.submit(b"entry").exception(30), SubmitError)


def test_a_cancelled_entry_is_not_sent(fake: FakeLog) -> None:
    fake.hold()
    with Batcher(fake) as batcher:
        first = batcher.submit(b"first")
        fake.wait_for_call()
        cancelled, kept = batcher.submit(b"cancelled"), batcher.submit(b"kept")
        assert not first.cancel()
        assert cancelled.cancel()
        fake.running.set()
        assert kept.result(30).leaf_index == 1
        with pytest.raises(CancelledError):
            cancelled.result(30)
    assert fake.batches == [[b"first"], [b"kept"]]


def test_when_all_that_waits_is_cancelled_the_batcher_goes_on(fake: FakeLog) -> None:
    fake.hold()
    with Batcher(fake) as batcher:
        batcher.submit(b"first")
        fake.wait_for_call()
        for entry in numbered(0, 5):
            assert batcher.submit(entry).cancel()
        fake.running.set()
        assert batcher.submit(b"last").result(30).leaf_index == 1
    assert fake.batches == [[b"first"], [b"last"]]


def test_an_entry_that_no_log_takes_is_refused_here(fake: FakeLog) -> None:
    with Batcher(fake) as batcher:
        error = batcher.submit(bytes(65_536)).exception(0)
        assert isinstance(error, RefusedError)
        assert error.reason is RefusalReason.TOO_LARGE
        assert batcher.submit(bytes(65_535)).result(30).leaf_index == 0
    assert len(fake.batches) == 1


@pytest.mark.parametrize("limits", [{"max_queued_entries": 3}, {"max_queued_bytes": 3 * 65_535}])
def test_a_full_queue_pushes_back_or_waits(fake: FakeLog, limits: dict[str, int]) -> None:
    fake.hold()
    with Batcher(fake, **limits) as batcher:
        futures = [batcher.submit(bytes(65_535))]
        fake.wait_for_call()
        futures += [batcher.submit(bytes(65_535)) for _ in range(3)]
        with pytest.raises(PushbackError):
            batcher.submit(bytes(65_535), block=False)
        with pytest.raises(PushbackError):
            batcher.submit(bytes(65_535), timeout_s=0.02)
        waiting: list[Future[Appended]] = []
        thread = threading.Thread(target=lambda: waiting.append(batcher.submit(bytes(65_535))))
        thread.start()
        thread.join(0.02)
        assert thread.is_alive()
        fake.running.set()
        thread.join(30)
        assert indices(futures + waiting) == list(range(5))


def test_closing_sends_what_waits_and_takes_no_more(fake: FakeLog) -> None:
    fake.hold()
    batcher = Batcher(fake, max_entries=2)
    futures = [batcher.submit(entry) for entry in numbered(0, 7)]
    closing = threading.Thread(target=batcher.close)
    closing.start()
    closing.join(0.02)
    assert closing.is_alive()
    with pytest.raises(SubmitError, match="closed"):
        batcher.submit(b"late")
    fake.running.set()
    closing.join(30)
    assert not closing.is_alive()
    assert all(future.done() for future in futures)
    assert indices(futures) == list(range(7))
    batcher.close()


def test_closing_wakes_those_who_wait_for_room(fake: FakeLog) -> None:
    fake.hold()
    batcher = Batcher(fake, max_queued_entries=1)
    batcher.submit(b"in flight")
    fake.wait_for_call()
    batcher.submit(b"queued")
    errors: list[Exception] = []

    def wait_for_room() -> None:
        try:
            batcher.submit(b"waiting")
        except SubmitError as error:
            errors.append(error)

    waiting = threading.Thread(target=wait_for_room)
    waiting.start()
    waiting.join(0.02)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    waiting.join(30)
    assert len(errors) == 1
    fake.running.set()
    closing.join(30)
    assert fake.batches == [[b"in flight"], [b"queued"]]


def test_as_many_batches_are_in_flight_as_allowed(fake: FakeLog) -> None:
    fake.hold()
    with Batcher(fake, max_in_flight=3) as batcher:
        futures = []
        for number in range(3):
            futures.append(batcher.submit(b"%d" % number))
            fake.wait_for_call()
        futures += [batcher.submit(entry) for entry in numbered(3, 20)]
        assert not fake.arrived.acquire(timeout=0.03)
        fake.running.set()
        assert sorted(indices(futures)) == list(range(20))
    assert fake.batches[:3] == [[b"0"], [b"1"], [b"2"]]


@pytest.mark.parametrize(
    "limits",
    [
        {"max_entries": 0},
        {"max_in_flight": 0},
        {"max_queued_entries": 0},
        {"max_bytes": 65_534},
        {"max_queued_bytes": 0},
    ],
)
def test_limits_that_cannot_work_are_refused(fake: FakeLog, limits: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        Batcher(fake, **limits)


# Against a log on a real socket


@pytest.mark.parametrize("max_in_flight", [1, 3])
def test_many_submitters_get_their_own_proven_outcomes(
    client: LogClient, log: LyingLog, policy: Policy, max_in_flight: int
) -> None:
    bad = {b"%d" % number for number in range(0, 600, 50)}

    def refuse(entries: Sequence[bytes]) -> log_pb2.AppendRefusal | None:
        positions = [position for position, entry in enumerate(entries) if entry in bad]
        if not positions:
            return None
        return log_pb2.AppendRefusal(
            refusals=[
                log_pb2.EntryRefusal(
                    position=position, reason=log_pb2.REFUSAL_REASON_UNKNOWN_KEY, message="who is this?"
                )
                for position in positions
            ]
        )

    log.refuse = refuse
    outcomes: dict[bytes, Future[Appended]] = {}

    def submit(entries: Sequence[bytes]) -> None:
        for entry in entries:
            outcomes[entry] = batcher.submit(entry)

    with Batcher(client, max_in_flight=max_in_flight) as batcher:
        submitters = [
            threading.Thread(target=submit, args=(numbered(start, start + 150),))
            for start in range(0, 600, 150)
        ]
        for submitter in submitters:
            submitter.start()
        for submitter in submitters:
            submitter.join()
    assert len(outcomes) == 600
    for entry, future in outcomes.items():
        assert future.done()
        if entry in bad:
            assert isinstance(future.exception(), RefusedError)
        else:
            verify_receipt(entry, future.result().receipt, policy)
    assert set(log.tree.entries) == set(numbered(0, 600)) - bad
    assert log.size == 600 - len(bad)
    assert len(log.calls_of("Append")) < 600


def test_an_outage_fails_the_batch_in_flight_and_the_next_one_passes(
    connect: Callable[..., LogClient], log: LyingLog
) -> None:
    with Batcher(connect()) as batcher:
        log.fail_next("Append", grpc.StatusCode.INTERNAL)
        assert isinstance(batcher.submit(b"lost").exception(30), RemoteError)
        assert batcher.submit(b"kept").result(30).leaf_index == 0
