"""The real server's tiles over real sockets, walked by a client that shares no code with them."""

from __future__ import annotations

import gzip
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import pytest
from _support.alliance import Alliance
from _support.command_line import tlog, tlog_process
from _support.log_directory import CONFIG, make_log_directory, serving
from _support.real_server import RealServer
from _support.tiled_log import path_of, signed_size_and_root, walk

from tlog.note import Verifier, open_note
from tlog.policy import build_policy
from tlog.receipt import verify_receipt
from tlog.v1 import log_pb2, log_pb2_grpc

ALLIANCE = Alliance()
FIRST = len(ALLIANCE.governance)


class Reader:
    """A plain HTTP client on one connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        self.connection.request(
            method, f"/{path}", headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        answer = self.connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()

    def get(self, path: str) -> bytes:
        status, _, body = self.ask(path)
        assert status == 200, (path, status, body)
        return body


class Running:
    """A server whose log grows as a test says."""

    def __init__(self, server: RealServer) -> None:
        self.server = server
        self.entries = list(ALLIANCE.governance)
        self.reader = Reader(server.tiles_url)

    def grow_to(self, size: int) -> None:
        new = ALLIANCE.entries(len(self.entries), size)
        if new:
            with grpc.insecure_channel(self.server.grpc_address) as channel:
                stub = log_pb2_grpc.LogServiceStub(channel)  # type: ignore[no-untyped-call]
                stub.Append(log_pb2.AppendRequest(entries=new), timeout=20)
        self.entries += new


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with serving(make_log_directory(tmp_path / "log", ALLIANCE)) as server:
        made = Running(server)
        yield made
        made.reader.connection.close()


def test_a_growing_log_is_walked_and_every_partial_is_there_up_to_the_newest_size(running: Running) -> None:
    reader = running.reader
    for size in (FIRST, 100, 255, 256, 257, 511, 512, 513):
        running.grow_to(size)
        note = reader.get("checkpoint")
        open_note(note, [Verifier.from_vkey(ALLIANCE.signer.vkey)])
        assert signed_size_and_root(note)[0] == size
        assert walk(reader.get) == running.entries
        # The widest tile of each column, and all narrower ones are its beginning.
        for level in (0, "entries"):
            for index in range(-(-size // 256)):
                widest = min(256, size - 256 * index)
                whole = reader.get(path_of(level, index, widest))
                for width in range(1, widest) if size in {255, 257, 513} else (1, widest - 1):
                    if width:
                        part = reader.get(path_of(level, index, width))
                        assert part == whole[: len(part)]
                        assert level == "entries" or len(part) == 32 * width
                if widest < 256:
                    assert reader.ask(path_of(level, index, widest + 1))[0] == 404
                    assert reader.ask(path_of(level, index, 256))[0] == 404
            assert reader.ask(path_of(level, size // 256 + 1, 1))[0] == 404
        assert reader.ask(path_of(1, 0, size // 256 + 1))[0] == 404
        assert reader.ask(path_of(2, 0, 1))[0] == 404


def test_every_resource_has_its_type_its_caching_and_its_head(running: Running) -> None:
    """tlog-tiles: content types; "SHOULD prevent caching beyond a few seconds"; "SHOULD be long-lived"."""
    running.grow_to(300)
    reader = running.reader
    for path, media_type, least_age, most_age in (
        ("checkpoint", "text/plain; charset=utf-8", 0, 5),
        ("tile/0/000", "application/octet-stream", 86_400, None),
        ("tile/0/001.p/44", "application/octet-stream", 86_400, None),
        ("tile/1/000.p/1", "application/octet-stream", 86_400, None),
        ("tile/entries/000", "application/octet-stream", 86_400, None),
        ("tile/entries/001.p/44", "application/octet-stream", 86_400, None),
    ):
        status, headers, body = reader.ask(path)
        assert (status, headers["Content-Type"]) == (200, media_type)
        caching = headers["Cache-Control"].split(", ")
        age = int(caching[0].removeprefix("max-age="))
        assert least_age <= age
        assert most_age is None or age <= most_age
        assert ("immutable" in caching) is (path != "checkpoint")
        head_status, head_headers, nothing = reader.ask(path, "HEAD")
        assert (head_status, nothing) == (200, b"")
        assert int(head_headers["Content-Length"]) == len(body)
        unlike = {"Date"}
        assert {k: v for k, v in head_headers.items() if k not in unlike} == {
            k: v for k, v in headers.items() if k not in unlike
        }
    assert reader.ask("tile/0/002", "HEAD")[0] == 404
    status, headers, _ = reader.ask("checkpoint", "POST")
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_bundles_come_packed_to_those_who_accept_it(running: Running) -> None:
    running.grow_to(300)
    plain = running.reader.get("tile/entries/000")
    _, headers, packed = running.reader.ask("tile/entries/000", Accept_Encoding="gzip, identity")
    assert headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed) == plain
    assert len(packed) < len(plain) / 2


def test_a_log_is_exported_from_its_server_and_offline_and_both_folders_are_walked(
    running: Running, tmp_path: Path
) -> None:
    key = ("--log-key", ALLIANCE.signer.vkey)
    for size in (200, 300, 700):
        running.grow_to(size)
        for name, place in (
            ("online", ("--from", running.server.tiles_url)),
            ("offline", ("--log-dir", tmp_path / "log")),
        ):
            ended = tlog("export", tmp_path / name, *place, *key, "--json")
            assert ended.code == 0, ended
            assert ended.json["tree_size"] == size
            assert walk(lambda path, name=name: (tmp_path / name / path).read_bytes()) == running.entries
            checked = tlog("tiles", "check", tmp_path / name, *key, "--json")
            assert checked.code == 0, checked
            assert checked.json["entries"] == size
    assert running.server.stop() == 0
    # Without any server, and by a process of its own.
    ended = tlog_process("export", tmp_path / "alone", "--log-dir", tmp_path / "log", *key, "--json")
    assert ended.code == 0, ended
    assert walk(lambda path: (tmp_path / "alone" / path).read_bytes()) == running.entries


def test_the_whole_log_checks_out_and_proves_itself_over_http(running: Running, tmp_path: Path) -> None:
    running.grow_to(600)
    url, key = running.server.tiles_url, ("--log-key", ALLIANCE.signer.vkey)
    old = tmp_path / "old-checkpoint"
    old.write_bytes(running.reader.get("checkpoint"))
    running.grow_to(700)
    checked = tlog("tiles", "check", url, *key, "--json")
    assert checked.code == 0, checked
    assert (checked.json["entries"], checked.json["tree_size"]) == (700, 700)
    proven = tlog("tiles", "prove", url, 555, *key, "--out", tmp_path / "receipt", "--json")
    assert proven.code == 0, proven
    policy = build_policy([ALLIANCE.signer.vkey])
    verify_receipt(running.entries[555], (tmp_path / "receipt").read_bytes(), policy)
    assert tlog("tiles", "prove", url, "--from-checkpoint", old, *key).code == 0
    fetched = tlog("tiles", "fetch", url, 10, 20, *key, "--json")
    assert [json.loads(line)["leaf_index"] for line in fetched.out.splitlines()] == list(range(10, 20))


def test_the_tiles_can_be_turned_off(tmp_path: Path) -> None:
    config = make_log_directory(
        tmp_path, ALLIANCE, config=CONFIG.replace("[tiles]\n", "[tiles]\nenabled = false\n")
    )
    with serving(config) as server:
        assert server.announced["tiles"] is None


def test_a_reader_that_holds_its_connection_does_not_hold_up_a_stop(running: Running) -> None:
    running.reader.get("checkpoint")
    # What is held up is held up for 10 seconds, by stop_timeout_s.
    assert running.server.stop(timeout_s=9.5) == 0
