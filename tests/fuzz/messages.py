"""Targets that take what another process sent: gossip, a log's replies, frames between processes."""

from __future__ import annotations

from functools import cache

import grpc
from _support.two_histories import ORIGIN as GOSSIP_ORIGIN
from _support.two_histories import KeptHistory, TwoHistories
from fuzz.engine import Target
from fuzz.values import ALLIANCE, LOG, POLICY, make_target, trees
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from server.config import parse_config
from server.wire import (
    Call,
    Count,
    Counted,
    End,
    Exchanged,
    Failed,
    Listening,
    Published,
    RefuseAll,
    Sample,
    Stop,
    Taken,
    Welcome,
    decode_from_main,
    decode_from_worker,
    encode_message,
    error_of,
    failure_of,
    hand_over,
    outcome_of,
)
from server.wire import Exchange as HandedExchange
from tlog.client.append_reply import verify_append_reply
from tlog.client.call_errors import decode_call_error
from tlog.client.trusted_log import TrustedLog
from tlog.client.wire import (
    decode_hashes,
    decode_inclusion_proof,
    decode_range_proof,
    decode_refusal,
    decode_size,
)
from tlog.errors import (
    BatchRefusedError,
    MalformedError,
    ProofError,
    PushbackError,
    RefusalReason,
    RefusedError,
    RemoteError,
    TlogError,
    VerificationError,
)
from tlog.evidence import format_evidence, make_same_size
from tlog.gossip.grpc_wire import decode_message, parse_exchange
from tlog.gossip.grpc_wire import encode_message as encode_gossip
from tlog.gossip.message import GivenPath, GossipMessage, PeerView, WantedPath, check_message, evidence_digest
from tlog.gossip.pool import Pool
from tlog.gossip.state import MemoryState
from tlog.merkle import prove_inclusion, prove_range
from tlog.v1 import gossip_pb2, log_pb2
from tlog.validate import verify_entries

APPENDED = [trees()[0].tree.entries[index] for index in (4, 3)]
REFUSED = BatchRefusedError({
    3: RefusedError(RefusalReason.SOURCE_ID_CONFLICT, "entry 7 has it", existing_leaf_index=7),
    9: RefusedError(RefusalReason.BAD_SIGNATURE, "the signature does not verify"),
})  # fmt: skip


@cache
def histories() -> TwoHistories:
    """A log with two histories, for the gossip of nodes that saw either."""
    log = TwoHistories(12)
    log.fork("other", 5, 12)
    return log


@cache
def gossip_seeds() -> tuple[bytes, ...]:
    """Messages of honest nodes, and of one that has seen the other history."""
    log = histories()
    evidence = format_evidence(make_same_size(log.note("main", 8), log.note("other", 8)))
    wanted = WantedPath(origin=GOSSIP_ORIGIN, start_size=3, end_size=9)
    messages = (
        GossipMessage(),
        GossipMessage(checkpoints=(log.offer("main", 12, 8),), wanted=(wanted,)),
        GossipMessage(checkpoints=(log.offer("other", 9),)),
        GossipMessage(paths=(GivenPath(origin=GOSSIP_ORIGIN, path=log.path("main", 3, 9)),)),
        GossipMessage(evidence=(evidence,), evidence_held=(evidence_digest(evidence),)),
    )
    return tuple(
        encode_gossip(message, gossip_pb2.ExchangeRequest()).SerializeToString() for message in messages
    )


def _gossip(data: bytes) -> None:
    """A node that keeps the tree, and one that keeps checkpoints only, hear the same message."""
    log = histories()
    for kind in (gossip_pb2.ExchangeRequest(), gossip_pb2.ExchangeResponse()):
        message = decode_message(parse_exchange(data, kind))
    for trees_kept in (KeptHistory(log, "main", 8), KeptHistory(log, "main", 0)):
        pool = Pool(log.policy, MemoryState(), trees_kept, patience_s=60.0)
        pool.judge(log.offer("main", 8), 0.0)
        received = pool.receive(message, 1.0)
        pool.overdue(100.0)
        check_message(pool.message_for(received.view))
        check_message(pool.message_for(PeerView()))


def _append_reply(data: bytes) -> None:
    """The client sent two entries, and trusts nothing yet."""
    reply = log_pb2.AppendResponse()
    _parse(reply, data)
    trusted = TrustedLog.for_origin(POLICY, LOG.name)
    checkpoint = trusted.open_committed(reply.checkpoint)
    trusted.accept(checkpoint, decode_hashes(reply.consistency_proof, "consistency proof"))
    verify_append_reply(APPENDED, reply, checkpoint, 0)


def _entries_reply(data: bytes) -> None:
    entries = log_pb2.GetEntriesResponse()
    _parse(entries, data)
    decode_hashes(entries.consistency_proof, "consistency proof")
    decode_range_proof(entries.range_proof)


def _inclusion_proof(data: bytes) -> None:
    proof = log_pb2.InclusionProof()
    _parse(proof, data)
    decode_inclusion_proof(proof)
    decode_size(proof.leaf_index, "leaf index")


def _refusal(data: bytes) -> None:
    message = log_pb2.AppendRefusal()
    _parse(message, data)
    refused = decode_refusal(message, 10)
    assert refused.refusals and max(refused.refusals) < 10


class _FailedCall(grpc.RpcError):
    """Fails with the details that are given, as a call over a socket does."""

    def __init__(self, details: bytes) -> None:
        self._details = details

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "later"

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        return (("grpc-status-details-bin", self._details),)


def _call_error(data: bytes) -> None:
    failed = decode_call_error(_FailedCall(data), address="a:1", entries_sent=10)
    assert isinstance(failed.error, TlogError)


def _frame_from_main(data: bytes) -> None:
    message = decode_from_main(data)
    if isinstance(message, Failed):
        assert isinstance(error_of(message.failure), Exception)
    if isinstance(message, Taken):
        outcome_of(message)


def _frame_from_worker(data: bytes) -> None:
    decode_from_worker(data)


def _parse(message: Message, data: bytes) -> None:
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise MalformedError("grpc would not have taken this") from error


def _append_seed() -> bytes:
    """Entry 4 is new, and entry 3 was there before."""
    left, right = prove_range(_node, 4, 5, 7)
    present = log_pb2.InclusionProof(leaf_index=3, hashes=prove_inclusion(_node, 3, 7))
    return log_pb2.AppendResponse(
        results=[
            log_pb2.AppendResult(leaf_index=4),
            log_pb2.AppendResult(leaf_index=3, already_present=True),
        ],
        checkpoint=trees()[0].note(7),
        range_proof=log_pb2.RangeProof(start=4, end=5, left=left, right=right),
        inclusion_proofs=[present],
    ).SerializeToString()


def _node(level: int, index: int) -> bytes:
    return trees()[0].tree.mth(index << level, (index + 1) << level)


def _status_seeds() -> list[bytes]:
    refusal = log_pb2.AppendRefusal(other_positions=[3], other_reasons=[5])
    seeds = []
    for detail in (refusal, RetryInfo(retry_delay=Duration(seconds=1, nanos=500))):
        packed = Any()
        packed.Pack(detail)
        seeds.append(Status(code=14, message="later", details=[packed]).SerializeToString())
    return seeds


@cache
def message_targets() -> tuple[Target, ...]:
    """Everything that comes from another process, but for the calls of `fuzz.calls`."""
    config = parse_config('[log]\nstore_path = "s"\nkey_path = "k"\n')
    note = trees()[0].note(4)
    refusal = log_pb2.AppendRefusal(
        refusals=[log_pb2.EntryRefusal(position=1, reason=5, message="bad", existing_leaf_index=7)],
        other_positions=[3],
        other_reasons=[5],
    )
    range_proof = log_pb2.RangeProof(start=1, end=2, left=[bytes(32)], right=[bytes(32)])
    from_main = (
        Welcome(config, LOG.name, 8_650, note, "", True),
        Taken(2, (5, 6, 5), (False, False, True), (5, 7), note, 0.25),
        Failed(4, True, failure_of(REFUSED)),
        Failed(4, False, failure_of(PushbackError("later", retry_after_s=1.5))),
        Exchanged(5, b"\x00" * 10),
        Published(note),
        RefuseAll("restored"),
        Count(9),
        Stop(),
        End(),
    )
    from_worker = (
        Listening(),
        hand_over(7, verify_entries(ALLIANCE.entries(0, 2), ALLIANCE.origin)),
        Call(8, ()),
        HandedExchange(3, "ipv4:127.0.0.1:1", gossip_seeds()[1]),
        Counted(1, (Sample("f", "f_total", (("code", "OK"),), 2.0),)),
    )
    deep = [b"\x91" * 60_000, b"\xdd\xff\xff\xff\xff", b"\x93\xa6failed" + b"\xdf\xff\xff\xff\xff"]
    return (
        make_target(
            "gossip-message",
            _gossip,
            gossip_seeds(),
            MalformedError,
            nasty=[b"\x12\x00" * 300, b"\x1a\x00" * 65, b"\x22\x00" * 17, b"\x1a\x04\x1a\x00\x1a\x00" * 60],
        ),
        make_target(
            "append-reply", _append_reply, [_append_seed()], MalformedError, VerificationError, RemoteError
        ),
        make_target(
            "entries-reply",
            _entries_reply,
            [log_pb2.GetEntriesResponse(entries=APPENDED, range_proof=range_proof).SerializeToString()],
            MalformedError,
            ProofError,
            RemoteError,
        ),
        make_target(
            "inclusion-proof",
            _inclusion_proof,
            [log_pb2.InclusionProof(leaf_index=3, hashes=[bytes(32)] * 3).SerializeToString()],
            MalformedError,
            ProofError,
            RemoteError,
        ),
        make_target("append-refusal", _refusal, [refusal.SerializeToString()], MalformedError, RemoteError),
        make_target("call-error", _call_error, _status_seeds()),
        # It carries the configuration, which other changes than this protocol's add to.
        Target(
            name="frame-from-main",
            run=_frame_from_main,
            seeds=tuple(map(encode_message, from_main)),
            allowed=(MalformedError,),
            nasty=tuple(deep),
            is_repeatable=False,
        ),
        make_target(
            "frame-from-worker",
            _frame_from_worker,
            list(map(encode_message, from_worker)),
            MalformedError,
            nasty=deep,
        ),
    )
