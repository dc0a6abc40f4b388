"""Cosignatures of one checkpoint: newer ones take the place of older ones, and never the other way round."""

from __future__ import annotations

from _support.signers import cosigner
from _support.submitting_log import SubmittingLog

from server.cosigned_note import add_newer_signatures
from tlog.cosignature import parse_cosigner_vkey
from tlog.note import Signature, parse_note

LOG = SubmittingLog(fork_at=5)
COSIGNER = cosigner("witness.example")
NEIGHBOUR = cosigner("neighbour.example")
VERIFIERS = [parse_cosigner_vkey(key.vkey) for key in (COSIGNER, NEIGHBOUR)]
NOTE = LOG.note(5)
NOW_S = 1_800_000_000


def at(time_s: int, key: object = COSIGNER) -> Signature:
    return key.cosign(parse_note(NOTE)[0], time_s)  # type: ignore[attr-defined]


def held(*signatures: Signature) -> list[Signature]:
    note = NOTE
    for signature in signatures:
        note = add_newer_signatures(note, [signature], VERIFIERS, not_after_s=NOW_S)
    logs, *cosignatures = parse_note(note)[1]
    assert logs == parse_note(NOTE)[1][0]
    return cosignatures


def test_the_newest_cosignature_of_a_key_stays_in_whatever_order_they_come() -> None:
    assert held(at(1), at(2)) == held(at(2), at(1)) == held(at(2), at(2)) == [at(2)]


def test_cosignatures_of_several_keys_stay_beside_each_other() -> None:
    assert set(held(at(7), at(3, NEIGHBOUR), at(4))) == {at(7), at(3, NEIGHBOUR)}


def test_a_clock_that_ran_ahead_once_does_not_keep_the_right_time_out() -> None:
    assert held(at(NOW_S + 1), at(5)) == [at(5)]
    assert held(at(NOW_S), at(5)) == [at(NOW_S)]


def test_signatures_without_a_known_time_take_the_place_of_the_one_before() -> None:
    key = cosigner("unknown.example")
    assert held(at(9, key), at(8, key)) == [at(8, key)]
