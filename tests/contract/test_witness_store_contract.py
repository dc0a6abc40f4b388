"""The contract of a witness's store (tlog.storage.witness_base), held by every store; and LMDB's own part."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from _support import child

from tlog.errors import (
    ConflictError,
    CorruptionError,
    MalformedError,
    NotFoundError,
    StorageError,
    StoreInUseError,
)
from tlog.storage.lmdb_store import LmdbStore
from tlog.storage.lmdb_witness_store import LmdbWitnessStore
from tlog.storage.memory_witness_store import MemoryWitnessStore
from tlog.storage.witness_base import WitnessStore

STORES: dict[str, Callable[[Path], WitnessStore]] = {
    "memory": lambda path: MemoryWitnessStore(),
    "lmdb": lambda path: LmdbWitnessStore.create(path / "store"),
}
A, B = b"a" * 32, b"b" * 32


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WitnessStore]:
    store = STORES[request.param](tmp_path)
    yield store
    store.close()


def test_a_new_store_knows_no_log(store: WitnessStore) -> None:
    assert store.load(A) is None
    assert store.origin_hashes() == []


def test_a_record_replaces_the_one_that_is_named(store: WitnessStore) -> None:
    store.replace(A, expected=None, new=b"1")
    assert store.load(A) == b"1"
    store.replace(A, expected=b"1", new=b"2" * 10_000)
    assert store.load(A) == b"2" * 10_000
    store.replace(A, expected=b"2" * 10_000, new=b"3")
    assert store.load(A) == b"3"


def test_logs_have_records_of_their_own(store: WitnessStore) -> None:
    store.replace(B, expected=None, new=b"of b")
    assert store.load(A) is None
    store.replace(A, expected=None, new=b"of a")
    assert (store.load(A), store.load(B)) == (b"of a", b"of b")
    assert store.origin_hashes() == [A, B]


@pytest.mark.parametrize("stale", [None, b"", b"1", b"2 "])
def test_a_replacement_of_another_record_is_a_conflict_and_changes_nothing(
    store: WitnessStore, stale: bytes | None
) -> None:
    store.replace(A, expected=None, new=b"1")
    store.replace(A, expected=b"1", new=b"2")
    with pytest.raises(ConflictError):
        store.replace(A, expected=stale, new=b"3")
    assert store.load(A) == b"2"


def test_a_replacement_of_a_record_that_is_not_there_is_a_conflict(store: WitnessStore) -> None:
    with pytest.raises(ConflictError):
        store.replace(A, expected=b"1", new=b"2")
    assert store.load(A) is None


def test_no_record_can_be_taken_away(store: WitnessStore) -> None:
    store.replace(A, expected=None, new=b"1")
    with pytest.raises(MalformedError):
        store.replace(A, expected=b"1", new=b"")
    assert store.load(A) == b"1"
    assert not [name for name in dir(store) if name.startswith(("delete", "remove", "forget", "clear"))]


@pytest.mark.parametrize("key", [b"", b"a" * 31, b"a" * 33, b"a" * 600])
def test_a_key_that_is_no_origin_hash_is_refused(store: WitnessStore, key: bytes) -> None:
    with pytest.raises(MalformedError, match="32"):
        store.load(key)
    with pytest.raises(MalformedError, match="32"):
        store.replace(key, expected=None, new=b"1")


def test_of_many_who_checked_the_same_record_one_writes(store: WitnessStore) -> None:
    threads = 8
    for turn in range(10):
        expected = store.load(A)
        together = threading.Barrier(threads)

        def attempt(
            number: int,
            together: threading.Barrier = together,
            expected: bytes | None = expected,
            turn: int = turn,
        ) -> bytes | None:
            new = b"%d/%d" % (turn, number)
            together.wait(30)
            try:
                store.replace(A, expected=expected, new=new)
            except ConflictError:
                return None
            return new

        with ThreadPoolExecutor(threads) as pool:
            written = [new for new in pool.map(attempt, range(threads)) if new is not None]
        assert written == [store.load(A)]


def test_a_closed_store_says_so(store: WitnessStore) -> None:
    store.close()
    store.close()
    for use in (
        lambda: store.load(A),
        lambda: store.replace(A, expected=None, new=b"1"),
        store.origin_hashes,
    ):
        with pytest.raises(StorageError, match="closed"):
            use()


# ----- LMDB


def test_records_outlive_the_process_that_was_killed(tmp_path: Path) -> None:
    script = f"""
import sys
from tlog.storage.lmdb_witness_store import LmdbWitnessStore
store = LmdbWitnessStore.create({str(tmp_path / "store")!r})
store.replace(b"a" * 32, expected=None, new=b"durable")
print("written", flush=True)
sys.stdin.read()
"""
    with child.start(script) as process:
        assert child.read_line(process) == "written"
        process.kill()
        process.wait(30)
    store = LmdbWitnessStore.open(tmp_path / "store")
    assert store.load(A) == b"durable"
    store.close()


def test_a_second_process_is_refused_and_may_read(tmp_path: Path) -> None:
    path = tmp_path / "store"
    store = LmdbWitnessStore.create(path)
    store.replace(A, expected=None, new=b"1")
    script = f"""
from tlog.errors import StoreInUseError
from tlog.storage.lmdb_witness_store import LmdbWitnessStore
try:
    LmdbWitnessStore.open({str(path)!r})
except StoreInUseError:
    print("refused")
reader = LmdbWitnessStore.open({str(path)!r}, read_only=True)
print(reader.load(b"a" * 32))
"""
    assert child.run(script).split() == ["refused", "b'1'"]
    with pytest.raises(StoreInUseError):
        LmdbWitnessStore.open(path)
    store.close()


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    LmdbWitnessStore.create(tmp_path / "store").close()
    store = LmdbWitnessStore.open(tmp_path / "store", read_only=True)
    with pytest.raises(StorageError, match="read-only"):
        store.replace(A, expected=None, new=b"1")
    store.close()


def test_a_store_is_never_made_by_opening_it(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(NotFoundError):
            LmdbWitnessStore.open(path)
    assert list(tmp_path.iterdir()) == []


def test_a_store_is_never_made_over_another_one(tmp_path: Path) -> None:
    store = LmdbWitnessStore.create(tmp_path / "store")
    store.replace(A, expected=None, new=b"1")
    store.close()
    with pytest.raises(StorageError, match="already"):
        LmdbWitnessStore.create(tmp_path / "store")
    store = LmdbWitnessStore.open(tmp_path / "store")
    assert store.load(A) == b"1"
    store.close()


def test_a_logs_store_is_not_taken_for_a_witnesss(tmp_path: Path) -> None:
    LmdbStore.create(tmp_path / "log", "log.example", "vkey").close()
    with pytest.raises(StorageError):
        LmdbWitnessStore.open(tmp_path / "log")
    LmdbWitnessStore.create(tmp_path / "witness").close()
    with pytest.raises(StorageError):
        LmdbStore.open(tmp_path / "witness", "log.example", "vkey")


def test_a_cut_off_store_is_told_at_the_start(tmp_path: Path) -> None:
    LmdbWitnessStore.create(tmp_path / "store").close()
    data = tmp_path / "store" / "data.mdb"
    data.write_bytes(data.read_bytes()[:9_000])
    with pytest.raises(CorruptionError, match="cut off"):
        LmdbWitnessStore.open(tmp_path / "store")


def test_a_store_grows_by_itself_and_stays_small_while_records_change(tmp_path: Path) -> None:
    store = LmdbWitnessStore.create(tmp_path / "store", map_size_bytes=2**20)
    keys = [number.to_bytes(32, "big") for number in range(400)]
    for key in keys:
        store.replace(key, expected=None, new=key * 200)
    assert store.origin_hashes() == keys
    size = (tmp_path / "store" / "data.mdb").stat().st_size
    for turn in range(100):
        current = store.load(keys[7])
        store.replace(keys[7], expected=current, new=b"%d" % turn * 3_000)
    assert (tmp_path / "store" / "data.mdb").stat().st_size < size + 2**19
    store.close()
