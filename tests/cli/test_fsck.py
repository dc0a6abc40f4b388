"""`tlog fsck` as docs/operations.md tells it: "Check a log" and "Repair", each drill done for real."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from _support.alliance import Alliance
from _support.damaged_store import SIZE, SoundLog, copy_of, exported, flip_bytes, make_store, number, row_of
from _support.log_directory import CONFIG, make_log_directory, serving

from tlog.cli.app import main


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> SoundLog:
    path = tmp_path_factory.mktemp("sound") / "store"
    return SoundLog(path=path, alliance=make_store(path, SIZE))


def damaged(sound: SoundLog, path: Path) -> Path:
    store = copy_of(sound.path, path)
    flip_bytes(store, row_of(store, "entries", number(77)).start + 100)
    return store


def test_a_sound_store_and_folder_end_with_0(
    sound: SoundLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = exported(sound.path, sound.alliance, tmp_path / "tiles")
    for place in (sound.path, folder):
        assert main(["fsck", str(place), "--log-key", sound.alliance.signer.vkey]) == 0
        assert "sound: everything that was checked" in capsys.readouterr().out


def test_damage_is_repaired_from_a_mirror_and_first_only_told(
    sound: SoundLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = damaged(sound, tmp_path / "store")
    mirror = exported(sound.path, sound.alliance, tmp_path / "tiles")
    key = ["--log-key", sound.alliance.signer.vkey]
    assert main(["fsck", str(store), *key, "--json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["part"], finding["leaf_index"]) == ("entry", 77)
    assert main(["fsck", str(store), *key, "--repair-from", str(mirror)]) == 1
    assert "nothing was written" in capsys.readouterr().out
    assert main(["fsck", str(store), *key, "--repair-from", str(mirror), "--write"]) == 0
    assert "everything is right now" in capsys.readouterr().out
    assert main(["fsck", str(store), *key]) == 0


def test_a_folder_is_repaired_from_a_store(
    sound: SoundLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = exported(sound.path, sound.alliance, tmp_path / "tiles")
    (folder / "tile/0/000").unlink()
    arguments = ["fsck", str(folder), "--log-key", sound.alliance.signer.vkey]
    assert main(arguments) == 1
    assert main([*arguments, "--repair-from", str(sound.path), "--write"]) == 0
    assert main(arguments) == 0
    assert "tile/0/000" in capsys.readouterr().out


def test_a_live_log_its_tiles_and_its_store_are_checked_and_a_repair_is_refused(
    sound: SoundLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alliance = Alliance()
    config = make_log_directory(tmp_path / "log", alliance, config=CONFIG)
    policy = tmp_path / "policy"
    policy.write_text(f"log {alliance.signer.vkey}\nquorum none\n")
    with serving(config) as server:
        for place in (server.grpc_address, server.tiles_url, str(tmp_path / "log")):
            assert main(["fsck", place, "--policy", str(policy)]) == 0
        repair = ["--repair-from", str(sound.path), "--policy", str(policy)]
        assert main(["fsck", str(tmp_path / "log"), *repair]) == 3
        assert f"process {server.pid} writes to it" in capsys.readouterr().err


def test_what_cannot_be_read_ends_with_3_and_a_wrong_use_with_2(sound: SoundLog, tmp_path: Path) -> None:
    key = ["--log-key", sound.alliance.signer.vkey]
    assert main(["fsck", str(tmp_path / "nowhere"), *key]) == 3
    assert main(["fsck", str(sound.path), *key, "--write"]) == 2
    assert main(["fsck", str(sound.path), *key, "--repair-from", str(sound.path)]) == 2
