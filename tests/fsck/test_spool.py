"""What a check keeps in temporary files comes back as it was put there."""

from __future__ import annotations

import random
from contextlib import ExitStack

from tlog.fsck.spool import ByteSpool, Shelf, SortedRows


def test_rows_come_out_sorted_whatever_fits_into_memory() -> None:
    rng = random.Random(5)
    rows = [rng.randbytes(5) for _ in range(10_000)] + [b"twice", b"twice"]
    for in_memory in (1, 7, 3_000, 20_000):
        with ExitStack() as stack:
            sorted_rows = SortedRows(stack, 5, in_memory if in_memory > 1 else 500)
            for row in rows:
                sorted_rows.add(row)
            assert list(sorted_rows) == sorted(rows)
            assert list(sorted_rows) == sorted(rows)


def test_a_shelf_gives_back_the_last_value_of_every_key() -> None:
    with ExitStack() as stack:
        shelf = Shelf(stack)
        shelf[1, 2] = b"first"
        shelf[0, 5] = b""
        shelf[1, 2] = b"second, longer"
        assert dict(shelf) == {(1, 2): b"second, longer", (0, 5): b""}
        del shelf[1, 2]
        assert (1, 2) not in shelf
        assert len(shelf) == 1


def test_pieces_come_back_in_order_and_more_than_once() -> None:
    with ExitStack() as stack:
        spool = ByteSpool(stack)
        for piece in (b"a", b"", b"c" * 70_000):
            spool.add(piece)
        assert list(spool) == list(spool) == [b"a", b"", b"c" * 70_000]
        assert len(spool) == 3
