"""Whom a tile reader believes: one key for one origin, or a policy."""

from __future__ import annotations

import pytest
from _support.signers import (
    GO_SUM_DATABASE_CHECKPOINT,
    GO_SUM_DATABASE_VKEY,
    cosigner,
    signer,
)
from _support.tiled_log import ORIGIN, SIGNER, checkpoint_note

from tlog.errors import MalformedError, PolicyError, SignatureError
from tlog.note import add_signatures, parse_note
from tlog.policy import build_policy
from tlog.tile_source.trust import LogKey, LogPolicy

NOTE = checkpoint_note(5, bytes(32))


def test_a_key_opens_the_checkpoints_of_its_log() -> None:
    checkpoint = LogKey.from_vkey(SIGNER.vkey).open(NOTE)
    assert (checkpoint.origin, checkpoint.tree_size) == (ORIGIN, 5)


def test_the_origin_need_not_be_the_name_of_the_key_where_both_are_given() -> None:
    with pytest.raises(PolicyError, match=r"go\.sum database tree"):
        LogKey.from_vkey(GO_SUM_DATABASE_VKEY).open(GO_SUM_DATABASE_CHECKPOINT)
    checkpoint = LogKey.from_vkey(GO_SUM_DATABASE_VKEY, "go.sum database tree").open(
        GO_SUM_DATABASE_CHECKPOINT
    )
    assert checkpoint.tree_size == 20852163


def test_another_key_another_origin_and_a_changed_note_are_refused() -> None:
    with pytest.raises(SignatureError):
        LogKey.from_vkey(signer(ORIGIN, 2).vkey).open(NOTE)
    with pytest.raises(PolicyError):
        LogKey.from_vkey(SIGNER.vkey, "another").open(NOTE)
    with pytest.raises(SignatureError):
        LogKey.from_vkey(SIGNER.vkey).open(NOTE.replace(b"\n5\n", b"\n6\n"))
    with pytest.raises(MalformedError):
        LogKey.from_vkey(SIGNER.vkey).open(b"<html>")
    for vkey in ("", "x", SIGNER.skey):
        with pytest.raises(MalformedError):
            LogKey.from_vkey(vkey)


def test_a_log_that_signs_timestamped_is_believed_by_that_key() -> None:
    key = cosigner(ORIGIN)
    text, _ = parse_note(NOTE)
    note = add_signatures(NOTE, [key.cosign(text, 1)])
    assert LogKey.from_vkey(key.vkey).open(note).tree_size == 5
    with pytest.raises(SignatureError):
        LogKey.from_vkey(key.vkey).open(NOTE)


def test_a_policy_asks_for_its_quorum_and_for_the_origin_that_is_meant() -> None:
    policy = build_policy([SIGNER.vkey, signer("other.example", 3).vkey])
    assert LogPolicy(policy=policy).open(NOTE).tree_size == 5
    assert LogPolicy(policy=policy, origin=ORIGIN).open(NOTE).tree_size == 5
    with pytest.raises(PolicyError, match=r"other\.example"):
        LogPolicy(policy=policy, origin="other.example").open(NOTE)
    witnessed = build_policy([SIGNER.vkey], [cosigner("w").vkey], 1)
    with pytest.raises(PolicyError, match="witness"):
        LogPolicy(policy=witnessed).open(NOTE)
