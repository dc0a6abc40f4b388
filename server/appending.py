"""The way of an Append through a process that answers calls: verify, sequence, prove.

Signatures are checked and answers are made in threads, many calls in one trip (`server.gathering`); what lies
between is the sequencer's, or a worker's line to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Protocol, TypeAlias

from server.append_answers import AppendAnswers
from server.backlog import Backlog
from server.caller_gate import CallerGate
from server.callers import Caller
from server.counted_call import CountedCall
from server.crowd import Crowd
from server.gathering import Gathering
from server.metrics import Metrics
from server.publisher import CheckpointFeed
from server.refused_lately import RefusedLately
from server.sequencer import Sequenced
from server.settling import pass_on
from server.threads import VERIFYING_THREADS, Threads
from server.together import Together
from server.tracing import Trace
from server.turns import Turns
from server.view_of_turn import ViewOfTurn
from tlog.errors import BatchRefusedError, MalformedError, PushbackError, QuotaError
from tlog.log_view import LogView, SignedCheckpoint
from tlog.v1 import log_pb2
from tlog.validate import CallOutcome, VerifiedEntry, verify_entries

MAX_BATCH_ENTRIES = 1_000
MAX_BATCH_BYTES = 4 * 2**20
MAX_TRIP_ENTRIES = 512
MAX_INLINE_BYTES = 2_048
"""A lone entry up to this size is looked up and verified in the event loop: a trip to a thread takes longer.
The price: where the index is not in memory, the loop waits for the disk."""
MAX_INLINE_ANSWERS = 64
"""So many are made in one turn of the event loop, 10 to 50 microseconds each."""
SHORT_TRIP_ENTRIES = 64
"""Fewer do not go to a thread before all that went there is committed. They could not be committed earlier
anyhow, and what comes meanwhile goes with them: half as many trips and commits, and no thread that checks
signatures while another one, who commits, wants the interpreter."""
LONG_TRIP_ENTRIES = 64
"""While the threads verify so many or more, or calls of somebody wait for their turn, a lone small entry of
somebody who has nothing else here does not wait for them either: else a member that brings large batches, or
many calls, would be felt by all that bring little. It is ready for the very next commit."""


class OpensViews(Protocol):
    """Is a log that can be read: the Log itself, or its store as a worker process reads it."""

    @property
    def origin(self) -> str:
        """Return the log's origin."""
        ...

    def view(self) -> AbstractContextManager[LogView]:
        """Open one consistent snapshot; it holds every commit that was answered for before.

        It waits until the newest commit's high-water mark is durable: not for the event loop.
        """
        ...

    def view_before_mark(self) -> AbstractContextManager[LogView]:
        """Open one at once, for what shows nothing of the newest commit."""
        ...


class SubmitsEntries(Protocol):
    """Is the way to the log's one writer: the Sequencer itself, or a worker's line to it."""

    def submit(self, entries: Sequence[VerifiedEntry]) -> asyncio.Future[Sequenced]:
        """Queue one call; ends and raises as `Sequencer.submit` does."""
        ...


@dataclass(frozen=True, slots=True)
class _ToVerify:
    entries: list[bytes]
    refusal: QuotaError | None
    """By what it is refused unless all of it is there already; None: verify it."""


Verified: TypeAlias = list[VerifiedEntry] | Sequenced
"""What is known of a call before it is sequenced: its entries are good, or all of them are there already."""


class Appending:
    """Takes batches of entries to the sequencer and back; belongs to the event loop that made it."""

    def __init__(
        self,
        log: OpensViews,
        sequencer: SubmitsEntries,
        backlog: Backlog,
        feed: CheckpointFeed,
        gate: CallerGate,
        threads: Threads,
        metrics: Metrics,
    ) -> None:
        self._log = log
        self._sequencer = sequencer
        self._backlog = backlog
        self._feed = feed
        self._metrics = metrics
        self._gate = gate
        self._refused = RefusedLately()
        self._being_sequenced = 0
        self._sequenced_together = 0
        self._crowd = Crowd()
        self._together = Together(self._hand_over, to_come=lambda caller: self._verifying.weight_of(caller))
        self._turns = Turns()
        self._verifying: Gathering[_ToVerify, Verified] = Gathering(
            threads.verifying,
            self._verify,
            trips=VERIFYING_THREADS,
            max_weight=MAX_TRIP_ENTRIES,
            hold=self._await_commit,
            after_trip=self._together.look_again,
        )
        self._views = ViewOfTurn(log.view_before_mark, max_uses=MAX_INLINE_ANSWERS)
        self._answers = AppendAnswers(self._views, log.view, log.view_before_mark, threads.answering)

    async def append(
        self, request: log_pb2.AppendRequest, caller: Caller, trace: Trace | None = None
    ) -> log_pb2.AppendResponse:
        """Append one call's entries, all or none, and prove where they are; the caller is charged first.

        `trace` is told of each stage.

        Raises MalformedError, BatchRefusedError, PushbackError, StorageError.
        """
        entries, size_bytes = _checked_batch(request.entries)
        came_in_s = perf_counter()
        counted = CountedCall(self._gate, self._backlog, self._turns, caller, len(entries), size_bytes)
        try:
            if not counted.begin_turn_at_once():
                await counted.begin_turn()
            turn_s = perf_counter() if trace is None else trace.stage("admit", came_in_s)
            # Only when nobody else is there: what is gathered on its way to the thread also shares a commit.
            is_small = len(entries) == 1 and size_bytes <= MAX_INLINE_BYTES
            is_alone = is_small and self._backlog.entries == 1
            if is_alone or (is_small and counted.is_all_of_its_caller and self._is_held_up):
                verified = self._verify_alone(_ToVerify(entries, None))
            else:
                refusal = self._refused.of(caller, entries)
                if refusal is not None:
                    self._verify_alone(_ToVerify(entries[:1], refusal))
                verified = await self._verifying.put(
                    _ToVerify(entries, refusal), weight=len(entries), lane=caller.name
                )
            self._metrics.verified(perf_counter() - came_in_s)
            if trace is not None:
                trace.entries, trace.size_bytes = len(entries), size_bytes
                verified_s = trace.stage("verify", turn_s)
            if isinstance(verified, Sequenced):
                self._metrics.already_present(len(entries))
            else:
                future = self._submit(verified, caller, entries)
        except BaseException:
            counted.let_go()
            raise
        if isinstance(verified, Sequenced):
            counted.let_go()
            return await self._answer_for(verified, request, caller, trace)
        # From here on the call counts until the sequencer has dealt with it, whatever its client does.
        told: asyncio.Future[Sequenced] = asyncio.get_running_loop().create_future()
        future.add_done_callback(partial(self._dealt_with, told, counted, caller, entries))
        sequenced = await told
        if trace is not None:
            trace.sequenced(verified_s, sequenced)
        return await self._answer_for(sequenced, request, caller, trace)

    @property
    def _is_held_up(self) -> bool:
        return self._verifying.weight_under_way >= LONG_TRIP_ENTRIES or self._turns.waiting > 0

    def _await_commit(self, waiting_entries: int) -> bool:
        if waiting_entries >= SHORT_TRIP_ENTRIES:
            return False
        return self._being_sequenced > 0 or self._crowd.is_awaited(waiting_entries)

    def _submit(
        self, verified: list[VerifiedEntry], caller: Caller, entries: list[bytes]
    ) -> asyncio.Future[Sequenced]:
        try:
            return self._together.submit(verified, caller.name)
        except QuotaError as error:
            self._refused.note(caller, entries, error)
            raise

    def _dealt_with(
        self,
        told: asyncio.Future[Sequenced],
        counted: CountedCall,
        caller: Caller,
        entries: list[bytes],
        future: asyncio.Future[Sequenced],
    ) -> None:
        """Count a call no more, and tell it what became of it, unless its client went away."""
        counted.let_go()
        # One that was kept back, or whose quota another process keeps, is refused after it was submitted.
        if not future.cancelled() and isinstance(error := future.exception(), QuotaError):
            self._refused.note(caller, entries, error)
        pass_on(told, future)

    def _hand_over(self, entries: Sequence[VerifiedEntry]) -> asyncio.Future[Sequenced]:
        future = self._sequencer.submit(entries)
        self._being_sequenced += 1
        future.add_done_callback(self._sequenced)
        return future

    def _sequenced(self, _: asyncio.Future[Sequenced]) -> None:
        self._being_sequenced -= 1
        self._sequenced_together += 1
        if self._being_sequenced == 0:
            wait_s = self._crowd.answered(self._sequenced_together, self._verifying.waiting_weight)
            self._sequenced_together = 0
            if wait_s:
                asyncio.get_running_loop().call_later(wait_s, self._verifying.resume)
            self._verifying.resume()

    async def _answer_for(
        self,
        sequenced: Sequenced,
        request: log_pb2.AppendRequest,
        caller: Caller,
        trace: Trace | None,
    ) -> log_pb2.AppendResponse:
        signed = sequenced.checkpoint
        if request.wait_for == log_pb2.APPEND_STAGE_COSIGNED:
            committed_s = perf_counter()
            signed = await self._published_beyond(max(sequenced.outcome.leaf_indices))
            if trace is not None:
                trace.stage("publish", committed_s)
        sequenced_s = perf_counter()
        answer = await self._answers.make(sequenced, signed, request.trusted_tree_size, lane=caller.name)
        self._metrics.answered(perf_counter() - sequenced_s)
        if trace is not None:
            trace.stage("answer", sequenced_s)
        return answer

    async def _published_beyond(self, leaf_index: int) -> SignedCheckpoint:
        """Wait until a published checkpoint covers a leaf; the call's deadline is the only limit."""
        published = await self._feed.wait_beyond(leaf_index)
        if published is None:
            raise PushbackError(
                "the server is stopping: the entries are in the log; send the call again for their receipts",
                retry_after_s=1.0,
            )
        return published

    def _verify(self, calls: Sequence[_ToVerify]) -> list[Verified | Exception]:
        verified: list[Verified | Exception] = []
        # What is found to be there already is told by `_answer`, which waits for its mark.
        with self._log.view_before_mark() as view:
            for call in calls:
                try:
                    verified.append(_verified(view, call, self._log.origin))
                except (BatchRefusedError, QuotaError) as error:
                    verified.append(error)
        return verified

    def _verify_alone(self, call: _ToVerify) -> Verified:
        with self._views.briefly() as view:
            return _verified(view, call, self._log.origin)


def _verified(view: LogView, call: _ToVerify, origin: str) -> Verified:
    """Verify a call's entries, or say where they are when all of them are there already.

    No signature is checked of an entry that is in the log, byte for byte. Raises BatchRefusedError; and the
    call's `refusal` for the first entry that is not there.
    """
    entries = call.entries
    indices: dict[bytes, int] = {}

    def is_present(identity: bytes, leaf_hash: bytes) -> bool:
        index = view.index_of(identity, leaf_hash)
        if index is None:
            if call.refusal is not None:
                raise call.refusal
            return False
        indices[identity] = index
        return True

    verified = verify_entries(entries, origin, is_present)
    if len(indices) == 0 or any(entry.identity not in indices for entry in verified):
        return verified
    found = tuple(indices[entry.identity] for entry in verified)
    outcome = CallOutcome(leaf_indices=found, already_present=(True,) * len(found), new_range=None)
    return Sequenced(outcome=outcome, checkpoint=view.committed())


def _checked_batch(entries: Sequence[bytes]) -> tuple[list[bytes], int]:
    """Return the entries and their size; the count is checked before anything touches them."""
    if not 1 <= len(entries) <= MAX_BATCH_ENTRIES:
        raise MalformedError(
            f"an Append holds {len(entries)} entries: send 1 to {MAX_BATCH_ENTRIES} in one call"
        )
    taken = list(entries)
    size_bytes = sum(map(len, taken))
    if size_bytes > MAX_BATCH_BYTES:
        raise MalformedError(
            f"an Append holds {size_bytes} bytes: send at most {MAX_BATCH_BYTES} in one call"
        )
    return taken, size_bytes
