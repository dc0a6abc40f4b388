"""What the two server streams of a log mean to a reader: entries in order, checkpoints that never shrink.

Each opening of a stream begins with a published checkpoint, proven from the size that the request named; what
follows hangs on that one. A stream that breaks is opened again where its reader stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

from tlog.client.connection import Connection
from tlog.client.proven_entries import ProvenRun, verify_run
from tlog.client.resumable_stream import ResumableStream
from tlog.client.trust_keeper import TrustKeeper
from tlog.client.trusted_log import VerifiedCheckpoint
from tlog.errors import ConsistencyUnprovenError, OutOfRangeError, ProofError, RemoteError
from tlog.freshness import cosignature_times_s
from tlog.v1 import log_pb2


def stream_runs(
    connection: Connection,
    keeper: TrustKeeper,
    start: int,
    end: int | None,
    *,
    look_at: Callable[[ProvenRun], None],
) -> Iterator[ProvenRun]:
    """Yield runs of entries for [start, end); None: up to the size of the stream's first checkpoint.

    `look_at` is shown each run as soon as it is proven, also one whose checkpoint is not to be trusted.
    Requires 0 <= start, and start < end where `end` is given. Raises OutOfRangeError, VerificationError,
    RemoteError, StorageError, and what `look_at` raises.
    """
    position, anchor = start, keeper.state

    def request() -> log_pb2.GetEntriesRequest:
        nonlocal anchor
        anchor = keeper.state
        return log_pb2.GetEntriesRequest(start=position, end=end or 0, trusted_tree_size=anchor.tree_size)

    stream = ResumableStream(
        connection,
        connection.get_entries,
        request,
        stream_timeout_s=connection.timeout_s,
        endless=False,
    )
    checkpoint: VerifiedCheckpoint | None = None
    try:
        while end is None or position < end:
            read = stream.read()
            if read is None:
                raise RemoteError(f"the log ended the stream before entry {position}: entries are missing")
            message, is_first = read
            if is_first:
                checkpoint = anchor.open_published(message.checkpoint)
                try:
                    keeper.accept_published(anchor, checkpoint, message.consistency_proof)
                except ConsistencyUnprovenError:
                    # What it proves here may convict it without any path.
                    with suppress(ProofError, RemoteError):
                        look_at(verify_run(message, checkpoint, position, end or checkpoint.tree_size))
                    raise
                end = checkpoint.tree_size if end is None else end
                if not position <= end <= checkpoint.tree_size:
                    raise OutOfRangeError(
                        f"entries [{position}, {end}) are asked for, and {checkpoint.tree_size} are published"
                    )
                if position == end:
                    return
            assert checkpoint is not None
            assert end is not None
            run = verify_run(message, checkpoint, position, end)
            look_at(run)
            position += len(run.entries)
            yield run
    finally:
        stream.close()


def stream_checkpoints(
    connection: Connection, keeper: TrustKeeper, *, stream_timeout_s: float
) -> Iterator[VerifiedCheckpoint]:
    """Yield the published checkpoint now and every newer one, until the connection is closed.

    Newer is a larger one, or one of the same size that a cosigner of the policy has cosigned later.
    Raises VerificationError, RemoteError (also when the log repeats itself inside one opening, or goes on
    ending streams that bring nothing) and StorageError.
    """
    anchor = keeper.state
    newest: VerifiedCheckpoint | None = None
    shown = b""
    times_s: dict[bytes, int] = {}  # the latest cosignature of each cosigner under `newest`

    def request() -> log_pb2.WatchCheckpointsRequest:
        nonlocal anchor
        anchor = keeper.state
        return log_pb2.WatchCheckpointsRequest(trusted_tree_size=anchor.tree_size)

    def is_news(message: log_pb2.WatchCheckpointsResponse, is_first: bool) -> bool:
        nonlocal anchor, newest, shown, times_s
        checkpoint = anchor.open_published(message.checkpoint)
        if not is_first and (checkpoint.tree_size < anchor.tree_size or checkpoint.note == shown):
            raise RemoteError(
                f"the log showed size {checkpoint.tree_size} after size {anchor.tree_size} in one stream of "
                "newer checkpoints: it would not come to an end"
            )
        shown = checkpoint.note
        keeper.accept_published(anchor, checkpoint, message.consistency_proof)
        # The next message is proven from this one, whatever else was trusted meanwhile. Other cosignatures
        # make no other tree: with the note that is trusted already, the keeper sees that nothing has moved.
        if anchor.newest is None or checkpoint.tree_size != anchor.tree_size:
            anchor = replace(anchor, newest=checkpoint)
        cosigned_s = cosignature_times_s(checkpoint.note, anchor.policy)
        if newest is None or checkpoint.tree_size > newest.tree_size:
            times_s = cosigned_s
        elif checkpoint.tree_size < newest.tree_size or not _is_later(cosigned_s, times_s):
            # Also where only keys have cosigned again that the policy does not know.
            return False
        else:
            times_s |= {name: max(time_s, times_s.get(name, 0)) for name, time_s in cosigned_s.items()}
        newest = checkpoint
        return True

    stream = ResumableStream(
        connection,
        connection.watch_checkpoints,
        request,
        stream_timeout_s=stream_timeout_s,
        endless=True,
        is_news=is_news,
    )
    try:
        while True:
            try:
                stream.read()
            except RemoteError:
                if connection.is_closed:
                    return
                raise
            assert newest is not None
            yield newest
    finally:
        stream.close()


def _is_later(cosigned_s: Mapping[bytes, int], before_s: Mapping[bytes, int]) -> bool:
    return any(time_s > before_s.get(name, 0) for name, time_s in cosigned_s.items())
