"""What a signer signs: never less than before, never another tree of the same size. Pure.

The mark of a key for an origin is the largest tree that it has signed. It knows no entries, so it cannot see
whether a larger tree continues the smaller one: witnesses do. What it stops is a log that was rolled back or
would sign two trees of one size: an older copy of the store, two servers, or whoever broke into the host.
"""

from __future__ import annotations

from dataclasses import dataclass

from tlog.checkpoint import Checkpoint, parse_checkpoint
from tlog.encoding import format_base64, parse_base64, parse_decimal, shown
from tlog.errors import MalformedError, SignerRefusedError
from tlog.merkle import EMPTY_ROOT, HASH_BYTES

MARKS_FIRST_LINE = "tlog-signer-marks/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Holds the largest tree that one key has signed for one origin."""

    vkey: str
    origin: str
    tree_size: int
    root_hash: bytes


def check_duty(text: str, mark: Mark | None, origin: str | None) -> Checkpoint:
    """Check that a checkpoint may be signed, given the key's mark for its origin.

    `origin` is the only one that the key signs for; None: any. Raises SignerRefusedError, which says why not.
    """
    try:
        checkpoint = parse_checkpoint(text)
    except MalformedError as error:
        raise SignerRefusedError(f"only checkpoints are signed: {error}") from error
    if checkpoint.extensions:
        raise SignerRefusedError("the checkpoint has extension lines, which are never signed here")
    if origin is not None and checkpoint.origin != origin:
        raise SignerRefusedError(
            f"the checkpoint is of {shown(checkpoint.origin)}: this key signs for {shown(origin)} only"
        )
    if checkpoint.tree_size == 0 and checkpoint.root_hash != EMPTY_ROOT:
        raise SignerRefusedError("the checkpoint is of size 0, and its root is not that of the empty tree")
    if mark is not None and checkpoint.tree_size < mark.tree_size:
        raise SignerRefusedError(
            f"size {checkpoint.tree_size} is below {mark.tree_size}, which was signed before: the log was "
            f"rolled back by {mark.tree_size - checkpoint.tree_size} entries"
        )
    if mark is not None and checkpoint.tree_size == mark.tree_size and checkpoint.root_hash != mark.root_hash:
        raise SignerRefusedError(
            f"another tree of size {mark.tree_size} was signed before: its root is {mark.root_hash.hex()}, "
            f"and this one's {checkpoint.root_hash.hex()}"
        )
    return checkpoint


def format_marks(marks: list[Mark]) -> str:
    """Format marks, as the state of a signer keeps them."""
    lines = (f"{one.tree_size} {format_base64(one.root_hash)} {one.vkey} {one.origin}\n" for one in marks)
    return f"{MARKS_FIRST_LINE}\n{''.join(lines)}"


def parse_marks(text: str) -> list[Mark]:
    """Parse what `format_marks` wrote. Raises MalformedError."""
    first, *lines = text.split("\n")
    if first != MARKS_FIRST_LINE or not lines or lines.pop():
        raise MalformedError(f"a signer's marks begin with {MARKS_FIRST_LINE}, and end in a newline")
    marks: dict[tuple[str, str], Mark] = {}
    for line in lines:
        parts = line.split(" ", 3)
        if len(parts) != 4:
            raise MalformedError("a mark has size, root hash, vkey and origin")
        mark = Mark(
            tree_size=parse_decimal(parts[0], "the size of a mark"),
            root_hash=parse_base64(parts[1], "the root hash of a mark", length=HASH_BYTES),
            vkey=parts[2],
            origin=parts[3],
        )
        if (mark.vkey, mark.origin) in marks:
            raise MalformedError("two marks are of the same key and origin")
        marks[mark.vkey, mark.origin] = mark
    return list(marks.values())
