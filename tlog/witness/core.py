"""What a witness decides about a checkpoint, and with which status it answers (C2SP tlog-witness).

The decision is made of values alone: what was submitted, what is recorded of this log, the keys, the time.
Whoever calls `decide` records what it says before the cosignatures leave, and in a way that nobody else's
record comes in between; `tlog.witness.witness` does.

Two points where the specification leaves room. A body that is no well-formed request is answered with 400
before anything else is looked at, but for a checkpoint that nobody has signed: 403. A checkpoint with
extension lines is answered with 422 when everything else about it is in order: this witness checks no
extension lines, so it signs none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tlog.checkpoint import Checkpoint, parse_checkpoint
from tlog.cosignature import CosignerVerifier
from tlog.encoding import MAX_SIZE, shown
from tlog.errors import CorruptionError, MalformedError, ProofError, SignatureError
from tlog.evidence import (
    EmptyEvidence,
    SameSizeEvidence,
    SizesEvidence,
    make_empty,
    make_same_size,
    make_sizes,
)
from tlog.merkle import EMPTY_ROOT, roots_from_consistency_path, verify_consistency
from tlog.note import (
    Signature,
    Verifier,
    add_signatures,
    format_note,
    format_signature_line,
    open_note,
    parse_note,
)
from tlog.witness.request import parse_add_checkpoint

TEXT = "text/plain; charset=utf-8"
TREE_SIZE = "text/x.tlog.size"
"""The content type of a 409's body (tlog-witness: "MUST have a `Content-Type` of `text/x.tlog.size`")."""

SignedContradiction = EmptyEvidence | SameSizeEvidence | SizesEvidence

_TIMESTAMP_BYTES = 8
_SIGNATURE_LINE = "\n— ".encode()


class Cosigner(Protocol):
    """Cosigns checkpoints with one of a witness's own keys."""

    @property
    def name(self) -> str:
        """The key name, which is the witness's name."""

    @property
    def key_id(self) -> bytes:
        """The key ID, 4 bytes."""

    def cosign(self, checkpoint_text: str, timestamp_s: int) -> Signature:
        """Cosign a checkpoint's text at a time, in seconds since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessedLog:
    """Names a log by its origin, and the keys of which one has to have signed its checkpoints."""

    origin: str
    verifiers: tuple[Verifier | CosignerVerifier, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Holds the newest checkpoint of a log that was cosigned, as it left: with which signatures, and when.

    `note` carries the log's own signatures that were verified, then the cosignatures of this witness.
    """

    timestamp_s: int
    checkpoint: Checkpoint
    note: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmittedCheckpoint:
    """Holds a request whose checkpoint was signed by its log; `note` carries only the log's signatures."""

    old_size: int
    proof: tuple[bytes, ...]
    checkpoint: Checkpoint
    text: str
    note: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Says with what to answer a request that gets no cosignature; nothing is recorded."""

    status: int
    body: str
    content_type: str = TEXT
    evidence: SignedContradiction | None = None
    """What convicts the log, where the request shows that it has signed against itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosigned:
    """Holds the cosignatures to answer with, and what to record before; None when it is recorded already."""

    signatures: tuple[Signature, ...]
    record: Record | None

    @property
    def body(self) -> str:
        """Return the signature lines, each with its newline."""
        return "".join(f"{format_signature_line(signature)}\n" for signature in self.signatures)


def origin_hash(origin: str) -> bytes:
    """Compute the SHA-256 hash of an origin, by which a log is asked for and recorded."""
    return hashlib.sha256(origin.encode()).digest()


def open_request(body: bytes, logs: Mapping[str, WitnessedLog]) -> SubmittedCheckpoint | Refusal:
    """Parse the body of an `add-checkpoint` call and verify the log's signature; no record is needed yet.

    Refuses with 400, 404 and 403, in this order, and with 400 again for an old size above the checkpoint's.
    `logs` is keyed by origin.
    """
    try:
        request = parse_add_checkpoint(body)
        text, _ = parse_note(request.checkpoint)
        checkpoint = parse_checkpoint(text)
    except MalformedError as error:
        return _unsigned(body, logs) or Refusal(status=400, body=f"{error}\n")
    log = logs.get(checkpoint.origin)
    if log is None:
        return _unknown(checkpoint.origin)
    try:
        note = open_note(request.checkpoint, log.verifiers)
    except SignatureError as error:
        return Refusal(status=403, body=f"{error}\n")
    if request.old_size > checkpoint.tree_size:
        return Refusal(
            status=400,
            body=f"the old size of {request.old_size} is above the checkpoint's {checkpoint.tree_size}\n",
        )
    return SubmittedCheckpoint(
        old_size=request.old_size,
        proof=request.proof,
        checkpoint=checkpoint,
        text=text,
        note=format_note(text, note.signatures),
    )


def decide(
    submitted: SubmittedCheckpoint, recorded: Record | None, cosigners: Sequence[Cosigner], now_s: int
) -> Cosigned | Refusal:
    """Decide whether to cosign, given what is recorded of this log: statuses 409, 422 and 200.

    The time of the cosignatures is `now_s` (seconds since 1970), or that of the record where the clock has
    gone back since. Asked again for what is recorded, within the same second, it gives the same cosignatures
    again.
    """
    checkpoint = submitted.checkpoint
    latest_size = 0 if recorded is None else recorded.checkpoint.tree_size
    if submitted.old_size != latest_size:
        return Refusal(
            status=409,
            body=f"{latest_size}\n",
            content_type=TREE_SIZE,
            evidence=_evidence(submitted, recorded),
        )
    if problem := _problem(submitted, recorded):
        return Refusal(status=422, body=f"{problem}\n", evidence=_evidence(submitted, recorded))
    if checkpoint.extensions:
        return Refusal(
            status=422, body="the checkpoint has extension lines, which this witness does not cosign\n"
        )
    if recorded is not None and recorded.checkpoint == checkpoint and now_s <= recorded.timestamp_s:
        known = _cosignatures(recorded, cosigners)
        if len(known) == len(cosigners):
            return Cosigned(signatures=known, record=None)
    timestamp_s = max(now_s, 1, 0 if recorded is None else recorded.timestamp_s)
    signatures = tuple(cosigner.cosign(submitted.text, timestamp_s) for cosigner in cosigners)
    record = Record(
        timestamp_s=timestamp_s,
        checkpoint=checkpoint,
        note=add_signatures(submitted.note, signatures),
    )
    return Cosigned(signatures=signatures, record=record)


def encode_record(record: Record) -> bytes:
    """Encode a record for a store: its time (8 bytes, big-endian), then its note."""
    return record.timestamp_s.to_bytes(_TIMESTAMP_BYTES, "big") + record.note


def decode_record(data: bytes, key: bytes) -> Record:
    """Decode a record that was stored under an origin hash.

    Raises CorruptionError when it is not what `encode_record` made of a checkpoint of that origin: nothing
    may be cosigned on top of it.
    """
    timestamp_s = int.from_bytes(data[:_TIMESTAMP_BYTES], "big")
    note = data[_TIMESTAMP_BYTES:]
    try:
        checkpoint = parse_checkpoint(parse_note(note)[0])
    except MalformedError as error:
        raise CorruptionError(
            f"the record of {key.hex()} is damaged ({error}): stop, and restore nothing older in its place"
        ) from error
    if origin_hash(checkpoint.origin) != key or not 0 < timestamp_s <= MAX_SIZE:
        raise CorruptionError(
            f"the record of {key.hex()} is damaged: it is of {shown(checkpoint.origin)} at {timestamp_s} s; "
            "stop, and restore nothing older in its place"
        )
    return Record(timestamp_s=timestamp_s, checkpoint=checkpoint, note=note)


def _problem(submitted: SubmittedCheckpoint, recorded: Record | None) -> str:
    """Say why a checkpoint does not follow from the record; empty when it does."""
    checkpoint = submitted.checkpoint
    if checkpoint.tree_size == 0 and checkpoint.root_hash != EMPTY_ROOT:
        return f"the root hash of a tree of size 0 is {EMPTY_ROOT.hex()}"
    if submitted.old_size == 0 and submitted.proof:
        return "the old size is 0, and the proof is not empty"
    old_root = EMPTY_ROOT if recorded is None else recorded.checkpoint.root_hash
    try:
        verify_consistency(
            submitted.old_size, checkpoint.tree_size, submitted.proof, old_root, checkpoint.root_hash
        )
    except ProofError as error:
        return str(error)
    return ""


def _evidence(submitted: SubmittedCheckpoint, recorded: Record | None) -> SignedContradiction | None:
    """Make evidence where the log has signed against itself, which being out of step alone does not show."""
    checkpoint = submitted.checkpoint
    if checkpoint.tree_size == 0 and checkpoint.root_hash != EMPTY_ROOT:
        return make_empty(submitted.note)
    if recorded is None:
        return None
    latest = recorded.checkpoint
    if latest.tree_size == checkpoint.tree_size:
        if latest.root_hash == checkpoint.root_hash:
            return None
        return make_same_size(recorded.note, submitted.note)
    try:
        implied, reached = roots_from_consistency_path(
            latest.tree_size, checkpoint.tree_size, submitted.proof
        )
    except ProofError:
        return None
    if reached != checkpoint.root_hash or implied == latest.root_hash:
        return None
    return make_sizes(recorded.note, submitted.note, submitted.proof)


def _cosignatures(recorded: Record, cosigners: Sequence[Cosigner]) -> tuple[Signature, ...]:
    """Return the record's signatures by these cosigners, in their order."""
    _, signatures = parse_note(recorded.note)
    by_key = {(signature.name, signature.key_id): signature for signature in signatures}
    keys = [(cosigner.name, cosigner.key_id) for cosigner in cosigners]
    return tuple(by_key[key] for key in keys if key in by_key)


def _unsigned(body: bytes, logs: Mapping[str, WitnessedLog]) -> Refusal | None:
    """Tell a checkpoint that is well-formed but for signature lines, of which there are none at all.

    "The witness MUST respond with a "403 Forbidden" HTTP status code if […] no signature from a trusted key
    for the origin is present".
    """
    try:
        note = parse_add_checkpoint(body).checkpoint
        if _SIGNATURE_LINE in note:
            return None
        # With or without the empty line that would stand before the signatures.
        text = note[:-1] if note.endswith(b"\n\n") else note
        origin = parse_checkpoint(text.decode()).origin
    except (MalformedError, UnicodeDecodeError):
        return None
    if origin not in logs:
        return _unknown(origin)
    return Refusal(status=403, body="the checkpoint carries no signature\n")


def _unknown(origin: str) -> Refusal:
    return Refusal(status=404, body=f"this witness does not know the log {shown(origin)}\n")
