"""Targets of key care: key files, encrypted ones, certificates, what a signer is told and remembers."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

from _support.signers import cosigner, ml_dsa_cosigner
from _support.tls_files import TestAuthority
from fuzz.engine import Target
from fuzz.files import scratch, write
from fuzz.values import LOG, make_target, text_of, trees

from tlog.encrypted_key_file import PassphraseCost, decrypt_key, encrypt_key, stated_vkey
from tlog.errors import ConfigError, CorruptionError, MalformedError
from tlog.key_file import read_any_key_file, read_cosigner_key_file, read_key_file, read_vkey_of
from tlog.note import parse_note
from tlog.signer.desk import SignerDesk
from tlog.signer.duty import MARKS_FIRST_LINE, Mark, format_marks, parse_marks
from tlog.signer.protocol import (
    Cosign,
    Failed,
    Keys,
    ListKeys,
    Refused,
    Sign,
    Signed,
    decode_answer,
    decode_question,
    encode_answer,
    encode_question,
)
from tlog.signer.state import MARKS_NAME, SignerState, read_marks
from tlog.tls import read_client_tls, read_key
from tlog.tls_config import ClientTlsSection

KEYS = (LOG, cosigner("w.example"), ml_dsa_cosigner("w.example"))
CHEAP = PassphraseCost(operations=1, memory_bytes=8_192)
PASSPHRASE = b"correct horse"


def _key_file(data: bytes) -> None:
    path = write("key-file/log.key", data)
    failures = []
    for read in (read_key_file, read_cosigner_key_file, read_any_key_file, read_vkey_of):
        try:
            read(path)
        except ConfigError as error:
            failures.append(error)
            secret = data.rpartition(b"+")[2].decode("latin-1").strip()
            assert len(secret) < 12 or secret not in str(error), "the message shows the key"
    if len(failures) == 4:
        raise failures[0]


def _encrypted_key(data: bytes) -> None:
    """What asks for more memory than CHEAP is only parsed: it is the operator's own file, and says so."""
    text = text_of(data)
    assert stated_vkey(text)
    if f"\nargon2id {CHEAP.operations} {CHEAP.memory_bytes} " in text:
        decrypt_key(text, PASSPHRASE)
        read_key_file(write("encrypted-key/log.key", data), lambda: PASSPHRASE)


def _signer_question(data: bytes) -> None:
    question = decode_question(data)
    assert decode_question(encode_question(question)) == question
    answer = _desk().answer(question)
    if isinstance(answer, Failed):
        listed = _desk().answer(ListKeys())
        assert isinstance(listed, Keys)
        assert not isinstance(question, ListKeys)
        assert question.vkey not in listed.vkeys
    else:
        assert isinstance(answer, Keys | Signed | Refused)
    assert decode_answer(encode_answer(answer)) == answer


@cache
def _desk() -> SignerDesk:
    directory = scratch("signer")
    return SignerDesk(KEYS[:2], SignerState(directory / "state", is_new=True), cosigns_any_origin=True)


def _signer_answer(data: bytes) -> None:
    answer = decode_answer(data)
    assert decode_answer(encode_answer(answer)) is not None


def _signer_marks(data: bytes) -> None:
    directory = scratch("signer-marks")
    (directory / MARKS_NAME).write_bytes(data)
    marks = read_marks(directory)
    assert parse_marks(format_marks(marks)) == marks


def _certificates(data: bytes) -> None:
    """The first byte chooses the file that the rest stands in for: authority, certificate, or key."""
    names = ("ca.crt", "member.crt", "member.key")
    directory = scratch("certificates")
    for name, content in zip(names, _made(), strict=True):
        path = directory / name
        path.write_bytes(content)
        path.chmod(0o600)
    chosen = directory / names[data[0] % 3 if data else 0]
    chosen.write_bytes(data[1:])
    read_key(str(directory / names[2]))
    read_client_tls(ClientTlsSection(**{
        name: str(directory / file)
        for name, file in zip(("ca_path", "certificate_path", "key_path"), names, strict=True)
    }))  # fmt: skip


@cache
def _made() -> tuple[bytes, bytes, bytes]:
    directory: Path = scratch("authority")
    paths = TestAuthority(directory).client("member", "https://member.example").paths
    files = (paths.ca_path, paths.certificate_path, paths.key_path)
    made = tuple(Path(path).read_bytes() for path in files)
    shutil.rmtree(directory)
    return made[0], made[1], made[2]


@cache
def key_targets() -> tuple[Target, ...]:
    """Every parser of keys and of what is said about them."""
    text = parse_note(trees()[0].note(4))[0]
    questions = (
        ListKeys(),
        Sign(vkey=LOG.vkey, text=text),
        Cosign(vkey=KEYS[1].vkey, text=text, timestamp_s=1_700_000_000),
    )
    answers = (Keys(vkeys=(LOG.vkey,)), Signed(signature=bytes(64)), Refused(reason="no"), Failed(reason="?"))
    marks = format_marks([Mark(vkey=LOG.vkey, origin=LOG.name, tree_size=4, root_hash=bytes(32))])
    encrypted = encrypt_key(LOG.skey, LOG.vkey, PASSPHRASE, cost=CHEAP).encode()
    return (
        Target(
            name="key-file",
            run=_key_file,
            seeds=tuple(f"{one.skey}\n".encode() for one in KEYS),
            allowed=(ConfigError,),
            weight=4,
        ),
        Target(
            name="encrypted-key",
            run=_encrypted_key,
            seeds=(encrypted,),
            allowed=(MalformedError, ConfigError),
            nasty=(encrypted.replace(b" 8192 ", b" 4294967297 "), encrypted.replace(b" 1 ", b" 101 ")),
            is_repeatable=False,
        ),
        make_target(
            "signer-question", _signer_question, list(map(encode_question, questions)), MalformedError
        ),
        make_target("signer-answer", _signer_answer, list(map(encode_answer, answers)), MalformedError),
        make_target(
            "signer-marks",
            _signer_marks,
            [marks, f"{MARKS_FIRST_LINE}\n"],
            MalformedError,
            CorruptionError,
        ),
        Target(
            name="certificates",
            run=_certificates,
            seeds=tuple(bytes([at]) + made for at, made in enumerate(_made())),
            allowed=(ConfigError,),
            is_repeatable=False,
            weight=4,
        ),
    )
