"""What an Append is answered: where its entries are, and the proofs of that.

An answer about what was just appended is made in the event loop, of the edge of the tree that the commit left
in memory: a trip to a thread would take longer. What goes further back is read from the store, in threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from server.gathering import Gathering
from server.proofs import ProvesConsistency, consistency, fill_range
from server.sequencer import Sequenced
from server.threads import ANSWERING_THREADS
from server.view_of_turn import ViewOfTurn
from tlog.edge_prover import EdgeProver
from tlog.errors import TlogError
from tlog.integrate import TreeEdge
from tlog.log_view import LogView, RangeProof, SignedCheckpoint
from tlog.v1 import log_pb2
from tlog.validate import CallOutcome

MAX_INLINE_ENTRIES = 256
"""An answer about more entries than that is made in a thread."""
MAX_INLINE_GROWTH = 2**16
"""An answer is made in the event loop when its client knows a tree that is smaller by so many leaves at most:
then all that it is made of was written lately, and is in memory."""
MAX_TRIP_ENTRIES = 512

OpenView = Callable[[], AbstractContextManager[LogView]]


class ProvesAppends(ProvesConsistency, Protocol):
    """Proves what was appended; a LogView, or the EdgeProver of a commit."""

    def prove_range(self, start: int, end: int, tree_size: int) -> RangeProof:
        """Prove leaves [start, end)."""
        ...


@dataclass(frozen=True, slots=True)
class _Done:
    outcome: CallOutcome
    checkpoint: SignedCheckpoint
    trusted_tree_size: int


class AppendAnswers:
    """Makes answers; belongs to the event loop that made it."""

    def __init__(
        self, views: ViewOfTurn, open_view: OpenView, open_before_mark: OpenView, threads: Executor
    ) -> None:
        """Read in the event loop what `views` has, and in threads what is opened there."""
        self._views = views
        self._open_view = open_view
        self._open_before_mark = open_before_mark
        self._prover: EdgeProver | None = None
        self._in_threads: Gathering[_Done, log_pb2.AppendResponse] = Gathering(
            threads, self._answer, trips=ANSWERING_THREADS, max_weight=MAX_TRIP_ENTRIES
        )

    async def make(
        self, sequenced: Sequenced, under: SignedCheckpoint, trusted_tree_size: int, *, lane: str
    ) -> log_pb2.AppendResponse:
        """Answer a call whose entries the tree of a checkpoint holds, for a client that knows another tree.

        Raises StorageError.
        """
        outcome = sequenced.outcome
        if not _is_short(outcome, under.tree_size, trusted_tree_size):
            # What is durable is answered without queueing behind those who only read.
            done = _Done(outcome, under, trusted_tree_size)
            return await self._in_threads.put(done, weight=len(outcome.leaf_indices), lane=lane)
        await self._views.count_in()
        if sequenced.edge is not None and under is sequenced.checkpoint:
            return append_response(self._prover_of(sequenced.edge), outcome, under, trusted_tree_size)
        return append_response(self._views.at_once(), outcome, under, trusted_tree_size)

    def _prover_of(self, edge: TreeEdge) -> EdgeProver:
        prover = self._prover
        if prover is None or prover.edge is not edge:
            prover = self._prover = EdgeProver(edge, self._read_node)
        return prover

    def _read_node(self, level: int, index: int) -> bytes:
        return self._views.at_once().node(level, index)

    def _answer(self, calls: Sequence[_Done]) -> list[log_pb2.AppendResponse | Exception]:
        responses: list[log_pb2.AppendResponse | Exception] = []
        # What this call brought was marked before it was told of; what was there may have come a moment ago.
        is_marked = not any(True in done.outcome.already_present for done in calls)
        with self._open_before_mark() if is_marked else self._open_view() as view:
            for done in calls:
                try:
                    responses.append(
                        _prove_present(
                            append_response(view, done.outcome, done.checkpoint, done.trusted_tree_size),
                            view,
                            done,
                        )
                    )
                except TlogError as error:
                    responses.append(error)
        return responses


def append_response(
    prover: ProvesAppends, outcome: CallOutcome, under: SignedCheckpoint, trusted_tree_size: int
) -> log_pb2.AppendResponse:
    """Say where all entries of a call are, and prove those that are new, for a client that knows a tree."""
    response = log_pb2.AppendResponse(checkpoint=under.note)
    response.consistency_proof.extend(consistency(prover, trusted_tree_size, under.tree_size))
    if outcome.new_range is not None:
        fill_range(response.range_proof, prover.prove_range(*outcome.new_range, under.tree_size))
    add = response.results.add
    for index, already_present in zip(outcome.leaf_indices, outcome.already_present, strict=True):
        add(leaf_index=index, already_present=already_present)
    return response


def _prove_present(response: log_pb2.AppendResponse, view: LogView, done: _Done) -> log_pb2.AppendResponse:
    """Prove the entries that were there before the call, each by itself."""
    start, end = done.outcome.new_range or (0, 0)
    for index in sorted({index for index in done.outcome.leaf_indices if not start <= index < end}):
        hashes = view.prove_inclusion(index, done.checkpoint.tree_size)
        response.inclusion_proofs.add(leaf_index=index, hashes=hashes)
    return response


def _is_short(outcome: CallOutcome, tree_size: int, trusted_tree_size: int) -> bool:
    """Return whether an answer takes less time to make than to hand to a thread: all is new, and recent."""
    new = 0 if outcome.new_range is None else outcome.new_range[1] - outcome.new_range[0]
    return new == len(outcome.leaf_indices) <= MAX_INLINE_ENTRIES and (
        trusted_tree_size == 0 or abs(tree_size - trusted_tree_size) <= MAX_INLINE_GROWTH
    )
