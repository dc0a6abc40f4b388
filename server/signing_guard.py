"""The one switch that says whether this server may sign: SIGNING, or READ_ONLY with a reason and a way out.

The log asks before every signature (`Log(before_signing=…)`), so that nothing signs past it. Reading goes
on.

Two kinds of READ_ONLY. `stop_signing` is for what was found wrong: there is no way back within a run,
whatever stopped it is looked into, mended, and the server started again. `hold` is for what is still open,
such as the check at the start (server.start_check): whoever put it there takes it away.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tlog.errors import CorruptionError, NotCheckedError, ReadOnlyError, StorageError

DAMAGE_WAY_OUT = (
    "stop the server, check memory and disk, find what is wrong with `tlog fsck`, mend it with `tlog fsck "
    "--repair-from`, and start again (docs/operations.md, Repair)"
)

REPLAY_WAY_OUT = (
    "stop the server, and replay the missing entries from a mirror that has them: `tlog restore LOG_DIR "
    "LOG_DIR --replace ORIGIN --catch-up-from URL`, or put a newer copy of the store's directory in its "
    "place (docs/operations.md, Restore)"
)

_LOGGER = logging.getLogger("tlog.signing")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOnly:
    """Says why nothing is signed, and the way out; `is_passing` where it may end by itself."""

    reason: str
    way_out: str
    is_passing: bool = False
    passing_error: type[StorageError] = NotCheckedError
    """What whoever wants something signed gets while it may end by itself."""

    def error(self) -> StorageError:
        """Make the error that whoever wants something signed gets."""
        if self.is_passing:
            return self.passing_error(f"this log signs nothing yet: {self.reason}; {self.way_out}")
        return ReadOnlyError(
            f"this log is read-only and takes no more entries: {self.reason}; {self.way_out}"
        )


class SigningGuard:
    """Holds the switch; every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped: ReadOnly | None = None
        self._holds: dict[str, ReadOnly] = {}
        self._despite: dict[int, str] = {}
        self._read_only: ReadOnly | None = None
        self._on_stop: list[Callable[[ReadOnly], object]] = []
        self._on_change: list[Callable[[ReadOnly | None], object]] = []

    @property
    def read_only(self) -> ReadOnly | None:
        """Return why nothing is signed, or None while signing goes on."""
        return self._read_only

    def require_signing(self) -> None:
        """Check that signing goes on.

        Raises ReadOnlyError, which says why it does not, or NotCheckedError where that may end by itself.
        """
        if self._read_only is None:
            return
        with self._lock:
            despite = self._despite.get(threading.get_ident())
            state = self._state(despite)
        if state is not None:
            raise state.error()

    @contextmanager
    def despite(self, name: str) -> Iterator[None]:
        """Let this thread, and no other, sign in the block although there is a hold of that name."""
        self._despite[threading.get_ident()] = name
        try:
            yield
        finally:
            del self._despite[threading.get_ident()]

    @property
    def is_stopped(self) -> bool:
        """Return whether the signing has ended for this run."""
        return self._stopped is not None

    def is_held(self, name: str) -> bool:
        """Return whether there is a hold of that name."""
        return name in self._holds

    def stop_signing(self, reason: str, way_out: str) -> None:
        """Sign nothing from now on, and say so; the first reason stays."""
        with self._lock:
            if self._stopped is not None:
                return
            self._stopped = state = ReadOnly(reason=reason, way_out=way_out)
            listeners, self._on_stop = self._on_stop, []
        # First of all: a listener may fail, and takes its time.
        self._settle()
        _LOGGER.critical("%s", state.error())
        for listener in listeners:
            listener(state)

    def found_damage(self, error: CorruptionError) -> None:
        """Sign nothing from now on, because what is stored, or in memory, is not what it was."""
        self.stop_signing(str(error), DAMAGE_WAY_OUT)

    def hold(self, name: str, state: ReadOnly) -> None:
        """Sign nothing until `release` of that name; a second hold of one name replaces the first."""
        with self._lock:
            is_news = self._holds.get(name) != state
            self._holds[name] = state
        if is_news:
            _LOGGER.warning("%s", state.error())
        self._settle()

    def release(self, name: str) -> None:
        """Take a hold away; does nothing where there is none."""
        with self._lock:
            self._holds.pop(name, None)
        self._settle()

    def on_stop(self, listener: Callable[[ReadOnly], object]) -> None:
        """Tell a listener once, in the thread that stops the signing for good; at once where it has."""
        with self._lock:
            state = self._stopped
            if state is None:
                self._on_stop.append(listener)
        if state is not None:
            listener(state)

    def on_change(self, listener: Callable[[ReadOnly | None], object]) -> None:
        """Tell a listener at once how it stands, and whenever that changes, in whatever thread."""
        with self._lock:
            self._on_change.append(listener)
            state = self._read_only
        listener(state)

    def _state(self, despite: str | None) -> ReadOnly | None:
        """Return the reason that counts; what somebody has to act upon goes before what may pass."""
        if self._stopped is not None:
            return self._stopped
        holds = [state for name, state in self._holds.items() if name != despite]
        return min(holds, key=lambda state: state.is_passing, default=None)

    def _settle(self) -> None:
        with self._lock:
            state = self._state(None)
            if state == self._read_only:
                return
            self._read_only = state
            listeners = list(self._on_change)
        if state is None:
            _LOGGER.info("signing goes on")
        for listener in listeners:
            listener(state)
