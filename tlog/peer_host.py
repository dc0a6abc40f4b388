"""Who stands behind an address, as far as limits go: a host, or with IPv6 the network that it has."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network, ip_address
from urllib.parse import unquote

PREFIX_BITS = 64
"""What one customer of a network is given at the least (RFC 6177): 2**64 addresses of one host."""


def host_of_peer(peer: str) -> str:
    """Return the host of a gRPC peer such as `ipv4:192.0.2.1:4711`, without its port."""
    kind, _, address = peer.partition(":")
    if kind == "ipv4":
        return address.rpartition(":")[0]
    if kind == "ipv6":
        return host_of_address(unquote(address.rpartition(":")[0]).strip("[]"))
    return peer


def host_of_address(address: str) -> str:
    """Return what an IP address counts as: itself, or with IPv6 its /64; other names are hosts of their own.

    An IPv4 address that is written as one of IPv6 is that IPv4 address.
    """
    if ":" not in address:
        return address
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(found, IPv6Address) or found.is_loopback:
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(IPv6Network((found, PREFIX_BITS), strict=False))
