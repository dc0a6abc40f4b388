"""Protobuf messages to values and back, strictly. What is out of range here never reaches a verifier.

Protobuf promises types, not ranges: a uint64 may exceed every size that the formats allow, and a `bytes` of a
proof may have any length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tlog.encoding import MAX_SIZE, encode_utf8
from tlog.envelope import MAX_ENTRY_BYTES, decode_entry
from tlog.errors import (
    BatchRefusedError,
    MalformedError,
    OutOfRangeError,
    ProofError,
    RefusalReason,
    RefusedError,
    RemoteError,
)
from tlog.event import parse_event
from tlog.merkle.arguments import check_size
from tlog.v1 import log_pb2

MAX_BATCH_ENTRIES = 1_000
"""Most entries in one Append."""
MAX_BATCH_BYTES = 4 << 20
"""Most bytes of entries in one Append."""
MAX_KEYS = 1_000
"""Most entries asked for in one GetInclusionProofs or GetReceipts."""
MAX_RUN_ENTRIES = 256
"""Most entries in one message of GetEntries."""
HASH_BYTES = 32
MAX_PROOF_HASHES = 126
"""Most hashes in one part of any proof: in a tree of fewer than 2**63 leaves none has more."""
MAX_TEXT_CHARACTERS = 300
_REFUSAL_REASONS = {
    int(log_pb2.RefusalReason.Value(f"REFUSAL_REASON_{reason.name}")): reason for reason in RefusalReason
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeProof:
    """Proves leaves [start, end); 0 <= start < end, hashes of 32 bytes in increasing leaf order."""

    start: int
    end: int
    left: tuple[bytes, ...]
    right: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InclusionProof:
    """Proves one leaf; hashes of 32 bytes from the leaf up."""

    leaf_index: int
    hashes: tuple[bytes, ...]


def decode_size(value: int, what: str) -> int:
    """Check a tree size or leaf index to be below 2**63. Raises RemoteError."""
    if value > MAX_SIZE:
        raise RemoteError(f"the log answered with {what} {value}, above the maximum of {MAX_SIZE}")
    return value


def decode_hashes(hashes: Sequence[bytes], what: str) -> tuple[bytes, ...]:
    """Check a proof to have at most 126 hashes, each of 32 bytes. Raises ProofError."""
    # Counted first: a reply of 16 MiB has room for millions, each of which would become an object.
    if len(hashes) > MAX_PROOF_HASHES:
        raise ProofError(f"the {what} has {len(hashes)} hashes, and none has more than {MAX_PROOF_HASHES}")
    decoded = tuple(hashes)
    for position, value in enumerate(decoded):
        if len(value) != HASH_BYTES:
            raise ProofError(f"hash {position} of the {what} has {len(value)} bytes, not {HASH_BYTES}")
    return decoded


def check_entry_size(entry: bytes) -> None:
    """Check what came as an entry to have 1 to 65,535 bytes, as every entry has. Raises RemoteError."""
    if not 1 <= len(entry) <= MAX_ENTRY_BYTES:
        raise RemoteError(
            f"the log sent {len(entry)} bytes as an entry, and an entry has 1 to {MAX_ENTRY_BYTES}"
        )


def check_batch(entries: Sequence[bytes]) -> None:
    """Check that one append takes these entries: 1 to 1,000, of at most 4 MiB. Raises MalformedError."""
    size = sum(map(len, entries))
    if not 1 <= len(entries) <= MAX_BATCH_ENTRIES or size > MAX_BATCH_BYTES:
        raise MalformedError(
            f"{len(entries)} entries of {size} bytes are to be appended: one call takes 1 to "
            f"{MAX_BATCH_ENTRIES}, and {MAX_BATCH_BYTES} bytes; a Batcher cuts a stream into such calls"
        )


def check_count(asked: int, answered: int) -> None:
    """Check that a reply answers for as many entries as were asked for. Raises ProofError."""
    if asked != answered:
        raise ProofError(f"{asked} entries were asked for, and the log answered for {answered}")


def decode_range_proof(message: log_pb2.RangeProof) -> RangeProof:
    """Decode a range proof. Raises ProofError for an empty or reversed range, RemoteError for a huge one."""
    start, end = decode_size(message.start, "range start"), decode_size(message.end, "range end")
    if start >= end:
        raise ProofError(f"the range proof is for entries [{start}, {end}), which are none")
    return RangeProof(
        start=start,
        end=end,
        left=decode_hashes(message.left, "range proof"),
        right=decode_hashes(message.right, "range proof"),
    )


def decode_inclusion_proof(message: log_pb2.InclusionProof) -> InclusionProof:
    """Decode an inclusion proof. Raises ProofError or RemoteError."""
    return InclusionProof(
        leaf_index=decode_size(message.leaf_index, "leaf index"),
        hashes=decode_hashes(message.hashes, "inclusion proof"),
    )


def decode_refusal(message: log_pb2.AppendRefusal, entries_sent: int) -> BatchRefusedError:
    """Decode why a batch of `entries_sent` entries was refused, every bad position with its reason.

    Raises RemoteError when it names no position, one twice, one that was not sent, or an unknown reason.
    """
    if len(message.other_positions) != len(message.other_reasons):
        raise RemoteError(
            f"the log's refusal names {len(message.other_positions)} more positions and "
            f"{len(message.other_reasons)} more reasons: nothing can be told from it"
        )
    refusals: dict[int, RefusedError] = {}

    def add(position: int, reason: int, text: str, existing_leaf_index: int | None) -> None:
        if position >= entries_sent or position in refusals:
            raise RemoteError(
                f"the log's refusal names position {position} of {entries_sent} entries, or names it twice"
            )
        kind = _REFUSAL_REASONS.get(reason)
        if kind is None:
            raise RemoteError(
                f"the log refused entry {position} with reason {reason}, which this release does not know: "
                "update it"
            )
        refusals[position] = RefusedError(
            kind, text or f"the log says only: {kind}", existing_leaf_index=existing_leaf_index
        )

    for refusal in message.refusals:
        existing = refusal.existing_leaf_index if refusal.HasField("existing_leaf_index") else None
        add(
            refusal.position,
            refusal.reason,
            printable(refusal.message),
            None if existing is None else decode_size(existing, "existing leaf index"),
        )
    for position, reason in zip(message.other_positions, message.other_reasons, strict=True):
        add(position, reason, "", None)
    if not refusals:
        raise RemoteError("the log refused the batch and named no entry of it")
    return BatchRefusedError(refusals)


def encode_entry_key(key: int | tuple[str, str]) -> log_pb2.EntryKey:
    """Encode the name of an entry: its leaf index, or its event's (source, id).

    Raises OutOfRangeError for a number that is no leaf index, MalformedError for text that no event can have.
    """
    if not isinstance(key, tuple):
        check_size(key, "the leaf index", OutOfRangeError)
        return log_pb2.EntryKey(leaf_index=key)
    source, event_id = key
    encode_utf8(source, "the source")
    encode_utf8(event_id, "the id")
    return log_pb2.EntryKey(source_id=log_pb2.SourceId(source=source, id=event_id))


def printable(text: str, most: int = MAX_TEXT_CHARACTERS) -> str:
    """Make a remote's text safe to show: one line, printable, at most so many characters."""
    shown = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )
    return shown if len(shown) <= most else f"{shown[:most]}…"


def encode_keys(
    entries: Sequence[bytes], leaf_indices: Sequence[int] | None
) -> Iterator[tuple[Sequence[bytes], list[log_pb2.EntryKey], Sequence[int | None]]]:
    """Cut what is asked for into calls: the entries of each, the keys to send, and the indices among them.

    An entry without an index is asked for by its event's (source, id). Raises MalformedError.
    """
    if leaf_indices is not None and len(leaf_indices) != len(entries):
        raise MalformedError(f"{len(leaf_indices)} leaf indices are given for {len(entries)} entries")
    indices: Sequence[int | None] = leaf_indices or [None] * len(entries)
    for first in range(0, len(entries), MAX_KEYS):
        part = entries[first : first + MAX_KEYS]
        part_indices = indices[first : first + MAX_KEYS]
        keys = []
        for entry, index in zip(part, part_indices, strict=True):
            if index is None:
                event = parse_event(decode_entry(entry).payload)
                keys.append(encode_entry_key((event.source, event.id)))
            else:
                keys.append(encode_entry_key(index))
        yield part, keys, part_indices
