"""`tlog keygen` and what becomes of keys that others can read."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from _support.command_line import tlog

from tlog.cosignature import CosignatureVerifier
from tlog.errors import ConfigError
from tlog.key_file import read_cosigner_key_file, read_key_file
from tlog.note import Verifier


def test_it_writes_a_key_for_its_owner_only_and_shows_its_public_half(tmp_path: Path) -> None:
    ended = tlog("keygen", "bank.example", "--out", tmp_path / "bank.key", "--json")

    signer = read_key_file(tmp_path / "bank.key")
    assert ended.code == 0
    assert ended.json["vkey"] == signer.vkey
    assert ended.json["keyid"] == signer.public_key.hex()
    assert Verifier.from_vkey(ended.json["vkey"]).public_key == signer.public_key
    assert stat.S_IMODE((tmp_path / "bank.key").stat().st_mode) == 0o600


def test_a_cosigner_gets_a_cosignature_key_that_is_no_signing_key(tmp_path: Path) -> None:
    ended = tlog("keygen", "log.example", "--cosigner", "--out", tmp_path / "cosigner.key", "--json")
    assert ended.code == 0
    assert CosignatureVerifier.from_vkey(ended.json["vkey"]).name == "log.example"
    assert read_cosigner_key_file(tmp_path / "cosigner.key").vkey == ended.json["vkey"]
    assert stat.S_IMODE((tmp_path / "cosigner.key").stat().st_mode) == 0o600
    with pytest.raises(ConfigError):
        read_key_file(tmp_path / "cosigner.key")


def test_the_secret_is_never_shown(tmp_path: Path) -> None:
    ended = tlog("keygen", "bank.example", "--out", tmp_path / "bank.key")
    secret = (tmp_path / "bank.key").read_text().strip().split("+", 4)[4]
    assert secret not in ended.out + ended.err
    assert "PRIVATE" not in ended.out + ended.err


def test_the_public_half_lies_beside_the_key(tmp_path: Path) -> None:
    ended = tlog("keygen", "bank.example", "--out", tmp_path / "bank.key", "--json")
    assert (tmp_path / "bank.key.vkey").read_text() == ended.json["vkey"] + "\n"


def test_a_public_half_of_another_key_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "bank.key.vkey").write_text("another\n")
    assert tlog("keygen", "bank.example", "--out", tmp_path / "bank.key").code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["bank.key.vkey"]


def test_two_keys_are_never_the_same(tmp_path: Path) -> None:
    keyids = {tlog("keygen", "k", "--out", tmp_path / f"{n}.key", "--json").json["keyid"] for n in range(5)}
    assert len(keyids) == 5


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    tlog("keygen", "bank.example", "--out", tmp_path / "bank.key")
    before = (tmp_path / "bank.key").read_bytes()
    assert tlog("keygen", "bank.example", "--out", tmp_path / "bank.key").code == 2
    assert (tmp_path / "bank.key").read_bytes() == before


@pytest.mark.parametrize("name", ["", "two words", "a+b"])
def test_a_name_that_cannot_be_a_key_name_is_a_usage_error(tmp_path: Path, name: str) -> None:
    assert tlog("keygen", name, "--out", tmp_path / "k.key").code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    tlog("keygen", "bank.example", "--out", tmp_path / "bank.key")
    (tmp_path / "bank.key").chmod(mode)
    (tmp_path / "policy").write_text("quorum none\n")
    ended = tlog("append", "--key", tmp_path / "bank.key", "--policy", tmp_path / "policy")
    assert ended.code == 2
    assert "chmod 600" in ended.err
