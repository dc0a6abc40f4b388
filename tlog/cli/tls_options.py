"""The options that say how a command's calls are protected."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tlog.tls import ClientTls

_PANEL = "TLS"

TlsCaOption = Annotated[
    Path | None,
    typer.Option(
        "--tls-ca",
        envvar="TLOG_TLS_CA",
        help="PEM file of the authorities that the server's certificate has to come from. Without it gRPC is "
        "plaintext, and https URLs are checked by the machine's own authorities.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
TlsCertificateOption = Annotated[
    Path | None,
    typer.Option(
        "--tls-cert",
        envvar="TLOG_TLS_CERT",
        help="PEM file of the certificate to show to a server that asks for one.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
TlsKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--tls-key",
        envvar="TLOG_TLS_KEY",
        help="PEM file of its private key.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]


def client_tls(ca: Path | None, certificate: Path | None, key: Path | None) -> ClientTls | None:
    """Read the files of the three options; None where nothing is given. Raises ConfigError."""
    if ca is None and certificate is None and key is None:
        return None
    from tlog.tls import read_client_tls
    from tlog.tls_config import ClientTlsSection

    def named(path: Path | None) -> str:
        return "" if path is None else str(path)

    section = ClientTlsSection(ca_path=named(ca), certificate_path=named(certificate), key_path=named(key))
    return read_client_tls(section, told_as="give --tls-ca")
