"""Hash leaves and nodes as RFC 6962 section 2.1 and RFC 9162 section 2.1.1 say, with SHA-256.

The two prefixes keep leaves and inner nodes apart: without them the concatenation of two node hashes could be
passed off as an entry.
"""

from __future__ import annotations

from hashlib import sha256

HASH_BYTES = 32
"""The length of every hash in a tree."""

EMPTY_ROOT = sha256(b"").digest()
"""The root hash of the tree without leaves (RFC 9162 section 2.1.1: "the hash of an empty string")."""

_LEAF_PREFIX = b"\x00"
_NODE_PREFIX = b"\x01"


def leaf_hash(entry: bytes) -> bytes:
    """Hash one entry into its leaf hash, SHA-256(0x00 || entry) (RFC 9162 section 2.1.1)."""
    return sha256(_LEAF_PREFIX + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two child hashes into their parent's, SHA-256(0x01 || left || right) (RFC 9162 section 2.1.1).

    Requires len(left) == len(right) == 32, which is not checked here: this is the hottest line of the house,
    and whoever takes hashes from outside checks them there.
    """
    return sha256(_NODE_PREFIX + left + right).digest()
