"""Check a log's store: all rows against the entries, the entries against the signed root, and every page.

One state of the data file is read, page by page and around what is damaged (tlog.storage.lmdb_pages), so that
it ends with a finding where LMDB would end the process. Every entry is read once; what is held in memory does
not grow with the log.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tlog.checkpoint import Checkpoint
from tlog.fsck.findings import Finding, Findings, Fix, Part, Report
from tlog.fsck.index_check import ExpectedRows
from tlog.fsck.meta_check import StoredMeta, read_meta_rows
from tlog.fsck.rules_check import RulesCheck
from tlog.fsck.spool import Shelf
from tlog.fsck.tree_check import TreeCheck, TreeVerdict
from tlog.integrate import tile_width
from tlog.merkle import leaf_hash
from tlog.monitor.judge import JudgedEntry
from tlog.storage.lmdb_layout import (
    BUSINESS_KEYS,
    ENTRIES,
    GOVERNANCE,
    GOVERNANCE_HEAD,
    IDENTITIES,
    NO_VALUE,
    NUMBER,
    TABLES,
    TILE_KEY,
    TILES,
)
from tlog.storage.lmdb_pages import DataFile, Row, open_data_file
from tlog.tiles import TILE_WIDTH, Tile

ReplaceEntry = Callable[[int, bytes | None], bytes | None]
"""Goes from a leaf index and the stored entry (None: missing) to the one to check in its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedStore:
    """Holds the report on a store, and what a repair goes on from."""

    report: Report
    meta: StoredMeta
    verdict: TreeVerdict
    governance_indices: tuple[int, ...]
    has_damaged_pages: bool


def check_store(
    directory: Path,
    logs: Sequence[tuple[str, str]],
    *,
    progress: Callable[[int], None] = lambda _: None,
    on_size: Callable[[int], None] = lambda _: None,
    replace_entry: ReplaceEntry = lambda _, entry: entry,
    on_fix: Callable[[Fix], None] = lambda _: None,
    other_note: bytes | None = None,
    verified: Checkpoint | None = None,
) -> CheckedStore:
    """Check everything in the store in a directory, also beside a server that writes to it.

    `logs` are the (origin, vkey) that it may be of. `on_size` is told how many entries there are, `progress`
    how many more were checked, `on_fix` every row that is to be mended and what it has to be. `other_note` is
    a checkpoint of the same size, from elsewhere, to go by where the stored one has no valid signature.
    `verified` is of a tree of which the caller has verified every signature: none is verified again, and a
    store with any other entries than that tree's is not sound. Raises ConfigError when the store is another
    log's, NotFoundError when there is none, CorruptionError when nothing of it can be read, StorageError when
    the disk does not answer.
    """
    with ExitStack() as stack:
        file = stack.enter_context(open_data_file(directory))
        threads = stack.enter_context(ThreadPoolExecutor(os.cpu_count() or 1, "fsck"))
        findings = Findings(on_fix)
        meta = read_meta_rows(file, logs, findings, other_note)
        on_size(meta.tree_size)
        checking = _Checking(file, meta, findings, stack, threads, replace_entry, verified)
        checking.entries(progress)
        checking.tiles()
        checking.indexes()
        _report_pages(file, findings)
        return checking.result(str(directory))


class _Checking:
    """Goes through one store once."""

    def __init__(
        self,
        file: DataFile,
        meta: StoredMeta,
        findings: Findings,
        stack: ExitStack,
        threads: ThreadPoolExecutor,
        replace_entry: ReplaceEntry,
        verified: Checkpoint | None,
    ) -> None:
        self._file = file
        self._meta = meta
        self._findings = findings
        self._replace_entry = replace_entry
        self._tree = TreeCheck(
            meta.tree_size,
            meta.root_hash,
            self._stored_tile,
            inner_nodes=True,
            make_shelf=lambda: Shelf(stack),
        )
        # Each entry is taken to be in the verified tree; its root says in the end whether all of them are.
        self._verified = verified
        self._rules = RulesCheck(meta.origin, threads, None if verified is None else lambda *_: True)
        self._expected = ExpectedRows(stack)
        self._governance: list[int] = []
        self._governance_head_leaf = b""
        self._published_root: bytes | None = None
        self._verdict: TreeVerdict | None = None

    def entries(self, progress: Callable[[int], None]) -> None:
        """Read every entry, rebuild the tree, judge, and gather what there has to be in the indexes."""
        for start, entries in self._chunks():
            hashes = [None if entry is None else leaf_hash(entry) for entry in entries]
            published = self._meta.published_size
            if published is not None and start <= published < start + len(entries) + 1:
                self._published_root = self._tree.root_at(hashes[: published - start])
            disputed = self._tree.add(hashes)
            for judged in self._rules.add(start, entries, disputed):
                if judged is not None:
                    self._take(judged)
            progress(len(entries))
        if self._meta.tree_size == 0:
            self._published_root = self._tree.root_at([])
        self._verdict = self._tree.finish()
        self._report_entries(self._verdict)
        if self._verified is not None:
            self._meta.check_verified(self._findings, self._verdict, self._verified)

    def tiles(self) -> None:
        """Report wrong tiles, and rows that are no tile of the tree."""
        assert self._verdict is not None
        for wrong in self._verdict.wrong_tiles():
            key = TILE_KEY.pack(wrong.level, wrong.index)
            row = self._file.get(TILES.decode(), key)
            path = Tile(wrong.level, wrong.index).path
            if row is None:
                what, byte_range = "is missing", None
            elif len(row.value) != len(wrong.expected):
                what = f"has {len(row.value)} bytes instead of {len(wrong.expected)}"
                byte_range = row.start, row.start + len(row.value)
            else:
                first, last = _differing_bytes(row.value, wrong.expected)
                byte_range = row.start + first, row.start + last
                nodes = ", ".join(str((wrong.index * TILE_WIDTH) + at) for at in wrong.wrong_nodes[:8])
                what = (
                    f"has wrong hashes of the {'leaves' if wrong.level == 0 else 'nodes'} {nodes}"
                    + (" and more" if len(wrong.wrong_nodes) > 8 else "")
                    if wrong.wrong_nodes
                    else "has inner nodes that do not follow from its lowest hashes"
                )
            self._findings.add(
                Finding(
                    part=Part.TILE,
                    message=f"the stored tile {wrong.index} of level {wrong.level} {what}; "
                    "the entries and the signed root say otherwise",
                    place=path,
                    file=self._name,
                    byte_range=byte_range,
                ),
                Fix(table=TILES, key=key, value=wrong.expected),
            )
        for row in self._file.scan(TILES.decode()):
            if not self._is_tile(row.key):
                self._stray(Part.TILE, TILES, row, "is no tile of this tree")

    def indexes(self) -> None:
        """Check what entries are found by, the governance list, and the checkpoints."""
        assert self._verdict is not None
        wrong = self._verdict.wrong_entries
        path = self._file.path
        identities, keys = self._file.scan(IDENTITIES.decode()), self._file.scan(BUSINESS_KEYS.decode())
        self._expected.check_identities(identities, self._findings, wrong, path)
        self._expected.check_business_keys(keys, self._findings, wrong, path)
        self._check_governance(wrong)
        self._meta.check_checkpoints(
            self._findings,
            self._verdict,
            published_root=self._published_root,
            log_vkeys=self._rules.registry.log_vkeys,
        )

    def result(self, source: str) -> CheckedStore:
        """Say what came of it."""
        assert self._verdict is not None
        broken, unjudged = self._rules.findings(self._verdict.wrong_entries)
        for finding in broken:
            self._findings.add(finding)
        unchecked = []
        if unjudged:
            unchecked.append(
                f"{unjudged} entries could not be judged by the membership, because an entry before them is "
                "damaged: repair it, then check again"
            )
        if self._verdict.wrong_entries:
            unchecked.append(
                f"what {len(self._verdict.wrong_entries)} damaged entries say, and the index rows of theirs"
            )
        report = Report(
            source=source,
            origin=self._meta.origin,
            tree_size=self._meta.tree_size,
            root_hash=self._meta.root_hash,
            entries=self._meta.tree_size,
            tiles=self._verdict.tiles,
            governance_entries=self._rules.governance_entries,
            findings=tuple(self._findings.kept),
            counts=dict(self._findings.counts),
            unchecked=tuple(unchecked),
        )
        return CheckedStore(
            report=report,
            meta=self._meta,
            verdict=self._verdict,
            governance_indices=tuple(self._governance),
            has_damaged_pages=bool(self._file.damage),
        )

    @property
    def _name(self) -> str:
        return str(self._file.path)

    def _chunks(self) -> Iterator[tuple[int, list[bytes | None]]]:
        """Yield the entries of one tile at a time, with None for every one that is missing."""
        size = self._meta.tree_size
        stored = entries_in_order(self._file.scan(ENTRIES.decode()), size, self._stray_entry)
        for start in range(0, size, TILE_WIDTH):
            chunk: list[bytes | None] = []
            for index, entry in islice(stored, TILE_WIDTH):
                checked = self._replace_entry(index, entry)
                if checked is not None and checked != entry:
                    self._findings.add(
                        Finding(part=Part.ENTRY, message=f"entry {index} is replaced", leaf_index=index),
                        Fix(table=ENTRIES, key=NUMBER.pack(index), value=checked),
                    )
                chunk.append(checked)
            yield start, chunk
        # Rows beyond the last entry, which the size alone would never come to.
        for _ in stored:
            pass

    def _stray_entry(self, row: Row) -> None:
        size = self._meta.tree_size
        self._stray(Part.ENTRY, ENTRIES, row, f"lies beyond the {size} entries that are signed")

    def _take(self, judged: JudgedEntry) -> None:
        self._expected.add(judged)
        if judged.is_governance:
            self._governance.append(judged.leaf_index)
            self._governance_head_leaf = judged.leaf_hash

    def _stored_tile(self, level: int, index: int) -> bytes | None:
        row = self._file.get(TILES.decode(), TILE_KEY.pack(level, index))
        return None if row is None else row.value

    def _is_tile(self, key: bytes) -> bool:
        if len(key) != TILE_KEY.size:
            return False
        level, index = TILE_KEY.unpack(key)
        return tile_width(self._meta.tree_size, level, index) > 0

    def _report_entries(self, verdict: TreeVerdict) -> None:
        by_hash = {right: index for index, right in verdict.wrong_entries.items() if right is not None}
        for index, right in verdict.wrong_entries.items():
            row = self._file.get(ENTRIES.decode(), NUMBER.pack(index))
            found = None if row is None else leaf_hash(row.value)
            copies = {} if found is None else {"the entry hashes to": found.hex()}
            if right is not None:
                copies["the tree has"] = right.hex()
            if row is None:
                what = f"entry {index} is missing"
            elif right is None:
                what = (
                    f"entry {index} and the stored tile do not agree, and nothing here decides between them"
                )
            elif found in by_hash:
                what = f"entry {by_hash[found]} is stored in the place of entry {index}"
            else:
                what = f"entry {index} is not the one that was signed"
            self._findings.add(
                Finding(
                    part=Part.ENTRY,
                    message=what,
                    leaf_index=index,
                    file=self._name,
                    byte_range=None if row is None else (row.start, row.start + len(row.value)),
                    copies=copies,
                )
            )

    def _check_governance(self, wrong: Collection[int]) -> None:
        expected = [index for index in self._governance if index not in wrong]
        stored: dict[int, Row] = {}
        for row in self._file.scan(GOVERNANCE.decode()):
            index = NUMBER.unpack(row.key)[0] if len(row.key) == NUMBER.size else None
            if index is None or row.value != NO_VALUE:
                self._stray(Part.GOVERNANCE, GOVERNANCE, row, "is no leaf index")
            elif index not in wrong:
                stored[index] = row
        missing = set(expected) - stored.keys()
        for index in sorted(missing):
            self._findings.add(
                Finding(
                    part=Part.GOVERNANCE,
                    message=f"entry {index} is governance, and is missing in the list of governance entries",
                    leaf_index=index,
                    place=f"governance {index}",
                ),
                Fix(table=GOVERNANCE, key=NUMBER.pack(index), value=NO_VALUE),
            )
        for index in sorted(stored.keys() - set(expected)):
            if not self._is_unjudged(index):
                message = f"names entry {index}, which is no governance"
                self._stray(Part.GOVERNANCE, GOVERNANCE, stored[index], message)
        if not wrong and not self._is_unjudged(self._meta.tree_size):
            head = None
            if expected:
                head = GOVERNANCE_HEAD.pack(len(expected), expected[-1], self._governance_head_leaf)
            self._meta.check_governance_head(self._findings, head)

    def _is_unjudged(self, index: int) -> bool:
        """Return whether an entry before this one could not be judged, so that little is known of it."""
        gap = self._rules.gap
        return gap is not None and index >= gap

    def _stray(self, part: Part, table: bytes, row: Row, what: str) -> None:
        self._findings.add(
            Finding(
                part=part,
                message=f"a row of the table {table.decode()} {what}",
                place=f"{table.decode()} {row.key.hex()}",
                file=self._name,
                byte_range=(row.start - len(row.key), row.start),
            ),
            Fix(table=table, key=row.key, value=None),
        )


def entries_in_order(
    rows: Iterable[Row], size: int, on_stray: Callable[[Row], None] = lambda _: None
) -> Iterator[tuple[int, bytes | None]]:
    """Yield (leaf index, entry) for [0, size) out of rows in LMDB's order, with None for what is missing."""
    position = 0
    for row in rows:
        index = NUMBER.unpack(row.key)[0] if len(row.key) == NUMBER.size else size
        if index >= size:
            on_stray(row)
            continue
        for missing in range(position, index):
            yield missing, None
        yield index, row.value
        position = index + 1
    for missing in range(position, size):
        yield missing, None


def _report_pages(file: DataFile, findings: Findings) -> None:
    """Report pages that are wrong, after every table was scanned."""
    file.check_free_pages()
    for table in TABLES:
        if table.decode() not in file.tables:
            findings.add(
                Finding(part=Part.FILE, message=f"the table {table.decode()} is missing", file=str(file.path))
            )
    for damage in file.damage:
        findings.add(
            Finding(
                part=Part.FILE,
                message=f"{damage.reason} (table: {damage.table})",
                file=str(file.path),
                byte_range=(damage.start, damage.end),
            )
        )


def _differing_bytes(first: bytes, second: bytes) -> tuple[int, int]:
    """Return the shortest range that holds every byte in which two of one length differ."""
    apart = [at for at, (one, other) in enumerate(zip(first, second, strict=True)) if one != other]
    return apart[0], apart[-1] + 1
