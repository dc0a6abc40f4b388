"""A log that is read over gRPC: the runs of GetEntries with their range proofs, unverified."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from tlog.checkpoint import Checkpoint, parse_checkpoint
from tlog.client.connection import Connection
from tlog.client.resumable_stream import ResumableStream
from tlog.client.retry import RetryPolicy
from tlog.client.trusted_log import VerifiedCheckpoint
from tlog.client.wire import MAX_RUN_ENTRIES, decode_hashes, decode_range_proof
from tlog.errors import ProofError, RemoteError
from tlog.grpc_tls import channel_credentials
from tlog.merkle import (
    consistency_path_from_inclusion_proof,
    inclusion_proofs_from_range,
    leaf_hash,
)
from tlog.monitor.source import Run
from tlog.note import parse_note
from tlog.tls import ClientTls
from tlog.v1 import log_pb2


class GrpcSource:
    """Reads the log at `address` (host:port); it is a `tlog.monitor.source.LogSource`.

    `timeout_s` bounds one call with all its attempts, and one opening of a stream.
    """

    may_be_stale = False

    def __init__(self, address: str, *, timeout_s: float = 15.0, tls: ClientTls | None = None) -> None:
        self.name = address
        self._connection = Connection(
            address,
            credentials=None if tls is None else channel_credentials(tls),
            timeout_s=timeout_s,
            retry=RetryPolicy(deadline_s=timeout_s),
        )

    def checkpoint(self) -> bytes:
        """Return the newest checkpoint note that is published. Raises as `LogSource` says."""
        reply = self._connection.call(self._connection.get_checkpoint, log_pb2.GetCheckpointRequest())
        return reply.checkpoint

    def runs(self, start: int, under: VerifiedCheckpoint) -> Generator[Run, None, None]:
        """Yield entries [start, under.tree_size); a stream that breaks is taken up where it broke."""
        position, end, note = start, under.tree_size, b""

        def request() -> log_pb2.GetEntriesRequest:
            return log_pb2.GetEntriesRequest(start=position, end=end)

        stream = ResumableStream(
            self._connection,
            self._connection.get_entries,
            request,
            stream_timeout_s=self._connection.timeout_s,
            endless=False,
        )
        try:
            while position < end:
                read = stream.read()
                if read is None:
                    raise RemoteError(
                        f"{self.name} ended the stream before entry {position}: {end - position} entries of "
                        "its own checkpoint are missing"
                    )
                message, is_first = read
                if is_first:
                    note = message.checkpoint
                if not message.HasField("range_proof"):
                    raise ProofError(f"{self.name} sent entries from {position} on without a proof")
                if len(message.entries) > MAX_RUN_ENTRIES:
                    raise RemoteError(
                        f"{self.name} sent {len(message.entries)} entries in one message, where at most "
                        f"{MAX_RUN_ENTRIES} are allowed: nothing of it was read"
                    )
                proof = decode_range_proof(message.range_proof)
                if proof.start != position or proof.end > end or proof.end - position != len(message.entries):
                    raise ProofError(
                        f"entries [{position}, {end}) were asked for; {self.name} sent "
                        f"{len(message.entries)} and proves [{proof.start}, {proof.end})"
                    )
                # A list, which is walked several times: the message makes new bytes each time.
                yield Run(start=position, entries=list(message.entries), right=proof.right, note=note)
                position = proof.end
        finally:
            stream.close()

    def prove_consistency(self, smaller: Checkpoint, larger: Checkpoint) -> Sequence[bytes]:
        """Ask for the path between two sizes. Raises as `LogSource` says."""
        reply = self._connection.call(
            self._connection.get_consistency_proof,
            log_pb2.GetConsistencyProofRequest(
                first_tree_size=smaller.tree_size, second_tree_size=larger.tree_size
            ),
        )
        return decode_hashes(reply.hashes, "consistency proof")

    def fork_path(self, tree_size: int) -> tuple[bytes, Sequence[bytes]]:
        """Make the path out of the last leaf of the smaller tree, as the log shows it now."""
        request = log_pb2.GetEntriesRequest(start=tree_size - 1, end=tree_size)
        stream = ResumableStream(
            self._connection,
            self._connection.get_entries,
            lambda: request,
            stream_timeout_s=self._connection.timeout_s,
            endless=False,
        )
        try:
            read = stream.read()
        finally:
            stream.close()
        if read is None or len(read[0].entries) != 1 or not read[0].HasField("range_proof"):
            raise ProofError(f"{self.name} does not prove entry {tree_size - 1}, which it published before")
        proof = decode_range_proof(read[0].range_proof)
        note = read[0].checkpoint
        larger = parse_checkpoint(parse_note(note)[0]).tree_size
        last_leaf = leaf_hash(read[0].entries[0])
        (inclusion,) = inclusion_proofs_from_range(
            [last_leaf], tree_size - 1, larger, proof.left, proof.right
        )
        return note, consistency_path_from_inclusion_proof(last_leaf, tree_size, larger, inclusion)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
