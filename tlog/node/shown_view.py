"""Does a log show this node less than it has signed? A rule over what it shows, and a clock passed in. Pure.

Withholding contradicts nothing that was signed: no evidence can come of it, only an alarm. It is raised on
the log's own answers, never on its silence, and only when one checkpoint was waited for longer than the
tolerance: a log that is always a little behind its members passes each size that they held in time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tlog.gossip.held import HeldCheckpoint
from tlog.monitor.alerts import Alert, AlertKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Says what a log showed as its newest checkpoint, beside what was known before it was asked.

    `note` is signed by the log; `held` was proven consistent with all before. A copy of the log (a cache, an
    export) `may_be_behind` what it showed before without anybody lying.
    """

    source: str
    note: bytes
    tree_size: int
    held: HeldCheckpoint
    may_be_behind: bool


@dataclass(slots=True, kw_only=True)
class ShownView:
    """Holds what one log has shown of itself to one node; times are in seconds since 1970.

    Not frozen: it is the state of the node's follower, and belongs to it.
    """

    largest_size: int = 0
    """The largest size that the log itself ever showed here."""
    awaited_size: int = 0
    awaited_since_s: float | None = None
    """Since when the log shows less than `awaited_size`, which it has signed; None while it does not."""
    stale_since_s: float | None = None
    """While the alarm is raised: since when; None otherwise."""

    def saw(self, shown: Shown, tolerance_s: float, now_s: float) -> Iterator[Alert]:
        """Take note of one answer of the log; yield what began and what is over with it.

        Requires tolerance_s >= 0; 0 turns the alarm of the stale view off, not that of the rollback.
        """
        if shown.tree_size < self.largest_size and not shown.may_be_behind:
            yield _rollback(shown, self.largest_size)
        self.largest_size = max(self.largest_size, shown.tree_size)
        caught_up = self._caught_up(shown, tolerance_s, now_s)
        if self.stale_since_s is not None and (caught_up or tolerance_s == 0):
            yield _over(shown, self.stale_since_s, now_s)
            self.stale_since_s = None
        since_s = self.awaited_since_s
        if since_s is not None and self.stale_since_s is None and 0 < tolerance_s < now_s - since_s:
            self.stale_since_s = since_s
            yield _stale(shown, since_s, now_s)

    def _caught_up(self, shown: Shown, tolerance_s: float, now_s: float) -> bool:
        """Begin, go on or end to wait; returns whether the log shows now what it had to show in time."""
        in_time = False
        if self.awaited_since_s is not None:
            # A clock that was set back must not make the log look prompt for as long as it was ahead.
            self.awaited_since_s = min(self.awaited_since_s, now_s)
            if shown.tree_size >= self.awaited_size:
                in_time = now_s - self.awaited_since_s <= tolerance_s
                self.awaited_since_s = None
        if shown.tree_size >= shown.held.tree_size:
            return True
        if self.awaited_since_s is None:
            self.awaited_size, self.awaited_since_s = shown.held.tree_size, now_s
        return in_time


def _stale(shown: Shown, since_s: float, now_s: float) -> Alert:
    return Alert(
        kind=AlertKind.STALE_VIEW,
        subject=_subject(shown, since_s),
        message=f"for {now_s - since_s:,.0f} s {shown.source} has shown less of {shown.held.origin} than the "
        f"log has signed: size {shown.tree_size} now, while {shown.held.tree_size} is held from elsewhere",
        facts={**_facts(shown), "held_size": shown.held.tree_size, "since_s": int(since_s)},
    )


def _over(shown: Shown, since_s: float, now_s: float) -> Alert:
    return Alert(
        kind=AlertKind.STALE_VIEW,
        subject=_subject(shown, since_s),
        message=f"{shown.source} shows size {shown.tree_size} of {shown.held.origin}: over after "
        f"{now_s - since_s:,.0f} s",
        facts={"origin": shown.held.origin, "tree_size": shown.tree_size, "since_s": int(since_s)},
        resolved=True,
    )


def _rollback(shown: Shown, before: int) -> Alert:
    return Alert(
        kind=AlertKind.ROLLBACK,
        subject=f"{shown.held.origin}: size {shown.tree_size} after {before}",
        message=f"{shown.source} shows size {shown.tree_size} of {shown.held.origin} as the newest, and "
        f"showed {before} before",
        facts={**_facts(shown), "seen_before": before},
    )


def _subject(shown: Shown, since_s: float) -> str:
    return f"{shown.held.origin} (since {since_s:.0f})"


def _facts(shown: Shown) -> dict[str, str | int]:
    return {
        "origin": shown.held.origin,
        "source": shown.source,
        "tree_size": shown.tree_size,
        "checkpoint": shown.note.decode(),
        "checkpoint_held": shown.held.note.decode(),
    }
