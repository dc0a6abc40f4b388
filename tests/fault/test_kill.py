"""kill -9 of the real server during load: nothing acknowledged is lost, no checkpoint contradicts another.

tlog-checkpoint: "A log MUST not sign any checkpoint which is inconsistent with any checkpoint it previously
signed."
"""

from __future__ import annotations

import random
import threading
import time
from itertools import count, pairwise
from pathlib import Path

import grpc
import pytest
from _support.alliance import Alliance
from _support.log_directory import COSIGNED_CONFIG, make_log_directory, serving

from tlog.checkpoint import Checkpoint, parse_checkpoint
from tlog.errors import ProofError
from tlog.log import Log
from tlog.merkle import inclusion_proofs_from_range, leaf_hash, verify_consistency, verify_range
from tlog.note import Verifier, open_note
from tlog.policy import parse_policy
from tlog.receipt import Receipt, format_receipt, verify_receipt
from tlog.storage.high_water_mark import HighWaterMarkFile, Mark
from tlog.v1 import log_pb2, log_pb2_grpc

WRITERS = 3
ALLIANCE = Alliance()
POLICY = parse_policy(f"log {ALLIANCE.signer.vkey}\nquorum none\n".encode())


class Acknowledged:
    """Everything that the server ever promised, in all rounds."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.receipts: dict[bytes, bytes] = {}
        self.indices: dict[int, bytes] = {}
        self.checkpoints: dict[int, Checkpoint] = {}

    def see(self, note: bytes) -> Checkpoint:
        text = open_note(note, [Verifier.from_vkey(ALLIANCE.signer.vkey)]).text
        checkpoint = parse_checkpoint(text)
        with self.lock:
            known = self.checkpoints.setdefault(checkpoint.tree_size, checkpoint)
        assert known == checkpoint, "two roots for one size"
        return checkpoint

    def take(self, entries: list[bytes], reply: log_pb2.AppendResponse) -> None:
        checkpoint = self.see(reply.checkpoint)
        proof = reply.range_proof
        hashes = [leaf_hash(entry) for entry in entries]
        size = checkpoint.tree_size
        verify_range(hashes, proof.start, size, proof.left, proof.right, checkpoint.root_hash)
        paths = inclusion_proofs_from_range(hashes, proof.start, size, proof.left, proof.right)
        with self.lock:
            for index, (entry, path) in enumerate(zip(entries, paths, strict=True), start=proof.start):
                receipt = Receipt(leaf_index=index, proof=tuple(path), checkpoint=reply.checkpoint)
                assert self.indices.setdefault(index, entry) == entry, "two entries at one index"
                self.receipts[entry] = format_receipt(receipt)


def load(address: str, numbers: count[int], acknowledged: Acknowledged) -> None:
    """Append small batches until the server is gone."""
    with grpc.insecure_channel(address) as channel:
        stub = log_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]
        while True:
            entries = [ALLIANCE.entry(next(numbers)) for _ in range(5)]
            try:
                reply = stub.Append(log_pb2.AppendRequest(entries=entries), timeout=10)
            except grpc.RpcError as error:
                assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
                return
            acknowledged.take(entries, reply)


def check(stub: log_pb2_grpc.LogServiceStub, acknowledged: Acknowledged) -> None:
    """Hold the restarted log to everything that was ever acknowledged."""
    newest = acknowledged.see(stub.GetCheckpoint(log_pb2.GetCheckpointRequest()).checkpoint)
    kept = [entry for run in stub.GetEntries(log_pb2.GetEntriesRequest()) for entry in run.entries]
    assert len(kept) == newest.tree_size
    for index, entry in acknowledged.indices.items():
        assert kept[index] == entry
    sizes = sorted(acknowledged.checkpoints)
    assert sizes[-1] == newest.tree_size, "a checkpoint that was acknowledged is gone"
    for smaller, larger in pairwise(sizes):
        request = log_pb2.GetConsistencyProofRequest(first_tree_size=smaller, second_tree_size=larger)
        path = stub.GetConsistencyProof(request).hashes
        roots = (acknowledged.checkpoints[size].root_hash for size in (smaller, larger))
        verify_consistency(smaller, larger, path, *roots)


@pytest.mark.parametrize(("rounds", "workers"), [(20, 0), (5, 2)])
def test_kill_after_kill_loses_nothing_and_contradicts_nothing(
    tmp_path: Path, rounds: int, workers: int
) -> None:
    chance = random.Random(20)
    # With a high-water mark: a kill between a commit and its mark must not look like a loss.
    settings = f'{COSIGNED_CONFIG}[server]\nworkers = {workers}\n[store]\nhigh_water_mark_path = "mark"\n'
    config = make_log_directory(tmp_path, ALLIANCE, config=settings)
    with (
        Log.open(tmp_path / "store", ALLIANCE.signer) as log,
        HighWaterMarkFile(tmp_path / "mark", log.origin) as mark,
    ):
        committed = log.checkpoint().checkpoint
        mark.write(Mark(tree_size=committed.tree_size, root_hash=committed.root_hash))
    acknowledged = Acknowledged()
    numbers = count()
    for _ in range(rounds):
        with serving(config) as server:
            with grpc.insecure_channel(server.grpc_address) as channel:
                check(log_pb2_grpc.LogServiceStub(channel), acknowledged)  # type: ignore[no-untyped-call]
            before = len(acknowledged.receipts)
            writers = [
                threading.Thread(target=load, args=(server.grpc_address, numbers, acknowledged))
                for _ in range(WRITERS)
            ]
            for writer in writers:
                writer.start()
            while len(acknowledged.receipts) == before:
                time.sleep(0.005)
            time.sleep(chance.uniform(0, 0.2))
            server.kill()
            for writer in writers:
                writer.join(30)
                assert not writer.is_alive()
            # Workers say why they end; whoever is killed says nothing.
            said = server.errors.splitlines()
            assert all("the main process is gone" in line for line in said)
            assert len(said) <= workers
    with serving(config) as server, grpc.insecure_channel(server.grpc_address) as channel:
        check(log_pb2_grpc.LogServiceStub(channel), acknowledged)  # type: ignore[no-untyped-call]
    assert len(acknowledged.receipts) >= rounds * 5
    for entry, receipt in acknowledged.receipts.items():
        verify_receipt(entry, receipt, POLICY)
    # The checks above can fail: one promise that the log did not make is noticed.
    index, entry = next(iter(acknowledged.indices.items()))
    tampered = acknowledged.receipts[entry].replace(
        f"index {index}\n".encode(), f"index {index + 1}\n".encode()
    )
    with pytest.raises(ProofError):
        verify_receipt(entry, tampered, POLICY)
