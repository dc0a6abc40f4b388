"""Frames over a socket between two processes of this server: a length in 4 bytes, big-endian, and a message.

Sending never waits: what is sent is bounded by what may be under way. Whoever has to send more than that can
bound it here: a peer that stopped reading is then given up, before what is kept for it eats the memory.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from tlog.errors import MalformedError

MAX_FRAME_BYTES = 2**24
"""An Append of 4 MiB, its texts once more, and 2 kB of hashes for each of its 1,000 entries, are less."""

_LENGTH = struct.Struct(">I")
_READ_BUFFER_BYTES = 2**19
_LOGGER = logging.getLogger("tlog.server")

Sent = TypeVar("Sent", contravariant=True)
Received = TypeVar("Received", covariant=True)


class Link(Generic[Sent, Received]):
    """Sends and receives messages; belongs to one event loop."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        encode: Callable[[Sent], bytes],
        decode: Callable[[bytes], Received],
        max_unsent_bytes: int | None,
    ) -> None:
        """Take over an open stream; use `open`."""
        self._reader = reader
        self._writer = writer
        self._encode = encode
        self._decode = decode
        self._max_unsent_bytes = max_unsent_bytes

    @classmethod
    async def open(
        cls,
        end: socket.socket,
        *,
        encode: Callable[[Sent], bytes],
        decode: Callable[[bytes], Received],
        max_unsent_bytes: int | None = None,
    ) -> Link[Sent, Received]:
        """Take over one end of a connected Unix socket."""
        reader, writer = await asyncio.open_unix_connection(sock=end, limit=_READ_BUFFER_BYTES)
        return cls(reader, writer, encode=encode, decode=decode, max_unsent_bytes=max_unsent_bytes)

    def send(self, message: Sent) -> None:
        """Send a message, at once or as soon as the other side reads; nothing happens when it is gone."""
        if self._writer.is_closing():
            return
        data = self._encode(message)
        self._writer.write(_LENGTH.pack(len(data)) + data)
        unsent_bytes = self._writer.transport.get_write_buffer_size()
        if self._max_unsent_bytes is not None and unsent_bytes > self._max_unsent_bytes:
            _LOGGER.error("a process of this server does not read what it is told, and is given up")
            self._writer.transport.abort()

    async def receive(self) -> Received | None:
        """Return the next message, or None when the other side is gone.

        Raises MalformedError for what is no message: nothing behind it can be understood.
        """
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            if length > MAX_FRAME_BYTES:
                raise MalformedError(
                    f"a frame between two processes of this server has {length} bytes, more than "
                    f"{MAX_FRAME_BYTES}"
                )
            return self._decode(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def close(self) -> None:
        """Send what is not yet sent, and close."""
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()
