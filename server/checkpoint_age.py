"""How old what is published is, as readers would reckon it."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from server.publisher import CheckpointFeed
from tlog.freshness import MAX_SKEW_S, quorum_time_s
from tlog.policy import Policy


class CheckpointAge:
    """Knows the published checkpoint's age; for any thread.

    With a quorum that is the time since all of it had cosigned, by this machine's clock. Without one it is
    the time since the feed was last given something, which the log's own cosigner does every `refresh_s`; a
    log that has neither tells nothing while nothing is appended, and has no age.
    """

    def __init__(
        self,
        feed: CheckpointFeed,
        policy: Policy | None,
        *,
        is_refreshed: bool,
        max_age_s: float,
        now_s: Callable[[], float],
    ) -> None:
        """Measure what `feed` holds; `now_s` gives seconds since 1970. `policy` is None without witnesses."""
        self._feed = feed
        self._policy = None if policy is None or policy.quorum is None else policy
        self._is_refreshed = is_refreshed
        self._max_age_s = max_age_s
        self._now_s = now_s
        self._measured: tuple[bytes, int | None] | None = None

    def age_s(self) -> float | None:
        """Return the age in seconds; None where the quorum never cosigned it, or there is nobody to."""
        if self._policy is None:
            return monotonic() - self._feed.published_at_s if self._is_refreshed else None
        time_s = self._quorum_time_s(self._policy)
        return None if time_s is None else max(0.0, self._now_s() - time_s)

    def look(self) -> str | None:
        """Say why what is published is not fresh; None where it is."""
        age_s = self.age_s()
        if age_s is None:
            if self._policy is None:
                return None
            return (
                f"the published checkpoint (size {self._feed.newest.tree_size}) does not meet the witnesses' "
                "quorum: are they up?"
            )
        if age_s <= self._max_age_s:
            return None
        whose = "last cosigned" if self._policy is None else "cosigned by the witnesses' quorum"
        return (
            f"the published checkpoint (size {self._feed.newest.tree_size}) was {whose} {age_s:.0f} s ago, "
            f"and {self._max_age_s:g} s are allowed ([health] max_checkpoint_age_s)"
        )

    def _quorum_time_s(self, policy: Policy) -> int | None:
        """Return since when the whole quorum stands behind the newest note; signatures are checked once."""
        note, measured = self._feed.newest.note, self._measured
        if measured is None or measured[0] != note:
            time_s = quorum_time_s(note, policy, not_after_s=self._now_s() + MAX_SKEW_S)
            self._measured = measured = (note, time_s)
        return measured[1]
