"""Servers that speak as other people's logs do, in threads of the test, with replies that real ones gave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc

Method = Callable[[bytes, grpc.ServicerContext], bytes]


@contextmanager
def grpc_peer(service: str, methods: Mapping[str, Method]) -> Iterator[str]:
    """A gRPC server with these methods of one service, bytes in and bytes out; gives its address."""
    server = grpc.server(ThreadPoolExecutor(4))
    handlers = {name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@dataclass
class TiledPeer:
    """A log like Tessera's personalities: `POST /add` gives an index, and every look at it grows the tree.

    `refuses` is what it answers to an entry instead, `checkpoint` what it shows instead of its own.
    """

    entries: list[bytes] = field(default_factory=list)
    tree_size: int = 0
    grows_by: int = 5
    refuses: tuple[int, bytes] | None = None
    checkpoint: bytes | None = None
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, entry: bytes) -> tuple[int, bytes]:
        with self.lock:
            if self.refuses is not None:
                return self.refuses
            self.entries.append(entry)
            return HTTPStatus.OK, b"%d" % (len(self.entries) - 1)

    def show(self) -> bytes:
        with self.lock:
            self.tree_size = min(self.tree_size + self.grows_by, len(self.entries))
            text = f"peer.example/log\n{self.tree_size}\n{'A' * 43}=\n\n\u2014 peer.example/log {'A' * 92}\n"
            return text.encode() if self.checkpoint is None else self.checkpoint


@contextmanager
def tiled_peer() -> Iterator[TiledPeer]:
    """Serve such a log over HTTP."""
    peer = TiledPeer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            entry = self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(*(peer.add(entry) if self.path == "/add" else (HTTPStatus.NOT_FOUND, b"")))

        def do_GET(self) -> None:
            known = self.path == "/checkpoint"
            self.answer(HTTPStatus.OK if known else HTTPStatus.NOT_FOUND, peer.show() if known else b"")

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        peer.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield peer
        finally:
            server.shutdown()
            thread.join()
