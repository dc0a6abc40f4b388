"""A log that never kept a high-water mark adopts its first one, by name; one that lost its mark does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from _support.alliance import Alliance
from _support.command_line import tlog

from server.loss_desk import LossDesk
from server.signing_guard import SigningGuard
from tlog.errors import ConfigError
from tlog.log import Log
from tlog.mark_adoption import adopt_mark
from tlog.marked_store import MarkedStore
from tlog.storage.high_water_mark import HighWaterMarkFile, Mark
from tlog.storage.lmdb_store import LmdbStore
from tlog.storage.memory import MemoryStore

ALLIANCE = Alliance()


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    made = MemoryStore(ALLIANCE.origin, ALLIANCE.signer.vkey)
    Log(made, ALLIANCE.signer).append([*ALLIANCE.governance, *ALLIANCE.entries(0, 3)])
    yield made
    made.close()


def newest(store: MemoryStore | LmdbStore) -> Mark:
    checkpoint = Log(store, ALLIANCE.signer).checkpoint().checkpoint
    return Mark(tree_size=checkpoint.tree_size, root_hash=checkpoint.root_hash)


def serve(store: MemoryStore, path: Path) -> SigningGuard:
    """Open the log as the server does, with a mark in its configuration."""
    guard = SigningGuard()
    with HighWaterMarkFile(path, ALLIANCE.origin) as mark:
        marked = MarkedStore(store, mark)
        LossDesk(Log(marked, ALLIANCE.signer, before_signing=guard.require_signing), marked, mark, guard)
    return guard


def test_a_log_goes_on_with_the_mark_that_it_adopted(store: MemoryStore, tmp_path: Path) -> None:
    assert serve(store, tmp_path / "mark").read_only is not None
    adopt_mark(store, tmp_path / "mark", newest(store))
    assert serve(store, tmp_path / "mark").read_only is None


def test_a_mark_that_was_kept_and_is_lost_is_not_adopted_anew(store: MemoryStore, tmp_path: Path) -> None:
    with HighWaterMarkFile(tmp_path / "mark", ALLIANCE.origin) as file:
        file.write(newest(store))
    # As `tlog init` leaves it: the server's first start notes that there is one.
    assert serve(store, tmp_path / "mark").read_only is None
    (tmp_path / "mark").unlink()
    for path in (tmp_path / "mark", tmp_path / "another"):
        with pytest.raises(ConfigError, match="put that file back"):
            adopt_mark(store, path, newest(store))
        assert not path.exists()


def test_a_store_that_was_made_from_a_backup_adopts_none(store: MemoryStore, tmp_path: Path) -> None:
    store.set_restored(True)
    with pytest.raises(ConfigError, match="made from a backup"):
        adopt_mark(store, tmp_path / "mark", newest(store))


def test_size_and_root_have_to_be_those_of_the_store(store: MemoryStore, tmp_path: Path) -> None:
    here = newest(store)
    for named in (
        Mark(tree_size=here.tree_size + 1, root_hash=here.root_hash),
        Mark(tree_size=here.tree_size, root_hash=b"\1" * 32),
    ):
        with pytest.raises(ConfigError, match="not the one that you know of"):
            adopt_mark(store, tmp_path / "mark", named)
    assert not (tmp_path / "mark").exists()


def test_another_mark_in_the_file_is_not_overwritten_and_what_broke_off_goes_on(
    store: MemoryStore, tmp_path: Path
) -> None:
    other = Mark(tree_size=99, root_hash=b"\2" * 32)
    with HighWaterMarkFile(tmp_path / "mark", ALLIANCE.origin) as file:
        file.write(other)
    with pytest.raises(ConfigError, match="there is a mark in"):
        adopt_mark(store, tmp_path / "mark", newest(store))
    with HighWaterMarkFile(tmp_path / "mark", ALLIANCE.origin) as file:
        assert file.mark == other
        # A run that was killed between the file and the note in the store.
        file.write(newest(store))
    adopt_mark(store, tmp_path / "mark", newest(store))
    with store.reader() as reader:
        assert reader.is_marked()


def test_the_command_adopts_a_mark_while_no_server_runs(tmp_path: Path) -> None:
    with Log.create(tmp_path / "store", ALLIANCE.signer) as log:
        log.append(ALLIANCE.governance)
        here = log.checkpoint().checkpoint
        named = ("--size", here.tree_size, "--root", here.root_hash.hex(), "--json")
        assert tlog("adopt-mark", tmp_path, tmp_path / "mark", *named).code == 3
    assert tlog("adopt-mark", tmp_path, tmp_path / "mark", *named[:2], "--root", "00" * 32).code == 2
    ended = tlog("adopt-mark", tmp_path, tmp_path / "mark", *named)
    assert (ended.code, ended.json["tree_size"]) == (0, here.tree_size)
    with HighWaterMarkFile(tmp_path / "mark", ALLIANCE.origin) as file:
        assert file.mark == Mark(tree_size=here.tree_size, root_hash=here.root_hash)
    assert "put that file back" in tlog("adopt-mark", tmp_path, tmp_path / "mark", *named).err
