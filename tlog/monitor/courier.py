"""Carries alerts to one sink, in a thread of its own: what fails is tried again, and nobody else waits.

The journal holds whatever was not delivered, so a queue that is lost with the process comes back with it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

from tlog.errors import TlogError
from tlog.monitor.alert_book import Record
from tlog.monitor.sinks import Sink, SinkError

FIRST_DELAY_S = 1.0
MAX_DELAY_S = 300.0
MAX_QUEUED = 20_000
"""The most alerts that wait for one sink in memory; what is beyond stays in the journal until a restart."""


class Courier:
    """Delivers to one sink, in order.

    `delivered(alert id, sink name)` is called for what was taken, `failed(sink name, error)` for the first
    failure after a success. Both run in the courier's thread.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        delivered: Callable[[str, str], None],
        failed: Callable[[str, TlogError], None],
        first_delay_s: float = FIRST_DELAY_S,
    ) -> None:
        """Start the thread."""
        self.name = sink.name
        self.problem: str | None = None
        self._sink = sink
        self._delivered = delivered
        self._failed = failed
        self._first_delay_s = first_delay_s
        self._queue: queue.Queue[Record | None] = queue.Queue(MAX_QUEUED + 1)
        self._stopping = threading.Event()
        self._idle = threading.Condition()
        self._in_hand = 0
        self._thread = threading.Thread(target=self._run, name=f"alerts to {sink.name}", daemon=True)
        self._thread.start()

    def send(self, record: Record) -> None:
        """Queue an alert; returns at once."""
        with self._idle:
            if self._in_hand >= MAX_QUEUED:
                return
            self._in_hand += 1
        self._queue.put(record)

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything was delivered, or the sink fails, or time is up; True when all was."""
        end_s = monotonic() + timeout_s
        with self._idle:
            self._idle.wait_for(
                lambda: self._in_hand == 0 or self.problem is not None, max(0.0, end_s - monotonic())
            )
            return self._in_hand == 0

    def close(self) -> None:
        """Stop; what was not delivered waits in the journal. Returns before a delivery that hangs."""
        self._stopping.set()
        self._queue.put(None)
        self._thread.join(1.0)

    def _run(self) -> None:
        while (record := self._queue.get()) is not None and not self._stopping.is_set():
            if self._deliver(record):
                with self._idle:
                    self._in_hand -= 1
                    self._idle.notify_all()

    def _deliver(self, record: Record) -> bool:
        delay_s = self._first_delay_s
        while not self._stopping.is_set():
            try:
                self._sink.deliver(record)
                self._delivered(str(record["id"]), self.name)
            except TlogError as error:
                self._fail(error)
            except Exception as error:  # noqa: BLE001 - a sink with a bug is a sink that fails
                self._fail(SinkError(f"{type(error).__name__}: {error}"))
            else:
                self.problem = None
                return True
            self._stopping.wait(delay_s)
            delay_s = min(2 * delay_s, MAX_DELAY_S)
        return False

    def _fail(self, error: TlogError) -> None:
        first = self.problem is None
        with self._idle:
            self.problem = str(error)
            self._idle.notify_all()
        if first:
            # A journal that cannot be written is told by whoever watches the log; alerts still go out.
            with suppress(TlogError):
                self._failed(self.name, error)
