"""What a log has shown, on disk, so that a restart neither begins the waiting anew nor forgets an alarm.

What a crash leaves behind: the old file or the new one. A lost file costs nothing but the memory of what was
shown when, so it is not synced, and one that cannot be read is begun anew.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from tlog.errors import MalformedError, StorageError
from tlog.node.shown_view import ShownView
from tlog.strict_json import JsonValue, parse_json

_MAX_BYTES = 1 << 16


class ShownFile:
    """Keeps the `ShownView` of one log in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved: ShownView | None = None

    def load(self) -> ShownView:
        """Return what was saved last, or the view of a log that has shown nothing yet."""
        try:
            with self._path.open("rb") as file:
                stored = parse_json(file.read(_MAX_BYTES), str(self._path))
        except (OSError, MalformedError):
            return ShownView()
        if not isinstance(stored, dict):
            return ShownView()
        return ShownView(
            largest_size=_size(stored.get("largest_size")),
            awaited_size=_size(stored.get("awaited_size")),
            awaited_since_s=_time(stored.get("awaited_since_s")),
            stale_since_s=_time(stored.get("stale_since_s")),
        )

    def save(self, view: ShownView) -> None:
        """Replace the file where anything changed. Raises StorageError."""
        if view == self._saved:
            return
        temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
        try:
            temporary.write_text(json.dumps(asdict(view)) + "\n", encoding="utf-8")
            temporary.replace(self._path)
        except OSError as error:
            raise StorageError(f"{self._path} cannot be written: {error.strerror}") from error
        self._saved = ShownView(**asdict(view))


def _size(value: JsonValue) -> int:
    return value if type(value) is int and value >= 0 else 0


def _time(value: JsonValue) -> float | None:
    return float(value) if type(value) in (int, float) and isinstance(value, int | float) else None
