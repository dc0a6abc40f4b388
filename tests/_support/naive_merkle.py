"""A naive Merkle tree, written down from RFC 9162 sections 2.1.1 to 2.1.4: the oracle of the Merkle tests.

It recurses exactly as the text does, and shares nothing with the code under test. `D[begin:end]` of the text
is a pair of leaf positions here, so that a tree hash can be remembered, and so that there can be trees of
2**62 leaves as long as most of their leaves are equal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TypeVar

Node = TypeVar("Node")


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def split_point(n: int) -> int:
    """The largest power of two smaller than n: "k < n <= 2k". Requires n > 1."""
    k = 1
    while 2 * k < n:
        k *= 2
    return k


class NaiveTree:
    """The tree over a list of entries; `mth(begin, end)` is MTH(D[begin:end])."""

    def __init__(self, entries: Sequence[bytes]) -> None:
        self.entries = list(entries)
        self.mth = cache(self._mth)

    def _mth(self, begin: int, end: int) -> bytes:
        n = end - begin
        if n == 0:
            return sha256(b"")
        if n == 1:
            return sha256(b"\x00" + self.entries[begin])
        k = split_point(n)
        return sha256(b"\x01" + self.mth(begin, begin + k) + self.mth(begin + k, end))


class SparseTree:
    """The tree of any size whose leaves all hold `b"filler"`, but for the given ones."""

    def __init__(self, special: Mapping[int, bytes]) -> None:
        self.special = dict(special)
        self._filler = cache(self._filler_mth)

    def mth(self, begin: int, end: int) -> bytes:
        n = end - begin
        if not any(begin <= leaf < end for leaf in self.special):
            return self._filler(n)
        if n == 1:
            return sha256(b"\x00" + self.special[begin])
        k = split_point(n)
        return sha256(b"\x01" + self.mth(begin, begin + k) + self.mth(begin + k, end))

    def _filler_mth(self, n: int) -> bytes:
        if n == 0:
            return sha256(b"")
        if n == 1:
            return sha256(b"\x00filler")
        k = split_point(n)
        return sha256(b"\x01" + self._filler(k) + self._filler(n - k))


def path(mth: Callable[[int, int], Node], m: int, begin: int, end: int) -> list[Node]:
    """PATH(m, D[begin:end]), section 2.1.3.1, with whatever `mth` gives for a subtree."""
    n = end - begin
    if n == 1:
        return []
    k = split_point(n)
    if m < k:
        return [*path(mth, m, begin, begin + k), mth(begin + k, end)]
    return [*path(mth, m - k, begin + k, end), mth(begin, begin + k)]


def proof(mth: Callable[[int, int], Node], m: int, n: int) -> list[Node]:
    """PROOF(m, D_n), section 2.1.4.1. Requires 0 < m < n, as the text does."""
    return subproof(mth, m, 0, n, known=True)


def subproof(mth: Callable[[int, int], Node], m: int, begin: int, end: int, *, known: bool) -> list[Node]:
    """SUBPROOF(m, D[begin:end], b), section 2.1.4.1, where b is called `known`."""
    n = end - begin
    if m == n:
        return [] if known else [mth(begin, end)]
    k = split_point(n)
    if m <= k:
        return [*subproof(mth, m, begin, begin + k, known=known), mth(begin + k, end)]
    return [*subproof(mth, m - k, begin + k, end, known=False), mth(begin, begin + k)]


def complete_subtrees(start: int, end: int) -> list[tuple[int, int]]:
    """Every (level, index) whose leaves all lie in [start, end) while its parent's do not, in leaf order."""

    def inside(level: int, index: int) -> bool:
        return start <= index << level and (index + 1) << level <= end

    return sorted(
        (
            (level, index)
            for level in range(end.bit_length() + 1)
            for index in range((end >> level) + 1)
            if inside(level, index) and not inside(level + 1, index >> 1)
        ),
        key=lambda node: node[1] << node[0],
    )


# What a proof for these numbers computes, with the hashes left out. Two proofs of one shape cannot be told
# apart by their numbers: whoever accepts one with the numbers of the other has not made a mistake.


def inclusion_shape(m: int, n: int) -> str:
    """The side on which each hash of an inclusion proof goes, the deepest first."""
    if n == 1:
        return ""
    k = split_point(n)
    return inclusion_shape(m, k) + "R" if m < k else inclusion_shape(m - k, n - k) + "L"


def consistency_shape(m: int, n: int, *, known: bool = True) -> str:
    """The side on which each hash of a consistency proof goes; the first says where the walk starts."""
    if m == n:
        return "root1 " if known else "first "
    k = split_point(n)
    if m <= k:
        return consistency_shape(m, k, known=known) + "R"
    return consistency_shape(m - k, n - k, known=False) + "L"


def range_shape(start: int, end: int, n: int) -> object:
    """The tree over the three parts of a range proof: where each of their hashes goes, as nested pairs."""
    part_of = {}
    for name, begin, stop in (("left", 0, start), ("right", end, n)):
        for position, (level, index) in enumerate(complete_subtrees(begin, stop)):
            part_of[index << level, (index + 1) << level] = (name, position)
    for leaf in range(start, end):
        part_of[leaf, leaf + 1] = ("leaf", leaf - start)

    def shape(begin: int, stop: int) -> object:
        if (begin, stop) in part_of:
            return part_of[begin, stop]
        k = split_point(stop - begin)
        return shape(begin, begin + k), shape(begin + k, stop)

    return shape(0, n)
