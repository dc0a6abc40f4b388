"""Certificates on disk: what is refused at the start, and what a renewal changes."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from _support.tls_files import TestAuthority
from cryptography import x509

from tlog.certificates import certificate_uris, make_client_certificate
from tlog.config_file import decode_config
from tlog.errors import ConfigError
from tlog.tls import ServerTls, read_client_tls
from tlog.tls_config import ClientTlsSection, TlsSection, is_loopback


@pytest.fixture
def authority(tmp_path: Path) -> TestAuthority:
    return TestAuthority(tmp_path / "ca")


def section(authority: TestAuthority, name: str = "server", *, ca: Path | None = None) -> TlsSection:
    certificate, key = authority.server(name)
    return TlsSection(
        certificate_path=str(certificate),
        key_path=str(key),
        client_ca_path=str(authority.ca if ca is None else ca),
    )


async def handshake(context: ssl.SSLContext, client: ssl.SSLContext) -> int:
    """Connect once; returns the serial number of the certificate that the server showed."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(await reader.readexactly(1))
            await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        try:
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            return x509.load_der_x509_certificate(shown).serial_number
        finally:
            writer.close()


def serial(path: str) -> int:
    return x509.load_pem_x509_certificate(Path(path).read_bytes()).serial_number


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_needs_no_tls(address: str) -> None:
    assert is_loopback(address)
    TlsSection().require_safe(address, "[grpc]")


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1", "log.example", "localhost.example"])
def test_plaintext_on_the_network_is_refused_unless_it_is_asked_for_by_name(address: str) -> None:
    with pytest.raises(ConfigError, match="allow_plaintext_on_network = true"):
        TlsSection().require_safe(address, "[grpc]")
    TlsSection(allow_plaintext_on_network=True).require_safe(address, "[grpc]")
    TlsSection(certificate_path="a", key_path="b").require_safe(address, "[grpc]")


@pytest.mark.parametrize(
    "text",
    [
        'certificate_path = "a"',
        'key_path = "a"',
        'client_ca_path = "a"',
        'certificate_path = "a"\nkey_path = "b"\nallow_plaintext_on_network = true',
    ],
)
def test_half_a_table_is_refused(text: str) -> None:
    found = decode_config(text, TlsSection, what="x", documented_in="y")
    with pytest.raises(ConfigError):
        found.require_complete()


def test_a_key_that_everybody_can_read_is_refused_and_never_shown(authority: TestAuthority) -> None:
    tls = section(authority)
    Path(tls.key_path).chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600") as refused:
        ServerTls(tls)
    assert "PRIVATE" not in str(refused.value)


def test_a_certificate_and_the_key_of_another_are_refused(authority: TestAuthority) -> None:
    tls, other = section(authority), section(authority, "other")
    mixed = TlsSection(certificate_path=tls.certificate_path, key_path=other.key_path)
    with pytest.raises(ConfigError, match="cannot be used together"):
        ServerTls(mixed)
    caller = authority.client("caller").paths
    with pytest.raises(ConfigError, match="cannot be used together"):
        read_client_tls(
            ClientTlsSection(
                ca_path=caller.ca_path, certificate_path=caller.certificate_path, key_path=other.key_path
            )
        )


def test_a_file_that_is_missing_or_no_certificate_is_an_error_that_names_it(
    tmp_path: Path, authority: TestAuthority
) -> None:
    tls = section(authority)
    with pytest.raises(ConfigError, match="nowhere"):
        ServerTls(TlsSection(certificate_path=str(tmp_path / "nowhere"), key_path=tls.key_path))
    junk = tmp_path / "junk"
    junk.write_bytes(b"junk")
    with pytest.raises(ConfigError, match="junk is not a PEM file"):
        ServerTls(TlsSection(certificate_path=str(junk), key_path=tls.key_path))
    with pytest.raises(ConfigError, match="junk is not a PEM file"):
        read_client_tls(ClientTlsSection(ca_path=str(junk)))


def test_a_clients_certificate_without_an_authority_is_refused(authority: TestAuthority) -> None:
    paths = authority.client("caller").paths
    with pytest.raises(ConfigError, match="no authority"):
        read_client_tls(ClientTlsSection(certificate_path=paths.certificate_path, key_path=paths.key_path))
    assert read_client_tls(ClientTlsSection()) is None


def test_the_next_connection_after_a_renewal_gets_the_new_certificate(authority: TestAuthority) -> None:
    tls, renewed = section(authority), section(authority, "renewed")
    context = ServerTls(tls).http_context(asks_clients=True)
    client = authority.client("caller").http_context()

    async def run() -> None:
        before = serial(tls.certificate_path)
        assert await handshake(context, client) == before
        Path(renewed.key_path).replace(tls.key_path)
        # The certificate is not there yet: a handshake between the two gets the old pair.
        assert await handshake(context, client) == before
        Path(renewed.certificate_path).replace(tls.certificate_path)
        assert await handshake(context, client) == serial(tls.certificate_path) != before

    asyncio.run(run())


def test_a_certificate_that_is_gone_or_broken_changes_nothing_until_there_is_another(
    authority: TestAuthority, caplog: pytest.LogCaptureFixture
) -> None:
    tls = ServerTls(paths := section(authority))
    first, before = tls.material()
    Path(paths.certificate_path).unlink()
    assert tls.material() == (first, before)
    Path(paths.certificate_path).write_text("-----BEGIN CERTIFICATE-----\nhalf of i")
    assert tls.material() == (first, before)
    assert len([one for one in caplog.records if "stays as it was" in one.message]) == 2
    tls.material()
    assert len([one for one in caplog.records if "stays as it was" in one.message]) == 2
    renewed = section(authority, "renewed")
    shutil.move(renewed.key_path, paths.key_path)
    shutil.move(renewed.certificate_path, paths.certificate_path)
    assert tls.material()[0] > first


def test_an_authority_that_is_taken_out_is_not_believed_any_more(
    tmp_path: Path, authority: TestAuthority
) -> None:
    other = TestAuthority(tmp_path / "other")
    both = tmp_path / "both.crt"
    both.write_bytes(authority.ca.read_bytes() + other.ca.read_bytes())
    context = ServerTls(section(authority, ca=both)).http_context(asks_clients=True)
    theirs = other.client("caller").paths
    client = ssl.create_default_context(cafile=str(authority.ca))
    client.load_cert_chain(theirs.certificate_path, theirs.key_path)

    async def run() -> None:
        await handshake(context, client)
        both.write_bytes(authority.ca.read_bytes())
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await handshake(context, client)
        await handshake(context, authority.client("own").http_context())

    asyncio.run(run())


def test_only_uris_count_as_sources(authority: TestAuthority) -> None:
    paths = authority.client("two", "https://bank.example", "urn:x:y").paths
    assert certificate_uris(Path(paths.certificate_path).read_bytes()) == ("https://bank.example", "urn:x:y")
    certificate, _ = authority.server("named", names=["bank.example", "10.0.0.1"])
    assert certificate_uris(certificate.read_bytes()) == ()
    der = ssl.PEM_cert_to_DER_cert(Path(paths.certificate_path).read_text())
    assert certificate_uris(der) == ("https://bank.example", "urn:x:y")
    assert certificate_uris(b"junk") == ()
    assert certificate_uris(b"-----BEGIN CERTIFICATE-----\njunk") == ()


def test_a_source_that_is_not_ascii_is_refused(authority: TestAuthority) -> None:
    with pytest.raises(ConfigError, match="source"):
        make_client_certificate(
            authority.directory, "x", sources=["https://bänk.example"], now=datetime.now(UTC), days=1
        )
