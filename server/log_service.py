"""The RPCs of one log: check the arguments, ask the log, encode the answer. No decisions of its own.

Everything that touches the store or checks signatures runs in threads; the event loop only moves messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, ExitStack
from typing import Protocol, TypeVar

from server.answers import CallLimit, Context, stream, unary
from server.backlog import Backlog
from server.metrics import Metrics
from server.publisher import CheckpointFeed
from server.sequencer import Sequenced
from server.threads import Threads
from tlog.errors import MalformedError, OutOfRangeError, PushbackError
from tlog.log_view import LogView, RangeProof, SignedCheckpoint
from tlog.v1 import log_pb2, log_pb2_grpc
from tlog.validate import CallOutcome, VerifiedEntry, business_key_index, verify_entries

MAX_BATCH_ENTRIES = 1_000
MAX_BATCH_BYTES = 4 * 2**20
MAX_KEYS = 1_000
MAX_LOOKUP_ENTRIES = 256
MAX_RUN_ENTRIES = 256
MAX_RUN_BYTES = 2**17
MAX_LOOKUP_BYTES = 2**20
MAX_WAITING_READS = 128

T = TypeVar("T")


class OpensViews(Protocol):
    """Is a log that can be read: the Log itself, or its store as a worker process reads it."""

    @property
    def origin(self) -> str:
        """Return the log's origin."""
        ...

    def view(self) -> AbstractContextManager[LogView]:
        """Open one consistent snapshot; it holds every commit that was answered for before."""
        ...


class SubmitsEntries(Protocol):
    """Is the way to the log's one writer: the Sequencer itself, or a worker's line to it."""

    def submit(self, entries: Sequence[VerifiedEntry]) -> asyncio.Future[Sequenced]:
        """Queue one call; ends and raises as `Sequencer.submit` does."""
        ...


class LogService(log_pb2_grpc.LogServiceServicer):
    """Serves tlog.v1.LogService for one log."""

    def __init__(
        self,
        log: OpensViews,
        sequencer: SubmitsEntries,
        backlog: Backlog,
        feed: CheckpointFeed,
        metrics: Metrics,
        *,
        threads: Threads,
        max_calls: int,
        max_streams: int,
    ) -> None:
        """Serve a log with at most so many unary calls and so many streams at a time."""
        self.metrics = metrics
        self.calls = CallLimit("calls", max_calls)
        self.streams = CallLimit("streams", max_streams)
        self._reads = CallLimit("reads", MAX_WAITING_READS)
        self._log = log
        self._sequencer = sequencer
        self._backlog = backlog
        self._feed = feed
        self._threads = threads

    @unary
    async def Append(self, request: log_pb2.AppendRequest, context: Context) -> log_pb2.AppendResponse:
        """Verify signatures in a thread, wait for the commit, and prove what it did."""
        entries, size_bytes = _checked_batch(request.entries)
        loop = asyncio.get_running_loop()
        with ExitStack() as counted:
            counted.enter_context(self._backlog.holding(len(entries), size_bytes))
            verified = await loop.run_in_executor(
                self._threads.verifying, verify_entries, entries, self._log.origin
            )
            future = self._sequencer.submit(verified)
            # From here on the call counts until the sequencer has dealt with it, whatever its client does.
            future.add_done_callback(_closer(counted.pop_all()))
        sequenced = await asyncio.shield(future)
        outcome, signed = sequenced.outcome, sequenced.checkpoint
        if request.wait_for == log_pb2.APPEND_STAGE_COSIGNED:
            signed = await self._published_beyond(max(outcome.leaf_indices))
        # What is durable is answered without queueing behind those who only read.
        return await self._view_in(
            self._threads.answering, _append_response, outcome, signed, request.trusted_tree_size
        )

    @unary
    async def GetCheckpoint(
        self, request: log_pb2.GetCheckpointRequest, context: Context
    ) -> log_pb2.GetCheckpointResponse:
        """Return the newest published checkpoint."""
        return await self._read(_checkpoint_response, request.trusted_tree_size)

    @stream
    async def WatchCheckpoints(
        self, request: log_pb2.WatchCheckpointsRequest, context: Context
    ) -> AsyncIterator[log_pb2.WatchCheckpointsResponse]:
        """Stream published checkpoints, refreshed ones too, until the client or the server ends it."""
        known = request.trusted_tree_size
        published: SignedCheckpoint | None = await self._newest_published()
        while published is not None:
            yield log_pb2.WatchCheckpointsResponse(
                checkpoint=published.note,
                consistency_proof=await self._read(_consistency, known, published.tree_size),
            )
            known = published.tree_size
            published = await self._feed.wait_for_other(published)

    @unary
    async def GetInclusionProofs(
        self, request: log_pb2.GetInclusionProofsRequest, context: Context
    ) -> log_pb2.GetInclusionProofsResponse:
        """Prove many entries against one tree."""
        return await self._read(_inclusion_response, request, _checked_keys(request.keys))

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
        published = await self._read(LogView.published)
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
        return await self._read(_receipts_response, _checked_keys(request.keys))

    @unary
    async def Lookup(self, request: log_pb2.LookupRequest, context: Context) -> log_pb2.LookupResponse:
        """Find entries by business key, each proven; that none is missing is not proven."""
        if request.limit > MAX_LOOKUP_ENTRIES:
            raise MalformedError(f"limit is {request.limit}: ask for at most {MAX_LOOKUP_ENTRIES} and go on")
        return await self._read(_lookup_response, request)

    async def _newest_published(self) -> SignedCheckpoint:
        """Return the newest published checkpoint, which the feed of a worker may not have been told yet."""
        published = await self._read(LogView.published)
        if published.tree_size > self._feed.newest.tree_size:
            self._feed.publish(published)
        return self._feed.newest

    async def _published_beyond(self, leaf_index: int) -> SignedCheckpoint:
        """Wait until a published checkpoint covers a leaf; the call's deadline is the only limit."""
        published = await self._feed.wait_beyond(leaf_index)
        if published is None:
            raise PushbackError(
                "the server is stopping: the entries are in the log; send the call again for their receipts",
                retry_after_s=1.0,
            )
        return published

    async def _read(self, function: Callable[..., T], *arguments: object) -> T:
        with self._reads.one_more():
            return await self._view_in(self._threads.reading, function, *arguments)

    async def _view_in(self, executor: Executor, function: Callable[..., T], *arguments: object) -> T:
        def view_and_call() -> T:
            with self._log.view() as view:
                return function(view, *arguments)

        return await asyncio.get_running_loop().run_in_executor(executor, view_and_call)


def _closer(counted: ExitStack) -> Callable[[asyncio.Future[Sequenced]], None]:
    def close(future: asyncio.Future[Sequenced]) -> None:
        counted.close()
        if not future.cancelled():
            future.exception()  # seen: its client may have gone away, and nobody else will look

    return close


def _checked_batch(entries: Sequence[bytes]) -> tuple[list[bytes], int]:
    """Return the entries and their size; the count is checked before anything touches them."""
    if not 1 <= len(entries) <= MAX_BATCH_ENTRIES:
        raise MalformedError(
            f"an Append holds {len(entries)} entries: send 1 to {MAX_BATCH_ENTRIES} in one call"
        )
    size_bytes = sum(map(len, entries))
    if size_bytes > MAX_BATCH_BYTES:
        raise MalformedError(
            f"an Append holds {size_bytes} bytes: send at most {MAX_BATCH_BYTES} in one call"
        )
    return list(entries), size_bytes


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


def _append_response(
    view: LogView, outcome: CallOutcome, signed: SignedCheckpoint, trusted_tree_size: int
) -> log_pb2.AppendResponse:
    tree_size = signed.tree_size
    start, end = outcome.new_range or (0, 0)
    present = sorted({index for index in outcome.leaf_indices if not start <= index < end})
    return log_pb2.AppendResponse(
        results=[
            log_pb2.AppendResult(leaf_index=index, already_present=already_present)
            for index, already_present in zip(outcome.leaf_indices, outcome.already_present, strict=True)
        ],
        checkpoint=signed.note,
        range_proof=_encode_range(view.prove_range(start, end, tree_size)) if start < end else None,
        inclusion_proofs=[
            log_pb2.InclusionProof(leaf_index=index, hashes=view.prove_inclusion(index, tree_size))
            for index in present
        ],
        consistency_proof=_consistency(view, trusted_tree_size, tree_size),
    )


def _checkpoint_response(view: LogView, trusted_tree_size: int) -> log_pb2.GetCheckpointResponse:
    published = view.published()
    return log_pb2.GetCheckpointResponse(
        checkpoint=published.note,
        consistency_proof=_consistency(view, trusted_tree_size, published.tree_size),
        frozen=view.is_frozen(),
    )


def _inclusion_response(
    view: LogView, request: log_pb2.GetInclusionProofsRequest, keys: Sequence[log_pb2.EntryKey]
) -> log_pb2.GetInclusionProofsResponse:
    published = None if request.tree_size else view.published()
    tree_size = request.tree_size if published is None else published.tree_size
    response = log_pb2.GetInclusionProofsResponse()
    for key in keys:
        result = response.results.add()
        index = _leaf_index(view, key)
        if index is not None and key.WhichOneof("key") == "source_id" and index >= tree_size:
            index = None  # committed after the tree that is asked about
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


def _receipts_response(view: LogView, keys: Sequence[log_pb2.EntryKey]) -> log_pb2.GetReceiptsResponse:
    published = view.published()
    response = log_pb2.GetReceiptsResponse()
    for key in keys:
        index = _leaf_index(view, key)
        if index is None or index >= published.tree_size:
            response.results.add()
        else:
            response.results.add(receipt=view.receipt(index, published))
    return response


def _lookup_response(view: LogView, request: log_pb2.LookupRequest) -> log_pb2.LookupResponse:
    published = view.published()
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
        if count == limit or (count and size > MAX_LOOKUP_BYTES):
            response.next_start = index
            break
        found = response.found.add(entry=entry)
        found.inclusion_proof.leaf_index = index
        found.inclusion_proof.hashes.extend(view.prove_inclusion(index, published.tree_size))
    return response


def _encode_range(proof: RangeProof) -> log_pb2.RangeProof:
    return log_pb2.RangeProof(start=proof.start, end=proof.end, left=proof.left, right=proof.right)
