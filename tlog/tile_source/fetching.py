"""How one tile is got from a source: under its own name, or cut out of a wider one where a partial is gone.

tlog-tiles: logs "MAY delete any partial tile once the corresponding full tile is … available", and some keep
only the newest partial. A narrower tile is the beginning of every wider one, so that nothing is lost by it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from tlog.checkpoint import Checkpoint
from tlog.errors import MalformedError, NotFoundError, OutOfRangeError
from tlog.merkle import HASH_BYTES
from tlog.tile_source.base import TileSource
from tlog.tiles import (
    ENTRIES_LEVEL,
    TILE_WIDTH,
    Tile,
    decode_entry_bundle,
    encode_entry_bundle,
    tile_at,
)

T = TypeVar("T")
R = TypeVar("R")

NewerCheckpoint = Callable[[], Checkpoint]
"""Fetches the log's newest checkpoint and verifies its signature: it says which wider partials there are."""


def fetch_tile(source: TileSource, tile: Tile, newer: NewerCheckpoint | None = None) -> bytes:
    """Fetch a tile as wide as it is named, unverified; where a partial is gone, the beginning of a wider one.

    Tries the partial, then the full tile, then the partial of the newest checkpoint, if `newer` tells it.
    Raises NotFoundError when none of them is there, and what sources raise.
    """
    try:
        return source.tile(tile)
    except NotFoundError as gone:
        for wider in _wider(tile, newer):
            try:
                return _cut(source.tile(wider), wider, tile.width, source.name)
            except NotFoundError:
                continue
        raise NotFoundError(
            f"{source.name} has no {tile.path}{'' if tile.width == TILE_WIDTH else ', nor a wider tile'}, "
            "though a signed checkpoint says that its tree has it"
        ) from gone


def fetch_ahead(items: Iterable[T], fetch: Callable[[T], R], concurrency: int) -> Iterator[tuple[T, R]]:
    """Yield each item with what `fetch` returns for it, in order, while the next ones are being fetched.

    At most `concurrency` results are under way or waiting at any time. Raises what `fetch` raises, at its
    item; what is still under way is then dropped.
    """
    if concurrency == 1:
        for item in items:
            yield item, fetch(item)
        return
    remaining = iter(items)
    pool = ThreadPoolExecutor(concurrency, "tiles")
    try:
        waiting = deque((item, pool.submit(fetch, item)) for item in islice(remaining, concurrency))
        while waiting:
            item, future = waiting.popleft()
            result = future.result()
            waiting.extend((following, pool.submit(fetch, following)) for following in islice(remaining, 1))
            yield item, result
    finally:
        # What hangs in a request ends with its time limit, or when the source is closed: nobody waits for it.
        pool.shutdown(wait=False, cancel_futures=True)


def _wider(tile: Tile, newer: NewerCheckpoint | None) -> Iterator[Tile]:
    """Yield the wider tiles that may be there in place of a partial."""
    if tile.width == TILE_WIDTH:
        return
    yield Tile(tile.level, tile.index)
    if newer is None:
        return
    try:
        grown = tile_at(tile.level, tile.index, newer().tree_size)
    except OutOfRangeError:
        return
    if grown.width > tile.width:
        yield grown


def _cut(data: bytes, tile: Tile, width: int, source_name: str) -> bytes:
    """Cut the beginning of a wider tile."""
    if tile.level != ENTRIES_LEVEL:
        return data[: HASH_BYTES * width]
    try:
        return encode_entry_bundle(decode_entry_bundle(data, tile.width)[:width])
    except MalformedError as error:
        raise MalformedError(f"{tile.path} of {source_name}: {error}") from error
