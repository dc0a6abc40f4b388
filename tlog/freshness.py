"""How old is the quorum behind a checkpoint? Pure: the clock is an argument.

A log that has nothing new still gets its newest checkpoint cosigned again and again. So a reader who asks for
a maximum age can tell "nothing new as of t" from "somebody withholds what is new from me".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tlog.cosigned import read_cosigned
from tlog.errors import ConfigError, StaleCheckpointError
from tlog.note import open_note
from tlog.policy import Policy

MAX_SKEW_S = 60
"""How far a witness's clock may be ahead of the reader's, in seconds, before its word counts for nothing."""


def cosignature_times_s(note: bytes, policy: Policy) -> dict[bytes, int]:
    """Return when each witness of a policy that cosigned a checkpoint did, by name, in seconds since 1970.

    Raises MalformedError and SignatureError as `open_note`, for the keys of the policy.
    """
    opened = open_note(note, policy.verifiers)
    return {cosigned.witness.name: cosigned.time_s for cosigned in read_cosigned(opened, policy)}


def quorum_time_s(note: bytes, policy: Policy, *, not_after_s: float | None = None) -> int | None:
    """Return the latest time, in seconds since 1970, as of which the whole quorum has cosigned a checkpoint.

    That is the largest t for which the cosignatures made at t or later meet the policy; those made after
    `not_after_s` do not count. None where the policy needs no cosignature, or the note does not meet it.
    Raises MalformedError and SignatureError as `open_note`, for the keys of the policy.
    """
    if policy.quorum is None:
        return None
    times = {
        name: time_s
        for name, time_s in cosignature_times_s(note, policy).items()
        if not_after_s is None or time_s <= not_after_s
    }
    # A group only has members from lines before it, so one pass settles all of them, however deep.
    for group in policy.groups:
        reached = sorted((times[member] for member in group.members if member in times), reverse=True)
        if len(reached) >= group.threshold:
            times[group.name] = reached[group.threshold - 1]
    return times.get(policy.quorum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """Says as of when the whole quorum had cosigned, in seconds since 1970, and how many seconds ago."""

    time_s: int
    age_s: float


class VerifiesFreshness(Protocol):
    """Verifies that a checkpoint is fresh; a FreshnessRule does."""

    def verify(self, note: bytes, policy: Policy) -> None:
        """Verify a checkpoint note. Raises StaleCheckpointError, and ConfigError for another policy."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshnessRule:
    """Asks that the quorum has cosigned at most `max_age_s` seconds ago, by the reader's own clock.

    `now_s` gives seconds since 1970. Requires max_age_s > 0, else ConfigError.
    """

    max_age_s: float
    now_s: Callable[[], float]

    def __post_init__(self) -> None:
        if not self.max_age_s > 0:
            raise ConfigError(f"the maximum age of a checkpoint is {self.max_age_s} s: it has to be above 0")

    def verify(self, note: bytes, policy: Policy) -> None:
        """Verify that a checkpoint note is fresh. Raises what `measure` raises."""
        self.measure(note, policy)

    def measure(self, note: bytes, policy: Policy) -> Freshness:
        """Return how fresh a checkpoint note is, if it is fresh enough.

        Raises StaleCheckpointError when it is too old, and ConfigError for a policy without a quorum: nobody
        then says when a checkpoint was seen.
        """
        require_quorum(policy)
        now_s = self.now_s()
        # A clock that runs ahead would make a frozen view look fresh until the world has caught up with it.
        time_s = quorum_time_s(note, policy, not_after_s=now_s + MAX_SKEW_S)
        age_s = None if time_s is None else now_s - time_s
        if time_s is None or age_s is None or age_s > self.max_age_s:
            seen = "by no quorum at all" if age_s is None else f"{age_s:.0f} s ago"
            raise StaleCheckpointError(
                f"the newest checkpoint was cosigned {seen}, and at most {self.max_age_s:g} s are allowed: "
                "the witnesses are down, or somebody withholds newer ones; ask another member what it sees"
            )
        return Freshness(time_s=time_s, age_s=age_s)


def require_quorum(policy: Policy) -> None:
    """Require that a policy can tell how old a checkpoint is. Raises ConfigError when it has no quorum."""
    if policy.quorum is None:
        raise ConfigError(
            "the policy has no quorum, so no checkpoint has an age: drop the freshness rule, or use the "
            "policy with the log's witnesses"
        )
