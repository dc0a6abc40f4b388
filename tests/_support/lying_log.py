"""A small log behind a real socket, for testing clients: honest by default, and able to lie in every answer.

It keeps its entries in a Python list, checks nothing that is appended, and proves with `tlog.merkle` over the
naive tree. A lie is a function that changes an honest response in place (`lies`), a failure is a status that
the next call of a method ends with (`failures`), and `fork_to` shows another history under the same key.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from _support.naive_merkle import NaiveTree
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.cosignature import CosignatureSigner
from tlog.envelope import decode_entry
from tlog.errors import MalformedError
from tlog.event import parse_event
from tlog.merkle import prove_consistency, prove_inclusion, prove_range
from tlog.note import Signer, add_signatures, sign_note
from tlog.receipt import Receipt, format_receipt
from tlog.v1 import log_pb2, log_pb2_grpc

ORIGIN = "log.example/trade"
COSIGNED_AT_S = 1_700_000_000
RUN_ENTRIES = 8
Lie = Callable[[Any, Any], object]


class LyingLog(log_pb2_grpc.LogServiceServicer):
    """Serves one log on 127.0.0.1; `address` is where."""

    def __init__(self, entries: Iterable[bytes] = (), *, signer: Signer | None = None) -> None:
        self.signer = signer or Signer.generate(ORIGIN)
        self.origin = self.signer.name
        self.witnesses: list[CosignatureSigner] = []
        self.cosigned_at_s = COSIGNED_AT_S
        self.published_size: int | None = None  # None: everything is published
        self.lies: dict[str, Lie] = {}
        self.failures: defaultdict[str, deque[tuple[grpc.StatusCode, str, bytes | None]]] = defaultdict(deque)
        self.lost_replies: defaultdict[str, int] = defaultdict(int)
        self.end_stream_after: int | None = None
        self.refuse: Callable[[Sequence[bytes]], log_pb2.AppendRefusal | None] = lambda entries: None
        self.calls: list[tuple[str, Any]] = []
        self.changed = threading.Condition()
        self.stopping = False
        self.fork_to(entries)
        self._server: grpc.Server | None = None
        self.port = 0

    def __enter__(self) -> LyingLog:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self.stopping = False
        self._server = grpc.server(
            ThreadPoolExecutor(max_workers=16),
            options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 16 << 20)],
        )
        log_pb2_grpc.add_LogServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        assert self._server is not None
        with self.changed:
            self.stopping = True
            self.changed.notify_all()
        self._server.stop(None).wait()

    def fork_to(self, entries: Iterable[bytes]) -> None:
        """Show this history from now on, whatever was shown before."""
        self.tree = NaiveTree(list(entries))
        self.index_of = {entry: index for index, entry in reversed(list(enumerate(self.tree.entries)))}

    def add(self, *entries: bytes) -> None:
        with self.changed:
            for entry in entries:
                self.index_of.setdefault(entry, len(self.tree.entries))
                self.tree.entries.append(entry)
            self.changed.notify_all()

    def cosign_again(self, at_s: int) -> None:
        with self.changed:
            self.cosigned_at_s = at_s
            self.changed.notify_all()

    def calls_of(self, method: str) -> list[Any]:
        return [request for name, request in self.calls if name == method]

    @property
    def size(self) -> int:
        return len(self.tree.entries)

    @property
    def published(self) -> int:
        return self.size if self.published_size is None else self.published_size

    def note(self, size: int, *, cosigned: bool = False, origin: str | None = None) -> bytes:
        checkpoint = Checkpoint(origin or self.origin, size, self.tree.mth(0, size))
        text = format_checkpoint(checkpoint)
        note = sign_note(text, [self.signer])
        if cosigned and self.witnesses:
            note = add_signatures(
                note, [witness.cosign(text, self.cosigned_at_s) for witness in self.witnesses]
            )
        return note

    def read_node(self, level: int, index: int) -> bytes:
        return self.tree.mth(index << level, (index + 1) << level)

    def consistency(self, trusted_size: int, size: int) -> list[bytes]:
        first, second = sorted((trusted_size, size))
        return prove_consistency(self.read_node, first, second) if second <= self.size else []

    def inclusion(self, index: int, size: int) -> log_pb2.InclusionProof:
        return log_pb2.InclusionProof(leaf_index=index, hashes=prove_inclusion(self.read_node, index, size))

    def range_proof(self, start: int, end: int, size: int) -> log_pb2.RangeProof:
        left, right = prove_range(self.read_node, start, end, size)
        return log_pb2.RangeProof(start=start, end=end, left=left, right=right)

    def receipt(self, index: int, size: int) -> bytes:
        return format_receipt(
            Receipt(
                leaf_index=index,
                proof=tuple(prove_inclusion(self.read_node, index, size)),
                checkpoint=self.note(size, cosigned=True),
            )
        )

    def Append(self, request: log_pb2.AppendRequest, context: grpc.ServicerContext) -> log_pb2.AppendResponse:
        self._called("Append", request, context)
        refusal = self.refuse(request.entries)
        if refusal is not None:
            _abort(context, grpc.StatusCode.PERMISSION_DENIED, "refused", refusal)
        with self.changed:
            start = self.size
            results = []
            for entry in request.entries:
                present = entry in self.index_of
                if not present:
                    self.index_of[entry] = self.size
                    self.tree.entries.append(entry)
                results.append(log_pb2.AppendResult(leaf_index=self.index_of[entry], already_present=present))
            end = self.size
            self.changed.notify_all()
        if self.lost_replies["Append"]:
            self.lost_replies["Append"] -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "the reply was lost")
        before = sorted({result.leaf_index for result in results if result.leaf_index < start})
        return self._answer(
            "Append",
            request,
            log_pb2.AppendResponse(
                results=results,
                checkpoint=self.note(end),
                range_proof=self.range_proof(start, end, end) if start < end else None,
                inclusion_proofs=[self.inclusion(index, end) for index in before],
                consistency_proof=self.consistency(request.trusted_tree_size, end),
            ),
        )

    def GetCheckpoint(
        self, request: log_pb2.GetCheckpointRequest, context: grpc.ServicerContext
    ) -> log_pb2.GetCheckpointResponse:
        self._called("GetCheckpoint", request, context)
        size = self.published
        return self._answer(
            "GetCheckpoint",
            request,
            log_pb2.GetCheckpointResponse(
                checkpoint=self.note(size, cosigned=True),
                consistency_proof=self.consistency(request.trusted_tree_size, size),
            ),
        )

    def WatchCheckpoints(
        self, request: log_pb2.WatchCheckpointsRequest, context: grpc.ServicerContext
    ) -> Iterator[log_pb2.WatchCheckpointsResponse]:
        self._called("WatchCheckpoints", request, context)
        known, shown, last = request.trusted_tree_size, -1, b""
        while context.is_active() and not self.stopping:
            size = self.published
            note = self.note(size, cosigned=True)
            if size > shown or (size == shown and note != last):
                yield self._answer(
                    "WatchCheckpoints",
                    request,
                    log_pb2.WatchCheckpointsResponse(
                        checkpoint=note, consistency_proof=self.consistency(known, size)
                    ),
                )
                known, shown, last = size, size, note
                self._fail_if_told("WatchCheckpoints mid-stream", context)
                if self.end_stream_after is not None:
                    return
            with self.changed:
                self.changed.wait(0.05)

    def GetInclusionProofs(
        self, request: log_pb2.GetInclusionProofsRequest, context: grpc.ServicerContext
    ) -> log_pb2.GetInclusionProofsResponse:
        self._called("GetInclusionProofs", request, context)
        size = request.tree_size or self.published
        response = log_pb2.GetInclusionProofsResponse()
        if not request.tree_size:
            response.checkpoint = self.note(size, cosigned=True)
            response.consistency_proof.extend(self.consistency(request.trusted_tree_size, size))
        for key in request.keys:
            result = response.results.add()
            index = self._find(key)
            if index is not None:
                if index >= size:
                    context.abort(grpc.StatusCode.OUT_OF_RANGE, f"entry {index} of {size}")
                result.proof.CopyFrom(self.inclusion(index, size))
        return self._answer("GetInclusionProofs", request, response)

    def GetConsistencyProof(
        self, request: log_pb2.GetConsistencyProofRequest, context: grpc.ServicerContext
    ) -> log_pb2.GetConsistencyProofResponse:
        self._called("GetConsistencyProof", request, context)
        if request.second_tree_size > self.size:
            context.abort(grpc.StatusCode.OUT_OF_RANGE, f"there are {self.size} entries")
        return self._answer(
            "GetConsistencyProof",
            request,
            log_pb2.GetConsistencyProofResponse(
                hashes=self.consistency(request.first_tree_size, request.second_tree_size)
            ),
        )

    def GetEntries(
        self, request: log_pb2.GetEntriesRequest, context: grpc.ServicerContext
    ) -> Iterator[log_pb2.GetEntriesResponse]:
        self._called("GetEntries", request, context)
        size = self.published
        start, end = request.start, request.end or size
        if not start <= end <= size:
            context.abort(grpc.StatusCode.OUT_OF_RANGE, f"[{start}, {end}) of {size}")
        first = log_pb2.GetEntriesResponse(
            checkpoint=self.note(size, cosigned=True),
            consistency_proof=self.consistency(request.trusted_tree_size, size),
        )
        if start == end:
            yield self._answer("GetEntries", request, first)
        for sent, begin in enumerate(range(start, end, RUN_ENTRIES)):
            if sent == self.end_stream_after:
                return
            stop = min(begin + RUN_ENTRIES, end)
            message = log_pb2.GetEntriesResponse(
                entries=self.tree.entries[begin:stop], range_proof=self.range_proof(begin, stop, size)
            )
            if begin == start:
                message.MergeFrom(first)
            yield self._answer("GetEntries", request, message)
            self._fail_if_told("GetEntries mid-stream", context)

    def GetReceipts(
        self, request: log_pb2.GetReceiptsRequest, context: grpc.ServicerContext
    ) -> log_pb2.GetReceiptsResponse:
        self._called("GetReceipts", request, context)
        response = log_pb2.GetReceiptsResponse()
        for key in request.keys:
            index = self._find(key)
            shown = index is not None and index < self.published
            response.results.add(receipt=self.receipt(index, self.published) if shown else b"")
        return self._answer("GetReceipts", request, response)

    def Lookup(self, request: log_pb2.LookupRequest, context: grpc.ServicerContext) -> log_pb2.LookupResponse:
        self._called("Lookup", request, context)
        size = self.published
        response = log_pb2.LookupResponse(
            checkpoint=self.note(size, cosigned=True),
            consistency_proof=self.consistency(request.trusted_tree_size, size),
        )
        for index in range(request.start, size):
            if request.business_key not in _business_keys(self.tree.entries[index]):
                continue
            if len(response.found) == request.limit:
                response.next_start = index
                break
            response.found.add(entry=self.tree.entries[index], inclusion_proof=self.inclusion(index, size))
        return self._answer("Lookup", request, response)

    def fail_next(
        self,
        method: str,
        code: grpc.StatusCode,
        *,
        times: int = 1,
        retry_delay_s: float | None = None,
        details: bytes | None = None,
    ) -> None:
        """Let the next calls of a method end with a status, and with RetryInfo where a delay is given."""
        if retry_delay_s is not None:
            delay = duration_pb2.Duration()
            delay.FromNanoseconds(int(retry_delay_s * 1e9))
            details = _status_bytes(code, "told to fail", error_details_pb2.RetryInfo(retry_delay=delay))
        self.failures[method].extend([(code, "told to fail", details)] * times)

    def hang(self, method: str) -> threading.Event:
        """Let the replies of a method wait until the event that is returned is set."""
        released = threading.Event()

        def hold(reply: Any, request: Any) -> None:
            released.wait(30)

        self.lies[method] = hold
        return released

    def _called(self, method: str, request: Any, context: grpc.ServicerContext) -> None:
        self.calls.append((method, request))
        self._fail_if_told(method, context)

    def _fail_if_told(self, method: str, context: grpc.ServicerContext) -> None:
        if self.failures[method]:
            code, text, details = self.failures[method].popleft()
            if details is not None:
                context.set_trailing_metadata((("grpc-status-details-bin", details),))
            context.abort(code, text)

    def _answer(self, method: str, request: Any, response: Any) -> Any:
        if method in self.lies:
            self.lies[method](response, request)
        return response

    def _find(self, key: log_pb2.EntryKey) -> int | None:
        if key.WhichOneof("key") == "leaf_index":
            return key.leaf_index
        for index, entry in enumerate(self.tree.entries):
            try:
                event = parse_event(decode_entry(entry).payload)
            except MalformedError:
                continue
            if (event.source, event.id) == (key.source_id.source, key.source_id.id):
                return index
        return None


def _business_keys(entry: bytes) -> Sequence[str]:
    try:
        event = parse_event(decode_entry(entry).payload)
    except MalformedError:
        return ()
    return (*event.refs, "tlog:governance") if event.source == "urn:tlog:governance" else event.refs


def _status_bytes(code: grpc.StatusCode, message: str, detail: Any) -> bytes:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return bytes(status_pb2.Status(code=code.value[0], message=message, details=[packed]).SerializeToString())


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode, message: str, detail: Any) -> None:
    context.set_trailing_metadata((("grpc-status-details-bin", _status_bytes(code, message, detail)),))
    context.abort(code, message)
