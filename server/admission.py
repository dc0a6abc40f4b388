"""How much anybody may bring: token buckets and what is outstanding. Pure: time is an argument.

A bucket fills with `rate_per_s` up to `burst`. What is larger than the burst passes when the bucket is full,
and leaves a debt behind, so that no limit makes a call impossible. Who is refused has taken nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from tlog.errors import QuotaError

MIN_RETRY_S = 0.05
EVENTS_PER_S = "events_per_s"
BYTES_PER_S = "bytes_per_s"
OUTSTANDING_EVENTS = "outstanding_events"


class TokenBucket:
    """Holds what may be taken now; `now_s` never goes back from one call to the next."""

    __slots__ = ("_burst", "_filled_s", "_level", "_rate_per_s")

    def __init__(self, *, rate_per_s: float, burst: float, now_s: float) -> None:
        """Begin full. Requires rate_per_s > 0 and burst > 0."""
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._level = burst
        self._filled_s = now_s

    def wait_s(self, amount: float, now_s: float) -> float:
        """Return how long it takes until `amount` may be taken; 0.0 for now. Changes nothing."""
        # A level above the burst need not be cut down to it: nothing is missing either way.
        level = self._level + (now_s - self._filled_s) * self._rate_per_s
        missing = (amount if amount < self._burst else self._burst) - level
        return missing / self._rate_per_s if missing > 0.0 else 0.0

    def take(self, amount: float, now_s: float) -> None:
        """Take `amount`, also where that leaves a debt."""
        self._level = self._level_at(now_s) - amount
        self._filled_s = now_s

    def give_back(self, amount: float) -> None:
        """Give back what was taken, and was not used."""
        self._level = min(self._burst, self._level + amount)

    def is_full(self, now_s: float) -> bool:
        """Return whether nothing is remembered here that a new bucket would not know."""
        return self._level_at(now_s) >= self._burst

    def left(self, now_s: float) -> float:
        """Return which part of the burst may be taken now; below 0.0 is a debt. Changes nothing."""
        return self._level_at(max(now_s, self._filled_s)) / self._burst

    def set_limits(self, *, rate_per_s: float, burst: float, now_s: float) -> None:
        """Go on with other limits from now on."""
        self._level = min(burst, self._level_at(now_s))
        self._filled_s = now_s
        self._rate_per_s, self._burst = rate_per_s, burst

    def _level_at(self, now_s: float) -> float:
        level = self._level + (now_s - self._filled_s) * self._rate_per_s
        return level if level < self._burst else self._burst  # not by min(): each call asks ten times


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Says how much one of them may bring; all above 0."""

    events_per_s: float
    bytes_per_s: float
    burst_events: float
    outstanding_events: int

    @property
    def burst_bytes(self) -> float:
        """Return how many bytes may come at once: as many seconds' worth as of events."""
        return self.bytes_per_s * self.burst_events / self.events_per_s


class Account:
    """Holds what one member, or one caller, has brought lately."""

    __slots__ = ("_bytes", "_events", "_limits", "_outstanding", "_whose")

    def __init__(self, whose: str, limits: Limits, now_s: float) -> None:
        """Begin with everything allowed; `whose` is what messages call it."""
        self._whose = whose
        self._limits = limits
        self._events = TokenBucket(rate_per_s=limits.events_per_s, burst=limits.burst_events, now_s=now_s)
        self._bytes = TokenBucket(rate_per_s=limits.bytes_per_s, burst=limits.burst_bytes, now_s=now_s)
        self._outstanding = 0

    @property
    def outstanding(self) -> int:
        """Return how many events are outstanding."""
        return self._outstanding

    def adopt(self, limits: Limits, now_s: float) -> None:
        """Go on under other limits, where they are others."""
        if limits is self._limits or limits == self._limits:  # the first, because it is nearly always so
            return
        self._limits = limits
        self._events.set_limits(rate_per_s=limits.events_per_s, burst=limits.burst_events, now_s=now_s)
        self._bytes.set_limits(rate_per_s=limits.bytes_per_s, burst=limits.burst_bytes, now_s=now_s)

    def require(self, events: int, size_bytes: int, now_s: float) -> None:
        """Require that so much may come now. Raises QuotaError, which names the limit and when to retry."""
        limits = self._limits
        if self._outstanding and self._outstanding + events > limits.outstanding_events:
            raise QuotaError(
                f"{self._whose} has {self._outstanding} events outstanding, and may have "
                f"{limits.outstanding_events}: send the call again when those are answered",
                retry_after_s=MIN_RETRY_S,
                limit=OUTSTANDING_EVENTS,
            )
        if (wait_s := self._events.wait_s(events, now_s)) > 0.0:
            raise self._too_much(EVENTS_PER_S, f"{limits.events_per_s:g} events/s", wait_s)
        if (wait_s := self._bytes.wait_s(size_bytes, now_s)) > 0.0:
            raise self._too_much(BYTES_PER_S, f"{limits.bytes_per_s:g} bytes/s", wait_s)

    def take(self, events: int, size_bytes: int, now_s: float) -> None:
        """Take so much, and count it as outstanding."""
        self._events.take(events, now_s)
        self._bytes.take(size_bytes, now_s)
        self._outstanding += events

    def settle(self, events: int, *, unused_events: int = 0, unused_bytes: int = 0) -> None:
        """Count so much as outstanding no more, and give back what of it came to nothing."""
        self._outstanding -= events
        if unused_events or unused_bytes:
            self._events.give_back(unused_events)
            self._bytes.give_back(unused_bytes)

    def is_idle(self, now_s: float) -> bool:
        """Return whether a new account would be the same."""
        return not self._outstanding and self._events.is_full(now_s) and self._bytes.is_full(now_s)

    def left(self, now_s: float) -> dict[str, float]:
        """Return which part of each limit is left, 1.0 for all; below 0.0 is a debt. Changes nothing."""
        return {
            EVENTS_PER_S: self._events.left(now_s),
            BYTES_PER_S: self._bytes.left(now_s),
            OUTSTANDING_EVENTS: 1.0 - self._outstanding / self._limits.outstanding_events,
        }

    def _too_much(self, limit: str, says: str, wait_s: float) -> QuotaError:
        return QuotaError(
            f"{self._whose} has brought more than its {says}: send the call again in {wait_s:.2f} s",
            retry_after_s=max(MIN_RETRY_S, wait_s),
            limit=limit,
        )


class Accounts:
    """Holds the accounts of all who came lately; idle ones are forgotten: strangers fill no memory."""

    def __init__(self, *, max_kept: int = 4_096) -> None:
        """Look for idle accounts beyond `max_kept`; those that are not idle are kept all the same."""
        self._max_kept = max_kept
        self._accounts: OrderedDict[str, Account] = OrderedDict()

    def of(self, name: str, limits: Limits, now_s: float) -> Account:
        """Return the account of that name, under these limits."""
        account = self._accounts.get(name)
        if account is None:
            account = self._accounts[name] = Account(name, limits, now_s)
            self._forget_idle(now_s)
        else:
            account.adopt(limits, now_s)
            self._accounts.move_to_end(name)
        return account

    def left(self, now_s: float) -> dict[str, dict[str, float]]:
        """Return what each of them has left, as `Account.left` says it; in any thread."""
        return {name: account.left(now_s) for name, account in list(self._accounts.items())}

    def __len__(self) -> int:
        """Return how many are kept."""
        return len(self._accounts)

    def _forget_idle(self, now_s: float) -> None:
        # Two for each new one: those that came longest ago are looked at first.
        for _ in range(2):
            if len(self._accounts) <= self._max_kept:
                return
            name, account = next(iter(self._accounts.items()))
            if account.is_idle(now_s):
                del self._accounts[name]
            else:
                self._accounts.move_to_end(name)
