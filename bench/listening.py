"""Which process of this machine listens at an address, so that its CPU time can be read."""

from __future__ import annotations

import socket
from typing import Any, Protocol

import psutil

from bench.measure import CpuTime, cpu_time


def listening_pids(host: str, port: int) -> list[int]:
    """Return the processes that listen at a port, without those that have the socket from their parent.

    Nothing where the host is another machine, where nobody listens, or where the system does not tell whose
    socket it is.
    """
    if not is_local(host):
        return []
    found = {
        connection.pid
        for connection in psutil.net_connections(kind="tcp")
        if connection.pid and _listens(connection, port)
    }
    return sorted({_eldest(psutil.Process(pid), port) for pid in found})


def _eldest(process: psutil.Process, port: int) -> int:
    """Return the highest ancestor that listens there too: of those that share a socket only one is told."""
    eldest = process.pid
    for above in process.parents():
        try:
            if not any(_listens(connection, port) for connection in above.net_connections(kind="tcp")):
                break
        except psutil.AccessDenied:
            break
        eldest = above.pid
    return eldest


class _Connection(Protocol):
    @property
    def status(self) -> str: ...
    @property
    def laddr(self) -> Any: ...  # noqa: ANN401 - psutil says a pair, an empty tuple or a path


def _listens(connection: _Connection, port: int) -> bool:
    return bool(connection.status == psutil.CONN_LISTEN and connection.laddr[1:2] == (port,))


def is_local(host: str) -> bool:
    """Say whether a host is this machine, by its addresses; one without any is not."""
    try:
        resolved = {str(found[4][0]) for found in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    own = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    return bool(resolved) and resolved <= own


def cpu_of_all(pids: list[int]) -> CpuTime:
    """Return what some processes and their descendants have used up to now."""
    return sum((cpu_time(pid) for pid in pids), CpuTime(user_s=0.0, system_s=0.0))
