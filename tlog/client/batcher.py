"""One by one in, batches out: throughput for callers who append single entries, without any timer.

While a call is in flight the next batch collects; so a lone entry leaves at once, and a flood leaves in full
batches. Each future gets its own outcome: when the log refuses some entries of a batch, the others are sent
again without them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Protocol, Self

from tlog.client.append_reply import Appended
from tlog.client.wire import MAX_BATCH_BYTES, MAX_BATCH_ENTRIES
from tlog.envelope import MAX_ENTRY_BYTES
from tlog.errors import (
    BatchRefusedError,
    ConfigError,
    PushbackError,
    RefusalReason,
    RefusedError,
    SubmitError,
)


class Appender(Protocol):
    """Appends entries, all or none; a LogClient does."""

    def append(self, entries: Sequence[bytes], *, cosigned: bool = False) -> list[Appended]:
        """Append entries, and return one result for each, in the order given; or once they are cosigned."""
        ...


@dataclass(slots=True)
class _Pending:
    """Is one entry on its way, owned by the queue and then by the one worker that took it."""

    entry: bytes
    future: Future[Appended] = field(default_factory=Future)


class Batcher:
    """Collects single entries into appends of `client`. Safe to use from many threads.

    A batch holds up to `max_entries` entries and `max_bytes` bytes. Up to `max_in_flight` batches are on
    their way at once; with 1, entries reach the log in the order submitted, as far as they are accepted. At
    most `max_queued_entries` and `max_queued_bytes` wait. All limits are at least 1, and those in bytes at
    least one entry of 65,535 bytes, else ConfigError. With `cosigned` each batch waits for a published
    checkpoint, so that its receipts meet the whole policy (`LogClient.append`). Close the batcher, or use it
    in a `with` block: what waits is lost with the process.
    """

    def __init__(
        self,
        client: Appender,
        *,
        max_entries: int = MAX_BATCH_ENTRIES,
        max_bytes: int = MAX_BATCH_BYTES,
        max_in_flight: int = 1,
        max_queued_entries: int = 10_000,
        max_queued_bytes: int = 64 << 20,
        cosigned: bool = False,
    ) -> None:
        if (
            min(max_entries, max_in_flight, max_queued_entries) < 1
            or min(max_bytes, max_queued_bytes) < MAX_ENTRY_BYTES
        ):
            raise ConfigError(
                f"a batcher needs limits of at least 1, and {MAX_ENTRY_BYTES} bytes for the largest entry: "
                f"max_entries is {max_entries}, max_bytes {max_bytes}, max_in_flight {max_in_flight}, "
                f"max_queued_entries {max_queued_entries}, max_queued_bytes {max_queued_bytes}"
            )
        self._append = partial(client.append, cosigned=True) if cosigned else client.append
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._max_queued_entries = max_queued_entries
        self._max_queued_bytes = max_queued_bytes
        self._queue: deque[_Pending] = deque()
        self._queued_bytes = 0
        self._closed = False
        lock = threading.Lock()
        self._not_empty = threading.Condition(lock)
        self._not_full = threading.Condition(lock)
        self._workers = [
            threading.Thread(target=self._work, name=f"tlog-batcher-{number}", daemon=True)
            for number in range(max_in_flight)
        ]
        for worker in self._workers:
            worker.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def submit(self, entry: bytes, *, block: bool = True, timeout_s: float | None = None) -> Future[Appended]:
        """Queue one entry, and return the future of where it is.

        The future's exception is a RefusedError when the log refused this entry, or what the append of its
        batch raised. A future that is cancelled before its batch leaves is not sent.
        While the queue is full, waits for up to `timeout_s` seconds (None: as long as it takes), or not at
        all without `block`; then raises PushbackError. Do not wait in a future's callback: it runs in the
        thread that empties the queue. Raises SubmitError after `close`.
        """
        pending = _Pending(entry)
        if len(entry) > MAX_ENTRY_BYTES:
            pending.future.set_exception(
                RefusedError(
                    RefusalReason.TOO_LARGE,
                    f"the entry has {len(entry)} bytes, and at most {MAX_ENTRY_BYTES} are allowed: put a "
                    "digest of the document into the event instead of the document",
                )
            )
            return pending.future
        with self._not_full:
            has_room = self._not_full.wait_for(lambda: self._has_room(len(entry)), timeout_s if block else 0)
            if self._closed:
                raise SubmitError("this batcher is closed: nothing more can be submitted to it")
            if not has_room:
                raise PushbackError(
                    f"{len(self._queue)} entries wait for the log already: submit again when some are done",
                    retry_after_s=0.0,
                )
            self._queue.append(pending)
            self._queued_bytes += len(entry)
            self._not_empty.notify()
        return pending.future

    def close(self) -> None:
        """Take no more entries, send those that wait, and return when every future has its outcome."""
        with self._not_empty:
            self._closed = True
            self._not_empty.notify_all()
            self._not_full.notify_all()
        for worker in self._workers:
            worker.join()

    def _has_room(self, size: int) -> bool:
        return self._closed or (
            len(self._queue) < self._max_queued_entries
            and self._queued_bytes + size <= self._max_queued_bytes
        )

    def _work(self) -> None:
        while batch := self._next_batch():
            self._send(batch)

    def _next_batch(self) -> list[_Pending]:
        """Wait for entries, and take as many as fit; an empty batch says that all is done."""
        batch: list[_Pending] = []
        size = 0
        with self._not_empty:
            while not batch:
                self._not_empty.wait_for(lambda: self._queue or self._closed)
                if not self._queue:
                    return []
                while (
                    self._queue
                    and len(batch) < self._max_entries
                    and size + len(self._queue[0].entry) <= self._max_bytes
                ):
                    pending = self._queue.popleft()
                    self._queued_bytes -= len(pending.entry)
                    # From here on the future cannot be cancelled any more.
                    if pending.future.set_running_or_notify_cancel():
                        batch.append(pending)
                        size += len(pending.entry)
                self._not_full.notify_all()
        return batch

    def _send(self, batch: list[_Pending]) -> None:
        """Append a batch, without those that the log refuses, and give every future its outcome."""
        while batch:
            try:
                results = self._append([pending.entry for pending in batch])
                if len(results) != len(batch):
                    raise SubmitError(f"{len(batch)} entries were sent, and {len(results)} came back")  # noqa: TRY301
            except BatchRefusedError as refused:
                batch = self._refuse(batch, refused)
            except Exception as error:  # noqa: BLE001 - whoever waits for a future must get an outcome
                _fail(batch, error)
                return
            else:
                for pending, result in zip(batch, results, strict=True):
                    pending.future.set_result(result)
                return

    def _refuse(self, batch: list[_Pending], refused: BatchRefusedError) -> list[_Pending]:
        """Fail the entries that were refused, and return the others, which are to be sent again."""
        if not all(0 <= position < len(batch) for position in refused.refusals):
            _fail(batch, refused)
            return []
        for position, error in refused.refusals.items():
            batch[position].future.set_exception(error)
        return [pending for position, pending in enumerate(batch) if position not in refused.refusals]


def _fail(batch: Sequence[_Pending], error: Exception) -> None:
    for pending in batch:
        pending.future.set_exception(error)
