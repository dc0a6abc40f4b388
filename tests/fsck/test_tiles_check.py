"""A tiled log from outside: everything wrong in it is named, to the end; and a folder is repaired."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from _support.alliance import Alliance, key
from _support.damaged_store import LATE_MEMBER, SIZE, SoundLog
from _support.tiled_log import resources, write_resources

from tlog.checkpoint import Checkpoint
from tlog.errors import NotFoundError, ProofError
from tlog.fsck.findings import Finding, Part, Report
from tlog.fsck.tiles_check import check_tiles
from tlog.fsck.tiles_repair import repair_tiles
from tlog.merkle import leaf_hash
from tlog.tile_source.directory import DirectoryTileSource
from tlog.tile_source.trust import LogKey
from tlog.tiles import Tile

WIDTH = SIZE - 512
BUNDLE = f"tile/entries/002.p/{WIDTH}"


@pytest.fixture
def folder(mirror: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(mirror, tmp_path / "folder"))


def opened(sound: SoundLog, folder: Path) -> tuple[DirectoryTileSource, Checkpoint]:
    source = DirectoryTileSource(path=folder)
    return source, LogKey.from_vkey(sound.alliance.signer.vkey).open(source.checkpoint())


def check(sound: SoundLog, folder: Path, wrong: Callable[[Tile], None] = lambda _: None) -> Report:
    return check_tiles(*opened(sound, folder), on_wrong=wrong)


def only(report: Report) -> Finding:
    assert report.total == 1, [finding.sentence() for finding in report.findings]
    return report.findings[0]


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


def test_a_sound_folder_is_sound_and_it_is_said_what_cannot_be_seen_from_outside(
    sound: SoundLog, mirror: Path
) -> None:
    done: list[int] = []
    report = check_tiles(*opened(sound, mirror), progress=done.append)
    assert report.is_sound
    assert (report.entries, report.tiles, report.governance_entries, sum(done)) == (SIZE, 4, 5, SIZE)
    assert "inner nodes, indexes" in report.unchecked[0]


@pytest.mark.parametrize("index", [0, 77, 255, LATE_MEMBER, SIZE - 1])
def test_a_flipped_bit_in_an_entry_is_named_with_its_bundle_and_its_bytes(
    sound: SoundLog, folder: Path, index: int
) -> None:
    path = folder / (BUNDLE if index >= 512 else f"tile/entries/{index // 256:03d}")
    data = path.read_bytes()
    at = 0
    for _ in range(index % 256):
        at += 2 + int.from_bytes(data[at : at + 2], "big")
    length = int.from_bytes(data[at : at + 2], "big")
    flip(path, at + 2 + length // 2)
    finding = only(check(sound, folder))
    assert (finding.part, finding.leaf_index) == (Part.ENTRY, index)
    assert finding.place == str(path.relative_to(folder))
    assert finding.byte_range == (at + 2, at + 2 + length)
    assert finding.copies["the tree has"] == leaf_hash(data[at + 2 : at + 2 + length]).hex()


@pytest.mark.parametrize(
    ("name", "first_leaf"),
    [("tile/0/000", 0), ("tile/0/001", 256), (f"tile/0/002.p/{WIDTH}", 512), ("tile/1/000.p/2", 0)],
)
def test_a_flipped_bit_in_a_tile_is_named_with_the_leaf_and_the_bytes(
    sound: SoundLog, folder: Path, name: str, first_leaf: int
) -> None:
    flip(folder / name, 32 + 7)
    finding = only(check(sound, folder))
    assert (finding.part, finding.place, finding.byte_range) == (Part.TILE, name, (32, 64))
    assert f"the {'nodes' if '/1/' in name else 'leaves'} {first_leaf + 1};" in finding.message


def test_missing_and_cut_off_resources_are_each_named_once(sound: SoundLog, folder: Path) -> None:
    (folder / "tile/entries/000").unlink()
    (folder / "tile/0/001").write_bytes((folder / "tile/0/001").read_bytes()[:-1])
    (folder / BUNDLE).write_bytes(b"\xff\xff")
    report = check(sound, folder)
    assert sorted(str(finding.place) for finding in report.findings) == [
        "tile/0/001",
        "tile/entries/000",
        BUNDLE,
    ]
    assert report.counts == {Part.ENTRY: 2, Part.TILE: 1}


def test_an_entry_that_breaks_a_rule_is_named(sound: SoundLog, tmp_path: Path) -> None:
    alliance = Alliance()
    entries = [
        *alliance.governance,
        alliance.entry(1),
        alliance.entry(2, signer=key("a stranger")),
        alliance.entry(1, note="again"),
    ]
    made = resources(entries, origin=alliance.origin, log_signer=alliance.signer)
    report = check(sound, write_resources(tmp_path / "wrong", made))
    assert [(finding.part, finding.leaf_index) for finding in report.findings] == [
        (Part.RULE, 5),
        (Part.RULE, 6),
    ]


def test_a_checkpoint_over_another_tree_is_told(sound: SoundLog, folder: Path, tmp_path: Path) -> None:
    other = resources([b"x"] * SIZE, origin=sound.alliance.origin, log_signer=sound.alliance.signer)
    (folder / "checkpoint").write_bytes(other["checkpoint"])
    finding = only(check(sound, folder))
    assert finding.part is Part.CHECKPOINT


DAMAGED = ["tile/0/000", "tile/1/000.p/2", "tile/entries/001", BUNDLE]


def damage(folder: Path) -> None:
    flip(folder / "tile/0/000", 50)
    (folder / "tile/1/000.p/2").unlink()
    flip(folder / "tile/entries/001", 5000)
    (folder / BUNDLE).write_bytes(b"")


def repaired(sound: SoundLog, folder: Path, mirror: Path, *, write: bool) -> list[Tile]:
    wrong: list[Tile] = []
    check(sound, folder, wrong.append)
    mirror_source, newest = opened(sound, mirror)
    checkpoint = opened(sound, folder)[1]
    repair_tiles(
        folder, checkpoint, mirror_source, lambda: newest, wrong, write=write, progress=lambda _: None
    )
    return wrong


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_repaired_to_what_it_was(sound: SoundLog, folder: Path, mirror: Path) -> None:
    damage(folder)
    damaged = files(folder)
    assert sorted(tile.path for tile in repaired(sound, folder, mirror, write=False)) == DAMAGED
    assert files(folder) == damaged
    repaired(sound, folder, mirror, write=True)
    assert files(folder) == files(mirror)


def test_a_mirror_that_is_wrong_in_the_same_place_repairs_nothing(
    sound: SoundLog, folder: Path, mirror: Path, tmp_path: Path
) -> None:
    lying = Path(shutil.copytree(mirror, tmp_path / "lying"))
    damage(folder)
    damaged = files(folder)
    flip(lying / "tile/entries/001", 6000)
    with pytest.raises(ProofError):
        repaired(sound, folder, lying, write=True)
    assert files(folder) == damaged
    (lying / "tile/entries/001").unlink()
    with pytest.raises(NotFoundError):
        repaired(sound, folder, lying, write=True)
