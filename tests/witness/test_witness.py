"""The witness without HTTP: records before it answers, and never cosigns two histories, whoever races."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count, pairwise
from pathlib import Path
from random import Random

import pytest
from _support.signers import cosigner
from _support.submitting_log import SubmittingLog

from tlog.checkpoint import Checkpoint, parse_checkpoint
from tlog.cosignature import CosignatureVerifier
from tlog.errors import ConfigError, CorruptionError, StateUnknownError, StorageError
from tlog.merkle import verify_consistency
from tlog.note import Verifier, open_note
from tlog.storage.lmdb_witness_store import LmdbWitnessStore
from tlog.storage.memory_witness_store import MemoryWitnessStore
from tlog.storage.witness_base import WitnessStore
from tlog.witness.core import Cosigned, Refusal, SignedContradiction, WitnessedLog, origin_hash
from tlog.witness.witness import Witness

COSIGNER = cosigner("witness.example")
VERIFIER = CosignatureVerifier.from_vkey(COSIGNER.vkey)
STORES: dict[str, Callable[[Path], WitnessStore]] = {
    "memory": lambda path: MemoryWitnessStore(),
    "lmdb": lambda path: LmdbWitnessStore.create(path / "store"),
}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WitnessStore]:
    store = STORES[request.param](tmp_path)
    yield store
    store.close()


def witness_of(store: WitnessStore, *logs: SubmittingLog, now_s: int = 1_800_000_000) -> Witness:
    return Witness(store, [COSIGNER], [witnessed(log) for log in logs], now_s=lambda: now_s)


def witnessed(log: SubmittingLog) -> WitnessedLog:
    return WitnessedLog(origin=log.origin, verifiers=(Verifier.from_vkey(log.signer.vkey),))


class PausedStore:
    """Stops every `replace` until it is told to go on; otherwise the store that it wraps."""

    def __init__(self, store: WitnessStore) -> None:
        self.store = store
        self.load, self.origin_hashes, self.close = store.load, store.origin_hashes, store.close
        self.arrived = threading.Semaphore(0)
        self.gates: dict[str, threading.Event] = {}

    def replace(self, origin_hash: bytes, *, expected: bytes | None, new: bytes) -> None:
        self.arrived.release()
        gate = self.gates.get(threading.current_thread().name)
        if gate is not None:
            assert gate.wait(30)
        self.store.replace(origin_hash, expected=expected, new=new)


def test_the_race_of_the_specification_does_not_roll_back(store: WitnessStore) -> None:
    # "1. Request A with size N is checked for consistency. 2. Request B with size N+K is checked for
    # consistency.
    # 3. The stored size is updated to N+K for request B. 4. A cosignature for N+K is returned to request B.
    # 5. The stored size is updated to N for request A, *rolling back K leaves*. 6. A cosignature for N is
    # returned to request A."
    log = SubmittingLog()
    paused = PausedStore(store)
    witness = witness_of(paused, log)
    assert isinstance(witness.add_checkpoint(log.request(0, 5)), Cosigned)
    assert paused.arrived.acquire(timeout=30)
    paused.gates["A"] = threading.Event()
    answers: dict[str, Cosigned | Refusal] = {}

    def submit(size: int) -> None:
        answers[threading.current_thread().name] = witness.add_checkpoint(log.request(5, size))

    a = threading.Thread(target=submit, args=(10,), name="A")
    b = threading.Thread(target=submit, args=(20,), name="B")
    a.start()
    assert paused.arrived.acquire(timeout=30), "A was checked"
    b.start()
    b.join(30)
    assert isinstance(answers["B"], Cosigned)
    paused.gates["A"].set()
    a.join(30)
    refused = answers["A"]
    assert isinstance(refused, Refusal)
    assert (refused.status, refused.body) == (409, "20\n")
    latest = witness.latest(origin_hash(log.origin))
    assert latest is not None
    assert latest.checkpoint == log.checkpoint(20)


def test_of_two_histories_at_once_one_is_cosigned(store: WitnessStore) -> None:
    log = SubmittingLog(fork_at=5)
    witness = witness_of(store, log)
    witness.add_checkpoint(log.request(0, 5))
    together = threading.Barrier(2)

    def submit(history: int) -> Cosigned | Refusal:
        together.wait(30)
        return witness.add_checkpoint(log.request(5, 9, history=history))

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(submit, (0, 1)))
    assert sorted(isinstance(answer, Cosigned) for answer in answers) == [False, True]
    won = [isinstance(answer, Cosigned) for answer in answers].index(True)
    refused = answers[1 - won]
    assert isinstance(refused, Refusal)
    assert (refused.status, refused.body) == (409, "9\n")
    assert refused.evidence is not None


def test_many_threads_make_one_history(store: WitnessStore) -> None:
    log = SubmittingLog(fork_at=30)
    ticks = count(1)
    witness = Witness(store, [COSIGNER], [witnessed(log)], now_s=lambda: next(ticks) // 3)
    seen: list[tuple[int, Checkpoint]] = []
    lock = threading.Lock()

    def submit(number: int) -> None:
        chance = Random(number)
        old_size = 0
        for _ in range(25):
            size = min(old_size + chance.randrange(4), log.size)
            history = chance.randrange(2)
            found = witness.add_checkpoint(log.request(old_size, size, history=history))
            if isinstance(found, Refusal):
                assert found.status in {409, 422}
                if found.status == 409:
                    old_size = int(found.body)
                continue
            old_size = size
            note = open_note(log.note(size, history=history) + found.body.encode(), [VERIFIER])
            timestamp_s = VERIFIER.timestamp_s(note.signatures[0].signature)
            with lock:
                seen.append((timestamp_s, parse_checkpoint(note.text)))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(submit, range(6)))
    assert len({checkpoint.tree_size for _, checkpoint in seen}) > 10
    roots: dict[int, bytes] = {}
    for _, checkpoint in seen:
        assert roots.setdefault(checkpoint.tree_size, checkpoint.root_hash) == checkpoint.root_hash
    # Time tells the same order as size: nobody got a smaller tree at a later time.
    ordered = sorted(seen, key=lambda cosigned: (cosigned[1].tree_size, cosigned[0]))
    assert [time for time, _ in ordered] == sorted(time for time, _ in ordered)
    history = 0 if roots[max(roots)] == log.checkpoint(max(roots)).root_hash else 1
    for size1, size2 in pairwise(sorted(roots)):
        verify_consistency(size1, size2, log.proof(size1, size2, history=history), roots[size1], roots[size2])


def test_what_was_cosigned_is_recorded_when_the_answer_is_there(store: WitnessStore) -> None:
    log = SubmittingLog()
    witness = witness_of(store, log)
    found = witness.add_checkpoint(log.request(0, 7))
    assert isinstance(found, Cosigned)
    again = witness_of(store, log)
    latest = again.latest(origin_hash(log.origin))
    assert latest is not None
    assert latest.note == log.note(7) + found.body.encode()
    refused = again.add_checkpoint(log.request(0, 9))
    assert isinstance(refused, Refusal)
    assert (refused.status, refused.body) == (409, "7\n")


def test_logs_do_not_touch_each_other(store: WitnessStore) -> None:
    logs = [SubmittingLog(origin=f"log.example/{n}") for n in range(10)]
    witness = witness_of(store, *logs)
    for size, log in enumerate(logs, start=1):
        assert isinstance(witness.add_checkpoint(log.request(0, size)), Cosigned)
    for size, log in enumerate(logs, start=1):
        latest = witness.latest(origin_hash(log.origin))
        assert latest is not None
        assert latest.checkpoint == log.checkpoint(size)
    assert witness.latest(origin_hash("log.example/unseen")) is None


@pytest.mark.parametrize("error", [StorageError("disk full"), StateUnknownError("who knows")])
def test_without_a_record_there_is_no_cosignature(error: StorageError) -> None:
    class FailingStore(MemoryWitnessStore):
        def replace(self, origin_hash: bytes, *, expected: bytes | None, new: bytes) -> None:
            raise error

    log = SubmittingLog()
    with pytest.raises(type(error)):
        witness_of(FailingStore(), log).add_checkpoint(log.request(0, 5))


def test_a_damaged_record_is_not_built_upon(store: WitnessStore) -> None:
    log = SubmittingLog()
    store.replace(origin_hash(log.origin), expected=None, new=b"damaged")
    witness = witness_of(store, log)
    with pytest.raises(CorruptionError):
        witness.add_checkpoint(log.request(0, 5))
    with pytest.raises(CorruptionError):
        witness.latest(origin_hash(log.origin))
    assert store.load(origin_hash(log.origin)) == b"damaged"


def test_a_log_that_contradicts_itself_is_told_of() -> None:
    log = SubmittingLog()
    told: list[tuple[WitnessedLog, SignedContradiction]] = []
    witness = Witness(
        MemoryWitnessStore(),
        [COSIGNER],
        [witnessed(log)],
        now_s=lambda: 5,
        on_evidence=lambda *found: told.append(found),
    )
    witness.add_checkpoint(log.request(0, 5))
    witness.add_checkpoint(log.request(5, 9))
    witness.add_checkpoint(log.request(0, 20))
    assert told == []
    witness.add_checkpoint(log.request(9, 9, history=1))
    assert [(accused.origin, evidence.kind) for accused, evidence in told] == [(log.origin, "same-size")]


# ----- the logs and keys that it is given


def test_a_log_is_added_while_it_runs_and_none_is_forgotten() -> None:
    first, second = SubmittingLog(origin="log.example/1"), SubmittingLog(origin="log.example/2")
    witness = witness_of(MemoryWitnessStore(), first)
    refused = witness.add_checkpoint(second.request(0, 5))
    assert isinstance(refused, Refusal)
    assert refused.status == 404
    witness.set_logs([witnessed(second), witnessed(first)])
    assert isinstance(witness.add_checkpoint(second.request(0, 5)), Cosigned)
    with pytest.raises(ConfigError, match="forgets no log"):
        witness.set_logs([witnessed(second)])
    assert {log.origin for log in witness.logs} == {first.origin, second.origin}


def test_a_log_without_a_key_or_listed_twice_is_refused() -> None:
    log = witnessed(SubmittingLog())
    for logs in ([log, log], [WitnessedLog(origin="log.example", verifiers=())]):
        with pytest.raises(ConfigError):
            Witness(MemoryWitnessStore(), [COSIGNER], logs, now_s=lambda: 1)


@pytest.mark.parametrize("cosigners", [[], [COSIGNER, COSIGNER]])
def test_a_witness_has_keys_and_each_of_them_once(cosigners: list[object]) -> None:
    with pytest.raises(ConfigError):
        Witness(MemoryWitnessStore(), cosigners, [], now_s=lambda: 1)  # type: ignore[arg-type]
