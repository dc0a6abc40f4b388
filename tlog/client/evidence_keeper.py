"""What a client does when a log contradicts itself: make evidence, keep it, and never believe the log again.

Two roots of one size are evidence by themselves. For two sizes it takes the path between them, which the
client asks for: a log that was restored from an old backup, and does not know what it signed since, gives it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from tlog.client.connection import Connection
from tlog.client.wire import decode_inclusion_proof, encode_entry_key
from tlog.errors import (
    ConsistencyUnprovenError,
    MalformedError,
    ProofError,
    PushbackError,
    RemoteError,
    RuleBrokenError,
    SplitViewError,
    StorageError,
    TlogError,
    VerificationError,
)
from tlog.evidence import (
    Evidence,
    Verdict,
    make_from_checkpoints,
    parse_evidence,
    stated_checkpoint,
    verify_evidence,
)
from tlog.evidence_store import EvidenceStore, convicted_error
from tlog.merkle import consistency_path_from_inclusion_proof
from tlog.policy import Policy
from tlog.v1 import log_pb2

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
_Item = TypeVar("_Item")

Contradiction = SplitViewError | ConsistencyUnprovenError | RuleBrokenError
AskPath = Callable[[int, int], Sequence[bytes]]
"""Asks the log for the whole consistency path from one size to a larger one. Raises any TlogError."""


class EvidenceKeeper:
    """Turns the contradictions of one log into evidence, and refuses the log once it is convicted.

    Without a directory that is remembered for the life of this object only. Safe to use from many threads.
    """

    def __init__(self, origin: str, policy: Policy, directory: Path | None, ask_path: AskPath) -> None:
        self._origin = origin
        self._policy = policy
        self._ask_path = ask_path
        self._lock = threading.Lock()
        self._store = None if directory is None else EvidenceStore(directory, policy)
        self._unkept: Verdict | None = None  # a conviction that is in no file

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Refuse a convicted log, and make evidence of a contradiction that the block raises.

        The error that leaves the block is the same one, with a note that names the file. Raises
        ConvictedError before the block begins, and the errors of `EvidenceStore.pieces`.
        """
        with self._lock:
            if self._unkept is not None:
                raise convicted_error(self._unkept, None)
            if self._store is not None:
                self._store.refuse_convicted(self._origin)
        try:
            yield
        except (SplitViewError, ConsistencyUnprovenError, RuleBrokenError) as error:
            # A call inside a call passes here twice.
            if not any(note.startswith("evidence: ") for note in getattr(error, "__notes__", ())):
                error.add_note(f"evidence: {self._accuse(error)}")
            raise

    def _accuse(self, error: Contradiction) -> str:
        """Make and keep evidence; returns what became of it, in words."""
        try:
            evidence = self._evidence_of(error)
            if evidence is None:
                return "none yet, it takes the consistency path between the two: ask other members for it"
            verdict = verify_evidence(evidence, self._policy)
        except (VerificationError, MalformedError) as reason:
            return f"none, as it would convict nobody: {reason}"
        if verdict.unproven:
            return f"none yet, as it leaves a gap: {verdict.finding}"
        try:
            with self._lock:
                return self._keep(evidence, verdict)
        except StorageError as problem:
            return f"held for the life of this client only: {problem}"

    def _keep(self, evidence: Evidence, verdict: Verdict) -> str:
        if self._store is None:
            self._unkept = verdict if verdict.convicts_log else self._unkept
            return "held for the life of this client only: it has no directory for evidence"
        try:
            return str(self._store.add(evidence).path)
        except StorageError:
            self._unkept = verdict if verdict.convicts_log else self._unkept
            raise

    def _evidence_of(self, error: Contradiction) -> Evidence | None:
        if isinstance(error, RuleBrokenError):
            return parse_evidence(error.evidence)
        if isinstance(error, SplitViewError) and error.evidence is not None:
            return parse_evidence(error.evidence)
        return make_from_checkpoints(error.checkpoints, self._path_for(error))

    def _path_for(self, error: SplitViewError | ConsistencyUnprovenError) -> Sequence[bytes] | None:
        # A log that did not answer is not asked again: whoever waits has waited long enough.
        if len(error.checkpoints) != 2 or isinstance(error.__cause__, RemoteError | PushbackError):
            return None
        size1, size2 = sorted(stated_checkpoint(note).tree_size for note in error.checkpoints)
        if not 0 < size1 < size2:
            return None
        try:
            return self._ask_path(size1, size2)
        except TlogError:
            return None


def evidence_beside(checkpoint_file: Path | None) -> Path | None:
    """Return where a client keeps evidence unless it is told: beside its trusted checkpoint, if any."""
    return None if checkpoint_file is None else checkpoint_file.parent / "evidence"


class KeepsEvidence(Protocol):
    """Is whatever has an evidence keeper to guard its methods with."""

    _evidence: EvidenceKeeper


_Owner = TypeVar("_Owner", bound=KeepsEvidence)


def guarded(
    method: Callable[Concatenate[_Owner, _Parameters], _Result],
) -> Callable[Concatenate[_Owner, _Parameters], _Result]:
    """Let a method run under `EvidenceKeeper.watching`."""

    @wraps(method)
    def call(self: _Owner, /, *arguments: _Parameters.args, **options: _Parameters.kwargs) -> _Result:
        with self._evidence.watching():
            return method(self, *arguments, **options)

    return call


def guarded_iterator(
    method: Callable[Concatenate[_Owner, _Parameters], Iterator[_Item]],
) -> Callable[Concatenate[_Owner, _Parameters], Iterator[_Item]]:
    """Let a method that returns an iterator run under `EvidenceKeeper.watching` until the iterator ends."""

    @wraps(method)
    def call(self: _Owner, /, *arguments: _Parameters.args, **options: _Parameters.kwargs) -> Iterator[_Item]:
        with self._evidence.watching():
            yield from method(self, *arguments, **options)

    return call


def ask_consistency_path(connection: Connection, size1: int, size2: int) -> list[bytes]:
    """Ask the log for the whole consistency path from `size1` to `size2`, which nobody has verified yet.

    Its first node is no part of a consistency proof where `size1` is a power of two, so the path is made of
    two inclusion proofs: that of the last leaf of the smaller tree, whose hash is in that of its neighbour.
    Requires 0 < size1 < size2. Raises ProofError, RemoteError, and what `Connection.call` raises.
    """
    last = size1 - 1
    request = log_pb2.GetInclusionProofsRequest(
        keys=[encode_entry_key(last), encode_entry_key(last ^ 1)], tree_size=size2
    )
    reply = connection.call(connection.get_inclusion_proofs, request)
    if len(reply.results) != 2:
        raise ProofError(f"the log answered for {len(reply.results)} entries, and was asked for 2")
    proof, neighbour = (decode_inclusion_proof(result.proof).hashes for result in reply.results)
    if not neighbour:
        raise ProofError(f"the log gave no inclusion proof of entry {last ^ 1}")
    return consistency_path_from_inclusion_proof(neighbour[0], size1, size2, proof)
