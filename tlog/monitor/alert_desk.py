"""Takes alerts in, writes them down, and hands each new one to all couriers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Self

from tlog.errors import MalformedError, TlogError, VerificationError
from tlog.evidence import parse_evidence
from tlog.evidence_store import EvidenceStore
from tlog.monitor.alert_book import AlertBook
from tlog.monitor.alerts import Alert, AlertKind
from tlog.monitor.courier import FIRST_DELAY_S, Courier
from tlog.monitor.sinks import Sink


class AlertDesk:
    """Owns the journal and one courier a sink; sends first what an earlier run could not deliver."""

    def __init__(
        self,
        book: AlertBook,
        sinks: Sequence[Sink],
        clock: Callable[[], float],
        *,
        convictions: Sequence[EvidenceStore] = (),
        on_conviction: Callable[[], None] = lambda: None,
        first_delay_s: float = FIRST_DELAY_S,
    ) -> None:
        """Start the couriers. `book` was opened with the names of these sinks.

        What convicts is kept in `convictions` as well, where clients and nodes look before they believe, also
        what an earlier run could not put there; `on_conviction` is called then. Raises StorageError.
        """
        self.book = book
        self._convictions = convictions
        self._on_conviction = on_conviction
        if convictions:
            for kind in AlertKind:
                for _, evidence in book.evidence_of(kind):
                    self._keep(evidence)
        self._clock = clock
        self._couriers = [
            Courier(sink, delivered=book.delivered, failed=self._sink_failed, first_delay_s=first_delay_s)
            for sink in sinks
        ]
        by_name = {courier.name: courier for courier in self._couriers}
        for waiting in book.waiting():
            by_name[waiting.sink].send(waiting.record)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def problems(self) -> dict[str, str]:
        """Return what is wrong with those sinks that fail now, by name."""
        return {one.name: one.problem for one in self._couriers if one.problem is not None}

    def tell(self, alert: Alert) -> None:
        """Write an alert down and send it, unless it is known; returns when it is durable.

        Raises StorageError.
        """
        record = self.book.raise_alert(alert, self._clock())
        if record is not None:
            for courier in self._couriers:
                courier.send(record)
            if alert.evidence is not None:
                self._keep(alert.evidence)

    def complete_evidence(self, alert_id: str, evidence: bytes) -> None:
        """Replace the evidence of an alert by what convicts. Raises StorageError."""
        self.book.update_evidence(alert_id, evidence)
        self._keep(evidence)

    def flush(self, timeout_s: float) -> None:
        """Wait until all that can be delivered is, at most so long."""
        end_s = monotonic() + timeout_s
        for courier in self._couriers:
            courier.flush(max(0.0, end_s - monotonic()))

    def close(self) -> None:
        """Stop the couriers and close the journal, which keeps what was not delivered."""
        for courier in self._couriers:
            courier.close()
        self.book.close()

    def _keep(self, evidence: bytes) -> None:
        for store in self._convictions:
            # What leaves a gap convicts nobody yet, and under another policy perhaps nobody at all.
            with suppress(VerificationError, MalformedError):
                store.add(parse_evidence(evidence))
        self._on_conviction()

    def _sink_failed(self, name: str, error: TlogError) -> None:
        # Runs in that sink's courier; the alert goes to itself as well, and waits there for better times.
        now_s = self._clock()
        self.tell(
            Alert(
                kind=AlertKind.SINK_FAILING,
                subject=f"sink {name} (since {now_s:.0f})",
                message=f"alerts do not reach the sink {name}: {error}",
                facts={"sink": name},
            )
        )
