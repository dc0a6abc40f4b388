"""`tlog key`, and commands that read encrypted keys: no key and no passphrase in anything that is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from _support.command_line import REPOSITORY, Ended, tlog

from tlog.encrypted_key_file import PassphraseCost, encrypt_key
from tlog.key_file import read_key_file

PASSPHRASE = "a passphrase that is nowhere"


def with_passphrase(
    *arguments: object, passphrase: str = PASSPHRASE, env: dict[str, str] | None = None
) -> Ended:
    """Run a command as a process, with a passphrase in a pipe."""
    read, write = os.pipe()
    os.write(write, passphrase.encode() + b"\n")
    os.close(write)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TLOG_")}
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "tlog", *map(str, arguments), "--passphrase-fd", str(read)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            pass_fds=[read],
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**kept, **(env or {})},
        )
    finally:
        os.close(read)
    return Ended(ended.returncode, ended.stdout, ended.stderr)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a plain key and an encrypted one, of which a guess costs little: it is opened many times."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("plain", "locked"):
        assert tlog("keygen", f"{name}.example", "--out", folder / f"{name}.key").code == 0
    locked, vkey = folder / "locked.key", (folder / "locked.key.vkey").read_text().strip()
    cheap = PassphraseCost(operations=1, memory_bytes=8_192)
    locked.write_text(encrypt_key(locked.read_text().strip(), vkey, PASSPHRASE.encode(), cost=cheap))
    return folder


def test_a_key_that_is_made_encrypted_is_shown_without_a_passphrase(folder: Path) -> None:
    vkey = (folder / "locked.key.vkey").read_text().strip()
    shown = tlog("key", "show", folder / "locked.key", "--json").json
    assert (shown["vkey"], shown["encrypted"], shown["checked"]) == (vkey, True, False)
    shown = with_passphrase("key", "show", folder / "locked.key", "--check", "--json").json
    assert (shown["vkey"], shown["checked"]) == (vkey, True)
    shown = tlog("key", "show", folder / "plain.key", "--json").json
    assert (shown["encrypted"], shown["name"]) == (False, "plain.example")


def test_a_key_goes_under_a_passphrase_and_comes_back_the_same(folder: Path, tmp_path: Path) -> None:
    sealed, opened = tmp_path / "sealed.key", tmp_path / "opened.key"
    ended = with_passphrase("key", "encrypt", folder / "plain.key", "--out", sealed)
    assert ended.code == 0, ended
    assert "still holds the key without a passphrase" in ended.err
    assert with_passphrase("key", "decrypt", sealed, "--out", opened).code == 0
    assert read_key_file(opened) == read_key_file(folder / "plain.key")
    assert (tmp_path / "sealed.key.vkey").read_text() == (folder / "plain.key.vkey").read_text()


def test_nothing_secret_is_in_anything_that_a_command_says(folder: Path, tmp_path: Path) -> None:
    secret = (folder / "plain.key").read_text().strip().split("+", 4)[4]
    said = [
        with_passphrase("key", "show", folder / "locked.key", "--check", *more, passphrase="wrong secret")
        for more in ((), ("--json",))
    ]
    said += [
        with_passphrase("key", "encrypt", folder / "plain.key", "--out", tmp_path / f"{number}.key", *more)
        for number, more in enumerate(((), ("--json",)))
    ]
    said += [
        with_passphrase("key", "decrypt", folder / "locked.key", "--out", folder / "plain.key", "--json"),
        with_passphrase("key", "encrypt", folder / "locked.key", "--out", tmp_path / "x.key", "--json"),
        with_passphrase("keygen", "again.example", "--out", folder / "plain.key", "--encrypt", "--json"),
        with_passphrase("key", "show", folder / "plain.key", "--check", "--json"),
    ]
    assert [ended.code for ended in said] == [2, 2, 0, 0, 2, 2, 2, 0]
    for ended in said:
        for text in (ended.out, ended.err):
            assert secret not in text
            assert PASSPHRASE not in text
            assert "wrong secret" not in text
            assert "PRIVATE" not in text


def test_a_passphrase_is_no_argument_and_no_variable(folder: Path) -> None:
    assert tlog("key", "show", folder / "locked.key", "--passphrase", "x").code == 2
    ended = tlog(
        "key", "show", folder / "locked.key", "--check", "--json", env={"TLOG_PASSPHRASE": PASSPHRASE}
    )
    assert ended.code == 2
    assert "--passphrase-fd" in ended.error["message"]
    assert tlog("keygen", "x.example", "--out", folder / "x.key", "--passphrase-fd", 3).code == 2


def test_governance_and_members_sign_with_encrypted_keys(served, tmp_path: Path) -> None:
    locked = tmp_path / "governor.key"
    assert with_passphrase("key", "encrypt", served.governor(1), "--out", locked).code == 0
    made = with_passphrase("keygen", "vault", "--out", tmp_path / "vault.key", "--encrypt", "--json")
    assert made.json["encrypted"] == "yes"
    ended = with_passphrase(
        *("member", "add", "vault", "--name", "Vault", "--source", "urn:example:vault", "--role", "bank"),
        *("--key", made.json["keyid"], "--sign", locked, "--sign", served.governor(2)),
        env=served.env,
    )
    assert ended.code == 0, ended
    event = tmp_path / "event.json"
    event.write_text(json.dumps(served.event(source="urn:example:vault")))
    appended = with_passphrase("append", "--key", tmp_path / "vault.key", event, env=served.env)
    assert appended.code == 0, appended
    refused = with_passphrase(
        "append", "--key", tmp_path / "vault.key", event, passphrase="wrong", env=served.env
    )
    assert refused.code == 2
