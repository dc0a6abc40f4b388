"""One port for several processes (SO_REUSEPORT): one of them keeps it, the others listen on it.

The system gives each new connection to one of the sockets that listen. A socket that is bound and does not
listen gets none, and keeps the port for its owner while the others come and go.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence
from time import monotonic

from server.grpc_server import taken_address_error

PATIENCE_S = 3.0
"""How long a port may be taken: the workers of a server that was killed need a moment to notice."""
_RETRY_S = 0.1


class SharedPort:
    """Keeps one port, on every address that a host name stands for."""

    def __init__(self, sockets: Sequence[socket.socket], port: int) -> None:
        """Take over bound sockets; use `reserve`."""
        self._sockets = sockets
        self.port = port

    @classmethod
    async def reserve(cls, address: str, port: int, *, patience_s: float = PATIENCE_S) -> SharedPort:
        """Bind a port that nobody listens on; 0 lets the system choose. Raises ConfigError."""
        deadline_s = monotonic() + patience_s
        while True:
            try:
                found = await asyncio.get_running_loop().getaddrinfo(address, port, type=socket.SOCK_STREAM)
                return cls._bind([(family, sockaddr) for family, _, _, _, sockaddr in found], port)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or monotonic() > deadline_s:
                    raise taken_address_error(address, port) from error
            await asyncio.sleep(_RETRY_S)

    @classmethod
    def _bind(cls, addresses: Sequence[tuple[int, tuple[object, ...]]], port: int) -> SharedPort:
        sockets: list[socket.socket] = []
        missing: OSError | None = None
        try:
            for family, sockaddr in dict.fromkeys(addresses):
                host, _, *rest = sockaddr
                try:
                    sockets.append(_keep(family, (host, port, *rest)))
                except OSError as error:
                    if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                        raise
                    missing = error  # a name may stand for an address that this machine does not have
                else:
                    port = int(sockets[-1].getsockname()[1])
        except BaseException:
            for bound in sockets:
                bound.close()
            raise
        if not sockets:
            raise missing or OSError(errno.EADDRNOTAVAIL, "no address")
        return cls(sockets, port)

    def close(self) -> None:
        """Give the port up."""
        for bound in self._sockets:
            bound.close()


def _keep(family: int, sockaddr: tuple[object, ...]) -> socket.socket:
    """Bind an address that nobody listens on, so that only those who share can listen there."""
    # Alone first: with SO_REUSEPORT we would share with a stranger, and not notice. As every server does,
    # past connections of the last run that linger, but not past a listener.
    alone = _bound(family, sockaddr, socket.SO_REUSEADDR)
    sockaddr = alone.getsockname()
    alone.close()
    try:
        return _bound(family, sockaddr, socket.SO_REUSEPORT)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        # Lingering connections of a server that did not share its port. While nobody listens, a server that
        # does not share could now take the port as well, so this is not the first choice.
        return _bound(family, sockaddr, socket.SO_REUSEPORT, socket.SO_REUSEADDR)


def _bound(family: int, sockaddr: tuple[object, ...], *options: int) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        for option in options:
            bound.setsockopt(socket.SOL_SOCKET, option, 1)
        bound.bind(sockaddr)
    except BaseException:
        bound.close()
        raise
    return bound
