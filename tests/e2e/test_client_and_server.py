"""The real client against the real server: every method, every refusal, and a kill in the middle."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from _support.alliance import ORIGIN, Alliance, key
from _support.log_directory import CONFIG, make_log_directory, serving
from _support.real_server import RealServer, start_with_config

from tlog.client import Appended, Batcher, LogClient, RetryPolicy
from tlog.errors import (
    BatchRefusedError,
    MalformedError,
    OutOfRangeError,
    RefusalReason,
    RefusedError,
    VerificationError,
)
from tlog.merkle import leaf_hash
from tlog.policy import build_policy
from tlog.receipt import verify_receipt

ALLIANCE = Alliance()
GOVERNANCE_COUNT = len(ALLIANCE.governance)
POLICY = build_policy([ALLIANCE.signer.vkey])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    with serving(make_log_directory(tmp_path_factory.mktemp("log"), ALLIANCE)) as running:
        yield running


@pytest.fixture
def client(server: RealServer, tmp_path: Path) -> Iterator[LogClient]:
    with LogClient(
        server.grpc_address,
        POLICY,
        checkpoint_file=tmp_path / "trusted",
        genesis_leaf_hash=leaf_hash(ALLIANCE.governance[0]),
    ) as client:
        yield client


def test_every_method_of_the_client_is_content_with_the_server(client: LogClient) -> None:
    entries = [ALLIANCE.entry(number, refs=[f"invoice:{number % 7}"]) for number in range(600)]
    first = client.append(entries[:400])
    early = client.checkpoint()
    mixed = client.append([*entries[390:600], entries[5], entries[599]])
    assert [result.already_present for result in mixed] == [True] * 10 + [False] * 200 + [True, True]
    assert mixed[-1].leaf_index == mixed[-3].leaf_index
    for entry, result in zip(entries, [*first, *mixed[10:210]], strict=True):
        assert verify_receipt(entry, result.receipt, POLICY).origin == ORIGIN

    late = client.checkpoint()
    client.consistency_proof(early.checkpoint, late.checkpoint)
    proven = client.inclusion_proofs(entries)
    assert [entry and entry.leaf_index for entry in proven] == [
        result.leaf_index for result in [*first, *mixed[10:210]]
    ]
    by_index = client.inclusion_proof(entries[3], leaf_index=first[3].leaf_index)
    assert verify_receipt(entries[3], by_index.receipt, POLICY)
    receipts = client.receipts([*entries[:50], ALLIANCE.entry(10_000)])
    assert receipts.pop() is None
    for entry, receipt in zip(entries, receipts, strict=False):
        assert receipt is not None
        verify_receipt(entry, receipt, POLICY)

    stored = list(client.entries())
    assert [index for index, _ in stored] == list(range(late.tree_size))
    assert {entry for _, entry in stored} >= {*ALLIANCE.governance, *entries}
    found = list(client.lookup("invoice:3"))
    assert [entry.entry for entry in found] == entries[3::7]
    assert sorted(client.registry().members) == ["exporter", "forwarder"]


def test_watching_follows_the_commits(client: LogClient) -> None:
    watching = client.watch_checkpoints()
    size = next(watching).tree_size
    for number in range(3):
        (appended,) = client.append([ALLIANCE.entry(20_000 + number)])
        assert appended.leaf_index == size
        size = next(watching).tree_size
    threading.Timer(0.05, client.close).start()
    assert list(watching) == []


def test_refusals_come_back_by_position_and_reason(client: LogClient) -> None:
    first = ALLIANCE.entry(30_000)
    (appended,) = client.append([first])
    batch = [
        ALLIANCE.entry(30_001),
        b"no envelope",
        ALLIANCE.entry(30_000, note="other bytes"),
        ALLIANCE.entry(30_002, signer=key("nobody")),
        ALLIANCE.entry(30_003, origin="log.example/other"),
    ]
    with pytest.raises(BatchRefusedError) as caught:
        client.append(batch)
    assert caught.value.refusals.keys() <= {1, 2, 3, 4}
    with Batcher(client) as batcher:
        futures = [batcher.submit(entry) for entry in batch]
    reasons = []
    for future in futures[1:]:
        error = future.exception()
        assert isinstance(error, RefusedError)
        reasons.append(error.reason)
    assert reasons == [
        RefusalReason.MALFORMED_ENVELOPE,
        RefusalReason.SOURCE_ID_CONFLICT,
        RefusalReason.UNKNOWN_KEY,
        RefusalReason.WRONG_ORIGIN,
    ]
    conflict = futures[2].exception()
    assert isinstance(conflict, RefusedError)
    assert conflict.existing_leaf_index == appended.leaf_index
    verify_receipt(batch[0], futures[0].result().receipt, POLICY)


def test_a_batch_of_a_thousand_bad_entries_is_refused_one_by_one(client: LogClient) -> None:
    with pytest.raises(BatchRefusedError) as caught:
        client.append([b"no envelope %d" % number for number in range(1000)])
    assert list(caught.value.refusals) == list(range(1000))


def test_what_the_server_calls_wrong_is_wrong_here_too(client: LogClient) -> None:
    size = client.checkpoint().tree_size
    with pytest.raises(OutOfRangeError):
        list(client.entries(0, size + 1))
    with pytest.raises(OutOfRangeError):
        client.inclusion_proof(ALLIANCE.entry(1), leaf_index=size + 5)
    with pytest.raises(MalformedError):
        client.append([])
    with pytest.raises(VerificationError):
        client.inclusion_proof(ALLIANCE.entry(1), leaf_index=0)


def test_a_server_that_is_killed_loses_nothing_that_a_future_promised(tmp_path: Path) -> None:
    alliance = Alliance()
    directory = make_log_directory(tmp_path / "log", alliance)
    server = start_with_config(directory)
    # The port stays the same, so that the client finds the log again.
    directory.write_text(CONFIG.replace("port = 0", f"port = {server.grpc_address.rpartition(':')[2]}", 1))
    entries = alliance.entries(0, 1200)
    outcomes: list[Future[Appended]] = []
    try:
        retry = RetryPolicy(deadline_s=60.0, first_delay_s=0.02, max_delay_s=0.5)
        with (
            LogClient(
                server.grpc_address, POLICY, checkpoint_file=tmp_path / "trusted", retry=retry
            ) as client,
            Batcher(client, max_entries=40, max_in_flight=2, max_queued_entries=200) as batcher,
        ):
            for number, entry in enumerate(entries):
                outcomes.append(batcher.submit(entry))
                if number in (400, 800):
                    server.kill()
                    server = start_with_config(directory)
            appended = [outcome.result(60) for outcome in outcomes]
            assert sorted(result.leaf_index for result in appended) == list(
                range(GOVERNANCE_COUNT, GOVERNANCE_COUNT + len(entries))
            )
            for entry, result in zip(entries, appended, strict=True):
                verify_receipt(entry, result.receipt, POLICY)
            stored = dict(client.entries())
            assert [stored[result.leaf_index] for result in appended] == entries
    finally:
        server.kill()
