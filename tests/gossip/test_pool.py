"""The pool judges every signed checkpoint right, keeps nothing that is not signed, and forgets no lie."""

from __future__ import annotations

from dataclasses import replace

import pytest
from _support.signers import signer
from _support.two_histories import ORIGIN, KeptHistory, TwoHistories

from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.errors import CorruptionError, StorageError
from tlog.evidence import format_evidence, make_same_size
from tlog.gossip.conviction import judge_evidence
from tlog.gossip.followed import MAX_DOUBTS
from tlog.gossip.judgement import Outcome
from tlog.gossip.message import (
    MAX_CHECKPOINT_BYTES,
    MAX_EVIDENCE_BYTES,
    ConsistencyPath,
    GossipMessage,
    OfferedCheckpoint,
    PeerView,
    WantedPath,
    check_message,
    evidence_digest,
)
from tlog.gossip.pool import Pool
from tlog.gossip.state import MemoryState, NoTrees, StoredView
from tlog.note import add_signatures, sign_note
from tlog.policy import build_policy

PATIENCE_S = 60.0
LARGEST = 10


class Node:
    """A pool with its state and trees, to be crashed and started again."""

    def __init__(
        self, log: TwoHistories, size: int = 0, history: str = "main", *, trees: bool = True
    ) -> None:
        self.log = log
        self.state = MemoryState()
        self.trees = KeptHistory(log, history, size) if trees else NoTrees()
        self.pool = self.start()
        if size:
            assert self.judge(log.offer(history, size)).outcome in (Outcome.NEW, Outcome.KNOWN)

    def start(self) -> Pool:
        self.pool = Pool(self.log.policy, self.state, self.trees, patience_s=PATIENCE_S)
        return self.pool

    def judge(self, offered: OfferedCheckpoint, now_s: float = 0.0):
        return self.pool.judge(offered, now_s)


@pytest.fixture
def log() -> TwoHistories:
    log = TwoHistories(20)
    log.fork("other", 5, 20)
    return log


# Every pair of sizes and every place of the fork: a kept tree settles what is smaller, a path what is larger.


@pytest.mark.parametrize("fork", range(LARGEST))
def test_a_node_with_the_tree_convicts_every_contradiction_and_nothing_else(fork: int) -> None:
    log = TwoHistories(LARGEST)
    log.fork("other", fork, LARGEST)
    for held_size in range(1, LARGEST + 1):
        for size in range(LARGEST + 1):
            node = Node(log, held_size)
            start = held_size if size > held_size else 0
            judgement = node.judge(log.offer("other", size, start))
            # Two histories agree up to the fork; a checkpoint at or below it is of both.
            if min(size, held_size) <= fork:
                expected = (
                    Outcome.NEW if size > held_size else Outcome.KNOWN if size == held_size else Outcome.STALE
                )
                assert judgement.outcome is expected, (held_size, size)
                assert not node.pool.convictions.evidence
            else:
                assert judgement.outcome is Outcome.SPLIT_VIEW, (held_size, size)
                assert judge_evidence(judgement.evidence, log.policy).convicted == {log.signer.vkey}
                assert node.pool.convictions.is_refused(ORIGIN)


@pytest.mark.parametrize("fork", range(1, LARGEST, 3))
def test_a_node_without_the_tree_convicts_equal_sizes_and_doubts_the_others(fork: int) -> None:
    log = TwoHistories(LARGEST)
    log.fork("other", fork, LARGEST)
    for held_size in range(1, LARGEST + 1):
        for size in range(1, LARGEST + 1):
            outcome = Node(log, held_size, trees=False).judge(log.offer("other", size)).outcome
            if size == held_size:
                assert outcome is (Outcome.KNOWN if size <= fork else Outcome.SPLIT_VIEW)
            else:
                assert outcome is Outcome.UNSETTLED


def test_the_larger_of_two_nodes_convicts_without_being_told_any_path(log: TwoHistories) -> None:
    smaller, larger = Node(log, 8, "other"), Node(log, 12)
    message = smaller.pool.message_for(PeerView())
    assert all(not offered.path for offered in message.checkpoints)
    received = larger.pool.receive(message, 0.0)
    assert [one.outcome for one in received.judgements] == [Outcome.SPLIT_VIEW]
    answer = larger.pool.message_for(received.view)
    taken = smaller.pool.receive(answer, 0.0)
    assert [one.outcome for one in taken.judgements] == [Outcome.CONVICTED]
    assert smaller.pool.convictions.evidence == larger.pool.convictions.evidence


def test_the_anchor_judges_where_the_newest_has_run_ahead_of_the_tree(log: TwoHistories) -> None:
    node = Node(log, 10)
    assert node.judge(log.offer("main", 16, 10)).outcome is Outcome.NEW
    assert node.judge(log.offer("other", 9)).outcome is Outcome.SPLIT_VIEW


def test_what_lies_between_tree_and_newest_waits_for_the_tree_to_grow(log: TwoHistories) -> None:
    node = Node(log, 10)
    assert node.judge(log.offer("main", 16, 10)).outcome is Outcome.NEW
    assert node.judge(log.offer("main", 13)).outcome is Outcome.UNSETTLED
    node.trees.size = 16
    assert [one.outcome for one in node.pool.recheck(ORIGIN, 1.0)] == [Outcome.STALE]
    assert node.pool.wanted() == ()


# What nobody can prove.


def test_what_nobody_proves_in_time_is_an_alarm_that_convicts_nobody(log: TwoHistories) -> None:
    node = Node(log, 8, trees=False)
    assert node.judge(log.offer("other", 12), 10.0).outcome is Outcome.UNSETTLED
    assert node.pool.wanted() == (WantedPath(origin=ORIGIN, start_size=8, end_size=12),)
    assert node.pool.trusted(ORIGIN) is not None
    assert node.pool.overdue(10.0 + PATIENCE_S - 0.1) == []
    (alarm,) = node.pool.overdue(10.0 + PATIENCE_S)
    assert alarm.outcome is Outcome.UNPROVEN
    assert alarm.checkpoints == (log.note("main", 8), log.note("other", 12))
    assert node.pool.overdue(1e9) == []
    assert node.pool.trusted(ORIGIN) is None
    assert node.pool.newest(ORIGIN).note == log.note("main", 8)
    assert not node.pool.convictions.evidence
    assert not node.pool.convictions.is_refused(ORIGIN)


def test_an_alarm_outlives_a_restart_and_ends_with_the_path(log: TwoHistories) -> None:
    node = Node(log, 8, trees=False)
    node.judge(log.offer("main", 12))
    node.pool.overdue(PATIENCE_S)
    node.start()
    assert [held.tree_size for held in node.pool.unproven(ORIGIN)] == [12]
    assert node.pool.trusted(ORIGIN) is None
    (judgement,) = node.pool.settle(ORIGIN, log.path("main", 8, 12), 100.0)
    assert judgement.outcome is Outcome.CLEARED
    assert node.pool.trusted(ORIGIN).tree_size == 12
    assert node.start().trusted(ORIGIN).tree_size == 12


def test_an_alarm_becomes_evidence_when_somebody_gives_the_path(log: TwoHistories) -> None:
    node = Node(log, 8, trees=False)
    node.judge(log.offer("other", 12))
    node.pool.overdue(PATIENCE_S)
    (judgement,) = node.pool.settle(ORIGIN, log.path("other", 8, 12), 100.0)
    assert judgement.outcome is Outcome.SPLIT_VIEW
    assert node.pool.convictions.is_refused(ORIGIN)


def test_both_views_of_an_alarm_are_offered_to_peers_who_can_convict(log: TwoHistories) -> None:
    alarmed, other = Node(log, 8, trees=False), Node(log, 16)
    alarmed.judge(log.offer("other", 12))
    alarmed.pool.overdue(PATIENCE_S)
    received = other.pool.receive(alarmed.pool.message_for(PeerView()), 0.0)
    assert [one.outcome for one in received.judgements] == [Outcome.STALE, Outcome.SPLIT_VIEW]


def test_two_doubts_of_one_size_convict_without_any_path(log: TwoHistories) -> None:
    node = Node(log, 8, trees=False)
    assert node.judge(log.offer("main", 12)).outcome is Outcome.UNSETTLED
    assert node.judge(log.offer("other", 12)).outcome is Outcome.SPLIT_VIEW


@pytest.mark.parametrize("spoil", range(6))
def test_a_false_path_proves_nothing_and_convicts_nobody(log: TwoHistories, spoil: int) -> None:
    good = log.offer("main", 16, 11)
    hashes = list(good.path)
    bad = [
        [bytes(32), *hashes[1:]],
        hashes[:-1],
        [*hashes, bytes(32)],
        [*hashes[:-1], bytes(32)],
        [b"short", *hashes[1:]],
        [],
    ][spoil]
    node = Node(log, 11)
    assert node.judge(replace(good, path=tuple(bad))).outcome is Outcome.UNSETTLED
    assert not node.pool.convictions.evidence
    assert node.judge(good).outcome is Outcome.NEW
    assert node.pool.wanted() == ()


def test_a_damaged_tree_convicts_nobody(log: TwoHistories) -> None:
    class Damaged(KeptHistory):
        def path(self, origin: str, start_size: int, end_size: int) -> ConsistencyPath | None:
            path = super().path(origin, start_size, end_size)
            assert path is not None
            return replace(path, hashes=(bytes(32), *path.hashes[1:]))

    node = Node(log, 12)
    node.trees = Damaged(log, "main", 12)
    node.start()
    assert node.judge(log.offer("main", 7)).outcome is Outcome.UNSETTLED
    assert not node.pool.convictions.evidence


# What is not the log's word.


def unsigned(log: TwoHistories) -> bytes:
    return sign_note(log.note("main", 12).decode().rpartition("\n\n")[0] + "\n", [signer("someone.else", 9)])


def unknown_origin(log: TwoHistories) -> bytes:
    return TwoHistories(12, signer=signer("log.example/other", 3)).note("main", 12)


def wrong_signature(log: TwoHistories) -> bytes:
    one, two = log.note("main", 12), log.note("other", 12)
    return two.rpartition(b"\n\n")[0] + b"\n\n" + one.rpartition(b"\n\n")[2]


def other_key_same_name(log: TwoHistories) -> bytes:
    return TwoHistories(12, signer=signer(ORIGIN, 77)).note("main", 12)


def false_cosignature(log: TwoHistories) -> bytes:
    note, text = log.note("main", 12), log.note("other", 12).decode().rpartition("\n\n")[0] + "\n"
    return add_signatures(note, [log.witness.cosign(text, 1_700_000_000)])


@pytest.mark.parametrize(
    ("forge", "outcome"),
    [
        (unsigned, Outcome.IGNORED),
        (unknown_origin, Outcome.IGNORED),
        (other_key_same_name, Outcome.IGNORED),
        (wrong_signature, Outcome.FORGED),
        (false_cosignature, Outcome.FORGED),
        (lambda log: log.note("main", 12)[:-1], Outcome.MALFORMED),
        (lambda log: b"", Outcome.MALFORMED),
        (lambda log: b"\xff" * 100, Outcome.MALFORMED),
        (lambda log: log.note("main", 12) + b"x" * MAX_CHECKPOINT_BYTES, Outcome.MALFORMED),
    ],
)
def test_what_the_log_did_not_sign_is_dropped_before_anything_is_kept(
    log: TwoHistories, forge, outcome
) -> None:
    node = Node(log, 8)
    before = (node.state.load(ORIGIN), node.pool.message_for(PeerView()))
    assert node.judge(OfferedCheckpoint(note=forge(log))).outcome is outcome
    assert (node.state.load(ORIGIN), node.pool.message_for(PeerView())) == before
    assert node.pool.wanted() == ()


def test_nothing_of_a_message_is_read_after_an_offence(log: TwoHistories) -> None:
    node = Node(log, 8)
    message = GossipMessage(
        checkpoints=(OfferedCheckpoint(note=wrong_signature(log)), log.offer("main", 12, 8))
    )
    received = node.pool.receive(message, 0.0)
    assert received.is_offensive
    assert len(received.judgements) == 1
    assert node.pool.newest(ORIGIN).tree_size == 8


def test_lines_that_no_known_key_signed_are_neither_kept_nor_passed_on(log: TwoHistories) -> None:
    text = log.note("main", 12).decode().rpartition("\n\n")[0] + "\n"
    stranger = sign_note(text, [signer("someone.else", 9)]).decode().splitlines()[-1]
    node = Node(log, 8)
    note = log.note("main", 12) + stranger.encode() + b"\n"
    offered = replace(log.offer("main", 12, 8), note=note)
    assert node.judge(offered).outcome is Outcome.NEW
    assert node.pool.newest(ORIGIN).note == log.note("main", 12)


def test_cosignatures_are_gathered_because_they_name_witnesses(log: TwoHistories) -> None:
    node = Node(log, 8)
    assert node.judge(OfferedCheckpoint(note=log.note("main", 8, cosigned=True))).outcome is Outcome.KNOWN
    assert node.pool.newest(ORIGIN).note == log.note("main", 8, cosigned=True)
    judgement = node.judge(OfferedCheckpoint(note=log.note("other", 8, cosigned=True)))
    assert judge_evidence(judgement.evidence, log.policy).convicted == {log.signer.vkey, log.witness.vkey}


def test_an_empty_tree_with_a_root_is_a_lie_by_itself(log: TwoHistories) -> None:
    text = format_checkpoint(Checkpoint(ORIGIN, 0, bytes(32)))
    node = Node(log, trees=False)
    judgement = node.judge(OfferedCheckpoint(note=sign_note(text, [log.signer])))
    assert judgement.outcome is Outcome.SPLIT_VIEW
    assert node.pool.convictions.is_refused(ORIGIN)


# Evidence.


def convicted_node(log: TwoHistories) -> Node:
    node = Node(log, 12)
    assert node.judge(log.offer("other", 9)).outcome is Outcome.SPLIT_VIEW
    return node


def test_a_convicted_log_is_refused_also_after_a_restart(log: TwoHistories) -> None:
    node = convicted_node(log)
    for _ in range(2):
        assert node.pool.convictions.is_refused(ORIGIN)
        assert node.pool.trusted(ORIGIN) is None
        assert node.judge(log.offer("main", 16, 12)).outcome is Outcome.REFUSED
        assert node.judge(log.offer("main", 12)).outcome is Outcome.REFUSED
        message = node.pool.message_for(PeerView())
        assert (len(message.evidence), message.checkpoints) == (1, ())
        node.start()


def test_on_a_full_disk_evidence_counts_and_is_told_and_is_kept_when_there_is_room(log: TwoHistories) -> None:
    class Full(MemoryState):
        is_full = True

        def keep_evidence(self, evidence: bytes) -> None:
            if self.is_full:
                raise StorageError("the disk is full")
            super().keep_evidence(evidence)

    node = Node(log, 12)
    node.state = Full()
    node.start()
    judgement = node.judge(log.offer("other", 9))
    assert judgement.outcome is Outcome.SPLIT_VIEW
    assert "the disk is full" in judgement.reason
    assert node.pool.convictions.is_refused(ORIGIN)
    assert len(node.pool.message_for(PeerView()).evidence) == 1
    with pytest.raises(StorageError):
        node.pool.convictions.refresh()
    assert node.state.evidence() == []
    node.state.is_full = False
    assert node.pool.convictions.refresh() == []
    assert node.start().convictions.is_refused(ORIGIN)


def test_an_alarm_that_cannot_be_remembered_is_raised_again(log: TwoHistories) -> None:
    class Full(MemoryState):
        is_full = False

        def save(self, origin: str, view: StoredView) -> None:
            if self.is_full:
                raise StorageError("the disk is full")
            super().save(origin, view)

    node = Node(log, trees=False)
    node.state = Full()
    node.start()
    node.judge(log.offer("main", 8))
    node.judge(log.offer("main", 12))
    node.state.is_full = True
    with pytest.raises(StorageError):
        node.pool.overdue(PATIENCE_S)
    node.state.is_full = False
    assert [one.outcome for one in node.pool.overdue(PATIENCE_S)] == [Outcome.UNPROVEN]


# A log whose key changed.


def two_keys(log: TwoHistories, *, cosigned: bool) -> tuple[Pool, OfferedCheckpoint]:
    """A pool that holds one history by the old key, and a checkpoint of the other one by the new key."""
    second = signer(ORIGIN, 9)
    policy = build_policy([log.signer.vkey, second.vkey], [log.witness.vkey])
    text = format_checkpoint(Checkpoint(ORIGIN, 12, log.trees["other"].root(12)))
    note = sign_note(text, [second])
    if cosigned:
        note = add_signatures(note, [log.witness.cosign(text, 1_700_000_000)])
    pool = Pool(policy, MemoryState(), KeptHistory(log, "main", 12), patience_s=PATIENCE_S)
    pool.judge(OfferedCheckpoint(note=log.note("main", 12, cosigned=cosigned)), 0.0)
    return pool, OfferedCheckpoint(note=note)


def test_two_histories_by_two_keys_of_a_log_convict_neither_key_and_neither_is_trusted(
    log: TwoHistories,
) -> None:
    pool, offered = two_keys(log, cosigned=False)
    judgement = pool.judge(offered, 0.0)
    assert (judgement.outcome, judgement.evidence) == (Outcome.UNPROVEN, None)
    assert len(judgement.checkpoints) == 2
    assert pool.trusted(ORIGIN) is None
    assert pool.convictions.convicted == frozenset()
    # Whoever holds it as well sends it again: it is no news.
    assert pool.judge(offered, 0.0).checkpoints == ()


def test_a_witness_of_two_histories_by_two_keys_is_named_once_and_the_log_not_refused(
    log: TwoHistories,
) -> None:
    pool, offered = two_keys(log, cosigned=True)
    judgement = pool.judge(offered, 0.0)
    assert judge_evidence(judgement.evidence, pool.policy).convicted == {log.witness.vkey}
    assert not pool.convictions.is_refused(ORIGIN)
    assert pool.trusted(ORIGIN) is None
    assert pool.judge(offered, 0.0).evidence is None


def test_evidence_convicts_wherever_it_comes_from_and_is_kept_once(log: TwoHistories) -> None:
    (evidence,) = convicted_node(log).pool.convictions.evidence
    fresh = Node(log, trees=False)
    assert fresh.pool.convictions.take(evidence).outcome is Outcome.CONVICTED
    assert fresh.pool.convictions.take(evidence).outcome is Outcome.KNOWN
    assert fresh.start().convictions.evidence == (evidence,)


def test_evidence_that_convicts_nobody_new_is_not_kept(log: TwoHistories) -> None:
    node = convicted_node(log)
    second = Node(log, 12)
    second.judge(log.offer("other", 10))
    (evidence,) = second.pool.convictions.evidence
    assert node.pool.convictions.take(evidence).outcome is Outcome.IGNORED
    assert len(node.pool.convictions.evidence) == 1


@pytest.mark.parametrize("evidence", [b"", b"no evidence", b"x" * (MAX_EVIDENCE_BYTES + 1)])
def test_what_is_no_evidence_is_an_offence(log: TwoHistories, evidence: bytes) -> None:
    node = Node(log, 12)
    assert node.pool.convictions.take(evidence).outcome is Outcome.MALFORMED
    assert node.state.evidence() == []


def test_evidence_about_logs_of_others_is_not_kept(log: TwoHistories) -> None:
    (evidence,) = convicted_node(log).pool.convictions.evidence
    stranger = Pool(build_policy([signer("log.example/x", 5).vkey]), MemoryState(), NoTrees())
    assert stranger.convictions.take(evidence).outcome is Outcome.IGNORED
    assert stranger.convictions.evidence == ()


def test_a_peer_hears_the_evidence_it_lacks_and_no_other(log: TwoHistories) -> None:
    node = convicted_node(log)
    (evidence,) = node.pool.convictions.evidence
    known = PeerView(evidence=frozenset({evidence_digest(evidence)}))
    assert node.pool.message_for(PeerView()).evidence == (evidence,)
    assert node.pool.message_for(known).evidence == ()
    assert node.pool.message_for(known).evidence_held == (evidence_digest(evidence),)


# What is sent, and how much is kept.


def test_a_peer_that_is_behind_gets_the_path_from_where_it_is(log: TwoHistories) -> None:
    ahead, behind = Node(log, 16), Node(log, 11)
    view = ahead.pool.receive(behind.pool.message_for(PeerView()), 0.0).view
    message = ahead.pool.message_for(view)
    received = behind.pool.receive(message, 0.0)
    assert [one.outcome for one in received.judgements] == [Outcome.NEW]
    assert behind.pool.newest(ORIGIN).tree_size == 16


def test_doubts_are_bounded_and_the_alarmed_ones_stay() -> None:
    log = TwoHistories(60)
    node = Node(log, 8, trees=False)
    node.judge(log.offer("main", 10), 0.0)
    node.pool.overdue(PATIENCE_S)
    for size in range(11, 60):
        node.judge(log.offer("main", size), PATIENCE_S)
    assert len(node.pool.wanted()) == MAX_DOUBTS
    assert WantedPath(origin=ORIGIN, start_size=8, end_size=10) in node.pool.wanted()
    node.pool.overdue(1e6)
    judgement = node.judge(log.offer("main", 60), 1e6)
    assert judgement.outcome is Outcome.UNPROVEN
    assert len(node.pool.unproven(ORIGIN)) == MAX_DOUBTS


def test_a_log_that_signs_ever_new_checkpoints_cannot_outrun_the_alarm() -> None:
    log = TwoHistories(8)
    log.fork("other", 5, 140)
    node = Node(log, 8, trees=False)
    alarms = []
    for step in range(12):
        now_s = step * PATIENCE_S / 10
        for size in range(10 + step * 10, 20 + step * 10):
            node.judge(log.offer("other", size), now_s)
        alarms += node.pool.overdue(now_s)
    assert len(alarms) == MAX_DOUBTS
    assert node.pool.trusted(ORIGIN) is None


def test_evidence_of_strangers_crowds_out_none(log: TwoHistories) -> None:
    strangers = [TwoHistories(3, signer=signer(f"log.example/{number}", 20 + number)) for number in range(8)]
    node = Node(log)
    everybody = [log.signer.vkey, *(stranger.signer.vkey for stranger in strangers)]
    teller = Pool(build_policy(everybody), MemoryState(), NoTrees())
    for lying in (*strangers, log):
        lying.fork("lie", 1, 3)
        teller.judge(lying.offer("main", 3), 0.0)
        teller.judge(lying.offer("lie", 3), 0.0)
    view = PeerView()
    for _ in range(2):
        node.pool.receive(teller.message_for(view), 0.0)
        view = teller.receive(node.pool.message_for(PeerView()), 0.0).view
    assert node.pool.convictions.is_refused(ORIGIN)


def test_state_that_does_not_verify_any_more_is_not_believed(log: TwoHistories) -> None:
    state = MemoryState()
    state.save(ORIGIN, StoredView(newest=wrong_signature(log)))
    with pytest.raises(CorruptionError):
        Pool(log.policy, state, NoTrees())


def test_first_contact_is_believed_and_remembered(log: TwoHistories) -> None:
    node = Node(log, trees=False)
    assert node.judge(log.offer("main", 7)).outcome is Outcome.NEW
    assert node.start().newest(ORIGIN).tree_size == 7


def test_evidence_that_nobody_needs_is_named_so_that_it_is_not_sent_again(log: TwoHistories) -> None:
    node, second = convicted_node(log), Node(log, 12)
    second.judge(log.offer("other", 10))
    node.pool.convictions.take(second.pool.convictions.evidence[0])
    view = second.pool.receive(node.pool.message_for(PeerView()), 0.0).view
    assert second.pool.message_for(view).evidence == ()


# Paths between nodes.


def test_a_peer_with_the_tree_gives_the_path_that_somebody_wants(log: TwoHistories) -> None:
    node, helper = Node(log, 8, trees=False), Node(log, 16)
    node.judge(log.offer("main", 12))
    asking = node.pool.message_for(PeerView())
    assert asking.wanted == (WantedPath(origin=ORIGIN, start_size=8, end_size=12),)
    view = helper.pool.receive(asking, 0.0).view
    received = node.pool.receive(helper.pool.message_for(view), 0.0)
    assert Outcome.NEW in [one.outcome for one in received.judgements]
    assert WantedPath(origin=ORIGIN, start_size=8, end_size=12) not in node.pool.wanted()
    assert node.pool.newest(ORIGIN).tree_size >= 12


def test_a_path_that_the_log_was_asked_for_and_left_out_is_an_alarm_at_once(log: TwoHistories) -> None:
    node = Node(log, 8, trees=False)
    node.judge(log.offer("main", 12))
    elsewhere = WantedPath(origin=ORIGIN, start_size=7, end_size=12)
    assert node.pool.deny(elsewhere) == []
    (alarm,) = node.pool.deny(node.pool.wanted()[0])
    assert alarm.outcome is Outcome.UNPROVEN
    assert node.pool.deny(node.pool.wanted()[0]) == []
    assert node.pool.trusted(ORIGIN) is None


def test_evidence_too_long_to_be_spread_is_not_sent_and_makes_room_for_a_shorter_one(
    log: TwoHistories,
) -> None:
    """Else it would be taken for an offence, and everything else of the message be dropped."""
    node, peer = Node(log, 12), Node(log, 12)
    long = format_evidence(make_same_size(*(long_note(log, history) for history in ("main", "other"))))
    assert len(long) > MAX_EVIDENCE_BYTES
    node.state.keep_evidence(long)  # what a monitor beside it has found
    assert [one.outcome for one in node.pool.convictions.refresh()] == [Outcome.CONVICTED]
    message = node.pool.message_for(PeerView())
    check_message(message)
    assert message.evidence == ()
    assert not peer.pool.receive(message, 0.0).is_offensive
    short = convicted_node(log).pool.message_for(PeerView())
    for told in (peer, node):
        assert Outcome.CONVICTED in {one.outcome for one in told.pool.receive(short, 0.0).judgements}
        assert told.pool.message_for(PeerView()).evidence == short.evidence
    assert peer.pool.convictions.take(long).outcome is Outcome.MALFORMED


def long_note(log: TwoHistories, history: str) -> bytes:
    checkpoint = Checkpoint(ORIGIN, 9, log.trees[history].root(9), ("x" * 900_000,))
    return sign_note(format_checkpoint(checkpoint), [log.signer])
