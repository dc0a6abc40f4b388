"""Reads the committed data files, row by row, with each row's own bytes at hand for a digest."""

from __future__ import annotations

import csv
import gzip
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """Holds one record of a CSV file: its line without the line end, and its fields by column name."""

    line: str
    fields: dict[str, str]

    def __getitem__(self, column: str) -> str:
        """Return a field as it stands in the file. Raises KeyError for a column the file does not have."""
        return self.fields[column]


def read_lines(path: Path) -> list[str]:
    """Read the lines of a gzipped UTF-8 file in which every line ends in U+000A.

    Raises ValueError when it was cut off or has other line ends, and OSError when it cannot be read.
    """
    text = gzip.decompress(path.read_bytes()).decode("utf-8")
    if not text.endswith("\n") or "\r" in text:
        raise ValueError(f"{path} is cut off, or its lines do not end in a plain newline")
    return text[:-1].split("\n")


def read_rows(path: Path) -> Iterator[Row]:
    """Read a gzipped CSV file with a header line, of which no field spans lines.

    Raises ValueError when a record has another number of fields than the header.
    """
    lines = read_lines(path)
    records = csv.reader(lines, strict=True)
    columns = next(records)
    for number, record in enumerate(records, start=2):
        if records.line_num != number or len(record) != len(columns):
            raise ValueError(f"line {number} of {path} does not hold one record of {len(columns)} fields")
        yield Row(lines[number - 1], dict(zip(columns, record, strict=True)))


def rows_sha256(rows: Iterable[Row]) -> str:
    """Return the SHA-256, in hex, over the rows' lines in file order, each ended by U+000A.

    The event then commits to every field of its rows, also those it does not repeat.
    """
    return hashlib.sha256("".join(f"{row.line}\n" for row in rows).encode()).hexdigest()
