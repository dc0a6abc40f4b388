"""What gossip finds becomes an alert of the right kind, told once, with what backs it."""

from __future__ import annotations

import pytest
from _support.two_histories import ORIGIN, TwoHistories

from tlog.gossip.judgement import Judgement, Outcome
from tlog.gossip.message import OfferedCheckpoint
from tlog.gossip.pool import Pool
from tlog.gossip.state import MemoryState, NoTrees
from tlog.monitor.alerts import AlertKind
from tlog.node.alarms import alert_of


@pytest.fixture
def log() -> TwoHistories:
    log = TwoHistories(12)
    log.fork("other", 5, 12)
    return log


def test_a_contradiction_is_a_split_view_with_its_evidence_whoever_made_it(log: TwoHistories) -> None:
    pools = [Pool(log.policy, MemoryState(), NoTrees()) for _ in range(2)]
    pools[0].judge(log.offer("main", 12), 0.0)
    made = pools[0].judge(OfferedCheckpoint(note=log.note("other", 12)), 0.0)
    taken = pools[1].convictions.take(made.evidence)
    alerts = [alert_of("", made), alert_of("peer:1", taken)]
    for alert in alerts:
        assert alert.kind is AlertKind.SPLIT_VIEW
        assert alert.evidence == made.evidence
        assert log.signer.vkey in alert.message
    assert alerts[0].id == alerts[1].id


def test_what_nobody_proves_is_told_with_both_notes_and_is_over_when_proven(
    log: TwoHistories,
) -> None:
    pool = Pool(log.policy, MemoryState(), NoTrees(), patience_s=0.0)
    pool.judge(log.offer("main", 8), 0.0)
    alert = alert_of("peer:1", pool.judge(log.offer("main", 11), 0.0))
    assert alert.kind is AlertKind.CONSISTENCY_UNPROVEN
    assert alert.facts["checkpoint_held"] == log.note("main", 8).decode()
    assert alert.facts["checkpoint"] == log.note("main", 11).decode()
    # Again from somebody else: the same alert.
    assert alert_of("peer:2", pool.judge(log.offer("main", 11), 1.0)).id == alert.id
    over = alert_of("peer:3", pool.judge(log.offer("main", 11, start=8), 2.0))
    assert (over.kind, over.subject, over.resolved) == (alert.kind, alert.subject, True)


@pytest.mark.parametrize("outcome", sorted(set(Outcome) - {
    Outcome.UNPROVEN, Outcome.CLEARED, Outcome.SPLIT_VIEW, Outcome.CONVICTED,
}))  # fmt: skip
def test_nothing_else_is_an_alert(outcome: Outcome) -> None:
    assert alert_of("peer:1", Judgement(outcome=outcome, origin=ORIGIN, tree_size=3)) is None
