"""Same tree, newer cosignatures: what a watcher gets, and what the freshness rule makes of every answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from _support.lying_log import COSIGNED_AT_S, LyingLog
from _support.signers import cosigner

from tlog.client import LogClient, RetryPolicy
from tlog.errors import RemoteError, SplitViewError, StaleCheckpointError
from tlog.freshness import FreshnessRule, quorum_time_s
from tlog.policy import Policy, build_policy

Connect = Callable[..., LogClient]
WITNESSES = [cosigner(f"w{number}.example", 101 + number) for number in range(3)]
ENTRIES = [b"entry %d" % number for number in range(30)]


@pytest.fixture
def policy(log: LyingLog) -> Policy:
    """Two witnesses of whom one is enough; the third, who cosigns as well, is unknown to this policy."""
    log.witnesses = list(WITNESSES)
    log.add(*ENTRIES)
    return build_policy([log.signer.vkey], [witness.vkey for witness in WITNESSES[:2]], 1)


def quorum_time(checkpoint: Any, policy: Policy) -> int | None:
    return quorum_time_s(checkpoint.note, policy)


def test_a_watcher_gets_the_same_tree_again_when_it_was_cosigned_later(
    client: LogClient, log: LyingLog, policy: Policy
) -> None:
    watching = client.watch_checkpoints()
    first = next(watching)
    log.cosign_again(COSIGNED_AT_S + 60)
    second = next(watching)
    assert second.checkpoint == first.checkpoint
    assert quorum_time(second, policy) == COSIGNED_AT_S + 60
    log.add(b"more")
    assert next(watching).tree_size == 31
    assert len(log.calls_of("WatchCheckpoints")) == 1
    # The proof from the refreshed one to the larger one came with it: nothing more had to be asked.
    assert log.calls_of("GetConsistencyProof") == []


def test_a_watcher_that_connects_again_gets_what_was_cosigned_meanwhile(
    connect: Connect, log: LyingLog, policy: Policy, state_file: Path
) -> None:
    client = connect(watch_s=0.05, retry=RetryPolicy(deadline_s=2.0, first_delay_s=0.001))
    watching = client.watch_checkpoints()
    first = next(watching)
    trusted = state_file.read_bytes()
    log.cosign_again(COSIGNED_AT_S + 60)
    second = next(watching)
    assert (second.checkpoint, quorum_time(second, policy)) == (first.checkpoint, COSIGNED_AT_S + 60)
    # Trust is in the tree, and that has not moved.
    assert state_file.read_bytes() == trusted


def test_cosignatures_of_keys_that_the_policy_does_not_know_are_no_news_and_no_error(
    client: LogClient, log: LyingLog
) -> None:
    stranger = WITNESSES[2]
    watching = client.watch_checkpoints()
    next(watching)

    def keep_the_old_ones(reply: Any, request: Any) -> None:
        at_s, log.cosigned_at_s = log.cosigned_at_s, COSIGNED_AT_S
        log.witnesses.remove(stranger)
        known = log.note(30, cosigned=True)
        log.witnesses.append(stranger)
        log.cosigned_at_s = at_s
        unknown = log.note(30, cosigned=True).splitlines(keepends=True)
        reply.checkpoint = known + next(line for line in unknown if stranger.name.encode() in line)

    log.lies["WatchCheckpoints"] = keep_the_old_ones
    log.cosign_again(COSIGNED_AT_S + 1)

    def add_soon() -> None:
        log.lies.clear()
        log.add(b"more")

    threading.Timer(0.5, add_soon).start()
    assert next(watching).tree_size == 31
    assert len(log.calls_of("WatchCheckpoints")) == 1


def test_older_cosignatures_of_the_same_tree_are_no_news(
    client: LogClient, log: LyingLog, policy: Policy
) -> None:
    watching = client.watch_checkpoints()
    next(watching)
    log.cosign_again(COSIGNED_AT_S - 60)
    threading.Timer(0.5, log.cosign_again, [COSIGNED_AT_S + 60]).start()
    assert quorum_time(next(watching), policy) == COSIGNED_AT_S + 60


def test_another_root_of_the_same_size_is_a_split_view_however_freshly_it_is_cosigned(
    client: LogClient, log: LyingLog, state_file: Path
) -> None:
    watching = client.watch_checkpoints()
    next(watching)
    trusted = state_file.read_bytes()
    log.fork_to([b"forged", *ENTRIES[1:]])
    log.cosign_again(COSIGNED_AT_S + 60)
    with pytest.raises(SplitViewError):
        next(watching)
    assert state_file.read_bytes() == trusted


def test_the_very_same_checkpoint_twice_in_one_stream_is_refused(client: LogClient, log: LyingLog) -> None:
    watching = client.watch_checkpoints()
    shown = next(watching).note

    def repeat(reply: Any, request: Any) -> None:
        reply.checkpoint = shown

    log.lies["WatchCheckpoints"] = repeat
    log.cosign_again(COSIGNED_AT_S + 60)
    with pytest.raises(RemoteError, match="after size 30"):
        next(watching)


ASK: dict[str, Callable[[LogClient], object]] = {
    "checkpoint": lambda client: client.checkpoint(),
    "watch_checkpoints": lambda client: next(client.watch_checkpoints()),
    "entries": lambda client: list(client.entries(0, 20)),
    "inclusion_proof": lambda client: client.inclusion_proof(b"entry 3", leaf_index=3),
    "receipts": lambda client: client.receipts([b"entry 3"], leaf_indices=[3]),
    "lookup": lambda client: list(client.lookup("invoice:1")),
}


@pytest.mark.parametrize("method", ASK)
def test_every_answer_under_a_published_checkpoint_is_held_against_the_freshness_rule(
    connect: Connect, log: LyingLog, method: str
) -> None:
    now_s = [COSIGNED_AT_S + 60.0]
    client = connect(freshness=FreshnessRule(max_age_s=60, now_s=lambda: now_s[0]))
    ASK[method](client)
    now_s[0] += 1
    with pytest.raises(StaleCheckpointError, match="61 s ago"):
        ASK[method](client)
    log.cosign_again(COSIGNED_AT_S + 30)
    ASK[method](client)


def test_a_watcher_with_a_freshness_rule_learns_that_nobody_cosigns_any_more(
    connect: Connect, log: LyingLog
) -> None:
    now_s = [COSIGNED_AT_S + 1.0]
    client = connect(
        freshness=FreshnessRule(max_age_s=60, now_s=lambda: now_s[0]),
        watch_s=0.1,
        retry=RetryPolicy(deadline_s=2.0, first_delay_s=0.001),
    )
    watching = client.watch_checkpoints()
    next(watching)
    now_s[0] += 100
    with pytest.raises(StaleCheckpointError, match="101 s ago"):
        next(watching)
