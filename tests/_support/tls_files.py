"""An authority of the test's own, and certificates of every kind that a stranger might show."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tlog.certificates import make_authority, make_client_certificate, make_server_certificate
from tlog.tls import ClientTls, read_client_tls
from tlog.tls_config import ClientTlsSection

LONG_AGO = timedelta(days=30)


class TestAuthority:
    """Is one authority in a directory, with the server's certificate that it signed."""

    __test__ = False

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        make_authority(directory, name="test", now=datetime.now(UTC) - LONG_AGO, days=365)

    @property
    def ca(self) -> Path:
        return self.directory / "ca.crt"

    def server(
        self,
        name: str = "server",
        *,
        names: Sequence[str] = ("localhost", "127.0.0.1"),
        expired: bool = False,
    ) -> tuple[Path, Path]:
        made = make_server_certificate(self.directory, name, names=names, now=self._now(expired), days=1)
        return made.certificate, made.key

    def client(self, name: str, *sources: str, expired: bool = False) -> ClientTls:
        """Return how a caller with these sources, or with none, calls servers of the same authority."""
        made = make_client_certificate(self.directory, name, sources=sources, now=self._now(expired), days=1)
        return _client(
            ClientTlsSection(
                ca_path=str(self.ca), certificate_path=str(made.certificate), key_path=str(made.key)
            )
        )

    def stranger(self) -> ClientTls:
        """Return how somebody calls who trusts this authority and shows nothing."""
        return _client(ClientTlsSection(ca_path=str(self.ca)))

    def tables(self, *, asks_clients: bool = True, server: str = "server") -> str:
        """Return the [tls] table of a server with a certificate of this authority, which is made."""
        certificate, key = self.server(server)
        lines = [f'certificate_path = "{certificate}"', f'key_path = "{key}"']
        if asks_clients:
            lines.append(f'client_ca_path = "{self.ca}"')
        return "\n".join(["[tls]", *lines, ""])

    @staticmethod
    def _now(expired: bool) -> datetime:
        return datetime.now(UTC) - (timedelta(days=7) if expired else timedelta())


def with_other_ca(tls: ClientTls, ca: Path) -> ClientTls:
    """Return the same caller, who trusts another authority."""
    return _client(
        ClientTlsSection(
            ca_path=str(ca), certificate_path=tls.paths.certificate_path, key_path=tls.paths.key_path
        )
    )


def client_table(tls: ClientTls) -> str:
    """Return the [client_tls] table of a caller."""
    paths = tls.paths
    return (
        f'[client_tls]\nca_path = "{paths.ca_path}"\ncertificate_path = "{paths.certificate_path}"\n'
        f'key_path = "{paths.key_path}"\n'
    )


def _client(section: ClientTlsSection) -> ClientTls:
    tls = read_client_tls(section)
    assert tls is not None
    return tls
