"""The real server over a real socket, asked by a plain gRPC stub; proofs are checked by tlog.merkle alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import pytest
from _support.alliance import ORIGIN, Alliance, key
from _support.log_directory import CONFIG, COSIGNED_CONFIG, make_log_directory, serving
from _support.real_server import RealServer, start_with_config
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tlog.checkpoint import Checkpoint, parse_checkpoint
from tlog.merkle import (
    leaf_hash,
    verify_consistency,
    verify_inclusion,
    verify_range,
)
from tlog.note import Verifier, open_note
from tlog.policy import parse_policy
from tlog.receipt import verify_receipt
from tlog.v1 import log_pb2, log_pb2_grpc

ALLIANCE = Alliance()
GOVERNANCE_COUNT = len(ALLIANCE.governance)


@pytest.fixture(scope="module", params=[0, 2], ids=["alone", "2 workers"])
def log_directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log's directory whose server does all of it alone, or has workers: nobody sees a difference."""
    config = f"{COSIGNED_CONFIG}[server]\nworkers = {request.param}\n"
    return make_log_directory(tmp_path_factory.mktemp("log"), ALLIANCE, config=config)


@pytest.fixture(scope="module")
def server(log_directory: Path) -> Iterator[RealServer]:
    with serving(log_directory) as running:
        yield running


@pytest.fixture(scope="module")
def stub(server: RealServer) -> Iterator[log_pb2_grpc.LogServiceStub]:
    options = [("grpc.max_receive_message_length", 2**25), ("grpc.max_send_message_length", 2**25)]
    with grpc.insecure_channel(server.grpc_address, options=options) as channel:
        yield log_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]


def opened(note: bytes) -> Checkpoint:
    return parse_checkpoint(open_note(note, [Verifier.from_vkey(ALLIANCE.signer.vkey)]).text)


def append(stub: log_pb2_grpc.LogServiceStub, entries: list[bytes], trusted: int = 0):
    return stub.Append(log_pb2.AppendRequest(entries=entries, trusted_tree_size=trusted), timeout=20)


def refused(stub: log_pb2_grpc.LogServiceStub, entries: list[bytes]) -> tuple[grpc.StatusCode, object]:
    with pytest.raises(grpc.RpcError) as caught:
        append(stub, entries)
    detail = log_pb2.AppendRefusal()
    for name, value in caught.value.trailing_metadata():
        if name == "grpc-status-details-bin":
            status_pb2.Status.FromString(value).details[0].Unpack(detail)
    return caught.value.code(), detail


def test_new_entries_of_one_call_are_contiguous_and_one_range_proof_covers_them(stub) -> None:
    entries = ALLIANCE.entries(0, 100)
    reply = append(stub, entries)
    checkpoint = opened(reply.checkpoint)
    assert checkpoint.origin == ORIGIN
    start, end = reply.range_proof.start, reply.range_proof.end
    assert [result.leaf_index for result in reply.results] == list(range(start, end))
    assert not any(result.already_present for result in reply.results)
    verify_range(
        [leaf_hash(entry) for entry in entries],
        start,
        checkpoint.tree_size,
        reply.range_proof.left,
        reply.range_proof.right,
        checkpoint.root_hash,
    )
    assert len(reply.range_proof.left) + len(reply.range_proof.right) <= 2 * 7
    assert not reply.inclusion_proofs


def test_entries_that_are_there_already_are_proven_one_by_one(stub) -> None:
    old, new = ALLIANCE.entries(100, 103), ALLIANCE.entries(103, 105)
    before = opened(append(stub, old).checkpoint)
    reply = append(stub, [new[0], old[1], new[1], new[0], old[1]], trusted=before.tree_size)
    checkpoint = opened(reply.checkpoint)
    assert [result.already_present for result in reply.results] == [False, True, False, True, True]
    indices = [result.leaf_index for result in reply.results]
    assert indices[0] == indices[3]
    assert indices[1] == indices[4]
    (proof,) = reply.inclusion_proofs
    verify_inclusion(
        leaf_hash(old[1]), proof.leaf_index, checkpoint.tree_size, proof.hashes, checkpoint.root_hash
    )
    verify_consistency(
        before.tree_size,
        checkpoint.tree_size,
        reply.consistency_proof,
        before.root_hash,
        checkpoint.root_hash,
    )
    unchanged = append(stub, old)
    assert unchanged.checkpoint == reply.checkpoint
    assert not unchanged.HasField("range_proof")
    assert len(unchanged.inclusion_proofs) == 3


def test_every_bad_entry_is_named_by_position_and_reason_and_nothing_is_appended(stub) -> None:
    append(stub, [ALLIANCE.entry(200)])
    size = opened(stub.GetCheckpoint(log_pb2.GetCheckpointRequest()).checkpoint).tree_size
    code, detail = refused(
        stub,
        [
            ALLIANCE.entry(201),
            ALLIANCE.entry(202, signer=key("stranger")),
            ALLIANCE.entry(200, note="other bytes"),
            ALLIANCE.entry(203, event_type="trade.goods.exited.v1"),
        ],
    )
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert [(refusal.position, refusal.reason) for refusal in detail.refusals] == [
        (1, log_pb2.REFUSAL_REASON_UNKNOWN_KEY),
        (2, log_pb2.REFUSAL_REASON_SOURCE_ID_CONFLICT),
        (3, log_pb2.REFUSAL_REASON_TYPE_NOT_ALLOWED),
    ]
    assert detail.refusals[1].existing_leaf_index == size - 1
    assert opened(stub.GetCheckpoint(log_pb2.GetCheckpointRequest()).checkpoint).tree_size == size


@pytest.mark.parametrize(
    ("entry", "code", "reason"),
    [
        (b"junk", "INVALID_ARGUMENT", "MALFORMED_ENVELOPE"),
        (ALLIANCE.entry(300) + b"\0", "INVALID_ARGUMENT", "MALFORMED_ENVELOPE"),
        (b"\x0a" * 65_536, "INVALID_ARGUMENT", "TOO_LARGE"),
        (ALLIANCE.entry(300, origin="other.example/log"), "INVALID_ARGUMENT", "WRONG_ORIGIN"),
        (ALLIANCE.entry(300)[:-129] + b"\0" + ALLIANCE.entry(300)[-128:], "INVALID_ARGUMENT", None),
        (ALLIANCE.entry(300, signer=key("forwarder")), "PERMISSION_DENIED", "KEY_OF_ANOTHER_MEMBER"),
        (ALLIANCE.entry(300, member="nobody"), "PERMISSION_DENIED", "UNKNOWN_SOURCE"),
        (ALLIANCE.governance[1], None, None),
    ],
)
def test_a_bad_entry_gets_its_status_and_its_reason(
    stub, entry: bytes, code: str | None, reason: str | None
) -> None:
    if code is None:
        assert append(stub, [entry]).results[0].already_present
        return
    got, detail = refused(stub, [entry])
    assert got is grpc.StatusCode[code]
    if reason is not None:
        assert detail.refusals[0].reason == log_pb2.RefusalReason.Value(f"REFUSAL_REASON_{reason}")
        assert detail.refusals[0].message


def test_a_batch_of_a_thousand_bad_entries_is_answered_to_a_client_with_default_limits(server) -> None:
    entries = [ALLIANCE.entry(number, signer=key("stranger")) for number in range(20_000, 21_000)]
    with grpc.insecure_channel(server.grpc_address) as channel:
        plain = log_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]
        code, detail = refused(plain, entries)
    assert code is grpc.StatusCode.PERMISSION_DENIED
    positions = [refusal.position for refusal in detail.refusals] + list(detail.other_positions)
    assert positions == list(range(1_000))


@pytest.mark.parametrize(
    "entries", [[], [b"x"] * 1_001, [b"x" * 65_535] * 65], ids=["empty", "count", "bytes"]
)
def test_a_batch_over_its_limits_is_answered_by_our_own_error(stub, entries: list[bytes]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        append(stub, entries)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "in one call" in caught.value.details()


def test_a_message_beyond_the_transport_limit_is_refused_and_the_server_lives(stub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        append(stub, [b"x" * 65_535] * 200)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert append(stub, [ALLIANCE.entry(0)]).results[0].leaf_index > 0


def test_inclusion_proofs_come_by_index_and_by_source_and_id(stub) -> None:
    reply = append(stub, ALLIANCE.entries(400, 403))
    index = reply.results[1].leaf_index
    entry = ALLIANCE.entry(401)
    source_id = log_pb2.SourceId(source=ALLIANCE.source("exporter"), id="event-401")
    keys = [
        log_pb2.EntryKey(leaf_index=index),
        log_pb2.EntryKey(source_id=source_id),
        log_pb2.EntryKey(source_id=log_pb2.SourceId(source=source_id.source, id="absent")),
    ]
    answer = stub.GetInclusionProofs(log_pb2.GetInclusionProofsRequest(keys=keys))
    checkpoint = opened(answer.checkpoint)
    for result in answer.results[:2]:
        assert result.proof.leaf_index == index
        verify_inclusion(
            leaf_hash(entry), index, checkpoint.tree_size, result.proof.hashes, checkpoint.root_hash
        )
    assert not answer.results[2].HasField("proof")
    older = stub.GetInclusionProofs(
        log_pb2.GetInclusionProofsRequest(keys=[log_pb2.EntryKey(leaf_index=0)], tree_size=3)
    )
    assert not older.checkpoint
    assert len(older.results[0].proof.hashes) == 2


def test_the_trees_of_any_two_sizes_are_proven_consistent(stub) -> None:
    checkpoint = opened(append(stub, ALLIANCE.entries(500, 507)).checkpoint)
    half = checkpoint.tree_size // 2
    answer = stub.GetConsistencyProof(
        log_pb2.GetConsistencyProofRequest(first_tree_size=half, second_tree_size=checkpoint.tree_size)
    )
    assert answer.hashes
    assert not stub.GetConsistencyProof(
        log_pb2.GetConsistencyProofRequest(first_tree_size=half, second_tree_size=half)
    ).hashes


HUGE = 2**64 - 1


@pytest.mark.parametrize(
    ("method", "request_", "code"),
    [
        (
            "GetInclusionProofs",
            log_pb2.GetInclusionProofsRequest(keys=[log_pb2.EntryKey(leaf_index=HUGE)]),
            "OUT_OF_RANGE",
        ),
        (
            "GetInclusionProofs",
            log_pb2.GetInclusionProofsRequest(keys=[log_pb2.EntryKey(leaf_index=3)], tree_size=3),
            "OUT_OF_RANGE",
        ),
        (
            "GetInclusionProofs",
            log_pb2.GetInclusionProofsRequest(keys=[log_pb2.EntryKey(leaf_index=3)], tree_size=HUGE),
            "OUT_OF_RANGE",
        ),
        ("GetInclusionProofs", log_pb2.GetInclusionProofsRequest(), "INVALID_ARGUMENT"),
        (
            "GetInclusionProofs",
            log_pb2.GetInclusionProofsRequest(keys=[log_pb2.EntryKey()]),
            "INVALID_ARGUMENT",
        ),
        (
            "GetInclusionProofs",
            log_pb2.GetInclusionProofsRequest(keys=[log_pb2.EntryKey(leaf_index=0)] * 1_001),
            "INVALID_ARGUMENT",
        ),
        (
            "GetConsistencyProof",
            log_pb2.GetConsistencyProofRequest(first_tree_size=2, second_tree_size=1),
            "INVALID_ARGUMENT",
        ),
        (
            "GetConsistencyProof",
            log_pb2.GetConsistencyProofRequest(first_tree_size=1, second_tree_size=HUGE),
            "OUT_OF_RANGE",
        ),
        ("GetReceipts", log_pb2.GetReceiptsRequest(), "INVALID_ARGUMENT"),
        ("Lookup", log_pb2.LookupRequest(business_key="invoice:1", limit=257), "INVALID_ARGUMENT"),
        ("Lookup", log_pb2.LookupRequest(business_key="invoice:1", start=HUGE), "OUT_OF_RANGE"),
    ],
)
def test_arguments_outside_the_tree_get_a_clear_status(stub, method: str, request_, code: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        getattr(stub, method)(request_, timeout=30)
    assert caught.value.code() is grpc.StatusCode[code]
    assert caught.value.details()


def test_a_trusted_size_that_the_log_never_had_gets_no_proof_and_no_error(stub) -> None:
    answer = stub.GetCheckpoint(log_pb2.GetCheckpointRequest(trusted_tree_size=HUGE))
    assert opened(answer.checkpoint).tree_size < HUGE
    assert not answer.consistency_proof


def test_entries_stream_in_runs_that_prove_themselves_and_can_be_resumed(stub) -> None:
    append(stub, ALLIANCE.entries(1_000, 1_600))
    got: list[bytes] = []
    checkpoint: Checkpoint | None = None
    for run in stub.GetEntries(log_pb2.GetEntriesRequest(start=2)):
        if checkpoint is None:
            checkpoint = opened(run.checkpoint)
        assert 1 <= len(run.entries) <= 256
        assert run.range_proof.start == 2 + len(got)
        verify_range(
            [leaf_hash(entry) for entry in run.entries],
            run.range_proof.start,
            checkpoint.tree_size,
            run.range_proof.left,
            run.range_proof.right,
            checkpoint.root_hash,
        )
        got.extend(run.entries)
    assert checkpoint is not None
    assert len(got) == checkpoint.tree_size - 2
    assert got[: GOVERNANCE_COUNT - 2] == ALLIANCE.governance[2:]
    (resumed,) = stub.GetEntries(log_pb2.GetEntriesRequest(start=500, end=503))
    assert list(resumed.entries) == got[498:501]
    (empty,) = stub.GetEntries(log_pb2.GetEntriesRequest(start=checkpoint.tree_size))
    assert empty.checkpoint
    assert not empty.entries
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.GetEntries(log_pb2.GetEntriesRequest(start=0, end=HUGE)))
    assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE


def test_receipts_verify_offline_against_the_policy(stub) -> None:
    policy = parse_policy(f"log {ALLIANCE.signer.vkey}\nquorum none\n".encode())
    index = append(stub, [ALLIANCE.entry(2_000)]).results[0].leaf_index
    answer = stub.GetReceipts(
        log_pb2.GetReceiptsRequest(
            keys=[log_pb2.EntryKey(leaf_index=index), log_pb2.EntryKey(leaf_index=2**40)]
        )
    )
    assert verify_receipt(ALLIANCE.entry(2_000), answer.results[0].receipt, policy).tree_size > index
    assert answer.results[1].receipt == b""


def test_lookup_finds_every_entry_with_a_business_key_page_by_page(stub) -> None:
    entries = [
        ALLIANCE.entry(number, refs=["invoice:X-1", f"order:{number}"]) for number in range(3_000, 3_007)
    ]
    append(stub, entries)
    found: list[bytes] = []
    start = 0
    while True:
        page = stub.Lookup(log_pb2.LookupRequest(business_key="invoice:X-1", start=start, limit=3))
        checkpoint = opened(page.checkpoint)
        for hit in page.found:
            proof = hit.inclusion_proof
            verify_inclusion(
                leaf_hash(hit.entry),
                proof.leaf_index,
                checkpoint.tree_size,
                proof.hashes,
                checkpoint.root_hash,
            )
            found.append(hit.entry)
        start = page.next_start
        if not start:
            break
    assert found == entries
    assert not stub.Lookup(log_pb2.LookupRequest(business_key="invoice:none")).found


def test_watchers_see_the_checkpoint_now_and_every_newer_one_with_its_path(stub) -> None:
    watch = stub.WatchCheckpoints(log_pb2.WatchCheckpointsRequest(), timeout=20)
    previous = opened(next(watch).checkpoint)
    for number in range(4_000, 4_003):
        append(stub, [ALLIANCE.entry(number)])
        update = next(watch)
        checkpoint = opened(update.checkpoint)
        assert checkpoint.tree_size > previous.tree_size
        verify_consistency(
            previous.tree_size,
            checkpoint.tree_size,
            update.consistency_proof,
            previous.root_hash,
            checkpoint.root_hash,
        )
        previous = checkpoint
    watch.cancel()


def test_clients_that_cancel_or_run_out_of_time_do_not_disturb_the_others(stub) -> None:
    futures = [
        stub.Append.future(
            log_pb2.AppendRequest(entries=ALLIANCE.entries(n, n + 50)), timeout=0.001 * (n % 7)
        )
        for n in range(5_000, 6_000, 50)
    ]
    for future in futures[::2]:
        future.cancel()
    for future in futures:
        assert future.code() in (
            grpc.StatusCode.OK,
            grpc.StatusCode.CANCELLED,
            grpc.StatusCode.DEADLINE_EXCEEDED,
        )
    reply = append(stub, ALLIANCE.entries(5_000, 6_000))
    assert len({result.leaf_index for result in reply.results}) == 1_000


def test_many_clients_at_once_get_distinct_indices_and_one_history(server) -> None:
    results: dict[int, list[tuple[int, Checkpoint]]] = {}

    def client(number: int) -> None:
        with grpc.insecure_channel(server.grpc_address) as channel:
            mine = log_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]
            for step in range(20):
                reply = append(mine, [ALLIANCE.entry(10_000 + 100 * number + step)])
                results.setdefault(number, []).append((reply.results[0].leaf_index, opened(reply.checkpoint)))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    indices = [index for run in results.values() for index, _ in run]
    assert len(indices) == len(set(indices)) == 160
    roots: dict[int, bytes] = {}
    for run in results.values():
        for _, checkpoint in run:
            assert roots.setdefault(checkpoint.tree_size, checkpoint.root_hash) == checkpoint.root_hash


def test_health_and_reflection_answer_by_the_standard_names(server) -> None:
    with grpc.insecure_channel(server.grpc_address) as channel:
        health = health_pb2_grpc.HealthStub(channel)  # type: ignore[no-untyped-call]
        for name in ("", "tlog.v1.LogService"):
            reply = health.Check(health_pb2.HealthCheckRequest(service=name))
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
        reflect = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[no-untyped-call]
        (answer,) = reflect.ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        )
        names = {service.name for service in answer.list_services_response.service}
        assert {"tlog.v1.LogService", "tlog.v1.GossipService"} <= names
        # What is listed is also described: a client needs no .proto file of ours.
        (described,) = reflect.ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(file_containing_symbol="tlog.v1.GossipService")])
        )
        files = described.file_descriptor_response.file_descriptor_proto
        assert any(b"tlog/v1/gossip.proto" in file and b"Exchange" in file for file in files)


def test_metrics_tell_what_happened(server, stub) -> None:
    append(stub, [ALLIANCE.entry(7_000)])
    refused(stub, [b"junk"])
    with urllib.request.urlopen(server.metrics_url, timeout=30) as response:
        text = response.read().decode()
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    size = float(opened(stub.GetCheckpoint(log_pb2.GetCheckpointRequest()).checkpoint).tree_size)
    assert float(samples["tlog_tree_size_entries"]) == size
    assert float(samples["tlog_published_size_entries"]) == size
    assert float(samples["tlog_append_entries_total"]) == size - GOVERNANCE_COUNT
    assert float(samples['tlog_validate_refused_entries_total{reason="malformed_envelope"}']) >= 1
    assert float(samples["tlog_commit_store_seconds_count"]) > 0
    assert float(samples['tlog_grpc_call_seconds_count{code="OK",method="Append"}']) > 0
    assert float(samples["tlog_sequencer_queue_entries"]) == 0
    assert 0 <= float(samples["tlog_checkpoint_age_seconds"]) < 600


def test_a_graceful_stop_answers_what_it_took_and_ends_watchers(tmp_path: Path) -> None:
    config = make_log_directory(tmp_path, ALLIANCE)
    with serving(config) as running, grpc.insecure_channel(running.grpc_address) as channel:
        stub = log_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]
        watch = stub.WatchCheckpoints(log_pb2.WatchCheckpointsRequest())
        next(watch)
        futures = [
            stub.Append.future(log_pb2.AppendRequest(entries=ALLIANCE.entries(n, n + 100)))
            for n in range(0, 1_000, 100)
        ]
        futures[0].result()
        assert running.stop() == 0
        taken = [future.result() for future in futures if future.exception() is None]
        pushed_back = [future for future in futures if future.exception() is not None]
        assert {future.code() for future in pushed_back} <= {grpc.StatusCode.UNAVAILABLE}
        list(watch)
    with serving(config) as running, grpc.insecure_channel(running.grpc_address) as channel:
        stub = log_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]
        size = opened(stub.GetCheckpoint(log_pb2.GetCheckpointRequest()).checkpoint).tree_size
        assert size == GOVERNANCE_COUNT + 100 * len(taken)


def start_refused(config: Path, *, wrapped_in: Sequence[str] = ()) -> tuple[int, str]:
    process = subprocess.run(
        [*wrapped_in, sys.executable, "-m", "server", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert "Traceback" not in process.stderr
    return process.returncode, process.stderr


def test_a_second_server_on_one_directory_is_refused_and_the_first_goes_on(
    server, stub, log_directory
) -> None:
    code, message = start_refused(log_directory)
    assert code == 3
    assert str(server.pid) in message
    assert append(stub, [ALLIANCE.entry(0)]).results[0].leaf_index > 0


def test_a_port_that_is_taken_is_a_clear_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = make_log_directory(
            tmp_path, ALLIANCE, config=CONFIG.replace("[grpc]\nport = 0", f"[grpc]\nport = {port}")
        )
        code, message = start_refused(config)
        assert code == 2
        assert f"127.0.0.1:{port}" in message
        config.write_text(CONFIG.replace("[metrics]\nport = 0", f"[metrics]\nport = {port}"))
        code, message = start_refused(config)
        assert code == 2
        assert "metrics cannot listen" in message
        config.write_text(CONFIG.replace("[tiles]\nport = 0", f"[tiles]\nport = {port}"))
        code, message = start_refused(config)
        assert code == 2
        assert "tiles cannot be served" in message


def test_a_second_server_never_shares_the_first_ones_port(server, tmp_path: Path) -> None:
    port = server.grpc_address.rsplit(":", 1)[1]
    config = make_log_directory(
        tmp_path, ALLIANCE, config=CONFIG.replace("[grpc]\nport = 0", f"[grpc]\nport = {port}")
    )
    code, message = start_refused(config)
    assert code == 2
    assert server.grpc_address in message


def test_a_key_that_others_may_read_is_refused_without_showing_it(tmp_path: Path) -> None:
    config = make_log_directory(tmp_path, ALLIANCE)
    (tmp_path / "log.key").chmod(0o644)
    code, message = start_refused(config)
    assert code == 2
    assert "chmod 600" in message
    assert "PRIVATE+KEY" not in message
    (tmp_path / "log.key").chmod(0o600)
    (tmp_path / "log.key").write_text("PRIVATE+KEY+not+a+key\n")
    code, message = start_refused(config)
    assert code == 2
    assert "not+a+key" not in message


def test_another_logs_key_is_refused(tmp_path: Path) -> None:
    config = make_log_directory(tmp_path / "a", ALLIANCE)
    make_log_directory(tmp_path / "b", Alliance(origin="other.example/log", signer=_other_signer()))
    (tmp_path / "a" / "log.key").write_bytes((tmp_path / "b" / "log.key").read_bytes())
    code, message = start_refused(config)
    assert code in (2, 3)
    assert "other.example/log" in message


def _other_signer():
    from _support.alliance import log_signer

    return log_signer("other.example/log", "other")


def test_a_read_only_directory_is_a_clear_error(tmp_path: Path) -> None:
    config = make_log_directory(tmp_path, ALLIANCE)
    store = tmp_path / "store"
    (store / "writer.lock").unlink()
    store.chmod(0o500)
    # Root writes in spite of modes, but not to what is mounted read-only.
    code, message = start_refused(config, wrapped_in=read_only_mount(store) if os.geteuid() == 0 else ())
    store.chmod(0o700)
    assert code == 3
    assert f"cannot open {store / 'writer.lock'}" in message
    assert "must be writable" in message


def read_only_mount(directory: Path) -> tuple[str, ...]:
    """Return what to put before a command, for which alone a directory is then mounted read-only."""
    script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    wrapping = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(directory))
    try:
        subprocess.run([*wrapping, "true"], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("root writes to read-only directories, and may not mount here")
    return wrapping


def test_a_damaged_store_is_refused_at_the_start(tmp_path: Path) -> None:
    config = make_log_directory(tmp_path, ALLIANCE)
    data = tmp_path / "store" / "data.mdb"
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    code, message = start_refused(config)
    assert code == 3
    assert message.startswith("tlog serve: ")


def test_a_malformed_configuration_is_refused(tmp_path: Path) -> None:
    config = make_log_directory(tmp_path, ALLIANCE)
    config.write_text(CONFIG + "colour = 1\n")
    code, message = start_refused(config)
    assert code == 2
    assert "colour" in message


def test_nothing_secret_is_printed(tmp_path: Path) -> None:
    config = make_log_directory(tmp_path, ALLIANCE)
    running = start_with_config(config)
    running.stop()
    assert "PRIVATE" not in running.errors + str(running.announced)
