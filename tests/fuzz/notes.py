"""Targets of what is signed: notes, keys, checkpoints, cosignatures, policies, and requests to a witness."""

from __future__ import annotations

import contextlib
from functools import cache

from _support.signed_tree import COSIGNED_AT_S, signed_checkpoint
from _support.signers import (
    CT_CHECKPOINT,
    CT_WITNESS_VKEYS,
    GO_SUM_DATABASE_CHECKPOINT,
    GO_SUM_DATABASE_VKEY,
    cosigner,
    ml_dsa_cosigner,
)
from fuzz.engine import Target
from fuzz.values import LOG, NOW_S, POLICY, WITNESS, make_target, text_of, trees

from tlog.checkpoint import Checkpoint, format_checkpoint, parse_checkpoint
from tlog.cosignature import (
    CosignatureVerifier,
    MlDsaCosignatureVerifier,
    parse_cosigner_skey,
    parse_cosigner_vkey,
)
from tlog.cosigned import read_cosigned
from tlog.ed25519 import verify_signature
from tlog.encoding import decode_utf8, format_base64, parse_base64, parse_decimal, parse_hex, split_lines
from tlog.errors import (
    ConfigError,
    CorruptionError,
    MalformedError,
    PolicyError,
    SignatureError,
    StaleCheckpointError,
    VerificationError,
)
from tlog.freshness import FreshnessRule
from tlog.note import Signer, Verifier, format_note, open_note, parse_note, parse_signature_line
from tlog.policy import build_policy, format_policy, open_checkpoint, parse_policy
from tlog.vkey import format_vkey, parse_skey_type, parse_vkey
from tlog.witness.core import (
    Record,
    WitnessedLog,
    decide,
    decode_record,
    encode_record,
    open_request,
    origin_hash,
)
from tlog.witness.request import format_add_checkpoint, parse_add_checkpoint


def _encoding(data: bytes) -> None:
    text = text_of(data)
    accepted = 0
    for parse in (_decimal, _base64, _hex, _lines):
        try:
            parse(data, text)
            accepted += 1
        except MalformedError:
            pass
    if not accepted:
        decode_utf8(data, "the text")
        raise MalformedError("none of these")


def _decimal(data: bytes, text: str) -> None:
    assert str(parse_decimal(text, "a number")) == text


def _base64(data: bytes, text: str) -> None:
    assert format_base64(parse_base64(text, "a value")) == text


def _hex(data: bytes, text: str) -> None:
    assert parse_hex(text, "a value", length=len(text) // 2).hex() == text


def _lines(data: bytes, text: str) -> None:
    assert "".join(f"{line}\n" for line in split_lines(text, "a text")) == text


def _note(data: bytes) -> None:
    text, signatures = parse_note(data)
    assert format_note(text, signatures) == data
    assert decode_utf8(data, "the note")


def _signature_line(data: bytes) -> None:
    parse_signature_line(text_of(data))


def _signed_note(data: bytes) -> None:
    ct_witnesses = [CosignatureVerifier.from_vkey(vkey) for vkey in CT_WITNESS_VKEYS]
    go = Verifier.from_vkey(GO_SUM_DATABASE_VKEY)
    opened = open_note(data, [Verifier.from_vkey(LOG.vkey), go, _witness(), *ct_witnesses, _ml_dsa()])
    assert opened.signatures


@cache
def _witness() -> CosignatureVerifier:
    return CosignatureVerifier.from_vkey(WITNESS.vkey)


@cache
def _ml_dsa() -> MlDsaCosignatureVerifier:
    return MlDsaCosignatureVerifier.from_vkey(ml_dsa_cosigner("ml.example").vkey)


def _vkey(data: bytes) -> None:
    parsed = parse_vkey(text_of(data))
    kinds = (Verifier.from_vkey, parse_cosigner_vkey)
    taken = 0
    for kind in kinds:
        try:
            kind(text_of(data))
            taken += 1
        except (MalformedError, ConfigError):
            pass
    assert taken <= 1, "one vkey is taken for two kinds"
    if taken:
        assert format_vkey(parsed.name, parsed.key_type, parsed.public_key).count("+") >= 2


def _skey(data: bytes) -> None:
    text = text_of(data)
    failures = []
    for parse in (parse_skey_type, Signer.from_skey, parse_cosigner_skey):
        try:
            parse(text)
        except MalformedError as error:
            failures.append(error)
    for error in failures:
        secret = text.rpartition("+")[2]
        assert len(secret) < 12 or secret not in str(error), "the message shows the key"
    if len(failures) > 1:
        raise failures[0]


def _checkpoint(data: bytes) -> None:
    text = text_of(data)
    assert format_checkpoint(parse_checkpoint(text)) == text


def _cosignature(data: bytes) -> None:
    """The input is the whole note; the times in it are read as a client reads them."""
    opened = open_note(data, POLICY.verifiers)
    read_cosigned(opened, POLICY)
    FreshnessRule(max_age_s=3_600, now_s=lambda: float(NOW_S)).verify(data, POLICY)


def _policy(data: bytes) -> None:
    policy = parse_policy(data)
    assert parse_policy(format_policy(policy)) == policy
    if policy.logs:
        with contextlib.suppress(SignatureError, PolicyError):
            open_checkpoint(trees()[0].note(4), policy)


def _policy_checkpoint(data: bytes) -> None:
    checkpoint = open_checkpoint(data, POLICY)
    assert checkpoint.origin == LOG.name


def _resigned_checkpoint(data: bytes) -> None:
    """The input is the text of a checkpoint, which gets good signatures: only its form can be wrong."""
    text = text_of(data)
    note = Signer(name=LOG.name, private_key=LOG.private_key)
    parsed = parse_checkpoint(text)
    signed = signed_checkpoint(parsed, [note]) if not parsed.extensions else b""
    if signed:
        open_checkpoint(signed, build_policy([LOG.vkey]))


def _witness_request(data: bytes) -> None:
    logs = {LOG.name: WitnessedLog(origin=LOG.name, verifiers=(Verifier.from_vkey(LOG.vkey),))}
    for recorded in (None, _record()):
        submitted = open_request(data, logs)
        if hasattr(submitted, "status"):
            assert 400 <= submitted.status < 500
        else:
            decide(submitted, recorded, [WITNESS], NOW_S)
    request = parse_add_checkpoint(data)
    assert format_add_checkpoint(request.old_size, request.proof, request.checkpoint)


@cache
def _record() -> Record:
    note = trees()[0].note(4)
    checkpoint = parse_checkpoint(parse_note(note)[0])
    return Record(timestamp_s=COSIGNED_AT_S, checkpoint=checkpoint, note=note)


def _witness_record(data: bytes) -> None:
    assert encode_record(decode_record(data, origin_hash(LOG.name))) == data


def _signature(data: bytes) -> None:
    """32 bytes of a public key, 64 of a signature, and the message."""
    verify_signature(data[:32], data[96:], data[32:96])


@cache
def note_targets() -> tuple[Target, ...]:
    """Return the targets of this file."""
    one, fork = trees()
    note, text = one.note(4), format_checkpoint(Checkpoint(LOG.name, 4, one.root(4)))
    cosigned = signed_checkpoint(Checkpoint(LOG.name, 4, one.root(4)), [LOG], [WITNESS])
    signed = LOG.private_key.public_key + LOG.private_key.sign(b"message") + b"message"
    vkeys = [LOG.vkey, WITNESS.vkey, ml_dsa_cosigner("ml.example").vkey, GO_SUM_DATABASE_VKEY]
    skeys = [LOG.skey, WITNESS.skey, ml_dsa_cosigner("ml.example").skey]
    policies = [
        format_policy(POLICY),
        b"log %s https://log.example/\nwitness a %s https://a.example/\nwitness b %s\n"
        b"group g 1 a b\ngroup h any g\nquorum h\n"
        % (LOG.vkey.encode(), WITNESS.vkey.encode(), cosigner("b.example", 102).vkey.encode()),
    ]
    requests = [
        format_add_checkpoint(0, [], one.note(4)),
        format_add_checkpoint(4, one.path(4, 7)[1:], one.note(7)),
        format_add_checkpoint(4, [], fork.note(4)),
    ]
    big = 70_000
    return (
        make_target(
            "encoding",
            _encoding,
            ["0", "9223372036854775807", "AAAA", "//8=", "00ff", "one\ntwo\n"],
            MalformedError,
            nasty=[
                b"9" * 60_000,
                b"01",
                b"+1",
                b"\xd9\xa1",
                b"AAB=",
                b"AA==\n",
                b"FF",
                b"\r\n",
                b"\xed\xa0\x80",
            ],
        ),
        make_target(
            "note",
            _note,
            [note, cosigned, GO_SUM_DATABASE_CHECKPOINT, CT_CHECKPOINT],
            MalformedError,
            nasty=[b"\n" * big, b"a\n\n" + "— a AAAAAAA=\n".encode() * 101, "a\n\n— ".encode() + b" " * big],
        ),
        make_target("signature-line", _signature_line, [note.decode().splitlines()[-1]], MalformedError),
        make_target(
            "signed-note",
            _signed_note,
            [note, cosigned, GO_SUM_DATABASE_CHECKPOINT, CT_CHECKPOINT],
            MalformedError,
            SignatureError,
        ),
        make_target("vkey", _vkey, vkeys, MalformedError, nasty=[b"+" * big, b"a+00000000+" + b"A" * big]),
        make_target("skey", _skey, skeys, MalformedError, nasty=[b"PRIVATE+KEY+" + b"+" * big]),
        make_target(
            "checkpoint",
            _checkpoint,
            [text, "go.sum database tree\n1\n" + "A" * 43 + "=\nextension\n"],
            MalformedError,
            nasty=[b"a\n0\n" + b"A" * 43 + b"=\n" + b"x\n" * 30_000],
        ),
        make_target("resigned-checkpoint", _resigned_checkpoint, [text], MalformedError, VerificationError),
        make_target(
            "cosignature",
            _cosignature,
            [cosigned],
            MalformedError,
            SignatureError,
            StaleCheckpointError,
            ConfigError,
        ),
        make_target(
            "policy",
            _policy,
            policies,
            MalformedError,
            nasty=[
                b"group g all g\nquorum g\n",
                b"\n" * big,
                b"quorum none\nquorum none\n",
                b"".join(b"group g%d any none\n" % number for number in range(2000)),
            ],
        ),
        make_target(
            "policy-checkpoint", _policy_checkpoint, [cosigned], MalformedError, SignatureError, PolicyError
        ),
        make_target("signature", _signature, [signed], SignatureError),
        make_target("witness-request", _witness_request, requests, MalformedError),
        make_target("witness-record", _witness_record, [encode_record(_record())], CorruptionError),
    )
