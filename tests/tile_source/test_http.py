"""HttpTileSource against servers that stall, close, redirect, lie about lengths, or answer something else."""

from __future__ import annotations

import gc
import gzip
import resource
import socket
import threading
import time
import zlib
from collections.abc import Callable

import pytest
from _support.hostile_http import TileHost, response, serving
from _support.tiled_log import SIGNER, numbered_entries, resources

from tlog.errors import AccessError, ConfigError, MalformedError, NotFoundError, RemoteError
from tlog.tile_source import http
from tlog.tile_source.http import HttpTileSource, checked_prefix
from tlog.tile_source.trust import LogKey
from tlog.tile_source.verified import VerifiedTiles
from tlog.tiles import ENTRIES_LEVEL, Tile

ENTRIES = numbered_entries(600)
MADE = resources(ENTRIES)
TRUST = LogKey.from_vkey(SIGNER.vkey)
TILE = Tile(0, 0)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_DELAY_S", 0.01)


@pytest.mark.parametrize("prefix", ["/", "/logs/one/"])
@pytest.mark.parametrize("coding", [None, "gzip"])
def test_a_whole_log_is_read_below_any_prefix(prefix: str, coding: str | None) -> None:
    host = TileHost(MADE, prefix=prefix)
    if coding:
        # tlog-tiles: "Logs MAY use `Content-Encoding: gzip` with no negotiation".
        host.resources = {name: gzip.compress(data) for name, data in MADE.items()}
        host.headers = {"Content-Encoding": "gzip"}
    with serving(host) as url, HttpTileSource(url + prefix) as source:
        checkpoint = TRUST.open(source.checkpoint())
        tiles = VerifiedTiles(source, checkpoint)
        assert list(tiles.entries(0, 600)) == list(enumerate(ENTRIES))
        assert source.name == (url + prefix).rstrip("/")
    assert set(host.asked) == set(MADE)


def test_requests_keep_their_connection() -> None:
    peers: list[object] = []

    def behave(connection: socket.socket, path: str) -> None:
        assert path == "/checkpoint"
        peers.append(connection.getpeername())
        connection.sendall(response(MADE["checkpoint"]))

    with serving(behave) as url, HttpTileSource(url) as source:
        for _ in range(5):
            assert source.checkpoint() == MADE["checkpoint"]
    assert len(peers) == 5
    assert len(set(peers)) == 1


@pytest.mark.parametrize(
    ("host", "codings"),
    [
        ("127.0.0.1", "identity, gzip;q=0.5"),
        ("0.0.0.0", "gzip, identity"),  # may be anywhere
    ],
)
def test_requests_say_which_codings_they_take(host: str, codings: str) -> None:
    """tlog-tiles: "Clients SHOULD include `gzip` and `identity` in their `Accept-Encoding` headers".

    A log on the same machine had better not pack anything; from any other it is worth it.
    """
    heads: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                heads.append(connection.recv(65_536))
                connection.sendall(response(MADE["checkpoint"]))

        answering = threading.Thread(target=answer)
        answering.start()
        with HttpTileSource(f"http://{host}:{listener.getsockname()[1]}") as source:
            source.checkpoint()
        answering.join(30)
    assert f"accept-encoding: {codings}\r\n".encode() in heads[0].lower()


def test_what_is_not_there_is_not_found_at_once() -> None:
    host = TileHost({})
    with serving(host) as url, HttpTileSource(url) as source:
        with pytest.raises(NotFoundError, match="tile/0/000"):
            source.tile(TILE)
        host.failures["checkpoint"] = [response(b"", status="410 Gone")]
        with pytest.raises(NotFoundError):
            source.checkpoint()
    assert host.asked == ["tile/0/000", "checkpoint"]


@pytest.mark.parametrize("status", ["500 X", "502 X", "503 X", "504 X", "429 X", "408 X"])
def test_a_failure_that_may_pass_is_tried_again(status: str) -> None:
    host = TileHost(MADE)
    host.failures["checkpoint"] = [response(b"", status=status)] * 2
    with serving(host) as url, HttpTileSource(url) as source:
        assert source.checkpoint() == MADE["checkpoint"]
        host.failures["checkpoint"] = [response(b"", status=status)] * 3
        with pytest.raises(RemoteError, match=f"{status[:3]}.*tried 3 times"):
            source.checkpoint()
    assert host.asked == ["checkpoint"] * 6


def test_a_log_that_is_not_read_by_everybody_says_so_and_is_not_asked_again() -> None:
    host = TileHost({})
    host.failures["tile/0/000"] = [response(b"", status="403 X")] * 3
    with serving(host) as url, HttpTileSource(url) as source, pytest.raises(AccessError, match="403"):
        source.tile(TILE)
    assert host.asked == ["tile/0/000"]


@pytest.mark.parametrize("status", ["400 X", "401 X", "418 X", "204 X", "206 X", "501 X"])
def test_any_other_status_is_told_and_not_tried_again(status: str) -> None:
    host = TileHost({})
    host.failures["tile/0/000"] = [response(b"", status=status)] * 3
    with (
        serving(host) as url,
        HttpTileSource(url) as source,
        pytest.raises(RemoteError, match=status[:3]),
    ):
        source.tile(TILE)
    assert host.asked == ["tile/0/000"]


@pytest.mark.parametrize("status", ["301 X", "302 X", "303 X", "307 X", "308 X"])
def test_a_redirect_is_told_and_not_followed(status: str) -> None:
    elsewhere = TileHost(MADE)
    host = TileHost({})
    with serving(elsewhere) as target, serving(host) as url, HttpTileSource(url) as source:
        location = {"Location": f"{target}/checkpoint"}
        host.failures["checkpoint"] = [response(b"", status=status, headers=location)]
        with pytest.raises(RemoteError, match=f"redirects to '{target}"):
            source.checkpoint()
    assert elsewhere.asked == []


@pytest.mark.parametrize("location", ["mailto:x", "http:x", "http://xn--a/", "http://[::1"])
def test_a_redirect_to_nowhere_is_an_error_like_any_other(location: str) -> None:
    host = TileHost({})
    host.failures["checkpoint"] = [response(b"", status="301 X", headers={"Location": location})] * 3
    with serving(host) as url, HttpTileSource(url) as source, pytest.raises(RemoteError, match="checkpoint"):
        source.checkpoint()


def test_no_cookie_of_a_server_is_kept_or_sent() -> None:
    host = TileHost(MADE)
    # It would break every later request: a header has to be ASCII.
    host.headers = {"Set-Cookie": "a=\u00fc"}
    with serving(host) as url, HttpTileSource(url) as source:
        assert source.checkpoint() == source.checkpoint() == MADE["checkpoint"]


@pytest.mark.parametrize("media_type", ["text/html", "text/html; charset=utf-8", "TEXT/HTML"])
def test_a_web_page_is_told_for_what_it_is(media_type: str) -> None:
    host = TileHost({"checkpoint": b"<html>", "tile/0/000": b"<" * 8192})
    host.headers = {"Content-Type": media_type}
    with serving(host) as url, HttpTileSource(url) as source:
        for ask in (source.checkpoint, lambda: source.tile(TILE)):
            with pytest.raises(RemoteError, match="web page"):
                ask()


@pytest.mark.parametrize("length", [0, 1, 32, 8191, 8193, 8224, 100_000])
def test_a_hash_tile_of_another_length_is_refused(length: int) -> None:
    host = TileHost({"tile/0/000": b"\0" * length})
    with (
        serving(host) as url,
        HttpTileSource(url) as source,
        pytest.raises((MalformedError, RemoteError), match="8192"),
    ):
        source.tile(TILE)


def endless(connection: socket.socket, coding: str, chunk: bytes) -> None:
    connection.sendall(
        f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    )
    while True:
        connection.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))


def test_a_body_without_end_is_cut_off_and_never_held() -> None:
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with (
        serving(lambda connection, _: endless(connection, "identity", b"\0" * 65_536)) as url,
        HttpTileSource(url) as source,
    ):
        for ask in (
            source.checkpoint,
            lambda: source.tile(TILE),
            lambda: source.tile(Tile(ENTRIES_LEVEL, 0)),
        ):
            with pytest.raises(RemoteError, match="longer than"):
                ask()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 80_000


def test_a_gzip_bomb_is_cut_off_and_never_unpacked() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(b"\0" * 2**20) for _ in range(200)) + packer.flush()
    assert len(bomb) < 250_000
    host = TileHost({"checkpoint": bomb, "tile/0/000": bomb, "tile/entries/000": bomb})
    host.headers = {"Content-Encoding": "gzip"}
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with serving(host) as url, HttpTileSource(url) as source:
        for ask in (
            source.checkpoint,
            lambda: source.tile(TILE),
            lambda: source.tile(Tile(ENTRIES_LEVEL, 0)),
        ):
            with pytest.raises(RemoteError, match="longer than"):
                ask()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 80_000


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", MADE["checkpoint"]),
        ("gzip", gzip.compress(MADE["checkpoint"]) + b"more"),
        ("gzip", gzip.compress(MADE["checkpoint"])[:-1]),
        ("gzip", gzip.compress(MADE["checkpoint"])[:-1] + b"x"),
        ("gzip", b""),
        ("br", MADE["checkpoint"]),
        ("gzip, gzip", gzip.compress(gzip.compress(MADE["checkpoint"]))),
        ("deflate", zlib.compress(MADE["checkpoint"])),
    ],
)
def test_a_coding_that_is_broken_or_was_not_asked_for_is_refused(coding: str, body: bytes) -> None:
    host = TileHost({"checkpoint": body})
    host.headers = {"Content-Encoding": coding}
    with serving(host) as url, HttpTileSource(url) as source, pytest.raises(RemoteError):
        source.checkpoint()


def say_nothing(connection: socket.socket, _: str) -> None:
    connection.recv(1)


def close_at_once(connection: socket.socket, _: str) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def close_in_the_body(connection: socket.socket, _: str) -> None:
    connection.sendall(response(b"x" * 8192)[:-100])
    connection.shutdown(socket.SHUT_RDWR)


def stall_in_the_body(connection: socket.socket, _: str) -> None:
    connection.sendall(response(b"x" * 8192)[:-100])
    connection.recv(1)


def drip(connection: socket.socket, text: bytes) -> None:
    for position in range(len(text)):
        connection.sendall(text[position : position + 1])
        time.sleep(0.02)
    connection.recv(1)


def drip_the_head(connection: socket.socket, _: str) -> None:
    drip(connection, b"HTTP/1.1 200 OK\r\n" + b"X-Slow: 1\r\n" * 1000)


def drip_the_body(connection: socket.socket, _: str) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 8192\r\n\r\n")
    drip(connection, b"x" * 8192)


def talk_nonsense(connection: socket.socket, _: str) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n" * 100)


def send_endless_headers(connection: socket.socket, _: str) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X-More: " + b"y" * 4000 + b"\r\n")


@pytest.mark.parametrize(
    "behaviour",
    [
        say_nothing,
        close_at_once,
        close_in_the_body,
        stall_in_the_body,
        drip_the_head,
        drip_the_body,
        talk_nonsense,
        send_endless_headers,
    ],
)
def test_whatever_a_server_does_an_error_comes_in_time(
    behaviour: Callable[[socket.socket, str], None],
) -> None:
    # No behaviour ends before the connection does: without its limit this would never come back.
    with (
        serving(behaviour) as url,
        HttpTileSource(url, timeout_s=0.4, attempts=2) as source,
        pytest.raises(RemoteError, match="tried 2 times"),
    ):
        source.tile(TILE)
    assert threading.active_count() < 20


def test_nobody_listening_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with (
        HttpTileSource(f"http://127.0.0.1:{port}") as source,
        pytest.raises(RemoteError, match=f"127.0.0.1:{port}.*tried 3 times"),
    ):
        source.checkpoint()


def test_a_server_without_a_certificate_is_not_read_over_https() -> None:
    with (
        serving(TileHost(MADE)) as url,
        HttpTileSource(url.replace("http:", "https:"), attempts=1, timeout_s=0.5) as source,
        pytest.raises(RemoteError, match="tried once"),
    ):
        source.checkpoint()
    # A socket that nobody closed would be a warning now, and so a failure.
    gc.collect()


def test_closing_ends_what_is_under_way_and_refuses_the_rest() -> None:
    failures: list[BaseException] = []
    with serving(say_nothing) as url:
        source = HttpTileSource(url, timeout_s=60)

        def ask() -> None:
            try:
                source.checkpoint()
            except RemoteError as error:
                failures.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(0.1)
        source.close()
        asking.join(30)
        assert not asking.is_alive()
        source.close()
        with pytest.raises(RemoteError, match="closed"):
            source.checkpoint()
    assert "closed" in str(failures[0])


def test_many_threads_may_ask_at_once() -> None:
    with serving(TileHost(MADE)) as url, HttpTileSource(url) as source:
        results: list[bytes] = []
        threads = [threading.Thread(target=lambda: results.append(source.tile(TILE))) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert results == [MADE["tile/0/000"]] * 20


@pytest.mark.parametrize(
    "url",
    [
        "",
        "log.example",
        "ftp://log.example/",
        "file:///etc/passwd",
        "http://",
        "http:///tiles",
        "http://log.example/?a=1",
        "http://log.example/#x",
        "http://log.example:99999/",
        "http://[::1/",
        "http://log.example/a b",
        "http://log.example/\n",
        "http://log.example/ü",
    ],
)
def test_what_is_no_url_of_a_log_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        HttpTileSource(url)


def test_the_prefix_has_no_slash_at_its_end() -> None:
    for url in ("https://log.example", "https://log.example/", "https://log.example///"):
        assert checked_prefix(url) == "https://log.example"
    assert checked_prefix("http://[::1]:8652/a/b/") == "http://[::1]:8652/a/b"
