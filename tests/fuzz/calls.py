"""Targets behind real sockets: every RPC and every port of real processes, and a client before a liar.

A `Rig` starts a server, a witness, a node and a signer, and tells afterwards whether they do their work.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import grpc
import psutil
from _support.alliance import INVOICE, Alliance, key
from _support.command_line import tlog
from _support.log_directory import make_log_directory, serving
from _support.lying_log import LyingLog
from _support.real_node import RealNode, make_node_directory
from _support.real_program import RealProgram
from _support.real_server import RealServer
from _support.real_signer import signing
from _support.real_witness import RealWitness
from _support.signers import cosigner
from _support.submitting_log import SubmittingLog
from fuzz.engine import Target
from fuzz.messages import gossip_seeds
from fuzz.notes import note_targets

from tlog.client import LogClient, RetryPolicy
from tlog.envelope import decode_entry, sign_entry
from tlog.errors import MalformedError, TlogError, WitnessConflictError, WitnessRefusedError
from tlog.event import build_event
from tlog.key_file import write_key_file
from tlog.note import Signer, parse_note
from tlog.policy import build_policy, format_policy
from tlog.signer.protocol import LENGTH_BYTES, Cosign, ListKeys, Sign, encode_frame, encode_question
from tlog.v1 import log_pb2
from tlog.witness.client import WitnessClient

CALL_S = 15.0
"""No call and no request may take longer."""
QUIET_S = 0.03
MAX_GROWTH_BYTES = 128 * 2**20
"""How much more memory a process may hold after all that was sent."""
METHODS = tuple(method.name for method in log_pb2.DESCRIPTOR.services_by_name["LogService"].methods)
ANSWERS = frozenset({
    *(grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE),
    *(grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED),
    *(grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.RESOURCE_EXHAUSTED),
})  # fmt: skip
"""The statuses that a caller may cause: anything else is a bug, a hang or a crash."""
STATUS_LINE = re.compile(rb"HTTP/[0-9]\.[0-9] ([0-9]{3}) ")
TROUBLE = ("Traceback", "failed with a bug", "Fatal Python error", "Exception in")


class AnswerError(AssertionError):
    """Says that a program answered as it never should."""


@dataclass(slots=True)
class Rig:
    """Holds the processes and what is known of them."""

    server: RealServer
    witness: RealWitness
    node: RealNode
    alliance: Alliance
    submitting: SubmittingLog
    signer: RealProgram
    signer_socket: Path
    channel: grpc.Channel
    numbers: Iterator[int]
    before: dict[int, int]

    @property
    def pids(self) -> tuple[int, ...]:
        return (self.server.pid, self.witness.program.pid, self.node.program.pid, self.signer.pid)

    def check(self) -> None:
        """Check that all live, logged no traceback, hold no more memory, and answer a valid call."""
        for name, errors in (
            ("server", self.server.errors),
            ("witness", self.witness.errors),
            ("node", self.node.errors),
            ("signer", self.signer.errors),
        ):
            for word in TROUBLE:
                if word in errors:
                    at = max(0, errors.index(word) - 500)
                    raise AnswerError(f"the {name} logged:\n{errors[at : at + 4_000]}")
        for pid in self.pids:
            grown = psutil.Process(pid).memory_info().rss - self.before.setdefault(pid, _resident(pid))
            if grown > MAX_GROWTH_BYTES:
                raise AnswerError(f"process {pid} has grown by {grown} bytes")
        entry = self.alliance.entry(next(self.numbers))
        policy = build_policy([self.alliance.signer.vkey])
        with LogClient(self.server.grpc_address, policy, checkpoint_file=None, timeout_s=CALL_S) as client:
            (appended,) = client.append([entry])
            assert client.inclusion_proof(entry).leaf_index == appended.leaf_index
        for url, path in ((self.server.tiles_url, "/checkpoint"), (self.server.metrics_url, "/metrics")):
            answer = send(url, _get(path, "Connection: close"), quiet_s=CALL_S)
            if b" 200 " not in answer[:20]:
                raise AnswerError(f"{url}{path} is answered with {answer[:200]!r}")
        asyncio.run(self._cosign())
        exchange(self.node.address, b"")
        answer = ask_signer(self.signer_socket, encode_frame(encode_question(ListKeys())))
        if b"+" not in answer:
            raise AnswerError(f"the signer answered {answer!r}")

    async def _cosign(self) -> None:
        """Let the witness cosign the tree that it holds once more, or the first one."""
        async with WitnessClient(self.witness.url, self.witness.verifiers) as client:

            async def again(size: int, history: int) -> bool:
                note = self.submitting.note(max(size, 1), history=history)
                return bool(await client.add_checkpoint(size, [], note, CALL_S))

            try:
                cosigned = await again(0, 0)
            except WitnessConflictError as conflict:
                try:
                    cosigned = await again(conflict.tree_size, 0)
                except WitnessRefusedError:
                    cosigned = await again(conflict.tree_size, 1)
            assert cosigned


def _resident(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


@contextmanager
def running(directory: Path) -> Iterator[Rig]:
    """Start the three processes in a directory, and end them with the block."""
    alliance = Alliance()
    config = make_log_directory(directory / "log", alliance)
    policy = directory / "policy"
    policy.write_bytes(format_policy(build_policy([alliance.signer.vkey])))
    # The witness follows a log of its own, whose checkpoints the targets have.
    submitting = SubmittingLog(fork_at=5)
    made = tlog(
        *("witness", "init", directory / "witness", "--name", "witness.example/w1"),
        *("--log", submitting.signer.vkey, "--origin", submitting.origin),
    )
    assert made.code == 0, made
    with ExitStack() as stack:
        server = stack.enter_context(serving(config))
        settings = {"round_s": 3_600.0, "timeout_s": 5.0, "port": 0, "calls_per_s": 10_000.0}
        settings |= {"burst_calls": 100_000}
        node_directory = make_node_directory(
            directory / "node", policy, server=server.grpc_address, settings=settings
        )
        witness = stack.enter_context(RealWitness(directory / "witness"))
        node = stack.enter_context(RealNode(node_directory))
        write_key_file(directory / "signer.key", cosigner(SubmittingLog.origin))
        # Short: the path of a socket may have a hundred bytes.
        top = Path(stack.enter_context(TemporaryDirectory(prefix="tlog-")))
        signer = stack.enter_context(signing(top, "--cosigner-key", directory / "signer.key", "--new-state"))
        channel = stack.enter_context(grpc.insecure_channel(server.grpc_address))
        rig = Rig(
            server=server,
            witness=witness,
            node=node,
            signer=signer,
            signer_socket=top / "signer.sock",
            alliance=alliance,
            submitting=submitting,
            channel=channel,
            numbers=count(10**6),
            before={},
        )
        rig.check()
        rig.before = {pid: _resident(pid) for pid in rig.pids}
        yield rig


def call(channel: grpc.Channel, path: str, data: bytes, *, messages: int = 3) -> str:
    """Send bytes as the request of a method, read the first messages of the answer, and return the status.

    Raises AnswerError for a status that no caller should be able to cause.
    """
    answer = channel.unary_stream(path)(data, timeout=CALL_S)
    try:
        for _ in islice(answer, messages):
            pass
        answer.cancel()
    except grpc.RpcError as error:
        if error.code() not in ANSWERS:
            raise AnswerError(f"{path}: {error.code()}: {error.details()}") from error
        return str(error.code().name)
    return "OK"


def exchange(address: str, data: bytes) -> str:
    """Make an Exchange over a connection of its own: after an offence it is not listened to any more."""
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        return call(channel, "/tlog.v1.GossipService/Exchange", data)


def send(url: str, data: bytes, *, quiet_s: float = QUIET_S) -> bytes:
    """Send bytes to the port of a URL, and return everything until the connection ends.

    After `quiet_s` without a byte nothing more is sent, which ends what waits for the rest of a request.
    Raises AnswerError when the connection does not end then, and for a 500.
    """
    parts = urlsplit(url)
    answer = bytearray()
    connection = socket.create_connection((parts.hostname, parts.port), timeout=CALL_S)
    with connection, suppress(ConnectionError):  # it hung up while something was still on its way
        connection.sendall(data)
        if not _read_on(connection, answer, quiet_s):
            connection.shutdown(socket.SHUT_WR)
            if not _read_on(connection, answer, CALL_S):
                raise AnswerError(f"{url} did not end the connection within {CALL_S} s")
    if _status(bytes(answer)) == "500":
        raise AnswerError(f"{url} answered {bytes(answer[:300])!r}")
    return bytes(answer)


def _status(answer: bytes) -> str:
    """What was answered; HTTP/0.9 has no status."""
    status = STATUS_LINE.match(answer)
    if status is None:
        return "no status" if answer else "no answer"
    return status[1].decode()


def _read_on(connection: socket.socket, answer: bytearray, quiet_s: float) -> bool:
    """Read until the connection ends, or nothing comes for so long; tells whether it has ended."""
    connection.settimeout(quiet_s)
    try:
        while chunk := connection.recv(65_536):
            answer += chunk
    except TimeoutError:
        return False
    return True


def ask_signer(path: Path, data: bytes) -> bytes:
    """Send bytes to a signer, and return what it says before it hangs up, or says nothing more."""
    answer = bytearray()
    connection = socket.socket(socket.AF_UNIX)
    with connection, suppress(ConnectionError):
        connection.settimeout(CALL_S)
        connection.connect(str(path))
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        if not _read_on(connection, answer, CALL_S):
            raise AnswerError(f"the signer did not end the connection within {CALL_S} s")
    return bytes(answer)


def _get(path: str, *headers: str, method: str = "GET") -> bytes:
    lines = (f"{method} {path} HTTP/1.1", "Host: a", *headers, "", "")
    return "\r\n".join(lines).encode("latin-1", "replace")


def _post(body: bytes, *headers: str) -> bytes:
    return _get("/add-checkpoint", f"Content-Length: {len(body)}", *headers, method="POST") + body


def log_requests(alliance: Alliance) -> dict[str, tuple[bytes, ...]]:
    """Valid requests of every method of LogService, encoded."""
    key_of = log_pb2.EntryKey
    source = log_pb2.SourceId(source=alliance.source("exporter"), id="event-1")
    keys = [key_of(leaf_index=2), key_of(source_id=source)]
    messages = {
        "Append": [
            log_pb2.AppendRequest(entries=[alliance.entry(1)], trusted_tree_size=4),
            log_pb2.AppendRequest(entries=alliance.entries(2, 5), wait_for=2),
            log_pb2.AppendRequest(entries=[alliance.entry(9, signer=key("stranger")), *alliance.governance]),
        ],
        "GetCheckpoint": [log_pb2.GetCheckpointRequest(trusted_tree_size=3)],
        "WatchCheckpoints": [log_pb2.WatchCheckpointsRequest(trusted_tree_size=3)],
        "GetInclusionProofs": [
            log_pb2.GetInclusionProofsRequest(keys=keys, trusted_tree_size=2),
            log_pb2.GetInclusionProofsRequest(keys=keys[:1], tree_size=4),
        ],
        "GetConsistencyProof": [log_pb2.GetConsistencyProofRequest(first_tree_size=2, second_tree_size=4)],
        "GetEntries": [
            log_pb2.GetEntriesRequest(start=1, end=4, trusted_tree_size=2),
            log_pb2.GetEntriesRequest(start=2),
        ],
        "GetReceipts": [log_pb2.GetReceiptsRequest(keys=keys)],
        "Lookup": [
            log_pb2.LookupRequest(business_key="tlog:governance", start=1, limit=2, trusted_tree_size=1),
            log_pb2.LookupRequest(business_key="invoice:INV-1"),
        ],
    }
    return {name: tuple(one.SerializeToString() for one in each) for name, each in messages.items()}


def rpc_targets(rig: Rig) -> tuple[Target, ...]:
    """Every RPC of the server and of the node, by its raw bytes, and Append with entries that are signed."""
    requests = log_requests(rig.alliance)
    assert set(requests) == set(METHODS), "a method has no valid request here"

    def run(method: str) -> Callable[[bytes], object]:
        messages = 1 if method == "WatchCheckpoints" else 3
        return lambda data: call(rig.channel, f"/tlog.v1.LogService/{method}", data, messages=messages)

    def append_signed(data: bytes) -> str:
        """The input is a payload: it gets a good signature, and a number so that it is new."""
        payload = data.replace(b'"event-1"', b'"fuzz-%d"' % next(rig.numbers))
        signers = [key("exporter")] if b"governance" not in data else rig.alliance.governance_keys[:2]
        request = log_pb2.AppendRequest(entries=[sign_entry(payload, signers)])
        return call(rig.channel, "/tlog.v1.LogService/Append", request.SerializeToString())

    payloads = [decode_entry(rig.alliance.entry(1)).payload]
    payloads += [decode_entry(entry).payload for entry in rig.alliance.governance[2:]]
    payloads.append(
        build_event(
            id="event-1",
            source=rig.alliance.source("exporter"),
            type=INVOICE,
            subject="invoice:1",
            time="2016-12-31T23:59:60.5+00:00",
            origin=rig.alliance.origin,
            refs=["invoice:INV-2025-0778"],
            data={"a": [1, 2.5, None]},
        )
    )
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    headers = b"\x82\x86\x84\x41\x01a"
    frames = preface + len(headers).to_bytes(3, "big") + b"\x01\x05\0\0\0\x01" + headers
    return (
        *(
            Target(name=f"rpc-{method}", seeds=requests[method], run=run(method), allowed=())
            for method in METHODS
        ),
        Target(name="rpc-append-signed", seeds=tuple(payloads), run=append_signed, allowed=(MalformedError,)),
        Target(
            name="rpc-exchange-log",
            seeds=gossip_seeds(),
            run=lambda data: exchange(rig.server.grpc_address, data),
            allowed=(),
        ),
        Target(
            name="rpc-exchange-node",
            seeds=gossip_seeds(),
            run=lambda data: exchange(rig.node.address, data),
            allowed=(),
        ),
        Target(
            name="grpc-socket",
            seeds=(preface, frames, frames + frames[len(preface) :]),
            run=lambda data: _send_blindly(rig.server.grpc_address, data),
            allowed=(),
        ),
    )


def _send_blindly(address: str, data: bytes) -> None:
    """Send bytes to a port of grpc, whose own answers are nothing of ours; it only has to live on."""
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=CALL_S)
    with connection, suppress(OSError):  # it hangs up as soon as it likes
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        _read_on(connection, bytearray(), QUIET_S)


def http_targets(rig: Rig) -> tuple[Target, ...]:
    """Every HTTP port, by the raw bytes of a connection, and the witness by the bodies that it is sent."""

    def asks(url: str) -> Callable[[bytes], str]:
        return lambda data: _status(send(url, data))

    tiles, metrics, witness = rig.server.tiles_url, rig.server.metrics_url, rig.witness.url
    gets = (
        _get("/checkpoint", "Connection: close"),
        _get("/tile/0/000.p/4", "Accept-Encoding: gzip", "Connection: close"),
        _get("/tile/entries/000.p/4", "Range: bytes=1-2", 'If-None-Match: "a"'),
        _get("/tile/0/x001/x234/067", method="HEAD") + _get("/checkpoint", "Connection: close"),
        _get("http://a.example/checkpoint"),
        _get("/checkpoint", "Transfer-Encoding: chunked", method="POST") + b"5\r\nhello\r\n0\r\n\r\n",
        _get("/checkpoint", "Connection: Upgrade", "Upgrade: websocket"),
    )
    bodies = (
        rig.submitting.request(0, 5),
        rig.submitting.request(1, 7),
        rig.submitting.request(1, 9, history=1),
        *next(target.seeds for target in note_targets() if target.name == "witness-request"),
    )
    # The witness remembers: only what it refuses, or cosigns again, may be among the valid ones.
    again = rig.submitting.request(1, 1)
    posts = (_post(again), _post(bodies[0]), _get(f"/{'0' * 64}/checkpoint"))
    return (
        Target(name="http-tiles", seeds=gets, run=asks(tiles), allowed=()),
        Target(
            name="http-metrics",
            seeds=(_get("/metrics"), _get("/readyz"), _get("/livez"), *gets[3:]),
            run=asks(metrics),
            allowed=(),
        ),
        Target(name="http-witness", seeds=posts + gets[:1], run=asks(witness), allowed=()),
        Target(
            name="http-witness-body",
            seeds=(again, *bodies),
            run=lambda data: _status(send(witness, _post(data, "Connection: close"), quiet_s=CALL_S)),
            allowed=(),
        ),
    )


def signer_target(rig: Rig) -> Target:
    """The signer, by the raw bytes of a connection."""
    vkey = cosigner(SubmittingLog.origin).vkey
    text = parse_note(rig.submitting.note(3))[0]
    questions = (ListKeys(), Cosign(vkey, text, 1_700_000_000), Sign(vkey, text))
    frames = [encode_frame(encode_question(question)) for question in questions]

    def run(data: bytes) -> str:
        answer = ask_signer(rig.signer_socket, data)
        return answer[LENGTH_BYTES:].partition(b"\n")[0].decode() or "no answer"

    return Target(name="signer-socket", seeds=(*frames, b"".join(frames)), run=run, allowed=())


class ReplyingServer:
    """Answers every method of LogService with the bytes that it was given for it."""

    def __init__(self) -> None:
        self.replies: dict[str, bytes] = {}
        self._pool = ThreadPoolExecutor(2)
        self._server = grpc.server(self._pool, options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((self,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        name = details.method.rpartition("/")[2]
        if name in {"GetEntries", "WatchCheckpoints"}:
            return grpc.unary_stream_rpc_method_handler(lambda request, context: iter([self.replies[name]]))
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self.replies[name])

    def close(self) -> None:
        self._server.stop(None).wait()
        self._pool.shutdown()


ASKING: Sequence[tuple[str, Callable[[LogClient], object]]] = (
    ("GetCheckpoint", lambda client: client.checkpoint()),
    ("Append", lambda client: client.append([b"entry 8"])),
    ("GetInclusionProofs", lambda client: client.inclusion_proofs([b"entry 3"], leaf_indices=[3])),
    ("GetEntries", lambda client: list(client.entries(0, 9))),
    ("GetReceipts", lambda client: client.receipts([b"entry 3"], leaf_indices=[3])),
    ("Lookup", lambda client: list(client.lookup("invoice:1"))),
    ("GetConsistencyProof", lambda client: client.checkpoint()),
    ("WatchCheckpoints", lambda client: next(client.watch_checkpoints())),
)


@contextmanager
def replies_target() -> Iterator[Target]:
    """The client before a log that answers one method with the input and the others as an honest one."""
    honest: dict[str, bytes] = {}
    with LyingLog([b"entry %d" % number for number in range(9)], signer=_replying_signer()) as log:
        for method, _ in ASKING:

            def keep(response: object, request: object, method: str = method) -> object:
                honest.setdefault(method, response.SerializeToString())  # type: ignore[attr-defined]
                return response

            log.lies[method] = keep
        policy = build_policy([log.signer.vkey])
        with _client(log.address, policy) as client:
            for _, ask in ASKING:
                with suppress(TlogError):
                    ask(client)
        honest.setdefault("GetConsistencyProof", log_pb2.GetConsistencyProofResponse().SerializeToString())
    server = ReplyingServer()

    def run(data: bytes) -> None:
        method, ask = ASKING[data[0] % len(ASKING) if data else 0]
        server.replies = {**honest, method: data[1:]}
        with _client(server.address, policy) as client:
            if method == "GetConsistencyProof":
                ask(client)
            ask(client)

    with closing(server):
        seeds = tuple(bytes([at]) + honest[method] for at, (method, _) in enumerate(ASKING))
        yield Target(name="client-replies", seeds=seeds, run=run, allowed=(TlogError,))


def _client(address: str, policy: object) -> LogClient:
    retry = RetryPolicy(deadline_s=2.0, first_delay_s=0.001, max_delay_s=0.01)
    return LogClient(address, policy, checkpoint_file=None, retry=retry, timeout_s=2.0)  # type: ignore[arg-type]


def _replying_signer() -> Signer:
    return Signer(name="log.example/alliance", private_key=key("replying log"))


SOCKET_TARGETS = (
    *(f"rpc-{method}" for method in METHODS),
    *("rpc-append-signed", "rpc-exchange-log", "rpc-exchange-node", "grpc-socket"),
    *("http-tiles", "http-metrics", "http-witness", "http-witness-body", "signer-socket", "client-replies"),
)
"""The names of all targets here, which are known before anything runs."""


@contextmanager
def socket_targets(directory: str | Path) -> Iterator[tuple[Rig, tuple[Target, ...]]]:
    """Run everything that is needed in a directory, while the block runs."""
    with running(Path(directory)) as rig, replies_target() as replies:
        every = (*rpc_targets(rig), *http_targets(rig), signer_target(rig), replies)
        assert tuple(target.name for target in every) == SOCKET_TARGETS
        yield rig, every
