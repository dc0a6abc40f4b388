"""Exchange in a worker process: counted and limited here, judged by the main process, which remembers."""

from __future__ import annotations

from server.answers import CallLimit, GuardsCalls, unary
from server.callers import Context
from server.gossip_service import MAX_CALLS
from server.metrics import Metrics
from server.remote_sequencer import RemoteSequencer
from tlog.v1 import gossip_pb2, gossip_pb2_grpc


class GossipRelay(gossip_pb2_grpc.GossipServiceServicer):
    """Serves tlog.v1.GossipService by asking the main process."""

    def __init__(
        self, main: RemoteSequencer, metrics: Metrics, gate: GuardsCalls, *, max_calls: int = MAX_CALLS
    ) -> None:
        """Let at most so many exchanges be under way."""
        self.metrics = metrics
        self.calls = CallLimit("exchanges", max_calls)
        self.gate = gate
        self.streams = CallLimit("streams", max_calls)
        self._main = main

    @unary
    async def Exchange(
        self, request: gossip_pb2.ExchangeRequest, context: Context
    ) -> gossip_pb2.ExchangeResponse:
        """Hand the request over, and answer what the main process answers."""
        answer = await self._main.exchange(context.peer(), request.SerializeToString())
        return gossip_pb2.ExchangeResponse.FromString(answer)
