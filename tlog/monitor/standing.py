"""How a monitor stands, read from its files beside it: position, health, alerts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tlog.checkpoint import parse_checkpoint
from tlog.monitor.alert_book import Record, read_journal
from tlog.monitor.alerts import Severity
from tlog.monitor.assembly import load_policy
from tlog.monitor.config import Config
from tlog.monitor.cursor import BINDING, HASHES_NAME, MIRROR_NAME, read_record
from tlog.monitor.health import Health
from tlog.monitor.health_file import HealthFile
from tlog.note import parse_note
from tlog.storage.lmdb_store import LmdbStore
from tlog.strict_json import JsonValue

SHOWN_ALERTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Says how far a monitor is and what it told; `newest_alerts` are the last few, oldest first."""

    origin: str
    position: int
    root_hash: bytes
    covered_size: int | None
    health: Health
    counts: Mapping[str, int]
    critical: int
    newest_alerts: Sequence[Record]

    def facts(self) -> dict[str, str | int | None]:
        """Return the lines that a person reads."""
        open_conditions = [name.replace("\0", ": ") for name in self.health.open]
        return {
            "origin": self.origin,
            "checked": f"{self.position:,} of {self.health.seen_size:,} entries seen",
            "root hash": self.root_hash.hex(),
            "covered": "no signed checkpoint yet"
            if self.covered_size is None
            else f"the signed checkpoint of size {self.covered_size:,}",
            "open": "; ".join(open_conditions) or "nothing",
            "alerts": ", ".join(f"{count} {kind}" for kind, count in self.counts.items()) or "none",
            "critical": self.critical,
        }

    def document(self) -> dict[str, JsonValue]:
        """Return what programs read."""
        return {
            "origin": self.origin,
            "position": self.position,
            "root_hash": self.root_hash.hex(),
            "covered_size": self.covered_size,
            "seen_size": self.health.seen_size,
            "fresh_s": self.health.fresh_s,
            "answered_s": self.health.answered_s,
            "open_conditions": [name.partition("\0")[0] for name in self.health.open],
            "alerts": dict(self.counts),
            "critical_alerts": self.critical,
            "newest_alerts": [dict(alert) for alert in self.newest_alerts],
        }


def read_standing(config: Config) -> Standing:
    """Read how a monitor stands, whether or not it runs.

    Raises ConfigError, NotFoundError, CorruptionError and StorageError.
    """
    _, origin = load_policy(config)
    directory = Path(config.monitor.state_path)
    path = directory / (MIRROR_NAME if config.monitor.mirror else HASHES_NAME)
    store = LmdbStore.open(path, origin, BINDING, read_only=True)
    try:
        with store.reader() as reader:
            position, root_hash = read_record(reader)
            covered = reader.published()
    finally:
        store.close()
    alerts = [line["alert"] for line in read_journal(directory) if isinstance(line.get("alert"), dict)]
    records = [alert for alert in alerts if isinstance(alert, dict)]
    return Standing(
        origin=origin,
        position=position,
        root_hash=root_hash,
        covered_size=None if covered is None else parse_checkpoint(parse_note(covered)[0]).tree_size,
        health=HealthFile(directory).load(float("inf")),
        counts=Counter(str(record.get("kind")) for record in records),
        critical=sum(record.get("severity") == Severity.CRITICAL.value for record in records),
        newest_alerts=records[-SHOWN_ALERTS:],
    )
