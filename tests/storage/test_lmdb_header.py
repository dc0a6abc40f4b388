from __future__ import annotations

import random
from pathlib import Path

import lmdb
import pytest
from _support import child
from _support.stored_rows import LOG_VKEY, ORIGIN, commit_rows

from tlog.errors import CorruptionError, NotFoundError, StorageError, TlogError
from tlog.storage.lmdb_header import check_data_file
from tlog.storage.lmdb_store import LmdbStore

META_BYTES = 152


@pytest.fixture(scope="module", params=[[20, 30, 100], [20, 30, 100, 100]])
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The data file of a store; once its first meta page is the newer one, once its second."""
    path = tmp_path_factory.mktemp("header") / "log"
    store = LmdbStore.create(path, ORIGIN, LOG_VKEY)
    commit_rows(store, request.param)
    store.close()
    return (path / "data.mdb").read_bytes()


def check(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "data.mdb").write_bytes(data)
    check_data_file(tmp_path)


def test_a_whole_file_passes_after_every_commit(tmp_path: Path) -> None:
    store = LmdbStore.create(tmp_path / "log", ORIGIN, LOG_VKEY, map_size_bytes=1)
    rng = random.Random(5)
    for _ in range(60):
        commit_rows(store, [rng.choice([1, 2, 50, 300])])
        check_data_file(tmp_path / "log")
    store.close()
    check_data_file(tmp_path / "log")


def test_a_file_cut_off_at_any_page_is_told(tmp_path: Path, data: bytes) -> None:
    check(tmp_path, data)
    lengths = {page + delta for page in range(0, len(data), 4096) for delta in (-1, 0, 1, 2000)}
    for length in sorted(length for length in lengths if 0 <= length < len(data)):
        with pytest.raises(CorruptionError, match="cut off"):
            check(tmp_path, data[:length])


def test_a_longer_file_passes(tmp_path: Path, data: bytes) -> None:
    check(tmp_path, data + bytes(4096))  # what a crash between the pages and the meta page leaves


@pytest.mark.parametrize("start", [b"", b"\x00" * 4096, b"SQLite format 3\x00", b"\xff" * 200])
def test_what_is_no_data_file_is_told(tmp_path: Path, start: bytes) -> None:
    with pytest.raises(CorruptionError):
        check(tmp_path, start)
    with pytest.raises(CorruptionError):
        check(tmp_path, start + bytes(20_000))


def test_random_bytes_are_never_taken_for_a_data_file(tmp_path: Path) -> None:
    rng = random.Random(3)
    for length in [*range(0, 400, 7), 4096, 8192, 100_000]:
        with pytest.raises(CorruptionError):
            check(tmp_path, rng.randbytes(length))


@pytest.mark.parametrize("page_bytes", [0, 1, 256, 4097, 8192, 2**17, 2**32 - 1])
@pytest.mark.parametrize("pages", [[0], [1], [0, 1]])
def test_a_wrong_page_size_is_told(tmp_path: Path, data: bytes, page_bytes: int, pages: list[int]) -> None:
    bad = bytearray(data)
    for page in pages:
        bad[page * 4096 + 40 : page * 4096 + 44] = page_bytes.to_bytes(4, "little")
    with pytest.raises(CorruptionError):
        check(tmp_path, bytes(bad))


def test_a_missing_or_unreadable_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="holds no log"):
        check_data_file(tmp_path)
    (tmp_path / "data.mdb").mkdir()
    with pytest.raises(StorageError, match="cannot read"):
        check_data_file(tmp_path)


def test_the_format_of_lmdb_1_0_is_told_apart(tmp_path: Path) -> None:
    lmdb.open(str(tmp_path), lib_version=1).close()
    with pytest.raises(TlogError, match=r"format|not an LMDB data file"):
        check_data_file(tmp_path)


def test_no_flipped_bit_in_the_meta_pages_crashes_the_process(tmp_path: Path, data: bytes) -> None:
    """Opened and read in a child process, because LMDB is in C and a crash would end this one."""
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "data.mdb").write_bytes(data)
    script = f"""
import sys
from pathlib import Path
from _support.stored_rows import LOG_VKEY, ORIGIN, load_edge
from tlog.errors import TlogError
from tlog.storage.lmdb_store import LmdbStore
path = Path({str(tmp_path / "bad")!r})
path.mkdir()
good = Path({str(tmp_path / "good" / "data.mdb")!r}).read_bytes()
told = 0
for page in (0, 4096):
    for offset in range({META_BYTES}):
        bad = bytearray(good)
        bad[page + offset] ^= 1 << offset * 5 % 8
        (path / "data.mdb").write_bytes(bad)
        print(page, offset, flush=True)
        try:
            store = LmdbStore.open(path, ORIGIN, LOG_VKEY)
            try:
                load_edge(store)
                with store.reader() as reader:
                    reader.read_entries(0, reader.tree_size)
            finally:
                store.close()
        except TlogError:
            told += 1
print("told", told)
"""
    assert int(child.run(script).split()[-1]) > 30
