"""A source that is read no faster than somebody allows: so that a copy takes little from who else reads."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tlog.tile_source.base import TileSource
from tlog.tiles import Tile


class Pace:
    """Keeps all that is spent below a rate, in bytes a second; what was not used is not saved up."""

    def __init__(
        self,
        max_bytes_per_s: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Begin now; None for no limit, else a number above 0. `clock` runs evenly, in seconds."""
        self._max_bytes_per_s = max_bytes_per_s
        self._clock = clock
        self._sleep = sleep
        self._free_at_s = 0.0
        self.spent_bytes = 0

    def spend(self, count: int) -> None:
        """Take note of so many bytes, and wait until there is time for more."""
        self.spent_bytes += count
        if self._max_bytes_per_s is None:
            return
        now_s = self._clock()
        self._free_at_s = max(self._free_at_s, now_s) + count / self._max_bytes_per_s
        self._sleep(self._free_at_s - now_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class PacedSource:
    """Reads another source at a pace, from one thread; is a TileSource."""

    source: TileSource
    pace: Pace
    concurrency: int = 1

    @property
    def name(self) -> str:
        """Return the other source's name."""
        return self.source.name

    def checkpoint(self) -> bytes:
        """Return the other source's checkpoint. Raises what it raises."""
        return self.source.checkpoint()

    def tile(self, tile: Tile) -> bytes:
        """Return the other source's tile, in its time. Raises what it raises."""
        data = self.source.tile(tile)
        self.pace.spend(len(data))
        return data
