"""What somebody tells the log server about others is no reason for it to stop; what its own key signed is."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from _support.alliance import Alliance
from _support.signers import cosigner
from _support.two_histories import TwoHistories

from server.gossip_service import GossipService
from server.metrics import Metrics
from server.publisher import CheckpointFeed
from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.evidence import format_evidence, make_same_size
from tlog.gossip.grpc_wire import encode_message
from tlog.gossip.message import GossipMessage
from tlog.log import Log
from tlog.note import format_note
from tlog.policy import build_policy
from tlog.storage.memory import MemoryStore
from tlog.v1 import gossip_pb2

WITNESS = cosigner("witness.example")


class Caller:
    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def add_done_callback(self, callback: object) -> None:
        """Nobody waits here until it is answered."""


def serve(alliance: Alliance, state: Path, evidence: bytes | None) -> tuple[int, gossip_pb2.ExchangeResponse]:
    """Start the service, tell it evidence, and return how often it was stopped, and its answer."""

    async def run() -> tuple[int, gossip_pb2.ExchangeResponse]:
        log = Log(MemoryStore(alliance.origin, alliance.signer.vkey), alliance.signer)
        log.append(alliance.governance)
        metrics = Metrics()
        stopped: list[str] = []
        with ThreadPoolExecutor(1) as thread:
            gossip = GossipService(
                log,
                CheckpointFeed(log.checkpoint(), metrics),
                metrics,
                policy=build_policy([alliance.signer.vkey], [WITNESS.vkey]),
                state_path=state,
                thread=thread,
                stop_signing=lambda reason, _: stopped.append(reason),
            )
            pieces = () if evidence is None else (evidence,)
            request = encode_message(GossipMessage(evidence=pieces), gossip_pb2.ExchangeRequest())
            answer = await gossip.Exchange(request, Caller())  # type: ignore[arg-type]
        return len(stopped), answer

    return asyncio.run(run())


def cosigned(alliance: Alliance, root_hash: bytes) -> bytes:
    """A checkpoint of the log that the witness alone has signed."""
    text = format_checkpoint(Checkpoint(alliance.origin, 3, root_hash))
    return format_note(text, [WITNESS.cosign(text, 1_700_000_000)])


def test_a_witness_that_convicts_itself_stops_no_log(tmp_path: Path) -> None:
    alliance = Alliance()
    evidence = format_evidence(
        make_same_size(cosigned(alliance, b"\x01" * 32), cosigned(alliance, b"\x02" * 32))
    )
    # Kept and passed on, before and after a restart.
    for told in (evidence, None):
        stopped, answer = serve(alliance, tmp_path, told)
        assert stopped == 0
        assert len(answer.evidence_held) == 1
        assert len(answer.checkpoints) == 1


def test_evidence_against_its_own_key_stops_a_log_whoever_brings_it(tmp_path: Path) -> None:
    alliance = Alliance()
    elsewhere = TwoHistories(9, signer=alliance.signer)
    elsewhere.fork("other", 2, 9)
    evidence = format_evidence(make_same_size(elsewhere.note("main", 9), elsewhere.note("other", 9)))
    for told in (evidence, None):
        stopped, answer = serve(alliance, tmp_path, told)
        assert stopped == 1
        assert len(answer.evidence_held) == 1
        assert not answer.checkpoints
