"""Frames between two processes, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from server.link import MAX_FRAME_BYTES, Link
from server.questions import Questions
from tlog.errors import MalformedError, StorageError


@asynccontextmanager
async def linked(
    max_unsent_bytes: int | None = None,
) -> AsyncIterator[tuple[Link[bytes, bytes], socket.socket]]:
    """Yield a link, and the bare socket at its other end."""
    ours, theirs = socket.socketpair()
    link: Link[bytes, bytes] = await Link.open(
        ours, encode=bytes, decode=bytes, max_unsent_bytes=max_unsent_bytes
    )
    theirs.setblocking(False)
    try:
        yield link, theirs
    finally:
        theirs.close()
        await link.close()


def test_messages_arrive_whole_and_in_order_however_large() -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        one: Link[bytes, bytes] = await Link.open(ours, encode=bytes, decode=bytes)
        other: Link[bytes, bytes] = await Link.open(theirs, encode=bytes, decode=bytes)
        messages = [b"", b"x", bytes(3_000_000), b"last"]
        for message in messages:
            one.send(message)
        assert [await other.receive() for _ in messages] == messages
        await one.close()
        assert await other.receive() is None
        other.send(b"nobody reads this")
        await other.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("cut", [b"", b"\0\0", b"\0\0\0\x05", b"\0\0\0\x05four"])
def test_a_peer_that_is_gone_is_the_end_wherever_it_stopped(cut: bytes) -> None:
    async def scenario() -> None:
        async with linked() as (link, end):
            await asyncio.get_running_loop().sock_sendall(end, cut)
            end.close()
            assert await link.receive() is None

    asyncio.run(scenario())


def test_a_length_beyond_the_limit_is_refused_before_anything_is_read() -> None:
    async def scenario() -> None:
        async with linked() as (link, end):
            await asyncio.get_running_loop().sock_sendall(end, struct.pack(">I", MAX_FRAME_BYTES + 1))
            with pytest.raises(MalformedError, match=str(MAX_FRAME_BYTES)):
                await link.receive()

    asyncio.run(scenario())


def test_a_peer_that_does_not_read_is_given_up_before_it_costs_more_than_agreed() -> None:
    async def scenario() -> None:
        async with linked(max_unsent_bytes=2**20) as (link, _):
            for _ in range(40):
                link.send(bytes(2**16))
            assert await asyncio.wait_for(link.receive(), 30) is None

    asyncio.run(scenario())


def test_every_question_gets_its_own_answer_and_none_twice() -> None:
    async def scenario() -> None:
        questions: Questions[str] = Questions()
        asked: list[Any] = [questions.ask() for _ in range(3)]
        assert len({number for number, _ in asked}) == 3
        questions.answer(asked[1][0], "one")
        questions.answer(asked[1][0], "again")
        questions.fail(asked[0][0], StorageError("no"))
        questions.answer(99, "nobody asked")
        assert await asked[1][1] == "one"
        with pytest.raises(StorageError):
            await asked[0][1]
        asked[2][1].cancel()
        questions.answer(asked[2][0], "too late")
        _, waiting = questions.ask()
        questions.fail_all(StorageError("gone"))
        for future in (waiting, questions.ask()[1]):
            with pytest.raises(StorageError, match="gone"):
                await future

    asyncio.run(scenario())
