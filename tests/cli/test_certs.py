"""`tlog certs`: a development authority, and what it signs."""

from __future__ import annotations

import stat
from pathlib import Path

from _support.command_line import tlog
from cryptography import x509

from tlog.certificates import certificate_uris
from tlog.tls import ServerTls, read_client_tls
from tlog.tls_config import ClientTlsSection, TlsSection


def test_what_it_makes_works_together_and_says_that_it_is_for_development(tmp_path: Path) -> None:
    directory = tmp_path / "certs"
    made = [
        tlog("certs", "init", directory, "--json"),
        tlog("certs", "server", directory, "--name", "log.example", "--name", "192.0.2.7", "--json"),
        tlog("certs", "client", directory, "--source", "https://bank.example", "--out", "bank", "--json"),
    ]
    assert [ended.code for ended in made] == [0, 0, 0]
    for ended in made:
        assert "for development only" in ended.err
        assert stat.S_IMODE(Path(ended.json["key"]).stat().st_mode) == 0o600
        assert "PRIVATE" not in ended.out + ended.err
    ca, server, client = (ended.json for ended in made)
    ServerTls(
        TlsSection(
            certificate_path=server["certificate"], key_path=server["key"], client_ca_path=ca["certificate"]
        )
    )
    assert read_client_tls(
        ClientTlsSection(
            ca_path=ca["certificate"], certificate_path=client["certificate"], key_path=client["key"]
        )
    )
    assert certificate_uris(Path(client["certificate"]).read_bytes()) == ("https://bank.example",)
    names = (
        x509.load_pem_x509_certificate(Path(server["certificate"]).read_bytes())
        .extensions.get_extension_for_class(x509.SubjectAlternativeName)
        .value
    )
    assert names.get_values_for_type(x509.DNSName) == ["log.example"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    assert tlog("certs", "init", tmp_path).code == 0
    before = (tmp_path / "ca.key").read_bytes()
    ended = tlog("certs", "init", tmp_path)
    assert ended.code == 2
    assert "not overwritten" in ended.err
    assert (tmp_path / "ca.key").read_bytes() == before


def test_without_an_authority_the_next_step_is_told(tmp_path: Path) -> None:
    ended = tlog("certs", "server", tmp_path)
    assert ended.code == 2
    assert "tlog certs init" in ended.err


def test_a_name_that_is_none_is_a_usage_error(tmp_path: Path) -> None:
    assert tlog("certs", "init", tmp_path).code == 0
    assert tlog("certs", "server", tmp_path, "--name", "bänk.example").code == 2
    assert tlog("certs", "client", tmp_path, "--source", "https://bänk.example").code == 2
