"""What a member may bring, charged when its signature is verified, in the one process that sequences.

What is charged is what is appended: for what is refused, or was there already, the member pays nothing, or
anybody could drain its quota with entries that it signed for something else.

Where not everybody may read, a conflict is told only to whose entry it is: else anybody with a key of his own
could ask whether an event with some source and id is in the log, and where.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import monotonic

from server.admission import Account, Accounts, Limits
from server.config import Config, QuotasSection
from server.sequencer import Sequenced, Sequencer
from tlog.errors import BatchRefusedError, QuotaError, RefusalReason, RefusedError
from tlog.governance import Member, is_governance
from tlog.membership import Registry
from tlog.reading import PUBLIC
from tlog.validate import AdmissibleEntry

GOVERNANCE_LANE = ""
STRANGERS_LANE = "?"
"""No member's identifier is spelled like either."""
_MEMBER = "member "
_TELLING = frozenset({RefusalReason.SOURCE_ID_CONFLICT, RefusalReason.LOG_FROZEN})
"""Refusals that depend on whether an event with that source and id is there."""


@dataclass(slots=True)
class _Charge:
    """Is what one member pays for a call."""

    account: Account
    events: int = 0
    size_bytes: int = 0
    unused_events: int = 0
    unused_bytes: int = 0


class MemberGate:
    """Stands before the sequencer; belongs to its event loop."""

    def __init__(
        self,
        sequencer: Sequencer,
        registry: Callable[[], Registry],
        quotas: QuotasSection,
        *,
        clock: Callable[[], float] = monotonic,
        reading_is_public: bool = True,
    ) -> None:
        """Charge by the membership of the moment; where it leaves a limit open, `quotas` has it."""
        self._reading_is_public = reading_is_public
        self._sequencer = sequencer
        self._registry = registry
        self._quotas = quotas
        self._clock = clock
        self._accounts = Accounts()
        self._limits_as_of = Registry.EMPTY
        self._limits: dict[str, Limits] = {}

    @classmethod
    def of(cls, config: Config, sequencer: Sequencer, registry: Callable[[], Registry]) -> MemberGate:
        """Make the gate that a configuration asks for."""
        return cls(sequencer, registry, config.quotas, reading_is_public=config.access.read == PUBLIC)

    def submit(self, entries: Sequence[AdmissibleEntry]) -> asyncio.Future[Sequenced]:
        """Queue one call as `Sequencer.submit` does. Raises QuotaError too, and has charged nobody then."""
        now_s = self._clock()
        payers, charges = self._payers(entries, now_s)
        for member_id, charge in charges.items():
            try:
                charge.account.require(charge.events, charge.size_bytes, now_s)
            except QuotaError as error:
                error.member = member_id
                raise
        # Who signs for several is in the lane of the first: it waits behind that one's calls, if any.
        lane = next(iter(charges)) if charges else self._lane(entries)
        future = self._sequencer.submit(entries, lane=lane)
        for charge in charges.values():
            charge.account.take(charge.events, charge.size_bytes, now_s)
        if charges:
            future.add_done_callback(lambda done: _settle(done, charges.values(), payers, entries))
        if self._reading_is_public or None not in payers:
            return future
        return asyncio.ensure_future(self._tell_strangers_nothing(future, entries, payers))

    def left(self) -> dict[str, dict[str, float]]:
        """Return which part of each limit every member that appended lately has left; in any thread."""
        now_s = self._clock()
        return {whose.removeprefix(_MEMBER): left for whose, left in self._accounts.left(now_s).items()}

    def _lane(self, entries: Sequence[AdmissibleEntry]) -> str:
        """Return the lane of a call that no member pays for: strangers have theirs, whatever they sign."""
        governance_keys = self._registry().governance_keys
        by_governance = all(
            is_governance(entry.event) and any(one in governance_keys for one in entry.public_keys)
            for entry in entries
        )
        return GOVERNANCE_LANE if by_governance else STRANGERS_LANE

    async def _tell_strangers_nothing(
        self,
        future: asyncio.Future[Sequenced],
        entries: Sequence[AdmissibleEntry],
        payers: Sequence[_Charge | None],
    ) -> Sequenced:
        """Refuse what would tell a stranger what is in the log as it were refused if that were not there."""
        try:
            return await asyncio.shield(future)
        except BatchRefusedError as error:
            raise BatchRefusedError(
                {
                    position: self._as_of_a_stranger(refusal, entries[position])
                    if payers[position] is None
                    else refusal
                    for position, refusal in error.refusals.items()
                }
            ) from None

    def _as_of_a_stranger(self, refusal: RefusedError, entry: AdmissibleEntry) -> RefusedError:
        if refusal.reason not in _TELLING or is_governance(entry.event):
            return refusal
        try:
            self._registry().authorise(entry.event, entry.public_keys)
        except RefusedError as unauthorised:
            return unauthorised
        return refusal

    def _payers(
        self, entries: Sequence[AdmissibleEntry], now_s: float
    ) -> tuple[list[_Charge | None], dict[str, _Charge]]:
        """Say who pays for each entry, and by member for what; nobody does for governance or strangers."""
        registry = self._registry()
        if registry is not self._limits_as_of:
            self._limits_as_of, self._limits = registry, {}
        payers: list[_Charge | None] = []
        charges: dict[str, _Charge] = {}
        for entry in entries:
            member = registry.issuer(entry.event, entry.public_keys)
            if member is None:
                payers.append(None)
                continue
            charge = charges.get(member.id)
            if charge is None:
                account = self._accounts.of(_MEMBER + member.id, self._limits_of(member), now_s)
                charge = charges[member.id] = _Charge(account)
            charge.events += 1
            charge.size_bytes += len(entry.entry)
            payers.append(charge)
        return payers, charges

    def _limits_of(self, member: Member) -> Limits:
        limits = self._limits.get(member.id)
        if limits is None:
            quota, ours = member.quota, self._quotas
            limits = self._limits[member.id] = Limits(
                events_per_s=quota.events_per_s or ours.member_events_per_s,
                bytes_per_s=quota.bytes_per_s or ours.member_bytes_per_s,
                burst_events=quota.burst_events or ours.member_burst_events,
                outstanding_events=quota.outstanding_events or ours.member_outstanding_events,
            )
        return limits


def _settle(
    done: asyncio.Future[Sequenced],
    charges: Iterable[_Charge],
    payers: Sequence[_Charge | None],
    entries: Sequence[AdmissibleEntry],
) -> None:
    failed = done.cancelled() or done.exception() is not None
    present = (True,) * len(payers) if failed else done.result().outcome.already_present
    if True in present:
        for payer, is_present, entry in zip(payers, present, entries, strict=True):
            if payer is not None and is_present:
                payer.unused_events += 1
                payer.unused_bytes += len(entry.entry)
    for charge in charges:
        charge.account.settle(
            charge.events, unused_events=charge.unused_events, unused_bytes=charge.unused_bytes
        )
