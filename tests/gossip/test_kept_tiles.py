"""The tree that a node keeps: every path of it, and nothing in it that does not lead to a signed root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from _support.two_histories import TwoHistories

from tlog.errors import CorruptionError, OutOfRangeError, ProofError, RemoteError
from tlog.evidence import LeafEvidence, verify_evidence
from tlog.evidence.find import find_evidence
from tlog.gossip.held import HeldCheckpoint
from tlog.gossip.kept_tiles import KeptTiles
from tlog.tiles import tiles_for_size

SIZE = 66_000  # three levels of tiles


@pytest.fixture(scope="module")
def log() -> TwoHistories:
    log = TwoHistories(SIZE)
    log.fork("other", 3, 700)
    return log


def leaves(
    log: TwoHistories, start: int, end: int, history: str = "main", run: int = 1_000
) -> Iterator[list[bytes]]:
    tree = log.trees[history]
    for first in range(start, end, run):
        yield [tree.read_node(0, index) for index in range(first, min(first + run, end))]


def extend(kept: KeptTiles, log: TwoHistories, size: int, *, run: int = 1_000) -> HeldCheckpoint:
    held = log.held("main", size)
    kept.extend(held, leaves(log, kept.tree_size, size, run=run))
    return held


def test_every_path_of_a_small_tree_is_the_right_one(log: TwoHistories, tmp_path: Path) -> None:
    kept = KeptTiles(tmp_path, log.policy)
    for size in range(1, 20):
        extend(kept, log, size)
    for end in range(2, 20):
        for start in range(1, end):
            assert kept.path(start, end) == log.path("main", start, end)
    assert kept.path(3, 20) is None
    kept.close()


def test_a_tree_of_three_levels_grows_in_odd_steps_and_is_opened_again(
    log: TwoHistories, tmp_path: Path
) -> None:
    kept = KeptTiles(tmp_path, log.policy)
    for size in (1, 255, 256, 257, 511, 1_000, 65_535, 65_536, 65_537, SIZE):
        extend(kept, log, size, run=777)
    kept.close()
    kept = KeptTiles(tmp_path, log.policy)
    assert kept.tree_size == SIZE
    for start in (1, 2, 255, 256, 257, 40_000, 65_535, 65_536, 65_537):
        for end in (65_537, SIZE):
            if start < end:
                assert kept.path(start, end) == log.path("main", start, end)
    kept.close()
    # What is kept is exactly the hash tiles: 32 bytes a leaf, and a 256th of that above.
    sizes = {path.name: path.stat().st_size for path in tmp_path.glob("level-*")}
    assert sizes == {
        f"level-{level}": 32 * sum(tile.width for tile in tiles_for_size(SIZE) if tile.level == level)
        for level in range(3)
    }


@pytest.mark.parametrize("end", [699, 700, 701])
def test_leaves_that_do_not_lead_to_the_root_change_nothing(
    log: TwoHistories, tmp_path: Path, end: int
) -> None:
    kept = KeptTiles(tmp_path, log.policy)
    held = extend(kept, log, 600)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    history = "other" if end == 700 else "main"
    with pytest.raises(ProofError):
        kept.extend(log.held("main", 700), leaves(log, 600, end, history))
    assert kept.held == held
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    extend(kept, log, 700)
    kept.close()


def test_a_source_that_breaks_changes_nothing(log: TwoHistories, tmp_path: Path) -> None:
    def broken() -> Iterator[list[bytes]]:
        yield from leaves(log, 600, 650)
        raise RemoteError("gone")

    kept = KeptTiles(tmp_path, log.policy)
    extend(kept, log, 600)
    with pytest.raises(RemoteError):
        kept.extend(log.held("main", 700), broken())
    extend(kept, log, 700)
    assert kept.path(600, 700) == log.path("main", 600, 700)
    kept.close()


def broken_off(log: TwoHistories, start: int, end: int, history: str = "main") -> Iterator[list[bytes]]:
    yield from leaves(log, start, end, history, run=300)
    raise RemoteError("gone")


@pytest.mark.parametrize("kept_size", [0, 600])
@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_fetch_that_breaks_off_goes_on_where_it_was(
    log: TwoHistories, tmp_path: Path, kept_size: int, is_restarted: bool
) -> None:
    kept = KeptTiles(tmp_path, log.policy)
    if kept_size:
        extend(kept, log, kept_size)
    for end in (900, 1_000, 65_900):
        with pytest.raises(RemoteError):
            kept.extend(
                log.held("main", SIZE), broken_off(log, kept.fetched_size, end), start=kept.fetched_size
            )
        if is_restarted:
            # What stands above the leaves may be lost with a crash.
            kept.close()
            for path in tmp_path.glob("level-[12]"):
                path.write_bytes(path.read_bytes()[: 32 * (kept_size >> 8 * int(path.name[-1]))])
            kept = KeptTiles(tmp_path, log.policy)
        # Nothing that was not verified yet is shown to anybody.
        assert (kept.tree_size, kept.fetched_size) == (kept_size, end)
        assert kept.path(700, 800) is None
        with pytest.raises(OutOfRangeError):
            kept.read_node(0, kept_size)
    kept.extend(log.held("main", SIZE), leaves(log, 65_900, SIZE), start=65_900)
    for start in (1, 256, 700, 65_537):
        assert kept.path(start, SIZE) == log.path("main", start, SIZE)
    kept.close()


def test_everything_may_have_come_before_it_broke_off(log: TwoHistories, tmp_path: Path) -> None:
    kept = KeptTiles(tmp_path, log.policy)
    with pytest.raises(RemoteError):
        kept.extend(log.held("main", 700), broken_off(log, 0, 700))
    kept.extend(log.held("main", 700), (), start=700)
    assert kept.path(600, 700) == log.path("main", 600, 700)
    kept.close()


def test_wrong_leaves_that_came_before_it_broke_off_are_forgotten_when_they_lead_nowhere(
    log: TwoHistories, tmp_path: Path
) -> None:
    kept = KeptTiles(tmp_path, log.policy)
    extend(kept, log, 300)
    with pytest.raises(RemoteError):
        kept.extend(log.held("main", 700), broken_off(log, 300, 600, "other"))
    with pytest.raises(ProofError):
        kept.extend(log.held("main", 700), leaves(log, 600, 700), start=600)
    assert (kept.tree_size, kept.fetched_size) == (300, 300)
    extend(kept, log, 700)
    assert kept.path(300, 700) == log.path("main", 300, 700)
    kept.close()


@pytest.mark.parametrize("wrong", [[bytes(31)], [bytes(32), b""], [bytes(32)] * 101])
def test_what_are_no_leaves_of_this_tree_is_not_even_fetched(
    log: TwoHistories, tmp_path: Path, wrong: list[bytes]
) -> None:
    kept = KeptTiles(tmp_path, log.policy)
    extend(kept, log, 600)
    with pytest.raises(ProofError):
        kept.extend(log.held("main", 700), [wrong])
    assert kept.fetched_size == 600
    kept.close()


def test_what_a_crash_left_behind_the_checkpoint_is_cut_off(log: TwoHistories, tmp_path: Path) -> None:
    kept = KeptTiles(tmp_path, log.policy)
    extend(kept, log, 600)
    kept.close()
    for name in ("level-0", "level-1", "level-2"):
        with (tmp_path / name).open("ab") as file:
            file.write(b"half of a leaf that nobody verified")
    kept = KeptTiles(tmp_path, log.policy)
    extend(kept, log, 1_000)
    assert kept.path(600, 1_000) == log.path("main", 600, 1_000)
    kept.close()


@pytest.mark.parametrize("damage", ["flip", "cut", "root"])
def test_tiles_that_do_not_lead_to_their_checkpoint_are_not_opened(
    log: TwoHistories, tmp_path: Path, damage: str
) -> None:
    kept = KeptTiles(tmp_path, log.policy)
    extend(kept, log, 600)
    kept.close()
    path = tmp_path / "level-0"
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-1] ^= 1
        path.write_bytes(data)
    elif damage == "cut":
        path.write_bytes(data[:-32])
    else:
        (tmp_path / "checkpoint").write_bytes(log.note("other", 600))
    with pytest.raises(CorruptionError):
        KeptTiles(tmp_path, log.policy)


def test_a_node_that_the_tree_does_not_have_is_out_of_range(log: TwoHistories, tmp_path: Path) -> None:
    kept = KeptTiles(tmp_path, log.policy)
    extend(kept, log, 600)
    assert kept.read_node(9, 0) == log.trees["main"].read_node(9, 0)
    for level, index in ((9, 1), (0, 600), (-1, 0), (0, -1), (70, 0)):
        with pytest.raises(OutOfRangeError):
            kept.read_node(level, index)
    kept.close()


def test_a_kept_leaf_is_proven_and_convicts_whoever_proves_another_one_in_its_place(
    log: TwoHistories, tmp_path: Path
) -> None:
    kept = KeptTiles(tmp_path, log.policy)
    assert kept.prove_leaf(0) is None
    extend(kept, log, 600)
    other = KeptTiles(tmp_path / "other", log.policy)
    other.extend(log.held("other", 700), leaves(log, 0, 700, "other"))
    for index in (0, 2, 3, 255, 256, 599):
        proven, lied = kept.prove_leaf(index), other.prove_leaf(index)
        assert proven is not None
        assert lied is not None
        evidence = [one for one in find_evidence([], [proven, lied]) if isinstance(one, LeafEvidence)]
        assert len(evidence) == (proven.leaf_hash != lied.leaf_hash)
        for one in evidence:
            assert verify_evidence(one, log.policy).convicts_log
        assert (not evidence) == (index < 3)
    for index in (-1, 600, 2**62):
        assert kept.prove_leaf(index) is None
    kept.close()
    other.close()
