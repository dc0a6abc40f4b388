"""What was damaged is put right from a mirror, byte for byte; what the log did not sign is never put in."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from _support import child
from _support.alliance import Alliance, log_signer
from _support.damaged_store import (
    LATE_MEMBER,
    SIZE,
    SoundLog,
    change_rows,
    copy_of,
    exported,
    flip_bytes,
    number,
    page_of,
    row_of,
    rows_of,
    tile_key,
)

from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.errors import (
    OutOfRangeError,
    ProofError,
    SignatureError,
    StorageError,
    StoreInUseError,
)
from tlog.event import identity
from tlog.fsck.store_check import check_store
from tlog.fsck.store_rebuild import BUILDING_NAME, DAMAGED_NAME
from tlog.fsck.store_repair import MirrorPlace, Repair, repair_store
from tlog.log import Log
from tlog.merkle import leaf_hash
from tlog.note import sign_note
from tlog.storage import lmdb_mend
from tlog.tile_source.directory import DirectoryTileSource
from tlog.tile_source.trust import LogKey


class NoProgress:
    def advance(self, count: int = 1) -> None:
        """Take note of nothing."""


@contextmanager
def show(label: str, total: int | None) -> Iterator[NoProgress]:
    yield NoProgress()


@pytest.fixture
def store(sound: SoundLog, tmp_path: Path) -> Path:
    return copy_of(sound.path, tmp_path / "store")


def repair(sound: SoundLog, store: Path, mirror: Path, *, write: bool = True) -> Repair:
    place = MirrorPlace(
        source=DirectoryTileSource(path=mirror),
        open_checkpoint=LogKey.from_vkey(sound.alliance.signer.vkey).open,
    )
    return repair_store(store, sound.logs, place, write=write, show=show)


def digest(store: Path) -> bytes:
    return hashlib.sha256((store / "data.mdb").read_bytes()).digest()


def flip_entry(store: Path, index: int) -> None:
    row = row_of(store, "entries", number(index))
    flip_bytes(store, row.start + len(row.value) // 2)


def flip_tile(store: Path, level: int, index: int, offset: int) -> None:
    flip_bytes(store, row_of(store, "tiles", tile_key(level, index)).start + offset)


def flip_page(store: Path, table: str) -> None:
    flip_bytes(store, 4096 * page_of(store, table, lambda pages: pages[len(pages) // 2]) + 10, 1)


def flip_notes(store: Path) -> None:
    for name in (b"committed", b"published"):
        flip_bytes(store, row_of(store, "meta", name).start + 120)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "an entry": lambda store: flip_entry(store, 77),
    "the genesis": lambda store: flip_entry(store, 0),
    "a governance entry in the middle": lambda store: flip_entry(store, LATE_MEMBER),
    "entries missing at the end": lambda store: change_rows(
        store, "entries", [(number(index), None) for index in range(SIZE - 60, SIZE)]
    ),
    "swapped entries": lambda store: change_rows(
        store,
        "entries",
        [
            (number(50), row_of(store, "entries", number(500)).value),
            (number(500), row_of(store, "entries", number(50)).value),
        ],
    ),
    "all entries": lambda store: change_rows(
        store, "entries", [(number(index), None) for index in range(SIZE)]
    ),
    "a tile": lambda store: flip_tile(store, 0, 1, 32 * 9),
    "an inner node": lambda store: flip_tile(store, 0, 1, 32 * 300),
    "all tiles": lambda store: change_rows(store, "tiles", [(key, None) for key in rows_of(store)["tiles"]]),
    "an entry and its hash in the tile": lambda store: (
        flip_entry(store, 77),
        flip_tile(store, 0, 0, 32 * 77),
    )[0],
    "index rows": lambda store: change_rows(
        store, "identities", [(key, None) for key in list(rows_of(store)["identities"])[:300]]
    ),
    "business keys": lambda store: change_rows(
        store,
        "business_keys",
        [(key, None) for key in list(rows_of(store)["business_keys"])[::2]] + [(bytes(24), b"x")],
    ),
    "the governance list": lambda store: change_rows(store, "governance", [(number(LATE_MEMBER), None)]),
    "the committed checkpoint": lambda store: flip_bytes(
        store, row_of(store, "meta", b"committed").start + 120
    ),
    "the published checkpoint": lambda store: flip_bytes(
        store, row_of(store, "meta", b"published").start + 120
    ),
    "both checkpoints": lambda store: flip_notes(store),
    "the size": lambda store: change_rows(store, "meta", [(b"committed_size", number(5))]),
    "a page of entries": lambda store: flip_page(store, "entries"),
    "a page of identities": lambda store: flip_page(store, "identities"),
    "the page of the meta table": lambda store: flip_page(store, "meta"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_was_damaged_is_what_it_was_before_in_every_row(
    sound: SoundLog, store: Path, mirror: Path, damage: str
) -> None:
    DAMAGES[damage](store)
    repaired = repair(sound, store, mirror)
    assert not repaired.before.is_sound
    assert repaired.after is not None
    assert repaired.after.is_sound
    assert repaired.is_rebuilt is ("page" in damage)
    expected = rows_of(sound.path)
    if damage == "the page of the meta table":
        expected["meta"].pop(b"previous_size")  # which nobody can know
        assert rows_of(store)["meta"].pop(b"previous_size", None) is None
    assert rows_of(store) == expected


@pytest.mark.parametrize("damage", ["an entry", "index rows", "a page of entries"])
def test_without_write_the_same_is_found_and_nothing_is_written(
    sound: SoundLog, store: Path, mirror: Path, damage: str
) -> None:
    DAMAGES[damage](store)
    damaged = digest(store)
    dry = repair(sound, store, mirror, write=False)
    assert not dry.before.is_sound
    assert dry.after is None
    assert digest(store) == damaged
    repaired = repair(sound, store, mirror)
    assert (repaired.rows, repaired.entries) == (dry.rows, dry.entries)


def test_proofs_and_receipts_are_byte_identical_after_the_repair(
    sound: SoundLog, store: Path, mirror: Path
) -> None:
    def everything(path: Path) -> list[object]:
        with Log.open(path, sound.alliance.signer) as log:
            return [
                *(log.receipt(index) for index in range(0, SIZE, 13)),
                *(log.prove_consistency(size) for size in range(0, SIZE, 50)),
                log.entries(0, SIZE),
            ]

    before = everything(store)
    flip_entry(store, 77)
    flip_tile(store, 0, 1, 32 * 300)
    change_rows(store, "tiles", [(tile_key(1, 0), None)])
    repair(sound, store, mirror)
    assert everything(store) == before
    with Log.open(store, sound.alliance.signer) as log:
        log.append(sound.alliance.entries(5000, 5100))
    assert check_store(store, sound.logs).report.is_sound


def test_nothing_is_changed_in_a_sound_store(sound: SoundLog, store: Path, mirror: Path) -> None:
    before = digest(store)
    repaired = repair(sound, store, mirror)
    assert repaired.before.is_sound
    assert repaired.after is not None
    assert not repaired.rows
    assert digest(store) == before


def test_damage_that_the_entries_themselves_can_mend_needs_nothing_of_the_mirror(
    sound: SoundLog, store: Path, tmp_path: Path
) -> None:
    flip_tile(store, 0, 1, 32 * 9)
    (tmp_path / "nothing").mkdir()
    assert repair(sound, store, tmp_path / "nothing").entries == ()
    assert rows_of(store) == rows_of(sound.path)


# ----- mirrors that lie, lag, or are another log's


def test_a_mirror_with_another_entry_repairs_nothing(
    sound: SoundLog, store: Path, mirror: Path, tmp_path: Path
) -> None:
    lying = tmp_path / "lying"
    shutil.copytree(mirror, lying)
    bundle = lying / "tile" / "entries" / "000"
    data = bytearray(bundle.read_bytes())
    data[-5] ^= 1
    bundle.write_bytes(data)
    flip_entry(store, 255)
    before = digest(store)
    with pytest.raises(ProofError, match=r"entry 255 hashes to"):
        repair(sound, store, lying)
    assert digest(store) == before


def forked(sound: SoundLog, folder: Path, *, size: int) -> Path:
    """A second history of the same log, signed with its own key, from entry 100 on."""
    alliance = Alliance()
    path = folder / "forked"
    with Log.create(path, alliance.signer) as log, Log.open(sound.path, alliance.signer) as right:
        log.append(right.entries(0, 100))
        log.append(alliance.entries(3000, 3000 + size - 100))
    return exported(path, alliance, folder / "forked-tiles")


@pytest.mark.parametrize("size", [300, SIZE, SIZE + 100])
@pytest.mark.parametrize("index", [50, 200])
def test_a_mirror_of_a_second_history_that_the_log_signed_repairs_no_other_entry(
    sound: SoundLog, store: Path, tmp_path: Path, size: int, index: int
) -> None:
    lying = forked(sound, tmp_path, size=size)
    flip_entry(store, index)
    before = digest(store)
    if size == 300 and index == 50:
        # What the two histories share is proven by this log's own tree.
        assert repair(sound, store, lying).entries == (50,)
        assert rows_of(store) == rows_of(sound.path)
        return
    with pytest.raises(ProofError):
        repair(sound, store, lying)
    assert digest(store) == before


def test_where_the_tree_cannot_say_which_entry_is_right_a_second_history_is_refused_by_the_root(
    sound: SoundLog, store: Path, tmp_path: Path
) -> None:
    lying = forked(sound, tmp_path, size=300)
    flip_entry(store, 200)
    flip_tile(store, 0, 0, 32 * 200)
    before = digest(store)
    with pytest.raises(ProofError, match="the mirror has another history, or lies"):
        repair(sound, store, lying)
    assert digest(store) == before


def test_a_mirror_under_another_key_is_refused(sound: SoundLog, store: Path, tmp_path: Path) -> None:
    other = Alliance(signer=log_signer(name="another key"))
    with Log.create(tmp_path / "other", other.signer) as log:
        log.append(other.governance + other.entries(4, 800))
    lying = exported(tmp_path / "other", other, tmp_path / "other-tiles")
    flip_entry(store, 77)
    before = digest(store)
    with pytest.raises(SignatureError):
        repair(sound, store, lying)
    assert digest(store) == before


def lagging(sound: SoundLog, folder: Path, size: int) -> Path:
    with Log.create(folder / "young", sound.alliance.signer) as log:
        with Log.open(sound.path, sound.alliance.signer) as right:
            entries = right.entries(0, size)
        log.append(entries)
    return exported(folder / "young", sound.alliance, folder / "young-tiles")


def test_a_mirror_that_lags_behind_repairs_what_it_has(sound: SoundLog, store: Path, tmp_path: Path) -> None:
    behind = lagging(sound, tmp_path, 500)
    flip_entry(store, 77)
    flip_entry(store, 499)
    assert repair(sound, store, behind).entries == (77, 499)
    assert rows_of(store) == rows_of(sound.path)
    flip_entry(store, 500)
    with pytest.raises(OutOfRangeError, match=r"entry 500 has to be restored, and .* has 500 entries"):
        repair(sound, store, behind)


def test_a_mirror_that_is_ahead_repairs_what_was_there(sound: SoundLog, store: Path, tmp_path: Path) -> None:
    copy_of(sound.path, tmp_path / "ahead")
    with Log.open(tmp_path / "ahead", sound.alliance.signer) as log:
        log.append(sound.alliance.entries(5000, 5200))
    ahead = exported(tmp_path / "ahead", sound.alliance, tmp_path / "ahead-tiles")
    flip_entry(store, 77)
    flip_page(store, "entries")
    repaired = repair(sound, store, ahead)
    assert 77 in repaired.entries
    assert rows_of(store) == rows_of(sound.path)


def test_without_a_signed_checkpoint_of_its_size_nothing_is_repaired(
    sound: SoundLog, store: Path, tmp_path: Path
) -> None:
    behind = lagging(sound, tmp_path, 500)
    DAMAGES["both checkpoints"](store)
    flip_entry(store, 77)
    before = digest(store)
    with pytest.raises(StorageError, match="no signed checkpoint of size 530 is left"):
        repair(sound, store, behind)
    assert digest(store) == before


def test_a_root_that_was_signed_over_a_flipped_bit_is_not_repaired(
    sound: SoundLog, store: Path, mirror: Path
) -> None:
    """What was signed cannot be mended: the mirror's entries do not lead there either."""
    checkpoint = Checkpoint(sound.alliance.origin, SIZE, leaf_hash(b"another tree"))
    note = sign_note(format_checkpoint(checkpoint), [sound.alliance.signer])
    change_rows(store, "meta", [(b"committed", note), (b"published", note)])
    before = digest(store)
    with pytest.raises(ProofError):
        repair(sound, store, mirror)
    assert digest(store) == before


# ----- others at work, and crashes

HOLDER = """
import sys
from pathlib import Path
from _support.alliance import Alliance
from tlog.log import Log
with Log.open(Path(sys.stdin.readline().strip()), Alliance().signer):
    print("open", flush=True)
    sys.stdin.readline()
"""


def test_nothing_is_repaired_while_a_server_has_the_store_open(
    sound: SoundLog, store: Path, mirror: Path
) -> None:
    flip_tile(store, 0, 1, 32 * 9)
    # The edge is sound, so that a log starts on it.
    with child.start(HOLDER) as holder:
        try:
            child.write_line(holder, str(store))
            assert child.read_line(holder) == "open"
            for write in (False, True):
                with pytest.raises(StoreInUseError, match=f"process {holder.pid} writes to it"):
                    repair(sound, store, mirror, write=write)
            assert not check_store(store, sound.logs).report.is_sound
        finally:
            holder.kill()


REPAIRER = """
import os, sys
from contextlib import contextmanager
from pathlib import Path
from tlog.fsck import store_repair, store_rebuild
from tlog.storage import lmdb_environment, lmdb_mend
from tlog.fsck.store_repair import MirrorPlace, repair_store
from tlog.tile_source.directory import DirectoryTileSource
from tlog.tile_source.trust import LogKey
store, mirror, origin, vkey, steps = sys.stdin.readline().split("\\t")
lmdb_mend.ROWS_AT_ONCE = 40
store_rebuild.ENTRIES_AT_ONCE = 90
left = int(steps)
class Bar:
    def advance(self, count=1): pass
@contextmanager
def show(label, total): yield Bar()
write = lmdb_environment.LmdbEnvironment.write
def counted(self, apply):
    global left
    if left == 0:
        os.kill(os.getpid(), 9)
    left -= 1
    write(self, apply)
lmdb_environment.LmdbEnvironment.write = counted
replace = Path.replace
def replaced(self, target):
    if left == 0:
        os.kill(os.getpid(), 9)
    return replace(self, target)
Path.replace = replaced
source = DirectoryTileSource(path=Path(mirror))
place = MirrorPlace(source=source, open_checkpoint=LogKey.from_vkey(vkey).open)
repair_store(Path(store), [(origin, vkey)], place, write=True, show=show)
print("done", flush=True)
"""


@pytest.mark.parametrize("damage", ["index rows", "a page of entries"])
def test_a_repair_that_is_killed_at_any_step_is_gone_on_with(
    sound: SoundLog, store: Path, mirror: Path, damage: str
) -> None:
    DAMAGES[damage](store)
    ((origin, vkey),) = sound.logs
    killed = 0
    for steps in (0, 3, 8, 100):
        with child.start(REPAIRER) as process:
            child.write_line(process, "\t".join([str(store), str(mirror), origin, vkey, str(steps)]))
            if process.wait(timeout=60) == 0:
                break
        killed += 1
        # Every row is either as it was or right, and no log was lost on the way.
        assert check_store(store, sound.logs).report.tree_size == SIZE
    assert killed >= 2
    assert check_store(store, sound.logs).report.is_sound
    assert rows_of(store) == rows_of(sound.path)


def test_after_a_rebuild_the_damaged_file_is_kept_and_nothing_else(
    sound: SoundLog, store: Path, mirror: Path
) -> None:
    flip_page(store, "identities")
    damaged = (store / "data.mdb").read_bytes()
    repair(sound, store, mirror)
    assert (store / DAMAGED_NAME).read_bytes() == damaged
    assert not (store / BUILDING_NAME).exists()
    with Log.open(store, sound.alliance.signer) as log:
        assert log.append([sound.alliance.entry(9_000)]).leaf_indices == (SIZE,)


def test_a_frozen_and_a_restored_log_stay_so_when_they_are_rebuilt(
    sound: SoundLog, store: Path, mirror: Path
) -> None:
    change_rows(store, "meta", [(b"frozen", b""), (b"restored", b"")])
    flip_page(store, "identities")
    repair(sound, store, mirror)
    assert rows_of(store)["meta"] == rows_of(sound.path)["meta"] | {b"frozen": b"", b"restored": b""}


def test_a_store_that_was_written_to_since_it_was_checked_is_not_mended(sound: SoundLog, store: Path) -> None:
    before = digest(store)
    with pytest.raises(StorageError, match="was written to since it was checked"):
        lmdb_mend.mend_rows(store, [(b"meta", b"x", b"y")], committed=b"another note")
    assert digest(store) == before


def test_the_document_says_what_was_changed(sound: SoundLog, store: Path, mirror: Path) -> None:
    flip_entry(store, 77)
    change_rows(store, "identities", [(identity(sound.alliance.source("exporter"), "event-5"), None)])
    document = repair(sound, store, mirror).document()
    assert document["written"] is True
    assert document["rebuilt"] is False
    assert document["entries_from_mirror"] == [77]
    assert document["rows"] == {"entries": 1, "identities": 1}
