"""The client of one log: it asks over gRPC, and believes nothing that the log does not prove.

Every answer passes the same three gates before the caller sees it: who signed the checkpoint
(`TrustedLog`), whether the tree under it holds what the answer says (`append_reply`, `proven_entries`), and
whether it is consistent with what was trusted before (`TrustKeeper`). The first gate that fails raises, and
then the trusted checkpoint is what it was. There is no switch that turns a gate off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from tlog.checkpoint import Checkpoint
from tlog.client.append_reply import Appended, verify_append_reply
from tlog.client.checkpoint_file import CheckpointFile
from tlog.client.connection import Connection
from tlog.client.evidence_keeper import (
    EvidenceKeeper,
    ask_consistency_path,
    evidence_beside,
    guarded,
    guarded_iterator,
)
from tlog.client.proven_entries import (
    ProvenEntry,
    prove_entry,
    verify_found,
    verify_name,
    verify_receipts,
)
from tlog.client.proven_registry import verify_genesis, verify_pinned_genesis, verify_registry
from tlog.client.retry import RetryPolicy
from tlog.client.scrutiny import FindLeaf, GivenReceipt, Scrutiny
from tlog.client.streams import stream_checkpoints, stream_runs
from tlog.client.trust_keeper import TrustKeeper
from tlog.client.trusted_log import TrustedLog, VerifiedCheckpoint
from tlog.client.wire import (
    check_batch,
    check_count,
    decode_hashes,
    decode_size,
    encode_entry_key,
    encode_keys,
)
from tlog.encoding import MAX_SIZE, encode_utf8
from tlog.errors import ConsistencyUnprovenError, NotFoundError, OutOfRangeError, ProofError, RemoteError
from tlog.freshness import VerifiesFreshness
from tlog.membership import Registry
from tlog.merkle import verify_consistency
from tlog.merkle.arguments import check_size
from tlog.policy import Policy
from tlog.v1 import log_pb2
from tlog.validate import GOVERNANCE_KEY

LOOKUP_PAGE_ENTRIES = 128
"""Entries asked for in one Lookup: 128 of the largest fit into a reply of 16 MiB with room to spare."""


class LogClient:
    """Talks to the log at `address` and verifies everything it says. Safe to use from many threads.

    `policy` names the log's key and the witnesses; `origin` is needed when it names logs of several origins.
    `checkpoint_file` keeps the trusted checkpoint across restarts, and may be shared by processes; with None
    it is kept in memory, and the first answer of every run is believed as to history. `genesis_leaf_hash` is
    the one that `tlog init` printed, 32 bytes: the log must prove it to be its leaf 0 before the first of its
    checkpoints is believed, which costs one call more.
    Evidence that the log contradicts itself is kept in `evidence_directory`, by default `evidence` beside the
    checkpoint file; while it is there, every call raises ConvictedError. What the log proves is held against
    what it has proven to this client before, and against the `receipts` that are kept (`ReceiptFolder.find`).
    `freshness` makes every call that is answered under a published checkpoint (all but an append that does
    not wait for the witnesses) raise StaleCheckpointError when the quorum has cosigned that one too long ago;
    what was proven is trusted all the same.
    `timeout_s` bounds one attempt of a call, `retry.deadline_s` the call with all its attempts; `watch_s`
    is how long one checkpoint stream stays open before it is opened again. Without `credentials` the
    connection is plaintext: what is proven stays proven, but it can be read.

    Raises ConfigError for a policy that does not name this log, and what `CheckpointFile.load` raises.
    Every method may raise VerificationError (the log lied, or could not prove what it says), RemoteError (it
    was not reached, or broke the protocol), PushbackError (it was busy for all of `retry.deadline_s`) and
    StorageError (the checkpoint file).
    """

    def __init__(
        self,
        address: str,
        policy: Policy,
        *,
        checkpoint_file: Path | None,
        evidence_directory: Path | None = None,
        origin: str | None = None,
        genesis_leaf_hash: bytes | None = None,
        freshness: VerifiesFreshness | None = None,
        receipts: FindLeaf | None = None,
        timeout_s: float = 10.0,
        watch_s: float = 60.0,
        retry: RetryPolicy | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        start = TrustedLog.for_origin(policy, origin)
        self.origin = start.origin
        self._genesis_leaf_hash = genesis_leaf_hash
        self._watch_s = watch_s
        file = None if checkpoint_file is None else CheckpointFile(checkpoint_file, start.origin)
        self._keeper = TrustKeeper(
            start,
            file,
            self._ask_consistency,
            None if genesis_leaf_hash is None else self._confirm_genesis,
            freshness,
        )
        self._connection = Connection(
            address, credentials=credentials, timeout_s=timeout_s, retry=retry or RetryPolicy()
        )
        directory = evidence_directory or evidence_beside(checkpoint_file)
        ask_path = partial(ask_consistency_path, self._connection)
        self._scrutiny = Scrutiny(start.policy, start.origin, receipts)
        self._evidence = EvidenceKeeper(start.origin, start.policy, directory, ask_path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls in flight end with RemoteError, checkpoint iterators end."""
        self._connection.close()

    @property
    def trusted(self) -> VerifiedCheckpoint | None:
        """Return the newest trusted checkpoint; None before the first contact."""
        return self._keeper.state.newest

    @guarded
    def append(self, entries: Sequence[bytes], *, cosigned: bool = False) -> list[Appended]:
        """Append entries, all or none, and return where each is, in the order given.

        Requires 1 to 1,000 entries, at most 4 MiB together. The receipts are under the checkpoint of the
        commit: where the policy asks for witnesses, `receipts` gives the cosigned ones later. With `cosigned`
        the call waits for a published checkpoint instead, and the receipts meet the whole policy; if it runs
        out of time (RemoteError), the entries may be in the log all the same. Sending the same entries again
        is always safe. Raises BatchRefusedError, which names every bad position; then nothing was appended.
        """
        check_batch(entries)
        anchor = self._keeper.state
        reply = self._connection.call(
            self._connection.append,
            log_pb2.AppendRequest(
                entries=entries,
                trusted_tree_size=anchor.tree_size,
                wait_for=log_pb2.APPEND_STAGE_COSIGNED if cosigned else log_pb2.APPEND_STAGE_INTEGRATED,
            ),
            entries_sent=len(entries),
        )
        open_note = anchor.open_published if cosigned else anchor.open_committed
        checkpoint = open_note(reply.checkpoint)
        # First, as a log that was rolled back contradicts itself in more ways, and this one names it.
        try:
            proven = anchor.accept(checkpoint, reply.consistency_proof)
        except ConsistencyUnprovenError:
            # What it proves here may convict it without any path.
            with suppress(ProofError, RemoteError):
                self._scrutiny.look_at(entries, verify_append_reply(entries, reply, checkpoint, 0))
            raise
        appended = verify_append_reply(entries, reply, checkpoint, anchor.tree_size)
        self._scrutiny.look_at(entries, appended)
        self._keeper.accept_proven(anchor, proven, checkpoint, published=cosigned)
        return appended

    @guarded
    def checkpoint(self) -> VerifiedCheckpoint:
        """Return the newest published checkpoint, which meets the whole policy.

        It may be smaller than `trusted`, which may come from an append that is not published yet.
        """
        anchor = self._keeper.state
        reply = self._connection.call(
            self._connection.get_checkpoint,
            log_pb2.GetCheckpointRequest(trusted_tree_size=anchor.tree_size),
        )
        checkpoint = anchor.open_published(reply.checkpoint)
        self._keeper.accept_published(anchor, checkpoint, reply.consistency_proof)
        return checkpoint

    @guarded_iterator
    def watch_checkpoints(self) -> Iterator[VerifiedCheckpoint]:
        """Yield the published checkpoint now, and every newer one that comes, until the client is closed.

        Newer is a larger one, and one of the same size that a cosigner of the policy has cosigned since.
        Connects again by itself; a reader that is slow skips to the newest.
        """
        return stream_checkpoints(self._connection, self._keeper, stream_timeout_s=self._watch_s)

    def entries(self, start: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Yield (leaf_index, entry) for [start, end), each run proven before its first entry is yielded.

        Without `end` it goes up to the size that is published at the beginning. A stream that breaks is
        taken up where it broke. Raises OutOfRangeError for a range that the published tree does not have.
        """
        check_size(start, "the start of the range", OutOfRangeError)
        check_size(MAX_SIZE if end is None else end, "the end of the range", OutOfRangeError)
        if end is not None and start > end:
            raise OutOfRangeError(f"entries [{start}, {end}) are no range: 0 <= start <= end is needed")
        return self._entries(start, end)

    @guarded
    def inclusion_proofs(
        self, entries: Sequence[bytes], *, leaf_indices: Sequence[int] | None = None
    ) -> list[ProvenEntry | None]:
        """Prove entries to be in the newest published tree, in the order given.

        Without `leaf_indices` (one for each entry) the log is asked by each event's (source, id). None where
        it has no such entry, which is not proven. Raises OutOfRangeError for an index outside the tree, and
        ProofError also when the log has another entry under that name; entries that are no events need
        indices, else MalformedError.
        """
        proven: list[ProvenEntry | None] = []
        for part, keys, indices in encode_keys(entries, leaf_indices):
            anchor = self._keeper.state
            request = log_pb2.GetInclusionProofsRequest(keys=keys, trusted_tree_size=anchor.tree_size)
            try:
                reply = self._connection.call(self._connection.get_inclusion_proofs, request)
            except OutOfRangeError:
                self.checkpoint()  # a log that was rolled back cannot prove this one
                raise
            checkpoint = anchor.open_published(reply.checkpoint)
            check_count(len(part), len(reply.results))
            results = [
                prove_entry(entry, result.proof, checkpoint, asked=index)
                if result.HasField("proof")
                else None
                for entry, index, result in zip(part, indices, reply.results, strict=True)
            ]
            self._scrutiny.look_at(part, results)
            self._keeper.accept_published(anchor, checkpoint, reply.consistency_proof)
            proven += results
        return proven

    def inclusion_proof(self, entry: bytes, *, leaf_index: int | None = None) -> ProvenEntry:
        """Prove one entry, as `inclusion_proofs` does. Raises NotFoundError when the log says it has none."""
        leaf_indices = None if leaf_index is None else [leaf_index]
        (proven,) = self.inclusion_proofs([entry], leaf_indices=leaf_indices)
        if proven is None:
            raise NotFoundError(f"{self.origin} has no entry with the (source, id) of this one")
        return proven

    @guarded
    def find_entry(self, source: str, event_id: str) -> ProvenEntry:
        """Return the entry of the event that is named (source, event_id), proven to be in the published tree.

        Raises NotFoundError when the log says that it has none, which is not proven, and ProofError when what
        it shows is another event.
        """
        anchor = self._keeper.state
        request = log_pb2.GetInclusionProofsRequest(
            keys=[encode_entry_key((source, event_id))], trusted_tree_size=anchor.tree_size
        )
        reply = self._connection.call(self._connection.get_inclusion_proofs, request)
        checkpoint = anchor.open_published(reply.checkpoint)
        check_count(1, len(reply.results))
        found = None
        if reply.results[0].HasField("proof"):
            message = reply.results[0].proof
            index = decode_size(message.leaf_index, "leaf index")
            if index >= checkpoint.tree_size:
                raise ProofError(
                    f"the log says that the event is entry {index}, and its tree has {checkpoint.tree_size}"
                )
            ((_, entry),) = self.entries(index, index + 1)
            found = prove_entry(entry, message, checkpoint)
            self._scrutiny.entry_reader()(found)
            verify_name(found, source, event_id)
        self._keeper.accept_published(anchor, checkpoint, reply.consistency_proof)
        if found is None:
            raise NotFoundError(f"{self.origin} has no entry with source {source!r} and id {event_id!r}")
        return found

    @guarded
    def consistency_proof(self, first: Checkpoint, second: Checkpoint) -> tuple[bytes, ...]:
        """Return the proof that the tree of `first` is a prefix of the tree of `second`, verified.

        Takes checkpoints, as sizes alone say nothing that could be verified. Requires first.tree_size <=
        second.tree_size, else OutOfRangeError; that error also when the log does not have these sizes.
        """
        size1, size2 = first.tree_size, second.tree_size
        if size1 > size2:
            raise OutOfRangeError(f"size {size1} is above size {size2}: give the smaller checkpoint first")
        proof = self._ask_consistency(size1, size2) if 0 < size1 < size2 else ()
        verify_consistency(size1, size2, proof, first.root_hash, second.root_hash)
        return proof

    @guarded
    def receipts(
        self, entries: Sequence[bytes], *, leaf_indices: Sequence[int] | None = None
    ) -> list[bytes | None]:
        """Return receipts that meet the whole policy, each verified for its entry, in the order given.

        Takes what `inclusion_proofs` takes. None where no such entry is under the newest published
        checkpoint, which is not proven.
        """
        receipts: list[bytes | None] = []
        for part, keys, indices in encode_keys(entries, leaf_indices):
            reply = self._connection.call(
                self._connection.get_receipts, log_pb2.GetReceiptsRequest(keys=keys)
            )
            check_count(len(part), len(reply.results))
            texts = [result.receipt or None for result in reply.results]
            checkpoints = verify_receipts(part, indices, texts, self._keeper.state)
            self._scrutiny.look_at(part, map(GivenReceipt.parse, texts))
            for checkpoint in checkpoints:
                self._keeper.accept_unaccompanied(checkpoint)
            receipts += texts
        return receipts

    def lookup(self, business_key: str, *, start: int = 0) -> Iterator[ProvenEntry]:
        """Yield the entries at leaf index `start` or later that carry a business key, by ascending index.

        Each is proven to be in the log and to carry the key. That none is missing is the log's word only:
        to be sure, read `entries` and look.
        """
        check_size(start, "the leaf index where a lookup begins", OutOfRangeError)
        encode_utf8(business_key, "the business key")
        return self._lookup(business_key, start)

    @guarded
    def registry(self) -> Registry:
        """Fold the log's governance entries into its members and rules.

        Each is proven to be in the log, the first one is entry 0 and has the pinned leaf hash, and their
        chain (`seq`, `prev`) has no gap, so the log can only hold back the newest ones. Raises
        VerificationError when the entries break the rules.
        """
        return verify_registry(self.origin, self._genesis_leaf_hash, self.lookup(GOVERNANCE_KEY))

    @guarded_iterator
    def _entries(self, start: int, end: int | None) -> Iterator[tuple[int, bytes]]:
        if start == end:
            return
        try:
            look_at = self._scrutiny.run_reader(rules=self._genesis_leaf_hash is not None)
            for run in stream_runs(self._connection, self._keeper, start, end, look_at=look_at):
                if run.start == 0:
                    verify_genesis(run.entries[0], self._genesis_leaf_hash)
                yield from enumerate(run.entries, run.start)
        except OutOfRangeError:
            self.checkpoint()  # a log that was rolled back cannot prove this one
            raise

    @guarded_iterator
    def _lookup(self, business_key: str, start: int) -> Iterator[ProvenEntry]:
        look_at = self._scrutiny.entry_reader()
        while True:
            anchor = self._keeper.state
            reply = self._connection.call(
                self._connection.lookup,
                log_pb2.LookupRequest(
                    business_key=business_key,
                    start=start,
                    limit=LOOKUP_PAGE_ENTRIES,
                    trusted_tree_size=anchor.tree_size,
                ),
            )
            checkpoint = anchor.open_published(reply.checkpoint)
            found, start = verify_found(
                reply, checkpoint, business_key, start, limit=LOOKUP_PAGE_ENTRIES, look_at=look_at
            )
            self._keeper.accept_published(anchor, checkpoint, reply.consistency_proof)
            yield from found
            if not start:
                return

    def _ask_consistency(self, size1: int, size2: int) -> tuple[bytes, ...]:
        reply = self._connection.call(
            self._connection.get_consistency_proof,
            log_pb2.GetConsistencyProofRequest(first_tree_size=size1, second_tree_size=size2),
        )
        return decode_hashes(reply.hashes, "consistency proof")

    def _confirm_genesis(self, checkpoint: VerifiedCheckpoint) -> None:
        assert self._genesis_leaf_hash is not None
        reply = self._connection.call(
            self._connection.get_inclusion_proofs,
            log_pb2.GetInclusionProofsRequest(keys=[encode_entry_key(0)], tree_size=checkpoint.tree_size),
        )
        check_count(1, len(reply.results))
        verify_pinned_genesis(reply.results[0], self._genesis_leaf_hash, checkpoint)
