"""What a witness decides: every MUST of C2SP tlog-witness, each quoted by its test."""

from __future__ import annotations

import dataclasses

import pytest
from _support.mutations import damaged
from _support.signers import cosigner, seed, signer
from _support.submitting_log import SubmittingLog
from hypothesis import given, settings
from hypothesis import strategies as st

from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.cosignature import (
    CosignatureVerifier,
    CosignerSigner,
    CosignerVerifier,
    MlDsaCosignatureSigner,
    parse_cosigner_vkey,
)
from tlog.encoding import format_base64
from tlog.errors import CorruptionError, SignatureError
from tlog.evidence import Evidence, format_evidence, parse_evidence, verify_evidence
from tlog.merkle import EMPTY_ROOT
from tlog.ml_dsa import MlDsaPrivateKey
from tlog.note import Signature, Verifier, format_note, open_note, parse_note, parse_signature_line, sign_note
from tlog.policy import build_policy
from tlog.witness.core import (
    Cosigned,
    Record,
    Refusal,
    SubmittedCheckpoint,
    WitnessedLog,
    decide,
    decode_record,
    encode_record,
    open_request,
    origin_hash,
)
from tlog.witness.request import format_add_checkpoint

LOG = SubmittingLog(fork_at=20)
NAME = "witness.example"
ED25519 = cosigner(NAME)
ML_DSA = MlDsaCosignatureSigner(name=NAME, private_key=MlDsaPrivateKey(seed(7)))
NOW_S = 1_800_000_000


def known(log: SubmittingLog = LOG, *more: Verifier) -> dict[str, WitnessedLog]:
    verifiers = (Verifier.from_vkey(log.signer.vkey), *more)
    return {log.origin: WitnessedLog(origin=log.origin, verifiers=verifiers)}


def answer(
    body: bytes,
    recorded: Record | None = None,
    *,
    logs: dict[str, WitnessedLog] | None = None,
    cosigners: tuple[CosignerSigner, ...] = (ED25519,),
    now_s: int = NOW_S,
) -> Cosigned | Refusal:
    submitted = open_request(body, known() if logs is None else logs)
    if isinstance(submitted, Refusal):
        return submitted
    return decide(submitted, recorded, cosigners, now_s)


def cosigned(body: bytes, recorded: Record | None = None, **options: object) -> Cosigned:
    found = answer(body, recorded, **options)  # type: ignore[arg-type]
    assert isinstance(found, Cosigned), found
    return found


def record(size: int, **options: object) -> Record:
    """The record of a witness that saw only this one checkpoint."""
    found = cosigned(LOG.request(0, size), **options).record
    assert found is not None
    return found


def status(body: bytes, recorded: Record | None = None, **options: object) -> int:
    found = answer(body, recorded, **options)  # type: ignore[arg-type]
    return found.status if isinstance(found, Refusal) else 200


def request_of(checkpoint: Checkpoint, old_size: int = 0, proof: tuple[bytes, ...] = ()) -> bytes:
    return format_add_checkpoint(old_size, proof, sign_note(format_checkpoint(checkpoint), [LOG.signer]))


# ----- 200


@pytest.mark.parametrize("size", [0, 1, 2, 3, 20, 64])
def test_the_first_checkpoint_of_a_log_needs_no_proof(size: int) -> None:
    found = cosigned(LOG.request(0, size))
    assert found.record is not None
    assert found.record.checkpoint == LOG.checkpoint(size)


def test_every_consistent_pair_of_sizes_is_cosigned() -> None:
    # "If all the checks above pass, the witness MUST update its record of the latest cosigned checkpoint and
    # respond with a "200 Success" HTTP status code."
    for old_size in range(25):
        recorded = record(old_size)
        for size in range(old_size, 25):
            found = cosigned(LOG.request(old_size, size), recorded)
            assert size == old_size or found.record is not None
            assert (found.record or recorded).checkpoint == LOG.checkpoint(size)


def test_the_body_is_signature_lines_of_the_witness_over_the_checkpoint() -> None:
    # "The response body MUST be a sequence of one or more note signature lines, each starting with the `—`
    # character (U+2014) and ending with a newline character (U+000A). The signatures MUST be cosignatures
    # from the witness key(s) on the checkpoint."
    body = cosigned(LOG.request(0, 5), cosigners=(ED25519, ML_DSA)).body
    lines = body.split("\n")
    assert lines.pop() == ""
    assert [line[0] for line in lines] == ["—", "—"]
    note = LOG.note(5) + body.encode()
    for vkey in (ED25519.vkey, ML_DSA.vkey):
        opened = open_note(note, [parse_cosigner_vkey(vkey)])
        assert [signature.name for signature in opened.signatures] == [NAME]
    # Mutation: the same lines are worth nothing under another checkpoint.
    for vkey in (ED25519.vkey, ML_DSA.vkey):
        with pytest.raises(SignatureError):
            open_note(LOG.note(6) + body.encode(), [parse_cosigner_vkey(vkey)])


@pytest.mark.parametrize("key", [ED25519, ML_DSA])
@pytest.mark.parametrize(("now_s", "expected"), [(NOW_S, NOW_S), (1, 1), (0, 1), (-5, 1)])
def test_a_cosignature_says_when_it_was_made(key: CosignerSigner, now_s: int, expected: int) -> None:
    # "The cosignature MUST NOT omit the timestamp, i.e. the timestamp MUST NOT be zero."
    (signature,) = cosigned(LOG.request(0, 5), cosigners=(key,), now_s=now_s).signatures
    assert parse_cosigner_vkey(key.vkey).timestamp_s(signature.signature) == expected


def test_time_never_goes_backwards_for_a_log() -> None:
    recorded = record(3)
    found = cosigned(LOG.request(3, 5), recorded, now_s=NOW_S - 3_600)
    assert found.record is not None
    assert found.record.timestamp_s == NOW_S
    verifier = CosignatureVerifier.from_vkey(ED25519.vkey)
    assert verifier.timestamp_s(found.signatures[0].signature) == NOW_S
    later = cosigned(LOG.request(5, 5), found.record, now_s=NOW_S + 1)
    assert later.record is not None
    assert later.record.timestamp_s == NOW_S + 1


def test_the_same_checkpoint_again_gets_a_fresh_cosignature() -> None:
    recorded = record(5)
    found = cosigned(LOG.request(5, 5), recorded, now_s=NOW_S + 60)
    assert found.record is not None
    assert found.record.timestamp_s == NOW_S + 60
    assert found.record.checkpoint == recorded.checkpoint


@pytest.mark.parametrize("now_s", [NOW_S, NOW_S - 5])
def test_the_same_checkpoint_in_the_same_second_gets_the_same_cosignatures_and_no_new_record(
    now_s: int,
) -> None:
    first = cosigned(LOG.request(0, 5), cosigners=(ED25519, ML_DSA))
    again = cosigned(LOG.request(5, 5), first.record, cosigners=(ED25519, ML_DSA), now_s=now_s)
    assert again.record is None
    assert again.signatures == first.signatures
    swapped = cosigned(LOG.request(5, 5), first.record, cosigners=(ML_DSA, ED25519), now_s=now_s)
    assert swapped.signatures == first.signatures[::-1]


def test_a_key_that_is_new_to_the_witness_signs_at_once() -> None:
    recorded = record(5)
    found = cosigned(LOG.request(5, 5), recorded, cosigners=(ED25519, ML_DSA))
    assert len(found.signatures) == 2
    assert found.record is not None


def test_a_record_holds_the_logs_verified_signature_and_what_was_returned_and_nothing_else() -> None:
    # "it MUST include the cosignature(s) from the witness's key(s) that were returned from add-checkpoint
    # and the cosignature from the log key(s) that the witness verified."
    second = signer(LOG.origin, 2)
    text = format_checkpoint(LOG.checkpoint(5))
    stranger = cosigner("stranger.example", 9).cosign(text, 3)
    note = sign_note(text, [LOG.signer, second])
    note = format_note(text, [stranger, *parse_note(note)[1], stranger])
    found = cosigned(
        format_add_checkpoint(0, [], note),
        logs=known(LOG, Verifier.from_vkey(second.vkey)),
        cosigners=(ED25519, ML_DSA),
    )
    assert found.record is not None
    signatures = parse_note(found.record.note)[1]
    assert [(s.name, s.key_id) for s in signatures] == [
        (LOG.origin, LOG.signer.key_id),
        (LOG.origin, second.key_id),
        (NAME, ED25519.key_id),
        (NAME, ML_DSA.key_id),
    ]
    assert signatures[2:] == found.signatures


# ----- 404 and 403: whose checkpoint it is


def test_a_log_that_is_not_known_is_404() -> None:
    # "If the checkpoint origin is unknown, the witness MUST respond with a "404 Not Found" HTTP status
    # code."
    other = SubmittingLog(origin="log.example/other", size=5)
    assert status(other.request(0, 5)) == 404
    assert status(LOG.request(0, 5), logs={}) == 404
    # The origin decides, not the key's name: signed by a key that is trusted for another origin.
    assert status(request_of(dataclasses.replace(LOG.checkpoint(5), origin="log.example/other"))) == 404


def test_a_checkpoint_that_no_trusted_key_has_signed_is_403() -> None:
    # "The witness MUST respond with a "403 Forbidden" HTTP status code if either no signature from a trusted
    # key for the origin is present […]"
    text = format_checkpoint(LOG.checkpoint(5))
    impostor = signer(LOG.origin, 66)
    assert status(format_add_checkpoint(0, [], sign_note(text, [impostor]))) == 403
    assert status(format_add_checkpoint(0, [], sign_note(text, [signer("someone.example", 1)]))) == 403


@pytest.mark.parametrize("ending", ["", "\n"])
def test_a_checkpoint_without_any_signature_is_403_where_the_log_is_known(ending: str) -> None:
    unsigned = b"old 0\n\n" + (format_checkpoint(LOG.checkpoint(5)) + ending).encode()
    assert status(unsigned) == 403
    assert status(unsigned, logs={}) == 404
    assert status(unsigned.rstrip(b"\n")) == 400


def test_a_trusted_keys_signature_that_does_not_verify_is_403() -> None:
    # "[…] or a signature line's key name and ID match a trusted key but the signature itself fails to verify
    # (such a note is malformed per signed-note)."
    text, (good,) = parse_note(LOG.note(5))
    flipped = Signature(good.name, good.key_id, bytes([good.signature[0] ^ 1]) + good.signature[1:])
    short = Signature(good.name, good.key_id, good.signature[:-1])
    for bad in (flipped, short):
        for signatures in ([bad], [good, bad], [bad, good]):
            assert status(format_add_checkpoint(0, [], format_note(text, signatures))) == 403


def test_signatures_of_unknown_keys_are_ignored() -> None:
    # "The witness MUST verify the checkpoint signature against the public key(s) it trusts for the
    # checkpoint origin, and it MUST ignore signatures from unknown keys."
    text, (good,) = parse_note(LOG.note(5))
    junk = [Signature(f"unknown-{n}", bytes(4), b"no signature at all") for n in range(20)]
    same_name = Signature(good.name, b"\0\0\0\1", good.signature)
    note = format_note(text, [*junk, same_name, good])
    assert status(format_add_checkpoint(0, [], note)) == 200


def test_one_trusted_key_of_several_is_enough() -> None:
    new = signer(LOG.origin, 2)
    logs = known(LOG, Verifier.from_vkey(new.vkey))
    text = format_checkpoint(LOG.checkpoint(5))
    for signers in ([LOG.signer], [new], [LOG.signer, new]):
        assert status(format_add_checkpoint(0, [], sign_note(text, signers)), logs=logs) == 200


@pytest.mark.parametrize("origin", ["go.sum database tree", "a+b log", "ünï/çode", "x" * 255])
def test_an_origin_may_be_any_line(origin: str) -> None:
    log = SubmittingLog(origin=origin, size=5)
    key = signer("key.example", 5)
    logs = {origin: WitnessedLog(origin=origin, verifiers=(Verifier.from_vkey(key.vkey),))}
    body = format_add_checkpoint(0, [], sign_note(format_checkpoint(log.checkpoint(5)), [key]))
    found = cosigned(body, logs=logs, cosigners=(ED25519, ML_DSA))
    assert found.record is not None
    assert found.record.checkpoint.origin == origin


# ----- 400


def test_an_old_size_above_the_checkpoints_is_400() -> None:
    # "The old size MUST be equal to or lower than the checkpoint size. Otherwise, the witness MUST respond
    # with a "400 Bad Request" HTTP status code."
    note = LOG.note(5)
    assert status(format_add_checkpoint(6, [], note), record(6)) == 400
    assert status(format_add_checkpoint(2**63 - 1, [], note)) == 400
    assert status(format_add_checkpoint(5, [], note), record(5)) == 200


def test_the_signature_is_judged_before_the_sizes() -> None:
    text = format_checkpoint(LOG.checkpoint(5))
    assert status(format_add_checkpoint(6, [], sign_note(text, [signer(LOG.origin, 66)]))) == 403
    assert status(format_add_checkpoint(6, [], LOG.note(5)), logs={}) == 404


@pytest.mark.parametrize("size", ["9223372036854775808", "18446744073709551616", "-1", "05", "1e3", ""])
def test_a_checkpoint_with_a_size_that_is_none_is_400_however_well_it_is_signed(size: str) -> None:
    text = f"{LOG.origin}\n{size}\n{format_base64(EMPTY_ROOT)}\n"
    assert status(format_add_checkpoint(0, [], sign_note(text, [LOG.signer]))) == 400


def test_the_largest_size_there_is_gets_judged() -> None:
    assert status(request_of(Checkpoint(LOG.origin, 2**63 - 1, bytes(32)))) == 200


def mutated_lines() -> list[bytes]:
    """Every well-meant request with one line left out, doubled, or changed over with the next one."""
    lines = LOG.request(5, 20).split(b"\n")[:-1]
    found = []
    for i in range(len(lines)):
        found += [
            [*lines[:i], *lines[i + 1 :]],
            [*lines[: i + 1], *lines[i:]],
            [*lines[:i], *reversed(lines[i : i + 2]), *lines[i + 2 :]],
        ]
    return [b"".join(line + b"\n" for line in mutant) for mutant in found if mutant != lines]


def test_missing_doubled_and_reordered_lines_get_no_cosignature() -> None:
    recorded = record(5)
    assert status(LOG.request(5, 20), recorded) == 200
    mutants = mutated_lines()
    # The log's signature line twice is one signature twice, and no lie.
    found = {mutant: status(mutant, recorded) for mutant in mutants}
    accepted = [mutant for mutant, code in found.items() if code == 200]
    assert accepted == [LOG.request(5, 20) + LOG.note(20).split(b"\n\n")[1]]
    assert set(found.values()) == {200, 400, 403, 422}


def test_a_request_that_is_cut_off_anywhere_gets_no_cosignature() -> None:
    whole = LOG.request(5, 20)
    recorded = record(5)
    for end in range(len(whole)):
        assert status(whole[:end], recorded) in {400, 403}


@settings(max_examples=300)
@given(damaged(LOG.request(5, 20)) | st.binary(max_size=200))
def test_whatever_is_sent_nothing_but_the_logs_own_tree_is_cosigned(data: bytes) -> None:
    found = answer(data, record(5))
    if isinstance(found, Cosigned):
        assert found.record is not None
        assert found.record.checkpoint == LOG.checkpoint(20)
    else:
        assert found.status in {400, 403, 404, 409, 422}
        assert found.body.endswith("\n")


# ----- 409


@pytest.mark.parametrize(
    ("recorded", "old_size"), [(None, 1), (None, 5), (0, 1), (5, 0), (5, 4), (5, 6), (64, 0), (3, 20)]
)
def test_an_old_size_that_is_not_the_recorded_one_is_409_with_the_recorded_size(
    recorded: int | None, old_size: int
) -> None:
    # "The witness MUST check that the old size matches the size of the latest checkpoint it cosigned for the
    # checkpoint's origin (or zero if it never cosigned a checkpoint for that origin). If it doesn't match,
    # the witness MUST respond with a "409 Conflict" HTTP status code. The response body MUST consist of the
    # tree size of the latest cosigned checkpoint in decimal, followed by a newline (U+000A). The response
    # MUST have a `Content-Type` of `text/x.tlog.size`."
    found = answer(LOG.request(old_size, 20), None if recorded is None else record(recorded))
    assert isinstance(found, Refusal)
    assert (found.status, found.body) == (409, f"{recorded or 0}\n")
    assert found.content_type == "text/x.tlog.size"


def test_a_conflict_is_told_before_anything_about_the_proof() -> None:
    bad_proof = format_add_checkpoint(4, [bytes(32)] * 63, LOG.note(20))
    assert status(bad_proof, record(5)) == 409
    assert status(format_add_checkpoint(0, [bytes(32)], LOG.note(20)), record(5)) == 409
    nonempty_root = request_of(Checkpoint(LOG.origin, 0, bytes(32)))
    assert status(nonempty_root, record(5)) == 409


# ----- 422


def test_a_tree_of_size_0_has_the_root_of_the_empty_tree() -> None:
    # "A checkpoint of size zero MUST have the root hash of the empty tree, which RFC 6962, Section 2.1
    # defines as the hash of the empty string. Otherwise, the witness MUST respond with a "422 Unprocessable
    # Entity" HTTP status code."
    assert status(request_of(Checkpoint(LOG.origin, 0, EMPTY_ROOT))) == 200
    for recorded in (None, record(0)):
        found = answer(request_of(Checkpoint(LOG.origin, 0, bytes(32))), recorded)
        assert isinstance(found, Refusal)
        assert found.status == 422
        assert found.evidence is not None
        assert convicts(found.evidence, LOG)


@pytest.mark.parametrize("recorded", [None, 0])
@pytest.mark.parametrize("size", [0, 1, 20])
@pytest.mark.parametrize("lines", [1, 63])
def test_a_proof_from_the_empty_tree_is_empty(recorded: int | None, size: int, lines: int) -> None:
    # "If the old size is zero, the consistency proof MUST be empty […] If the proof is not empty when the
    # old size is zero, or if a Merkle Consistency Proof doesn't verify, the witness MUST respond with a "422
    # Unprocessable Entity" HTTP status code."
    body = format_add_checkpoint(0, [bytes(32)] * lines, LOG.note(size))
    assert status(body, None if recorded is None else record(recorded)) == 422


@pytest.mark.parametrize(("old_size", "size"), [(1, 2), (5, 20), (16, 20), (19, 20), (20, 64), (31, 32)])
def test_a_proof_that_does_not_verify_is_422(old_size: int, size: int) -> None:
    # "Otherwise, the consistency proof lines MUST encode a Merkle Consistency Proof from the old size to the
    # checkpoint size according to RFC 6962, Section 2.1.2."
    recorded = record(old_size)
    path = LOG.proof(old_size, size)
    flipped = [bytes([path[0][0] ^ 1]) + path[0][1:], *path[1:]]
    for bad in ([], path[1:], path[:-1], [*path, bytes(32)], [bytes(32), *path], flipped, [bytes(32)] * 63):
        assert status(format_add_checkpoint(old_size, bad, LOG.note(size)), recorded) == 422
    assert status(format_add_checkpoint(old_size, path, LOG.note(size)), recorded) == 200


def test_equal_sizes_have_equal_roots() -> None:
    # "If the old size matches the checkpoint size, the witness MUST check that the root hashes are also
    # identical. If they don't match, the witness MUST respond with a "422 Unprocessable Entity" HTTP status
    # code."
    recorded = record(30)
    found = answer(LOG.request(30, 30, history=1), recorded)
    assert isinstance(found, Refusal)
    assert found.status == 422
    assert status(LOG.request(30, 30), recorded) == 200
    assert status(format_add_checkpoint(30, [bytes(32)], LOG.note(30)), recorded) == 422


def test_a_fork_is_never_cosigned_whatever_its_sizes() -> None:
    log = SubmittingLog(fork_at=3, size=20)
    logs = known(log)
    for old_size in range(4, 20):
        first = cosigned(log.request(0, old_size), logs=logs)
        for size in range(old_size, 20):
            # With either history's proof.
            for history in (0, 1):
                body = format_add_checkpoint(
                    old_size, log.proof(old_size, size, history=history), log.note(size, history=1)
                )
                assert status(body, first.record, logs=logs) == 422


def test_extension_lines_are_never_cosigned_which_is_422() -> None:
    extended = dataclasses.replace(LOG.checkpoint(20), extensions=("an extension",))
    body = request_of(extended, 5, tuple(LOG.proof(5, 20)))
    assert status(body, record(5)) == 422
    assert status(body, record(6)) == 409
    assert status(body, logs={}) == 404
    assert status(request_of(extended)) == 422


# ----- what a log has signed against itself


@pytest.mark.parametrize("old_size", [0, 20, 29, 30])
def test_two_roots_of_one_size_are_kept_whatever_else_is_wrong_with_the_request(old_size: int) -> None:
    # "If the origin is known, and the signature is valid, the witness MAY log the request even if the
    # checkpoint fails one of the consistency checks above (but MUST NOT cosign the checkpoint), as it might
    # be proof of log misbehavior."
    found = answer(format_add_checkpoint(old_size, [], LOG.note(30, history=1)), record(30))
    assert isinstance(found, Refusal)
    assert found.status == (422 if old_size == 30 else 409)
    assert found.evidence is not None
    assert convicts(found.evidence, LOG)


def convicts(evidence: Evidence, log: SubmittingLog) -> bool:
    """Judge evidence as a third party does: from its bytes, with nothing but a policy that lists the log."""
    verdict = verify_evidence(parse_evidence(format_evidence(evidence)), build_policy([log.signer.vkey]))
    return [key.vkey for key in verdict.convicted] == [log.signer.vkey]


def test_a_fork_that_brings_its_own_whole_path_convicts_itself() -> None:
    log = SubmittingLog(fork_at=3, size=24)
    convicted = []
    for old_size in range(1, 24):
        recorded = cosigned(log.request(0, old_size), logs=known(log)).record
        for size in range(old_size + 1, 24):
            body = log.request(old_size, size, history=1)
            found = answer(body, recorded, logs=known(log))
            if old_size <= 3:
                assert isinstance(found, Cosigned)
                continue
            assert isinstance(found, Refusal)
            # Where the old size is a power of two, RFC 6962 leaves out the node that would convict.
            assert (found.evidence is None) == (old_size & (old_size - 1) == 0)
            if found.evidence is not None:
                assert convicts(found.evidence, log)
                convicted.append((old_size, size))
    assert len(convicted) > 100


def test_an_honest_log_that_is_only_out_of_step_is_not_accused() -> None:
    bodies = [LOG.request(*sizes) for sizes in ((0, 30), (4, 30), (0, 5), (29, 31), (0, 31))]
    bodies += [
        format_add_checkpoint(30, [bytes(32)] * length, LOG.note(31)) for length in range(8)
    ]  # a client that cannot prove, of a log that did nothing wrong
    for body in bodies:
        found = answer(body, record(30))
        assert isinstance(found, Refusal)
        assert found.evidence is None


# ----- records


@pytest.mark.parametrize("size", [0, 1, 64])
def test_a_record_is_encoded_and_decoded(size: int) -> None:
    value = record(size, cosigners=(ED25519, ML_DSA))
    assert decode_record(encode_record(value), origin_hash(LOG.origin)) == value


def test_a_record_that_was_not_written_here_is_corruption() -> None:
    data = encode_record(record(5))
    key = origin_hash(LOG.origin)
    for bad in (b"", data[:7], data[:-1], data[8:], bytes(8) + data[8:], b"\xff" + data[1:], data[:8]):
        with pytest.raises(CorruptionError):
            decode_record(bad, key)
    with pytest.raises(CorruptionError, match=r"log\.example"):
        decode_record(data, origin_hash("another"))


@given(st.binary(max_size=200))
def test_any_bytes_are_no_record(data: bytes) -> None:
    with pytest.raises(CorruptionError):
        decode_record(data, bytes(32))


def test_a_verified_request_carries_the_logs_signatures_only() -> None:
    submitted = open_request(LOG.request(5, 20), known())
    assert isinstance(submitted, SubmittedCheckpoint)
    assert submitted.note == LOG.note(20)
    assert submitted.text == format_checkpoint(LOG.checkpoint(20))


def test_every_line_of_the_answer_is_a_signature_line() -> None:
    verifiers: list[CosignerVerifier] = [parse_cosigner_vkey(key.vkey) for key in (ED25519, ML_DSA)]
    found = cosigned(LOG.request(0, 5), cosigners=(ED25519, ML_DSA))
    parsed = [parse_signature_line(line) for line in found.body.splitlines()]
    assert [(s.name, s.key_id) for s in parsed] == [(v.name, v.key_id) for v in verifiers]
