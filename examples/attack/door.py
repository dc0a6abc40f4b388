"""The address that one member knows the log by, and that its operator leads wherever he likes."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Door:
    """Is a TCP proxy on a port that stays the same; belongs to one event loop."""

    def __init__(self, backend: str) -> None:
        """Lead to a backend, host:port, once it is opened."""
        self._backend = backend
        self._open: set[asyncio.StreamWriter] = set()
        self._listener: asyncio.Server | None = None
        self.address = ""

    async def open(self) -> None:
        """Listen on loopback."""
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    async def lead_to(self, backend: str) -> None:
        """Lead to another backend from now on; whoever is connected has to come again."""
        self._backend = backend
        for writer in list(self._open):
            writer.transport.abort()

    async def close(self) -> None:
        """End everything."""
        if self._listener is not None:
            self._listener.close()
        await self.lead_to(self._backend)
        # The pumps see the end of their connections.
        await asyncio.sleep(0.05)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._backend.rpartition(":")
        try:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        pair = {writer, far_writer}
        self._open |= pair
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(reader, far_writer))
                both.create_task(_pump(far_reader, writer))
        finally:
            self._open -= pair
            for one in pair:
                one.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, RuntimeError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()
