"""What all HTTP clients here have in common."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from tlog.errors import ConfigError
from tlog.http_client import ANSWER_ERRORS, HttpClient, tls_context
from tlog.http_listener import HttpListener


def test_the_authorities_of_the_system_are_asked_whatever_the_spelling_of_https() -> None:
    assert tls_context("HTTPS://log.example").get_ca_certs()
    assert tls_context("https://log.example").verify_mode == ssl.CERT_REQUIRED


def test_without_tls_nobody_is_trusted_so_nothing_is_loaded() -> None:
    context = tls_context("http://log.example")
    assert context.get_ca_certs() == []
    assert context.verify_mode == ssl.CERT_REQUIRED


def test_an_alliance_may_name_an_authority_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (usual, *_) = httpx.create_ssl_context().get_ca_certs(binary_form=True)
    file = tmp_path / "authority.pem"
    file.write_text(ssl.DER_cert_to_PEM_cert(usual))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    assert tls_context("https://log.example").get_ca_certs(binary_form=True) == [usual]


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_authorities_that_cannot_be_read_are_named_with_the_way_out(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "authority.pem"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(ConfigError, match=re.escape(f"SSL_CERT_FILE names {file}")) as raised:
        tls_context("https://log.example")
    assert "or unset it" in str(raised.value)


def test_a_cookie_is_neither_kept_nor_sent() -> None:
    asked: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.headers.get("Cookie"))
        return web.Response(headers={"Set-Cookie": "a=b"})

    asyncio.run(ask_twice(answer))
    assert asked == [None, None]


def test_a_request_carries_what_it_was_given_and_no_more() -> None:
    heads: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        heads.append(dict(request.headers))
        return web.Response()

    asyncio.run(ask_twice(answer))
    for head in heads:
        assert set(head) == {"Host", "Accept", "Accept-Encoding", "User-Agent"}
        assert head["User-Agent"] == "tlog"


def test_one_connection_serves_requests_that_follow_each_other() -> None:
    peers = []

    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.append(request.transport.get_extra_info("peername"))
        return web.Response(text="some body")

    asyncio.run(ask_twice(answer))
    assert len(peers) == 2
    assert len(set(peers)) == 1


def test_no_proxy_is_asked_unless_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)

    async def answer(_: web.Request) -> web.Response:
        return web.Response()

    asyncio.run(ask_twice(answer))
    with pytest.raises(ANSWER_ERRORS, match=r"127\.0\.0\.1:1"):
        asyncio.run(ask_twice(answer, use_proxies=True))


async def ask_twice(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]], *, use_proxies: bool = False
) -> None:
    application = web.Application()
    application.router.add_get("/", answer)
    listener = await HttpListener.start(application, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.port}/"
    client = HttpClient(url, max_connections=2, use_proxies=use_proxies)
    try:
        for _ in range(2):
            headers = {"Accept-Encoding": "identity", "User-Agent": "tlog"}
            async with client.request("GET", url, headers=headers, timeout_s=5) as response:
                assert response.status == 200
                await response.read()
    finally:
        await client.aclose()
        await listener.stop()
