"""Whether this server does its work, check by check, with the reason where it does not.

Reads: calls are answered. Ready: besides, entries are taken and what is published is fresh. A check is a
function that returns None, or a sentence that says what is wrong; it looks at what is in memory, never waits,
and may be called from any thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import TypeAlias

from server.lasting_task import OnFatal, start_lasting
from tlog.errors import SignerAwayError, StorageError, StoreFullError

_LOGGER = logging.getLogger("tlog.health")

LOOK_EVERY_S = 0.5
FAILURE_COUNTS_S = 30.0
"""How long a failed commit is held against the store when none has succeeded since.

Not for ever: whoever routes by health sends nothing while it says NOT_SERVING, and then nothing can succeed.
"""

Look: TypeAlias = Callable[[], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Holds the outcome of one check; `reason` is None where nothing is wrong."""

    check: str
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Says whether calls are answered, whether entries are taken as well, and what each check found."""

    reads: bool
    ready: bool
    findings: tuple[Finding, ...]


class Health:
    """Holds the checks. `look` is for any thread."""

    def __init__(self) -> None:
        self._needed_to_read: dict[str, Look] = {"serving": lambda: self._not_serving}
        self._needed_to_write: dict[str, Look] = {}
        self._not_serving: str | None = "the server is starting"

    def needs_to_read(self, check: str, look: Look) -> None:
        """Add a check without which no call is answered."""
        self._needed_to_read[check] = look

    def needs_to_write(self, check: str, look: Look) -> None:
        """Add a check without which no entry is taken, or what is published is old."""
        self._needed_to_write[check] = look

    def serving(self) -> None:
        """Take note that calls are answered from now on."""
        self._not_serving = None

    def stopping(self) -> None:
        """Take note that the end has begun."""
        self._not_serving = "the server is stopping"

    def look(self) -> Verdict:
        """Run the checks that reading and writing need."""
        reading, writing = _look(self._needed_to_read), _look(self._needed_to_write)
        return Verdict(
            reads=_is_well(reading), ready=_is_well(reading + writing), findings=(*reading, *writing)
        )


class CommitWatch:
    """Remembers how the last commits went; the sequencer tells, anybody looks."""

    def __init__(self, *, max_commit_s: float = 30.0) -> None:
        """Hold it against the store when one commit takes longer than `max_commit_s`."""
        self._max_commit_s = max_commit_s
        self._began_at_s: float | None = None
        self._failure: tuple[float, StorageError] | None = None
        self._ended: str | None = None

    def began(self) -> None:
        """Take note that a commit is under way."""
        self._began_at_s = monotonic()

    def succeeded(self) -> None:
        """Take note that it ended well."""
        self._began_at_s = self._failure = None

    def failed(self, error: StorageError) -> None:
        """Take note that nothing was committed, and why."""
        self._began_at_s = None
        if isinstance(error, StoreFullError):
            return  # whether there is room is looked at by itself
        self._failure = (monotonic(), error)

    def signer_is_back(self) -> None:
        """Forget a failure for want of the signer: it says nothing of the next commit."""
        failure = self._failure
        if failure is not None and isinstance(failure[1], SignerAwayError):
            self._failure = None

    def ended(self, error: BaseException) -> None:
        """Take note that there will be no further commit."""
        self._ended = f"the sequencer ended: {error}"

    def look(self) -> str | None:
        """Say why entries are not taken; None where they are."""
        began_at_s, failure = self._began_at_s, self._failure
        if self._ended is not None:
            return self._ended
        if began_at_s is not None and (busy_s := monotonic() - began_at_s) > self._max_commit_s:
            return f"a commit has been under way for {busy_s:.0f} s: look at the disk"
        if failure is not None and monotonic() - failure[0] < FAILURE_COUNTS_S:
            return f"the last commit failed: {failure[1]}"
        return None


class HealthTeller:
    """Looks again and again, and tells when readiness changes; belongs to the event loop."""

    def __init__(self, health: Health, tell: Callable[[bool], Awaitable[None]], on_fatal: OnFatal) -> None:
        """Tell `tell` whether the server is ready, at the start and whenever that changes.

        `on_fatal` is told where that ends by an error: what was told last would stand for ever.
        """
        self._on_fatal = on_fatal
        self._health = health
        self._tell = tell
        self._was_ready: bool | None = None
        self._reasons: frozenset[str] = frozenset()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look and tell once, and go on doing so."""
        await self._look()
        self._task = start_lasting(self._run(), "health", self._on_fatal)

    async def stop(self) -> None:
        """End."""
        self._health.stopping()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self._look()

    async def _look(self) -> None:
        verdict = self._health.look()
        wrong = {finding.check: finding.reason for finding in verdict.findings if finding.reason is not None}
        for check in sorted(wrong.keys() - self._reasons):
            _LOGGER.warning("not ready: %s: %s", check, wrong[check])
        self._reasons = frozenset(wrong)
        if verdict.ready != self._was_ready:
            if verdict.ready and self._was_ready is not None:
                _LOGGER.info("ready again")
            self._was_ready = verdict.ready
            await self._tell(verdict.ready)


def _look(checks: dict[str, Look]) -> tuple[Finding, ...]:
    return tuple(Finding(check=check, reason=look()) for check, look in list(checks.items()))


def _is_well(findings: tuple[Finding, ...]) -> bool:
    return all(finding.reason is None for finding in findings)
