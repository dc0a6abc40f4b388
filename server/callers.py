"""Who calls: the certificate that was shown, else the host that the connection comes from.

A certificate was checked by the handshake; here it is only read. What was read is remembered, for every call
of a connection brings the same one.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from threading import Lock
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
    """Reads certificates; safe to use from many threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Caller] = OrderedDict()
        self._lock = Lock()

    def of(self, context: Context) -> Caller:
        """Say who makes a gRPC call."""
        shown = context.auth_context().get("x509_pem_cert")
        if shown:
            return self.of_certificate(bytes(next(iter(shown))))
        return Caller(name=host_of_peer(context.peer()))

    def of_certificate(self, certificate: bytes) -> Caller:
        """Say whose certificate (PEM or DER) this is."""
        caller = self._known.get(certificate)
        if caller is None:
            from tlog.certificates import certificate_uris  # here: a server without TLS starts without X.509

            digest = sha256(certificate).hexdigest()[:16]
            caller = Caller(name=f"certificate {digest}", uris=certificate_uris(certificate))
            with self._lock:
                self._known[certificate] = caller
                if len(self._known) > MAX_REMEMBERED:
                    self._known.popitem(last=False)
        return caller
