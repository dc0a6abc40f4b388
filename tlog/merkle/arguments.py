"""Check the numbers and hashes that trees and proofs are made of, before anything is computed with them.

They often come straight from a stranger, so nothing is assumed about their types, and no message repeats more
of a value than a line.
"""

from __future__ import annotations

from collections.abc import Sequence

from tlog.encoding import MAX_SIZE
from tlog.errors import TlogError
from tlog.merkle.hashing import HASH_BYTES

# What a sequence of nothing but hashes consists of: sets, because those are made and compared without a loop.
_BYTES = frozenset({bytes})
_LENGTHS = frozenset({HASH_BYTES})


def check_size(value: object, what: str, error: type[TlogError]) -> None:
    """Check that a size or an index is an int (no bool) with 0 <= value < 2**63. Raises `error`."""
    if type(value) is int and 0 <= value <= MAX_SIZE:
        return
    raise error(f"{what} is {_shown(value)}, not an int from 0 to {MAX_SIZE}")


def check_hash(value: object, what: str, error: type[TlogError]) -> None:
    """Check that a value is `bytes` of exactly 32 bytes. Raises `error`."""
    if isinstance(value, bytes) and len(value) == HASH_BYTES:
        return
    shown = f"{len(value)} bytes" if isinstance(value, bytes) else f"of type {type(value).__name__}"
    raise error(f"{what} is {shown}, not a hash of {HASH_BYTES} bytes")


def check_hashes(hashes: object, what: str, error: type[TlogError], *, length: int | None = None) -> None:
    """Check that a value is a sequence of hashes, `length` of them where that is given. Raises `error`.

    The length is looked at first: a list of a million hashes is refused without a look at any.
    """
    if not isinstance(hashes, Sequence) or isinstance(hashes, (bytes, bytearray, str)):
        raise error(f"{what} is of type {type(hashes).__name__}, not a sequence of hashes")
    if length is not None and len(hashes) != length:
        raise error(f"{what} holds {len(hashes)} hashes where the sizes and indices ask for {length}")
    if {*map(type, hashes)} <= _BYTES and {*map(len, hashes)} <= _LENGTHS:
        return
    for position, value in enumerate(hashes):
        if not isinstance(value, bytes) or len(value) != HASH_BYTES:
            check_hash(value, f"hash {position} of {what}", error)


def _shown(value: object) -> str:
    """Show a number in a message; Python refuses to print very long ones, and nobody wants to read them."""
    if not isinstance(value, int) or isinstance(value, bool):
        return f"of type {type(value).__name__}"
    return str(value) if value.bit_length() <= 128 else f"a number of {value.bit_length()} bits"
