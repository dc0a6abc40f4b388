"""Where a witness's keys are: files under a passphrase, or a signer that keeps marks of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from _support.real_signer import signing
from _support.signers import cosigner
from _support.submitting_log import SubmittingLog

from tlog.cosignature import CosignatureVerifier
from tlog.encrypted_key_file import PassphraseCost
from tlog.errors import ConfigError, SignerAwayError, SignerRefusedError
from tlog.key_file import write_key_file
from tlog.note import Verifier, add_signatures, open_note
from tlog.remote_signer import RemoteCosigner
from tlog.storage.memory_witness_store import MemoryWitnessStore
from tlog.witness.app import read_cosigners
from tlog.witness.config import load_witness_config
from tlog.witness.core import Cosigned, WitnessedLog
from tlog.witness.witness import Witness

KEY = cosigner("witness.example")
CHEAP = PassphraseCost(operations=1, memory_bytes=8_192)


def configured(folder: Path, text: str) -> Path:
    path = folder / "witness.toml"
    path.write_text(f'[witness]\nstore_path = "store"\n{text}\n')
    return path


def witness_of(keys: object, log: SubmittingLog) -> Witness:
    known = WitnessedLog(origin=log.origin, verifiers=(Verifier.from_vkey(log.signer.vkey),))
    return Witness(MemoryWitnessStore(), keys, [known], now_s=lambda: 1_800_000_000)  # type: ignore[arg-type]


def test_a_witness_cosigns_with_a_key_that_a_signer_holds(tmp_path: Path) -> None:
    write_key_file(tmp_path / "witness.key", KEY)
    log = SubmittingLog()
    config = load_witness_config(configured(tmp_path, 'signer_socket = "signer.sock"'))
    with pytest.raises(SignerAwayError):
        read_cosigners(config)
    held = ("--cosigner-key", tmp_path / "witness.key", "--cosign-any-origin")
    with signing(tmp_path, *held, "--new-state"):
        (key,) = read_cosigners(config)
        answer = witness_of([key], log).add_checkpoint(log.request(0, 5))
        assert isinstance(answer, Cosigned)
        note = add_signatures(log.note(5), answer.signatures)
        assert len(open_note(note, [CosignatureVerifier.from_vkey(KEY.vkey)]).signatures) == 1
        # A witness whose record was lost would cosign anything again: its signer does not.
        with pytest.raises(SignerRefusedError, match="another tree of size 5"):
            witness_of([key], log).add_checkpoint(log.request(0, 5, history=1))
        assert isinstance(key, RemoteCosigner)
        key.close()


def test_a_witness_opens_encrypted_keys_with_the_passphrase_of_a_descriptor(tmp_path: Path) -> None:
    write_key_file(tmp_path / "witness.key", KEY, passphrase=b"of the witness", cost=CHEAP)
    locked = 'key_paths = ["witness.key"]'
    with pytest.raises(ConfigError, match="is encrypted"):
        read_cosigners(load_witness_config(configured(tmp_path, locked)))
    read, write = os.pipe()
    os.write(write, b"of the witness\n")
    os.close(write)
    config = load_witness_config(configured(tmp_path, f"{locked}\nkey_passphrase_fd = {read}"))
    assert [key.vkey for key in read_cosigners(config)] == [KEY.vkey]
