"""What a log sends over gRPC is bounded before it is looked at."""

from __future__ import annotations

import pytest
from _support.lying_log import LyingLog

from tlog.checkpoint import parse_checkpoint
from tlog.client.trusted_log import VerifiedCheckpoint
from tlog.client.wire import MAX_RUN_ENTRIES
from tlog.errors import RemoteError
from tlog.monitor.grpc_source import GrpcSource
from tlog.note import parse_note
from tlog.v1 import log_pb2


def test_a_message_of_more_entries_than_agreed_on_is_not_read_though_they_are_proven() -> None:
    with LyingLog([b"entry %d" % number for number in range(300)]) as log:

        def in_one_message(reply: log_pb2.GetEntriesResponse, _: object) -> None:
            del reply.entries[:]
            reply.entries.extend(log.tree.entries[:count])
            reply.range_proof.CopyFrom(log.range_proof(0, count, log.size))

        log.lies["GetEntries"] = in_one_message
        source = GrpcSource(log.address, timeout_s=30.0)
        note = source.checkpoint()
        under = VerifiedCheckpoint(note=note, checkpoint=parse_checkpoint(parse_note(note)[0]))
        for count in (MAX_RUN_ENTRIES, MAX_RUN_ENTRIES + 1):
            runs = source.runs(0, under)
            if count > MAX_RUN_ENTRIES:
                with pytest.raises(RemoteError, match="257 entries in one message"):
                    next(runs)
            else:
                assert len(next(runs).entries) == MAX_RUN_ENTRIES
            runs.close()
        source.close()
