"""Take one page of an LMDB tree apart, checking everything in it that LMDB trusts. Pure.

A page begins with its number and kind. Behind that come the places of its nodes, in key order; the nodes fill
the page from its end down. A leaf's node holds a key and a value, or where the value's overflow pages are; a
branch's node holds a key and the number of the page below, where the keys from that one on are.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

HEADER = struct.Struct("=QHHHH")
"""Page number, pad, kind, end of the nodes' places, begin of the nodes."""
OVERFLOW_HEADER = struct.Struct("=QHHI")
"""Page number, pad, kind, how many pages the value takes."""
PAGE_NUMBER = struct.Struct("=Q")
OVERFLOW = 0x04
BIG_DATA = 0x01
"""Marks a node whose value lies in overflow pages."""
SUB_DATA = 0x02
"""Marks a node whose value is the record of a table."""

_NODE = struct.Struct("=HHHH")
_BRANCH, _LEAF = 0x01, 0x02
_MAX_KEY_BYTES = 511


class BadPageError(Exception):
    """Says what is wrong with the `pages` pages from `page` on; it is caught where they are read."""

    def __init__(self, page: int, reason: str, pages: int = 1) -> None:
        super().__init__(reason)
        self.page = page
        self.reason = reason
        self.pages = pages


# A tuple, which is made in a third of the time that a frozen dataclass takes: there is one for every row.
class Node(NamedTuple):
    """Holds a node's key, and where in its page a value of `size` bytes begins, or which page is below."""

    key: bytes
    flags: int
    at: int
    size: int


def parse_tree_page(data: bytes, page: int, *, is_leaf: bool) -> list[Node]:
    """Take the nodes out of a branch or leaf page. Raises BadPageError."""
    number, _, flags, lower, upper = HEADER.unpack_from(data)
    if number != page:
        raise BadPageError(page, f"it says that it is page {number}")
    if flags != (_LEAF if is_leaf else _BRANCH):
        raise BadPageError(
            page, f"it has kind {flags:#x} where a {'leaf' if is_leaf else 'branch'} is needed"
        )
    if not HEADER.size < lower <= upper <= len(data) or lower % 2:
        raise BadPageError(page, f"its nodes' places end at {lower}, and its nodes begin at {upper}")
    nodes, used = [], 0
    for at in struct.unpack_from(f"={(lower - HEADER.size) // 2}H", data, HEADER.size):
        if not upper <= at <= len(data) - _NODE.size:
            raise BadPageError(page, f"a node lies at {at}, outside of [{upper}, {len(data)})")
        low, high, node_flags, key_bytes = _NODE.unpack_from(data, at)
        value_at = at + _NODE.size + key_bytes
        key = data[at + _NODE.size : value_at]
        inside = 0
        if is_leaf:
            size = low | high << 16
            inside = PAGE_NUMBER.size if node_flags & BIG_DATA else size
            nodes.append(Node(key, node_flags, value_at, size))
        else:
            nodes.append(Node(key, 0, low | high << 16 | node_flags << 32, 0))
        if key_bytes > _MAX_KEY_BYTES or value_at + inside > len(data):
            raise BadPageError(page, f"the node at {at} reaches beyond its page")
        if is_leaf and node_flags & ~(BIG_DATA | SUB_DATA):
            raise BadPageError(page, f"the node at {at} has flags {node_flags:#x}")
        used += _NODE.size + key_bytes + inside + (key_bytes + inside) % 2
    if used != len(data) - upper:
        raise BadPageError(page, f"its nodes take {used} bytes, and {len(data) - upper} are in use")
    return nodes


def check_order(
    page: int, nodes: Sequence[Node], low: bytes | None, high: bytes | None, *, is_leaf: bool, native: bool
) -> None:
    """Check that a page's keys ascend, from `low` on and below `high`, where these are given.

    `native` says that keys are integers of this machine, as in LMDB's own table of free pages. Raises
    BadPageError.
    """

    def ordered(key: bytes) -> bytes:
        return key[::-1] if native else key

    # A branch's first key says nothing: whatever is smaller than the second lies below it.
    keys = [ordered(node.key) for node in (nodes if is_leaf else nodes[1:])]
    if any(first >= second for first, second in pairwise(keys)):
        raise BadPageError(page, "its keys do not ascend")
    below = low is not None and keys and keys[0] < ordered(low)
    above = high is not None and keys and keys[-1] >= ordered(high)
    if below or above:
        raise BadPageError(page, "its keys are not between those that the page above it says")
