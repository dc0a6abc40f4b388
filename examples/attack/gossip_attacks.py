"""Attacks that only members who talk to each other can see: real nodes, which gossip over real sockets."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor

import grpc

from examples.attack.cast import FOUNDING, INVOICES, ORIGIN, invoice, key
from examples.attack.lab import QUIET_ROUNDS, Lab
from examples.attack.node import FORGED_WORDS, Node
from examples.attack.processes import Process
from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.note import Signer, parse_note, sign_note
from tlog.v1 import gossip_pb2, gossip_pb2_grpc

START = len(FOUNDING)
STALE_S = 1.0
CALL_TIMEOUT_S = 10.0


def split_view(lab: Lab) -> None:
    """Show one history to member A and another, signed by the same key, to member B."""
    servers = _serve_two_histories(lab)
    both = [
        lab.node(name, server=str(server.announced["grpc"]))
        for name, server in zip(("member A", "member B"), servers, strict=True)
    ]
    for node in both:
        node.begin()
    one, other = both
    _await_trees(lab, both)
    # Each by itself sees nothing wrong, however often it looks.
    lab.await_rounds(both, QUIET_ROUNDS)
    assert one.is_well()
    assert other.is_well()
    other.process.stop()
    other.begin([one.address])
    other.process.await_start()
    lab.watch(both, lambda node: node.log.is_refused)
    for node in both:
        lab.look_at_node(node, asking=other)
        # What is on disk refuses the log, whatever becomes of the process.
        node.process.kill()
        assert node.is_well() is not lab.is_armed


def healed_partitions(lab: Lab) -> None:
    """Show one history to one half of the members, another to the rest, while the network is cut in two."""
    servers = _serve_two_histories(lab)
    halves = [
        [lab.node(f"{half}{number}", server=str(server.announced["grpc"])) for number in (1, 2, 3)]
        for half, server in zip("AB", servers, strict=True)
    ]
    everybody = [*halves[0], *halves[1]]
    # How the other half knows each of them; nothing comes through, as yet.
    doors = {node.name: lab.door() for node in everybody}
    for members in zip(*halves, strict=True):
        for half, node in enumerate(members):
            own = [friend.address for friend in halves[half][: halves[half].index(node)]]
            node.begin([*own, *(doors[far.name].address for far in halves[1 - half])])
        for node in members:
            node.process.await_start()
    _await_trees(lab, everybody)
    lab.await_rounds(everybody, QUIET_ROUNDS)
    assert all(node.log.is_trusted for node in everybody)
    lab.note(f"{QUIET_ROUNDS} rounds of everybody inside the partitions raise nothing")
    for node in everybody:
        node.mark()
    for node in everybody:
        lab.wait_for(doors[node.name].lead_to(node.address))
    lab.watch(everybody, lambda node: node.log.is_refused)
    for node in everybody:
        lab.look_at_node(node, " after healing")


def stale_view(lab: Lab) -> None:
    """Freeze the log for member B at what it was, while it goes on for the others."""
    (server,) = lab.serve(lab.honest_log("log", INVOICES[:30]))
    (frozen,) = lab.serve(lab.double("frozen", INVOICES[:30]))
    address = str(server.announced["grpc"])
    door = lab.door(server)
    one = lab.node("member A", server=address)
    other = lab.node("member B", server=door.address)
    other.settings = {"stale_s": STALE_S}
    one.begin()
    one.process.await_start()
    other.begin([one.address])
    other.process.await_start()
    _await_trees(lab, [one, other])
    if lab.is_armed:
        lab.lead(door, frozen)
    lab.member("member A client", address).append(INVOICES[30:50])
    other.mark()
    lab.await_all([one, other], lambda node: node.size == START + 50, "everybody hears of size 54")
    lab.watch([other], _is_told_stale)
    if _is_told_stale(other):
        after = other.round_at(other.alarmed_s("stale_view"))
        lab.saw("member B", after, f"shown less than was signed for {STALE_S:g} s")
    assert not one.log.is_refused
    assert not _is_told_stale(one)
    lab.note("withholding contradicts nothing that was signed: no evidence can exist")


def _is_told_stale(node: Node) -> bool:
    return node.alarmed_s("stale_view") is not None


def lying_peer(lab: Lab) -> None:
    """Gossip checkpoints that the log never signed, to set two honest members against their log."""
    (server,) = lab.serve(lab.honest_log("log", INVOICES[:30]))
    address = str(server.announced["grpc"])
    client = lab.member("client", address)
    true_note = client.checkpoint().note
    notes = lab.either(_forgeries(true_note), [true_note])
    liar = _Liar(notes[0])
    try:
        victim, bystander = both = [lab.node(name, server=address) for name in ("member A", "member B")]
        victim.begin()
        # And the other way round: an honest node asks a liar.
        bystander.begin([liar.address])
        _await_trees(lab, both)
        # The first one is told that it is a forgery; who forges once may not be listened to any more.
        codes = [_call(victim.address, note) for note in notes]
        lab.watch(both, lambda node: node.said_s(FORGED_WORDS) is not None)
        refused = codes[0] is grpc.StatusCode.INVALID_ARGUMENT and grpc.StatusCode.OK not in codes
        if refused and victim.said_s(FORGED_WORDS) is not None:
            lab.saw("member A", "1 call", "drops the caller: forged")
        if (time_s := bystander.said_s(FORGED_WORDS)) is not None:
            lab.saw("member B", bystander.round_at(time_s), "drops the peer: forged")
        assert liar.calls > 0
    finally:
        liar.close()
    client.append(INVOICES[30:32])
    lab.await_all(both, lambda node: node.size == START + 32, "they go on with the honest log")
    for node in both:
        if not node.is_well() or node.standing.evidence_paths:
            raise AssertionError(f"{node.name} was set against an honest log")
    lab.note("nothing was kept, and the log stays trusted: forgery convicts nobody")


class _Liar(gossip_pb2_grpc.GossipServiceServicer):
    """Is a gossip peer that answers every exchange with one note."""

    def __init__(self, note: bytes) -> None:
        self._answer = gossip_pb2.ExchangeResponse(
            checkpoints=[gossip_pb2.OfferedCheckpoint(checkpoint=note)]
        )
        self.calls = 0
        self._server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
        gossip_pb2_grpc.add_GossipServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Exchange(self, request: object, context: object) -> gossip_pb2.ExchangeResponse:  # noqa: N802
        self.calls += 1
        return self._answer

    def close(self) -> None:
        self._server.stop(None).wait()


def _forgeries(true_note: bytes) -> list[bytes]:
    """Make checkpoints that look like the log's: its signature on another tree, and another key's on one."""
    text, signatures = parse_note(true_note)
    forged_text = format_checkpoint(Checkpoint(ORIGIN, 31, b"\x13" * 32))
    transplanted = true_note.replace(text.encode(), forged_text.encode())
    impostor = sign_note(forged_text, [Signer(name=ORIGIN, private_key=key("impostor"))])
    under_its_id = impostor.replace(
        impostor.rsplit(b" ", 1)[1],
        _with_key_id(impostor.rsplit(b" ", 1)[1], signatures[0].key_id),
    )
    return [transplanted, under_its_id]


def _with_key_id(encoded: bytes, key_id: bytes) -> bytes:
    return base64.b64encode(key_id + base64.b64decode(encoded)[len(key_id) :]) + b"\n"


def _call(address: str, note: bytes) -> grpc.StatusCode:
    """Send one note as an exchange; returns how the call ended."""
    request = gossip_pb2.ExchangeRequest(checkpoints=[gossip_pb2.OfferedCheckpoint(checkpoint=note)])
    with grpc.insecure_channel(address) as channel:
        exchange = gossip_pb2_grpc.GossipServiceStub(channel).Exchange  # type: ignore[no-untyped-call]
        try:
            exchange(request, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            code = error.code()
            assert isinstance(code, grpc.StatusCode)
            return code
    return grpc.StatusCode.OK


def _serve_two_histories(lab: Lab) -> list[Process]:
    honest = INVOICES[:36]
    other = [*INVOICES[:12], *(invoice(number, amount=1) for number in range(12, 28))]
    # 40 entries and 32, a power of two: where an ordinary consistency proof lacks its first node.
    return lab.serve(
        lab.double("shown to A", honest), lab.double("shown to B", lab.either(other, INVOICES[:28]))
    )


def _await_trees(lab: Lab, nodes: list[Node]) -> None:
    """Wait until every node has started, and keeps the tree that its log shows it."""
    for node in nodes:
        node.process.await_start()
    lab.await_all(nodes, lambda node: 0 < node.size == node.log.kept_size, "every node keeps its log's tree")
