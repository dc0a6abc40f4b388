"""HTTP servers on loopback that do what a test says: answer from a table, or misbehave on the socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

Behaviour = Callable[[socket.socket, str], None]
"""Answers one request, given its path; may do anything with the socket."""


def response(body: bytes, *, status: str = "200 OK", headers: Mapping[str, str] | None = None) -> bytes:
    lines = {"Content-Length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


class TileHost:
    """Serves static resources by path; `asked` lists the paths in the order of the requests."""

    def __init__(self, resources: Mapping[str, bytes], *, prefix: str = "/") -> None:
        self.resources = dict(resources)
        self.prefix = prefix
        self.asked: list[str] = []
        self.headers: dict[str, str] = {}
        self.failures: dict[str, list[bytes]] = {}
        """Responses that are sent first, in order, by path."""

    def __call__(self, connection: socket.socket, path: str) -> None:
        path = path.removeprefix(self.prefix)
        self.asked.append(path)
        if self.failures.get(path):
            connection.sendall(self.failures[path].pop(0))
        elif path in self.resources:
            connection.sendall(response(self.resources[path], headers=self.headers))
        else:
            connection.sendall(response(b"nothing here\n", status="404 Not Found"))


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[str]:
    """Listen on loopback while the block runs; yields the URL. Every connection has a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    connections: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            while True:
                head = b""
                while b"\r\n\r\n" not in head:
                    data = connection.recv(65_536)
                    if not data:
                        return
                    head += data
                behaviour(connection, head.split(b" ")[1].decode())

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                threads.append(threading.Thread(target=serve, args=(connection,), daemon=True))
                threads[-1].start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in (accepting, *threads):
            thread.join(30)
