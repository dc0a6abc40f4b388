"""What a check has to remember of a large log, kept in temporary files instead of memory.

The files have no name, so nothing is left behind, whatever ends the check. They are made where the system
keeps temporary files (TMPDIR).
"""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterator, MutableMapping
from contextlib import ExitStack
from typing import IO, Self

ROWS_IN_MEMORY = 200_000
_ROWS_AT_ONCE = 4_096


class Shelf(MutableMapping[tuple[int, int], bytes]):
    """Holds values by two numbers: their places in memory, the values themselves in a file."""

    def __init__(self, stack: ExitStack) -> None:
        """Hold nothing yet; `stack` lets go of the file."""
        self._file: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        self._places: dict[tuple[int, int], tuple[int, int]] = {}
        self._end = 0

    def __setitem__(self, key: tuple[int, int], value: bytes) -> None:
        self._file.seek(self._end)
        self._file.write(value)
        self._places[key] = self._end, len(value)
        self._end += len(value)

    def __getitem__(self, key: tuple[int, int]) -> bytes:
        start, length = self._places[key]
        self._file.seek(start)
        return self._file.read(length)

    def __delitem__(self, key: tuple[int, int]) -> None:
        del self._places[key]

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class SortedRows:
    """Sorts rows of one length, as many as there may be: runs in files, merged when they are read."""

    def __init__(self, stack: ExitStack, row_bytes: int, rows_in_memory: int = ROWS_IN_MEMORY) -> None:
        """Hold nothing yet; `stack` lets go of the files."""
        self._stack = stack
        self._row_bytes = row_bytes
        self._rows_in_memory = rows_in_memory
        self._rows: list[bytes] = []
        self._runs: list[IO[bytes]] = []

    def add(self, row: bytes) -> None:
        """Add a row of `row_bytes` bytes."""
        self._rows.append(row)
        if len(self._rows) >= self._rows_in_memory:
            self._rows.sort()
            run = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
            run.write(b"".join(self._rows))
            self._runs.append(run)
            self._rows = []

    def __iter__(self) -> Iterator[bytes]:
        self._rows.sort()
        return heapq.merge(*map(self._read, self._runs), self._rows)

    def _read(self, run: IO[bytes]) -> Iterator[bytes]:
        at = 0
        while True:
            # Many runs are read by turns, but each from a file of its own.
            run.seek(at)
            part = run.read(_ROWS_AT_ONCE * self._row_bytes)
            if not part:
                return
            at += len(part)
            for start in range(0, len(part), self._row_bytes):
                yield part[start : start + self._row_bytes]


class ByteSpool:
    """Holds pieces of bytes in the order in which they were added."""

    def __init__(self, stack: ExitStack) -> None:
        """Hold nothing yet; `stack` lets go of the file."""
        self._file: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, piece: bytes) -> Self:
        """Add a piece behind the others."""
        self._file.write(len(piece).to_bytes(8, "big") + piece)
        self._count += 1
        return self

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        for _ in range(self._count):
            yield self._file.read(int.from_bytes(self._file.read(8), "big"))
