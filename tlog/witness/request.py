"""The body of an `add-checkpoint` call (C2SP tlog-witness): an old size, a consistency proof, a checkpoint.

::

    old 20852014
    PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
    <up to 63 such lines, then an empty one>

    <the checkpoint, a signed note>
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tlog.encoding import decode_utf8, format_base64, parse_base64, parse_decimal, shown
from tlog.errors import MalformedError

MAX_PROOF_LINES = 63
"""The most hashes of a proof (tlog-witness: "MUST NOT send more than 63 consistency proof lines")."""

MAX_REQUEST_BYTES = 2**17
"""The largest body that is read, 128 KiB: 63 proof lines and a checkpoint with dozens of cosignatures."""

_HASH_BYTES = 32
_OLD_SIZE_PREFIX = "old "
# `old ` and 19 digits, then 63 times a newline and 44 characters.
_MAX_HEAD_BYTES = 23 + MAX_PROOF_LINES * 45


@dataclass(frozen=True, slots=True, kw_only=True)
class AddCheckpointRequest:
    """Holds a parsed body; nothing in it is verified, and `checkpoint` is a note that is not yet parsed."""

    old_size: int
    proof: tuple[bytes, ...]
    checkpoint: bytes


def parse_add_checkpoint(body: bytes) -> AddCheckpointRequest:
    """Parse the body of an `add-checkpoint` call as far as the checkpoint. Raises MalformedError."""
    if len(body) > MAX_REQUEST_BYTES:
        raise MalformedError(f"the body has {len(body)} bytes; at most {MAX_REQUEST_BYTES} are read")
    head, separator, checkpoint = body.partition(b"\n\n")
    if not separator:
        raise MalformedError("the body has no empty line between the proof and the checkpoint")
    if len(head) > _MAX_HEAD_BYTES:
        raise MalformedError(f"there are more bytes before the empty line than {MAX_PROOF_LINES} hashes need")
    old_size, *lines = decode_utf8(head, "what stands before the empty line").split("\n")
    if not old_size.startswith(_OLD_SIZE_PREFIX):
        raise MalformedError(f"the first line is {shown(old_size)}, not `old <tree size>`")
    if len(lines) > MAX_PROOF_LINES:
        raise MalformedError(f"the proof has {len(lines)} lines; at most {MAX_PROOF_LINES} are allowed")
    return AddCheckpointRequest(
        old_size=parse_decimal(old_size.removeprefix(_OLD_SIZE_PREFIX), "the old size"),
        proof=tuple(
            parse_base64(line, f"proof line {number}", length=_HASH_BYTES)
            for number, line in enumerate(lines, start=1)
        ),
        checkpoint=checkpoint,
    )


def format_add_checkpoint(old_size: int, proof: Sequence[bytes], checkpoint: bytes) -> bytes:
    """Format the body of an `add-checkpoint` call; `parse_add_checkpoint` gives the same values back.

    Requires 0 <= old_size < 2**63, at most 63 hashes of 32 bytes each, and a checkpoint that leaves the body
    within MAX_REQUEST_BYTES. Raises MalformedError.
    """
    lines = (f"{_OLD_SIZE_PREFIX}{old_size}", *map(format_base64, proof))
    body = "".join(f"{line}\n" for line in lines).encode() + b"\n" + checkpoint
    # An empty hash, or anything else that moves a border between the parts, must not become another request.
    read_back = parse_add_checkpoint(body)
    if (read_back.old_size, read_back.proof, read_back.checkpoint) != (old_size, tuple(proof), checkpoint):
        raise MalformedError(f"a hash of the proof from size {old_size} is not {_HASH_BYTES} bytes long")
    return body
