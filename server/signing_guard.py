"""The one switch that says whether this server may sign: SIGNING, or READ_ONLY with a reason and a way out.

Whoever finds something wrong with what is stored stops the signing here; the log asks before every signature
(`Log(before_signing=…)`), so that nothing signs past it. Reading goes on. There is no way back within a run:
whatever stopped it is looked into, mended, and the server started again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from tlog.errors import CorruptionError

DAMAGE_WAY_OUT = (
    "stop the server, check memory and disk, find what is wrong with `tlog fsck`, mend it with `tlog fsck "
    "--repair-from`, and start again (docs/operations.md, Repair)"
)

_LOGGER = logging.getLogger("tlog.signing")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOnly:
    """Says why nothing is signed any more, and what the operator has to do."""

    reason: str
    way_out: str

    def error(self) -> CorruptionError:
        """Make the error that whoever wants something signed gets."""
        return CorruptionError(
            f"this log is read-only and takes no more entries: {self.reason}; {self.way_out}"
        )


class SigningGuard:
    """Holds the switch; every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read_only: ReadOnly | None = None
        self._listeners: list[Callable[[ReadOnly], object]] = []

    @property
    def read_only(self) -> ReadOnly | None:
        """Return why nothing is signed, or None while signing goes on."""
        return self._read_only

    def require_signing(self) -> None:
        """Check that signing goes on. Raises CorruptionError, which says why it does not."""
        if self._read_only is not None:
            raise self._read_only.error()

    def stop_signing(self, reason: str, way_out: str) -> None:
        """Sign nothing from now on, and say so; the first reason stays."""
        with self._lock:
            if self._read_only is not None:
                return
            self._read_only = state = ReadOnly(reason=reason, way_out=way_out)
            listeners = list(self._listeners)
        _LOGGER.error("nothing is signed any more: %s; %s", reason, way_out)
        for listener in listeners:
            listener(state)

    def found_damage(self, error: CorruptionError) -> None:
        """Sign nothing from now on, because what is stored, or in memory, is not what it was."""
        self.stop_signing(str(error), DAMAGE_WAY_OUT)

    def on_stop(self, listener: Callable[[ReadOnly], object]) -> None:
        """Tell a listener once, in the thread that stops the signing; at once where it has stopped."""
        with self._lock:
            state = self._read_only
            if state is None:
                self._listeners.append(listener)
        if state is not None:
            listener(state)
