"""The one writer: a thread that turns waiting calls into commits.

Group commit forms by itself: whatever arrived while the last commit ran becomes the next one, with no timer,
so a lone call is committed at once and a busy log commits large batches. Where more waits than one commit may
hold, every member's calls have their turn (`server.fair_queue`). How much may wait is bounded before it comes
here, by `server.backlog`.

A call that was taken is carried through whatever becomes of its client. If the log says that its state is
unknown, every waiter fails, nothing more is taken, and `on_fatal` ends the process: recovery is at start.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Protocol

import msgspec

from server.fair_queue import FairQueue
from server.health import CommitWatch
from server.loss_desk import LossDesk, is_acceptance
from server.metrics import Metrics
from server.settling import settle
from tlog.errors import BatchRefusedError, CorruptionError, PushbackError, StateUnknownError, StorageError
from tlog.integrate import TreeEdge
from tlog.log import Committed, Log
from tlog.log_view import SignedCheckpoint
from tlog.validate import AdmissibleEntry, CallOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitTimes:
    """Says when a commit began, began to store, and ended, in seconds of `perf_counter` of this process."""

    began_s: float
    storing_s: float
    ended_s: float


# A Struct, not the usual frozen dataclass: one is made for every call, in a tenth of the time.
class Sequenced(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Says where a call's entries are, and under which durable checkpoint."""

    outcome: CallOutcome
    checkpoint: SignedCheckpoint
    edge: TreeEdge | None = None
    """Of the tree under that checkpoint, where this process has it in memory."""
    times: CommitTimes | None = None
    """Of its commit; None where another process made it, or none was made."""


class SequencesCalls(Protocol):
    """Takes verified entries; the Sequencer itself, or what stands before it."""

    def submit(self, entries: Sequence[AdmissibleEntry]) -> asyncio.Future[Sequenced]:
        """Queue one call as `Sequencer.submit` does."""
        ...


class NotesPace(Protocol):
    """Takes note of how fast commits go, from any thread; a Backlog, or a CommitPace."""

    def committed(self, entries: int, seconds: float) -> None:
        """Take note of how long a commit took."""
        ...


class _Waiting(msgspec.Struct, frozen=True, kw_only=True):
    entries: Sequence[AdmissibleEntry]
    future: asyncio.Future[Sequenced]
    since_s: float


class Sequencer:
    """Owns the log's write side; `submit` and `stop` belong to the event loop it was started from."""

    def __init__(
        self,
        log: Log,
        metrics: Metrics,
        pace: NotesPace,
        *,
        max_commit_entries: int,
        on_committed: Callable[[SignedCheckpoint], None],
        on_fatal: Callable[[BaseException], None],
        on_damage: Callable[[CorruptionError], None] = lambda _: None,
        watch: CommitWatch | None = None,
        require_room: Callable[[int], None] = lambda _: None,
        loss_desk: LossDesk | None = None,
    ) -> None:
        """Commit to a log; `on_damage` is told, in the thread, when the log finds that it is damaged.

        `require_room` is told the bytes of the entries before each commit, and raises StoreFullError.
        `loss_desk` takes the calls by which governance accepts a loss.
        """
        self._log = log
        self._metrics = metrics
        self._pace = pace
        self._max_commit_entries = max_commit_entries
        self._on_committed = on_committed
        self._on_fatal = on_fatal
        self._on_damage = on_damage
        self._require_room = require_room
        self._watch = CommitWatch() if watch is None else watch
        self._loss_desk = loss_desk
        self._loop = asyncio.get_running_loop()
        self._queue: FairQueue[_Waiting] = FairQueue()
        self._lock = threading.Lock()
        self._wakeup = threading.Condition(self._lock)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="sequencer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, entries: Sequence[AdmissibleEntry], *, lane: str = "") -> asyncio.Future[Sequenced]:
        """Queue one call of 1 or more verified entries; calls of one `lane` are committed in their order.

        The future ends with a Sequenced, a BatchRefusedError, or a StorageError. Cancelling it withdraws
        nothing. Raises PushbackError when the server is stopping.
        """
        future: asyncio.Future[Sequenced] = self._loop.create_future()
        waiting = _Waiting(entries=entries, future=future, since_s=perf_counter())
        with self._lock:
            if self._stopping:
                raise PushbackError("the server is stopping: send the call again", retry_after_s=1.0)
            self._queue.put(waiting, weight=len(entries), lane=lane)
            if len(self._queue) == 1:  # else the thread was told, or is at work
                self._wakeup.notify()
        return future

    async def stop(self) -> None:
        """Refuse new calls, commit everything that waits, and end the thread."""
        with self._lock:
            self._stopping = True
            self._wakeup.notify()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        calls: list[_Waiting] = []
        try:
            while calls := self._take():
                self._commit_apart(calls)
        except BaseException as error:  # noqa: BLE001 - ends the process: nobody would commit any more
            self._deliver(calls, [error] * len(calls))
            self._fail_the_rest(error)

    def _commit_apart(self, calls: Sequence[_Waiting]) -> None:
        """Commit what accepts a loss by itself, and everything else together."""
        desk = self._loss_desk
        apart = [call for call in calls if is_acceptance(call.entries)] if desk is not None else []
        rest = [call for call in calls if call not in apart] if apart else calls
        if rest:
            self._commit(rest, lambda: self._log.commit([call.entries for call in rest]))
        for call in apart:
            assert desk is not None
            self._commit([call], partial(desk.commit, call.entries))

    def _commit(self, calls: Sequence[_Waiting], commit: Callable[[], Committed]) -> None:
        """Commit calls and answer them; raises what only a restart can mend, for all that wait."""
        started = perf_counter()
        self._metrics.waited(started - min(call.since_s for call in calls))
        self._watch.began()
        try:
            self._require_room(sum(len(entry.entry) for call in calls for entry in call.entries))
            committed = commit()
        except StorageError as error:
            self._watch.failed(error)
            self._metrics.commit_failed()
            if isinstance(error, StateUnknownError):
                raise
            if isinstance(error, CorruptionError):
                self._on_damage(error)
            self._deliver(calls, [error] * len(calls))
            return
        self._watch.succeeded()
        ended_s = perf_counter()
        self._report(committed, ended_s - started)
        times = CommitTimes(began_s=started, storing_s=ended_s - committed.store_seconds, ended_s=ended_s)
        self._deliver(
            calls,
            [
                outcome
                if isinstance(outcome, BatchRefusedError)
                else Sequenced(
                    outcome=outcome, checkpoint=committed.checkpoint, edge=committed.edge, times=times
                )
                for outcome in committed.outcomes
            ],
        )

    def _take(self) -> list[_Waiting]:
        """Wait for calls and take as many as one commit may hold; an empty list means: stop."""
        calls: list[_Waiting] = []
        taken = 0
        with self._lock:
            while not self._queue and not self._stopping:
                self._wakeup.wait()
            while self._queue:
                entries = self._queue.next_weight
                if calls and taken + entries > self._max_commit_entries:
                    break
                calls.append(self._queue.take())
                taken += entries
        return calls

    def _report(self, committed: Committed, duration_s: float) -> None:
        present = sum(
            sum(outcome.already_present)
            for outcome in committed.outcomes
            if not isinstance(outcome, BatchRefusedError)
        )
        self._metrics.already_present(present)
        if committed.new_entries:
            self._pace.committed(committed.new_entries, duration_s)
            self._metrics.committed_size(committed.checkpoint.tree_size)
            self._metrics.committed(
                committed.new_entries, duration_s=duration_s, store_s=committed.store_seconds
            )
            self._on_committed(committed.checkpoint)

    def _deliver(self, calls: Sequence[_Waiting], results: Sequence[Sequenced | BaseException]) -> None:
        futures = [call.future for call in calls]
        self._loop.call_soon_threadsafe(settle, futures, results)

    def _fail_the_rest(self, error: BaseException) -> None:
        with self._lock:
            self._stopping = True
            rest = list(self._queue)
            self._queue.clear()
        self._watch.ended(error)
        self._deliver(rest, [error] * len(rest))
        self._on_fatal(error)
