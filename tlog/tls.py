"""Certificates and keys on disk, and the TLS contexts made of them; gRPC's are in `tlog.grpc_tls`.

What a server shows is looked for again whenever somebody connects, so that a certificate which is renewed on
disk is used without a restart. Files that do not belong together, or cannot be read, change nothing: what was
read last goes on being used, and the log says so once.
"""

from __future__ import annotations

import logging
import os
import ssl
import stat
import threading
from dataclasses import dataclass
from pathlib import Path

from tlog.errors import ConfigError
from tlog.tls_config import ClientTlsSection, TlsSection

_LOGGER = logging.getLogger(__name__)
MAX_PEM_BYTES = 2**20

_Fingerprint = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerMaterial:
    """Holds what a server shows, and whom it asks; PEM. The key never shows itself."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None

    def __repr__(self) -> str:
        return "ServerMaterial(…)"


class ServerTls:
    """Holds a server's certificate as it is on disk now; safe to use from many threads."""

    def __init__(self, section: TlsSection) -> None:
        """Read the files that `section`, whose TLS is on, names. Raises ConfigError."""
        section.require_complete()
        self._section = section
        self._lock = threading.Lock()
        self._seen = self._fingerprint()
        self._material, self._contexts = self._load()
        self._generation = 1

    @property
    def asks_clients(self) -> bool:
        """Return whether callers have to show a certificate."""
        return bool(self._section.client_ca_path)

    def material(self) -> tuple[int, ServerMaterial]:
        """Return what is on disk now, and a number that changes with it."""
        with self._lock:
            self._look()
            return self._generation, self._material

    def reload(self) -> None:
        """Look at the files now, and say in the log what came of it."""
        with self._lock:
            self._look()
        _LOGGER.info("the certificate is number %d since the start", self._generation)

    def http_context(self, *, asks_clients: bool) -> ssl.SSLContext:
        """Return the context to listen with; every connection gets the certificate of its time.

        With `asks_clients` callers have to show a certificate, if the configuration names an authority.
        """
        asking = asks_clients and self.asks_clients

        def pick(connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, first: ssl.SSLContext) -> None:
            with self._lock:
                self._look()
                connection.context = self._contexts[asking]

        # A context of its own: the others take no callback, or each would hand over to the next.
        first = _server_context(self._section, asks_clients=asking)
        first.sni_callback = pick
        return first

    def _look(self) -> None:
        fingerprint = self._fingerprint()
        if fingerprint == self._seen:
            return
        self._seen = fingerprint
        try:
            self._material, self._contexts = self._load()
        except ConfigError as error:
            _LOGGER.error("the certificate stays as it was: %s", error)  # noqa: TRY400 - no bug, no traceback
            return
        self._generation += 1
        _LOGGER.info("the certificate was read anew from %s", self._section.certificate_path)

    def _fingerprint(self) -> _Fingerprint:
        section = self._section
        names = (section.certificate_path, section.key_path, section.client_ca_path)
        return tuple(_file_fingerprint(name) for name in names if name)

    def _load(self) -> tuple[ServerMaterial, dict[bool, ssl.SSLContext]]:
        section = self._section
        material = ServerMaterial(
            certificate=_read(section.certificate_path, "the certificate"),
            key=read_key(section.key_path),
            client_ca=_read(section.client_ca_path, "the authorities") if section.client_ca_path else None,
        )
        contexts = {asks: _server_context(section, asks_clients=asks) for asks in (False, True)}
        return material, contexts


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTls:
    """Says whom a caller trusts and what it shows; PEM, and the files that it came from."""

    ca: bytes
    certificate: bytes | None
    key: bytes | None
    paths: ClientTlsSection

    def __repr__(self) -> str:
        return f"ClientTls(paths={self.paths!r})"

    def http_context(self) -> ssl.SSLContext:
        """Make the context to call over HTTP with."""
        context = ssl.create_default_context(cadata=self.ca.decode("ascii"))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.paths.certificate_path:
            context.load_cert_chain(self.paths.certificate_path, self.paths.key_path)
        return context


def read_client_tls(section: ClientTlsSection, *, told_as: str = "[client_tls] ca_path") -> ClientTls | None:
    """Read what a caller trusts and shows; None where nothing is named: its calls are plaintext.

    `told_as` is what a message calls the authorities. Raises ConfigError.
    """
    if bool(section.certificate_path) != bool(section.key_path):
        raise ConfigError("a client's certificate and its key go together: name both, or neither")
    if not section.ca_path:
        if section.certificate_path:
            raise ConfigError(
                f"a client's certificate is named, but no authority to check servers by: {told_as}"
            )
        return None
    found = ClientTls(
        ca=_read(section.ca_path, "the authorities"),
        certificate=_read(section.certificate_path, "the certificate") if section.certificate_path else None,
        key=read_key(section.key_path) if section.key_path else None,
        paths=section,
    )
    try:
        found.http_context()
    except (ssl.SSLError, ValueError, OSError) as error:
        raise ConfigError(
            f"the TLS files {section.ca_path}, {section.certificate_path or 'no certificate'} and "
            f"{section.key_path or 'no key'} cannot be used together: {_told(error)}"
        ) from None
    return found


def read_key(path: str) -> bytes:
    """Read a private key that others may not read. Raises ConfigError, which shows nothing of it."""
    data = _read(path, "the key")
    mode = os.stat(path).st_mode  # noqa: PTH116
    if mode & stat.S_IRWXO:
        raise ConfigError(
            f"the key {path} has mode {stat.S_IMODE(mode):04o}, so everybody here may have read it: run "
            f"`chmod 600 {path}` if you are sure that nobody did, else make a new one"
        )
    return data


def _server_context(section: TlsSection, *, asks_clients: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A ticket would carry who a client was past the end of its certificate's authority.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    try:
        context.load_cert_chain(section.certificate_path, section.key_path, password=_no_password)
        if asks_clients and section.client_ca_path:
            context.load_verify_locations(section.client_ca_path)
            context.verify_mode = ssl.CERT_REQUIRED
    except (ssl.SSLError, ValueError, OSError) as error:
        raise ConfigError(
            f"[tls] {section.certificate_path}, {section.key_path} and "
            f"{section.client_ca_path or 'no authority of clients'} cannot be used together: {_told(error)}"
        ) from None
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted, and nobody is here to give its password")


def _told(error: Exception) -> str:
    return (getattr(error, "reason", None) or str(error) or type(error).__name__).replace("_", " ")


def _read(path: str, what: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_PEM_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{what} {path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_PEM_BYTES or b"-----BEGIN " not in data:
        raise ConfigError(f"{what} {path} is not a PEM file")
    return data


def _file_fingerprint(path: str) -> tuple[int, int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116 - three of these with every connection
    except OSError:
        return (0, 0, 0)
    return status.st_mtime_ns, status.st_size, status.st_ino
