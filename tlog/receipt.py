"""Receipts: proof that an entry is in the log, for offline use and for ever (C2SP tlog-proof).

A receipt is text: the entry's index, its inclusion proof, and the checkpoint that the proof leads to, with
the signatures as they were. It lies beside the entry; those two and a policy file are all a verifier needs.
"""

from __future__ import annotations

from dataclasses import dataclass

from tlog.checkpoint import Checkpoint, parse_checkpoint
from tlog.encoding import (
    MAX_SIZE,
    check_bytes,
    decode_utf8,
    format_base64,
    parse_base64,
    parse_decimal,
    shown,
)
from tlog.errors import MalformedError
from tlog.merkle import HASH_BYTES, leaf_hash, verify_inclusion
from tlog.merkle.arguments import check_hashes
from tlog.note import MAX_NOTE_BYTES, parse_note
from tlog.policy import Policy, open_checkpoint

MAX_RECEIPT_BYTES = 2 * MAX_NOTE_BYTES
"""The largest receipt that is parsed or made: 2 MiB, so that any checkpoint leaves room for the rest."""
MAX_PROOF_HASHES = 63
"""The longest inclusion proof of any tree with fewer than 2**63 leaves."""

_HEADER = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Holds the parts of a receipt: `proof` from the leaf's sibling up, `checkpoint` as the signed bytes.

    `extra` is opaque and authenticated by nothing (tlog-proof: applications "MUST NOT implicitly trust the
    extra data"). Making one that cannot be written down raises MalformedError: 0 <= leaf_index < 2**63, at
    most 63 hashes of 32 bytes, a checkpoint that parses, and extra data that is None or not empty.
    """

    leaf_index: int
    proof: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def __post_init__(self) -> None:
        if type(self.leaf_index) is not int or not 0 <= self.leaf_index <= MAX_SIZE:
            raise MalformedError(f"the leaf index has to be an int from 0 to {MAX_SIZE}")
        check_hashes(self.proof, "the proof", MalformedError)
        if len(self.proof) > MAX_PROOF_HASHES:
            raise MalformedError(f"the proof has {len(self.proof)} hashes; none has over {MAX_PROOF_HASHES}")
        object.__setattr__(self, "proof", tuple(self.proof))
        if self.extra is not None:
            check_bytes(self.extra, "the extra data")
        if self.extra == b"":
            raise MalformedError("the extra data is empty; without extra data the line is left out")
        text, _ = parse_note(self.checkpoint)
        parse_checkpoint(text)


def verify_receipt(entry: bytes, receipt: bytes, policy: Policy) -> Checkpoint:
    """Verify that an entry is in a log that the policy trusts, and return the checkpoint that says so.

    Checks in this order: the receipt's format, the checkpoint's signatures and quorum, the inclusion proof.
    The entry is opaque bytes here, and the extra data is not looked at.

    Raises MalformedError, SignatureError, PolicyError, or ProofError when the entry is not at this index.
    """
    check_bytes(entry, "the entry")
    parsed = parse_receipt(receipt)
    checkpoint = open_checkpoint(parsed.checkpoint, policy)
    verify_inclusion(
        leaf_hash(entry), parsed.leaf_index, checkpoint.tree_size, parsed.proof, checkpoint.root_hash
    )
    return checkpoint


def parse_receipt(data: bytes) -> Receipt:
    """Parse a `c2sp.org/tlog-proof@v1` text in its one spelling, verifying nothing. Raises MalformedError."""
    check_bytes(data, "the receipt")
    if len(data) > MAX_RECEIPT_BYTES:
        raise MalformedError(f"the receipt has {len(data)} bytes; at most {MAX_RECEIPT_BYTES} are read")
    # The checkpoint's own signatures follow an empty line as well; the receipt's lines end at the FIRST one.
    head, separator, checkpoint = data.partition(b"\n\n")
    if not separator:
        raise MalformedError("the receipt has no empty line between its proof and its checkpoint")
    header, *lines = decode_utf8(head, "the receipt").split("\n")
    if header != _HEADER:
        raise MalformedError(f"the receipt begins with {shown(header)}, not with {_HEADER}")
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = parse_base64(lines.pop(0).removeprefix("extra "), "the extra data of the receipt")
    if not lines or not lines[0].startswith("index "):
        raise MalformedError("the receipt has no index line where one has to be")
    index = parse_decimal(lines.pop(0).removeprefix("index "), "the index of the receipt")
    proof = tuple(parse_base64(line, "a hash of the receipt's proof", length=HASH_BYTES) for line in lines)
    return Receipt(leaf_index=index, proof=proof, checkpoint=checkpoint, extra=extra)


def format_receipt(receipt: Receipt) -> bytes:
    """Format a receipt; `parse_receipt` gives the same value back. Raises MalformedError above 2 MiB."""
    lines = [_HEADER]
    if receipt.extra is not None:
        lines.append(f"extra {format_base64(receipt.extra)}")
    lines.append(f"index {receipt.leaf_index}")
    lines.extend(format_base64(node) for node in receipt.proof)
    head = "".join(f"{line}\n" for line in lines)
    data = head.encode() + b"\n" + receipt.checkpoint
    if len(data) > MAX_RECEIPT_BYTES:
        raise MalformedError(f"the receipt would have {len(data)} bytes; {MAX_RECEIPT_BYTES} are allowed")
    return data
