"""Key files: whole and durable or not there at all, and nobody else's."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from _support import child
from _support.signers import cosigner, ml_dsa_cosigner, signer

from tlog.errors import ConfigError
from tlog.key_file import read_cosigner_key_file, read_key_file, write_key_file


def test_every_kind_of_key_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_key_file(tmp_path / "log.key", signer("log.example"))
    assert read_key_file(tmp_path / "log.key") == signer("log.example")
    for number, key in enumerate((cosigner("witness.example"), ml_dsa_cosigner("witness.example"))):
        write_key_file(tmp_path / f"{number}.key", key)
        assert read_cosigner_key_file(tmp_path / f"{number}.key").skey == key.skey
        with pytest.raises(ConfigError, match="does not hold one"):
            read_key_file(tmp_path / f"{number}.key")


def test_a_full_disk_leaves_no_key_file(tmp_path: Path) -> None:
    """The limit on a file's size stands in for the disk's: a part of the key can be written."""
    script = f"""
import resource
from pathlib import Path
from _support.signers import signer
from tlog.errors import ConfigError
from tlog.key_file import write_key_file
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
for limit in (0, 20):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        write_key_file(Path({str(tmp_path)!r}) / "log.key", signer("log.example"))
    except ConfigError as error:
        print(error)
"""
    said = child.run(script)
    assert said.count("cannot be written (File too large), and was not made") == 2
    assert signer("log.example").skey.split("+")[-1] not in said
    assert list(tmp_path.iterdir()) == []


def test_the_file_and_the_name_of_a_key_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    is_failing = False

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        if is_failing and len(synced) == 2:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    write_key_file(tmp_path / "log.key", signer("log.example"))
    assert synced == [(tmp_path / "log.key").stat().st_ino, tmp_path.stat().st_ino]
    synced.clear()
    is_failing = True
    with pytest.raises(ConfigError, match="Input/output error"):
        write_key_file(tmp_path / "other.key", signer("log.example"))
    assert [path.name for path in tmp_path.iterdir()] == ["log.key"]


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "directory").mkdir(mode=0o700)
    script = f"""
from pathlib import Path
from tlog.errors import ConfigError
from tlog.key_file import read_key_file
for path in (Path({str(tmp_path)!r}) / "fifo", Path({str(tmp_path)!r}) / "directory", Path("/dev/zero")):
    try:
        read_key_file(path)
    except ConfigError as error:
        print(error)
"""
    assert child.run(script, timeout_s=30).count("is not a regular file") == 3


def test_a_key_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_key_file(tmp_path / "log.key", signer("log.example"))
    owner = os.geteuid()
    if owner == 0:
        owner = 65534
        os.chown(tmp_path / "log.key", owner, -1)
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(ConfigError, match=f"belongs to user {owner}"):
        read_key_file(tmp_path / "log.key")
    monkeypatch.setattr(os, "geteuid", lambda: owner)
    assert read_key_file(tmp_path / "log.key") == signer("log.example")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of root's")
def test_a_key_of_roots_is_taken_by_whoever_can_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_key_file(tmp_path / "log.key", signer("log.example"))
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    assert read_key_file(tmp_path / "log.key") == signer("log.example")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o601])
def test_a_key_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    write_key_file(tmp_path / "log.key", signer("log.example"))
    assert stat.S_IMODE((tmp_path / "log.key").stat().st_mode) == 0o600
    (tmp_path / "log.key").chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_key_file(tmp_path / "log.key")


def test_an_existing_file_is_never_overwritten_or_taken_away(tmp_path: Path) -> None:
    (tmp_path / "log.key").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "absent")
    for name in ("log.key", "link"):
        with pytest.raises(ConfigError, match="never overwritten"):
            write_key_file(tmp_path / name, signer("log.example"))
    assert (tmp_path / "log.key").read_text() == "precious"
    assert (tmp_path / "link").is_symlink()
