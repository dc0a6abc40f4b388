"""Who calls: the certificate that was shown, else the host that the connection comes from.

A certificate was checked by the handshake; here it is only read. What was read is remembered, for every call
of a connection brings the same one, and comes from the same address.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TypeAlias

import grpc
from google.protobuf.message import Message

from tlog.peer_host import host_of_peer

# Quoted: the class takes type arguments only in its stubs.
Context: TypeAlias = "grpc.aio.ServicerContext[Message, Message]"

MAX_REMEMBERED = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Is somebody who calls."""

    name: str
    """What its quota goes by: the certificate's digest, or the host."""
    uris: tuple[str, ...] = ()
    """What its certificate is made out to."""


class Callers:
    """Knows who calls, and remembers it of those who came lately; safe to use from many threads."""

    def __init__(self) -> None:
        self.of_peer = lru_cache(MAX_REMEMBERED)(_of_peer)
        """Says who calls from a gRPC peer such as `ipv4:192.0.2.1:4711`, whatever it shows."""
        self.of_certificate = lru_cache(MAX_REMEMBERED)(_of_certificate)
        """Says whose certificate (PEM or DER) this is."""

    def of(self, context: Context) -> Caller:
        """Say who makes a gRPC call."""
        shown = context.auth_context().get("x509_pem_cert")
        if shown:
            return self.of_certificate(bytes(next(iter(shown))))
        return self.of_peer(context.peer())


def _of_peer(peer: str) -> Caller:
    return Caller(name=host_of_peer(peer))


def _of_certificate(certificate: bytes) -> Caller:
    from tlog.certificates import certificate_uris  # here: a server without TLS starts without X.509

    digest = sha256(certificate).hexdigest()[:16]
    return Caller(name=f"certificate {digest}", uris=certificate_uris(certificate))
