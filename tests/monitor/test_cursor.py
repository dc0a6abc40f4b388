"""The cursor: what it kept is what it finds, or it says so."""

from __future__ import annotations

import pytest
from _support.monitor_rig import Rig, show
from _support.naive_merkle import NaiveTree

from tlog.errors import ConfigError, CorruptionError, NotFoundError, StoreInUseError
from tlog.merkle import compact_range_nodes, verify_consistency, verify_inclusion
from tlog.merkle import leaf_hash as hash_leaf
from tlog.monitor.cursor import HASHES_NAME, Cursor
from tlog.monitor.prefix_tree import PrefixTree, root_at
from tlog.storage.lmdb_store import LmdbStore


def test_every_proof_from_a_checked_prefix_verifies_under_the_whole_tree() -> None:
    entries = [b"%d" % number for number in range(20)]
    tree = NaiveTree(entries)

    def read_node(level: int, index: int) -> bytes:
        start, end = index << level, (index + 1) << level
        assert end <= checked, "a node was read that was not checked"
        return tree.mth(start, end)

    for size in range(1, 20):
        root = tree.mth(0, size)
        for checked in range(size + 1):
            right = tuple(
                tree.mth(index << level, (index + 1) << level)
                for level, index in compact_range_nodes(checked, size)
            )
            prefix = PrefixTree(read_node, checked, size, right)
            assert root_at(read_node, checked) == tree.mth(0, checked)
            for index in range(checked):
                proof = prefix.prove_inclusion(index)
                verify_inclusion(hash_leaf(entries[index]), index, size, proof, root)
            for smaller in range(1, checked + 1):
                path = prefix.prove_consistency(smaller)
                verify_consistency(smaller, size, path, tree.mth(0, smaller), root)


def test_a_cursor_is_bound_to_its_log_and_to_one_monitor(rig: Rig) -> None:
    rig.run(rig.log(rig.alliance.entries(0, 10)))
    with pytest.raises(ConfigError, match="another"):
        Cursor.open(rig.directory, "log.example/another", keeps_entries=False)
    with pytest.raises(ConfigError, match="without its entries"):
        Cursor.open(rig.directory, rig.alliance.origin, keeps_entries=True)
    with pytest.raises(NotFoundError):
        Cursor.open(rig.directory / "elsewhere", rig.alliance.origin, keeps_entries=True)
    with rig.monitor(rig.log()), pytest.raises(StoreInUseError):
        Cursor.open(rig.directory, rig.alliance.origin, keeps_entries=False)


def test_a_record_that_does_not_fit_the_tree_is_told(rig: Rig) -> None:
    rig.run(rig.log(rig.alliance.entries(0, 10)))
    store = LmdbStore.open(rig.directory / HASHES_NAME, rig.alliance.origin, "tlog-monitor")
    meta = store._environment.tables[b"meta"]
    record = store.load()
    assert record is not None
    changed = record.replace(record[-60:-50], b"0123456789")
    store._environment.write(lambda transaction: transaction.put(b"committed", changed, db=meta))
    store.close()
    with pytest.raises(CorruptionError, match="record"):
        Cursor.open(rig.directory, rig.alliance.origin, keeps_entries=False)


def test_what_was_not_flushed_is_checked_again_and_told_once(rig: Rig) -> None:
    log = rig.log([*rig.alliance.entries(0, 30), b"wrong", *rig.alliance.entries(30, 60)])
    log.run_entries = 10
    with rig.monitor(log) as monitor:
        # As a kill would: alerts are durable, what was checked is not.
        monitor._cursor.flush = lambda: None  # type: ignore[method-assign]
        monitor._cursor.cover = lambda note: None  # type: ignore[method-assign]
        assert monitor.run_pass(show).problem is None
    assert rig.kinds() == ["rule_broken"]
    ended = rig.run(log)
    assert ended.checked == ended.position == len(rig.alliance.governance) + 61
    assert rig.kinds() == ["rule_broken"]
    assert rig.verdict(rig.alerts()[0]).convicts_log


def test_the_anchor_survives_a_kill_before_anything_under_it_was_checked(rig: Rig) -> None:
    log = rig.log(rig.alliance.entries(0, 30))
    log.runs = lambda start, under: iter(())  # type: ignore[method-assign, assignment, return-value]
    with rig.monitor(log) as monitor:
        monitor._views.see(log.checkpoint(), log)
    rig.run(rig.log(rig.alliance.entries(1, 40)))
    assert rig.kinds() == ["split_view"]
    assert rig.verdict(rig.alerts()[0]).convicts_log
