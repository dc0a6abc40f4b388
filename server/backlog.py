"""What Append calls have brought and the log has not yet taken, bounded in entries and bytes.

A call is counted from before its signatures are checked until it is answered: verification costs more than
anything that comes behind it, and whoever is turned away here has cost nothing but a message. The delay that
a turned away caller is told follows from how fast the last commits went.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from server.metrics import Metrics
from tlog.errors import PushbackError, ReadOnlyError, StorageError

_MIN_RETRY_S = 0.05
_MAX_RETRY_S = 5.0
_MEMORY = 0.9
"""How much of the commits before the last one the measured rate remembers."""


class CommitPace:
    """Remembers how fast the last commits went; `committed` may be called from any thread."""

    def __init__(self) -> None:
        self._recent_entries = 1.0
        self._recent_s = 0.001

    def committed(self, entries: int, seconds: float) -> None:
        """Take note of how long a commit took."""
        self._recent_entries = self._recent_entries * _MEMORY + entries
        self._recent_s = self._recent_s * _MEMORY + seconds

    @property
    def seconds_per_entry(self) -> float:
        """Return how long one entry takes in a commit."""
        return self._recent_s / self._recent_entries


class Held:
    """Is one call that is counted: to the end of a block, or until `let_go` is called."""

    __slots__ = ("_backlog", "entries", "size_bytes")

    def __init__(self, backlog: Backlog, entries: int, size_bytes: int) -> None:
        self._backlog = backlog
        self.entries = entries
        self.size_bytes = size_bytes

    def let_go(self) -> None:
        """Count the call no more. Requires that this was not done before."""
        self._backlog.let_go(self)

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()


class Backlog:
    """Holds two counters and a pace; belongs to the event loop, but for `committed`."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        max_entries: int,
        max_bytes: int,
        max_wait_s: float = 3_600.0,
        processes: int = 1,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Bound what waits here, and how long; as many `processes` bring entries to the same sequencer."""
        self._metrics = metrics
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries = 0
        self._bytes = 0
        self._max_wait_s = max_wait_s
        self._clock = clock
        self._began_s: dict[Held, float] = {}
        self._processes = processes
        self._pace = CommitPace()
        self._told_pace: float | None = None
        self._refusal: str | None = None
        metrics.watch_queue(lambda: self._entries, lambda: self._bytes)

    def holding(self, entries: int, size_bytes: int) -> Held:
        """Count one call, until what is returned lets go of it.

        A call larger than the limits still passes when nothing else waits. Raises PushbackError when the
        backlog is full, and ReadOnlyError after `refuse_all`.
        """
        if self._refusal is not None:
            raise ReadOnlyError(self._refusal)
        full = self._entries + entries > self._max_entries or self._bytes + size_bytes > self._max_bytes
        if self._entries and full:
            self._metrics.pushed_back()
            raise PushbackError(
                f"{self._entries} entries wait already (the limits are {self._max_entries} entries and "
                f"{self._max_bytes} bytes): send the call again",
                retry_after_s=self._retry_after_s(),
            )
        now_s = self._clock()
        if self._began_s and (waited_s := now_s - next(iter(self._began_s.values()))) > self._max_wait_s:
            self._metrics.pushed_back()
            raise PushbackError(
                f"the oldest of the calls under way has waited {waited_s:.1f} s (the limit is "
                f"{self._max_wait_s:g} s): commits do not keep up; send the call again",
                retry_after_s=self._retry_after_s(),
            )
        self._entries += entries
        self._bytes += size_bytes
        held = Held(self, entries, size_bytes)
        self._began_s[held] = now_s
        return held

    def let_go(self, held: Held) -> None:
        """Count a call no more."""
        self._began_s.pop(held, None)
        self._entries -= held.entries
        self._bytes -= held.size_bytes

    @contextmanager
    def set_aside(self, held: Held) -> Iterator[None]:
        """Let a call wait, while the block runs, for its own caller's others: no sign of slow commits."""
        self._began_s.pop(held, None)
        yield
        self._began_s[held] = self._clock()

    @property
    def entries(self) -> int:
        """Return how many entries are counted."""
        return self._entries

    def refuse_all(self, error: StorageError) -> None:
        """Take no more calls, until the server is started again; those that were counted go on."""
        self._refusal = str(error)

    def committed(self, entries: int, seconds: float) -> None:
        """Take note of how long a commit took; may be called from any thread."""
        self._pace.committed(entries, seconds)

    def adopt_pace(self, seconds_per_entry: float) -> None:
        """Take note of how fast the commits of another process go."""
        self._told_pace = seconds_per_entry

    def _retry_after_s(self) -> float:
        pace = self._pace.seconds_per_entry if self._told_pace is None else self._told_pace
        # The others have, by and large, as much waiting as this process.
        return min(_MAX_RETRY_S, max(_MIN_RETRY_S, self._entries * self._processes * pace))
