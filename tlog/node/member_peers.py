"""The nodes of the alliance's members, as the log's own membership names them.

A member's sources are URIs under names that it owns. So its node is expected at the host of its `https`
sources, on a port that the alliance has agreed on: no second list has to be kept, and who is suspended in the
log is not asked any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from urllib.parse import urlsplit

from tlog.governance import MemberStatus
from tlog.membership import Registry


def member_addresses(registry: Registry, port: int) -> tuple[str, ...]:
    """Return host:port of every active member's `https` sources, each once, in the order of the members."""
    hosts: dict[str, None] = {}
    for member in registry.members.values():
        if member.status is not MemberStatus.ACTIVE:
            continue
        for source in member.sources:
            if host := _host(source):
                hosts[host] = None
    return tuple(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in hosts)


def addresses_to_ask(
    listed: Iterable[str], of_members: Iterable[Iterable[str]], own_address: str
) -> tuple[str, ...]:
    """Return the listed nodes and then those of the members, each once, without this node itself."""
    every = dict.fromkeys(chain(listed, *of_members))
    return tuple(address for address in every if address != own_address)


def _host(source: str) -> str | None:
    try:
        parts = urlsplit(source)
        host = parts.hostname
    except ValueError:  # what looks like a URL, with a host that none can be
        return None
    return host if parts.scheme == "https" else None
