"""Compare four ways to keep a tree's hashes in LMDB: disk, CPU of an append, CPU of an inclusion proof.

    python bench/storage_layout.py --leaves 1000000 --rounds 5 --json

node     one key for every node
leaves   C2SP tiles: 256 hashes of every eighth level; inner nodes are hashed anew when they are read
inner8   such tiles with all their inner nodes behind them (what tlog.integrate stores)
inner4   the same with tiles of 4 levels: 16 hashes and 14 inner nodes

All four are put into LMDB with the store's settings, fsync included. Measured is CPU time (user + system)
of this process: wall time on a shared machine says more about the neighbours. A round takes a fresh directory
for each layout, and every round another order; the ratio to `inner8` is taken inside each round, so that a
slow minute hits all layouts alike.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import lmdb

from tlog.integrate import TreeEdge, integrate
from tlog.merkle import prove_inclusion, verify_inclusion
from tlog.storage.lmdb_environment import LIB_VERSION

Rows = list[tuple[bytes, bytes]]
Get = Callable[[bytes], memoryview | None]

KEY = struct.Struct(">BQ")
HASH_BYTES = 32
BATCH = 256
REFERENCE = "inner8"


class Layout(Protocol):
    """Says which rows new leaves make, and how a node is found in them."""

    size: int

    def append(self, leaf_hashes: list[bytes]) -> Rows:
        """Add leaves; return the rows to put."""
        ...

    def read_node(self, get: Get, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree."""
        ...


class NodeRows:
    """Keeps one row a node."""

    def __init__(self) -> None:
        self.size = 0
        self.edge: dict[int, bytes] = {}  # the last node of every level that has an odd number of them

    def append(self, leaf_hashes: list[bytes]) -> Rows:
        """Add leaves; return the rows to put."""
        rows: Rows = []
        level, first, nodes = 0, self.size, leaf_hashes
        self.size += len(leaf_hashes)
        while nodes:
            rows += [(KEY.pack(level, index), node) for index, node in enumerate(nodes, first)]
            if first & 1:
                nodes = [self.edge.pop(level), *nodes]
                first -= 1
            if len(nodes) & 1:
                self.edge[level] = nodes[-1]
            nodes = [sha256(b"\x01" + nodes[i] + nodes[i + 1]).digest() for i in range(0, len(nodes) - 1, 2)]
            level, first = level + 1, first >> 1
        return rows

    def read_node(self, get: Get, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree."""
        found = get(KEY.pack(level, index))
        assert found is not None
        return bytes(found)


class TileRows:
    """Keeps tiles of `height` levels, with or without their inner nodes."""

    def __init__(self, height: int, *, inner: bool) -> None:
        self.size = 0
        self.height = height
        self.inner = inner
        self.width_bytes = HASH_BYTES << height
        self.empty = [b""] * height
        self.edge: list[list[bytes]] = []
        # Where every height starts in a stored tile, by width.
        self.starts = [
            [HASH_BYTES * sum(width >> h for h in range(at)) for at in range(height)]
            for width in range((1 << height) + 1)
        ]

    def append(self, leaf_hashes: list[bytes]) -> Rows:
        """Add leaves; return the rows to put."""
        rows: Rows = []
        level, hashes, old_size = 0, b"".join(leaf_hashes), self.size
        self.size += len(leaf_hashes)
        while hashes:
            if level == len(self.edge):
                self.edge.append(self.empty)
            heights, index = self.edge[level], old_size >> self.height * (level + 1)
            roots = []
            while hashes:
                room = self.width_bytes - len(heights[0])
                heights, hashes = self._grow(heights, hashes[:room]), hashes[room:]
                rows.append((KEY.pack(level, index), b"".join(heights) if self.inner else heights[0]))
                if len(heights[0]) == self.width_bytes:
                    roots.append(sha256(b"\x01" + heights[-1]).digest())
                    heights, index = self.empty, index + 1
            self.edge[level] = heights
            level, hashes = level + 1, b"".join(roots)
        return rows

    def _grow(self, heights: list[bytes], hashes: bytes) -> list[bytes]:
        nodes = heights[0] + hashes
        grown = [nodes]
        for old in heights[1:]:
            pairs = range(2 * len(old), len(nodes) - HASH_BYTES, 2 * HASH_BYTES)
            nodes = old + b"".join([sha256(b"\x01" + nodes[i : i + 2 * HASH_BYTES]).digest() for i in pairs])
            grown.append(nodes)
        return grown

    def read_node(self, get: Get, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree."""
        tile_level, height = divmod(level, self.height)
        tile = index >> self.height - height
        offset = index & (1 << self.height - height) - 1
        stored = get(KEY.pack(tile_level, tile))
        assert stored is not None
        if self.inner:
            width = min(1 << self.height, (self.size >> self.height * tile_level) - (tile << self.height))
            start = self.starts[width][height] + HASH_BYTES * offset
            return bytes(stored[start : start + HASH_BYTES])
        nodes = bytes(stored[HASH_BYTES * offset << height : HASH_BYTES * (offset + 1) << height])
        while len(nodes) > HASH_BYTES:
            pairs = range(0, len(nodes), 2 * HASH_BYTES)
            nodes = b"".join([sha256(b"\x01" + nodes[i : i + 2 * HASH_BYTES]).digest() for i in pairs])
        return nodes


LAYOUTS: dict[str, Callable[[], Layout]] = {
    "node": NodeRows,
    "leaves": lambda: TileRows(8, inner=False),
    "inner8": lambda: TileRows(8, inner=True),
    "inner4": lambda: TileRows(4, inner=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Holds one layout's numbers of one round: CPU in microseconds, sizes in bytes."""

    layout: str
    round: int
    append_batched_us: float  # CPU per leaf in batches of 256
    append_single_us: float  # CPU per leaf, one by one
    proof_us: float  # CPU per inclusion proof of a random leaf
    disk_batched: float  # bytes of the file per leaf, after the batches
    disk_single: float  # bytes by which the file grew per leaf, one by one
    written_batched: float  # bytes handed to write(2) per leaf, in batches of 256
    written_single: float  # bytes handed to write(2) per leaf, one by one


def measure(name: str, leaf_hashes: list[bytes], singles: int, proofs: int, number: int) -> Sample:
    """Build the tree in batches and then leaf by leaf, and prove random leaves of it."""
    layout = LAYOUTS[name]()
    batched = len(leaf_hashes) - singles
    with (
        tempfile.TemporaryDirectory() as path,
        lmdb.open(path, map_size=2**33, max_dbs=1, lib_version=LIB_VERSION) as environment,
    ):
        table = environment.open_db(b"tiles")

        def append(hashes: list[bytes]) -> None:
            with environment.begin(write=True) as transaction:
                for key, value in layout.append(hashes):
                    transaction.put(key, value, db=table)

        def file_bytes() -> int:
            return (Path(path) / "data.mdb").stat().st_size

        cpu, written, disk = time.process_time(), written_bytes(), file_bytes()
        for start in range(0, batched, BATCH):
            append(leaf_hashes[start : min(start + BATCH, batched)])
        batched_cpu, batched_written = time.process_time() - cpu, written_bytes() - written
        batched_disk = file_bytes() - disk
        cpu, written, disk = time.process_time(), written_bytes(), file_bytes()
        for start in range(batched, len(leaf_hashes)):
            append(leaf_hashes[start : start + 1])
        single_cpu, single_written = time.process_time() - cpu, written_bytes() - written
        single_disk = file_bytes() - disk

        with environment.begin(buffers=True) as transaction:

            def read_node(level: int, index: int) -> bytes:
                return layout.read_node(get, level, index)

            def get(key: bytes) -> memoryview | None:
                return transaction.get(key, db=table)

            root = root_hash(leaf_hashes)
            rng = random.Random(number)
            asked = [rng.randrange(layout.size) for _ in range(proofs)]
            for index in asked[:100]:  # also warms up
                proof = prove_inclusion(read_node, index, layout.size)
                verify_inclusion(leaf_hashes[index], index, layout.size, proof, root)
            cpu = time.process_time()
            for index in asked:
                prove_inclusion(read_node, index, layout.size)
            proof_cpu = time.process_time() - cpu
    return Sample(
        layout=name,
        round=number,
        append_batched_us=batched_cpu / batched * 1e6,
        append_single_us=single_cpu / singles * 1e6,
        proof_us=proof_cpu / proofs * 1e6,
        disk_batched=batched_disk / batched,
        disk_single=single_disk / singles,
        written_batched=batched_written / batched,
        written_single=single_written / singles,
    )


def root_hash(leaf_hashes: list[bytes]) -> bytes:
    edge, _ = integrate(TreeEdge.EMPTY, leaf_hashes)
    return edge.root_hash


def written_bytes() -> int:
    """Return the bytes that this process has handed to write calls so far (Linux)."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["wchar"])


def check_layouts(leaf_hashes: list[bytes]) -> None:
    """Make sure that `inner8` is what the store writes, before anything is claimed about it."""
    _, tiles = integrate(TreeEdge.EMPTY, leaf_hashes)
    rows = dict(TileRows(8, inner=True).append(leaf_hashes))
    assert rows == {KEY.pack(*at): stored for at, stored in tiles.items()}


def summarise(samples: list[Sample]) -> list[dict[str, float | str]]:
    """Take medians over the rounds, and medians of the ratios to the reference in the same round."""
    names = [name for name in asdict(samples[0]) if name not in ("layout", "round")]
    references = {sample.round: asdict(sample) for sample in samples if sample.layout == REFERENCE}
    table: list[dict[str, float | str]] = []
    for layout in LAYOUTS:
        mine = [asdict(sample) for sample in samples if sample.layout == layout]
        row: dict[str, float | str] = {"layout": layout}
        for name in names:
            row[name] = round(statistics.median(sample[name] for sample in mine), 2)
            if name.endswith("_us"):
                ratios = [sample[name] / references[sample["round"]][name] for sample in mine]
                row[f"{name[:-3]}_ratio"] = round(statistics.median(ratios), 2)
        table.append(row)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--leaves", type=int, default=400_000, help="leaves appended in batches of 256")
    parser.add_argument("--singles", type=int, default=2_000, help="leaves appended one by one after that")
    parser.add_argument("--proofs", type=int, default=5_000, help="inclusion proofs of random leaves")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    options = parser.parse_args()

    leaf_hashes = [sha256(struct.pack(">Q", i)).digest() for i in range(options.leaves + options.singles)]
    check_layouts(leaf_hashes[:100_000])
    samples: list[Sample] = []
    order = list(LAYOUTS)
    for number in range(options.rounds):
        order = order[1:] + order[:1]
        for name in order:
            print(f"round {number + 1} of {options.rounds}: {name}", file=sys.stderr)
            samples.append(measure(name, leaf_hashes, options.singles, options.proofs, number))
    table = summarise(samples)
    if options.json:
        versions = {"python": platform.python_version(), "lmdb": lmdb.version(lib_version=LIB_VERSION)}
        print(json.dumps({"options": vars(options), "versions": versions, "table": table,
                          "samples": [asdict(sample) for sample in samples]}, indent=1))  # fmt: skip
        return
    print(f"{options.leaves} leaves in batches of {BATCH}, then {options.singles} one by one;", end=" ")
    print(f"medians of {options.rounds} rounds")
    print(" | ".join(table[0]))
    for row in table:
        print(" | ".join(str(value) for value in row.values()))


if __name__ == "__main__":
    main()
