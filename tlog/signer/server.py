"""A signer on a Unix socket: few connections, one question at a time, an end when it is told.

The socket's file mode says who may ask (mode 0600: nobody but this user). Whoever may ask can have any tree
signed that goes on from the last one; he cannot have the key, nor take anything back.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tlog.errors import ConfigError, MalformedError
from tlog.signer.desk import SignerDesk
from tlog.signer.protocol import (
    LENGTH_BYTES,
    Answer,
    Failed,
    Refused,
    check_frame_length,
    decode_question,
    encode_answer,
    encode_frame,
)

_LOGGER = logging.getLogger("tlog.signer")

MAX_CONNECTIONS = 16
FRAME_TIMEOUT_S = 10.0
"""How long the rest of a frame may take once it has begun, and an answer to be taken."""


async def serve_signer(desk: SignerDesk, path: Path, *, mode: int, announce: Callable[[], None]) -> None:
    """Answer on a Unix socket until SIGTERM or SIGINT. Raises ConfigError when nobody can listen there."""
    listening = _bind(path, mode)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    connections = _Connections(desk)
    try:
        server = await asyncio.start_unix_server(connections.serve, sock=listening)
        async with server:
            announce()
            await stop.wait()
            await connections.close()
    finally:
        listening.close()
        with suppress(OSError):
            path.unlink()


class _Connections:
    def __init__(self, desk: SignerDesk) -> None:
        self._desk = desk
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection until it ends, breaks the protocol, or is too slow."""
        task = asyncio.current_task()
        assert task is not None
        if len(self._tasks) >= MAX_CONNECTIONS:
            _LOGGER.warning("%d connections are open, and no more are taken", len(self._tasks))
            writer.close()
            return
        self._tasks.add(task)
        try:
            while (head := await reader.read(1)) != b"":
                async with asyncio.timeout(FRAME_TIMEOUT_S):
                    goes_on = await self._answer_one(head, reader, writer)
                if not goes_on:
                    break
        except (OSError, EOFError, TimeoutError) as error:
            _LOGGER.warning("a connection is given up: %s", str(error) or type(error).__name__)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def close(self) -> None:
        """End all connections; a signature that is under way is given out or not, its mark is there."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer_one(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        is_question = True
        try:
            length = int.from_bytes(head + await reader.readexactly(LENGTH_BYTES - 1), "big")
            question = decode_question(await reader.readexactly(check_frame_length(length)))
        except MalformedError as error:
            answer: Answer = Refused(reason=str(error))
            is_question = False
        else:
            answer = self._desk.answer(question)
        if isinstance(answer, Refused | Failed):
            _LOGGER.warning("not signed: %s", answer.reason)
        writer.write(encode_frame(encode_answer(answer)))
        await writer.drain()
        return is_question


def _bind(path: Path, mode: int) -> socket.socket:
    """Make the socket's file; one that nobody listens on any more is taken over. Raises ConfigError."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket() and not _is_answered(path):
            path.unlink()
        before = os.umask(0o777 & ~mode)
        try:
            listening.bind(str(path))
        finally:
            os.umask(before)
    except OSError as error:
        listening.close()
        raise ConfigError(f"a signer cannot listen on {path}: {error.strerror or error}") from error
    return listening


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
    return True
