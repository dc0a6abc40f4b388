"""Export: a folder that any tiled-log client walks, whole at every moment, and never of two histories."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from _support.hostile import flipped
from _support.tiled_log import (
    SIGNER,
    checkpoint_note,
    numbered_entries,
    path_of,
    resources,
    signed_size_and_root,
    walk,
    write_resources,
)

from tlog.errors import (
    MalformedError,
    NotFoundError,
    OutOfRangeError,
    ProofError,
    RemoteError,
    SignatureError,
    SplitViewError,
    StorageError,
    StoreInUseError,
)
from tlog.tile_source import tile_folder
from tlog.tile_source.base import check_tile_bytes
from tlog.tile_source.export import Export
from tlog.tile_source.tile_folder import TileFolder
from tlog.tile_source.trust import LogKey
from tlog.tiles import Tile

ENTRIES = numbered_entries(800)
TRUST = LogKey.from_vkey(SIGNER.vkey)


@dataclass
class Log:
    """Is a source whose resources can be changed, and that can break off after some requests."""

    resources: dict[str, bytes]
    name: str = "the log"
    concurrency: int = 1
    asked: list[str] = field(default_factory=list)
    breaks_off_after: int = 10**9

    def checkpoint(self) -> bytes:
        return self.resources["checkpoint"]

    def tile(self, tile: Tile) -> bytes:
        if len(self.asked) >= self.breaks_off_after:
            raise RemoteError("the connection broke")
        self.asked.append(tile.path)
        if tile.path not in self.resources:
            raise NotFoundError(f"no {tile.path}")
        check_tile_bytes(tile, self.resources[tile.path], self.name)
        return self.resources[tile.path]


def export(source: Log, directory: Path, **options) -> Export:
    with Export.begin(source, TRUST.open, directory, **options) as begun:
        begun.run()
    return begun


def files(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def walk_folder(directory: Path) -> list[bytes]:
    return walk(lambda name: (directory / name).read_bytes())


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 512, 600])
def test_the_folder_has_every_resource_of_the_tree_and_nothing_else(tmp_path: Path, size: int) -> None:
    made = resources(ENTRIES[:size])
    begun = export(Log(made), tmp_path / "out")
    assert files(tmp_path / "out") == made
    assert walk_folder(tmp_path / "out") == ENTRIES[:size]
    assert (begun.checkpoint.tree_size, begun.previous_tree_size) == (size, 0)


def test_a_second_export_fetches_only_what_is_new(tmp_path: Path) -> None:
    log = Log(resources(ENTRIES[:300]))
    export(log, tmp_path)
    for size in (300, 301, 511, 512, 513, 800):
        log.resources = resources(ENTRIES[:size])
        log.asked.clear()
        export(log, tmp_path)
        assert walk_folder(tmp_path) == ENTRIES[:size]
        assert path_of(0, 0, 256) not in log.asked
        assert path_of("entries", 0, 256) not in log.asked
    # Partials of tiles that are there in full are gone, all others stay for readers of an older checkpoint.
    left = {name for name in files(tmp_path) if ".p/" in name}
    assert left == {
        *(path_of(level, 3, 32) for level in (0, "entries")),
        *(path_of(1, 0, width) for width in (1, 2, 3)),
    }


def test_an_export_that_broke_off_anywhere_goes_on_where_it_was(tmp_path: Path) -> None:
    old, new = resources(ENTRIES[:300]), resources(ENTRIES)
    whole = Log(new)
    export(whole, tmp_path / "whole")
    total = len(whole.asked)
    for broken_after in range(0, total + 12, 2):
        directory = tmp_path / str(broken_after)
        export(Log(old), directory)
        before = files(directory)
        try:
            export(Log(new, breaks_off_after=broken_after), directory)
        except RemoteError:
            # Whatever was being written, the old checkpoint stands with all of its tiles.
            assert {name: files(directory)[name] for name in before} == before
            assert walk_folder(directory) == ENTRIES[:300]
        export(Log(new), directory)
        assert walk_folder(directory) == ENTRIES


def test_what_was_fetched_before_a_break_is_not_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tile_folder, "FILES_AT_ONCE", 1)
    log = Log(resources(ENTRIES), breaks_off_after=5)
    with pytest.raises(RemoteError):
        export(log, tmp_path)
    assert not (tmp_path / "checkpoint").exists()
    log.breaks_off_after = 10**9
    first, log.asked = log.asked, []
    export(log, tmp_path)
    assert set(first).isdisjoint(log.asked)
    assert walk_folder(tmp_path) == ENTRIES


def test_whatever_is_wrong_in_the_folder_is_not_carried_over(tmp_path: Path) -> None:
    made = resources(ENTRIES)
    for name, data in made.items():
        if name != "checkpoint":
            directory = tmp_path / name.replace("/", "_")
            write_resources(directory, {**made, name: flipped(data, 99)})
            (directory / "checkpoint").unlink()
            export(Log(made), directory)
            assert files(directory) == made


@pytest.mark.parametrize("entries", [True, False])
def test_a_wrong_bit_anywhere_in_what_is_read_stops_the_export(tmp_path: Path, entries: bool) -> None:
    old = resources(ENTRIES[:300], bundles=entries)
    export(Log(old), tmp_path / "out", entries=entries)
    before = files(tmp_path / "out")
    made = resources(ENTRIES, bundles=entries)
    rebuilt = {path_of(0, 1, 256), path_of(0, 2, 256)} if entries else set()
    for name, data in made.items():
        if name in {"checkpoint", path_of(0, 0, 256), path_of("entries", 0, 256), *rebuilt}:
            continue  # these the folder has already, or they are made of the entries
        with pytest.raises((ProofError, MalformedError)):
            export(Log({**made, name: flipped(data, 77)}), tmp_path / "out", entries=entries)
        assert {name: files(tmp_path / "out")[name] for name in before} == before
        right = {**made, **old}
        assert all(right[name] == data for name, data in files(tmp_path / "out").items())
    with pytest.raises((SignatureError, MalformedError)):
        export(Log({**made, "checkpoint": flipped(made["checkpoint"], 300)}), tmp_path / "out")
    assert files(tmp_path / "out")["checkpoint"] == old["checkpoint"]


def test_full_tiles_of_leaf_hashes_are_made_of_the_entries_and_not_asked_for(tmp_path: Path) -> None:
    made = resources(ENTRIES)
    wrong = {name: flipped(made[name], 77) for name in (path_of(0, index, 256) for index in range(3))}
    log = Log({**made, **wrong})
    export(log, tmp_path)
    assert set(wrong).isdisjoint(log.asked)
    assert files(tmp_path) == made


def test_a_wrong_entry_is_named(tmp_path: Path) -> None:
    made = resources([*ENTRIES[:300], b"another entry", *ENTRIES[301:]])
    name = path_of("entries", 1, 256)
    with pytest.raises(ProofError, match=f"{name}.* entry 300 hashes to"):
        export(Log({**resources(ENTRIES), name: made[name]}), tmp_path)


def forked(count: int, at: int) -> dict[str, bytes]:
    """The tree of another history that differs in one entry."""
    return resources([*ENTRIES[:at], b"another entry", *ENTRIES[at + 1 : count]])


@pytest.mark.parametrize(("old_size", "new_size"), [(300, 300), (300, 301), (256, 600), (600, 300), (1, 800)])
def test_two_histories_are_never_mixed_and_both_checkpoints_are_kept(
    tmp_path: Path, old_size: int, new_size: int
) -> None:
    """When fetching a subsequent checkpoint, the client MUST verify its
    consistency with the current checkpoint."""
    old = resources(ENTRIES[:old_size])
    export(Log(old), tmp_path)
    new = forked(new_size, 0)
    with pytest.raises(SplitViewError, match="two histories") as caught:
        export(Log(new), tmp_path)
    assert set(caught.value.checkpoints) == {old["checkpoint"], new["checkpoint"]}
    assert files(tmp_path) == old


def test_a_source_that_is_behind_changes_nothing(tmp_path: Path) -> None:
    made = resources(ENTRIES[:600])
    export(Log(made), tmp_path)
    begun = export(Log(resources(ENTRIES[:300])), tmp_path)
    assert begun.is_behind
    assert begun.checkpoint.tree_size == 600
    assert files(tmp_path) == made


def test_an_exported_folder_is_of_one_log(tmp_path: Path) -> None:
    made = resources(ENTRIES[:5])
    export(Log(made), tmp_path)
    size, root = signed_size_and_root(made["checkpoint"])
    note = checkpoint_note(size, root, origin="another.example")
    with (
        pytest.raises(OutOfRangeError, match=r"another\.example"),
        Export.begin(
            Log({**made, "checkpoint": note}),
            lambda data: LogKey(verifier=TRUST.verifier, origin=data.decode().split("\n")[0]).open(data),
            tmp_path,
        ),
    ):
        pass
    assert files(tmp_path) == made


def test_bundles_can_be_left_out_and_be_added_later(tmp_path: Path) -> None:
    without = resources(ENTRIES[:600], bundles=False)
    export(Log(without), tmp_path, entries=False)
    assert files(tmp_path) == without
    export(Log(resources(ENTRIES[:600])), tmp_path)
    assert files(tmp_path) == resources(ENTRIES[:600])
    export(Log(resources(ENTRIES, bundles=False)), tmp_path, entries=False)
    export(Log(resources(ENTRIES)), tmp_path)
    assert walk_folder(tmp_path) == ENTRIES


def test_wider_tiles_of_the_source_become_the_partials_of_the_checkpoint(tmp_path: Path) -> None:
    old, new = resources(ENTRIES[:520]), resources(ENTRIES[:700])
    log = Log({**new, "checkpoint": old["checkpoint"]})
    with pytest.raises(NotFoundError):
        export(log, tmp_path / "out")
    for name in (path_of(level, 2, 256) for level in (0, "entries")):
        log.resources[name] = resources(ENTRIES[:768])[name]
    log.resources[path_of(1, 0, 2)] = old[path_of(1, 0, 2)]
    export(log, tmp_path / "out")
    assert files(tmp_path / "out") == old


def test_one_exports_at_a_time(tmp_path: Path) -> None:
    made = resources(ENTRIES[:5])
    with TileFolder.open(tmp_path), pytest.raises(StoreInUseError, match="another process"):
        export(Log(made), tmp_path)
    export(Log(made), tmp_path)


def test_the_leftovers_of_a_killed_export_are_removed(tmp_path: Path) -> None:
    leftover = tmp_path / ".preparing" / "17"
    leftover.parent.mkdir()
    leftover.write_bytes(b"half a tile")
    made = resources(ENTRIES[:5])
    export(Log(made), tmp_path)
    assert files(tmp_path) == made


def test_everything_is_on_the_disk_before_the_checkpoint_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is synced, then renamed; its folder is synced before the checkpoint is renamed."""
    calls: list[tuple[str, str]] = []
    opened: dict[int, str] = {}
    real_open, real_fsync, real_replace = os.open, os.fsync, Path.replace

    def recorded_open(path, *arguments, **options) -> int:
        descriptor = real_open(path, *arguments, **options)
        opened[descriptor] = str(path)
        return descriptor

    def recorded_fsync(descriptor: int) -> None:
        calls.append(("fsync", opened[descriptor]))
        real_fsync(descriptor)

    def recorded_replace(self: Path, target: Path) -> Path:
        calls.extend([("rename", str(self)), ("place", str(target))])
        return real_replace(self, target)

    monkeypatch.setattr(os, "open", recorded_open)
    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(Path, "replace", recorded_replace)
    export(Log(resources(ENTRIES[:600])), tmp_path)

    renamed = [name for kind, name in calls if kind == "rename"]
    for name in renamed:
        assert calls.index(("fsync", name)) < calls.index(("rename", name))
    checkpoint_at = calls.index(("place", str(tmp_path / "checkpoint")))
    assert calls[-1] == ("fsync", str(tmp_path)), "the checkpoint's own name is synced last"
    assert sum(kind == "place" for kind, _ in calls[checkpoint_at:]) == 1
    folders = {str(path) for path in tmp_path.rglob("*") if path.is_dir()} | {str(tmp_path)}
    synced = {name for kind, name in calls[:checkpoint_at] if kind == "fsync"}
    assert folders <= synced


@pytest.mark.parametrize("broken", ["write_bytes", "replace", "fsync", "mkdir"])
def test_a_disk_that_takes_no_more_leaves_the_old_tree_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    log = Log(resources(ENTRIES[:300]))
    export(log, tmp_path)
    log.resources = resources(ENTRIES)
    for works in range(0, 40, 3):
        count = [0]

        def failing(real: Callable[..., object], works=works, count=count) -> Callable[..., object]:
            def call(*arguments, **options):
                count[0] += 1
                if count[0] > works:
                    raise OSError(28, "No space left on device")
                return real(*arguments, **options)

            return call

        with monkeypatch.context() as patched:
            if broken == "fsync":
                patched.setattr(os, "fsync", failing(os.fsync))
            else:
                patched.setattr(Path, broken, failing(getattr(Path, broken)))
            try:
                export(log, tmp_path)
            except StorageError as error:
                assert "No space left" in str(error)
        size, _ = signed_size_and_root((tmp_path / "checkpoint").read_bytes())
        assert walk_folder(tmp_path) == ENTRIES[:size]
    export(log, tmp_path)
    assert walk_folder(tmp_path) == ENTRIES
