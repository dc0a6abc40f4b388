"""Every alert that was ever raised, durably, and where it still has to go.

A journal of JSON lines: `{"alert": …}` when one is raised, synced before the monitor moves on, and
`{"delivered": id, "sink": name}` when a sink has taken it. So an alert reaches every sink at least once,
whatever is killed when. Evidence lies beside it, one file an alert, written before the journal names it.

What a crash leaves behind: perhaps half a line at the end, which is cut off when the journal is opened.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tlog.durable_file import sync_directory
from tlog.errors import CorruptionError, MalformedError, StorageError
from tlog.monitor.alerts import Alert, AlertKind, Severity, printable
from tlog.strict_json import JsonValue, parse_json

JOURNAL_NAME = "alerts.jsonl"
EVIDENCE_NAME = "evidence"

MAX_ALERTS_OF_A_KIND = 1_000
"""How many alerts of one kind are written down in a day: a hostile log could raise one with every entry."""
_DAY_S = 86_400

Record = Mapping[str, JsonValue]
"""An alert as JSON: what sinks get."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Holds an alert that a sink has not taken yet."""

    record: Record
    sink: str


class AlertBook:
    """Keeps the alerts of one monitor in a directory. Its methods may be called from any thread."""

    def __init__(self, directory: Path, *, sinks: Sequence[str] = ()) -> None:
        """Open the journal, or begin one. Raises StorageError, and CorruptionError for lines that are none.

        `sinks` are the names of those that shall get every new alert.
        """
        self.directory = directory
        self._sinks = tuple(sinks)
        self._lock = threading.Lock()
        self._path = directory / JOURNAL_NAME
        self._known: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._of_today: Counter[tuple[str, int]] = Counter()
        self._waiting: dict[tuple[str, str], Waiting] = {}
        self._ids_with_evidence: dict[str, list[str]] = {}
        self.critical = 0
        try:
            (directory / EVIDENCE_NAME).mkdir(exist_ok=True)
            _cut_half_a_line(self._path)
            for line in read_journal(directory):
                self._take(line)
            self._file = self._path.open("ab")
        except OSError as error:
            raise StorageError(f"{self._path} cannot be used: {error}") from error

    @property
    def counts(self) -> Mapping[str, int]:
        """Return how many alerts of each kind were raised, those beyond the maximum included."""
        return dict(self._counts)

    def knows(self, alert: Alert) -> bool:
        """Return whether an alert was raised before."""
        return alert.id in self._known

    def evidence_of(self, kind: AlertKind) -> Iterator[tuple[str, bytes]]:
        """Yield (alert id, evidence) for every alert of a kind that has some; not what somebody took away.

        Raises StorageError.
        """
        for alert_id in self._ids_with_evidence.get(kind, []):
            try:
                yield alert_id, self._evidence_path(alert_id).read_bytes()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StorageError(f"the evidence of alert {alert_id} cannot be read: {error}") from error

    def waiting(self) -> list[Waiting]:
        """Return what an earlier run could not deliver to sinks that are still there."""
        return [one for one in self._waiting.values() if one.sink in self._sinks]

    def raise_alert(self, alert: Alert, now_s: float) -> Record | None:
        """Write an alert down, durably; returns None when it is there already, or there are too many today.

        Raises StorageError.
        """
        with self._lock:
            if alert.id in self._known:
                return None
            self._counts[alert.kind] += 1
            today = int(now_s // _DAY_S)
            self._count(alert.kind, today)
            if self._of_today[alert.kind, today] > MAX_ALERTS_OF_A_KIND:
                alert = Alert(
                    kind=AlertKind.TOO_MANY,
                    subject=f"{alert.kind} on day {today}",
                    message=f"more than {MAX_ALERTS_OF_A_KIND} alerts of kind {alert.kind} on one day (UTC)",
                    severity=alert.rank,
                )
                if alert.id in self._known:
                    return None
            return self._write(alert, now_s)

    def update_evidence(self, alert_id: str, evidence: bytes) -> None:
        """Replace an alert's evidence file by a stronger one. Raises StorageError."""
        self._write_evidence(alert_id, evidence)

    def delivered(self, alert_id: str, sink: str) -> None:
        """Take note that a sink has taken an alert. Raises StorageError."""
        with self._lock:
            # Not synced: what a crash forgets is sent a second time.
            self._append({"delivered": alert_id, "sink": sink}, durable=False)

    def close(self) -> None:
        """Close the journal."""
        with self._lock:
            self._file.close()

    def _count(self, kind: str, day: int) -> None:
        if any(counted != day for _, counted in self._of_today):
            self._of_today.clear()
        self._of_today[kind, day] += 1

    def _write(self, alert: Alert, now_s: float) -> Record:
        path = None if alert.evidence is None else self._write_evidence(alert.id, alert.evidence)
        record: dict[str, JsonValue] = {
            "id": alert.id,
            "kind": alert.kind.value,
            "severity": alert.rank.value,
            "resolved": alert.resolved,
            "time_s": now_s,
            "subject": alert.subject,
            "message": printable(alert.message),
            "action": alert.action,
            "facts": dict(alert.facts),
            "evidence": None if path is None else str(path),
        }
        self._append({"alert": record, "sinks": list(self._sinks)}, durable=True)
        self._known.add(alert.id)
        if path is not None:
            self._ids_with_evidence.setdefault(alert.kind.value, []).append(alert.id)
        self.critical += alert.rank is Severity.CRITICAL
        return record

    def _write_evidence(self, alert_id: str, evidence: bytes) -> Path:
        path = self._evidence_path(alert_id)
        temporary = path.with_suffix(".tmp")
        try:
            with temporary.open("wb") as file:
                file.write(evidence)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_directory(path.parent)
        except OSError as error:
            raise StorageError(f"evidence cannot be written to {path}: {error}") from error
        return path

    def _evidence_path(self, alert_id: str) -> Path:
        return self.directory / EVIDENCE_NAME / f"{alert_id}.tlog-evidence"

    def _append(self, line: Mapping[str, JsonValue], *, durable: bool) -> None:
        try:
            self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
            self._file.flush()
            if durable:
                os.fsync(self._file.fileno())
        except (OSError, ValueError) as error:
            raise StorageError(f"the alert cannot be written to {self._path}: {error}") from error

    def _take(self, line: Record) -> None:
        record = line.get("alert")
        if isinstance(record, dict):
            alert_id, kind, sinks = record.get("id"), record.get("kind"), line.get("sinks")
            if not isinstance(alert_id, str) or not isinstance(kind, str) or not isinstance(sinks, list):
                raise CorruptionError(f"{self._path} holds an alert without id, kind or sinks: {record!r}")
            self._known.add(alert_id)
            self._counts[kind] += 1
            if record.get("evidence") is not None:
                self._ids_with_evidence.setdefault(kind, []).append(alert_id)
            self.critical += record.get("severity") == Severity.CRITICAL.value
            time_s = record.get("time_s")
            if isinstance(time_s, int | float):
                self._count(kind, int(time_s // _DAY_S))
            for sink in sinks:
                if isinstance(sink, str):
                    self._waiting[alert_id, sink] = Waiting(record=record, sink=sink)
        else:
            done, sink = line.get("delivered"), line.get("sink")
            if isinstance(done, str) and isinstance(sink, str):
                self._waiting.pop((done, sink), None)


def read_journal(directory: Path) -> Iterator[Record]:
    """Read the journal of a monitor, line by line; half a line at its end is left out.

    Raises CorruptionError for anything that is no JSON object, StorageError when it cannot be read.
    """
    path = directory / JOURNAL_NAME
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    return
                yield _parse_line(path, number, line)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error}") from error


def _parse_line(path: Path, number: int, line: bytes) -> Record:
    try:
        value = parse_json(line, f"line {number} of {path}")
    except MalformedError as error:
        raise CorruptionError(f"{error}: the journal is damaged, move the file away") from error
    if not isinstance(value, dict):
        raise CorruptionError(f"line {number} of {path} is no JSON object: move the file away")
    return value


def _cut_half_a_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("r+b") as file:
        data = file.read()
        whole = data.rfind(b"\n") + 1
        if whole != len(data):
            file.truncate(whole)
            os.fsync(file.fileno())
