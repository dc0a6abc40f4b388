"""The address that somebody knows a party by, and that whoever owns the network leads wherever he likes."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Door:
    """Is a TCP proxy on a port that stays the same; belongs to one event loop.

    While it leads nowhere it takes connections, and nothing comes through: a network that is cut does not
    say so.
    """

    def __init__(self) -> None:
        """Lead nowhere yet."""
        self._backend: str | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._listener: asyncio.Server | None = None
        self.address = ""

    async def open(self) -> None:
        """Listen on loopback."""
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    async def lead_to(self, backend: str | None) -> None:
        """Lead to a backend, host:port, from now on, or nowhere; whoever is connected has to come again."""
        self._backend = backend
        for writer in list(self._open):
            writer.transport.abort()

    async def close(self) -> None:
        """End everything."""
        if self._listener is not None:
            self._listener.close()
        await self.lead_to(None)
        # The pumps see the end of their connections.
        await asyncio.sleep(0.05)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if self._backend is None:
                await _swallow(reader)
            else:
                await self._join(self._backend, reader, writer)
        finally:
            self._open.discard(writer)
            writer.close()

    async def _join(self, backend: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = backend.rpartition(":")
        try:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            return
        if backend != self._backend:  # led elsewhere meanwhile
            far_writer.close()
            return
        self._open.add(far_writer)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(reader, far_writer))
                both.create_task(_pump(far_reader, writer))
        finally:
            self._open.discard(far_writer)
            far_writer.close()


async def _swallow(reader: asyncio.StreamReader) -> None:
    with suppress(OSError):
        while await reader.read(1 << 16):
            pass


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, RuntimeError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()
