"""Targets of what lies beside and inside a store: LMDB's own pages, the high-water mark."""

from __future__ import annotations

import struct
from functools import cache
from hashlib import sha256
from pathlib import Path

from _support.stored_rows import LOG_VKEY, ORIGIN, commit_rows
from fuzz.engine import Target
from fuzz.files import scratch
from fuzz.values import LOG

from tlog.errors import ConfigError, CorruptionError, StorageError
from tlog.fsck.store_check import check_store
from tlog.storage.high_water_mark import SLOT_SPACING_BYTES, HighWaterMarkFile, Mark
from tlog.storage.lmdb_header import DATA_FILE_NAME, check_data_file
from tlog.storage.lmdb_pages import FREE_PAGES, open_data_file
from tlog.storage.lmdb_store import LmdbStore

_PATCH = struct.Struct(">IB8s")
_SLOT_BYTES = 120
_NO_TRANSACTION = 2**62
"""No file has it: so LMDB, which a damaged file may crash, is not asked to look at it."""


@cache
def _sound_file() -> bytes:
    """A store of several commits, with branch, overflow and free pages in it."""
    directory = scratch("sound-store") / "store"
    store = LmdbStore.create(directory, ORIGIN, LOG_VKEY)
    edge = None
    for count in (3, 90, 1, 40, 1, 1):
        edge = commit_rows(store, [count], edge=edge)
    store.close()
    return (directory / DATA_FILE_NAME).read_bytes()


def _patched(patches: bytes) -> bytearray:
    """Overwrite 1 to 8 bytes of the sound file with each 13 bytes: where, how many, what."""
    data = bytearray(_sound_file())
    for at in range(0, len(patches) - _PATCH.size + 1, _PATCH.size):
        place, length, value = _PATCH.unpack_from(patches, at)
        # Half of all places are taken from the beginnings of pages, where the structure is.
        place = place % len(data) if place & 1 else place // 2 % (len(data) // 4_096) * 4_096 + place % 32
        value = value[: length % 8 + 1]
        data[place : place + len(value)] = value
    return data


def _lmdb_pages(data: bytes) -> None:
    directory = scratch("lmdb-pages")
    (directory / DATA_FILE_NAME).write_bytes(_patched(data))
    with open_data_file(directory, _NO_TRANSACTION) as file:
        for table in sorted(file.tables):
            rows = sum(1 for _ in file.scan(table))
            again = sum(1 for _ in file.rows_again(table))
            assert rows <= 100_000
            assert again <= 1_000_000
            file.get(table, b"key")
        file.check_free_pages()
        assert file.rows_in(FREE_PAGES) >= 0


def _fsck(data: bytes) -> None:
    """Here LMDB does look at the file, but at its meta pages only."""
    directory = scratch("fsck-store")
    (directory / DATA_FILE_NAME).write_bytes(_patched(data))
    check_store(directory, [(ORIGIN, LOG_VKEY)])


def _lmdb_header(data: bytes) -> None:
    directory = scratch("lmdb-header")
    (directory / DATA_FILE_NAME).write_bytes(data)
    check_data_file(directory)


def _high_water_mark(data: bytes) -> None:
    """As it is, and with the hash of either slot made right."""
    path = scratch("high-water-mark") / "mark"
    resealed = bytearray(data)
    for at in (0, SLOT_SPACING_BYTES):
        if len(data) >= at + _SLOT_BYTES + 32:
            resealed[at + _SLOT_BYTES : at + _SLOT_BYTES + 32] = sha256(data[at : at + _SLOT_BYTES]).digest()
    for content in (data, bytes(resealed)):
        path.write_bytes(content)
        with HighWaterMarkFile(path, LOG.name) as file:
            assert file.mark is None or len(file.mark.root_hash) == 32


def _mark_seed() -> bytes:
    path = Path(scratch("mark-seed")) / "mark"
    with HighWaterMarkFile(path, LOG.name) as file:
        file.write(Mark(tree_size=4, root_hash=bytes(32)))
        file.write(Mark(tree_size=5, root_hash=bytes(32)))
    return path.read_bytes()


@cache
def store_targets() -> tuple[Target, ...]:
    """Every parser of what a store is made of."""
    sound = _sound_file()
    nothing = _PATCH.pack(1, 0, sound[1:9])
    huge = b"".join(_PATCH.pack(place * 2, 7, b"\xff" * 8) for place in range(16))
    return (
        Target(
            name="lmdb-pages",
            run=_lmdb_pages,
            seeds=(nothing, nothing * 3),
            allowed=(CorruptionError, StorageError),
            nasty=(huge,),
            max_bytes=520,
            weight=20,
        ),
        Target(
            name="fsck-store",
            run=_fsck,
            seeds=(nothing,),
            allowed=(ConfigError, StorageError),
            nasty=(huge,),
            max_bytes=520,
            weight=20,
        ),
        Target(
            name="lmdb-header",
            run=_lmdb_header,
            seeds=(_empty_file(),),
            allowed=(CorruptionError, StorageError),
            weight=4,
        ),
        Target(
            name="high-water-mark",
            run=_high_water_mark,
            seeds=(_mark_seed(),),
            allowed=(ConfigError, StorageError),
            nasty=(bytes(2 * SLOT_SPACING_BYTES), b"tlogmrk1" * 600),
            weight=4,
        ),
    )


def _empty_file() -> bytes:
    directory = scratch("empty-store") / "store"
    LmdbStore.create(directory, ORIGIN, LOG_VKEY).close()
    return (directory / DATA_FILE_NAME).read_bytes()
