"""Reading a data file page by page: all of it where it is sound, and around whatever is flipped in it."""

from __future__ import annotations

import random
import shutil
import struct
from pathlib import Path

import pytest
from _support import child
from _support.stored_rows import LOG_VKEY, ORIGIN, commit_rows, entry, load_edge

from tlog.errors import CorruptionError, NotFoundError
from tlog.storage.lmdb_header import TABLE_RECORD
from tlog.storage.lmdb_page import HEADER, parse_tree_page
from tlog.storage.lmdb_pages import FREE_PAGES, TABLE_NAMES, DataFile, FileDamage, Row, open_data_file
from tlog.storage.lmdb_store import LmdbStore

COUNTS = [3, 700, 1, 1, 900, 30, 1, 1]
SIZE = sum(COUNTS)
PAGE = 4096
LAST_PAGE_AT = 136


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of several commits, with branch, overflow and free pages in it."""
    path = tmp_path_factory.mktemp("pages") / "store"
    store = LmdbStore.create(path, ORIGIN, LOG_VKEY)
    edge = None
    for count in COUNTS:
        edge = commit_rows(store, [count], edge=edge)
    store.close()
    return path


def read_all(path: Path) -> tuple[dict[str, list[Row]], list[FileDamage]]:
    with open_data_file(path) as file:
        rows = {name: list(file.scan(name)) for name in sorted(file.tables)}
        file.check_free_pages()
        return rows, file.damage


def number(index: int) -> bytes:
    return index.to_bytes(8, "big")


def test_a_sound_file_is_read_whole_and_every_row_lies_where_it_says(sound: Path) -> None:
    rows, damage = read_all(sound)
    assert damage == []
    assert [(row.key, row.value) for row in rows["entries"]] == [
        (number(index), entry(index)) for index in range(SIZE)
    ]
    data = (sound / "data.mdb").read_bytes()
    for name, found in rows.items():
        assert [row.key for row in found] == sorted({row.key for row in found}), name
        assert all(data[row.start : row.start + len(row.value)] == row.value for row in found)
    assert set(rows) == {"entries", "tiles", "identities", "business_keys", "governance", "meta"}


def test_every_page_of_a_sound_file_is_in_a_table_or_free(sound: Path) -> None:
    with open_data_file(sound) as file:
        for name in file.tables:
            assert len(list(file.scan(name))) == file.rows_in(name) > 0
        file.check_free_pages()
        assert all(file._is_seen(page) for page in range(2, file.meta.last_page + 1))
        assert file.rows_in(FREE_PAGES) > 0


def test_single_rows_and_rows_from_a_key_on_are_found(sound: Path) -> None:
    with open_data_file(sound) as file:
        for index in (0, 1, 400, SIZE - 1):
            row = file.get("entries", number(index))
            assert row is not None
            assert row.value == entry(index)
        assert file.get("entries", number(SIZE)) is None
        assert file.get("no such table", b"") is None
        keys = [row.key for row in file.rows_again("entries", number(SIZE - 3))]
        assert keys == [number(index) for index in range(SIZE - 3, SIZE)]


def flip(path: Path, offset: int, bit: int) -> None:
    with (path / "data.mdb").open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1 << bit]))


def in_use(file: DataFile) -> list[tuple[int, int]]:
    """The byte ranges of values, sorted; everything else in the file is structure, or not in use."""
    return sorted(
        (row.start, row.start + len(row.value)) for name in file.tables for row in file.rows_again(name)
    )


def test_a_flipped_bit_anywhere_ends_nothing_and_changes_what_is_read_only_where_it_is_told(
    sound: Path, tmp_path: Path
) -> None:
    """Of a flipped bit either somebody is told, or it is in one value, or nothing that is read changes."""
    path = tmp_path / "store"
    shutil.copytree(sound, path)
    with open_data_file(sound) as file:
        values = in_use(file)
        last_page = file.meta.last_page
    expected, _ = read_all(sound)
    rng = random.Random(20261201)
    pages = [page * PAGE + offset for page in range(last_page + 1) for offset in (rng.randrange(60),)]
    anywhere = [rng.randrange((last_page + 1) * PAGE) for _ in range(30)]
    told = 0
    for offset in rng.sample(pages, 70) + anywhere:
        bit = rng.randrange(8)
        flip(path, offset, bit)
        try:
            rows, damage = read_all(path)
            told += bool(damage)
            changed = [
                (old, new)
                for name in expected
                for old, new in zip(expected[name], rows.get(name, []), strict=False)
                if old != new
            ]
            in_value = any(start <= offset < end for start, end in values)
            if not damage and rows != expected:
                # One byte of one key or value: no structure, so the same rows in the same places.
                assert len(changed) == 1, offset
                ((old, new),) = changed
                assert old.start == new.start
                assert len(old.key + old.value) == len(new.key + new.value)
            if in_value and offset >= 2 * PAGE and not damage:
                assert rows != expected, offset
        except CorruptionError:
            told += 1
        finally:
            flip(path, offset, bit)
    assert told > 20


@pytest.mark.parametrize("table", ["entries", "identities", "tiles"])
def test_a_damaged_page_is_named_with_its_bytes_and_the_rest_is_still_read(
    sound: Path, tmp_path: Path, table: str
) -> None:
    path = tmp_path / "store"
    shutil.copytree(sound, path)
    with open_data_file(path) as file:
        rows = list(file.scan(table))
        page = next(row.start // PAGE for row in rows[len(rows) // 2 :])
    flip(path, page * PAGE + 10, 0)  # the page's kind
    with open_data_file(path) as file:
        left = [row.key for row in file.scan(table)]
        assert [(one.table, one.start % PAGE, one.start // PAGE) for one in file.damage] == [(table, 0, page)]
        assert 0 < len(left) < len(rows)


def test_a_page_that_is_free_and_in_use_is_told(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "store"
    shutil.copytree(sound, path)
    with open_data_file(path) as file:
        (first, *_) = [row for row in file.rows_again(FREE_PAGES) if len(row.value) > 8]
        used = next(file.rows_again("entries")).start // PAGE
    with (path / "data.mdb").open("r+b") as raw:
        raw.seek(first.start + 8)
        raw.write(used.to_bytes(8, "little"))
    _, damage = read_all(path)
    (found,) = damage
    assert found.table == FREE_PAGES
    assert found.start == first.start + 8
    assert f"page {used} is listed as free, and is in use" in found.reason


def test_a_lost_record_of_a_table_is_told(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "store"
    shutil.copytree(sound, path)
    with open_data_file(path) as file:
        record = file.get(TABLE_NAMES, b"entries")
        assert record is not None
    flip(path, record.start + 32, 0)  # how many rows it has
    _, damage = read_all(path)
    assert ["rows, and it has" in one.reason for one in damage] == [True]
    flip(path, record.start + 32, 0)
    flip(path, record.start + 4, 2)  # its flags
    _, damage = read_all(path)
    assert ["flags" in one.reason for one in damage] == [True]


@pytest.mark.parametrize("meta", [0, 1])
def test_a_damaged_meta_page_is_told_and_the_other_one_is_read(
    sound: Path, tmp_path: Path, meta: int
) -> None:
    path = tmp_path / "store"
    shutil.copytree(sound, path)
    flip(path, meta * PAGE + 16, 3)  # the magic number
    rows, damage = read_all(path)
    assert [(one.table, one.start) for one in damage] == [("meta pages", meta * PAGE)]
    assert SIZE - 1 <= len(rows["entries"]) <= SIZE


def test_a_meta_page_that_claims_to_be_newer_than_it_is_is_told(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "store"
    shutil.copytree(sound, path)
    with open_data_file(path) as file:
        older = (file.meta.transaction - 1) % 2
    flip(path, older * PAGE + 16 + 24 + 96 + 8 + 2, 0)  # a high bit of its transaction
    _, damage = read_all(path)
    assert "do not follow each other" in damage[0].reason


def test_without_any_meta_page_or_any_file_it_is_told(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "store"
    shutil.copytree(sound, path)
    flip(path, 16, 3)
    flip(path, PAGE + 16, 3)
    with pytest.raises(CorruptionError, match="no meta page that can be used"), open_data_file(path):
        pass
    (path / "data.mdb").unlink()
    with pytest.raises(NotFoundError), open_data_file(path):
        pass


def test_a_file_that_was_cut_off_is_read_as_far_as_it_goes(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "store"
    shutil.copytree(sound, path)
    with (path / "data.mdb").open("r+b") as file:
        file.truncate((path / "data.mdb").stat().st_size // 2)
    rows, damage = read_all(path)
    assert any("ends before" in one.reason for one in damage)
    assert 0 < len(rows["entries"]) < SIZE


WRITER = """
import sys
from _support.stored_rows import LOG_VKEY, ORIGIN, commit_rows, load_edge
from tlog.storage.lmdb_store import LmdbStore
store = LmdbStore.open(sys.stdin.readline().strip(), ORIGIN, LOG_VKEY)
edge = load_edge(store)
for line in sys.stdin:
    edge = commit_rows(store, [1] * int(line), edge=edge)
    print(edge.tree_size, flush=True)
"""


def test_beside_a_process_that_writes_one_state_is_read_to_its_end(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "store"
    shutil.copytree(sound, path)
    with child.start(WRITER) as writer:
        try:
            child.write_line(writer, str(path))
            with open_data_file(path) as file:
                found = []
                for count, row in enumerate(file.scan("entries")):
                    if count % 100 == 0:
                        child.write_line(writer, "5")
                        child.read_line(writer)
                    found.append(row.value)
                for name in file.tables - {"entries"}:
                    assert len(list(file.scan(name))) == file.rows_in(name)
                file.check_free_pages()
                assert file.damage == []
                assert found == [entry(index) for index in range(SIZE)]
            child.write_line(writer, "1")
            size = int(child.read_line(writer))
        finally:
            writer.kill()
    assert size > SIZE + 5
    rows, damage = read_all(path)
    assert (len(rows["entries"]), damage) == (size, [])
    with_store = LmdbStore.open(path, ORIGIN, LOG_VKEY, read_only=True)
    assert load_edge(with_store).tree_size == size
    with_store.close()


def of_last_page(sound: Path, tmp_path: Path, last_page: int) -> Path:
    """The store with another last page in both of its meta pages."""
    path = shutil.copytree(sound, tmp_path / "store")
    with (path / "data.mdb").open("r+b") as file:
        for page in range(2):
            file.seek(page * PAGE + LAST_PAGE_AT)
            file.write(last_page.to_bytes(8, "little"))
    return path


@pytest.mark.parametrize("last_page", [2**40, 2**62])
def test_a_last_page_beyond_all_disks_takes_no_memory(sound: Path, tmp_path: Path, last_page: int) -> None:
    rows, damage = read_all(of_last_page(sound, tmp_path, last_page))
    assert len(rows["entries"]) == SIZE
    assert damage == []


def test_a_page_that_names_itself_for_all_of_its_children_is_read_once(sound: Path, tmp_path: Path) -> None:
    """Else a table would be read 2**32 times: its depth is what its record says."""
    path = shutil.copytree(sound, tmp_path / "store")
    with open_data_file(path) as file:
        record = file._tables["entries"]
    assert record.depth > 1
    assert record.root is not None
    data = bytearray((path / "data.mdb").read_bytes())
    page = data[record.root * PAGE : (record.root + 1) * PAGE]
    nodes = parse_tree_page(bytes(page), record.root, is_leaf=False)
    assert len(nodes) > 2
    for place in struct.unpack_from(f"={len(nodes)}H", page, HEADER.size):
        struct.pack_into("=HHH", data, record.root * PAGE + place, record.root & 0xFFFF, record.root >> 16, 0)
    fields = (record.branch_pages, record.leaf_pages, record.overflow_pages, record.entries, record.root)
    spelled = TABLE_RECORD.pack(0, record.flags, record.depth, *fields)
    assert spelled in data
    data = data.replace(spelled, TABLE_RECORD.pack(0, record.flags, 30, *fields))
    (path / "data.mdb").write_bytes(data)
    with open_data_file(path) as file:
        assert list(file.rows_again("entries")) == []
        assert file.get("entries", number(1)) is None
