"""What is looked at before every signature: each copy of the right edge in turn with one bit flipped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import lmdb
import pytest
from _support.alliance import ORIGIN, Alliance
from _support.cost import cpu_s

from tlog.ed25519 import PrivateKey, verify_signature
from tlog.errors import CorruptionError
from tlog.integrate import TreeEdge, integrate
from tlog.log import Log
from tlog.log_state import LogState
from tlog.merkle import CompactRange, leaf_hash
from tlog.right_edge import check_grown_edge, check_stored_edge
from tlog.validate import verify_entries


def flipped(data: bytes, bit: int = 0) -> bytes:
    at, shift = divmod(bit, 8)
    return data[:at] + bytes([data[at] ^ 1 << shift]) + data[at + 1 :]


def edge_with_flip(edge: TreeEdge, level: int, height: int, bit: int) -> TreeEdge:
    tiles = list(edge.tiles)
    heights = list(tiles[level])
    heights[height] = flipped(heights[height], bit)
    tiles[level] = tuple(heights)
    return TreeEdge(edge.tree_size, tuple(tiles))


@pytest.fixture
def alliance() -> Alliance:
    return Alliance()


@pytest.fixture
def log(tmp_path: Path, alliance: Alliance) -> Iterator[Log]:
    with Log.create(tmp_path / "store", alliance.signer) as log:
        log.append(alliance.governance)
        log.append(alliance.entries(0, 300))
        yield log


def state(log: Log) -> LogState:
    return log._state


def test_a_flipped_bit_in_any_hash_of_the_edge_in_memory_is_told_before_the_next_signature(
    log: Log, alliance: Alliance
) -> None:
    sound = state(log)
    signed: list[None] = []
    log._before_signing = lambda: signed.append(None)
    tried = 0
    for level, heights in enumerate(sound.edge.tiles):
        for height, hashes in enumerate(heights):
            for bit in range(0, 8 * len(hashes), 256):
                log._state = replace(sound, edge=edge_with_flip(sound.edge, level, height, bit + 77))
                with pytest.raises(CorruptionError, match=f"level {level}.*not the same in memory and in"):
                    log.append([alliance.entry(1000)])
                tried += 1
    assert tried > 90
    assert signed == []
    log._state = sound
    log.append([alliance.entry(1000)])
    assert len(signed) == 1


def test_a_flipped_bit_in_any_root_that_the_edge_was_put_together_to_is_told_before_the_next_signature(
    log: Log, alliance: Alliance
) -> None:
    sound = state(log)
    roots = sound.edge.compact_range
    assert len(roots.hashes) > 2
    for position, root in enumerate(roots.hashes):
        hashes = (*roots.hashes[:position], flipped(root, 77), *roots.hashes[position + 1 :])
        edge = TreeEdge(sound.edge.tree_size, sound.edge.tiles)
        object.__setattr__(edge, "_compact_range", CompactRange(roots.start, roots.end, hashes))
        log._state = replace(sound, edge=edge)
        with pytest.raises(CorruptionError, match="do not make the tree that was about to be signed"):
            log.append([alliance.entry(1000)])
    log._state = sound
    log.append([alliance.entry(1000)])


def flip_in_store(log: Log, table: bytes, key: bytes, bit: int) -> None:
    def flip(transaction: lmdb.Transaction[bytes]) -> None:
        database = environment.tables[table]
        value = transaction.get(key, db=database)
        assert value is not None
        transaction.put(key, flipped(value, bit), db=database)

    environment = log._store._environment  # type: ignore[attr-defined]
    environment.write(flip)


def test_a_flipped_bit_in_a_stored_tile_of_the_edge_is_told_before_the_next_signature(
    log: Log, alliance: Alliance
) -> None:
    flip_in_store(log, b"tiles", b"\0" + (1).to_bytes(8, "big"), 300)
    with pytest.raises(CorruptionError, match="tile 1 of level 0"):
        log.append([alliance.entry(1000)])
    assert log.checkpoint().tree_size == 304


def test_a_flipped_bit_in_the_newest_stored_entry_is_told_before_the_next_signature(
    log: Log, alliance: Alliance
) -> None:
    flip_in_store(log, b"entries", (303).to_bytes(8, "big"), 300)
    with pytest.raises(CorruptionError, match="the newest stored entry, 303"):
        log.append([alliance.entry(1000)])


def test_what_is_stored_already_is_answered_though_nothing_is_signed(log: Log, alliance: Alliance) -> None:
    sound = state(log)
    log._state = replace(sound, edge=edge_with_flip(sound.edge, 0, 0, 5))
    assert log.append([alliance.entry(7)]).leaf_indices == (11,)


def test_a_bit_that_flips_between_an_entrys_verification_and_its_signature_is_told(
    log: Log, alliance: Alliance
) -> None:
    class Flipped:
        """An entry that was verified, and whose bytes in memory changed since."""

        def __init__(self, verified: object, entry: bytes) -> None:
            self._verified = verified
            self.entry = entry

        def __getattr__(self, name: str) -> object:
            return getattr(self._verified, name)

    verified = verify_entries([alliance.entry(1000), alliance.entry(1001)], ORIGIN)
    with pytest.raises(CorruptionError, match="do not make the tree that was about to be signed"):
        log.commit([[verified[0], Flipped(verified[1], flipped(verified[1].entry, 999))]])  # type: ignore[list-item]
    assert log.checkpoint().tree_size == 304
    assert log.commit([verified]).new_entries == 2


def test_an_error_of_the_processor_while_hashing_is_told() -> None:
    entries = [b"entry %d" % index for index in range(700)]
    edge, _ = integrate(TreeEdge.EMPTY, [leaf_hash(entry) for entry in entries[:300]])
    grown, _ = integrate(edge, [leaf_hash(entry) for entry in entries[300:]])
    check_grown_edge(edge, entries[300:], grown)
    told = 0
    wanted = set(grown.compact_range.hashes)
    for level, heights in enumerate(grown.tiles):
        for height, hashes in enumerate(heights):
            if hashes[-32:] in wanted and grown.tree_size >> (8 * level + height) & 1:
                with pytest.raises(CorruptionError):
                    check_grown_edge(
                        edge, entries[300:], edge_with_flip(grown, level, height, 8 * len(hashes) - 1)
                    )
                told += 1
    assert told == grown.tree_size.bit_count()


def test_the_check_costs_no_more_than_a_few_signature_checks(log: Log) -> None:
    edge = state(log).edge
    key = PrivateKey(bytes(32))
    signature = key.sign(b"event")

    def check_signatures() -> None:
        for _ in range(50):
            verify_signature(key.public_key, b"event", signature)

    def check_edge() -> None:
        for _ in range(50):
            check_stored_edge(edge, reader)

    with log._store.reader() as reader:
        assert cpu_s(check_edge, rounds=5) < 10 * cpu_s(check_signatures, rounds=5)
