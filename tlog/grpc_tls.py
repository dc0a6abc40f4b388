"""TLS for gRPC: credentials of servers that follow the files on disk, and credentials of callers.

gRPC asks for the certificate at every handshake; what Python gives it here is `tlog.tls`.
"""

from __future__ import annotations

import grpc

from tlog.tls import ClientTls, ServerMaterial, ServerTls


def server_credentials(tls: ServerTls) -> grpc.ServerCredentials:
    """Make the credentials to listen with; callers show a certificate where `tls` asks for one."""
    generation, material = tls.material()
    given = [generation]

    def fetch() -> grpc.ServerCertificateConfiguration:
        # Called by gRPC at every handshake, from any thread.
        newest, now = tls.material()
        if newest == given[0]:
            return None  # type: ignore[return-value] # gRPC: "or None": nothing has changed
        given[0] = newest
        return _configuration(now)

    return grpc.dynamic_ssl_server_credentials(_configuration(material), fetch, tls.asks_clients)


def channel_credentials(tls: ClientTls) -> grpc.ChannelCredentials:
    """Make the credentials to call with."""
    return grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate)


def _configuration(material: ServerMaterial) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(material.key, material.certificate)], material.client_ca
    )
