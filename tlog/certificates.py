"""Certificates for development: an authority of one's own, and what it signs. Not for production.

The authority's key lies in the same directory, unencrypted, and nothing here revokes, renews or records what
was signed. In production certificates come from an authority that somebody runs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tlog.durable_file import fill_new_file
from tlog.encoding import shown
from tlog.errors import ConfigError

CA_NAME = "ca"
CERTIFICATE_SUFFIX = ".crt"
KEY_SUFFIX = ".key"
# Clocks of different machines differ.
_EARLIER = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFiles:
    """Names the two files that were made."""

    certificate: Path
    key: Path


def make_authority(directory: Path, *, name: str, now: datetime, days: int) -> CertificateFiles:
    """Make an authority in a directory that has none. Raises ConfigError."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(name)
    certificate = (
        _builder(subject, subject, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _write(directory, CA_NAME, certificate, key)


def make_server_certificate(
    directory: Path, file_name: str, *, names: Sequence[str], now: datetime, days: int
) -> CertificateFiles:
    """Let the directory's authority sign a server with these host names and IP addresses, at least one.

    Raises ConfigError.
    """
    return _sign(
        directory,
        file_name,
        names[0],
        [_host_name(name) for name in names],
        ExtendedKeyUsageOID.SERVER_AUTH,
        now,
        days,
    )


def make_client_certificate(
    directory: Path, file_name: str, *, sources: Sequence[str], now: datetime, days: int
) -> CertificateFiles:
    """Let the directory's authority sign a caller; with a source it is the member who registered that.

    Raises ConfigError, also for a source that is not ASCII: a certificate has no room for it.
    """
    try:
        names = [x509.UniformResourceIdentifier(source) for source in sources]
    except ValueError as error:
        raise ConfigError(f"a source cannot stand in a certificate: {error}") from error
    return _sign(directory, file_name, file_name, names, ExtendedKeyUsageOID.CLIENT_AUTH, now, days)


def certificate_uris(certificate: bytes) -> tuple[str, ...]:
    """Read the URIs that a certificate (PEM or DER) is made out to; none where it cannot be read.

    Whether it is valid, and who signed it, was decided by the TLS handshake.
    """
    is_pem = certificate.startswith(b"-----BEGIN ")
    try:
        parsed = (x509.load_pem_x509_certificate if is_pem else x509.load_der_x509_certificate)(certificate)
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return tuple(names.get_values_for_type(x509.UniformResourceIdentifier))
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return ()


def _sign(
    directory: Path,
    file_name: str,
    common_name: str,
    names: Sequence[x509.GeneralName],
    usage: x509.ObjectIdentifier,
    now: datetime,
    days: int,
) -> CertificateFiles:
    authority, authority_key = _load_authority(directory)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(_subject(common_name), authority.subject, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return _write(directory, file_name, builder.sign(authority_key, hashes.SHA256()), key)


def _load_authority(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    path = directory / f"{CA_NAME}{CERTIFICATE_SUFFIX}"
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        key = load_pem_private_key((directory / f"{CA_NAME}{KEY_SUFFIX}").read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{directory} has no authority ({error}): run `tlog certs init {directory}`"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{directory} has an authority of another kind: `tlog certs init` makes one")
    return certificate, key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + timedelta(days=days))
    )


def _subject(name: str) -> x509.Name:
    try:
        return x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "tlog development, not for production"),
                x509.NameAttribute(NameOID.COMMON_NAME, name[:64]),
            ]
        )
    except ValueError as error:
        raise ConfigError(f"{shown(name)} cannot be the name of a certificate: {error}") from error


def _host_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError as error:
        raise ConfigError(f"{shown(name)} is neither a host name nor an IP address") from error


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _write(
    directory: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> CertificateFiles:
    files = CertificateFiles(
        certificate=directory / f"{name}{CERTIFICATE_SUFFIX}", key=directory / f"{name}{KEY_SUFFIX}"
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write_new(files.key, pem, 0o600)
    try:
        _write_new(files.certificate, certificate.public_bytes(Encoding.PEM), 0o644)
    except BaseException:
        # A key without its certificate is good for nothing, and would stand in the way of the next attempt.
        with suppress(OSError):
            files.key.unlink()
        raise
    return files


def _write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a file that was not there; where that fails, it is not there either. Raises ConfigError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    except FileExistsError as error:
        raise ConfigError(f"{path} exists, and is not overwritten: choose another name") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be made: {error.strerror}") from error
    try:
        fill_new_file(descriptor, path, data)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
