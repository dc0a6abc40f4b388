"""Keys under a passphrase: opened by it and by nothing else, and nothing of either in any message."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from _support.signers import cosigner, ml_dsa_cosigner, signer
from hypothesis import given
from hypothesis import strategies as st
from nacl.pwhash import argon2id
from nacl.secret import SecretBox

from tlog.encrypted_key_file import PassphraseCost, decrypt_key, encrypt_key, stated_vkey
from tlog.errors import ConfigError, MalformedError
from tlog.key_file import (
    read_any_key_file,
    read_cosigner_key_file,
    read_key_file,
    read_vkey_of,
    write_key_file,
)
from tlog.passphrase import MAX_PASSPHRASE_BYTES, PassphraseFromDescriptor, read_passphrase

CHEAP = PassphraseCost(operations=1, memory_bytes=8_192)
PASSPHRASE = b"correct horse \xe2\x82\xac"
KEY = signer("log.example")


def sealed() -> str:
    return encrypt_key(KEY.skey, KEY.vkey, PASSPHRASE, cost=CHEAP)


def test_every_kind_of_key_comes_back_under_its_passphrase(tmp_path: Path) -> None:
    keys = (KEY, cosigner("witness.example"), ml_dsa_cosigner("witness.example"))
    for number, key in enumerate(keys):
        path = tmp_path / f"{number}.key"
        write_key_file(path, key, passphrase=PASSPHRASE, cost=CHEAP)
        read = read_key_file if number == 0 else read_cosigner_key_file
        assert read(path, lambda: PASSPHRASE).skey == key.skey
        assert read_any_key_file(path, lambda: PASSPHRASE).skey == key.skey
        assert read_vkey_of(path) == (key.vkey, True)
        assert path.stat().st_mode & 0o777 == 0o600
        assert key.skey.split("+")[-1].encode() not in path.read_bytes()
        with pytest.raises(ConfigError, match="passphrase-fd"):
            read(path)


def test_the_file_is_what_its_documentation_says() -> None:
    first, vkey, cost, box = sealed()[:-1].split("\n")
    _, operations, memory, salt = cost.split(" ")
    assert (first, vkey) == ("tlog-encrypted-key/v1", f"vkey {KEY.vkey}")
    key = argon2id.kdf(32, PASSPHRASE, base64.b64decode(salt), opslimit=int(operations), memlimit=int(memory))
    assert SecretBox(key).decrypt(base64.b64decode(box.removeprefix("secretbox "))) == KEY.skey.encode()


def test_salt_and_nonce_are_new_every_time() -> None:
    assert len({sealed() for _ in range(5)}) == 5
    assert len({sealed().split("\n")[2] for _ in range(5)}) == 5


def test_another_passphrase_opens_nothing_and_shows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_key_file(path, KEY, passphrase=PASSPHRASE, cost=CHEAP)
    for wrong in (b"", b"x", PASSPHRASE[:-1], PASSPHRASE + b" "):
        with pytest.raises(ConfigError, match="not the one of this key") as caught:
            read_key_file(path, lambda wrong=wrong: wrong)  # type: ignore[misc]
        assert caught.value.__cause__ is None
        assert "correct horse" not in str(caught.value)


def test_a_vkey_that_was_exchanged_is_found_when_the_key_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "key"
    other = signer("log.example", number=2)
    path.write_text(encrypt_key(KEY.skey, other.vkey, PASSPHRASE, cost=CHEAP))
    path.chmod(0o600)
    assert read_vkey_of(path) == (other.vkey, True)
    with pytest.raises(ConfigError, match="another vkey"):
        read_key_file(path, lambda: PASSPHRASE)


def test_a_key_of_another_kind_or_no_key_in_the_box_is_refused(tmp_path: Path) -> None:
    for number, inside in enumerate((cosigner("log.example").skey, "no key", "PRIVATE+KEY+log.example+x")):
        path = tmp_path / str(number)
        path.write_text(encrypt_key(inside, KEY.vkey, PASSPHRASE, cost=CHEAP))
        path.chmod(0o600)
        with pytest.raises(ConfigError, match="does not hold one") as caught:
            read_key_file(path, lambda: PASSPHRASE)
        assert inside not in str(caught.value)


@pytest.mark.parametrize("position", range(0, 500, 7))
def test_a_changed_file_never_gives_another_key(position: int) -> None:
    text = sealed()
    if position >= len(text):
        return
    changed = text[:position] + chr(ord(text[position]) ^ 1) + text[position + 1 :]
    try:
        skey, vkey = decrypt_key(changed, PASSPHRASE)
    except (ConfigError, MalformedError):
        return
    # Only the vkey line is not under the box; key_file holds it against the key.
    assert skey == KEY.skey
    assert vkey != KEY.vkey


@given(st.text() | st.builds(lambda tail: f"tlog-encrypted-key/v1\n{tail}", st.text()))
def test_arbitrary_text_is_malformed_and_nothing_worse(text: str) -> None:
    with pytest.raises(MalformedError):
        stated_vkey(text)


@pytest.mark.parametrize(
    "cost", ["0 8192", "101 8192", "1 8191", "1 4294967297", "1 99999999999999999999", "-1 8192", "1"]
)
def test_a_cost_out_of_bounds_is_refused_before_any_memory_is_taken(cost: str) -> None:
    lines = sealed().split("\n")
    lines[2] = f"argon2id {cost} {lines[2].split(' ')[3]}"
    with pytest.raises(MalformedError):
        decrypt_key("\n".join(lines), PASSPHRASE)


def test_an_empty_passphrase_protects_nothing() -> None:
    with pytest.raises(ConfigError, match="empty"):
        encrypt_key(KEY.skey, KEY.vkey, b"", cost=CHEAP)


def given_over_a_pipe(data: bytes) -> int:
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    return read


@pytest.mark.parametrize("data", [b"secret", b"secret\n", b"secret\r\n"])
def test_a_passphrase_is_one_line_of_a_descriptor_that_is_closed_then(data: bytes) -> None:
    descriptor = given_over_a_pipe(data)
    assert read_passphrase(descriptor) == b"secret"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.parametrize("data", [b"", b"\n", b"one\ntwo", b"x" * (MAX_PASSPHRASE_BYTES + 1)])
def test_what_is_no_passphrase_is_refused_and_not_shown(data: bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        read_passphrase(given_over_a_pipe(data))
    assert "two" not in str(caught.value)
    assert "xxx" not in str(caught.value)


def test_a_passphrase_is_read_once_and_never_shown() -> None:
    passphrase = PassphraseFromDescriptor(given_over_a_pipe(b"secret"))
    assert passphrase() == passphrase() == b"secret"
    assert "secret" not in repr(passphrase) + str(passphrase)
    with pytest.raises(ConfigError, match="file descriptor 999"):
        PassphraseFromDescriptor(999)()
