"""Targets of what is proven: receipts, tiles and bundles, Merkle proofs, evidence."""

from __future__ import annotations

from functools import cache

from _support.signed_tree import signed_checkpoint
from fuzz.engine import Target
from fuzz.values import ALLIANCE, LOG, POLICY, make_target, text_of, trees

from tlog.checkpoint import Checkpoint
from tlog.errors import (
    MalformedError,
    ProofError,
    RefusalReason,
    VerificationError,
)
from tlog.evidence import (
    format_evidence,
    make_empty,
    make_leaf,
    make_rule,
    make_same_size,
    make_sizes,
    parse_evidence,
    verify_evidence,
)
from tlog.merkle import (
    inclusion_proofs_from_range,
    root_from_inclusion_proof,
    roots_from_consistency_path,
    verify_consistency,
    verify_inclusion,
    verify_range,
)
from tlog.receipt import format_receipt, parse_receipt, verify_receipt
from tlog.tiles import (
    Tile,
    decode_entry_bundle,
    decode_hash_tile,
    encode_entry_bundle,
    parse_tile_path,
)


def _receipt(data: bytes) -> None:
    receipt = parse_receipt(data)
    assert format_receipt(receipt) == data
    verify_receipt(trees()[0].tree.entries[4], data, POLICY)


def _tile_path(data: bytes) -> None:
    text = text_of(data)
    tile = parse_tile_path(text)
    assert tile.path == text
    assert 0 <= tile.start_index < tile.end_index


def _entry_bundle(data: bytes) -> None:
    assert encode_entry_bundle(decode_entry_bundle(data)) == data
    decode_entry_bundle(data, 3)


def _hash_tile(data: bytes) -> None:
    width = data[0] if data else 0
    assert b"".join(decode_hash_tile(data[1:], width)) == data[1:]


def _evidence(data: bytes) -> None:
    evidence = parse_evidence(data)
    assert format_evidence(evidence) == data
    verify_evidence(evidence, POLICY)


def _proof(data: bytes) -> None:
    """A kind, a count, two numbers of 8 bytes, two roots, and hashes, the last of which may be cut off."""
    kind, count = (data[0] % 5, data[1] % 8) if len(data) > 1 else (0, 0)
    first, second = int.from_bytes(data[2:10], "big"), int.from_bytes(data[10:18], "big")
    root1, root2 = data[18:50], data[50:82]
    hashes = [data[at : at + 32] for at in range(82, len(data), 32)]
    if kind == 0:
        verify_inclusion(root1, first, second, hashes, root2)
    elif kind == 1:
        verify_consistency(first, second, hashes, root1, root2)
    elif kind == 2:
        root_from_inclusion_proof(root1, first, second, hashes)
    elif kind == 3:
        assert roots_from_consistency_path(first, second, hashes)
    else:
        leaves, rest = hashes[:count], hashes[count:]
        half = len(rest) // 2
        verify_range(leaves, first, second, rest[:half], rest[half:], root2)
        inclusion_proofs_from_range(leaves, first, second, rest[:half], rest[half:])


@cache
def evidence_seeds() -> tuple[bytes, ...]:
    """One piece of each kind."""
    one, fork = trees()
    governance = [one.logged(at) for at in (0, 1, 2, 3, 7)]
    pieces = (
        make_same_size(one.note(4), fork.note(4)),
        make_sizes(fork.note(4), one.note(7), one.path(4, 7)),
        make_empty(signed_checkpoint(Checkpoint(ALLIANCE.origin, 0, bytes(32)), [LOG])),
        make_leaf(one.leaf_hash(3), one.receipt(3, 5), fork.leaf_hash(3), fork.receipt(3, 7)),
        make_rule(RefusalReason.SOURCE_ID_CONFLICT, one.logged(6), other=one.logged(4, 5)),
        make_rule(RefusalReason.UNKNOWN_KEY, one.logged(5), governance=governance),
    )
    return tuple(map(format_evidence, pieces))


def _proof_seeds() -> list[bytes]:
    one, _ = trees()
    proof = parse_receipt(one.receipt(3, 8)).proof
    leaves = [one.leaf_hash(index) for index in range(4, 8)]
    kinds = (
        (0, 3, 8, one.leaf_hash(3), one.root(8), proof),
        (1, 4, 7, one.root(4), one.root(7), one.path(4, 7)[1:]),
        (1, 5, 8, one.root(5), one.root(8), one.path(5, 8)),
        (3, 5, 8, one.root(5), one.root(8), one.path(5, 8)),
        (4, 0, 4, bytes(32), one.root(4), [one.leaf_hash(index) for index in range(4)]),
        (4, 4, 8, bytes(32), one.root(8), leaves),
    )
    return [
        bytes([kind, 4])
        + first.to_bytes(8, "big")
        + second.to_bytes(8, "big")
        + root1
        + root2
        + b"".join(hashes)
        for kind, first, second, root1, root2, hashes in kinds[:5]
    ]


@cache
def proof_targets() -> tuple[Target, ...]:
    """Return the targets of this file."""
    one, _ = trees()
    return (
        make_target(
            "receipt",
            _receipt,
            [one.receipt(4), one.receipt(4, extra=b"extra")],
            MalformedError,
            VerificationError,
        ),
        make_target(
            "tile-path",
            _tile_path,
            ["tile/0/x001/x234/067", "tile/entries/000.p/255", "tile/63/000", Tile(0, 2**55).path],
            MalformedError,
            nasty=[
                b"tile/0/" + b"x000/" * 10_000 + b"000",
                b"tile/0/000.p/256",
                b"tile/0/000.p/0",
                b"tile/00/000",
            ],
        ),
        make_target(
            "entry-bundle",
            _entry_bundle,
            [encode_entry_bundle([b"", b"a", ALLIANCE.entry(1)])],
            MalformedError,
            nasty=[b"\0\0" * 257, b"\xff\xff" + b"a" * 100],
        ),
        make_target(
            "hash-tile", _hash_tile, [b"\x02" + bytes(64), b"\xff" + bytes(255 * 32)], MalformedError
        ),
        make_target("evidence", _evidence, evidence_seeds(), MalformedError, VerificationError),
        make_target("proof", _proof, _proof_seeds(), ProofError, nasty=[b"\x00" + b"\xff" * 100_000]),
    )
