"""Every kind of damage, done for real to the rows and bytes of a store, is found and named exactly."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from _support import child
from _support.alliance import Alliance, key
from _support.damaged_store import (
    LATE_MEMBER,
    SIZE,
    SoundLog,
    change_rows,
    copy_of,
    flip_bytes,
    number,
    page_of,
    row_of,
    rows_of,
    tile_key,
)
from _support.unchecked_log import UncheckedLog

from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.errors import ConfigError, CorruptionError, NotFoundError
from tlog.event import identity
from tlog.fsck.findings import Finding, Fix, Part, Report
from tlog.fsck.store_check import check_store
from tlog.log import Log
from tlog.merkle import leaf_hash
from tlog.note import sign_note
from tlog.storage.lmdb_store import LmdbStore
from tlog.validate import business_key_index


@pytest.fixture
def store(sound: SoundLog, tmp_path: Path) -> Path:
    return copy_of(sound.path, tmp_path / "store")


def check(sound: SoundLog, store: Path) -> Report:
    return check_store(store, sound.logs).report


def only(report: Report) -> Finding:
    assert report.total == 1, [finding.sentence() for finding in report.findings]
    return report.findings[0]


def bytes_named(finding: Finding) -> bytes:
    assert finding.file is not None
    assert finding.byte_range is not None
    start, end = finding.byte_range
    return Path(finding.file).read_bytes()[start:end]


def test_a_sound_store_is_sound_and_everything_was_checked(sound: SoundLog) -> None:
    report = check(sound, sound.path)
    assert report.is_sound
    assert report.unchecked == ()
    assert (report.entries, report.tiles, report.governance_entries) == (SIZE, 4, 5)
    with Log.open(sound.path, sound.alliance.signer) as log:
        assert report.root_hash == log.checkpoint().checkpoint.root_hash


@pytest.mark.parametrize("size", [0, 4, 255, 256, 257])
def test_sound_stores_of_other_sizes_are_sound(tmp_path: Path, size: int) -> None:
    alliance = Alliance()
    with Log.create(tmp_path / "store", alliance.signer) as log:
        if size:
            log.append(alliance.governance + alliance.entries(4, size))
    report = check(SoundLog(path=tmp_path, alliance=alliance), tmp_path / "store")
    assert report.is_sound
    assert report.entries == size


def test_a_store_that_was_made_and_never_started_is_sound(tmp_path: Path, sound: SoundLog) -> None:
    ((origin, vkey),) = sound.logs
    LmdbStore.create(tmp_path / "store", origin, vkey).close()
    assert check(sound, tmp_path / "store").is_sound


@pytest.mark.parametrize("index", [0, 1, 77, 255, 256, LATE_MEMBER, SIZE - 1])
def test_a_flipped_bit_in_an_entry_is_named_with_its_leaf_and_its_bytes(
    sound: SoundLog, store: Path, index: int
) -> None:
    row = row_of(store, "entries", number(index))
    flip_bytes(store, row.start + len(row.value) // 2)
    finding = only(check(sound, store))
    assert (finding.part, finding.leaf_index) == (Part.ENTRY, index)
    assert finding.copies["the tree has"] == leaf_hash(row.value).hex()
    assert finding.copies["the entry hashes to"] == leaf_hash(bytes_named(finding)).hex()
    assert finding.byte_range == (row.start, row.start + len(row.value))


def test_a_flipped_bit_in_any_entry_and_at_any_place_is_found(sound: SoundLog, store: Path) -> None:
    rng = random.Random(7)
    for index in rng.sample(range(SIZE), 6):
        row = row_of(store, "entries", number(index))
        offset, mask = row.start + rng.randrange(len(row.value)), 1 << rng.randrange(8)
        flip_bytes(store, offset, mask)
        assert only(check(sound, store)).leaf_index == index
        flip_bytes(store, offset, mask)
    assert check(sound, store).is_sound


@pytest.mark.parametrize("index", [0, 300, LATE_MEMBER, SIZE - 1])
def test_a_missing_entry_is_named(sound: SoundLog, store: Path, index: int) -> None:
    change_rows(store, "entries", [(number(index), None)])
    finding = only(check(sound, store))
    assert (finding.part, finding.leaf_index) == (Part.ENTRY, index)
    assert "is missing" in finding.message


def test_swapped_entries_are_both_named_with_where_they_belong(sound: SoundLog, store: Path) -> None:
    rows = {index: row_of(store, "entries", number(index)).value for index in (50, 500)}
    change_rows(store, "entries", [(number(50), rows[500]), (number(500), rows[50])])
    report = check(sound, store)
    assert [(finding.part, finding.leaf_index, finding.message) for finding in report.findings] == [
        (Part.ENTRY, 50, "entry 500 is stored in the place of entry 50"),
        (Part.ENTRY, 500, "entry 50 is stored in the place of entry 500"),
    ]


def test_a_row_beyond_the_last_entry_is_named(sound: SoundLog, store: Path) -> None:
    change_rows(store, "entries", [(number(SIZE), b"one too many"), (number(2**40), b"another")])
    report = check(sound, store)
    assert report.counts == {Part.ENTRY: 2}
    assert [finding.place for finding in report.findings] == [
        f"entries {number(SIZE).hex()}",
        f"entries {number(2**40).hex()}",
    ]


@pytest.mark.parametrize(("level", "index", "width"), [(0, 0, 256), (0, 2, SIZE - 512), (1, 0, 2)])
def test_a_flipped_bit_in_a_tile_is_named_with_its_bytes_also_in_an_inner_node(
    sound: SoundLog, store: Path, level: int, index: int, width: int
) -> None:
    row = row_of(store, "tiles", tile_key(level, index))
    for node in range(0, len(row.value) // 32, 1 if level else 101):
        offset = row.start + 32 * node + 5
        flip_bytes(store, offset)
        finding = only(check(sound, store))
        assert finding.part is Part.TILE
        assert finding.byte_range == (offset, offset + 1)
        assert finding.place == f"tile/{level}/{index:03d}"
        assert ("inner nodes" in finding.message) == (node >= width)
        flip_bytes(store, offset)


def test_missing_cut_off_and_stray_tiles_are_named(sound: SoundLog, store: Path) -> None:
    value = row_of(store, "tiles", tile_key(0, 1)).value
    for rows, what in (
        ([(tile_key(0, 1), None)], "is missing"),
        ([(tile_key(0, 1), value[:-32])], "has 16288 bytes instead of 16320"),
    ):
        change_rows(store, "tiles", rows)
        assert what in only(check(sound, store)).message
    change_rows(store, "tiles", [(tile_key(0, 1), value), (tile_key(0, 3), value), (b"x", b"")])
    report = check(sound, store)
    assert report.counts == {Part.TILE: 2}
    assert all("is no tile of this tree" in finding.message for finding in report.findings)


def identity_of(alliance: Alliance, index: int) -> bytes:
    return identity(alliance.source("exporter"), f"event-{index}")


def test_wrong_rows_of_the_identities_are_named(sound: SoundLog, store: Path) -> None:
    name = identity_of(sound.alliance, 77)
    change_rows(store, "identities", [(name, number(3))])
    finding = only(check(sound, store))
    assert (finding.part, finding.leaf_index) == (Part.IDENTITY, 77)
    assert "of entry 77 leads to entry 3" in finding.message
    assert bytes_named(finding) == number(3)
    change_rows(store, "identities", [(name, None)])
    finding = only(check(sound, store))
    assert (finding.part, finding.leaf_index) == (Part.IDENTITY, 77)
    assert "is not found: its row is missing" in finding.message
    change_rows(store, "identities", [(name, number(77)), (bytes(32), number(5)), (b"\xff" * 32, b"5")])
    report = check(sound, store)
    assert [(finding.part, finding.leaf_index) for finding in report.findings] == [
        (Part.IDENTITY, 5),
        (Part.IDENTITY, None),
    ]


def test_a_flipped_bit_in_a_stored_identity_is_a_missing_row_and_a_stray_one(
    sound: SoundLog, store: Path
) -> None:
    row = row_of(store, "identities", identity_of(sound.alliance, 77))
    flip_bytes(store, row.start - 1)  # the last byte of the key
    report = check(sound, store)
    assert [finding.leaf_index for finding in report.findings] == [77, 77]
    assert report.counts == {Part.IDENTITY: 2}


def test_wrong_rows_of_the_business_keys_are_named(sound: SoundLog, store: Path) -> None:
    own = business_key_index("invoice:INV-77")
    change_rows(store, "business_keys", [(own + number(77), None), (own + number(78), b"")])
    report = check(sound, store)
    assert [(finding.part, finding.leaf_index) for finding in report.findings] == [
        (Part.BUSINESS_KEY, 77),
        (Part.BUSINESS_KEY, 78),
    ]
    assert "its row is missing" in report.findings[0].message
    assert "and it has not" in report.findings[1].message


def test_a_wrong_governance_list_and_head_are_named(sound: SoundLog, store: Path) -> None:
    change_rows(store, "governance", [(number(LATE_MEMBER), None), (number(9), b"")])
    report = check(sound, store)
    assert [(finding.part, finding.leaf_index) for finding in report.findings] == [
        (Part.GOVERNANCE, LATE_MEMBER),
        (Part.GOVERNANCE, None),
    ]
    assert "names entry 9, which is no governance" in report.findings[1].message
    change_rows(store, "governance", [(number(LATE_MEMBER), b""), (number(9), None)])
    head = row_of(store, "meta", b"governance_head")
    flip_bytes(store, head.start + 30)
    finding = only(check(sound, store))
    assert (finding.part, finding.place) == (Part.GOVERNANCE, "meta governance_head")


def test_a_wrong_signature_on_the_committed_checkpoint_is_named(sound: SoundLog, store: Path) -> None:
    row = row_of(store, "meta", b"committed")
    flip_bytes(store, row.start + len(row.value) - 20, 1)
    finding = only(check(sound, store))
    assert (finding.part, finding.place) == (Part.CHECKPOINT, "meta committed")
    assert "is not signed by this log" in finding.message
    assert finding.byte_range == (row.start, row.start + len(row.value))


def test_a_wrong_signature_on_the_published_checkpoint_is_named(sound: SoundLog, store: Path) -> None:
    row = row_of(store, "meta", b"published")
    flip_bytes(store, row.start + len(row.value) - 20, 1)
    finding = only(check(sound, store))
    assert (finding.part, finding.place) == (Part.CHECKPOINT, "meta published")


@pytest.mark.parametrize("name", [b"committed", b"published"])
def test_a_flipped_bit_in_the_origin_line_of_a_checkpoint_is_named(
    sound: SoundLog, store: Path, name: bytes
) -> None:
    row = row_of(store, "meta", name)
    flip_bytes(store, row.start + 3, 1)
    flipped = row_of(store, "meta", name).value
    assert flipped != row.value
    assert len(flipped.split(b"\n")) == len(row.value.split(b"\n"))
    finding = only(check(sound, store))
    assert (finding.part, finding.place) == (Part.CHECKPOINT, f"meta {name.decode()}")


def test_without_any_valid_signature_there_is_no_root_and_that_is_said(sound: SoundLog, store: Path) -> None:
    for name in (b"committed", b"published"):
        row = row_of(store, "meta", name)
        flip_bytes(store, row.start + len(row.value) - 20, 1)
    report = check(sound, store)
    assert report.root_hash is None
    assert report.counts == {Part.CHECKPOINT: 2}


def signed(alliance: Alliance, size: int, root_hash: bytes) -> bytes:
    return sign_note(format_checkpoint(Checkpoint(alliance.origin, size, root_hash)), [alliance.signer])


def test_a_signed_root_that_entries_and_tiles_do_not_lead_to_is_named(sound: SoundLog, store: Path) -> None:
    """As after a bit that flipped before the signature: what is stored agrees, and was not signed."""
    note = signed(sound.alliance, SIZE, leaf_hash(b"another tree"))
    change_rows(store, "meta", [(b"committed", note), (b"published", note)])
    report = check(sound, store)
    assert {finding.place for finding in report.findings} == {"meta committed", "meta published"}
    assert f"neither the {SIZE} entries nor the stored tiles lead to the root" in report.findings[0].message
    assert report.findings[0].copies["signed"] == leaf_hash(b"another tree").hex()


def test_a_published_checkpoint_that_is_ahead_or_of_another_history_is_named(
    sound: SoundLog, store: Path
) -> None:
    for note, what in (
        (signed(sound.alliance, SIZE + 5, bytes(32)), "the store is older than what was shown"),
        (signed(sound.alliance, 300, bytes(32)), "the entries lead to another one"),
    ):
        change_rows(store, "meta", [(b"published", note)])
        finding = only(check(sound, store))
        assert finding.part is Part.CHECKPOINT
        assert what in finding.message


def test_a_published_checkpoint_of_an_earlier_size_is_right(sound: SoundLog, store: Path) -> None:
    with Log.open(store, sound.alliance.signer) as log, log.view() as view:
        roots = {size: view.root_hash(size) for size in (0, 255, 256, 257, SIZE - 1)}
    for size, root in roots.items():
        change_rows(store, "meta", [(b"published", signed(sound.alliance, size, root))])
        assert check(sound, store).is_sound, size


def test_wrong_sizes_names_and_marks_in_the_meta_table_are_named(sound: SoundLog, store: Path) -> None:
    sound_rows = rows_of(store)["meta"]
    for name, value, what in (
        (b"committed_size", number(3), f"holds 3 entries, and {SIZE} are signed"),
        (b"committed_size", b"3", "holds no number of entries"),
        (b"previous_size", number(SIZE), "is not below the size"),
        (b"format", b"tlog-store/9", "format"),
        (b"origin", b"log.example/alliancf", "origin"),
        (b"vkey", b"nonsense", "vkey"),
        (b"frozen", b"x", "frozen"),
        (b"strange", b"x", "means nothing"),
    ):
        change_rows(store, "meta", [(name, value)])
        finding = only(check(sound, store))
        assert finding.part is Part.META
        assert finding.place == f"meta {name.decode()}"
        assert what in finding.message
        change_rows(store, "meta", [(name, sound_rows.get(name))])
    assert check(sound, store).is_sound


@pytest.mark.parametrize("table", ["entries", "identities", "business_keys"])
def test_a_damaged_page_is_named_with_its_bytes_and_so_is_everything_on_it(
    sound: SoundLog, store: Path, table: str
) -> None:
    page = page_of(store, table, lambda pages: pages[len(pages) // 2])
    on_it = {
        row_key for row_key in rows_of(store)[table] if row_of(store, table, row_key).start // 4096 == page
    }
    flip_bytes(store, 4096 * page + 10, 1)  # what kind of page it is
    report = check(sound, store)
    damaged = [finding for finding in report.findings if finding.part is Part.FILE]
    assert [finding.byte_range for finding in damaged] == [(4096 * page, 4096 * page + 4096)]
    others = [finding for finding in report.findings if finding.part is not Part.FILE]
    assert len(others) == len(on_it)
    assert all("missing" in finding.message for finding in others)


def test_an_entry_that_follows_a_damaged_governance_entry_is_not_accused(
    sound: SoundLog, store: Path
) -> None:
    """Without the entry that admits a member, nobody knows what that member may do."""
    row = row_of(store, "entries", number(2))
    flip_bytes(store, row.start + len(row.value) // 2)
    report = check(sound, store)
    assert only(report).leaf_index == 2
    assert any("could not be judged" in sentence for sentence in report.unchecked)


def test_an_entry_that_breaks_a_rule_is_named_and_is_no_damage(tmp_path: Path) -> None:
    """What a wrong log took in is stored just as it was signed."""
    alliance = Alliance()
    stranger = alliance.entry(900, signer=key("a stranger"))
    UncheckedLog.on_disk(
        tmp_path / "store", alliance.signer, [*alliance.governance, alliance.entry(1), stranger]
    )
    report = check(SoundLog(path=tmp_path, alliance=alliance), tmp_path / "store")
    # Its store has names of its own for its rows, which are told as well.
    broken = [finding for finding in report.findings if finding.part is Part.RULE]
    assert [finding.leaf_index for finding in broken] == [5]
    assert "unknown_key" in broken[0].message
    assert Part.ENTRY not in report.counts
    assert Part.TILE not in report.counts


def test_two_entries_with_one_name_are_found_though_only_one_row_can_say_so(tmp_path: Path) -> None:
    alliance = Alliance()
    twins = [alliance.entry(1), alliance.entry(2), alliance.entry(1, note="another")]
    store = LmdbStore.create(tmp_path / "store", alliance.origin, alliance.signer.vkey)
    log = Log(store, alliance.signer)
    log.append([*alliance.governance, *twins[:2]])
    log.close()
    # A log never does this; one whose index of names lost a row might.
    name = identity_of(alliance, 1)
    change_rows(tmp_path / "store", "identities", [(name, None)])
    with Log.open(tmp_path / "store", alliance.signer) as again:
        again.append([twins[2]])
    report = check(SoundLog(path=tmp_path, alliance=alliance), tmp_path / "store")
    assert sorted((finding.part, finding.leaf_index) for finding in report.findings) == [
        (Part.IDENTITY, 4),
        (Part.RULE, 6),
    ]


def test_another_logs_store_is_refused(sound: SoundLog) -> None:
    with pytest.raises(ConfigError, match="which is not the one to check"):
        check_store(sound.path, [("other.example/log", sound.alliance.signer.vkey)])


def test_no_store_and_a_file_of_which_nothing_can_be_read_are_told(store: Path, sound: SoundLog) -> None:
    with pytest.raises(NotFoundError):
        check_store(store / "nowhere", sound.logs)
    (store / "data.mdb").write_bytes(os.urandom(100_000))
    with pytest.raises(CorruptionError):
        check_store(store, sound.logs)


def test_wherever_the_file_is_cut_off_it_is_told_and_nothing_ends_the_process(
    sound: SoundLog, store: Path
) -> None:
    size = (store / "data.mdb").stat().st_size
    for left in (size - 4096, size // 2, 8192):
        with (store / "data.mdb").open("r+b") as file:
            file.truncate(left)
        try:
            assert check(sound, store).total > 0
        except ConfigError:
            assert left == 8192  # nothing but the meta pages: it does not even say whose it is


def test_zero_filled_pages_are_named(sound: SoundLog, store: Path) -> None:
    page = page_of(store, "entries", lambda pages: pages[3])
    with (store / "data.mdb").open("r+b") as file:
        file.seek(4096 * page)
        file.write(bytes(4096))
    report = check(sound, store)
    assert any(finding.byte_range == (4096 * page, 4096 * page + 4096) for finding in report.findings)
    assert report.counts[Part.ENTRY] > 0


def test_a_flipped_bit_anywhere_is_found_or_lies_where_nothing_is_kept(sound: SoundLog, store: Path) -> None:
    """Whole file, at random: when nothing is found, no row that anybody reads has changed."""
    rng = random.Random(11)
    size = (store / "data.mdb").stat().st_size
    right = rows_of(store)
    found = 0
    for _ in range(16):
        offset, mask = rng.randrange(size), 1 << rng.randrange(8)
        flip_bytes(store, offset, mask)
        try:
            if check(sound, store).is_sound:
                assert rows_of(store) == right, offset
            else:
                found += 1
        except (ConfigError, CorruptionError):
            found += 1
        flip_bytes(store, offset, mask)
    assert found > 3


APPENDER = """
import sys
from pathlib import Path
from _support.alliance import Alliance
from tlog.log import Log
alliance = Alliance()
with Log.open(Path(sys.stdin.readline().strip()), alliance.signer) as log:
    print("open", flush=True)
    for line in sys.stdin:
        first = int(line)
        log.append([alliance.entry(first + i, refs=(f"invoice:{first + i}",)) for i in range(20)])
        print(log.checkpoint().tree_size, flush=True)
"""


def test_beside_a_process_that_appends_the_state_at_the_start_is_checked(
    sound: SoundLog, store: Path
) -> None:
    with child.start(APPENDER) as writer:
        try:
            child.write_line(writer, str(store))
            assert child.read_line(writer) == "open"
            sizes = []

            def append(_: int) -> None:
                child.write_line(writer, str(1000 + 20 * len(sizes)))
                sizes.append(int(child.read_line(writer)))

            report = check_store(store, sound.logs, progress=append).report
            assert report.is_sound
            assert report.entries == SIZE
            assert sizes == [SIZE + 20, SIZE + 40, SIZE + 60]
            assert check_store(store, sound.logs).report.entries == SIZE + 60
        finally:
            writer.kill()


def test_progress_is_told_and_every_fix_says_what_a_row_has_to_be(sound: SoundLog, store: Path) -> None:
    change_rows(store, "tiles", [(tile_key(0, 1), None)])
    change_rows(store, "governance", [(number(LATE_MEMBER), None)])
    done: list[int] = []
    sizes: list[int] = []
    fixes: list[Fix] = []
    check_store(store, sound.logs, progress=done.append, on_size=sizes.append, on_fix=fixes.append)
    assert (sizes, sum(done)) == ([SIZE], SIZE)
    right = rows_of(sound.path)
    assert {(fix.table.decode(), fix.key): fix.value for fix in fixes} == {
        ("tiles", tile_key(0, 1)): right["tiles"][tile_key(0, 1)],
        ("governance", number(LATE_MEMBER)): b"",
    }


def test_the_document_has_everything_that_json_can_have(sound: SoundLog, store: Path) -> None:
    flip_bytes(store, row_of(store, "entries", number(77)).start + 50)
    document: dict[str, Any] = check(sound, store).document()
    assert (document["sound"], document["counts"]) == (False, {"entry": 1})
    (finding,) = document["findings"]
    assert finding["leaf_index"] == 77
    assert finding["file"] == str(store / "data.mdb")
    chosen: Callable[[str], object] = finding.get
    assert isinstance(chosen("byte_range"), list)
