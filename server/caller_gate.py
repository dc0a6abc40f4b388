"""What one caller may do before anything it sends was verified; charged to its certificate, else to its host.

Nothing that a call says counts here, so nobody is charged for another's name. Who calls again sooner
than it was told is answered late, so that refusing it does not cost more than serving the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from time import monotonic

from server.admission import Accounts, Limits, TokenBucket
from server.call_log import CallLog
from server.callers import Caller, Callers, Context, host_of
from server.config import Config
from server.membership_now import MembershipNow
from tlog.errors import QuotaError
from tlog.log_view import LogView
from tlog.reading import member_of

MAX_HELD = 128
"""Refusals that are held back at a time, of all callers."""
MAX_HELD_S = 1.0
MAX_TOLD = 4_096
"""Callers of whom it is remembered until when they were told to wait."""
BURST_S = 2.0
"""How many seconds' worth of calls may come at once."""


class CallerGate:
    """Counts and charges calls; belongs to the event loop."""

    def __init__(self, config: Config, call_log: CallLog, *, clock: Callable[[], float] = monotonic) -> None:
        """Apply the table [quotas] to everybody who calls this process; `call_log` is told of each call."""
        quotas = config.quotas
        self.send_timeout_s = quotas.send_timeout_s
        self._call_log = call_log
        self._limits = Limits(
            events_per_s=quotas.caller_events_per_s,
            bytes_per_s=quotas.caller_bytes_per_s,
            burst_events=quotas.caller_burst_events,
            outstanding_events=quotas.caller_outstanding_events,
        )
        self._calls_per_s = quotas.caller_calls_per_s
        self._max_calls = quotas.caller_concurrent_calls
        self._has_certificates = bool(config.tls.client_ca_path)
        self._clock = clock
        self._callers = Callers()
        self._accounts = Accounts()
        self._calls: dict[str, tuple[TokenBucket, list[int]]] = {}
        self._held = 0
        self._told: dict[str, float] = {}

    @classmethod
    def for_log(
        cls, config: Config, origin: str, open_view: Callable[[], AbstractContextManager[LogView]]
    ) -> CallerGate:
        """Make the gate of a log; what it tells of calls names members as the log's entries have them."""
        membership = MembershipNow(origin)

        def member_id(uris: tuple[str, ...]) -> str | None:
            with open_view() as view:
                member = member_of(membership.look(view), uris)
            return None if member is None else member.id

        return cls(config, CallLog(config.logging.calls, member_id))

    def of(self, context: Context) -> Caller:
        """Say who calls."""
        if self._has_certificates:
            return self._callers.of(context)
        return Caller(name=host_of(context.peer()))

    @contextmanager
    def call(self, caller: Caller) -> Iterator[None]:
        """Charge one call, of any kind, and count it while the block runs. Raises QuotaError."""
        now_s = self._clock()
        known = self._calls.get(caller.name)
        if known is None:
            bucket = TokenBucket(rate_per_s=self._calls_per_s, burst=self._calls_per_s * BURST_S, now_s=now_s)
            known = self._calls[caller.name] = (bucket, [0])
        bucket, under_way = known
        if under_way[0] >= self._max_calls:
            raise QuotaError(
                f"{caller.name} has {under_way[0]} calls under way, and may have no more: wait for one",
                retry_after_s=0.1,
            )
        if (wait_s := bucket.wait_s(1, now_s)) > 0.0:
            raise QuotaError(
                f"{caller.name} has made more than its {self._calls_per_s:g} calls/s: call again in "
                f"{max(wait_s, 0.05):.2f} s",
                retry_after_s=max(wait_s, 0.05),
            )
        bucket.take(1, now_s)
        under_way[0] += 1
        try:
            yield
        finally:
            under_way[0] -= 1
            if not under_way[0] and bucket.is_full(self._clock()):
                del self._calls[caller.name]

    @contextmanager
    def entries(self, caller: Caller, events: int, size_bytes: int) -> Iterator[None]:
        """Charge entries before they are verified; they are outstanding while the block runs.

        Raises QuotaError.
        """
        now_s = self._clock()
        account = self._accounts.of(caller.name, self._limits, now_s)
        account.require(events, size_bytes, now_s)
        account.take(events, size_bytes, now_s)
        try:
            yield
        finally:
            account.settle(events)

    async def hold_back(self, caller: Caller, error: QuotaError) -> None:
        """Wait before a refusal is told to whoever did not wait after the last one, unless many wait."""
        now_s = self._clock()
        waited = self._told.pop(caller.name, 0.0) <= now_s
        self._told[caller.name] = now_s + error.retry_after_s
        if len(self._told) > MAX_TOLD:
            self._told.pop(next(iter(self._told)))
        if waited or self._held >= MAX_HELD:
            return
        self._held += 1
        try:
            await asyncio.sleep(min(error.retry_after_s, MAX_HELD_S))
        finally:
            self._held -= 1

    def request_id(self, context: Context) -> str:
        """Return the id of a request."""
        return self._call_log.request_id(context)

    def ended(self, request_id: str, method: str, caller: Caller, code: str, seconds: float) -> None:
        """Tell of a call that ended."""
        self._call_log.ended(request_id, method, caller, code, seconds)
