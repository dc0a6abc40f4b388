"""How many connections the HTTP listener takes, of all hosts and of one."""

from __future__ import annotations

import asyncio

from aiohttp import web

from tlog.http_listener import HttpLimits, HttpListener, _host

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
