"""The tile server on a log of opaque entries: every resource, and clients that waste its time.

tlog-tiles: "The Signed Tree Head MUST be served as a [checkpoint][] at <prefix>/checkpoint"; "If the log is
public, or is interacting in any way with the public witness network, the checkpoint MUST carry at least one
Ed25519 signature by the log."
"""

from __future__ import annotations

import asyncio
import gzip
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pytest
from _support.tiled_log import ORIGIN, SIGNER, checkpoint_note, path_of, sha256, walk

from server import tile_http
from server.metrics import Metrics
from server.reading_access import ReadingAccess
from server.tile_http import TileServer
from tlog.errors import CorruptionError
from tlog.http_listener import HttpListener
from tlog.integrate import TreeEdge, integrate
from tlog.log_view import LogView
from tlog.reading import parse_reading_rule
from tlog.storage.base import CommitBatch
from tlog.storage.memory import MemoryStore
from tlog.tile_application import READS_AT_ONCE, prefers_gzip, tile_application
from tlog.tiles import Tile


class OpaqueLog:
    """A store whose entries are any bytes, with the two things that a tile server asks of a log."""

    origin = ORIGIN

    def __init__(self, entries: list[bytes]) -> None:
        self.store = MemoryStore(ORIGIN, SIGNER.vkey)
        self.edge = TreeEdge.EMPTY
        self.failure: Exception | None = None
        self.store.commit(CommitBatch.empty(), expected=None, new=self.note(), publish=True)
        self.append(entries)

    def note(self) -> bytes:
        return checkpoint_note(self.edge.tree_size, self.edge.root_hash)

    def append(self, entries: list[bytes], *, publish: bool = True) -> None:
        before, start = self.store.load(), self.edge.tree_size
        self.edge, tiles = integrate(self.edge, [sha256(b"\x00" + entry) for entry in entries])
        batch = CommitBatch(
            start=start,
            entries=entries,
            identities=[sha256(b"%d" % number) for number in range(start, start + len(entries))],
            business_keys=[()] * len(entries),
            governance_indices=[],
            tiles=tiles,
        )
        self.store.commit(batch, expected=before, new=self.note(), publish=publish)

    @contextmanager
    def view(self) -> Iterator[LogView]:
        if self.failure is not None:
            raise self.failure
        with self.store.reader() as reader:
            yield LogView(reader)


@dataclass
class Served:
    """Is a tile server in a thread of its own."""

    log: OpaqueLog
    metrics: Metrics = field(default_factory=Metrics)
    port: int = 0

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def body(self, path: str) -> bytes:
        status, _, body = self.get(f"/{path}")
        assert status == 200, path
        return body

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)


@contextmanager
def serving(log: OpaqueLog) -> Iterator[Served]:
    served = Served(log)
    ready, stop = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        with ThreadPoolExecutor(2) as reading:
            everybody = ReadingAccess(parse_reading_rule("public"), log.origin)
            server = TileServer(log, served.metrics, everybody, reading=reading, stop_timeout_s=5.0)  # type: ignore[arg-type]
            served.port = await server.start("127.0.0.1", 0)
            ready.set()
            await stop.wait()
            await server.stop()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        assert ready.wait(30)
        yield served
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def large() -> Iterator[Served]:
    """70,000 entries: the example of the specification."""
    with serving(OpaqueLog([b"entry %d" % number for number in range(70_000)])) as served:
        yield served


def test_the_tree_of_70000_entries_is_served_as_the_specification_says(large: Served) -> None:
    for level, index, width in ((0, 273, 112), (1, 0, 256), (1, 1, 17), (2, 0, 1)):
        assert len(large.body(path_of(level, index, width))) == 32 * width
    for level, index, width in (
        (0, 273, 256),
        (0, 273, 113),
        (0, 274, 1),
        (1, 1, 18),
        (1, 2, 1),
        (2, 0, 2),
        (2, 1, 1),
        (3, 0, 1),
        (63, 0, 1),
        ("entries", 273, 113),
        ("entries", 273, 256),
        ("entries", 274, 1),
        (0, 10**12, 256),
        ("entries", 10**18, 256),
    ):
        status, headers, _ = large.get("/" + path_of(level, index, width))
        assert status == 404, (level, index, width)
        assert headers["Cache-Control"] == "no-store"


def test_any_client_walks_70000_entries_and_rebuilds_the_root(large: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", large.port, timeout=10)

    def get(path: str) -> bytes:
        connection.request("GET", f"/{path}")
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, path
        return body

    assert walk(get) == [b"entry %d" % number for number in range(70_000)]
    connection.close()


def test_every_narrower_tile_is_the_beginning_of_the_stored_one(large: Served) -> None:
    full, last = large.body(path_of(1, 0, 256)), large.body(path_of(1, 1, 17))
    for width in (1, 2, 100, 255):
        assert large.body(path_of(1, 0, width)) == full[: 32 * width]
    for width in range(1, 17):
        assert large.body(path_of(1, 1, width)) == last[: 32 * width]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/index.html",
        "/checkpoint/",
        "/checkpoint.txt",
        "//checkpoint",
        "/tile/0/0",
        "/tile/0/0000",
        "/tile/0/x000/000",
        "/tile/00/000",
        "/tile/64/000",
        "/tile/-1/000",
        "/tile/0/000.p/0",
        "/tile/0/000.p/256",
        "/tile/0/000.p/01",
        "/tile/0/000.p/",
        "/tile/entries/",
        "/tile/Entries/000",
        "/tile/data/000",
        "/tile/0/000/",
        "/TILE/0/000",
        "/tile/8/0/000",
        "/tile/0/x999/x999/x999/x999/x999/x999/x999/999",
        "/..%2f..%2fetc%2fpasswd",
        "/%00",
        "/" + "a" * 8000,
    ],
)
def test_paths_that_name_nothing_are_not_found(large: Served, path: str) -> None:
    status, headers, body = large.get(path)
    assert status == 404
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert len(body) < 300


def test_a_request_line_that_is_too_long_is_refused(large: Served) -> None:
    assert large.get("/" + "a" * 20_000)[0] in {400, 414}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/checkpoint", "/tile/0/000", "/nothing"])
def test_other_methods_than_get_and_head_are_not_allowed(large: Served, method: str, path: str) -> None:
    status, headers, _ = large.get(path, method)
    assert status == 405
    assert headers["Allow"] == "GET, HEAD"


def test_no_version_of_any_library_is_told(large: Served) -> None:
    for path in ("/checkpoint", "/nothing"):
        assert large.get(path)[1]["Server"] == "tlog"


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("gzip, identity", True),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000, *", False),
        ("identity", False),
        ("identity, gzip;q=0.5", False),
        ("identity;q=0.5, gzip", True),
        ("gzip;q=nonsense", False),
        ("x-gzip-not", False),
        ("deflate , gzip ;q=0.5", True),
        (";;;,,,", False),
    ],
)
def test_what_a_client_accepts_is_read_as_rfc_9110_says(header: str, accepted: bool) -> None:
    assert prefers_gzip(header) is accepted


def test_bundles_are_compressed_for_those_who_accept_it(large: Served) -> None:
    path = "/" + path_of("entries", 0, 256)
    status, plain_headers, plain = large.get(path)
    assert status == 200
    assert "Content-Encoding" not in plain_headers
    _, headers, packed = large.get(path, Accept_Encoding="gzip")
    assert headers["Content-Encoding"] == "gzip"
    assert int(headers["Content-Length"]) == len(packed) < len(plain) / 2
    assert gzip.decompress(packed) == plain
    assert headers["Vary"] == plain_headers["Vary"] == "Accept-Encoding"
    # Hashes do not get any smaller.
    _, headers, body = large.get("/" + path_of(0, 0, 256), Accept_Encoding="gzip")
    assert "Content-Encoding" not in headers
    assert len(body) == 8192


def test_a_committed_tree_is_served_before_its_checkpoint_is_published() -> None:
    log = OpaqueLog([b"a", b"b"])
    with serving(log) as served:
        published = served.body("checkpoint")
        log.append([b"c"], publish=False)
        assert served.body("checkpoint") == published
        assert len(served.body(path_of(0, 0, 3))) == 96
        assert served.body(path_of("entries", 0, 3)) == b"\0\1a\0\1b\0\1c"


def test_a_store_that_cannot_be_read_is_told_and_no_bug_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    log = OpaqueLog([b"a"])
    with serving(log) as served:
        log.failure = CorruptionError("tile 0 is torn")
        status, headers, body = served.get("/checkpoint")
        assert (status, headers["Cache-Control"]) == (503, "no-store")
        assert b"torn" in body
        log.failure = ZeroDivisionError("secret detail")
        status, _, body = served.get("/tile/0/000.p/1")
        assert status == 500
        assert b"secret" not in body
        assert "ZeroDivisionError" in caplog.text
        log.failure = None
        assert served.get("/checkpoint")[0] == 200


def test_every_request_is_counted_by_kind_and_status() -> None:
    log = OpaqueLog([b"a"])
    with serving(log) as served:
        for path, method in (
            ("/checkpoint", "GET"),
            ("/checkpoint", "HEAD"),
            ("/tile/0/000.p/1", "GET"),
            ("/tile/0/000", "GET"),
            ("/tile/entries/000.p/1", "GET"),
            ("/other", "GET"),
            ("/checkpoint", "POST"),
        ):
            served.get(path, method)

        def value(name: str, **labels: str) -> float | None:
            return served.metrics.registry.get_sample_value(name, labels)

        count = "tlog_tiles_request_seconds_count"
        # A request is counted once its response is sent, so the last one perhaps only now.
        await_value(lambda: value(count, kind="other", code="405"))
        assert value(count, kind="checkpoint", code="200") == 2
        assert value(count, kind="tile", code="200") == 1
        assert value(count, kind="tile", code="404") == 1
        assert value(count, kind="entries", code="200") == 1
        assert value(count, kind="other", code="404") == 1
        assert value(count, kind="other", code="405") == 1
        checkpoint_bytes = len(log.note())
        assert value("tlog_tiles_response_bytes_total", kind="checkpoint") == checkpoint_bytes
        assert value("tlog_tiles_response_bytes_total", kind="tile") == 32 + len(
            b"a tree of 1 leaves has no tile/0/000\n"
        )


def await_value(read: Callable[[], float | None]) -> float | None:
    """Read until there is a value, for at most half a minute."""
    end = time.monotonic() + 30
    while not (value := read()) and time.monotonic() < end:
        time.sleep(0.02)
    return value


def ended_within(connection: socket.socket, seconds: float) -> bool:
    """Read until the server ends the connection; False when it does not in time."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65_536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def test_connections_that_say_nothing_or_never_finish_a_request_are_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tile_http, "IDLE_TIMEOUT_S", 0.5)
    with serving(OpaqueLog([b"a"])) as served:
        silent, slow, idle = served.connect(), served.connect(), served.connect()
        with silent, slow, idle:
            idle.sendall(b"GET /checkpoint HTTP/1.1\r\nHost: x\r\n\r\n")
            slow.sendall(b"GET /checkpoint HTTP/1.1\r\n")
            started = time.monotonic()
            dripping = True
            while dripping and time.monotonic() - started < 30:
                try:
                    slow.sendall(b"X: y\r\n")
                except OSError:
                    dripping = False
                time.sleep(0.1)
            assert not dripping, "a header a tenth of a second for half a minute, and still served"
            assert ended_within(silent, 30)
            assert ended_within(idle, 30)
        assert served.get("/checkpoint")[0] == 200


def test_a_body_that_never_ends_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_http, "IDLE_TIMEOUT_S", 0.5)
    with serving(OpaqueLog([b"a"])) as served:
        connection = served.connect()
        with connection:
            connection.sendall(b"GET /checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nx")
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
            assert ended_within(connection, 30)


def test_a_client_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tlog.tile_application.RESPONSE_TIMEOUT_S", 0.5)
    log = OpaqueLog([bytes([number]) * 65_535 for number in range(256)])
    with serving(log) as served:
        connection = served.connect()
        with connection:
            connection.sendall(b"GET /tile/entries/000 HTTP/1.1\r\nHost: x\r\n\r\n")
            count = "tlog_tiles_request_seconds_count"
            end = time.monotonic() + 30
            while time.monotonic() < end and not served.metrics.registry.get_sample_value(
                count, {"kind": "entries", "code": "aborted"}
            ):
                time.sleep(0.05)
            assert (
                served.metrics.registry.get_sample_value(count, {"kind": "entries", "code": "aborted"}) == 1
            )
            assert ended_within(connection, 30)
        assert len(served.body("tile/entries/000")) == 256 * 65_537


def test_readers_that_do_not_read_hold_no_more_together_than_was_agreed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tlog.tile_application.RESPONSE_TIMEOUT_S", 60.0)
    monkeypatch.setattr("tlog.tile_application.MAX_HELD_BYTES", 2 * 256 * 65_537)
    log = OpaqueLog([bytes([number]) * 65_535 for number in range(256)])
    with serving(log) as served:
        stalled = [served.connect() for _ in range(2)]
        for connection in stalled:
            connection.sendall(b"GET /tile/entries/000 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
        status, headers, _ = served.get("/tile/entries/000")
        assert (status, headers["Retry-After"], headers["Cache-Control"]) == (503, "5", "no-store")
        # What is small is answered as ever, and so is what is small when it is packed.
        assert [served.get(path)[0] for path in ("/checkpoint", "/tile/0/000")] == [200, 200]
        assert served.get("/tile/entries/000", Accept_Encoding="gzip")[0] == 200
        stalled.pop().close()
        end = time.monotonic() + 30
        while served.get("/tile/entries/000")[0] != 200:
            assert time.monotonic() < end
            time.sleep(0.05)
        stalled.pop().close()


def test_others_who_read_in_the_same_threads_do_not_stand_in_line_behind_all_requests() -> None:
    class Stuck:
        name, concurrency = ORIGIN, 1

        def checkpoint(self) -> bytes:
            raise NotImplementedError

        def tile(self, tile: Tile) -> bytes:
            started.release()
            assert go_on.wait(90)
            return bytes(32 * tile.width)

    started, go_on = threading.Semaphore(0), threading.Event()

    async def main() -> None:
        with ThreadPoolExecutor(READS_AT_ONCE + 1) as reading:
            listener = await HttpListener.start(tile_application(Stuck(), reading), "127.0.0.1", 0)
            try:
                streams = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(8)]
                for _, writer in streams:
                    writer.write(b"GET /tile/0/000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                for _ in range(READS_AT_ONCE):
                    assert await asyncio.to_thread(started.acquire, timeout=30)
                await asyncio.sleep(0.2)
                loop = asyncio.get_running_loop()
                assert (
                    await asyncio.wait_for(loop.run_in_executor(reading, lambda: "at once"), 30) == "at once"
                )
                go_on.set()
                for reader, writer in streams:
                    assert (await reader.read()).endswith(bytes(32 * 256))
                    writer.close()
            finally:
                go_on.set()
                await listener.stop()

    asyncio.run(main())


def test_connections_over_the_limit_are_told_so_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_http, "MAX_CONNECTIONS", 2)
    with serving(OpaqueLog([b"a"])) as served:
        first, second = served.connect(), served.connect()
        with first, second:
            for connection in (first, second):
                connection.sendall(b"GET /checkpoint HTTP/1.1\r\nHost: x\r\n\r\n")
                assert connection.recv(20).startswith(b"HTTP/1.1 200")
            status, headers, _ = served.get("/checkpoint")
            assert status == 503
            assert headers["Retry-After"]
        end = time.monotonic() + 30
        while served.get("/checkpoint")[0] != 200 and time.monotonic() < end:
            time.sleep(0.05)
        assert served.get("/checkpoint")[0] == 200


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x02\x00\x01\x00" + bytes(500),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET\r\n\r\n",
        b"\r\n" * 10_000,
        b"GET /checkpoint HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET /checkpoint HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /checkpoint HTTP/1.1\r\n" + b"A: " + b"b" * 100_000 + b"\r\n\r\n",
        b"GET /checkpoint HTTP/1.1\r\n" + b"A: b\r\n" * 10_000 + b"\r\n",
    ],
)
def test_what_is_no_http_is_refused_and_the_server_lives(
    monkeypatch: pytest.MonkeyPatch, junk: bytes
) -> None:
    monkeypatch.setattr(tile_http, "IDLE_TIMEOUT_S", 0.5)
    with serving(OpaqueLog([b"a"])) as served:
        connection = served.connect()
        with connection:
            with suppress(OSError):
                connection.sendall(junk)
            assert ended_within(connection, 30)
        assert served.get("/checkpoint")[0] == 200
