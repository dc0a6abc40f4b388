"""What all HTTP clients here have in common."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx
import pytest

from tlog.http_client import NoCookies, tls_context


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


def test_a_cookie_is_neither_kept_nor_sent() -> None:
    cookies = []

    def answer(request: httpx.Request) -> httpx.Response:
        cookies.append(request.headers.get("Cookie"))
        return httpx.Response(200, headers={"Set-Cookie": "a=b"})

    with httpx.Client(transport=httpx.MockTransport(answer), cookies=NoCookies(), verify=False) as client:
        client.get("http://log.example/")
        client.get("http://log.example/")
        assert len(client.cookies.jar) == 0
    assert cookies == [None, None]
