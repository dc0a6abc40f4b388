"""The RPCs of one log: check the arguments, ask the log, encode the answer. No decisions of its own.

Everything that touches the store or checks signatures runs in threads; the event loop only moves messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from typing import TypeVar

from server.answers import Context, stream, unary
from server.metrics import Metrics
from server.publisher import CheckpointFeed
from server.sequencer import Sequenced, Sequencer
from tlog.errors import MalformedError, OutOfRangeError
from tlog.log import Log
from tlog.log_view import LogView, RangeProof, SignedCheckpoint
from tlog.v1 import log_pb2, log_pb2_grpc
from tlog.validate import business_key_index, verify_entries

MAX_BATCH_ENTRIES = 1_000
MAX_BATCH_BYTES = 4 * 2**20
MAX_KEYS = 1_000
MAX_LOOKUP_ENTRIES = 256
MAX_RUN_ENTRIES = 256
MAX_RUN_BYTES = 2**20

T = TypeVar("T")


class LogService(log_pb2_grpc.LogServiceServicer):
    """Serves tlog.v1.LogService for one log."""

    def __init__(
        self,
        log: Log,
        sequencer: Sequencer,
        feed: CheckpointFeed,
        metrics: Metrics,
        *,
        verifying: Executor,
        reading: Executor,
    ) -> None:
        """Serve a log; signatures are checked in `verifying`, the store is read in `reading`.

        Two sets of threads, so that a large batch under verification never holds up a reader.
        """
        self.metrics = metrics
        self._log = log
        self._sequencer = sequencer
        self._feed = feed
        self._verifying = verifying
        self._reading = reading

    @unary
    async def Append(self, request: log_pb2.AppendRequest, context: Context) -> log_pb2.AppendResponse:
        """Verify signatures in a thread, wait for the commit, and prove what it did."""
        entries = list(request.entries)
        _check_batch(entries)
        loop = asyncio.get_running_loop()
        verified = await loop.run_in_executor(self._verifying, verify_entries, entries, self._log.origin)
        sequenced = await self._sequencer.submit(verified)
        return await self._read(_append_response, sequenced, request.trusted_tree_size)

    @unary
    async def GetCheckpoint(
        self, request: log_pb2.GetCheckpointRequest, context: Context
    ) -> log_pb2.GetCheckpointResponse:
        """Return the newest published checkpoint."""
        published = self._feed.newest
        return log_pb2.GetCheckpointResponse(
            checkpoint=published.note,
            consistency_proof=await self._read(_consistency, request.trusted_tree_size, published.tree_size),
        )

    @stream
    async def WatchCheckpoints(
        self, request: log_pb2.WatchCheckpointsRequest, context: Context
    ) -> AsyncIterator[log_pb2.WatchCheckpointsResponse]:
        """Stream published checkpoints until the client goes away or the server stops."""
        known = request.trusted_tree_size
        published: SignedCheckpoint | None = self._feed.newest
        while published is not None:
            yield log_pb2.WatchCheckpointsResponse(
                checkpoint=published.note,
                consistency_proof=await self._read(_consistency, known, published.tree_size),
            )
            known = published.tree_size
            published = await self._feed.wait_beyond(known)

    @unary
    async def GetInclusionProofs(
        self, request: log_pb2.GetInclusionProofsRequest, context: Context
    ) -> log_pb2.GetInclusionProofsResponse:
        """Prove many entries against one tree."""
        keys = _checked_keys(request.keys)
        published = None if request.tree_size else self._feed.newest
        return await self._read(_inclusion_response, request, keys, published)

    @unary
    async def GetConsistencyProof(
        self, request: log_pb2.GetConsistencyProofRequest, context: Context
    ) -> log_pb2.GetConsistencyProofResponse:
        """Prove one tree to be a prefix of another."""
        first, second = request.first_tree_size, request.second_tree_size
        if first > second:
            raise MalformedError(
                f"first_tree_size {first} is above second_tree_size {second}: give the smaller one first"
            )
        return log_pb2.GetConsistencyProofResponse(
            hashes=await self._read(LogView.prove_consistency, first, second)
        )

    @stream
    async def GetEntries(
        self, request: log_pb2.GetEntriesRequest, context: Context
    ) -> AsyncIterator[log_pb2.GetEntriesResponse]:
        """Stream entries in proven runs, each read in a snapshot of its own: a slow reader pins nothing."""
        published = self._feed.newest
        start, end = request.start, request.end or published.tree_size
        if not start <= end <= published.tree_size:
            raise OutOfRangeError(
                f"entries [{start}, {end}) are asked for, and {published.tree_size} are published: "
                "ask for a range within that"
            )
        response = log_pb2.GetEntriesResponse(
            checkpoint=published.note,
            consistency_proof=await self._read(_consistency, request.trusted_tree_size, published.tree_size),
        )
        if start == end:
            yield response
        while start < end:
            response.MergeFrom(await self._read(_entries_response, start, end, published.tree_size))
            yield response
            start = response.range_proof.end
            response = log_pb2.GetEntriesResponse()

    @unary
    async def GetReceipts(
        self, request: log_pb2.GetReceiptsRequest, context: Context
    ) -> log_pb2.GetReceiptsResponse:
        """Return receipts under the newest published checkpoint."""
        return await self._read(_receipts_response, _checked_keys(request.keys), self._feed.newest)

    @unary
    async def Lookup(self, request: log_pb2.LookupRequest, context: Context) -> log_pb2.LookupResponse:
        """Find entries by business key, each proven; that none is missing is not proven."""
        if request.limit > MAX_LOOKUP_ENTRIES:
            raise MalformedError(f"limit is {request.limit}: ask for at most {MAX_LOOKUP_ENTRIES} and go on")
        return await self._read(_lookup_response, request, self._feed.newest)

    async def _read(self, function: Callable[..., T], *arguments: object) -> T:
        def read() -> T:
            with self._log.view() as view:
                return function(view, *arguments)

        return await asyncio.get_running_loop().run_in_executor(self._reading, read)


def _check_batch(entries: Sequence[bytes]) -> None:
    size = sum(map(len, entries))
    if not 1 <= len(entries) <= MAX_BATCH_ENTRIES:
        raise MalformedError(
            f"an Append holds {len(entries)} entries: send 1 to {MAX_BATCH_ENTRIES} in one call"
        )
    if size > MAX_BATCH_BYTES:
        raise MalformedError(f"an Append holds {size} bytes: send at most {MAX_BATCH_BYTES} in one call")


def _checked_keys(keys: Sequence[log_pb2.EntryKey]) -> list[log_pb2.EntryKey]:
    if not 1 <= len(keys) <= MAX_KEYS:
        raise MalformedError(f"{len(keys)} keys are asked for: ask for 1 to {MAX_KEYS} in one call")
    for position, key in enumerate(keys):
        if key.WhichOneof("key") is None:
            raise MalformedError(f"key {position} is empty: give a leaf_index or a source_id")
    return list(keys)


def _consistency(view: LogView, trusted_tree_size: int, tree_size: int) -> list[bytes]:
    """Prove the two sizes consistent, whichever is smaller; a size this log never had gets no proof."""
    first, second = sorted((trusted_tree_size, tree_size))
    return view.prove_consistency(first, second) if second <= view.tree_size else []


def _leaf_index(view: LogView, key: log_pb2.EntryKey) -> int | None:
    if key.WhichOneof("key") == "leaf_index":
        return key.leaf_index
    return view.leaf_index(key.source_id.source, key.source_id.id)


def _append_response(view: LogView, sequenced: Sequenced, trusted_tree_size: int) -> log_pb2.AppendResponse:
    outcome, tree_size = sequenced.outcome, sequenced.checkpoint.tree_size
    start, end = outcome.new_range or (0, 0)
    present = sorted({index for index in outcome.leaf_indices if not start <= index < end})
    return log_pb2.AppendResponse(
        results=[
            log_pb2.AppendResult(leaf_index=index, already_present=already_present)
            for index, already_present in zip(outcome.leaf_indices, outcome.already_present, strict=True)
        ],
        checkpoint=sequenced.checkpoint.note,
        range_proof=_encode_range(view.prove_range(start, end, tree_size)) if start < end else None,
        inclusion_proofs=[
            log_pb2.InclusionProof(leaf_index=index, hashes=view.prove_inclusion(index, tree_size))
            for index in present
        ],
        consistency_proof=_consistency(view, trusted_tree_size, tree_size),
    )


def _inclusion_response(
    view: LogView,
    request: log_pb2.GetInclusionProofsRequest,
    keys: Sequence[log_pb2.EntryKey],
    published: SignedCheckpoint | None,
) -> log_pb2.GetInclusionProofsResponse:
    tree_size = request.tree_size if published is None else published.tree_size
    response = log_pb2.GetInclusionProofsResponse()
    for key in keys:
        result = response.results.add()
        index = _leaf_index(view, key)
        if index is not None:
            result.proof.leaf_index = index
            result.proof.hashes.extend(view.prove_inclusion(index, tree_size))
    if published is not None:
        response.checkpoint = published.note
        response.consistency_proof.extend(_consistency(view, request.trusted_tree_size, tree_size))
    return response


def _entries_response(view: LogView, start: int, end: int, tree_size: int) -> log_pb2.GetEntriesResponse:
    runs = view.entries_in_runs(start, end, max_entries=MAX_RUN_ENTRIES, max_bytes=MAX_RUN_BYTES)
    first, entries = next(runs)
    return log_pb2.GetEntriesResponse(
        entries=entries, range_proof=_encode_range(view.prove_range(first, first + len(entries), tree_size))
    )


def _receipts_response(
    view: LogView, keys: Sequence[log_pb2.EntryKey], published: SignedCheckpoint
) -> log_pb2.GetReceiptsResponse:
    response = log_pb2.GetReceiptsResponse()
    for key in keys:
        index = _leaf_index(view, key)
        if index is None or index >= published.tree_size:
            response.results.add()
        else:
            response.results.add(receipt=view.receipt(index, published))
    return response


def _lookup_response(
    view: LogView, request: log_pb2.LookupRequest, published: SignedCheckpoint
) -> log_pb2.LookupResponse:
    limit = request.limit or MAX_LOOKUP_ENTRIES
    response = log_pb2.LookupResponse(
        checkpoint=published.note,
        consistency_proof=_consistency(view, request.trusted_tree_size, published.tree_size),
    )
    # One more than asked for tells whether there is a next page.
    indices = view.find(business_key_index(request.business_key), request.start, limit + 1)
    size = 0
    for count, index in enumerate(indices):
        if index >= published.tree_size:
            break
        (entry,) = view.entries(index, index + 1)
        size += len(entry)
        if count == limit or (count and size > MAX_RUN_BYTES):
            response.next_start = index
            break
        found = response.found.add(entry=entry)
        found.inclusion_proof.leaf_index = index
        found.inclusion_proof.hashes.extend(view.prove_inclusion(index, published.tree_size))
    return response


def _encode_range(proof: RangeProof) -> log_pb2.RangeProof:
    return log_pb2.RangeProof(start=proof.start, end=proof.end, left=proof.left, right=proof.right)
