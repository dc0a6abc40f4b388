"""Somebody signed as me; my membership changed; a business key that I watch."""

from __future__ import annotations

from pathlib import Path

import pytest
from _support.alliance import DECLARATION, TIME, Alliance, key
from _support.monitor_rig import Rig

from tlog.errors import ConfigError, StorageError
from tlog.governance import Restored, build_restored
from tlog.merkle import leaf_hash
from tlog.monitor.assembly import make_watches
from tlog.monitor.config import OwnSourceSection, WatchSection
from tlog.monitor.leaf_hash_file import LeafHashFile
from tlog.monitor.watches import BusinessKeyWatch, SourceWatch

START = len(Alliance().governance)
EXPORTER = Alliance.source("exporter")


def found(rig: Rig) -> list[tuple[object, object, object]]:
    return [(one["kind"], one["severity"], one["facts"]["leaf_index"]) for one in rig.alerts()]  # type: ignore[index, call-overload]


def test_an_event_under_my_source_with_a_key_that_is_not_mine_is_told(rig: Rig) -> None:
    mine = SourceWatch(source=EXPORTER, public_keys=frozenset({key("exporter").public_key}))
    other_member = rig.alliance.entry(2, member="forwarder", event_type=DECLARATION)
    rig.run(rig.log([rig.alliance.entry(1), other_member]), watches=[mine])
    # The member entry that is there from the beginning admits just the known key.
    assert found(rig) == [("membership_changed", "warning", START - 2)]
    rig.directory = rig.directory / "other"
    rig.directory.mkdir()
    other = SourceWatch(source=EXPORTER, public_keys=frozenset({key("my own").public_key}))
    rig.run(rig.log([rig.alliance.entry(1)]), watches=[other])
    assert found(rig) == [
        ("membership_changed", "critical", START - 2),
        ("signed_as_me", "critical", START),
    ]


def test_an_entry_that_is_not_on_my_list_is_told(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "own"
    entries = rig.alliance.entries(0, 3)
    file.write_text(f"{leaf_hash(entries[0]).hex()}\n")
    mine = SourceWatch(source=EXPORTER, is_ours=LeafHashFile(file))
    log = rig.log(entries[:1])
    rig.run(log, watches=[mine])
    with file.open("a") as added:
        added.write(f"{leaf_hash(entries[1]).hex()}\n{leaf_hash(entries[2]).hex()[:10]}")
    log.append(entries[1:])
    rig.run(log, watches=[mine])
    assert found(rig)[1:] == [("signed_as_me", "critical", START + 2)]


def test_without_keys_and_list_every_event_of_mine_is_worth_a_warning(rig: Rig) -> None:
    rig.run(rig.log([rig.alliance.entry(1)]), watches=[SourceWatch(source=EXPORTER)])
    assert found(rig)[1:] == [("signed_as_me", "warning", START)]


def test_a_source_that_only_begins_like_mine_is_another_one(rig: Rig) -> None:
    watch = SourceWatch(source=EXPORTER[:-1])
    rig.run(rig.log([rig.alliance.entry(1)]), watches=[watch])
    assert rig.alerts() == []


def test_a_watched_business_key_is_seen_once_however_often_it_is_read(rig: Rig) -> None:
    watch = BusinessKeyWatch(business_keys=frozenset({"invoice:7", "invoice:9"}))
    entries = [
        rig.alliance.entry(1, refs=["invoice:7", "invoice:8"]),
        rig.alliance.entry(2, refs=["invoice:77"]),
        rig.alliance.entry(3, refs=["invoice:9", "invoice:7"]),
    ]
    log = rig.log(entries)
    rig.run(log, watches=[watch])
    rig.run(log, watches=[watch])
    assert found(rig) == [
        ("business_key_seen", "notice", START),
        ("business_key_seen", "notice", START + 2),
        ("business_key_seen", "notice", START + 2),
    ]


def test_an_entry_that_breaks_a_rule_is_no_event_to_any_watch(rig: Rig) -> None:
    watch = BusinessKeyWatch(business_keys=frozenset({"invoice:7"}))
    rig.run(rig.log([rig.alliance.entry(1, signer=key("nobody"), refs=["invoice:7"])]), watches=[watch])
    assert rig.kinds() == ["rule_broken"]


def test_a_list_of_entries_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        LeafHashFile(tmp_path / "missing")
    (tmp_path / "list").write_text("not a hash\n")
    with pytest.raises(ConfigError):
        LeafHashFile(tmp_path / "list")


@pytest.mark.parametrize(
    "section",
    [
        WatchSection(business_keys=["invoice"]),
        WatchSection(business_keys=["Invoice:7"]),
        WatchSection(business_keys=["invoice:7 invoice:8"]),
        WatchSection(business_keys=["invoice:a/b"]),
        WatchSection(business_keys=["container:MSKU 123456-5"]),
        WatchSection(business_keys=["container:MSKU1234567"]),
        WatchSection(own_sources=[OwnSourceSection(source="https://bank.example/?q")]),
    ],
)
def test_a_watch_that_no_event_can_match_is_refused(section: WatchSection) -> None:
    with pytest.raises(ConfigError, match="no event can match"):
        make_watches(section)


def test_a_watched_source_may_end_in_a_slash(rig: Rig) -> None:
    watches = make_watches(WatchSection(own_sources=[OwnSourceSection(source=f"{EXPORTER}/")]))
    rig.run(rig.log([rig.alliance.entry(1)]), watches=watches)
    assert "signed_as_me" in rig.kinds()


@pytest.mark.parametrize("lost", [0, 9])
def test_a_loss_that_governance_accepted_is_told_to_everybody(rig: Rig, lost: int) -> None:
    alliance = rig.alliance
    log = rig.log([alliance.entry(1)])
    restored = Restored(
        tree_size=START + 1,
        root_hash=b"\1" * 32,
        lost_tree_size=lost,
        lost_root_hash=b"\2" * 32 if lost else None,
        reason="the disk burnt",
    )
    link = alliance.next_link()
    payload = build_restored(origin=alliance.origin, time=TIME, restored=restored, **link)  # type: ignore[arg-type]
    log.append([alliance.add_governance(payload)])
    rig.run(log, watches=make_watches(WatchSection()))
    assert found(rig) == [("loss_accepted", "critical", START + 1)]
    (alert,) = rig.alerts()
    assert "the disk burnt" in str(alert["message"])
    what = f"entries [{START + 1}, 9) of the tree" if lost else "nobody knows how many"
    assert what in str(alert["message"])
    assert "receipt" in str(alert["action"])
