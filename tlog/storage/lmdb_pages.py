"""Read the rows of an LMDB data file page by page, past whatever is damaged, and say where every row lies.

LMDB trusts its pages: a flipped bit in one can end the process, or hide rows without a word. Here every page
is read with pread(2), checked before it is used, and named with its bytes when it is wrong; what lies below
it is skipped, and the rest is still read. Only for looking: nothing here writes.

The layout is LMDB 0.9's data format v1 (lmdb_header, lmdb_page): a tree's record says how deep it is, and how
many pages and rows it has; a value that is too large for a leaf page lies in overflow pages of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import lmdb

from tlog.errors import CorruptionError, NotFoundError, StorageError, StoreInUseError
from tlog.storage.lmdb_environment import LIB_VERSION
from tlog.storage.lmdb_errors import MAX_READERS
from tlog.storage.lmdb_header import (
    DATA_FILE_NAME,
    FIRST_DATA_PAGE,
    META_PAGE_BYTES,
    TABLE_RECORD,
    Meta,
    TableRecord,
    check_data_file,
    read_meta,
)
from tlog.storage.lmdb_lock_file import make_lock_file
from tlog.storage.lmdb_page import (
    BIG_DATA,
    HEADER,
    OVERFLOW,
    OVERFLOW_HEADER,
    PAGE_NUMBER,
    SUB_DATA,
    BadPageError,
    Node,
    check_order,
    parse_tree_page,
)

FREE_PAGES = "free pages"
"""The table of pages that may be written over."""
META_PAGES = "meta pages"
"""The two pages that say where everything else begins, as of the last two transactions."""
TABLE_NAMES = "table names"
"""The table that holds the records of all others."""

_MAX_PAGE_BYTES = 65_536
_MAX_DEPTH = 32
_INTEGER_KEYS = 0x08
_PIN_ATTEMPTS = 20


# Tuples, which are made in a third of the time that a frozen dataclass takes: there is one for every row.
class Row(NamedTuple):
    """Holds a key with its value, and where in the file the value lies: bytes [start, start + len(value))."""

    key: bytes
    value: bytes
    start: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDamage:
    """Says which bytes [start, end) of the data file are wrong, and in which table."""

    table: str
    start: int
    end: int
    reason: str


class DataFile:
    """Reads one state of a data file; belongs to one thread. Use `open_data_file`."""

    def __init__(self, path: Path, descriptor: int, meta: Meta, damage: list[FileDamage]) -> None:
        """Read the state that a meta page begins; `damage` is what was noted so far, and grows here."""
        self.path = path
        self.damage = damage
        self.meta = meta
        self._descriptor = descriptor
        self._page_bytes = meta.page_bytes
        # A damaged meta page may name any last page: no memory is taken for what is not in the file.
        self._file_pages = os.fstat(descriptor).st_size // meta.page_bytes
        self._seen = bytearray(self._file_pages // 8 + 1)
        self._tables: dict[str, TableRecord] = {FREE_PAGES: meta.free, TABLE_NAMES: meta.main}
        for row in self.scan(TABLE_NAMES):
            if len(row.value) == TABLE_RECORD.size:
                self._tables[row.key.decode("ascii", "backslashreplace")] = TableRecord.unpack(row.value)

    @property
    def tables(self) -> frozenset[str]:
        """Return the names of the tables that could be found, without LMDB's own two."""
        return frozenset(self._tables.keys() - {FREE_PAGES, TABLE_NAMES})

    def rows_in(self, table: str) -> int:
        """Return how many rows a table says it has; 0 for one that was not found."""
        record = self._tables.get(table)
        return 0 if record is None else record.entries

    def scan(self, table: str) -> Iterator[Row]:
        """Yield every row of a table that can be read, in LMDB's order, and note what is damaged.

        To be run once to its end for every table: `check_free_pages` counts on it.
        """
        record = self._tables.get(table)
        if record is None or record.root is None:
            return
        flags = _INTEGER_KEYS if table == FREE_PAGES else 0
        if record.flags != flags:
            self._note(table, record.root, f"its record has flags {record.flags:#x} instead of {flags:#x}")
        counted = [0, 0, 0, 0]  # branch, leaf and overflow pages, rows
        damaged_before = len(self.damage)
        yield from self._scan(table, record, record.root, 1, None, None, counted)
        expected = [record.branch_pages, record.leaf_pages, record.overflow_pages, record.entries]
        if len(self.damage) == damaged_before and counted != expected:
            self._note(
                table,
                record.root,
                f"its record says {expected} branch, leaf and overflow pages and rows, and it has {counted}",
            )

    def rows_again(self, table: str, start: bytes = b"") -> Iterator[Row]:
        """Yield the rows of a table from a key on that can be read; notes nothing, and raises nothing."""
        record = self._tables.get(table)
        if record is not None and record.root is not None:
            yield from self._quietly(table, record.root, 1, start, None, None)

    def get(self, table: str, key: bytes) -> Row | None:
        """Return one row, or None where it is not there or cannot be read."""
        row = next(self.rows_again(table, key), None)
        return row if row is not None and row.key == key else None

    def check_free_pages(self) -> None:
        """Check, after every table was scanned, that no page in use is listed as free to be written over."""
        for row in self.scan(FREE_PAGES):
            count = len(row.value) // 8 - 1
            if len(row.value) % 8 or count < 0 or PAGE_NUMBER.unpack_from(row.value)[0] != count:
                self.damage.append(
                    FileDamage(
                        table=FREE_PAGES,
                        start=row.start,
                        end=row.start + len(row.value),
                        reason="a list of free pages is not as long as it says",
                    )
                )
                continue
            for position in range(1, count + 1):
                page: int = PAGE_NUMBER.unpack_from(row.value, 8 * position)[0]
                if not FIRST_DATA_PAGE <= page <= self.meta.last_page or self._is_seen(page):
                    self.damage.append(
                        FileDamage(
                            table=FREE_PAGES,
                            start=row.start + 8 * position,
                            end=row.start + 8 * position + 8,
                            reason=f"page {page} is listed as free, and is in use, or listed twice, or "
                            f"beyond the last page {self.meta.last_page}",
                        )
                    )
                else:
                    self._see(page)

    def _scan(
        self,
        table: str,
        record: TableRecord,
        page: int,
        depth: int,
        low: bytes | None,
        high: bytes | None,
        counted: list[int],
    ) -> Iterator[Row]:
        try:
            data, nodes, is_leaf = self._tree_page(page, depth, record.depth)
            self._mark(page)
            check_order(page, nodes, low, high, is_leaf=is_leaf, native=table == FREE_PAGES)
        except BadPageError as bad:
            self._note(table, bad.page, bad.reason, bad.pages)
            return
        counted[is_leaf] += 1
        if not is_leaf:
            for position, node in enumerate(nodes):
                end = nodes[position + 1].key if position + 1 < len(nodes) else high
                begin = node.key if position else low
                yield from self._scan(table, record, node.at, depth + 1, begin, end, counted)
            return
        for node in nodes:
            try:
                row, overflow = self._row(data, page, node, is_record=table == TABLE_NAMES)
                for one in overflow:
                    self._mark(one)
            except BadPageError as bad:
                self._note(table, bad.page, f"the value of key {node.key.hex()}: {bad.reason}", bad.pages)
                continue
            counted[2] += len(overflow)
            counted[3] += 1
            yield row

    def _quietly(
        self, table: str, page: int, depth: int, start: bytes, low: bytes | None, high: bytes | None
    ) -> Iterator[Row]:
        try:
            data, nodes, is_leaf = self._tree_page(page, depth, self._tables[table].depth)
            # Without this a page that names itself, or two that name one, would be read 2**32 times.
            check_order(page, nodes, low, high, is_leaf=is_leaf, native=table == FREE_PAGES)
        except BadPageError:
            return
        for position, node in enumerate(nodes):
            if is_leaf:
                if node.key >= start:
                    try:
                        row, _ = self._row(data, page, node, is_record=table == TABLE_NAMES)
                    except BadPageError:
                        continue
                    yield row
            elif position + 1 == len(nodes) or nodes[position + 1].key > start:
                end = nodes[position + 1].key if position + 1 < len(nodes) else high
                begin = node.key if position else low
                yield from self._quietly(table, node.at, depth + 1, start, begin, end)

    def _tree_page(self, page: int, depth: int, tree_depth: int) -> tuple[bytes, list[Node], bool]:
        """Read a branch or leaf page and its nodes. Raises BadPageError."""
        if depth > _MAX_DEPTH:
            raise BadPageError(page, f"it lies {depth} pages deep, and no tree is deeper than {_MAX_DEPTH}")
        data = self._read(page, 1)
        is_leaf = depth == tree_depth
        return data, parse_tree_page(data, page, is_leaf=is_leaf), is_leaf

    def _row(self, data: bytes, page: int, node: Node, *, is_record: bool = False) -> tuple[Row, range]:
        """Read one row of a leaf page, and say which overflow pages its value takes. Raises BadPageError."""
        if bool(node.flags & SUB_DATA) != is_record:
            raise BadPageError(page, f"the node at {node.at} has flags {node.flags:#x}")
        if not node.flags & BIG_DATA:
            value = data[node.at : node.at + node.size]
            return Row(key=node.key, value=value, start=page * self._page_bytes + node.at), range(0)
        (first,) = PAGE_NUMBER.unpack_from(data, node.at)
        pages = (HEADER.size - 1 + node.size) // self._page_bytes + 1
        if not FIRST_DATA_PAGE <= first <= first + pages - 1 <= self.meta.last_page:
            raise BadPageError(page, f"its overflow pages [{first}, {first + pages}) are not in the file")
        found = self._read(first, pages)
        number, _, flags, stored_pages = OVERFLOW_HEADER.unpack_from(found)
        if (number, flags, stored_pages) != (first, OVERFLOW, pages):
            raise BadPageError(
                first,
                f"it says that it is page {number} of kind {flags:#x} and {stored_pages} pages, where "
                f"{pages} overflow pages are needed",
                pages,
            )
        value = found[HEADER.size : HEADER.size + node.size]
        row = Row(key=node.key, value=value, start=first * self._page_bytes + HEADER.size)
        return row, range(first, first + pages)

    def _read(self, page: int, pages: int) -> bytes:
        if not FIRST_DATA_PAGE <= page <= self.meta.last_page:
            raise BadPageError(page, f"it is named, and the last page is {self.meta.last_page}", 0)
        length = min(pages, self._file_pages) * self._page_bytes
        try:
            data = os.pread(self._descriptor, length, page * self._page_bytes)
        except OSError as error:
            raise BadPageError(page, f"it cannot be read: {error.strerror}", pages) from error
        if len(data) < pages * self._page_bytes:
            raise BadPageError(page, "the file ends before it does", pages)
        return data

    def _mark(self, page: int) -> None:
        if self._is_seen(page):
            raise BadPageError(page, "it is in use twice")
        self._see(page)

    def _is_seen(self, page: int) -> bool:
        return page >> 3 < len(self._seen) and bool(self._seen[page >> 3] & 1 << (page & 7))

    def _see(self, page: int) -> None:
        if page >> 3 < len(self._seen):
            self._seen[page >> 3] |= 1 << (page & 7)

    def _note(self, table: str, page: int, reason: str, pages: int = 1) -> None:
        start = page * self._page_bytes
        end = start + pages * self._page_bytes
        self.damage.append(FileDamage(table=table, start=start, end=end, reason=f"page {page}: {reason}"))


@contextmanager
def open_data_file(directory: Path, transaction: int | None = None) -> Iterator[DataFile]:
    """Open the newest state of a data file for the block, also beside a process that writes to it.

    A reader is registered with LMDB, so that nobody writes over the pages of that state: the file grows
    meanwhile by what is committed. With `transaction`, the caller holds that one open. What is wrong in the
    meta pages is in `damage`; a file that LMDB should better not touch is read without registering.
    Raises NotFoundError without a file, StorageError when it cannot be read, and CorruptionError when neither
    meta page can be used.
    """
    with ExitStack() as stack:
        safe = transaction is not None
        try:
            if transaction is None:
                check_data_file(directory)
                safe = True
        except CorruptionError:
            pass
        path = directory / DATA_FILE_NAME
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotFoundError(f"{directory} holds no log ({DATA_FILE_NAME} is missing)") from error
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}") from error
        stack.callback(os.close, descriptor)
        for _ in range(_PIN_ATTEMPTS if safe else 0):
            pinned = stack.enter_context(_pinned(directory)) if transaction is None else transaction
            metas, damage = _read_metas(path, descriptor)
            chosen = metas[pinned % 2]
            if chosen is not None and chosen.transaction == pinned:
                break
        else:
            metas, damage = _read_metas(path, descriptor)
            usable = [meta for meta in metas if meta is not None]
            if not usable:
                raise CorruptionError(
                    f"{path} has no meta page that can be used: {'; '.join(one.reason for one in damage)}"
                )
            chosen = max(usable, key=lambda meta: meta.transaction)
        yield DataFile(path, descriptor, chosen, damage)


@contextmanager
def _pinned(directory: Path) -> Iterator[int]:
    """Keep the newest transaction's pages from being written over; no page but the meta pages is touched."""
    make_lock_file(directory, max_readers=MAX_READERS)
    try:
        environment = lmdb.open(
            os.fsencode(directory),
            readonly=True,
            create=False,
            max_readers=MAX_READERS,
            lib_version=LIB_VERSION,
        )
    except lmdb.Error as error:
        if "already open in this process" in str(error):
            raise StoreInUseError(f"{directory} is open in this process already") from error
        raise StorageError(f"{directory}: {error}") from error
    try:
        with environment.begin() as transaction:
            yield transaction.id()
    except lmdb.Error as error:
        raise StorageError(f"{directory}: {error}") from error
    finally:
        environment.close()


def _read_metas(path: Path, descriptor: int) -> tuple[list[Meta | None], list[FileDamage]]:
    """Read both meta pages, and say what is wrong with them. Raises StorageError."""
    try:
        data = os.pread(descriptor, 2 * _MAX_PAGE_BYTES, 0)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    metas: list[Meta | None] = [None, None]
    damage: list[FileDamage] = []
    page_bytes = os.sysconf("SC_PAGE_SIZE")

    def note(number: int, reason: str) -> None:
        start = number * page_bytes
        damage.append(
            FileDamage(
                table=META_PAGES, start=start, end=start + META_PAGE_BYTES, reason=f"page {number}: {reason}"
            )
        )

    for number in range(2):
        try:
            meta = read_meta(path, data[number * page_bytes : number * page_bytes + META_PAGE_BYTES])
        except StorageError as error:
            note(number, str(error))
            continue
        if meta.page_bytes != page_bytes:
            # Nobody but LMDB on another kind of machine makes these.
            note(
                number, f"it names a page size of {meta.page_bytes} bytes, and this machine's is {page_bytes}"
            )
        elif meta.transaction and meta.transaction % 2 != number:
            note(number, f"it is of transaction {meta.transaction}, which belongs into the other one")
        else:
            metas[number] = meta
    first, second = metas
    if first is not None and second is not None and abs(first.transaction - second.transaction) > 1:
        older = 0 if first.transaction < second.transaction else 1
        note(
            older,
            f"the two meta pages are of transactions {first.transaction} and {second.transaction}, which do "
            "not follow each other",
        )
    return metas, damage
