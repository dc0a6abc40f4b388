"""Hold the rows by which entries are found against those that the entries make: one walk through both.

What is held in memory does not grow with the log: expected rows are sorted in temporary files (SortedRows),
and LMDB keeps its own in order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tlog.fsck.findings import Finding, Findings, Fix, Part
from tlog.fsck.spool import SortedRows
from tlog.monitor.judge import JudgedEntry
from tlog.storage.base import BUSINESS_KEY_BYTES, IDENTITY_BYTES
from tlog.storage.lmdb_layout import BUSINESS_KEYS, IDENTITIES, NO_VALUE, NUMBER
from tlog.storage.lmdb_pages import Row

_PARTS: Final = {IDENTITIES: Part.IDENTITY, BUSINESS_KEYS: Part.BUSINESS_KEY}


class ExpectedRows:
    """Gathers, from the entries, the rows that there have to be."""

    def __init__(self, stack: ExitStack) -> None:
        """Gather nothing yet; `stack` lets go of the files."""
        self._identities = SortedRows(stack, IDENTITY_BYTES + NUMBER.size)
        self._business_keys = SortedRows(stack, BUSINESS_KEY_BYTES + NUMBER.size)

    def add(self, judged: JudgedEntry) -> None:
        """Add an entry's rows."""
        if judged.verified is not None:
            index = NUMBER.pack(judged.leaf_index)
            self._identities.add(judged.verified.identity + index)
            for key in set(judged.verified.business_keys):
                self._business_keys.add(key + index)

    def check_names(self, findings: Findings, wrong_entries: Collection[int]) -> None:
        """Check that no two entries have one (source, id)."""
        for _ in self._first_of_each_name(findings, wrong_entries):
            pass

    def check_identities(
        self, stored: Iterable[Row], findings: Findings, wrong_entries: Collection[int], file: Path
    ) -> None:
        """Check the table of identities, and that no two entries have one."""
        expected = (
            (row[:IDENTITY_BYTES], row[IDENTITY_BYTES:])
            for row in self._first_of_each_name(findings, wrong_entries)
        )
        _compare(IDENTITIES, expected, stored, findings, wrong_entries, file)

    def check_business_keys(
        self, stored: Iterable[Row], findings: Findings, wrong_entries: Collection[int], file: Path
    ) -> None:
        """Check the table of business keys."""
        expected = (
            (row, NO_VALUE)
            for row in self._business_keys
            if _number(row[BUSINESS_KEY_BYTES:]) not in wrong_entries
        )
        _compare(BUSINESS_KEYS, expected, stored, findings, wrong_entries, file)

    def _first_of_each_name(self, findings: Findings, wrong_entries: Collection[int]) -> Iterator[bytes]:
        first = b""
        for row in self._identities:
            index = _number(row[IDENTITY_BYTES:])
            if index in wrong_entries:
                continue
            if row[:IDENTITY_BYTES] != first[:IDENTITY_BYTES]:
                first = row
                yield row
                continue
            findings.add(
                Finding(
                    part=Part.RULE,
                    message=f"entry {index} has the source and id that entry "
                    f"{_number(first[IDENTITY_BYTES:])} had already",
                    leaf_index=index,
                )
            )


def _compare(
    table: bytes,
    expected: Iterator[tuple[bytes, bytes]],
    stored: Iterable[Row],
    findings: Findings,
    wrong_entries: Collection[int],
    file: Path,
) -> None:
    """Walk through both, in the order of keys, and report each row that one of them has not."""
    rows = iter(stored)
    row = next(rows, None)
    wanted = next(expected, None)
    while row is not None or wanted is not None:
        if row is None or (wanted is not None and wanted[0] < row.key):
            assert wanted is not None
            _report(table, wanted[0], None, wanted[1], findings, file)
            wanted = next(expected, None)
        elif wanted is None or row.key < wanted[0]:
            if _index_of(table, row.key, row.value) not in wrong_entries:
                _report(table, row.key, row, None, findings, file)
            row = next(rows, None)
        else:
            if row.value != wanted[1]:
                _report(table, row.key, row, wanted[1], findings, file)
            row, wanted = next(rows, None), next(expected, None)


def _report(
    table: bytes, key: bytes, row: Row | None, value: bytes | None, findings: Findings, file: Path
) -> None:
    """Report that a row is not there (`row` None), must not be (`value` None), or says something else."""
    found = None if row is None else _index_of(table, key, row.value)
    right = None if value is None else _index_of(table, key, value)
    name = "the (source, id)" if table == IDENTITIES else "the business key"
    where = key[:BUSINESS_KEY_BYTES] if table == BUSINESS_KEYS else key
    if row is None:
        message = f"{name} of entry {right} is not found: its row is missing"
    elif value is None:
        message = f"a row says that entry {found} has {name} {where.hex()}, and it has not"
    else:
        message = f"{name} of entry {right} leads to " + (
            "what is no number" if found is None else f"entry {found}"
        )
    start = None if row is None else row.start
    size = 0 if row is None else len(row.value)
    findings.add(
        Finding(
            part=_PARTS[table],
            message=message,
            leaf_index=found if right is None else right,
            place=f"{table.decode()} {key.hex()}",
            file=str(file),
            byte_range=None
            if start is None
            else (start, start + size)
            if size
            else (start - len(key), start),
        ),
        Fix(table=table, key=key, value=value),
    )


def _index_of(table: bytes, key: bytes, value: bytes) -> int | None:
    stored = value if table == IDENTITIES else key[BUSINESS_KEY_BYTES:]
    return _number(stored) if len(stored) == NUMBER.size else None


def _number(stored: bytes) -> int:
    number: int = NUMBER.unpack(stored)[0]
    return number
