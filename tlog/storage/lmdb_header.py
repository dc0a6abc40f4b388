"""Look at an LMDB data file before LMDB maps it.

LMDB 0.9 trusts the file: a cut-off one ends the process with SIGBUS at the first read beyond its end, and a
damaged meta page can end it with SIGFPE or SIGSEGV. Both are told here, from the two meta pages alone, by
plain reading. The layout (data format v1, 64-bit, native byte order) is pinned: see
lmdb_environment.LIB_VERSION.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tlog.errors import CorruptionError, NotFoundError, StorageError

DATA_FILE_NAME = "data.mdb"

_MAGIC = 0xBEEFC0DE
_DATA_VERSION = 1
_META_FLAG = 0x08
_NO_ROOT = 2**64 - 1
FIRST_DATA_PAGE = 2

# Page header: page number, pad, flags, free space bounds. Then the meta: magic, version, fixed address, map
# size; the free-page and the main table, each as pad (the page size, in the first), flags, depth, branch,
# leaf and overflow pages, entries, root; the last used page, the transaction.
_META_PAGE = struct.Struct("=QHHHH IIQQ IHHQQQQQ IHHQQQQQ QQ")
_FREE_RECORD_AT = 40
META_PAGE_BYTES = _META_PAGE.size


TABLE_RECORD = struct.Struct("=IHHQQQQQ")
"""Pad (the page size, for the table of free pages in a meta page), flags, depth, pages, entries, root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRecord:
    """Holds what LMDB keeps of one table; `root` is None where it is empty."""

    flags: int
    depth: int
    branch_pages: int
    leaf_pages: int
    overflow_pages: int
    entries: int
    root: int | None

    @classmethod
    def unpack(cls, data: bytes, offset: int = 0) -> Self:
        """Read a record. Raises struct.error when there are not 48 bytes."""
        _, flags, depth, branch, leaf, overflow, entries, root = TABLE_RECORD.unpack_from(data, offset)
        return cls(
            flags=flags,
            depth=depth,
            branch_pages=branch,
            leaf_pages=leaf,
            overflow_pages=overflow,
            entries=entries,
            root=None if root == _NO_ROOT else root,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """Holds one meta page: what is known of the file as of one transaction."""

    page_bytes: int
    last_page: int
    transaction: int
    free: TableRecord
    main: TableRecord


def check_data_file(directory: Path) -> None:
    """Check that a directory holds an LMDB data file that is safe to map.

    Raises NotFoundError when there is none, CorruptionError when it is empty, cut off or no data file of this
    format, and StorageError when it cannot be read.
    """
    path = directory / DATA_FILE_NAME
    try:
        with path.open("rb") as file:
            first = read_meta(path, file.read(META_PAGE_BYTES))
            file.seek(first.page_bytes)
            second = read_meta(path, file.read(META_PAGE_BYTES))
            # Taken last: another process may be growing the file, and it never names a page before writing
            # it.
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError as error:
        raise NotFoundError(
            f"{directory} holds no log ({DATA_FILE_NAME} is missing): name another directory, or create a "
            "log in it"
        ) from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    # LMDB takes the first when both are of one transaction, which is so only in a new file.
    meta = second if second.transaction > first.transaction else first
    if second.page_bytes != first.page_bytes:
        raise CorruptionError(
            f"{path} is damaged: its meta pages name page sizes {first.page_bytes} and {second.page_bytes}; "
            "restore it from a backup"
        )
    needed = (meta.last_page + 1) * meta.page_bytes
    if size < needed:
        raise CorruptionError(
            f"{path} was cut off: it has {size} bytes of {needed}; restore it from a backup"
        )
    for root in (meta.free.root, meta.main.root):
        if root is not None and not FIRST_DATA_PAGE <= root <= meta.last_page:
            raise CorruptionError(
                f"{path} is damaged: page {root} of {meta.last_page + 1} is named as a root; "
                "restore it from a backup"
            )


def read_meta(path: Path, page: bytes) -> Meta:
    """Read a meta page of the data file at `path`.

    Raises CorruptionError, and StorageError for another format.
    """
    if len(page) < _META_PAGE.size:
        raise CorruptionError(f"{path} was cut off within its meta pages: restore it from a backup")
    fields = _META_PAGE.unpack(page)
    flags, magic, version = fields[2], fields[5], fields[6]
    page_bytes = fields[9]
    if not flags & _META_FLAG or magic != _MAGIC:
        raise CorruptionError(f"{path} is not an LMDB data file, or its start was overwritten")
    if version != _DATA_VERSION:
        raise StorageError(
            f"{path} has LMDB data format {version}, a log has format {_DATA_VERSION} (LMDB 0.9): it is "
            "not a log's, or was converted"
        )
    if not 512 <= page_bytes <= 65536 or page_bytes & (page_bytes - 1):
        raise CorruptionError(f"{path} is damaged: it names a page size of {page_bytes} bytes")
    return Meta(
        page_bytes=page_bytes,
        last_page=fields[25],
        transaction=fields[26],
        free=TableRecord.unpack(page, _FREE_RECORD_AT),
        main=TableRecord.unpack(page, _FREE_RECORD_AT + TABLE_RECORD.size),
    )
