"""Who is charged for what, once signatures are verified."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from _support.alliance import Alliance, key

from server.config import QuotasSection
from server.member_gate import GOVERNANCE_LANE, STRANGERS_LANE, MemberGate
from server.sequencer import Sequenced
from tlog.errors import BatchRefusedError, QuotaError, RefusalReason, RefusedError, StorageError
from tlog.event import decode_entry, sign_entry
from tlog.governance import Quota
from tlog.log import Log
from tlog.storage.memory import MemoryStore
from tlog.validate import AdmissibleEntry, CallOutcome, VerifiedEntry, verify_entries

QUOTAS = QuotasSection(member_events_per_s=1.0, member_burst_events=10, member_outstanding_events=10)


class HeldSequencer:
    """Takes every call, and ends it when and how the test wants."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, asyncio.Future[Sequenced]]] = []
        self.lanes: list[str] = []

    def submit(self, entries: Sequence[AdmissibleEntry], *, lane: str = "") -> asyncio.Future[Sequenced]:
        future: asyncio.Future[Sequenced] = asyncio.get_running_loop().create_future()
        self.calls.append((len(entries), future))
        self.lanes.append(lane)
        return future

    async def end(self, *, present: bool = False, error: Exception | None = None) -> None:
        for count, future in self.calls:
            if error is not None:
                future.set_exception(error)
                future.exception()
            else:
                outcome = CallOutcome(
                    leaf_indices=tuple(range(count)), already_present=(present,) * count, new_range=None
                )
                future.set_result(Sequenced(outcome=outcome, checkpoint=None))  # type: ignore[arg-type]
        self.calls.clear()
        await asyncio.sleep(0)


class Rig:
    def __init__(self, alliance: Alliance, quotas: QuotasSection = QUOTAS) -> None:
        self.alliance = alliance
        store = MemoryStore(alliance.origin, alliance.signer.vkey)
        self.log = Log(store, alliance.signer)
        self.log.append(alliance.governance)
        self.now_s = 0.0
        self.sequencer = HeldSequencer()
        self.gate = MemberGate(
            self.sequencer,  # type: ignore[arg-type]
            lambda: self.log.registry,
            quotas,
            clock=lambda: self.now_s,
        )

    def verified(self, start: int, end: int, member: str = "exporter") -> list[VerifiedEntry]:
        entries = [self.alliance.entry(number, member=member) for number in range(start, end)]
        return verify_entries(entries, self.alliance.origin)


def test_a_member_that_had_its_share_is_refused_and_another_is_not() -> None:
    async def scenario() -> None:
        rig = Rig(Alliance())
        rig.gate.submit(rig.verified(0, 10))
        await rig.sequencer.end()
        with pytest.raises(QuotaError, match=r"member exporter .* 1 events/s") as refused:
            rig.gate.submit(rig.verified(10, 13))
        assert refused.value.retry_after_s == pytest.approx(3.0)
        rig.gate.submit(rig.verified(0, 10, "forwarder"))
        rig.now_s = 3.0
        rig.gate.submit(rig.verified(10, 13))

    asyncio.run(scenario())


def test_what_the_membership_says_goes_before_the_servers_defaults() -> None:
    async def scenario() -> None:
        alliance = Alliance()
        generous = Quota(events_per_s=100, bytes_per_s=10**6, burst_events=100, outstanding_events=100)
        alliance.add_member("exporter", ["exporter"], quota=generous)
        rig = Rig(alliance)
        rig.gate.submit(rig.verified(0, 90))
        assert len(rig.sequencer.calls) == 1
        stingy = Quota(events_per_s=1, bytes_per_s=10**6, burst_events=1, outstanding_events=100)
        rig.log.append([alliance.add_member("exporter", ["exporter"], quota=stingy)])
        rig.gate.submit(rig.verified(90, 91))
        with pytest.raises(QuotaError):
            rig.gate.submit(rig.verified(91, 92))

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "ended",
    [
        {"present": True},
        {"error": BatchRefusedError({0: RefusedError(RefusalReason.TYPE_NOT_ALLOWED, "no")})},
        {"error": StorageError("disk")},
    ],
    ids=["present", "refused", "failed"],
)
def test_nobody_pays_for_what_is_not_appended(ended: dict[str, object]) -> None:
    async def scenario() -> None:
        rig = Rig(Alliance())
        for _ in range(5):
            rig.gate.submit(rig.verified(0, 10))
            await rig.sequencer.end(**ended)  # type: ignore[arg-type]

    asyncio.run(scenario())


def test_nobody_is_charged_for_an_entry_that_only_names_its_source() -> None:
    async def scenario() -> None:
        rig = Rig(Alliance())
        # Signed, validly, by somebody else: the sequencer will refuse it, and the exporter pays nothing.
        forged = [rig.alliance.entry(number, signer=key("forwarder")) for number in range(30)]
        rig.gate.submit(verify_entries(forged, rig.alliance.origin))
        stranger = [rig.alliance.entry(number, signer=key("stranger")) for number in range(30)]
        rig.gate.submit(verify_entries(stranger, rig.alliance.origin))
        rig.gate.submit(rig.verified(0, 10))

    asyncio.run(scenario())


def test_what_is_outstanding_counts_until_it_is_committed() -> None:
    async def scenario() -> None:
        rig = Rig(Alliance(), QuotasSection(member_outstanding_events=10))
        rig.gate.submit(rig.verified(0, 8))
        with pytest.raises(QuotaError, match="8 events outstanding"):
            rig.gate.submit(rig.verified(8, 12))
        await rig.sequencer.end()
        rig.gate.submit(rig.verified(8, 12))

    asyncio.run(scenario())


def test_a_refused_call_has_charged_nobody() -> None:
    async def scenario() -> None:
        rig = Rig(Alliance())
        rig.gate.submit(rig.verified(0, 10))
        await rig.sequencer.end()
        both = [*rig.verified(0, 10, "forwarder"), *rig.verified(10, 12)]
        for _ in range(3):
            with pytest.raises(QuotaError, match="member exporter"):
                rig.gate.submit(both)
        rig.gate.submit(rig.verified(0, 10, "forwarder"))

    asyncio.run(scenario())


def test_governance_is_charged_to_no_member() -> None:
    async def scenario() -> None:
        alliance = Alliance()
        rig = Rig(alliance)
        entry = alliance.add_member("bank", ["exporter"])
        rig.gate.submit(verify_entries([entry], alliance.origin))
        rig.gate.submit(rig.verified(0, 10))

    asyncio.run(scenario())


def test_calls_wait_for_their_commit_in_the_lane_of_who_pays_for_them() -> None:
    async def scenario() -> None:
        rig = Rig(Alliance())
        rig.gate.submit(rig.verified(0, 3))
        rig.gate.submit(rig.verified(3, 6, "forwarder"))
        assert rig.sequencer.lanes == ["exporter", "forwarder"]
        await rig.sequencer.end()

    asyncio.run(scenario())


def test_what_strangers_sign_waits_in_a_lane_of_its_own_and_never_before_governance() -> None:
    async def scenario() -> None:
        alliance = Alliance()
        rig = Rig(alliance)
        stranger = [alliance.entry(number, signer=key("stranger")) for number in range(3)]
        rig.gate.submit(verify_entries(stranger, alliance.origin))
        change = alliance.add_member("bank", ["exporter"])
        payload = decode_entry(change).payload
        rig.gate.submit(verify_entries([sign_entry(payload, [key("stranger")])], alliance.origin))
        rig.gate.submit(verify_entries([change, *stranger], alliance.origin))
        rig.gate.submit(verify_entries([change], alliance.origin))
        assert rig.sequencer.lanes == [STRANGERS_LANE] * 3 + [GOVERNANCE_LANE]
        await rig.sequencer.end()

    asyncio.run(scenario())
