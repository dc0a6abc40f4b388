"""What one caller may do before anything it sends was verified; charged to its certificate, else to its host.

Nothing that a call says counts here, so nobody is charged for another's name. Who calls again sooner
than it was told is answered late, and later each time, so that refusing it does not cost more than serving
the others: a refusal costs as much as any small call.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import islice
from time import monotonic

from server.admission import MIN_RETRY_S, Account, Accounts, Limits, TokenBucket
from server.call_log import CallLog
from server.callers import Caller, Callers, Context
from server.config import Config
from tlog.errors import QuotaError
from tlog.log_view import LogView

MAX_HELD = 1_024
"""Refusals that are held back at a time, of all callers."""
MAX_HELD_OF_ONE = 512
"""Refusals of one caller that are held back: as many as the transport lets a connection have streams."""
MAX_HELD_BYTES = 32 * 2**20
"""What their requests may hold of memory."""
MAX_HELD_S = 1.0
APART_S = 0.005
"""Refusals that are held back of one caller are told so far apart: else those of calls that came together
would be told together, and come again together, and be in front of everybody else's."""
MAX_LATE_S = 3.0
"""No refusal is held back longer, however many of its caller are."""
SHARE_OF_ROOM = 2
"""One caller has half of what all entries may hold while they wait ([limits] max_queued_bytes)."""
MAX_TOLD = 4_096
"""Callers of whom it is remembered until when they were told to wait."""
_GOLDEN = 0.618034
"""Multiples of it, modulo 1, spread evenly however many there are."""
BURST_S = 1.0
"""How many seconds' worth of calls may come at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """Says what a caller was told last, at `at_s`, held back by `held_s`: to come not before `until_s`.

    Its next refusal that is held back is told at `next_s` or later.
    """

    at_s: float
    until_s: float
    held_s: float
    next_s: float


class Outstanding:
    """Is what one call has charged: to the end of a block, or until `let_go` is called."""

    __slots__ = ("_account", "_bytes_of", "_caller", "_events", "_size_bytes", "is_all")

    def __init__(
        self, account: Account, bytes_of: Counter[str], caller: str, events: int, size_bytes: int
    ) -> None:
        self._account = account
        self._bytes_of = bytes_of
        self._caller = caller
        self._events = events
        self._size_bytes = size_bytes
        self.is_all = account.outstanding == events
        """Says whether the caller had nothing else outstanding when these came."""

    def let_go(self) -> None:
        """Count these entries as outstanding no more. Requires that this was not done before."""
        self._account.settle(self._events)
        left = self._bytes_of[self._caller] - self._size_bytes
        if left:
            self._bytes_of[self._caller] = left
        else:
            del self._bytes_of[self._caller]

    def __enter__(self) -> Outstanding:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()


class _Calls:
    """Charges and counts the calls of one caller: each is under way while a `with` block runs."""

    __slots__ = ("_bucket", "_calls_per_s", "_clock", "_forget", "_max_calls", "_name", "_under_way")

    def __init__(
        self,
        name: str,
        *,
        calls_per_s: float,
        max_calls: int,
        clock: Callable[[], float],
        forget: Callable[[str], object],
    ) -> None:
        """Begin without calls; `forget` is told the name when all that was charged is over."""
        self._name = name
        self._calls_per_s = calls_per_s
        self._max_calls = max_calls
        self._clock = clock
        self._forget = forget
        self._bucket = TokenBucket(rate_per_s=calls_per_s, burst=calls_per_s * BURST_S, now_s=clock())
        self._under_way = 0

    def is_idle(self, now_s: float) -> bool:
        """Return whether nothing is known here that is not so of a caller who never called."""
        return not self._under_way and self._bucket.is_full(now_s)

    def __enter__(self) -> None:
        if self._under_way >= self._max_calls:
            raise QuotaError(
                f"{self._name} has {self._under_way} calls under way, and may have no more: wait for one",
                retry_after_s=0.1,
                limit="concurrent_calls",
            )
        now_s = self._clock()
        if (wait_s := self._bucket.wait_s(1, now_s)) > 0.0:
            raise QuotaError(
                f"{self._name} has made more than its {self._calls_per_s:g} calls/s: call again in "
                f"{max(wait_s, 0.05):.2f} s",
                retry_after_s=max(wait_s, 0.05),
                limit="calls_per_s",
            )
        self._bucket.take(1, now_s)
        self._under_way += 1

    def __exit__(self, *_: object) -> None:
        self._under_way -= 1
        if not self._under_way and self.is_idle(self._clock()):
            self._forget(self._name)


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
        self._max_entry_bytes = (
            config.limits.max_queued_bytes // max(1, config.server.workers) // SHARE_OF_ROOM
        )
        self._entry_bytes: Counter[str] = Counter()
        self._calls_per_s = quotas.caller_calls_per_s
        self._max_calls = quotas.caller_concurrent_calls
        self._has_certificates = bool(config.tls.client_ca_path)
        self._clock = clock
        self._callers = Callers()
        self._accounts = Accounts()
        self._calls: dict[str, _Calls] = {}
        self._held: Counter[str] = Counter()
        self._held_bytes = 0
        self._told: dict[str, _Told] = {}
        self._refusals = 0

    @classmethod
    def for_log(
        cls, config: Config, origin: str, open_view: Callable[[], AbstractContextManager[LogView]]
    ) -> CallerGate:
        """Make the gate of a log; what it tells of calls names members as the log's entries have them."""
        return cls(config, CallLog.for_log(config.logging.calls, origin, open_view))

    def of(self, context: Context) -> Caller:
        """Say who calls."""
        if self._has_certificates:
            return self._callers.of(context)
        return self._callers.of_peer(context.peer())

    def call(self, caller: Caller) -> AbstractContextManager[None]:
        """Charge one call, of any kind, and count it while the block that this is for runs.

        Raises QuotaError when that block begins.
        """
        calls = self._calls.get(caller.name)
        if calls is None:
            self._forget_idle_callers(self._clock())
            calls = self._calls[caller.name] = _Calls(
                caller.name,
                calls_per_s=self._calls_per_s,
                max_calls=self._max_calls,
                clock=self._clock,
                forget=self._calls.pop,
            )
        return calls

    def _forget_idle_callers(self, now_s: float) -> None:
        # Two for each new one, those that came longest ago first: who calls only once is forgotten.
        for name in list(islice(self._calls, 2)):
            calls = self._calls.pop(name)
            if not calls.is_idle(now_s):
                self._calls[name] = calls

    def entries(self, caller: Caller, events: int, size_bytes: int) -> Outstanding:
        """Charge entries before they are verified; they are outstanding until what is returned lets them go.

        Raises QuotaError.
        """
        now_s = self._clock()
        account = self._accounts.of(caller.name, self._limits, now_s)
        account.require(events, size_bytes, now_s)
        held_bytes = self._entry_bytes[caller.name]
        if held_bytes and held_bytes + size_bytes > self._max_entry_bytes:
            raise QuotaError(
                f"{caller.name} has {held_bytes} bytes outstanding, and may have {self._max_entry_bytes}: "
                "send the call again when those are answered",
                retry_after_s=MIN_RETRY_S,
                limit="outstanding_bytes",
            )
        account.take(events, size_bytes, now_s)
        self._entry_bytes[caller.name] = held_bytes + size_bytes
        return Outstanding(account, self._entry_bytes, caller.name, events, size_bytes)

    async def hold_back(
        self, caller: Caller, error: QuotaError, *, took_s: float, request_bytes: int
    ) -> None:
        """Wait before a refusal is told to whoever did not wait after the last one, unless many wait.

        The call came in `took_s` ago. Each time, the caller waits twice as long as the time before.
        """
        has_room = (
            self._held.total() < MAX_HELD
            and self._held[caller.name] < MAX_HELD_OF_ONE
            and self._held_bytes + request_bytes <= MAX_HELD_BYTES
        )
        hold_s = self._hold_s(caller, error.retry_after_s, took_s, has_room)
        if not hold_s or not has_room:
            return
        self._held[caller.name] += 1
        self._held_bytes += request_bytes
        try:
            await asyncio.sleep(hold_s)
        finally:
            self._held_bytes -= request_bytes
            self._held[caller.name] -= 1
            if not self._held[caller.name]:
                del self._held[caller.name]

    def _hold_s(self, caller: Caller, retry_after_s: float, took_s: float, has_room: bool) -> float:
        """Return how long a refusal is held back, if there is room for it, and remember what is told."""
        now_s = self._clock()
        told = self._told.get(caller.name)
        held_s = hold_s = next_s = 0.0
        if told is not None and now_s < told.until_s:
            self._refusals += 1
            # Spread, or calls that were refused together would all come again together.
            spread = 1.0 + self._refusals * _GOLDEN % 1.0 / 2
            could_know = now_s - took_s >= told.at_s
            held_s = told.held_s
            if could_know:
                held_s = min(MAX_HELD_S, max(retry_after_s, 2 * held_s)) * spread
            hold_s, next_s = held_s if could_know else held_s * spread, told.next_s
            if hold_s and has_room:
                hold_s = min(MAX_LATE_S, max(hold_s, next_s - now_s))
                next_s = now_s + hold_s + APART_S
            if not could_know:
                self._told[caller.name] = replace(told, next_s=next_s)
                return hold_s
        self._told.pop(caller.name, None)
        self._told[caller.name] = _Told(
            at_s=now_s + hold_s, until_s=now_s + hold_s + retry_after_s, held_s=held_s, next_s=next_s
        )
        if len(self._told) > MAX_TOLD:
            self._told.pop(next(iter(self._told)))
        return hold_s

    def ended(self, context: Context, method: str, caller: Caller, code: str, seconds: float) -> str:
        """Tell of a call that ended; returns its request's id, or none where nobody is told of it."""
        return self._call_log.ended(context, method, caller, code, seconds)
