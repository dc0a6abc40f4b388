"""The health of a monitor on disk, so that silence counts across restarts and `status` can show it.

What a crash leaves behind: the old file or the new one. A lost file costs nothing but the memory of when
things were last seen, so it is not synced, and one that cannot be read is begun anew.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, fields
from pathlib import Path

from tlog.errors import MalformedError, StorageError
from tlog.monitor.alerts import AlertKind
from tlog.monitor.health import Health
from tlog.strict_json import parse_json

HEALTH_NAME = "health.json"
_MAX_BYTES = 1 << 20


class HealthFile:
    """Keeps one `Health` in a directory."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / HEALTH_NAME

    def load(self, now_s: float) -> Health:
        """Return the health that was saved last, or that of a monitor which begins now."""
        try:
            with self._path.open("rb") as file:
                stored = parse_json(file.read(_MAX_BYTES), str(self._path))
        except (OSError, MalformedError):
            stored = None
        health = Health(started_s=now_s)
        if isinstance(stored, dict):
            for field in fields(Health):
                value = stored.get(field.name)
                if _has_form_of(getattr(health, field.name), value, field.name):
                    setattr(health, field.name, value)
        kinds = set(AlertKind)
        health.open = {name: since for name, since in health.open.items() if name.split("\0")[0] in kinds}
        health.believe_no_future(now_s)
        return health

    def save(self, health: Health) -> None:
        """Replace the file. Raises StorageError."""
        temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
        try:
            temporary.write_text(json.dumps(asdict(health), indent=1) + "\n", encoding="utf-8")
            temporary.replace(self._path)
        except OSError as error:
            raise StorageError(f"{self._path} cannot be written: {error.strerror}") from error


def _has_form_of(default: object, value: object, name: str) -> bool:
    if name == "behind_since_s":
        return value is None or type(value) in (int, float)
    if isinstance(default, dict):
        return isinstance(value, dict) and all(type(one) in (int, float) for one in value.values())
    if isinstance(default, str):
        return isinstance(value, str)
    return type(value) in (int, float)
