"""Does an append reply prove what it says? Pure: values in, values or an error out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tlog.client.trusted_log import VerifiedCheckpoint
from tlog.client.wire import decode_inclusion_proof, decode_range_proof, decode_size
from tlog.errors import ProofError
from tlog.merkle import leaf_hash, verified_inclusion_proofs, verify_inclusion
from tlog.receipt import Receipt, format_receipt
from tlog.v1 import log_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """Says where an entry is, proven; `already_present` when it was in the log before it was sent.

    `already_present` is the log's word; all else here was verified.
    """

    leaf_index: int
    already_present: bool
    proof: tuple[bytes, ...]
    checkpoint: VerifiedCheckpoint

    @property
    def receipt(self) -> bytes:
        """Format the C2SP tlog-proof text, under the checkpoint that the append was answered with."""
        return format_receipt(
            Receipt(leaf_index=self.leaf_index, proof=self.proof, checkpoint=self.checkpoint.note)
        )


def verify_append_reply(
    entries: Sequence[bytes],
    reply: log_pb2.AppendResponse,
    checkpoint: VerifiedCheckpoint,
    trusted_tree_size: int,
) -> list[Appended]:
    """Verify that a reply proves each entry sent to be in the checkpoint's tree, and say where.

    `checkpoint` is the reply's own, its signature verified; `trusted_tree_size` is what the request said.
    New entries must be contiguous, in the order sent, at or after `trusted_tree_size`, and covered by the
    range proof exactly; each other leaf must have its own inclusion proof, by ascending index; equal entries
    must have equal indices, and different entries different ones.
    Raises ProofError, or RemoteError for numbers beyond every tree.
    """
    leaf_indices = _leaf_indices(entries, reply)
    hashes = _leaf_hashes(entries, leaf_indices)
    new = [
        index for index, result in zip(leaf_indices, reply.results, strict=True) if not result.already_present
    ]
    proofs: dict[int, tuple[bytes, ...]] = {}
    if new:
        if new[0] < trusted_tree_size:
            raise ProofError(
                f"the log says that entry {new[0]} is new, but its tree had {trusted_tree_size} before"
            )
        proofs |= _new_proofs(new, hashes, reply, checkpoint)
    elif reply.HasField("range_proof"):
        raise ProofError("the log proves a range of new entries, and says that none is new")
    proofs |= _present_proofs(sorted(hashes.keys() - proofs.keys()), hashes, reply, checkpoint)
    return [
        Appended(
            leaf_index=index,
            already_present=result.already_present,
            proof=proofs[index],
            checkpoint=checkpoint,
        )
        for index, result in zip(leaf_indices, reply.results, strict=True)
    ]


def _leaf_indices(entries: Sequence[bytes], reply: log_pb2.AppendResponse) -> list[int]:
    if len(reply.results) != len(entries):
        raise ProofError(f"{len(entries)} entries were sent, and the log answered for {len(reply.results)}")
    return [decode_size(result.leaf_index, "leaf index") for result in reply.results]


def _leaf_hashes(entries: Sequence[bytes], leaf_indices: Sequence[int]) -> dict[int, bytes]:
    """Map each leaf index to the hash of the entry that the log says is there."""
    hashes: dict[int, bytes] = {}
    index_of: dict[bytes, int] = {}
    for entry, index in zip(entries, leaf_indices, strict=True):
        entry_hash = leaf_hash(entry)
        if hashes.setdefault(index, entry_hash) != entry_hash:
            raise ProofError(f"the log says that two different entries are both entry {index}")
        if index_of.setdefault(entry_hash, index) != index:
            raise ProofError(f"the log says that one entry is entry {index_of[entry_hash]} and entry {index}")
    return hashes


def _new_proofs(
    new: Sequence[int],
    hashes: Mapping[int, bytes],
    reply: log_pb2.AppendResponse,
    checkpoint: VerifiedCheckpoint,
) -> dict[int, tuple[bytes, ...]]:
    if not reply.HasField("range_proof"):
        raise ProofError(f"the log says that {len(new)} entries are new, and does not prove them")
    proof = decode_range_proof(reply.range_proof)
    # Compared without building the range: its ends are the log's word, and may lie 2**63 apart.
    if (proof.start, proof.end - proof.start) != (new[0], len(new)) or any(
        index != proof.start + position for position, index in enumerate(new)
    ):
        raise ProofError(
            f"the log proves entries [{proof.start}, {proof.end}), but says that the new ones are "
            f"{len(new)} from {new[0]} to {new[-1]}: they must be contiguous, in the order sent"
        )
    leaves = [hashes[index] for index in new]
    paths = verified_inclusion_proofs(
        leaves, proof.start, checkpoint.tree_size, proof.left, proof.right, checkpoint.root_hash
    )
    return {index: tuple(path) for index, path in zip(new, paths, strict=True)}


def _present_proofs(
    present: Sequence[int],
    hashes: Mapping[int, bytes],
    reply: log_pb2.AppendResponse,
    checkpoint: VerifiedCheckpoint,
) -> dict[int, tuple[bytes, ...]]:
    # Their indices are looked at before any hash becomes an object, and their number before the indices: a
    # reply of 16 MiB has room for millions of either.
    count = len(reply.inclusion_proofs)
    if count != len(present) or any(
        message.leaf_index != index for message, index in zip(reply.inclusion_proofs, present, strict=True)
    ):
        raise ProofError(
            f"the log says that {len(present)} leaves were there before, and its {count} inclusion "
            "proofs are not of these, once each, by ascending index"
        )
    proofs = [decode_inclusion_proof(message) for message in reply.inclusion_proofs]
    for proof in proofs:
        verify_inclusion(
            hashes[proof.leaf_index],
            proof.leaf_index,
            checkpoint.tree_size,
            proof.hashes,
            checkpoint.root_hash,
        )
    return {proof.leaf_index: proof.hashes for proof in proofs}
