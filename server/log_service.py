"""The RPCs of one log: check the arguments, ask the log, encode the answer. No decisions of its own.

Everything that touches the store or checks signatures runs in threads; the event loop only moves messages.
There are two exceptions, a lone small entry and a short answer to an Append (`server.appending`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeAlias, TypeVar

from server.answers import CallLimit, stream, unary
from server.appending import Appending, OpensViews, SubmitsEntries
from server.backlog import Backlog
from server.caller_gate import CallerGate
from server.callers import Context
from server.metrics import Metrics
from server.proofs import consistency, fill_range
from server.publisher import CheckpointFeed
from server.reading_access import ReadingAccess
from server.status import status_code
from server.threads import Threads
from server.tracing import Tracing
from tlog.errors import MalformedError, OutOfRangeError
from tlog.log_view import LogView, SignedCheckpoint
from tlog.v1 import log_pb2, log_pb2_grpc
from tlog.validate import business_key_index

MAX_KEYS = 1_000
MAX_LOOKUP_ENTRIES = 256
MAX_RUN_ENTRIES = 256
MAX_RUN_BYTES = 2**17
MAX_LOOKUP_BYTES = 2**20
MAX_WAITING_READS = 128

T = TypeVar("T")

SourceId: TypeAlias = tuple[str, str]
"""Names an event by its source and id."""


class LogService(log_pb2_grpc.LogServiceServicer):
    """Serves tlog.v1.LogService for one log."""

    def __init__(
        self,
        log: OpensViews,
        sequencer: SubmitsEntries,
        backlog: Backlog,
        feed: CheckpointFeed,
        metrics: Metrics,
        access: ReadingAccess,
        gate: CallerGate,
        *,
        threads: Threads,
        max_calls: int,
        max_streams: int,
        tracing: Tracing | None = None,
    ) -> None:
        """Serve a log, with at most so many unary calls and so many streams at a time.

        Who may read is what `access` says; to append takes no such right.
        """
        self.metrics = metrics
        self.calls = CallLimit("calls", max_calls)
        self.streams = CallLimit("streams", max_streams)
        self._reads = CallLimit("reads", MAX_WAITING_READS)
        self._log = log
        self._access = access
        self.gate = gate
        self._feed = feed
        self._reading = threads.reading
        self._tracing = tracing
        self._appending = Appending(log, sequencer, backlog, feed, gate, threads, metrics)

    @unary
    async def Append(self, request: log_pb2.AppendRequest, context: Context) -> log_pb2.AppendResponse:
        """Append entries, and prove where they are."""
        if self._tracing is None:
            return await self._appending.append(request, self.gate.of(context))
        trace, code = self._tracing.begin(context), "OK"
        try:
            return await self._appending.append(request, self.gate.of(context), trace)
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        except Exception as error:
            code = status_code(error).name
            raise
        finally:
            self._tracing.end(trace, f"{log_pb2.DESCRIPTOR.package}.LogService/Append", code)

    @unary
    async def GetCheckpoint(
        self, request: log_pb2.GetCheckpointRequest, context: Context
    ) -> log_pb2.GetCheckpointResponse:
        """Return the newest published checkpoint."""
        return await self._read(context, _checkpoint_response, request.trusted_tree_size)

    @stream
    async def WatchCheckpoints(
        self, request: log_pb2.WatchCheckpointsRequest, context: Context
    ) -> AsyncIterator[log_pb2.WatchCheckpointsResponse]:
        """Stream published checkpoints, refreshed ones too, until the client or the server ends it."""
        known = request.trusted_tree_size
        published: SignedCheckpoint | None = await self._newest_published(context)
        while published is not None:
            yield log_pb2.WatchCheckpointsResponse(
                checkpoint=published.note,
                consistency_proof=await self._read(context, consistency, known, published.tree_size),
            )
            known = published.tree_size
            published = await self._feed.wait_for_other(published)

    @unary
    async def GetInclusionProofs(
        self, request: log_pb2.GetInclusionProofsRequest, context: Context
    ) -> log_pb2.GetInclusionProofsResponse:
        """Prove many entries against one tree."""
        return await self._read(context, _inclusion_response, request, _checked_keys(request.keys))

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
            hashes=await self._read(context, LogView.prove_consistency, first, second)
        )

    @stream
    async def GetEntries(
        self, request: log_pb2.GetEntriesRequest, context: Context
    ) -> AsyncIterator[log_pb2.GetEntriesResponse]:
        """Stream entries in proven runs, each read in a snapshot of its own: a slow reader pins nothing."""
        published = await self._read(context, LogView.published)
        start, end = request.start, request.end or published.tree_size
        if not start <= end <= published.tree_size:
            raise OutOfRangeError(
                f"entries [{start}, {end}) are asked for, and {published.tree_size} are published: "
                "ask for a range within that"
            )
        response = log_pb2.GetEntriesResponse(
            checkpoint=published.note,
            consistency_proof=await self._read(
                context, consistency, request.trusted_tree_size, published.tree_size
            ),
        )
        if start == end:
            yield response
        while start < end:
            response.MergeFrom(await self._read(context, _entries_response, start, end, published.tree_size))
            yield response
            start = response.range_proof.end
            response = log_pb2.GetEntriesResponse()

    @unary
    async def GetReceipts(
        self, request: log_pb2.GetReceiptsRequest, context: Context
    ) -> log_pb2.GetReceiptsResponse:
        """Return receipts under the newest published checkpoint."""
        return await self._read(context, _receipts_response, _checked_keys(request.keys))

    @unary
    async def Lookup(self, request: log_pb2.LookupRequest, context: Context) -> log_pb2.LookupResponse:
        """Find entries by business key, each proven; that none is missing is not proven."""
        if request.limit > MAX_LOOKUP_ENTRIES:
            raise MalformedError(f"limit is {request.limit}: ask for at most {MAX_LOOKUP_ENTRIES} and go on")
        return await self._read(context, _lookup_response, request)

    async def _newest_published(self, context: Context) -> SignedCheckpoint:
        """Return the newest published checkpoint, which the feed of a worker may not have been told yet."""
        published = await self._read(context, LogView.published)
        if published.tree_size > self._feed.newest.tree_size:
            self._feed.publish(published)
        return self._feed.newest

    async def _read(self, context: Context, function: Callable[..., T], *arguments: object) -> T:
        """Ask a view for a caller who may read it. Raises AccessError."""
        uris = self._access.uris(context)

        def view_and_call() -> T:
            with self._log.view() as view:
                self._access.require(view, uris)
                return function(view, *arguments)

        with self._reads.one_more():
            return await asyncio.get_running_loop().run_in_executor(self._reading, view_and_call)


def _checked_keys(keys: Sequence[log_pb2.EntryKey]) -> list[int | SourceId]:
    """Return what each key names: a leaf index, or an event by its source and id."""
    if not 1 <= len(keys) <= MAX_KEYS:
        raise MalformedError(f"{len(keys)} keys are asked for: ask for 1 to {MAX_KEYS} in one call")
    named: list[int | SourceId] = []
    for position, key in enumerate(keys):
        match key.WhichOneof("key"):
            case "leaf_index":
                named.append(key.leaf_index)
            case "source_id":
                named.append((key.source_id.source, key.source_id.id))
            case _:
                raise MalformedError(f"key {position} is empty: give a leaf_index or a source_id")
    return named


def _checkpoint_response(view: LogView, trusted_tree_size: int) -> log_pb2.GetCheckpointResponse:
    published = view.published()
    return log_pb2.GetCheckpointResponse(
        checkpoint=published.note,
        consistency_proof=consistency(view, trusted_tree_size, published.tree_size),
        frozen=view.is_frozen(),
    )


def _inclusion_response(
    view: LogView, request: log_pb2.GetInclusionProofsRequest, keys: Sequence[int | SourceId]
) -> log_pb2.GetInclusionProofsResponse:
    published = None if request.tree_size else view.published()
    tree_size = request.tree_size if published is None else published.tree_size
    indices = [key if isinstance(key, int) else view.leaf_index(*key) for key in keys]
    # A leaf that is not in the tree is refused; an event may be unknown, or committed after that tree.
    proven = {
        index
        for index, key in zip(indices, keys, strict=True)
        if index is not None and (index < tree_size or isinstance(key, int))
    }
    # In this order, because neighbours share tiles.
    proofs = {index: view.prove_inclusion(index, tree_size) for index in sorted(proven)}
    response = log_pb2.GetInclusionProofsResponse()
    for index in indices:
        result = response.results.add()
        if index in proofs:
            result.proof.leaf_index = index
            result.proof.hashes.extend(proofs[index])
    if published is not None:
        response.checkpoint = published.note
        response.consistency_proof.extend(consistency(view, request.trusted_tree_size, tree_size))
    return response


def _entries_response(view: LogView, start: int, end: int, tree_size: int) -> log_pb2.GetEntriesResponse:
    runs = view.entries_in_runs(start, end, max_entries=MAX_RUN_ENTRIES, max_bytes=MAX_RUN_BYTES)
    first, entries = next(runs)
    response = log_pb2.GetEntriesResponse(entries=entries)
    fill_range(response.range_proof, view.prove_range(first, first + len(entries), tree_size))
    return response


def _receipts_response(view: LogView, keys: Sequence[int | SourceId]) -> log_pb2.GetReceiptsResponse:
    published = view.published()
    response = log_pb2.GetReceiptsResponse()
    for key in keys:
        index = key if isinstance(key, int) else view.leaf_index(*key)
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
        consistency_proof=consistency(view, request.trusted_tree_size, published.tree_size),
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
