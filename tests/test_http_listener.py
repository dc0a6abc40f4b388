"""How many connections the HTTP listener takes, of all hosts and of one."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from _support.tls_files import TestAuthority
from aiohttp import web

from tlog.http_listener import HttpLimits, HttpListener, _host
from tlog.tls import ServerTls
from tlog.tls_config import TlsSection

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def _answer(_: web.Request) -> web.Response:
    return web.Response(text="here")


def test_one_host_cannot_take_all_connections() -> None:
    async def scenario() -> None:
        application = web.Application()
        application.router.add_get("/", _answer)
        limits = HttpLimits(max_connections=24)
        listener = await HttpListener.start(application, "127.0.0.1", 0, limits)
        opened: list[asyncio.StreamWriter] = []

        async def status_from(host: str) -> bytes:
            """Connect from an address of this machine, and keep the connection."""
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, local_addr=(host, 0))
            opened.append(writer)
            writer.write(REQUEST)
            return (await reader.readline()).split(b" ")[1]

        try:
            codes = [await status_from("127.0.0.1") for _ in range(13)]
            assert codes == [b"200"] * 12 + [b"503"]
            # Another host still has its own, until all are taken.
            others = [await status_from(f"127.0.0.{2 + number % 2}") for number in range(13)]
            assert others == [b"200"] * 12 + [b"503"]
            for writer in opened[:12]:
                writer.close()
            async with asyncio.timeout(30):
                while await status_from("127.0.0.1") != b"200":
                    await asyncio.sleep(0.02)
        finally:
            for writer in opened:
                writer.close()
            await listener.stop()

    asyncio.run(scenario())


def test_a_few_connections_are_nobodys_too_many() -> None:
    assert HttpLimits(max_connections=3).max_connections_of_host == 3
    assert HttpLimits(max_connections=10).max_connections_of_host == 8
    assert HttpLimits(max_connections=500).max_connections_of_host == 250


def test_ever_new_ipv6_addresses_of_one_network_are_one_host() -> None:
    class Connection(asyncio.Transport):
        def __init__(self, address: str) -> None:
            super().__init__({"peername": (address, 4711, 0, 0)})

    hosts = {_host(Connection(f"2001:db8::{number:x}")) for number in range(1, 100)}
    assert len(hosts) == 1
    assert _host(Connection("192.0.2.1")) != _host(Connection("192.0.2.2"))


def test_who_opens_connections_and_never_begins_tls_takes_no_more_than_anybody(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path / "ca")
    certificate, key = authority.server()
    tls = ServerTls(TlsSection(certificate_path=str(certificate), key_path=str(key)))

    async def scenario() -> None:
        application = web.Application()
        application.router.add_get("/", _answer)
        limits = HttpLimits(max_connections=24)
        listener = await HttpListener.start(
            application, "127.0.0.1", 0, limits, tls=tls.http_context(asks_clients=False)
        )
        trusting = ssl.create_default_context(cafile=str(authority.ca))
        opened: list[asyncio.StreamWriter] = []

        async def is_ended(reader: asyncio.StreamReader) -> bool:
            try:
                async with asyncio.timeout(0.2):
                    return await reader.read(1) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        try:
            silent = []
            for _ in range(40):
                reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
                opened.append(writer)
                silent.append(reader)
            ended = await asyncio.gather(*map(is_ended, silent))
            assert ended == [False] * 12 + [True] * 28
            reader, writer = await asyncio.open_connection(
                "127.0.0.1",
                listener.port,
                local_addr=("127.0.0.2", 0),
                ssl=trusting,
                server_hostname="localhost",
            )
            opened.append(writer)
            writer.write(REQUEST)
            assert b"200" in await reader.readline()
        finally:
            for writer in opened:
                writer.close()
            await listener.stop()

    asyncio.run(scenario())
