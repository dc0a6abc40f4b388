"""Who was told to come later is refused again before anything of it is verified."""

from __future__ import annotations

from _support.alliance import Alliance

from server.callers import Caller
from server.refused_lately import MAX_KEPT, RefusedLately
from tlog.errors import QuotaError

CALLER, OTHER = Caller(name="host a"), Caller(name="host b")
ALLIANCE = Alliance()
ENTRIES = ALLIANCE.entries(0, 10)


class Rig:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.refused = RefusedLately(clock=lambda: self.now_s)
        self.refused.note(CALLER, ENTRIES[:5], QuotaError("member exporter: too much", retry_after_s=2.0))


def test_no_less_of_the_same_key_from_the_same_caller_is_refused_until_its_time_has_come() -> None:
    rig = Rig()
    rig.now_s = 0.5
    again = rig.refused.of(CALLER, ENTRIES[5:])
    assert again is not None
    assert again.retry_after_s == 1.5
    assert "member exporter: too much" in str(again)
    rig.now_s = 2.0
    assert rig.refused.of(CALLER, ENTRIES[5:]) is None


def test_what_the_quota_might_let_through_is_looked_at() -> None:
    rig = Rig()
    assert rig.refused.of(CALLER, ENTRIES[:4]) is None, "less"
    assert rig.refused.of(OTHER, ENTRIES[:5]) is None, "another caller, who may be its victim"
    forwarder = ALLIANCE.entry(0, member="forwarder")
    assert rig.refused.of(CALLER, [forwarder] * 5) is None, "another key"
    assert rig.refused.of(CALLER, [*ENTRIES[:5], forwarder]) is None, "other keys too"
    assert rig.refused.of(CALLER, ENTRIES[:5]) is not None


def test_a_call_under_several_keys_is_not_remembered() -> None:
    refused = RefusedLately()
    mixed = [ENTRIES[0], ALLIANCE.entry(0, member="forwarder")]
    refused.note(CALLER, mixed, QuotaError("too much", retry_after_s=100.0))
    assert refused.of(CALLER, mixed) is None


def test_strangers_fill_no_memory() -> None:
    refused = RefusedLately()
    for number in range(MAX_KEPT + 100):
        refused.note(Caller(name=f"host {number}"), ENTRIES[:1], QuotaError("much", retry_after_s=9.0))
    assert len(refused._refusals) == MAX_KEPT
