"""What a node remembers is on the disk before it is told, and comes back as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from _support.two_histories import ORIGIN, TwoHistories

from tlog.errors import CorruptionError, StorageError
from tlog.evidence import make_same_size, parse_evidence, verify_evidence
from tlog.evidence_store import EvidenceStore
from tlog.gossip.judgement import Outcome
from tlog.gossip.pool import Pool
from tlog.gossip.state import NoTrees, StoredView
from tlog.gossip.state_directory import StateDirectory

LOG = TwoHistories(12)
LOG.fork("other", 5, 12)


def test_views_come_back_as_they_were_saved(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path, LOG.policy)
    assert state.load(ORIGIN) == StoredView()
    for view in (
        StoredView(newest=b"one"),
        StoredView(newest=b"two", unproven=(b"a", b"b", b"c")),
        StoredView(newest=b"two", unproven=(b"c",)),
        StoredView(newest=b"three"),
    ):
        state.save(ORIGIN, view)
        assert StateDirectory(tmp_path, LOG.policy).load(ORIGIN) == view
    assert state.load("another/log + origin") == StoredView()


def test_evidence_comes_back_also_what_another_process_put_there(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path, LOG.policy)
    pool = Pool(LOG.policy, state, NoTrees())
    assert pool.convictions.refresh() == []
    EvidenceStore(state.evidence_directory, LOG.policy).add(
        make_same_size(LOG.note("main", 12), LOG.note("other", 12))
    )
    (judgement,) = pool.convictions.refresh()
    assert judgement.outcome is Outcome.CONVICTED
    assert pool.convictions.is_refused(ORIGIN)
    assert pool.convictions.refresh() == []
    assert StateDirectory(tmp_path, LOG.policy).evidence() == [judgement.evidence]


def test_half_a_file_that_a_crash_left_is_no_part_of_the_state(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path, LOG.policy)
    state.save(ORIGIN, StoredView(newest=b"one", unproven=(b"a",)))
    (directory,) = (tmp_path / "logs").iterdir()
    (directory / "newest.tmp").write_bytes(b"tw")
    (directory / "unproven-1.tmp").write_bytes(b"x")
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / ".same-size-00.evidence.1.tmp").write_bytes(b"x")
    assert state.load(ORIGIN) == StoredView(newest=b"one", unproven=(b"a",))
    assert state.evidence() == []


def test_a_convicted_log_is_refused_by_the_next_process(tmp_path: Path) -> None:
    log = LOG
    pool = Pool(log.policy, StateDirectory(tmp_path, LOG.policy), NoTrees())
    pool.judge(log.offer("main", 12), 0.0)
    assert pool.judge(log.offer("other", 12), 0.0).outcome is Outcome.SPLIT_VIEW
    again = Pool(log.policy, StateDirectory(tmp_path, LOG.policy), NoTrees())
    assert again.convictions.is_refused(ORIGIN)
    assert again.newest(ORIGIN) == log.held("main", 12)
    (file,) = StateDirectory(tmp_path, LOG.policy).evidence_directory.iterdir()
    verdict = verify_evidence(parse_evidence(file.read_bytes()), log.policy)
    assert [key.vkey for key in verdict.convicted] == [log.signer.vkey]


def test_a_disk_that_cannot_be_written_is_an_error_and_nothing_moves(tmp_path: Path) -> None:
    log = LOG
    pool = Pool(log.policy, StateDirectory(tmp_path, LOG.policy), NoTrees())
    pool.judge(log.offer("main", 8), 0.0)
    (directory,) = (tmp_path / "logs").iterdir()
    # A directory in the place of the temporary file fails for every user, root as well.
    (directory / "newest.tmp").mkdir()
    with pytest.raises(StorageError):
        pool.judge(log.offer("main", 12, 8), 0.0)
    assert pool.newest(ORIGIN).tree_size == 8


def test_a_file_that_is_too_long_for_a_checkpoint_is_not_read_whole(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path, LOG.policy)
    state.save(ORIGIN, StoredView(newest=b"one"))
    (directory,) = (tmp_path / "logs").iterdir()
    (directory / "newest").write_bytes(b"x" * 200_000)
    with pytest.raises(CorruptionError):
        state.load(ORIGIN)
