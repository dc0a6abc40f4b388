"""Answers grpc.health.v1, so that who asks too often is charged and held back like any other caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2

from server.answers import CallLimit, Counted, stream, unary
from server.callers import Context
from tlog.errors import NotFoundError

HEALTH_SERVICE: ServiceDescriptor = health_pb2.DESCRIPTOR.services_by_name["Health"]
MAX_CALLS = 256
"""Checks, and as many watches, that may be under way."""

Status = health_pb2.HealthCheckResponse


class HealthService:
    """Holds what was last said of each name; belongs to the event loop."""

    def __init__(self, guarded: Counted) -> None:
        """Charge and count callers as those of another service of the same server are."""
        self.metrics = guarded.metrics
        self.gate = guarded.gate
        self.calls = CallLimit("health checks", MAX_CALLS)
        self.streams = CallLimit("health watches", MAX_CALLS)
        self._statuses: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._is_ending = False

    def say(self, name: str, status: int) -> None:
        """Say from now on how a service is, unless all of them end."""
        if not self._is_ending:
            self._statuses[name] = status
            self._tell()

    def end(self) -> None:
        """Say NOT_SERVING of everything, for good."""
        self._is_ending = True
        self._statuses = dict.fromkeys(self._statuses, Status.NOT_SERVING)
        self._tell()

    @unary
    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> Status:
        """Say how a service is."""
        status = self._statuses.get(request.service)
        if status is None:
            raise NotFoundError('this server has no service of that name: ask for "" to hear of all of it')
        return Status(status=status)

    @stream
    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> AsyncIterator[Status]:
        """Say how a service is, and again whenever that changes; a name that is unknown may come to be."""
        told: int | None = None
        while True:
            changed = self._changed
            status = self._statuses.get(request.service, Status.SERVICE_UNKNOWN)
            if status != told:
                told = status
                yield Status(status=status)
            else:
                await changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
