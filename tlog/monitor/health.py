"""Is the log alive, and do we keep up? Conditions that begin and end, by a clock that is passed in. Pure.

Freshness: where the policy has a quorum, a checkpoint is as old as the newest time at which the quorum's
cosignatures were all there. Without a quorum nothing in a checkpoint shows its age, so that any valid answer
of the source counts as fresh when it comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tlog.encoding import shown
from tlog.freshness import cosignature_times_s
from tlog.monitor.alerts import Alert, AlertKind
from tlog.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Says after how many seconds a condition is worth an alert; 0 turns it off."""

    silence_s: float = 900.0
    lag_s: float = 600.0
    witness_s: float = 3_600.0
    source_s: float = 60.0


@dataclass(slots=True, kw_only=True)
class Health:
    """Holds when good things were last seen, in seconds since 1970, and which conditions are open.

    It is written to a file and read again, so that silence counts across restarts. Not frozen: it is the
    state of one monitor, and belongs to its thread.
    """

    started_s: float
    fresh_s: float = 0.0
    answered_s: float = 0.0
    seen_size: int = 0
    behind_since_s: float | None = None
    witnesses: dict[str, float] = field(default_factory=dict)
    open: dict[str, float] = field(default_factory=dict)
    source_problem: str = ""

    def saw_checkpoint(
        self, tree_size: int, fresh_s: float | None, cosigned: Mapping[str, int], now_s: float
    ) -> None:
        """Take note of a checkpoint that meets the policy; `fresh_s` is None where nothing shows its age."""
        self.answered_s = now_s
        self.source_problem = ""
        self.seen_size = max(self.seen_size, tree_size)
        # A witness whose clock runs ahead must not keep silence from being noticed.
        self.fresh_s = max(self.fresh_s, now_s if fresh_s is None else min(fresh_s, now_s))
        for name, timestamp_s in cosigned.items():
            self.witnesses[name] = max(self.witnesses.get(name, 0.0), min(timestamp_s, now_s))

    def saw_position(self, position: int, now_s: float) -> None:
        """Take note of how many entries are checked."""
        if position >= self.seen_size:
            self.behind_since_s = None
        elif self.behind_since_s is None:
            self.behind_since_s = now_s

    def saw_failure(self, problem: str) -> None:
        """Take note of a source that could not be read."""
        self.source_problem = problem

    def believe_no_future(self, now_s: float) -> None:
        """Move what a clock that ran ahead has noted to now, so that nothing stays hidden until then."""
        self.started_s = min(self.started_s, now_s)
        self.fresh_s = min(self.fresh_s, now_s)
        self.answered_s = min(self.answered_s, now_s)
        if self.behind_since_s is not None:
            self.behind_since_s = min(self.behind_since_s, now_s)
        for times in (self.witnesses, self.open):
            times.update({name: now_s for name, time_s in times.items() if time_s > now_s})

    def changes(
        self, limits: Limits, witness_names: Sequence[str], position: int, now_s: float
    ) -> Iterator[Alert]:
        """Yield an alert for each condition that has begun since the last call, and for each that is over."""
        self.believe_no_future(now_s)
        conditions = dict(self._conditions(limits, witness_names, position, now_s))
        for name, alert in conditions.items():
            if name not in self.open:
                self.open[name] = now_s
                yield _episode(alert, self.open[name])
        for name in [name for name in self.open if name not in conditions]:
            kind, _, subject = name.partition("\0")
            began_s = self.open.pop(name)
            yield _episode(
                Alert(
                    kind=AlertKind(kind),
                    subject=subject,
                    message=f"{subject}: over after {now_s - began_s:,.0f} s",
                    resolved=True,
                ),
                began_s,
            )

    def _conditions(
        self, limits: Limits, witness_names: Sequence[str], position: int, now_s: float
    ) -> Iterator[tuple[str, Alert]]:
        def late(since_s: float, limit_s: float) -> bool:
            return limit_s > 0 and now_s - max(since_s, self.started_s) > limit_s

        def found(kind: AlertKind, subject: str, message: str) -> tuple[str, Alert]:
            return f"{kind}\0{subject}", Alert(kind=kind, subject=subject, message=message)

        if late(self.fresh_s, limits.silence_s):
            yield found(
                AlertKind.SILENCE,
                "no fresh checkpoint",
                f"the newest checkpoint that meets the policy is {_age(self.fresh_s, now_s)}: more than "
                f"{limits.silence_s:g} s",
            )
        if self.behind_since_s is not None and late(self.behind_since_s, limits.lag_s):
            yield found(
                AlertKind.LAG,
                "entries wait to be checked",
                f"{self.seen_size - position:,} of {self.seen_size:,} entries are not checked, and some have "
                f"waited for {now_s - self.behind_since_s:,.0f} s",
            )
        for name in witness_names:
            last_s = self.witnesses.get(name, 0.0)
            if late(last_s, limits.witness_s):
                yield found(
                    AlertKind.WITNESS_STOPPED,
                    f"witness {name}",
                    f"the newest cosignature of witness {name} is {_age(last_s, now_s)}",
                )
        if self.source_problem and late(self.answered_s, limits.source_s):
            yield found(
                AlertKind.SOURCE_FAILING,
                "the source cannot be read",
                f"nothing could be read for {now_s - max(self.answered_s, self.started_s):,.0f} s: "
                f"{self.source_problem}",
            )


def cosignature_times(note: bytes, policy: Policy) -> dict[str, int]:
    """Read when each witness of the policy cosigned a note that `open_checkpoint` accepted, in seconds."""
    return {shown_name(name): time_s for name, time_s in cosignature_times_s(note, policy).items()}


def shown_name(name: bytes) -> str:
    """Return a witness's name in the policy, as text."""
    return shown(name.decode("ascii", "backslashreplace"))


def _age(then_s: float, now_s: float) -> str:
    return f"{now_s - then_s:,.0f} s old" if then_s else "still to come"


def _episode(alert: Alert, began_s: float) -> Alert:
    """Tell this time from the last time that the same thing happened."""
    return Alert(
        kind=alert.kind,
        subject=f"{alert.subject} (since {began_s:.0f})",
        message=alert.message,
        facts={"since_s": int(began_s)},
        resolved=alert.resolved,
    )
