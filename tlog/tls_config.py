"""The configuration tables that say how connections are protected, the same in every program.

`[tls]` is for what a program listens on, `[client_tls]` for what it calls.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import msgspec

from tlog.config_file import FilePathOrNone, Section
from tlog.errors import ConfigError


class TlsSection(Section, frozen=True, kw_only=True):
    """Says how everything that a program listens on is protected."""

    certificate_path: FilePathOrNone = ""
    """PEM file: the server's certificate, then those that lead to its authority; "": plaintext."""
    key_path: FilePathOrNone = ""
    """PEM file of its private key, not readable by others."""
    client_ca_path: FilePathOrNone = ""
    """PEM file of the authorities whose certificates callers have to show; "": callers show none."""
    allow_plaintext_on_network: bool = False
    """Listen without TLS on more than loopback: everybody on the way reads along."""

    @property
    def is_on(self) -> bool:
        """Return whether there is TLS."""
        return bool(self.certificate_path)

    def require_complete(self) -> None:
        """Require that the names that are set make sense together. Raises ConfigError."""
        if bool(self.certificate_path) != bool(self.key_path):
            raise ConfigError("[tls] certificate_path and key_path: set both, or neither (plaintext)")
        if self.client_ca_path and not self.is_on:
            raise ConfigError("[tls] client_ca_path means nothing without certificate_path and key_path")
        if self.is_on and self.allow_plaintext_on_network:
            raise ConfigError("[tls] allow_plaintext_on_network is set, and so is a certificate: keep one")

    def require_safe(self, address: str, what: str) -> None:
        """Require TLS, or an address that only this machine reaches. Raises ConfigError."""
        if not self.is_on and not self.allow_plaintext_on_network and not is_loopback(address):
            raise ConfigError(
                f"{what} would be served in plaintext on {address}, where everybody on the way reads along: "
                "set [tls] certificate_path and key_path (`tlog certs` makes some for development), or "
                "listen on 127.0.0.1; where something else protects the way, say so by its name: [tls] "
                "allow_plaintext_on_network = true"
            )

    def absolute(self, base: Path) -> TlsSection:
        """Return the same with paths that are relative to `base` made absolute."""
        return msgspec.structs.replace(
            self,
            certificate_path=_absolute(base, self.certificate_path),
            key_path=_absolute(base, self.key_path),
            client_ca_path=_absolute(base, self.client_ca_path),
        )


class ClientTlsSection(Section, frozen=True, kw_only=True):
    """Says how everything that a program calls is protected."""

    ca_path: FilePathOrNone = ""
    """PEM file of the authorities that servers' certificates have to come from; "": gRPC is plaintext."""
    certificate_path: FilePathOrNone = ""
    """PEM file of the certificate that is shown to servers that ask for one."""
    key_path: FilePathOrNone = ""
    """PEM file of its private key, not readable by others."""

    def absolute(self, base: Path) -> ClientTlsSection:
        """Return the same with paths that are relative to `base` made absolute."""
        return ClientTlsSection(
            ca_path=_absolute(base, self.ca_path),
            certificate_path=_absolute(base, self.certificate_path),
            key_path=_absolute(base, self.key_path),
        )


def is_loopback(address: str) -> bool:
    """Return whether an address to listen on is reached from this machine only, as far as it tells."""
    if address == "localhost":
        return True
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def _absolute(base: Path, name: str) -> str:
    return str(base / name) if name else ""
