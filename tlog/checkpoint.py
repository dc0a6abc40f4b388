"""Checkpoints: the text by which a log states its tree (C2SP tlog-checkpoint).

Three lines, origin, tree size and root hash, and then optional extension lines. A checkpoint is worth
something only as the text of a signed note: `tlog.policy.open_checkpoint` goes from bytes to a `Checkpoint`
to rely on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tlog.encoding import (
    MAX_SIZE,
    check_bytes,
    check_str,
    encode_utf8,
    format_base64,
    parse_base64,
    parse_decimal,
    shown,
    split_lines,
)
from tlog.errors import MalformedError

ROOT_HASH_BYTES = 32

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f]")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Holds what a checkpoint says: the tree of `origin` with `tree_size` leaves has this root hash.

    Making one that cannot be written down raises MalformedError: 0 <= tree_size < 2**63, a root hash of 32
    bytes, a non-empty origin, non-empty extension lines, and no control characters in any of them. A
    list of extension lines is kept as a tuple. Whether
    size and root fit together (an empty tree's root, above all) is for the reader to judge: a checkpoint that
    lies has to stay representable, because it is evidence.
    """

    origin: str
    tree_size: int
    root_hash: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_line(self.origin, "the origin")
        if type(self.tree_size) is not int or not 0 <= self.tree_size <= MAX_SIZE:
            raise MalformedError(f"the tree size has to be an int from 0 to {MAX_SIZE}")
        check_bytes(self.root_hash, "the root hash")
        if len(self.root_hash) != ROOT_HASH_BYTES:
            raise MalformedError(f"a root hash has {ROOT_HASH_BYTES} bytes, not {len(self.root_hash)}")
        object.__setattr__(self, "extensions", _as_tuple(self.extensions))
        for line in self.extensions:
            _check_line(line, "an extension line")


def parse_checkpoint(text: str) -> Checkpoint:
    """Parse the text of a checkpoint note, final newline included, and nothing but its one spelling.

    Any origin is taken (tlog-checkpoint: "clients MUST NOT assume that the origin is following this format"),
    and extension lines are kept. Proves nothing about who said it. Raises MalformedError.
    """
    lines = split_lines(text, "the checkpoint")
    if len(lines) < 3:
        raise MalformedError(f"the checkpoint has {len(lines)} lines; origin, tree size and root are needed")
    origin, tree_size, root_hash, *extensions = lines
    return Checkpoint(
        origin,
        parse_decimal(tree_size, "the tree size"),
        parse_base64(root_hash, "the root hash", length=ROOT_HASH_BYTES),
        tuple(extensions),
    )


def format_checkpoint(checkpoint: Checkpoint) -> str:
    """Format a checkpoint as the text that gets signed; `parse_checkpoint` gives the same value back."""
    lines = (
        checkpoint.origin,
        str(checkpoint.tree_size),
        format_base64(checkpoint.root_hash),
        *checkpoint.extensions,
    )
    return "".join(f"{line}\n" for line in lines)


def _as_tuple(extensions: object) -> tuple[object, ...]:
    if not isinstance(extensions, tuple | list):
        raise MalformedError(f"extension lines are a tuple, not of type {type(extensions).__name__}")
    return tuple(extensions)


def _check_line(line: str, what: str) -> None:
    check_str(line, f"{what} of the checkpoint")
    if not line:
        raise MalformedError(f"{what} of the checkpoint is empty")
    if _CONTROL_CHARACTERS.search(line):
        raise MalformedError(f"{what} of the checkpoint, {shown(line)}, contains a control character")
    encode_utf8(line, f"{what} of the checkpoint")
