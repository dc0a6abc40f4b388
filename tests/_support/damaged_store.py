"""A store with a real alliance's log in it, and ways to damage it: rows through LMDB, bytes in its file."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import lmdb
from _support.alliance import Alliance, key

from tlog.governance import Member, MemberKey, build_member
from tlog.log import Log
from tlog.storage.lmdb_pages import Row, open_data_file
from tlog.tile_source.export import Export
from tlog.tile_source.log_view import LogTileSource
from tlog.tile_source.trust import LogKey

SIZE = 530
TABLES = ("entries", "tiles", "identities", "business_keys", "governance", "meta")
LATE_MEMBER = 400
"""The leaf index of a governance entry among the others."""


@dataclass(frozen=True)
class SoundLog:
    """A store and whose it is."""

    path: Path
    alliance: Alliance

    @property
    def logs(self) -> list[tuple[str, str]]:
        return [(self.alliance.origin, self.alliance.signer.vkey)]


def number(value: int) -> bytes:
    return value.to_bytes(8, "big")


def tile_key(level: int, index: int) -> bytes:
    return bytes([level]) + number(index)


def fill(log: Log, alliance: Alliance, size: int) -> None:
    """Append governance and events with business keys up to `size`, with one more member at LATE_MEMBER."""
    log.append(alliance.governance)
    start = len(alliance.governance)
    runs = [(start, LATE_MEMBER), (LATE_MEMBER + 1, size)] if size > LATE_MEMBER else [(start, size)]
    for first, end in runs:
        if first == LATE_MEMBER + 1:
            late = Member(
                id="late",
                name="Late",
                sources=(alliance.source("late"),),
                roles=("forwarder",),
                keys=(MemberKey(public_key=key("late").public_key, revoked=False),),
            )
            link = {"seq": len(alliance.governance), "prev": alliance.next_link()["prev"]}
            payload = build_member(origin=alliance.origin, time="2025-03-01T12:00:00Z", **link, member=late)
            log.append([alliance.add_governance(payload)])
        for at in range(first, end, 150):
            log.append([
                alliance.entry(index, refs=(f"invoice:INV-{index}", f"customer:{index % 7}"))
                for index in range(at, min(end, at + 150))
            ])  # fmt: skip


def make_store(path: Path, size: int) -> Alliance:
    alliance = Alliance()
    with Log.create(path, alliance.signer) as log:
        fill(log, alliance, size)
    return alliance


def copy_of(store: Path, path: Path) -> Path:
    shutil.copytree(store, path)
    return path


def change_rows(store: Path, table: str, rows: Iterable[tuple[bytes, bytes | None]]) -> None:
    """Write rows, or delete those whose value is None, as a bug or another program would."""
    environment = lmdb.open(str(store), max_dbs=6, lib_version=0)
    try:
        database = environment.open_db(table.encode(), create=False)
        with environment.begin(write=True) as transaction:
            for row_key, value in rows:
                if value is None:
                    assert transaction.delete(row_key, db=database)
                else:
                    transaction.put(row_key, value, db=database)
    finally:
        environment.close()


def row_of(store: Path, table: str, row_key: bytes) -> Row:
    with open_data_file(store) as file:
        row = file.get(table, row_key)
        assert row is not None
        return row


def rows_of(store: Path) -> dict[str, dict[bytes, bytes]]:
    """Every row of every table."""
    with open_data_file(store) as file:
        return {table: {row.key: row.value for row in file.rows_again(table)} for table in TABLES}


def flip_bytes(store: Path, offset: int, mask: int = 0x10) -> None:
    """Flip bits of one byte of the data file, as a disk would."""
    with (store / "data.mdb").open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ mask]))


def page_of(store: Path, table: str, choose: Callable[[list[int]], int]) -> int:
    """The number of a leaf page of a table, chosen among those that its small rows lie on."""
    with open_data_file(store) as file:
        pages = sorted({row.start // 4096 for row in file.rows_again(table)})
    return choose(pages)


def exported(store: Path, alliance: Alliance, folder: Path) -> Path:
    """A log as a folder of tiles, which is what mirrors are."""
    trust = LogKey.from_vkey(alliance.signer.vkey)
    with Log.open(store, alliance.signer) as log:
        source = LogTileSource(name=str(store), open_view=log.view)
        with Export.begin(source, trust.open, folder) as begun:
            begun.run(lambda _: None)
    return folder
