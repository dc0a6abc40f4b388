"""Check a tiled log from outside, a folder or a URL: every tile, every entry, and the rules; to the end.

`tlog.tile_source.verified` stops at the first wrong bit, because nothing behind it may be used. This goes on,
and says of every resource whether it is what the signed root makes it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from tlog.checkpoint import Checkpoint
from tlog.errors import MalformedError, NotFoundError
from tlog.fsck.findings import Finding, Findings, Part, Report
from tlog.fsck.index_check import ExpectedRows
from tlog.fsck.rules_check import RulesCheck
from tlog.fsck.spool import Shelf
from tlog.fsck.tree_check import TreeCheck, TreeVerdict, WrongTile
from tlog.merkle import HASH_BYTES, leaf_hash
from tlog.tile_source.base import TileSource
from tlog.tile_source.fetching import NewerCheckpoint, fetch_ahead, fetch_tile
from tlog.tiles import ENTRIES_LEVEL, TILE_WIDTH, Tile, decode_entry_bundle, tile_at


def check_tiles(
    source: TileSource,
    checkpoint: Checkpoint,
    *,
    newer: NewerCheckpoint | None = None,
    progress: Callable[[int], None] = lambda _: None,
    on_wrong: Callable[[Tile], None] = lambda _: None,
) -> Report:
    """Check everything under a checkpoint whose signature the caller has verified.

    `progress` is told how many more entries were checked, `on_wrong` every resource that is not, or may not
    be, right. Raises RemoteError or StorageError when the source cannot be read.
    """
    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(os.cpu_count() or 1, "fsck"))
        checking = _Checking(source, checkpoint, newer, stack, threads, on_wrong)
        checking.entries(progress)
        return checking.result()


class _Checking:
    """Goes through one tiled log once."""

    def __init__(
        self,
        source: TileSource,
        checkpoint: Checkpoint,
        newer: NewerCheckpoint | None,
        stack: ExitStack,
        threads: ThreadPoolExecutor,
        on_wrong: Callable[[Tile], None],
    ) -> None:
        self._source = source
        self._checkpoint = checkpoint
        self._size = checkpoint.tree_size
        self._newer = newer
        self._on_wrong = on_wrong
        self._findings = Findings()
        self._fetched: dict[Tile, bytes | None] = {}
        self._tree = TreeCheck(
            self._size,
            checkpoint.root_hash,
            self._stored,
            inner_nodes=False,
            make_shelf=lambda: Shelf(stack),
        )
        self._rules = RulesCheck(checkpoint.origin, threads)
        self._expected = ExpectedRows(stack)
        self._bad_bundles: dict[int, str] = {}

    def entries(self, progress: Callable[[int], None]) -> None:
        """Read every bundle and every tile of the lowest level, and those above as they are complete."""
        for index, entries in self._bundles():
            start = index * TILE_WIDTH
            hashes = [None if entry is None else leaf_hash(entry) for entry in entries]
            disputed = self._tree.add(hashes)
            for judged in self._rules.add(start, entries, disputed):
                if judged is not None:
                    self._expected.add(judged)
            progress(len(entries))

    def result(self) -> Report:
        """Decide, and say what came of it."""
        verdict = self._tree.finish()
        for wrong in verdict.wrong_tiles():
            self._report_tile(wrong)
        for level, index in verdict.undecided_tiles:
            self._on_wrong(tile_at(level, index, self._size))
        self._report_entries(verdict)
        if not verdict.leads_to_root:
            self._findings.add(
                Finding(
                    part=Part.CHECKPOINT,
                    message=f"neither the {self._size} entries nor the tiles lead to the signed root",
                    place="checkpoint",
                    copies={
                        "entries": verdict.entries_root.hex(),
                        "signed": self._checkpoint.root_hash.hex(),
                    },
                )
            )
        broken, unjudged = self._rules.findings(verdict.wrong_entries)
        for finding in broken:
            self._findings.add(finding)
        self._expected.check_names(self._findings, verdict.wrong_entries)
        unchecked = ["a log's store has more than its tiles: inner nodes, indexes, the data file itself"]
        if unjudged:
            unchecked.append(
                f"{unjudged} entries could not be judged by the membership: an entry before them is damaged"
            )
        return Report(
            source=self._source.name,
            origin=self._checkpoint.origin,
            tree_size=self._size,
            root_hash=self._checkpoint.root_hash,
            entries=self._size,
            tiles=verdict.tiles,
            governance_entries=self._rules.governance_entries,
            findings=tuple(self._findings.kept),
            counts=dict(self._findings.counts),
            unchecked=tuple(unchecked),
        )

    def _bundles(self) -> Iterator[tuple[int, list[bytes | None]]]:
        def fetch(index: int) -> tuple[bytes | str, bytes | None]:
            bundle = tile_at(ENTRIES_LEVEL, index, self._size)
            return self._fetch(bundle), _bytes_or_none(self._fetch(tile_at(0, index, self._size)))

        indices = range(-(-self._size // TILE_WIDTH))
        for index, (bundle, tile) in fetch_ahead(indices, fetch, self._source.concurrency):
            width = tile_at(ENTRIES_LEVEL, index, self._size).width
            # What was fetched ahead is asked for at once, and again only if it differs.
            self._fetched = {tile_at(0, index, self._size): tile}
            entries: list[bytes | None] = [None] * width
            if isinstance(bundle, bytes):
                try:
                    entries = list(decode_entry_bundle(bundle, width))
                except MalformedError as error:
                    bundle = str(error)
            if isinstance(bundle, str):
                self._bad_bundles[index] = bundle
            yield index, entries

    def _fetch(self, tile: Tile) -> bytes | str:
        """Return what the source has, or what is wrong with that."""
        try:
            return fetch_tile(self._source, tile, self._newer)
        except (NotFoundError, MalformedError) as error:
            return str(error)

    def _stored(self, level: int, index: int) -> bytes | None:
        tile = tile_at(level, index, self._size)
        if tile in self._fetched:
            return self._fetched[tile]
        return _bytes_or_none(self._fetch(tile))

    def _report_tile(self, wrong: WrongTile) -> None:
        tile = tile_at(wrong.level, wrong.index, self._size)
        what = self._fetch(tile)
        first, end = min(wrong.wrong_nodes, default=0), max(wrong.wrong_nodes, default=-1) + 1
        nodes = ", ".join(str(wrong.index * TILE_WIDTH + at) for at in wrong.wrong_nodes[:8])
        more = " and more" if len(wrong.wrong_nodes) > 8 else ""
        level = "nodes" if wrong.level else "leaves"
        self._findings.add(
            Finding(
                part=Part.TILE,
                message=f"{tile.path} cannot be used: {what}"
                if isinstance(what, str)
                else f"{tile.path} has wrong hashes of the {level} {nodes}{more}; "
                "the entries and the signed root say otherwise",
                place=tile.path,
                file=tile.path if wrong.wrong_nodes else None,
                byte_range=(HASH_BYTES * first, HASH_BYTES * end) if wrong.wrong_nodes else None,
            )
        )
        self._on_wrong(tile)

    def _report_entries(self, verdict: TreeVerdict) -> None:
        wrong_bundles: set[int] = set()
        for index, reason in self._bad_bundles.items():
            tile = tile_at(ENTRIES_LEVEL, index, self._size)
            message = f"{tile.path} cannot be used: {reason}"
            self._findings.add(Finding(part=Part.ENTRY, message=message, place=tile.path))
            wrong_bundles.add(index)
        for index, right in verdict.wrong_entries.items():
            if index // TILE_WIDTH not in self._bad_bundles:
                self._report_entry(index, right)
                wrong_bundles.add(index // TILE_WIDTH)
        for index in sorted(wrong_bundles):
            self._on_wrong(tile_at(ENTRIES_LEVEL, index, self._size))

    def _report_entry(self, index: int, right: bytes | None) -> None:
        tile = tile_at(ENTRIES_LEVEL, index // TILE_WIDTH, self._size)
        message = (
            f"entry {index} and the tile do not agree, and nothing here decides between them"
            if right is None
            else f"entry {index} is not the one that was signed"
        )
        copies = {} if right is None else {"the tree has": right.hex()}
        byte_range = None
        bundle = self._fetch(tile)
        if isinstance(bundle, bytes):
            before = decode_entry_bundle(bundle, tile.width)[: index % TILE_WIDTH + 1]
            start = sum(2 + len(entry) for entry in before[:-1]) + 2
            byte_range = start, start + len(before[-1])
            copies = {"the entry hashes to": leaf_hash(before[-1]).hex(), **copies}
        self._findings.add(
            Finding(
                part=Part.ENTRY,
                message=message,
                leaf_index=index,
                place=tile.path,
                file=tile.path,
                byte_range=byte_range,
                copies=copies,
            )
        )


def _bytes_or_none(fetched: bytes | str) -> bytes | None:
    return fetched if isinstance(fetched, bytes) else None
