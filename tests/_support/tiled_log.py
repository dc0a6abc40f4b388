"""Tiled logs made and walked by hand, from the specification's words and hashlib alone (C2SP tlog-tiles).

Shares nothing with tlog.tiles and tlog.tile_source, so that the two can be held against each other.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from _support.signers import signer

from tlog.note import Signer, sign_note

ORIGIN = "tiles.example/log"
SIGNER = signer(ORIGIN)

Get = Callable[[str], bytes]


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def tree_hash(hashes: Sequence[bytes]) -> bytes:
    """MTH over leaf hashes, or over roots of subtrees of one size (RFC 6962 section 2.1)."""
    if not hashes:
        return sha256(b"")
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while 2 * k < len(hashes):
        k *= 2
    return sha256(b"\x01" + tree_hash(hashes[:k]) + tree_hash(hashes[k:]))


def path_of(level: int | str, index: int, width: int) -> str:
    """`tile/<L>/<N>[.p/<W>]`: groups of three digits, all but the last with an x, partials with a width."""
    digits = f"{index:03d}" if index < 1000 else f"{index:0{-(-len(str(index)) // 3) * 3}d}"
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    name = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
    return f"tile/{level}/{name}" + (f".p/{width}" if width < 256 else "")


def resources(
    entries: Sequence[bytes], *, origin: str = ORIGIN, log_signer: Signer = SIGNER, bundles: bool = True
) -> dict[str, bytes]:
    """Every static resource of the tree over these entries, by path, and the signed checkpoint."""
    made: dict[str, bytes] = {}
    hashes = [sha256(b"\x00" + entry) for entry in entries]
    root = tree_hash(hashes)
    level = 0
    while hashes:
        full = []
        for start in range(0, len(hashes), 256):
            part = hashes[start : start + 256]
            made[path_of(level, start // 256, len(part))] = b"".join(part)
            if len(part) == 256:
                full.append(tree_hash(part))
        level, hashes = level + 1, full
    for start in range(0, len(entries) if bundles else 0, 256):
        part = entries[start : start + 256]
        bundle = b"".join(len(entry).to_bytes(2, "big") + entry for entry in part)
        made[path_of("entries", start // 256, len(part))] = bundle
    made["checkpoint"] = checkpoint_note(len(entries), root, origin=origin, log_signer=log_signer)
    return made


def checkpoint_note(
    tree_size: int, root: bytes, *, origin: str = ORIGIN, log_signer: Signer = SIGNER
) -> bytes:
    return sign_note(f"{origin}\n{tree_size}\n{base64.b64encode(root).decode()}\n", [log_signer])


def write_resources(directory: Path, made: Mapping[str, bytes]) -> Path:
    for path, data in made.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(data)
    return directory


def numbered_entries(count: int, *, start: int = 0) -> list[bytes]:
    return [b"entry %d" % number for number in range(start, start + count)]


def signed_size_and_root(note: bytes) -> tuple[int, bytes]:
    _, size, root = note.decode().split("\n")[:3]
    return int(size), base64.b64decode(root)


def walk(get: Get) -> list[bytes]:
    """Fetch the whole log as any tiled-log client would, and return its entries.

    Asserts that bundles hash to level 0, that each level's full tiles hash to the level above, and that the
    root rebuilt from the entries, and again from the tiles at the right edge, is the signed one.
    """
    size, signed = signed_size_and_root(get("checkpoint"))
    entries: list[bytes] = []
    for start in range(0, size, 256):
        bundle = get(path_of("entries", start // 256, min(256, size - start)))
        at = 0
        while at < len(bundle):
            length = int.from_bytes(bundle[at : at + 2], "big")
            entries.append(bundle[at + 2 : at + 2 + length])
            at += 2 + length
        assert at == len(bundle)
    assert len(entries) == size
    below = [sha256(b"\x00" + entry) for entry in entries]
    assert tree_hash(below) == signed
    level = 0
    edge: list[bytes] = []
    while below:
        above = []
        for start in range(0, len(below), 256):
            width = min(256, len(below) - start)
            tile = get(path_of(level, start // 256, width))
            hashes = [tile[at : at + 32] for at in range(0, len(tile), 32)]
            assert hashes == below[start : start + width]
            if width == 256:
                above.append(tree_hash(hashes))
            else:
                edge = hashes_at_the_edge(hashes) + edge
        level, below = level + 1, above
    while len(edge) > 1:
        edge[-2:] = [sha256(b"\x01" + edge[-2] + edge[-1])]
    assert (edge[0] if edge else sha256(b"")) == signed
    return entries


def hashes_at_the_edge(hashes: Sequence[bytes]) -> list[bytes]:
    """The roots of the largest complete subtrees that a partial tile is made of, left to right."""
    roots, at = [], 0
    while at < len(hashes):
        size = 1
        while 2 * size <= len(hashes) - at:
            size *= 2
        roots.append(tree_hash(hashes[at : at + size]))
        at += size
    return roots
