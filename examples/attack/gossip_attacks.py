"""Attacks that only members who talk to each other can see: gossip over real gRPC."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import grpc

from examples.attack.cast import INVOICES, ORIGIN, invoice, key
from examples.attack.lab import Lab
from examples.attack.node import Node
from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.errors import PushbackError, RemoteError
from tlog.gossip.grpc_transport import GrpcTransport
from tlog.gossip.grpc_wire import encode_message
from tlog.gossip.message import GossipMessage, OfferedCheckpoint
from tlog.gossip.pool import Pool
from tlog.gossip.state import NoTrees
from tlog.gossip.state_directory import StateDirectory
from tlog.note import Signer, parse_note, sign_note
from tlog.v1 import gossip_pb2, gossip_pb2_grpc

MOST_ROUNDS = 20


def split_view(lab: Lab) -> None:
    """Show one history to member A and another, signed by the same key, to member B."""
    histories = _two_histories(lab)
    servers = lab.serve(*histories)
    nodes = [
        lab.node(name, str(server.announced["grpc"]))
        for name, server in zip(("member A", "member B"), servers, strict=True)
    ]
    for node, client in nodes:
        lab.wait_for(node.follow(client))
        # Each by itself sees nothing wrong, however often it looks.
        client.checkpoint()
        assert not node.alarms
    both = [node for node, _ in nodes]
    _introduce(both)
    rounds = _gossip_until_all_refuse(lab, both[:1], both)
    for node in both:
        lab.look_at_node(node, _rounds(rounds))
    _stays_refused(lab, both)


def healed_partitions(lab: Lab) -> None:
    """Show one history to one half of the members, another to the rest, while the network is cut in two."""
    servers = lab.serve(*_two_histories(lab))
    halves: list[list[Node]] = []
    for half, server in zip("AB", servers, strict=True):
        nodes = [lab.node(f"{half}{number}", str(server.announced["grpc"])) for number in (1, 2, 3)]
        for node, client in nodes:
            lab.wait_for(node.follow(client))
        halves.append([node for node, _ in nodes])
        _introduce(halves[-1])
    everybody = [*halves[0], *halves[1]]
    for _ in range(3):
        lab.wait_for(_one_round(everybody))
    assert not any(node.alarms for node in everybody)
    lab.note("3 rounds inside the partitions raise nothing")
    _introduce(everybody)
    rounds = _gossip_until_all_refuse(lab, everybody, everybody)
    for node in everybody:
        lab.look_at_node(node, f"{_rounds(rounds)} after healing")


def stale_view(lab: Lab) -> None:
    """Freeze the log for member B at what it was, while it goes on for the others."""
    (server,) = lab.serve(lab.log("log", INVOICES[:30]))
    (frozen,) = lab.serve(lab.log("frozen", INVOICES[:30]))
    address = str(server.announced["grpc"])
    door = lab.door(server)
    node_a, client_a = lab.node("member A", address)
    node_b, client_b = lab.node("member B", door.address)
    lab.wait_for(node_b.follow(client_b))
    if lab.is_armed:
        lab.lead(door, frozen)
    client_a.append(INVOICES[30:50])
    lab.wait_for(node_a.follow(client_a))
    if not lab.is_armed:
        lab.wait_for(node_b.follow(client_b))
    _introduce([node_a, node_b])
    lab.wait_for(node_b.round())
    shown = client_b.checkpoint().tree_size
    if node_b.size > shown:
        lab.saw("member B", "1 round", f"a peer holds size {node_b.size}, its log shows {shown}")
    lab.note("withholding contradicts nothing that was signed: no evidence can exist")


def lying_peer(lab: Lab) -> None:
    """Gossip checkpoints that the log never signed, to set two honest members against their log."""
    (server,) = lab.serve(lab.log("log", INVOICES[:30]))
    address = str(server.announced["grpc"])
    victim, client = lab.node("member A", address)
    bystander, other_client = lab.node("member B", address)
    for node, reading in ((victim, client), (bystander, other_client)):
        lab.wait_for(node.follow(reading))
    true_note = client.checkpoint().note
    notes = lab.either(_forgeries(true_note), [true_note])
    for note in notes:
        refusal = lab.wait_for(_call(victim.address, note))
        if refusal:
            lab.saw("member A", "1 call", "drops the peer: forged")
    # And the other way round: an honest node asks a liar.
    liar = _Liar(notes[0])
    address_of_liar = lab.wait_for(liar.start())
    try:
        bystander.meet([address_of_liar])
        lab.wait_for(bystander.round())
        if bystander.offences:
            lab.saw("member B", "1 round", "drops the peer: forged")
    finally:
        lab.wait_for(liar.close())
    for node in (victim, bystander):
        if node.refuses_log or node.alarms or node.size != client.checkpoint().tree_size:
            raise AssertionError(f"{node.name} was set against an honest log")
    lab.note("nothing was kept, and the log stays trusted: forgery convicts nobody")


class _Liar(gossip_pb2_grpc.GossipServiceServicer):
    """Is a gossip peer that answers every exchange with one note."""

    def __init__(self, note: bytes) -> None:
        message = GossipMessage(checkpoints=(OfferedCheckpoint(note=note),))
        self._answer = encode_message(message, gossip_pb2.ExchangeResponse())

    async def Exchange(self, request: object, context: object) -> gossip_pb2.ExchangeResponse:  # noqa: N802
        return self._answer

    async def start(self) -> str:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        gossip_pb2_grpc.add_GossipServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return f"127.0.0.1:{port}"

    async def close(self) -> None:
        await self._server.stop(None)


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


async def _call(address: str, note: bytes) -> str:
    """Send one note as an exchange; returns what the refusal says, or nothing."""
    transport = GrpcTransport(timeout_s=5.0)
    try:
        await transport.exchange(address, GossipMessage(checkpoints=(OfferedCheckpoint(note=note),)))
    except (RemoteError, PushbackError) as error:
        return str(error)
    finally:
        await transport.close()
    return ""


def _two_histories(lab: Lab) -> tuple[Path, Path]:
    honest = INVOICES[:36]
    other = [*INVOICES[:12], *(invoice(number, amount=1) for number in range(12, 28))]
    # 40 entries and 32, a power of two: where an ordinary consistency proof lacks its first node.
    return lab.log("shown to A", honest), lab.log("shown to B", lab.either(other, INVOICES[:28]))


def _introduce(nodes: list[Node]) -> None:
    for node in nodes:
        node.meet(other.address for other in nodes)


async def _one_round(nodes: list[Node]) -> None:
    await asyncio.gather(*(node.round() for node in nodes))


def _gossip_until_all_refuse(lab: Lab, asking: list[Node], everybody: list[Node]) -> int:
    for rounds in range(1, MOST_ROUNDS + 1):
        lab.wait_for(_one_round(asking))
        if all(node.refuses_log for node in everybody):
            return rounds
        if not lab.is_armed and rounds == 3:
            break
    return rounds


def _rounds(count: int) -> str:
    return "1 round" if count == 1 else f"{count} rounds"


def _stays_refused(lab: Lab, nodes: list[Node]) -> None:
    """Check that what is held on disk refuses the log after a restart as well."""
    for node in nodes:
        if not node.refuses_log:
            continue
        again = Pool(
            lab.policy, StateDirectory(lab.directory / f"{node.name} node" / "gossip", lab.policy), NoTrees()
        )
        assert again.convictions.is_refused(ORIGIN)
