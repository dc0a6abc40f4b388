"""The monitor of one log: read, replay, tell. One pass after another, each from where the last one stopped.

The order of what is written is what makes a kill harmless. An alert is in the journal before the cursor moves
past the entry that it is about; the anchor is on the disk before a checkpoint is relied on; and a checkpoint
counts as covered only when its whole tree is durable. What is done twice after a kill gives the same alerts,
which are known by name, and are not raised again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from typing import Protocol

from tlog.client.trusted_log import VerifiedCheckpoint
from tlog.errors import (
    MalformedError,
    NotFoundError,
    OutOfRangeError,
    PolicyError,
    PushbackError,
    RemoteError,
    SignatureError,
    TlogError,
    VerificationError,
)
from tlog.freshness import quorum_time_s
from tlog.monitor.alert_desk import AlertDesk
from tlog.monitor.alerts import Alert, AlertKind
from tlog.monitor.cursor import Cursor
from tlog.monitor.evidence import awaits_governance, rule_evidence, with_next_governance
from tlog.monitor.health import Limits, cosignature_times, shown_name
from tlog.monitor.health_file import HealthFile
from tlog.monitor.judge import Finding, JudgedEntry
from tlog.monitor.replay import CheckedRun, GenesisError, Replay
from tlog.monitor.source import LogSource
from tlog.monitor.views import AlarmError, Views
from tlog.monitor.watches import Watch
from tlog.note import Verifier, open_note

POLL_DURING_CATCH_UP_S = 10.0
"""How often, in seconds, the newest checkpoint is looked at, and conditions that begin by time, while many
entries are still to be checked."""


MOST_RULE_EVIDENCE = 100
"""For how many broken rules evidence is made: it costs time, and one piece convicts as much as many."""


class Progress(Protocol):
    """Is told how far the work is."""

    def advance(self, count: int = 1) -> None:
        """Take note of `count` more entries that are checked."""
        ...


ShowProgress = Callable[[int], AbstractContextManager[Progress]]
"""Shows the progress of so many entries while its block runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """Says what one pass came to; `problem` is why it ended early, None when the log is checked whole.

    `is_unreachable` tells a source that could not be read from one that showed what cannot be right.
    """

    checked: int
    position: int
    seen_size: int
    problem: str | None
    is_unreachable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Holds what one monitor is to do; `poll_s` is the time between two passes."""

    genesis_leaf_hash: bytes | None = None
    limits: Limits = field(default_factory=Limits)
    watches: Sequence[Watch] = ()
    poll_s: float = 5.0


class Monitor:
    """Checks one log and raises alerts. Belongs to one thread; `clock` gives seconds since 1970."""

    def __init__(
        self,
        *,
        source: LogSource,
        cursor: Cursor,
        views: Views,
        desk: AlertDesk,
        health_file: HealthFile,
        threads: Executor,
        clock: Callable[[], float],
        settings: Settings,
    ) -> None:
        """Put a monitor together; whoever made the parts closes them."""
        self._source = source
        self._cursor = cursor
        self._views = views
        self._desk = desk
        self._health_file = health_file
        self._clock = clock
        self._settings = settings
        self._witness_names = [shown_name(witness.name) for witness in views.policy.witnesses]
        self._replay = Replay(cursor, genesis_leaf_hash=settings.genesis_leaf_hash, threads=threads)
        self.health = health_file.load(clock())
        self._last_poll_s = 0.0
        self._last_settled_s = clock()
        self._awaiting = [
            alert_id
            for alert_id, evidence in desk.book.evidence_of(AlertKind.RULE_BROKEN)
            if awaits_governance(evidence)
        ]

    def follow(self, stop: threading.Event, show: ShowProgress, told: Callable[[Pass], None]) -> None:
        """Run passes until `stop` is set; `told` hears of each.

        Raises StorageError when our own files fail.
        """
        while not stop.is_set():
            told(self.run_pass(show, stop))
            stop.wait(self._settings.poll_s)

    def run_pass(self, show: ShowProgress, stop: threading.Event | None = None) -> Pass:
        """Look at the newest checkpoint, and check everything up to it, or until `stop` is set.

        Whatever the source does becomes an alert or a problem, never an exception. Raises StorageError when
        our own files fail.
        """
        start = self._cursor.position
        problem: str | None = None
        is_unreachable = False
        try:
            seen = self._poll()
            self._catch_up(seen, show, stop or threading.Event())
        except AlarmError as alarm:
            problem = str(alarm)
            self._desk.tell(alarm.alert)
        except (RemoteError, PushbackError, NotFoundError) as error:
            problem, is_unreachable = str(error), True
            self.health.saw_failure(problem)
        except (VerificationError, OutOfRangeError, MalformedError) as error:
            problem = str(error)
            self._desk.tell(self._mismatch(error))
        self._settle()
        return Pass(
            checked=self._cursor.position - start,
            position=self._cursor.position,
            seen_size=self.health.seen_size,
            problem=problem,
            is_unreachable=is_unreachable,
        )

    def _poll(self) -> VerifiedCheckpoint:
        self._last_poll_s = self._clock()
        return self._see(self._source.checkpoint())

    def _see(self, note: bytes) -> VerifiedCheckpoint:
        """Accept a checkpoint, and take note of its age and its witnesses. Raises AlarmError."""
        before = self._views.anchor
        seen = self._views.see(note, self._source)
        policy = self._views.policy
        now_s = self._clock()
        self.health.saw_checkpoint(
            seen.tree_size, quorum_time_s(note, policy), cosignature_times(note, policy), now_s
        )
        if before is not None and seen.tree_size < before.tree_size and not self._source.may_be_stale:
            self._desk.tell(
                Alert(
                    kind=AlertKind.ROLLBACK,
                    subject=f"size {seen.tree_size} after {before.tree_size}",
                    message=f"{self._source.name} shows size {seen.tree_size} as the newest, and showed "
                    f"{before.tree_size} before; the smaller tree is a beginning of the larger one",
                    facts={
                        "tree_size": seen.tree_size,
                        "seen_before": before.tree_size,
                        "checkpoint": note.decode(),
                        "checkpoint_before": before.note.decode(),
                    },
                )
            )
        return seen

    def _catch_up(self, seen: VerifiedCheckpoint, show: ShowProgress, stop: threading.Event) -> None:
        waiting = seen.tree_size - self._cursor.position
        if waiting > 0:
            under = seen
            runs = self._source.runs(self._cursor.position, seen)
            with show(waiting) as progress, closing(runs), closing(self._replay.ahead(runs)) as ahead:
                for begun in ahead:
                    if begun.run.note != under.note:
                        under = self._see(begun.run.note)
                    checked = self._replay.check(begun, under)
                    self._report(checked)
                    progress.advance(len(checked.judged))
                    if self._replay.is_flush_due or self._is_over(self._last_settled_s):
                        self._settle()
                    if stop.is_set():
                        return
                    self._poll_meanwhile()
        if self._cursor.position == seen.tree_size:
            self._cursor.flush()
            self._cover(seen)

    def _poll_meanwhile(self) -> None:
        if self._is_over(self._last_poll_s):
            self._poll()

    def _is_over(self, last_s: float) -> bool:
        """Return whether it is time again, by a clock that may also have been set back."""
        return not 0 <= self._clock() - last_s < POLL_DURING_CATCH_UP_S

    def _cover(self, seen: VerifiedCheckpoint) -> None:
        """Keep a checkpoint whose whole tree was checked, and hold its key against the governance in it."""
        if seen.note == self._cursor.covered:
            return
        signatures = {
            (one.name, one.key_id) for one in open_note(seen.note, self._views.policy.verifiers).signatures
        }
        signed = [
            log.verifier.vkey
            for log in self._views.policy.logs
            if isinstance(log.verifier, Verifier) and (log.verifier.name, log.verifier.key_id) in signatures
        ]
        named = self._cursor.registry.log_vkeys
        if signed and self._cursor.registry.seq >= 0 and not set(signed) & set(named):
            self._desk.tell(
                Alert(
                    kind=AlertKind.LOG_KEY,
                    subject=f"{signed[0]} at seq {self._cursor.registry.seq}",
                    message=f"the checkpoint of size {seen.tree_size} is signed with {signed[0]}, and the "
                    f"governance in that tree names {', '.join(named)}",
                    facts={"tree_size": seen.tree_size, "checkpoint": seen.note.decode()},
                )
            )
        self._cursor.cover(seen.note)

    def _report(self, checked: CheckedRun) -> None:
        """Raise, durably, what is to be told of a run, before it can become durable itself."""
        for judged in checked.judged:
            if judged.is_governance:
                self._complete_evidence(checked, judged)
            if judged.finding is None:
                for watch in self._settings.watches:
                    for alert in watch.look(judged):
                        self._desk.tell(alert)
            else:
                self._desk.tell(self._broken_rule(checked, judged.finding, judged))

    def _broken_rule(self, checked: CheckedRun, finding: Finding, judged: JudgedEntry) -> Alert:
        facts: dict[str, str | int] = {
            "leaf_index": judged.leaf_index,
            "leaf_hash": judged.leaf_hash.hex(),
            "reason": finding.reason.value,
            "governance_seq": finding.governance_seq,
        }
        if finding.first_index is not None:
            facts["first_index"] = finding.first_index
        alert = Alert(
            kind=AlertKind.RULE_BROKEN,
            subject=f"entry {judged.leaf_index}: {finding.reason.value}",
            message=f"entry {judged.leaf_index} is in the log against the rules ({finding.reason.value}): "
            f"{finding.message}",
            facts=facts,
        )
        book = self._desk.book
        if book.knows(alert) or book.counts.get(alert.kind, 0) >= MOST_RULE_EVIDENCE:
            return alert
        with self._cursor.lookups() as lookups:
            evidence = rule_evidence(
                finding,
                judged,
                checked=checked,
                lookups=lookups,
                fetch=self._fetch,
                policy=self._views.policy,
            )
        if evidence is not None and awaits_governance(evidence):
            self._awaiting.append(alert.id)
        return replace(alert, evidence=evidence)

    def _complete_evidence(self, checked: CheckedRun, judged: JudgedEntry) -> None:
        """Add a governance entry to the membership proofs that lacked the next one."""
        if not self._awaiting:
            return
        awaiting, self._awaiting = set(self._awaiting), []
        for alert_id, evidence in self._desk.book.evidence_of(AlertKind.RULE_BROKEN):
            if alert_id in awaiting:
                with self._cursor.lookups() as lookups:
                    whole = with_next_governance(
                        evidence, judged, checked=checked, lookups=lookups, policy=self._views.policy
                    )
                if whole is not None:
                    self._desk.complete_evidence(alert_id, whole)

    def _fetch(self, leaf_index: int, under: VerifiedCheckpoint) -> bytes | None:
        """Read one entry again that was checked and is not kept; None where the source does not show it."""
        try:
            with closing(self._source.runs(leaf_index, under)) as runs:
                return next(iter(runs)).entries[0]
        except (TlogError, StopIteration):
            return None

    def _mismatch(self, error: TlogError) -> Alert:
        """Say what a source showed that cannot be right, and that convicts nobody: it is not signed."""
        facts: dict[str, str | int] = {"position": self._cursor.position}
        if self._views.anchor is not None:
            facts["checkpoint"] = self._views.anchor.note.decode()
        match error:
            case GenesisError():
                kind = AlertKind.OTHER_LOG
            case SignatureError() | PolicyError():
                kind = AlertKind.CHECKPOINT_REFUSED
            case _:
                kind = AlertKind.ROOT_MISMATCH
        return Alert(
            kind=kind,
            subject=f"from entry {self._cursor.position} on, up to size {self.health.seen_size}",
            message=f"{self._source.name}: {error}",
            facts=facts,
        )

    def _settle(self) -> None:
        """Make durable what was checked, and tell which conditions have begun or are over."""
        self._cursor.flush()
        now_s = self._last_settled_s = self._clock()
        self.health.saw_position(self._cursor.position, now_s)
        changes = self.health.changes(
            self._settings.limits, self._witness_names, self._cursor.position, now_s
        )
        for alert in changes:
            self._desk.tell(alert)
        self._health_file.save(self.health)
