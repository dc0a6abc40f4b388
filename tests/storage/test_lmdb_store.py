from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import lmdb
import pytest
from _support import child
from _support.stored_rows import (
    LOG_VKEY,
    ORIGIN,
    batch_of,
    commit_rows,
    contents_of,
    entry,
    expected_contents,
    identity,
    load_edge,
    note,
    shared_key,
    size_of,
)

from tlog.errors import (
    ConfigError,
    CorruptionError,
    NotFoundError,
    StateUnknownError,
    StorageError,
    StoreInUseError,
)
from tlog.integrate import TreeEdge
from tlog.storage import lmdb_environment
from tlog.storage.lmdb_pages import open_data_file
from tlog.storage.lmdb_store import LmdbStore

Make = Callable[..., LmdbStore]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def create(path: Path) -> Iterator[Make]:
    """Creates a store at `path`, and closes it in the end."""
    with ExitStack() as stack:

        def make(**options: Any) -> LmdbStore:
            store = LmdbStore.create(path, ORIGIN, LOG_VKEY, **options)
            stack.callback(store.close)
            return store

        yield make


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[LmdbStore]:
    store = LmdbStore.open(path, ORIGIN, LOG_VKEY, **options)
    try:
        yield store
    finally:
        store.close()


def mapped_bytes(store: LmdbStore) -> int:
    return int(store._environment._environment.info()["map_size"])


# ----- one directory, one log


def test_everything_is_there_after_the_store_was_opened_anew(path: Path, create: Make) -> None:
    store = create()
    edge = commit_rows(store, [1, 299, 5], publish=True)
    published = note(edge)
    edge = commit_rows(store, [7], publish=False)
    before = contents_of(store)
    store.close()
    for read_only in (True, False):
        with opened(path, read_only=read_only) as store:
            assert contents_of(store) == before
            assert before == expected_contents(312, committed=note(edge), published=published)
    with opened(path) as store:
        edge = commit_rows(store, [9])
        assert contents_of(store) == expected_contents(321, committed=note(edge), published=note(edge))


@pytest.mark.parametrize(
    ("origin", "vkey", "message"),
    [
        ("log.example.org/other", LOG_VKEY, r"log\.example\.org/trade.*log\.example\.org/other"),
        (ORIGIN, LOG_VKEY[:-1] + "H", r"AQIDBAUG.*AQIDBAUH"),
        ("", LOG_VKEY, "origin"),
    ],
)
@pytest.mark.parametrize("read_only", [False, True])
def test_the_store_of_another_log_is_refused(
    path: Path, create: Make, origin: str, vkey: str, message: str, read_only: bool
) -> None:
    store = create()
    edge = commit_rows(store, [3])
    store.close()
    with pytest.raises(ConfigError, match=message):
        LmdbStore.open(path, origin, vkey, read_only=read_only)
    with opened(path) as store:
        assert store.load() == note(edge)


def test_a_store_is_not_made_where_one_is(path: Path, create: Make) -> None:
    store = create()
    edge = commit_rows(store, [3])
    store.close()
    with pytest.raises(StorageError, match="holds a database already"):
        LmdbStore.create(path, ORIGIN, LOG_VKEY)
    with opened(path) as store:
        assert store.load() == note(edge)


def test_a_creation_that_was_cut_off_can_be_finished(path: Path) -> None:
    path.mkdir()
    lmdb.open(str(path), max_dbs=6, lib_version=0).close()  # made by LMDB, with nothing of ours in it
    with pytest.raises(StorageError, match="creation broke off"):
        LmdbStore.open(path, ORIGIN, LOG_VKEY)
    LmdbStore.create(path, ORIGIN, LOG_VKEY).close()
    with opened(path) as store:
        assert store.load() is None


def test_a_store_of_a_format_to_come_is_refused(path: Path, create: Make) -> None:
    create().close()
    change(path, lambda transaction, table: transaction.put(b"format", b"tlog-store/2", db=table(b"meta")))
    with pytest.raises(StorageError, match=r"tlog-store/2.*use the release that wrote it"):
        LmdbStore.open(path, ORIGIN, LOG_VKEY)


def test_a_database_that_is_no_log_is_refused_and_left_alone(path: Path) -> None:
    path.mkdir()
    with (
        lmdb.open(str(path), max_dbs=6, lib_version=0) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.put(b"meta", b"somebody else's")
    for make in (LmdbStore.open, LmdbStore.create):
        with pytest.raises(StorageError, match=r"not a log's|holds a database already"):
            make(path, ORIGIN, LOG_VKEY)
    with lmdb.open(str(path), max_dbs=6, lib_version=0) as environment, environment.begin() as transaction:
        assert dict(transaction.cursor()) == {b"meta": b"somebody else's"}


def test_a_directory_without_a_log_is_refused_and_not_littered(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("not a directory")
    for name in ("missing", "empty", "file"):
        for read_only in (False, True):
            with pytest.raises(NotFoundError):
                LmdbStore.open(tmp_path / name, ORIGIN, LOG_VKEY, read_only=read_only)
    assert sorted(found.name for found in tmp_path.rglob("*")) == ["empty", "file"]


def test_a_store_cannot_be_made_without_a_parent_directory_or_on_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    for path in (tmp_path / "a" / "b", tmp_path / "file", tmp_path / "file" / "a"):
        with pytest.raises(StorageError, match="cannot make the directory"):
            LmdbStore.create(path, ORIGIN, LOG_VKEY)


def test_a_directory_that_cannot_be_looked_for_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="File name too long"):
        LmdbStore.open(tmp_path / ("x" * 5_000), ORIGIN, LOG_VKEY)
    with ordinary_user() as directory:
        (directory / "closed").mkdir()
        (directory / "closed").chmod(0)
        with pytest.raises(StorageError, match="Permission denied"):
            LmdbStore.open(directory / "closed" / "log", ORIGIN, LOG_VKEY)


def test_nobody_else_may_read_the_files(path: Path, create: Make) -> None:
    create()
    assert {found.name: found.stat().st_mode & 0o777 for found in [path, *path.iterdir()]} == {
        "log": 0o700,
        "data.mdb": 0o600,
        "lock.mdb": 0o600,
        "writer.lock": 0o600,
    }


@contextmanager
def ordinary_user() -> Iterator[Path]:
    """Give up root's rights for a while, which pay no heed to modes; yields a directory of one's own."""
    directory = Path(tempfile.mkdtemp())
    root = os.geteuid() == 0
    if root:
        os.chown(directory, 65534, 65534)
        os.seteuid(65534)
    try:
        yield directory
    finally:
        if root:
            os.seteuid(0)
        for made in [directory, *directory.rglob("*")]:
            made.chmod(0o700)
        shutil.rmtree(directory)


def test_a_directory_without_write_permission_is_told() -> None:
    with ordinary_user() as directory:
        LmdbStore.create(directory / "log", ORIGIN, LOG_VKEY).close()
        (directory / "log" / "writer.lock").unlink()
        (directory / "log").chmod(0o500)
        with pytest.raises(StorageError, match="must be writable"):
            LmdbStore.open(directory / "log", ORIGIN, LOG_VKEY)
        directory.chmod(0o500)
        with pytest.raises(StorageError, match="cannot make the directory"):
            LmdbStore.create(directory / "other", ORIGIN, LOG_VKEY)


def test_files_without_permission_are_told() -> None:
    with ordinary_user() as directory:
        LmdbStore.create(directory / "log", ORIGIN, LOG_VKEY).close()
        (directory / "log" / "data.mdb").chmod(0o400)
        with pytest.raises(StorageError, match="read and write"):
            LmdbStore.open(directory / "log", ORIGIN, LOG_VKEY)
        with opened(directory / "log", read_only=True) as store:
            assert store.load() is None
        (directory / "log" / "data.mdb").chmod(0)
        for read_only in (False, True):
            with pytest.raises(StorageError, match="cannot read"):
                LmdbStore.open(directory / "log", ORIGIN, LOG_VKEY, read_only=read_only)


# ----- LMDB's settings


def test_durability_is_on_and_the_format_is_pinned(path: Path, create: Make) -> None:
    environment = create()._environment._environment
    flags = environment.flags()
    assert flags["sync"] and flags["metasync"] and flags["lock"]
    assert not flags["writemap"] and not flags["map_async"]
    assert environment.max_readers() == 1024
    assert environment.lib_version()[:2] == (0, 9)
    assert (path / "data.mdb").read_bytes()[16:24] == (0xBEEFC0DE).to_bytes(4, "little") + b"\x01\0\0\0"


def test_the_format_does_not_depend_on_the_environment(path: Path) -> None:
    script = f"""
from _support.stored_rows import LOG_VKEY, ORIGIN, commit_rows
from tlog.storage.lmdb_store import LmdbStore
commit_rows(LmdbStore.create({str(path)!r}, ORIGIN, LOG_VKEY), [5])
"""
    child.run(script, environ={"LMDB_DEFAULT_LIB_VERSION": "1"})
    with opened(path) as store:
        assert size_of(store.load()) == 5


@pytest.mark.parametrize("size", [0, -1, 2**46 + 1, 2**63, True, 1.5, "1 GiB", None])
def test_a_map_size_that_cannot_be_meant_is_refused(path: Path, create: Make, size: Any) -> None:
    with pytest.raises(ConfigError, match="map size"):
        create(map_size_bytes=size)
    assert not path.exists()
    create().close()
    with pytest.raises(ConfigError, match="map size"):
        LmdbStore.open(path, ORIGIN, LOG_VKEY, map_size_bytes=size)


def test_a_map_size_below_the_data_is_raised_to_it(path: Path, create: Make) -> None:
    store = create(map_size_bytes=2**20)
    edge = commit_rows(store, [1500])
    store.close()
    assert (path / "data.mdb").stat().st_size > 2**21
    with opened(path, map_size_bytes=1) as store:
        assert mapped_bytes(store) >= (path / "data.mdb").stat().st_size
        edge = commit_rows(store, [700], edge=edge)
        assert contents_of(store) == expected_contents(2200, committed=note(edge), published=note(edge))


def test_the_map_grows_within_one_commit_and_over_many(path: Path, create: Make) -> None:
    store = create(map_size_bytes=1)
    assert mapped_bytes(store) == 2**20
    edge = commit_rows(store, [2000])
    assert mapped_bytes(store) >= 2**22
    edge = commit_rows(store, [100] * 10, edge=edge)
    assert contents_of(store) == expected_contents(3000, committed=note(edge), published=note(edge))


def test_readers_in_many_threads_outlive_the_growth_of_the_map(create: Make) -> None:
    store = create(map_size_bytes=2**20)
    edge = commit_rows(store, [2])
    stop = False

    def read(seed: int) -> int:
        rng = random.Random(seed)
        for reads in itertools.count():
            if stop and reads:
                return reads
            with store.reader() as reader:
                size = reader.tree_size
                index = rng.randrange(size)
                assert reader.read_entry(index) == entry(index)
                assert reader.find_leaf_index(identity(index)) == index
                assert note(TreeEdge.load(size, reader.read_tile)) == reader.committed()
        raise AssertionError

    with ThreadPoolExecutor(8) as pool:
        readers = [pool.submit(read, seed) for seed in range(8)]
        try:
            while mapped_bytes(store) < 2**23:
                edge = commit_rows(store, [random.Random(edge.tree_size).choice([1, 300])], edge=edge)
        finally:
            stop = True
        for reader in readers:
            assert reader.result(timeout=60) > 0


def test_growth_waits_for_an_open_reader_and_then_goes_on(
    create: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmdb_environment, "_UNDO_PATIENCE_S", 0.1)
    store = create(map_size_bytes=2**20)
    commit_rows(store, [2])
    with ThreadPoolExecutor(1) as pool:
        with store.reader() as reader:
            commit = pool.submit(commit_rows, store, [1000])
            with pytest.raises(TimeoutError):
                commit.result(timeout=0.5)  # longer than undoing a transaction waits
            assert reader.read_entries(0, 2) == [entry(0), entry(1)]
        assert commit.result(timeout=60).tree_size == 1002


def test_as_many_readers_as_there_are_slots_may_be_open(create: Make) -> None:
    store = create()
    commit_rows(store, [2])
    with ExitStack() as stack:
        readers = [stack.enter_context(store.reader()) for _ in range(1024)]
        assert {reader.tree_size for reader in readers} == {2}
        with pytest.raises(StorageError, match="more than 1024 readers"):
            stack.enter_context(store.reader())
    assert store.load() is not None


# ----- one process writes, others read


WRITER = """
import sys
from _support.stored_rows import LOG_VKEY, ORIGIN, commit_rows, load_edge
from tlog.storage.lmdb_store import LmdbStore
store = LmdbStore.open(sys.stdin.readline().strip(), ORIGIN, LOG_VKEY)
edge = load_edge(store)
print(edge.tree_size, flush=True)
for count in map(int, sys.stdin):
    edge = commit_rows(store, [count], edge=edge)
    print(edge.tree_size, flush=True)
"""

READER = """
import sys
from _support.stored_rows import LOG_VKEY, ORIGIN, contents_of, expected_contents, note, load_edge
from tlog.storage.lmdb_store import LmdbStore
store = LmdbStore.open(sys.stdin.readline().strip(), ORIGIN, LOG_VKEY, map_size_bytes=1, read_only=True)
print("open", flush=True)
held = []
for line in sys.stdin:
    if line.startswith("hold"):
        held += [store.reader() for _ in range(int(line.split()[1]))]
        print({reader.__enter__().tree_size for reader in held}.pop(), flush=True)
        continue
    checkpoint = note(load_edge(store))
    found = contents_of(store)
    assert found == expected_contents(found["size"], committed=checkpoint, published=checkpoint)
    print(found["size"], flush=True)
"""


def test_a_second_writer_is_refused_and_told_who_the_first_one_is(path: Path, create: Make) -> None:
    create().close()
    with child.start(WRITER) as first:
        child.write_line(first, str(path))
        assert child.read_line(first) == "0"
        for make in (LmdbStore.open, LmdbStore.create):
            with pytest.raises(StoreInUseError, match=rf"{path} is in use: process {first.pid} writes to it"):
                make(path, ORIGIN, LOG_VKEY)
        child.write_line(first, "3")
        assert child.read_line(first) == "3"
        with opened(path, read_only=True) as store:
            assert size_of(store.load()) == 3
        first.kill()
        first.wait(timeout=30)
    with opened(path) as store:
        assert size_of(store.load()) == 3


def test_a_store_is_opened_once_in_a_process(path: Path, create: Make) -> None:
    store = create()
    commit_rows(store, [3])
    with pytest.raises(StoreInUseError, match="this process writes to it"):
        LmdbStore.open(path, ORIGIN, LOG_VKEY)
    with pytest.raises(StoreInUseError, match="open in this process already"):
        LmdbStore.open(path, ORIGIN, LOG_VKEY, read_only=True)
    commit_rows(store, [3])  # the first one is none the worse for it
    store.close()
    with opened(path, read_only=True), pytest.raises(StoreInUseError, match="open in this process already"):
        LmdbStore.open(path, ORIGIN, LOG_VKEY)
    with opened(path) as store:
        assert size_of(store.load()) == 6


def test_a_read_only_store_does_not_write(path: Path, create: Make) -> None:
    store = create()
    edge = commit_rows(store, [3])
    store.close()
    grown, batch = batch_of(edge, 1)
    with opened(path, read_only=True) as store:
        with pytest.raises(StorageError, match="read-only"):
            store.commit(batch, expected=note(edge), new=note(grown), publish=True)
        with pytest.raises(StorageError, match="read-only"):
            store.publish(note(edge))
        assert store.load() == note(edge)


def test_another_process_reads_on_while_the_map_grows(path: Path, create: Make) -> None:
    store = create(map_size_bytes=2**20)
    edge = commit_rows(store, [3])
    with child.start(READER) as reader:
        try:
            child.write_line(reader, str(path))
            assert child.read_line(reader) == "open"
            for count in (1, 600, 10, 1200):
                edge = commit_rows(store, [count], edge=edge)
                child.write_line(reader)
                assert child.read_line(reader) == str(edge.tree_size)
        finally:
            reader.kill()


def test_readers_that_died_are_cleared_when_a_store_is_opened(path: Path, create: Make) -> None:
    create().close()
    with child.start(READER) as alive, child.start(READER) as dead:
        try:
            for process in (alive, dead):
                child.write_line(process, str(path))
                assert child.read_line(process) == "open"
                child.write_line(process, "hold 1")
                assert child.read_line(process) == "0"
            dead.kill()
            dead.wait(timeout=30)
            # The one alive keeps the lock file from being made anew, so that only a check clears the other.
            with opened(path) as store:
                listed = store._environment._environment.readers()
                assert str(alive.pid) in listed
                assert str(dead.pid) not in listed
        finally:
            alive.kill()
            dead.kill()


def test_the_slots_of_readers_that_died_are_taken_back_when_they_are_needed(path: Path, create: Make) -> None:
    store = create()
    commit_rows(store, [3])
    with child.start(READER) as dying:
        child.write_line(dying, str(path))
        assert child.read_line(dying) == "open"
        child.write_line(dying, "hold 1024")
        assert child.read_line(dying) == "3"
        with pytest.raises(StorageError, match="more than 1024 readers"):
            store.load()
        dying.kill()
        dying.wait(timeout=30)
    assert size_of(store.load()) == 3


def die_with_a_reader_open(path: Path, tree_size: int) -> int:
    """Leave a killed process's reader behind, and return its process id."""
    with child.start(READER) as dying:
        child.write_line(dying, str(path))
        assert child.read_line(dying) == "open"
        child.write_line(dying, "hold 1")
        assert child.read_line(dying) == str(tree_size)
        dying.kill()
        dying.wait(timeout=30)
    return dying.pid


def test_the_map_does_not_grow_for_the_sake_of_a_reader_that_died(path: Path, create: Make) -> None:
    store = create(map_size_bytes=2**20)
    checkpoint = note(commit_rows(store, [3]))
    dead = die_with_a_reader_open(path, 3)
    for _ in range(300):  # each takes new pages for as long as the reader counts
        store.publish(checkpoint)
    assert mapped_bytes(store) == 2**20
    assert str(dead) not in store._environment._environment.readers()


def test_readers_that_died_are_cleared_every_so_many_commits(
    path: Path, create: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmdb_environment, "_COMMITS_PER_READER_CHECK", 50)
    store = create()
    checkpoint = note(commit_rows(store, [3]))
    dead = die_with_a_reader_open(path, 3)
    for _ in range(50):
        store.publish(checkpoint)
    assert str(dead) not in store._environment._environment.readers()
    size = (path / "data.mdb").stat().st_size
    for _ in range(150):
        store.publish(checkpoint)
    assert (path / "data.mdb").stat().st_size <= size + 2**14


def test_a_store_is_not_used_across_a_fork(path: Path) -> None:
    script = f"""
import os
from _support.stored_rows import *
from tlog.errors import StorageError
from tlog.storage.lmdb_store import LmdbStore
store = LmdbStore.create({str(path)!r}, ORIGIN, LOG_VKEY)
edge = commit_rows(store, [3])
grown, batch = batch_of(edge, 1)
child = os.fork()
if child == 0:
    refused = 0
    for use in (store.load, lambda: store.reader().__enter__(), lambda: store.publish(b"x"),
                lambda: store.commit(batch, expected=note(edge), new=note(grown), publish=True)):
        try:
            use()
        except StorageError as error:
            assert f"opened by process {{os.getppid()}}" in str(error), error
            refused += 1
    store.close()  # lets go of it, and leaves the parent's alone
    os._exit(refused)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 4
commit_rows(store, [5], edge=edge)
try:
    LmdbStore.open({str(path)!r}, ORIGIN, LOG_VKEY)
except StorageError as error:
    print(error)
print(contents_of(store)["size"])
"""
    out = child.run(script)
    assert "is in use: this process writes to it" in out
    assert out.endswith("8\n")


def test_a_forked_child_does_not_hold_the_lock_of_a_killed_parent(path: Path) -> None:
    script = f"""
import os, sys, time
from _support.stored_rows import *
from tlog.storage.lmdb_store import LmdbStore
store = LmdbStore.create({str(path)!r}, ORIGIN, LOG_VKEY)
commit_rows(store, [3])
if os.fork() == 0:
    print(os.getpid(), flush=True)
time.sleep(60)
"""
    with child.start(script) as parent:
        orphan = int(child.read_line(parent))
        try:
            parent.kill()
            parent.wait(timeout=30)
            with opened(path) as store:
                assert size_of(store.load()) == 3
        finally:
            os.kill(orphan, signal.SIGKILL)


# ----- crashes and failures


def test_a_writer_killed_at_any_moment_leaves_whole_commits_and_all_that_it_acknowledged(
    path: Path, create: Make
) -> None:
    store = create(map_size_bytes=2**20)
    commit_rows(store, [1])
    store.close()
    rng = random.Random(11)
    script = WRITER.replace(
        "for count in map(int, sys.stdin):", "while count := int(edge.tree_size) % 37 + 1:"
    )
    grew = 0
    size = 1
    for _ in range(10):
        with child.start(script) as writer:
            child.write_line(writer, str(path))
            assert child.read_line(writer) == str(size)
            time.sleep(rng.random() * 0.1)
            writer.kill()
            out, _ = writer.communicate(timeout=30)
        lines = out.split("\n")
        acknowledged = (
            int(lines[-2]) if len(lines) > 1 else size
        )  # what comes after the last newline was cut off
        with opened(path) as store:
            edge = load_edge(store)
            assert store.load() == note(edge)
            assert acknowledged <= edge.tree_size
        grew += edge.tree_size > size
        size = edge.tree_size
    assert grew > 3
    with opened(path) as store:
        edge = commit_rows(store, [10], edge=edge)
        assert contents_of(store) == expected_contents(size + 10, committed=note(edge), published=note(edge))


def data_file_descriptors(path: Path) -> dict[bool, int]:
    """LMDB's two descriptors of the data file: True for the one of the meta pages (O_DSYNC)."""
    found = {}
    for link in Path("/proc/self/fd").iterdir():
        # The listing's own descriptor is gone by now.
        if link.is_symlink() and link.readlink() == path / "data.mdb":
            flags = int(Path(f"/proc/self/fdinfo/{link.name}").read_text().split()[3], 8)
            found[bool(flags & os.O_DSYNC)] = int(link.name)
    return found


@contextmanager
def unwritable(descriptor: int) -> Iterator[None]:
    """Make every write to a descriptor fail."""
    kept = os.dup(descriptor)
    read_only = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
    os.dup2(read_only, descriptor, inheritable=False)
    os.close(read_only)
    try:
        yield
    finally:
        os.dup2(kept, descriptor, inheritable=False)
        os.close(kept)


def test_a_commit_whose_pages_cannot_be_written_has_failed_for_sure(path: Path, create: Make) -> None:
    store = create()
    edge = commit_rows(store, [300])
    before = contents_of(store)
    grown, batch = batch_of(edge, 10)
    with unwritable(data_file_descriptors(path)[False]):
        for _ in range(3):
            with pytest.raises(StorageError, match="nothing was committed") as caught:
                store.commit(batch, expected=note(edge), new=note(grown), publish=True)
            assert not isinstance(caught.value, StateUnknownError)
            assert contents_of(store) == before
    store.commit(batch, expected=note(edge), new=note(grown), publish=True)
    assert contents_of(store) == expected_contents(310, committed=note(grown), published=note(grown))


def test_after_a_commit_of_unknown_outcome_nothing_is_committed_before_reopening(
    path: Path, create: Make
) -> None:
    store = create()
    edge = commit_rows(store, [300])
    grown, batch = batch_of(edge, 10)
    with (
        unwritable(data_file_descriptors(path)[True]),
        pytest.raises(StateUnknownError, match="nobody can say"),
    ):
        store.commit(batch, expected=note(edge), new=note(grown), publish=True)
    # The disk is well again, and still nothing goes: what is on it is not known.
    for attempt in (edge, grown):
        with pytest.raises(StateUnknownError):
            store.commit(batch, expected=note(attempt), new=note(grown), publish=True)
        with pytest.raises(StateUnknownError):
            store.publish(note(attempt))
    with pytest.raises(StorageError):
        store.load()
    store.close()
    with opened(path) as store:
        edge = load_edge(store)
        assert edge.tree_size in (300, 310)
        assert store.load() == note(edge)
        edge = commit_rows(store, [10], edge=edge)
        assert contents_of(store)["size"] == edge.tree_size


class CommitThatReportsFailure:
    """An LMDB environment whose commits succeed and then say that they did not."""

    def __init__(self, environment: lmdb.Environment) -> None:
        self.environment = environment

    def __getattr__(self, name: str) -> Any:
        return getattr(self.environment, name)

    def begin(self, write: bool = False, **options: Any) -> Any:
        transaction = self.environment.begin(write=write, **options)
        return FailingTransaction(transaction) if write else transaction


class FailingTransaction:
    def __init__(self, transaction: Any) -> None:
        self.transaction = transaction

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transaction, name)

    def commit(self) -> None:
        self.transaction.commit()
        raise lmdb.DiskError("the disk says no, and means yes")


def test_a_commit_that_went_through_in_spite_of_an_error_is_of_unknown_outcome(
    path: Path, create: Make
) -> None:
    store = create()
    edge = commit_rows(store, [5])
    grown, batch = batch_of(edge, 1)
    real = store._environment._environment
    store._environment._environment = CommitThatReportsFailure(real)  # type: ignore[assignment]
    with pytest.raises(StateUnknownError, match="says no"):
        store.commit(batch, expected=note(edge), new=note(grown), publish=True)
    store._environment._environment = real
    later, batch = batch_of(grown, 1)
    with pytest.raises(StateUnknownError, match="says no"):
        store.commit(batch, expected=note(grown), new=note(later), publish=True)
    store.close()
    with opened(path) as store:
        assert store.load() == note(grown)


def test_a_full_disk_loses_nothing_and_can_be_mended(path: Path) -> None:
    """The limit on a file's size stands in for the disk's: LMDB sees the same failed write."""
    script = f"""
import resource, signal
from _support.stored_rows import *
from tlog.errors import StateUnknownError, StorageError
from tlog.storage.lmdb_store import LmdbStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = LmdbStore.create({str(path)!r}, ORIGIN, LOG_VKEY, map_size_bytes=2**20)
edge = commit_rows(store, [50])
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**21, hard))
try:
    while True:
        edge = commit_rows(store, [20], edge=edge)
except StateUnknownError:
    raise
except StorageError as error:
    print(error)
before = contents_of(store)
assert before == expected_contents(edge.tree_size, committed=note(edge), published=note(edge))
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
edge = commit_rows(store, [1000], edge=edge)
assert contents_of(store)["size"] == edge.tree_size
"""
    assert "nothing was committed" in child.run(script)


def test_a_map_that_cannot_grow_ends_the_store_for_good_and_says_so(path: Path) -> None:
    script = f"""
import resource
from pathlib import Path
from _support.stored_rows import *
from tlog.errors import StateUnknownError
from tlog.storage import lmdb_environment
from tlog.storage.lmdb_store import LmdbStore
# Between this look and the attempt, somebody else takes the room.
lmdb_environment.require_address_space = lambda more_bytes: None
store = LmdbStore.create({str(path)!r}, ORIGIN, LOG_VKEY, map_size_bytes=2**20)
edge = commit_rows(store, [50])
pages = int(Path("/proc/self/statm").read_text().split()[0])
_, hard = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**23, hard))
said = []
try:
    while True:
        edge = commit_rows(store, [20], edge=edge)
except StateUnknownError as error:
    said.append(str(error))
resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
for use in (store.load, lambda: store.reader().__enter__(), lambda: store.publish(note(edge))):
    try:
        use()
    except StateUnknownError as error:
        said.append(str(error))
store.close()
assert len(said) == 4 and len(set(said)) == 1, said
print(said[0])
print(edge.tree_size)
"""
    said, size = child.run(script).splitlines()
    assert "could not be mapped anew" in said
    with opened(path) as store:
        edge = load_edge(store)
        assert edge.tree_size == int(size)
        commit_rows(store, [100], edge=edge)


class RecordedCalls:
    """An LMDB environment that tells what it was asked, and whose sync can be made to fail."""

    def __init__(self, environment: lmdb.Environment, calls: list[str], *, is_failing: bool) -> None:
        self.environment, self.calls, self.is_failing = environment, calls, is_failing

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        return getattr(self.environment, name)

    def sync(self, force: bool = False) -> None:
        self.calls.append(f"sync({force})")
        if self.is_failing:
            raise lmdb.DiskError("the disk says no")
        self.environment.sync(force)


def test_what_the_page_cache_holds_is_synced_before_anything_is_read_from_it(
    path: Path, create: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = create()
    edge = commit_rows(store, [3])
    store.close()
    real = lmdb_environment._open
    calls: list[str] = []
    is_failing = False
    monkeypatch.setattr(
        lmdb_environment,
        "_open",
        lambda *args, **kw: RecordedCalls(real(*args, **kw), calls, is_failing=is_failing),
    )
    with opened(path) as store:
        assert store.load() == note(edge)
    assert calls[0] == "sync(True)"
    assert "begin" in calls
    is_failing = True
    with pytest.raises(StorageError, match="says no"):
        LmdbStore.open(path, ORIGIN, LOG_VKEY)
    calls.clear()
    with opened(path, read_only=True) as store:  # which may not sync, and builds upon nothing
        assert store.load() == note(edge)
    assert "sync(True)" not in calls
    is_failing = False
    with opened(path) as store:
        assert store.load() == note(edge)


# ----- damage


def change(path: Path, edit: Callable[[Any, Callable[[bytes], Any]], object]) -> None:
    """Change rows behind the store's back."""
    with lmdb.open(str(path), max_dbs=6, lib_version=0, map_size=2**30) as environment:
        names = (b"entries", b"tiles", b"identities", b"business_keys", b"governance", b"meta")
        tables = {name: environment.open_db(name, create=False) for name in names}
        with environment.begin(write=True) as transaction:
            edit(transaction, tables.__getitem__)


def number(value: int) -> bytes:
    return value.to_bytes(8, "big")


DAMAGES: dict[str, tuple[Callable[[Any, Any], object], Callable[[Any], object]]] = {
    "a tile is missing": (
        lambda t, table: t.delete(b"\0" + number(1), db=table(b"tiles")),
        lambda reader: reader.read_node(3, 33),
    ),
    "a tile is cut off": (
        lambda t, table: t.put(b"\0" + number(0), bytes(509 * 32), db=table(b"tiles")),
        lambda reader: reader.read_tile(0, 0),
    ),
    "a tile is older than the commit": (
        lambda t, table: t.put(b"\0" + number(1), bytes(32 * (43 + 21 + 10 + 5 + 2 + 1)), db=table(b"tiles")),
        lambda reader: reader.read_node(0, 256),
    ),
    "the first entry is missing": (
        lambda t, table: t.delete(number(0), db=table(b"entries")),
        lambda reader: reader.read_entries(0, 3),
    ),
    "an entry is missing": (
        lambda t, table: t.delete(number(100), db=table(b"entries")),
        lambda reader: reader.read_entries(99, 102),
    ),
    "the last entry is missing": (
        lambda t, table: t.delete(number(299), db=table(b"entries")),
        lambda reader: reader.read_entry(299),
    ),
    "an identity leads beyond the tree": (
        lambda t, table: t.put(identity(5), number(300), db=table(b"identities")),
        lambda reader: reader.find_leaf_index(identity(5)),
    ),
    "an identity leads to no number": (
        lambda t, table: t.put(identity(5), b"5", db=table(b"identities")),
        lambda reader: reader.find_leaf_index(identity(5)),
    ),
    "a business key leads beyond the tree": (
        lambda t, table: t.put(shared_key(1) + number(300), b"", db=table(b"business_keys")),
        lambda reader: reader.find_business_key(shared_key(1), 0, 1000),
    ),
    "a governance index lies beyond the tree": (
        lambda t, table: t.put(number(2**40), b"", db=table(b"governance")),
        lambda reader: reader.governance_indices(),
    ),
    "the last governance row is missing": (
        lambda t, table: t.delete(number(294), db=table(b"governance")),
        lambda reader: reader.governance_indices(),
    ),
    "a governance row is missing": (
        lambda t, table: t.delete(number(7), db=table(b"governance")),
        lambda reader: reader.governance_indices(),
    ),
    "the last governance row is of another entry": (
        lambda t, table: (
            t.delete(number(294), db=table(b"governance")),
            t.put(number(293), b"", db=table(b"governance")),
        ),
        lambda reader: reader.governance_indices(),
    ),
    "the last governance entry is another one": (
        lambda t, table: t.put(number(294), entry(293), db=table(b"entries")),
        lambda reader: reader.governance_indices(),
    ),
    "the last governance entry is missing": (
        lambda t, table: t.delete(number(294), db=table(b"entries")),
        lambda reader: reader.governance_indices(),
    ),
    "all governance rows are missing": (
        lambda t, table: t.drop(table(b"governance"), delete=False),
        lambda reader: reader.governance_indices(),
    ),
    "the governance head is missing": (
        lambda t, table: t.delete(b"governance_head", db=table(b"meta")),
        lambda reader: reader.governance_indices(),
    ),
    "the governance head is cut off": (
        lambda t, table: t.put(b"governance_head", bytes(47), db=table(b"meta")),
        lambda reader: reader.governance_indices(),
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_rows_are_told_and_never_handed_out(path: Path, create: Make, damage: str) -> None:
    store = create()
    commit_rows(store, [300])
    store.close()
    edit, read = DAMAGES[damage]
    change(path, edit)
    with opened(path) as store, store.reader() as reader, pytest.raises(CorruptionError, match="restore"):
        read(reader)


@pytest.mark.parametrize("size", [b"", b"\0" * 7, None])
def test_a_damaged_size_is_told(path: Path, create: Make, size: bytes | None) -> None:
    store = create()
    edge = commit_rows(store, [3])
    store.close()

    def edit(transaction: Any, table: Any) -> None:
        transaction.delete(b"committed_size", db=table(b"meta"))
        if size is not None:
            transaction.put(b"committed_size", size, db=table(b"meta"))

    change(path, edit)
    grown, batch = batch_of(edge, 1)
    with opened(path) as store:
        with pytest.raises(CorruptionError):
            store.load()
        with pytest.raises(CorruptionError):
            store.commit(batch, expected=note(edge), new=note(grown), publish=True)


def test_rows_beyond_the_committed_size_are_not_built_upon(path: Path, create: Make) -> None:
    store = create()
    edge = commit_rows(store, [3])
    store.close()
    change(path, lambda t, table: t.put(number(10), b"not committed", db=table(b"entries")))
    grown, batch = batch_of(edge, 2)
    with opened(path) as store:
        with pytest.raises(CorruptionError, match="beyond its committed size"):
            store.commit(batch, expected=note(edge), new=note(grown), publish=True)
        assert store.load() == note(edge)


def test_a_cut_off_or_overwritten_data_file_is_told_and_never_mapped(path: Path, create: Make) -> None:
    store = create()
    commit_rows(store, [300])
    store.close()
    data = (path / "data.mdb").read_bytes()
    damaged = [b"", data[:100], data[:4096], data[: len(data) // 2], data[:-1], bytes(len(data)), data[5:]]
    for bad in damaged:
        (path / "data.mdb").write_bytes(bad)
        for read_only in (False, True):
            with pytest.raises(CorruptionError):
                LmdbStore.open(path, ORIGIN, LOG_VKEY, read_only=read_only)
    (path / "data.mdb").write_bytes(data)
    with opened(path) as store:
        assert size_of(store.load()) == 300


def test_a_page_of_zeros_is_told_at_the_first_read_of_all(path: Path, create: Make) -> None:
    store = create()
    commit_rows(store, [300])
    store.close()
    with open_data_file(path) as file:
        row = file.get("meta", b"format")
        assert row is not None
    with (path / "data.mdb").open("r+b") as raw:
        raw.seek(row.start - row.start % 4096)
        raw.write(bytes(4096))
    for read_only in (True, False):
        with pytest.raises(CorruptionError, match="damaged"):
            LmdbStore.open(path, ORIGIN, LOG_VKEY, read_only=read_only)


def test_a_garbage_lock_file_is_made_anew(path: Path, create: Make) -> None:
    store = create()
    commit_rows(store, [3])
    store.close()
    (path / "lock.mdb").write_bytes(random.Random(1).randbytes(8192))
    (path / "writer.lock").write_bytes(b"\xff garbage")
    with opened(path) as store:
        assert size_of(store.load()) == 3
        commit_rows(store, [3])
