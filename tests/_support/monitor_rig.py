"""One monitor's state directory, a clock that stands still, and monitors put together anew at will."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _support.alliance import Alliance
from _support.unchecked_log import UncheckedLog

from tlog.errors import NotFoundError
from tlog.evidence import Verdict, parse_evidence, verify_evidence
from tlog.merkle import leaf_hash
from tlog.monitor.alert_book import AlertBook, Record, read_journal
from tlog.monitor.alert_desk import AlertDesk
from tlog.monitor.cursor import Cursor
from tlog.monitor.health_file import HealthFile
from tlog.monitor.monitor import Monitor, Pass, Settings
from tlog.monitor.sinks import Sink
from tlog.monitor.source import LogSource
from tlog.monitor.views import Views
from tlog.policy import Policy, build_policy


class NoProgress:
    def advance(self, count: int = 1) -> None:
        pass


def show(total: int) -> nullcontext[NoProgress]:
    return nullcontext(NoProgress())


@dataclass
class Rig:
    """Holds what outlives one run of a monitor."""

    directory: Path
    alliance: Alliance = field(default_factory=Alliance)
    now_s: float = 1_700_000_000.0
    keeps_entries: bool = False
    witness_vkeys: Sequence[str] = ()
    threshold: int = 0

    @property
    def policy(self) -> Policy:
        return build_policy([self.alliance.signer.vkey], self.witness_vkeys, self.threshold)

    @contextmanager
    def monitor(self, source: LogSource, *, sinks: Sequence[Sink] = (), **settings: Any) -> Iterator[Monitor]:
        settings.setdefault("genesis_leaf_hash", leaf_hash(self.alliance.governance[0]))
        origin = self.alliance.origin
        try:
            cursor = Cursor.open(self.directory, origin, keeps_entries=self.keeps_entries)
        except NotFoundError:
            cursor = Cursor.create(self.directory, origin, keeps_entries=self.keeps_entries)
        book = AlertBook(self.directory, sinks=[sink.name for sink in sinks])
        try:
            with (
                ThreadPoolExecutor(2) as threads,
                AlertDesk(book, sinks, self.clock, first_delay_s=0.01) as desk,
            ):
                yield Monitor(
                    source=source,
                    cursor=cursor,
                    views=Views(self.policy, cursor, self.directory),
                    desk=desk,
                    health_file=HealthFile(self.directory),
                    threads=threads,
                    clock=self.clock,
                    settings=Settings(**settings),
                )
        finally:
            cursor.close()

    def clock(self) -> float:
        return self.now_s

    def run(self, source: LogSource, **settings: Any) -> Pass:
        """Run one pass of a monitor that is put together for it, as `--once` does."""
        with self.monitor(source, **settings) as monitor:
            return monitor.run_pass(show)

    def alerts(self) -> list[Record]:
        """Return every alert in the journal, in order."""
        return [line["alert"] for line in read_journal(self.directory) if "alert" in line]  # type: ignore[misc]

    def kinds(self) -> list[str]:
        return [str(alert["kind"]) for alert in self.alerts()]

    def verdict(self, alert: Record) -> Verdict:
        """Judge an alert's evidence, as a third party would."""
        path = alert["evidence"]
        assert isinstance(path, str), alert
        return verify_evidence(parse_evidence(Path(path).read_bytes()), self.policy)

    def log(self, entries: Sequence[bytes] = ()) -> UncheckedLog:
        """Make a log of the alliance's governance and these entries."""
        return UncheckedLog.in_memory(self.alliance.signer, [*self.alliance.governance, *entries])
