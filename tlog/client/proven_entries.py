"""Do the entries in a reply belong to the tree of its checkpoint? Pure: values in, values or an error out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tlog.client.trusted_log import TrustedLog, VerifiedCheckpoint
from tlog.client.wire import (
    MAX_RUN_ENTRIES,
    check_entry_size,
    decode_inclusion_proof,
    decode_range_proof,
    decode_size,
)
from tlog.envelope import decode_entry
from tlog.errors import MalformedError, ProofError, RemoteError
from tlog.event import parse_event
from tlog.governance import is_governance
from tlog.merkle import inclusion_proofs_from_range, leaf_hash, verify_inclusion, verify_range
from tlog.receipt import Receipt, format_receipt, parse_receipt
from tlog.v1 import log_pb2
from tlog.validate import GOVERNANCE_KEY


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenEntry:
    """Holds an entry, where it is, and the proof that it is there."""

    leaf_index: int
    entry: bytes
    proof: tuple[bytes, ...]
    checkpoint: VerifiedCheckpoint

    @property
    def receipt(self) -> bytes:
        """Format the C2SP tlog-proof text."""
        return format_receipt(
            Receipt(leaf_index=self.leaf_index, proof=self.proof, checkpoint=self.checkpoint.note)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenRun:
    """Holds entries [start, start + len(entries)), with the range proof that was verified for all of them."""

    start: int
    entries: Sequence[bytes]
    leaf_hashes: Sequence[bytes]
    left: tuple[bytes, ...]
    right: tuple[bytes, ...]
    checkpoint: VerifiedCheckpoint

    def prove(self, position: int) -> ProvenEntry:
        """Prove one of them by itself. Requires 0 <= position < len(entries)."""
        proofs = inclusion_proofs_from_range(
            self.leaf_hashes, self.start, self.checkpoint.tree_size, self.left, self.right
        )
        return ProvenEntry(
            leaf_index=self.start + position,
            entry=self.entries[position],
            proof=tuple(proofs[position]),
            checkpoint=self.checkpoint,
        )


def prove_entry(
    entry: bytes, message: log_pb2.InclusionProof, checkpoint: VerifiedCheckpoint, *, asked: int | None = None
) -> ProvenEntry:
    """Verify an inclusion proof for an entry; `asked` is the leaf index that was asked for, if one was.

    Raises ProofError or RemoteError.
    """
    proof = decode_inclusion_proof(message)
    if asked is not None and proof.leaf_index != asked:
        raise ProofError(f"entry {asked} was asked for, and the log proves entry {proof.leaf_index}")
    verify_inclusion(
        leaf_hash(entry), proof.leaf_index, checkpoint.tree_size, proof.hashes, checkpoint.root_hash
    )
    return ProvenEntry(leaf_index=proof.leaf_index, entry=entry, proof=proof.hashes, checkpoint=checkpoint)


def verify_run(
    message: log_pb2.GetEntriesResponse, checkpoint: VerifiedCheckpoint, start: int, end: int
) -> ProvenRun:
    """Verify a run of entries to begin at `start`, to stay below `end`, and to be in the checkpoint's tree.

    Raises ProofError, or RemoteError for numbers beyond every tree, more entries than one message has, and
    entries of no length or beyond the largest.
    """
    # Counted before anything is hashed: a message of 16 MiB has room for millions of empty entries.
    if len(message.entries) > MAX_RUN_ENTRIES:
        raise RemoteError(
            f"the log sent {len(message.entries)} entries in one message, and at most {MAX_RUN_ENTRIES} are "
            "allowed"
        )
    if not message.HasField("range_proof"):
        raise ProofError(f"the log sent {len(message.entries)} entries from {start} on without a proof")
    proof = decode_range_proof(message.range_proof)
    if proof.start != start or proof.end > end or proof.end - proof.start != len(message.entries):
        raise ProofError(
            f"entries [{start}, {end}) are to come; the log sent {len(message.entries)} and proves "
            f"[{proof.start}, {proof.end})"
        )
    for entry in message.entries:
        check_entry_size(entry)
    hashes = [leaf_hash(entry) for entry in message.entries]
    verify_range(hashes, proof.start, checkpoint.tree_size, proof.left, proof.right, checkpoint.root_hash)
    return ProvenRun(
        start=start,
        entries=message.entries,
        leaf_hashes=hashes,
        left=tuple(proof.left),
        right=tuple(proof.right),
        checkpoint=checkpoint,
    )


def verify_found(
    reply: log_pb2.LookupResponse,
    checkpoint: VerifiedCheckpoint,
    business_key: str,
    start: int,
    *,
    limit: int,
    look_at: Callable[[ProvenEntry], None] = lambda entry: None,
) -> tuple[list[ProvenEntry], int]:
    """Verify one page of a lookup; returns what was found, and where the next page begins (0: nowhere).

    `look_at` is shown each entry as soon as it is proven, before anything is asked of it.

    Each entry must be in the tree, at an ascending index from `start` on, and carry the key. Raises
    ProofError, and RemoteError for a page that does not lead on, or of more than the `limit` entries asked
    for.
    """
    if len(reply.found) > limit:
        raise RemoteError(f"{limit} entries were asked for, and the log found {len(reply.found)} at once")
    found: list[ProvenEntry] = []
    next_index = start
    for message in reply.found:
        check_entry_size(message.entry)
        entry = prove_entry(message.entry, message.inclusion_proof, checkpoint)
        look_at(entry)
        if entry.leaf_index < next_index:
            raise ProofError(
                f"the log found entry {entry.leaf_index} where only entries from {next_index} on may follow"
            )
        _require_key(entry, business_key)
        found.append(entry)
        next_index = entry.leaf_index + 1
    next_start = decode_size(reply.next_start, "next_start")
    if next_start and (not found or next_start < next_index):
        raise RemoteError(
            f"the log found {len(found)} entries from {start} on, and says to go on at {next_start}: "
            "that would not come to an end"
        )
    return found, next_start


def verify_receipts(
    entries: Sequence[bytes],
    leaf_indices: Sequence[int | None],
    receipts: Sequence[bytes | None],
    trusted: TrustedLog,
) -> list[VerifiedCheckpoint]:
    """Verify receipts, each for its entry and under the whole policy, and return their distinct checkpoints.

    `leaf_indices` are those that were asked for, None where it was not by index; a receipt of None is passed
    over. How the checkpoints stand to the trusted one is not looked at. Raises what
    `TrustedLog.open_published` raises, ProofError, and RemoteError for text that is no receipt.
    """
    checkpoints: dict[bytes, VerifiedCheckpoint] = {}
    for entry, asked, text in zip(entries, leaf_indices, receipts, strict=True):
        if text is None:
            continue
        try:
            receipt = parse_receipt(text)
        except MalformedError as error:
            raise RemoteError(f"what came as a receipt is none: {error}") from error
        if asked is not None and receipt.leaf_index != asked:
            raise ProofError(f"entry {asked} was asked for, and the receipt is of entry {receipt.leaf_index}")
        # One signature check for the many receipts under one checkpoint; else this is `verify_receipt`.
        if receipt.checkpoint not in checkpoints:
            checkpoints[receipt.checkpoint] = trusted.open_published(receipt.checkpoint)
        checkpoint = checkpoints[receipt.checkpoint]
        verify_inclusion(
            leaf_hash(entry), receipt.leaf_index, checkpoint.tree_size, receipt.proof, checkpoint.root_hash
        )
    return list(checkpoints.values())


def verify_name(entry: ProvenEntry, source: str, event_id: str) -> None:
    """Verify that a proven entry is the event named (source, event_id). Raises ProofError."""
    try:
        event = parse_event(decode_entry(entry.entry).payload)
    except MalformedError as error:
        raise ProofError(f"the log shows entry {entry.leaf_index}, which is no event: {error}") from error
    if (event.source, event.id) != (source, event_id):
        raise ProofError(
            f"the event {event_id!r} of {source!r} was asked for, and the log shows "
            f"entry {entry.leaf_index}, which is {event.id!r} of {event.source!r}"
        )


def _require_key(entry: ProvenEntry, business_key: str) -> None:
    try:
        event = parse_event(decode_entry(entry.entry).payload)
    except MalformedError as error:
        raise ProofError(
            f"the log found entry {entry.leaf_index} for {business_key!r}, which is no event: {error}"
        ) from error
    # Governance entries are found by a key that no event may carry in its `refs`.
    carried = is_governance(event) if business_key == GOVERNANCE_KEY else business_key in event.refs
    if not carried:
        raise ProofError(
            f"the log found entry {entry.leaf_index} for {business_key!r}, which does not carry that key"
        )
