"""How often somebody may call: a token bucket for each caller, in a table that cannot grow. Pure.

The table forgets whoever has not called for longest. A caller who comes under ever new names therefore gets
one bucket of calls for each; what bounds him is the number of calls that a server takes at once.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at_s: float
    blocked_until_s: float = float("-inf")


class CallLimits:
    """Grants calls to callers: `burst` at once, and `per_s` a second in the long run."""

    def __init__(self, *, per_s: float, burst: int, most_callers: int = 1_024) -> None:
        """Start with full buckets. Requires per_s > 0, burst >= 1 and most_callers >= 1."""
        assert per_s > 0
        assert burst >= 1
        assert most_callers >= 1
        self._per_s = per_s
        self._burst = burst
        self._most_callers = most_callers
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        """Return how many callers are remembered."""
        return len(self._buckets)

    def wait_s(self, caller: str, now_s: float) -> float:
        """Take one call: 0.0 when it may go ahead, else how many seconds the caller should wait."""
        bucket = self._bucket(caller, now_s)
        if bucket.blocked_until_s > now_s:
            return bucket.blocked_until_s - now_s
        elapsed_s = max(0.0, now_s - bucket.filled_at_s)
        bucket.tokens = min(float(self._burst), bucket.tokens + elapsed_s * self._per_s)
        bucket.filled_at_s = now_s
        if bucket.tokens < 1.0:
            return (1.0 - bucket.tokens) / self._per_s
        bucket.tokens -= 1.0
        return 0.0

    def charge(self, caller: str, now_s: float, seconds: float) -> None:
        """Take away what a caller is granted in so many seconds, for a call that cost more than others."""
        self._bucket(caller, now_s).tokens -= seconds * self._per_s

    def block(self, caller: str, now_s: float, seconds: float) -> None:
        """Grant a caller nothing for a while."""
        self._bucket(caller, now_s).blocked_until_s = now_s + seconds

    def _bucket(self, caller: str, now_s: float) -> _Bucket:
        bucket = self._buckets.get(caller)
        if bucket is None:
            bucket = self._buckets[caller] = _Bucket(float(self._burst), now_s)
            if len(self._buckets) > self._most_callers:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(caller)
        return bucket
