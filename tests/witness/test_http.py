"""The witness over HTTP: statuses, methods, sizes, times; on real sockets."""

from __future__ import annotations

import asyncio
import gzip
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from time import monotonic

import httpx
import pytest
from _support.signers import cosigner
from _support.submitting_log import SubmittingLog

from tlog.cosignature import CosignatureVerifier
from tlog.errors import ConfigError, StateUnknownError, StorageError
from tlog.http_listener import HttpLimits, HttpListener
from tlog.note import Verifier, open_note
from tlog.storage.memory_witness_store import MemoryWitnessStore
from tlog.witness import http as witness_http
from tlog.witness.core import WitnessedLog, origin_hash
from tlog.witness.http import witness_application
from tlog.witness.request import MAX_REQUEST_BYTES, format_add_checkpoint
from tlog.witness.witness import Witness

LOG = SubmittingLog(fork_at=5)
COSIGNER = cosigner("witness.example")
VERIFIERS = [Verifier.from_vkey(LOG.signer.vkey), CosignatureVerifier.from_vkey(COSIGNER.vkey)]
MONITORING = f"/{origin_hash(LOG.origin).hex()}/checkpoint"
READ_TIMEOUT_S = 0.3
IDLE_TIMEOUT_S = 0.5


@dataclass
class Served:
    http: httpx.AsyncClient
    store: MemoryWitnessStore
    listener: HttpListener
    fatal: list[StateUnknownError]

    async def add(self, body: bytes) -> httpx.Response:
        return await self.http.post("/add-checkpoint", content=body)

    async def raw(self, *pieces: bytes, pause_s: float = 0.0) -> bytes:
        """Send bytes as they are, with pauses in between, and return everything until the connection ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.listener.port)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause_s)
            async with asyncio.timeout(30):
                return await reader.read()
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def serving(
    store: MemoryWitnessStore | None = None, *, read_timeout_s: float = 60.0, **limits: float
) -> AsyncIterator[Served]:
    store = store or MemoryWitnessStore()
    logs = [WitnessedLog(origin=LOG.origin, verifiers=(Verifier.from_vkey(LOG.signer.vkey),))]
    witness = Witness(store, [COSIGNER], logs, now_s=lambda: 1_800_000_000)
    fatal: list[StateUnknownError] = []
    with ThreadPoolExecutor(4) as threads:
        application = witness_application(
            witness, threads, read_timeout_s=read_timeout_s, on_fatal=fatal.append
        )
        listener = await HttpListener.start(
            application,
            "127.0.0.1",
            0,
            HttpLimits(**{"idle_timeout_s": 60.0, **limits}),  # type: ignore[arg-type]
        )
        base = f"http://127.0.0.1:{listener.port}"
        try:
            async with httpx.AsyncClient(base_url=base, trust_env=False, verify=False) as http:
                yield Served(http, store, listener, fatal)
        finally:
            await listener.stop()


def run(scenario: Callable[[Served], Awaitable[None]], **options: object) -> None:
    async def main() -> None:
        async with serving(**options) as served:  # type: ignore[arg-type]
            await scenario(served)

    asyncio.run(main())


def test_a_checkpoint_is_cosigned_and_shown_to_monitors() -> None:
    async def scenario(served: Served) -> None:
        # "If the witness has never cosigned a checkpoint for that log, it MUST respond with a "404 Not Found"
        # HTTP status code instead."
        assert (await served.http.get(MONITORING)).status_code == 404
        answered = await served.add(LOG.request(0, 5))
        assert answered.status_code == 200
        # "The response body MUST be a checkpoint for the log identified by the origin, and it MUST include
        # the cosignature(s) from the witness's key(s) that were returned from add-checkpoint and the
        # cosignature from the log key(s) that the witness verified."
        shown = await served.http.get(MONITORING)
        assert shown.status_code == 200
        assert shown.content == LOG.note(5) + answered.content
        assert len(open_note(shown.content, VERIFIERS).signatures) == 2
        assert shown.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert shown.headers["Cache-Control"] == "max-age=5"

    run(scenario)


def test_every_status_has_its_body_and_content_type() -> None:
    async def scenario(served: Served) -> None:
        assert (await served.add(LOG.request(0, 5))).status_code == 200
        conflict = await served.add(LOG.request(0, 9))
        assert (conflict.status_code, conflict.content) == (409, b"5\n")
        assert conflict.headers["Content-Type"] == "text/x.tlog.size"
        for body, status in (
            (b"junk", 400),
            (SubmittingLog(origin="log.example/unknown", size=2).request(0, 1), 404),
            (LOG.request(0, 5).replace(b"\n5\n", b"\n6\n"), 403),
            (LOG.request(5, 9, history=0).replace(b"=\n", b"=\n" + b"A" * 43 + b"=\n", 1), 422),
            (format_add_checkpoint(5, [], LOG.note(9)), 422),
            (format_add_checkpoint(6, [], LOG.note(5)), 400),
        ):
            refused = await served.add(body)
            assert refused.status_code == status, refused.text
            assert refused.text.endswith("\n")
            assert refused.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert (await served.http.get(MONITORING)).content.startswith(LOG.note(5))

    run(scenario)


def test_other_paths_are_404_and_other_methods_405() -> None:
    async def scenario(served: Served) -> None:
        key = origin_hash(LOG.origin).hex()
        for path in ("/", "/checkpoint", "/sign-subtree", "/add-checkpoint/", f"/{key}", f"/{key}/", "/../x"):
            assert (await served.http.get(path)).status_code == 404
        # "hex encoded, in lowercase"
        for other in (key.upper(), key[:-1], key + "0", "g" * 64):
            assert (await served.http.get(f"/{other}/checkpoint")).status_code == 404
        for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH"):
            # "The request MUST be an HTTP POST."
            answer = await served.http.request(method, "/add-checkpoint", content=b"")
            assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
        for method in ("POST", "PUT", "DELETE"):
            # "The request MUST be an HTTP GET."
            assert (await served.http.request(method, MONITORING)).status_code == 405

    run(scenario)


def test_head_answers_as_get_without_the_body() -> None:
    async def scenario(served: Served) -> None:
        await served.add(LOG.request(0, 5))
        head = await served.http.head(MONITORING)
        got = await served.http.get(MONITORING)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Length"] == str(len(got.content))

    run(scenario)


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "application/octet-stream", ""])
def test_the_content_type_of_a_request_does_not_matter(content_type: str) -> None:
    async def scenario(served: Served) -> None:
        answer = await served.http.post(
            "/add-checkpoint", content=LOG.request(0, 5), headers={"Content-Type": content_type}
        )
        assert answer.status_code == 200

    run(scenario)


def test_a_body_without_a_length_is_411_and_a_chunked_one_is_read() -> None:
    async def scenario(served: Served) -> None:
        head = b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        assert (await served.raw(head + b"\r\n")).startswith(b"HTTP/1.1 411")

        async def chunks() -> AsyncIterator[bytes]:
            for byte in LOG.request(0, 5):
                yield bytes([byte])

        answer = await served.http.post("/add-checkpoint", content=chunks())
        assert answer.status_code == 200

    run(scenario)


def test_a_body_over_the_limit_is_413_declared_or_not() -> None:
    async def scenario(served: Served) -> None:
        largest = b"old 0\n\n" + b"x" * (MAX_REQUEST_BYTES - 7)
        assert (await served.add(largest)).status_code == 400
        assert (await served.add(largest + b"x")).status_code == 413

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(MAX_REQUEST_BYTES // 1024 + 1):
                yield b"x" * 1024

        assert (await served.http.post("/add-checkpoint", content=chunks())).status_code == 413
        declared = b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
        for size in (MAX_REQUEST_BYTES + 1, 2**62):
            assert (await served.raw(declared % size)).startswith(b"HTTP/1.1 413")

    run(scenario)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "identity, gzip"])
def test_an_encoded_body_is_415_and_nothing_unfolds(coding: str) -> None:
    async def scenario(served: Served) -> None:
        answer = await served.http.post(
            "/add-checkpoint",
            content=gzip.compress(LOG.request(0, 5) + bytes(10_000_000)),
            headers={"Content-Encoding": coding},
        )
        assert answer.status_code == 415

    run(scenario)


def test_a_slow_body_is_408_and_the_connection_ends() -> None:
    async def scenario(served: Served) -> None:
        body = LOG.request(0, 5)
        head = b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        started = monotonic()
        answer = await served.raw(head, *(bytes([byte]) for byte in body[:10]), pause_s=0.04)
        assert answer.startswith(b"HTTP/1.1 408")
        assert monotonic() - started >= READ_TIMEOUT_S
        assert served.store.origin_hashes() == []

    run(scenario, read_timeout_s=READ_TIMEOUT_S)


@pytest.mark.parametrize("head", [b"", b"P", b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nX: "])
def test_a_connection_that_never_completes_a_head_is_closed(head: bytes) -> None:
    async def scenario(served: Served) -> None:
        async with asyncio.timeout(60):
            assert await served.raw(head) == b""

    run(scenario, idle_timeout_s=IDLE_TIMEOUT_S)


def test_a_body_that_breaks_off_changes_nothing() -> None:
    async def scenario(served: Served) -> None:
        body = LOG.request(0, 5)
        head = b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        reader, writer = await asyncio.open_connection("127.0.0.1", served.listener.port)
        writer.write(head + body[:-1])
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        del reader
        await asyncio.sleep(0.1)
        assert served.store.origin_hashes() == []
        assert (await served.add(body)).status_code == 200

    run(scenario)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS at a plaintext port
        b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nold 0",
        b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"BREW /add-checkpoint HTTP/9.9\r\n\r\n",
        b"\r\n" * 10 + b"\0" * 100,
    ],
)
def test_broken_http_is_refused_and_the_next_request_served(
    request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(served: Served) -> None:
        answer = await served.raw(request_bytes)
        assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
        assert (await served.add(LOG.request(0, 5))).status_code == 200

    run(scenario)
    # Strangers do not fill the log.
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    "line", [b"GET http://xn--a/x HTTP/1.1", b"CONNECT xn--a:1 HTTP/1.1", b"GET http://xn--a/ HTTP/1.0"]
)
def test_a_host_that_cannot_be_read_does_not_keep_its_connection_for_ever(line: bytes) -> None:
    async def scenario(served: Served) -> None:
        # Its connection stays open on this side: the witness has to answer, and to close it when it idles.
        answer = await served.raw(line + b"\r\nHost: x\r\n\r\n")
        assert answer.split(b" ")[1] == b"404"
        assert (await served.add(LOG.request(0, 5))).status_code == 200

    run(scenario, max_connections=2, idle_timeout_s=IDLE_TIMEOUT_S)


def test_strangers_do_not_fill_the_log_with_refusals(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(served: Served) -> None:
        monkeypatch.setattr(witness_http, "MAX_TOLD_A_MINUTE", 3)
        for _ in range(5):
            assert (await served.add(b"old one\n\n")).status_code == 400
        assert len(told()) == 3
        monkeypatch.setattr(witness_http, "monotonic", lambda: monotonic() + 60)
        assert (await served.add(b"old one\n\n")).status_code == 400
        assert told()[3:] == ["2 more requests were refused", told()[0]]

    def told() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]

    run(scenario)


def test_connections_are_kept_alive() -> None:
    # "Clients SHOULD use, and witnesses SHOULD support, HTTP keep-alive HTTP connections"
    async def scenario(served: Served) -> None:
        one = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % MONITORING.encode()
        last = one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        answer = await served.raw(one, one, last, pause_s=0.05)
        assert answer.count(b"HTTP/1.1 404") == 3

    run(scenario)


def test_a_connection_over_the_limit_is_turned_away_and_the_others_served() -> None:
    async def scenario(served: Served) -> None:
        assert (await served.add(LOG.request(0, 5))).status_code == 200
        others = [await asyncio.open_connection("127.0.0.1", served.listener.port) for _ in range(2)]
        assert (await served.raw()).startswith(b"HTTP/1.1 503")
        assert (await served.http.get(MONITORING)).status_code == 200
        for _, writer in others:
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(30):
            while b"HTTP/1.1 404" not in await served.raw(
                b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            ):
                await asyncio.sleep(0.02)

    run(scenario, max_connections=3)


@pytest.mark.parametrize(("error", "fatal"), [(StorageError("disk full"), 0), (StateUnknownError("torn"), 1)])
def test_a_store_that_fails_is_503_and_one_that_knows_no_more_stops_the_witness(
    error: StorageError, fatal: int
) -> None:
    class FailingStore(MemoryWitnessStore):
        def replace(self, origin_hash: bytes, *, expected: bytes | None, new: bytes) -> None:
            raise error

    async def scenario(served: Served) -> None:
        answer = await served.add(LOG.request(0, 5))
        assert answer.status_code == 503
        assert "—" not in answer.text
        assert "disk full" not in answer.text
        assert len(served.fatal) == fatal

    run(scenario, store=FailingStore())


def test_a_stop_lets_the_request_in_flight_end() -> None:
    class SlowStore(MemoryWitnessStore):
        def replace(self, origin_hash: bytes, *, expected: bytes | None, new: bytes) -> None:
            arrived.set()
            assert go_on.wait(30)
            super().replace(origin_hash, expected=expected, new=new)

    arrived, go_on = threading.Event(), threading.Event()

    async def scenario(served: Served) -> None:
        asking = asyncio.create_task(served.add(LOG.request(0, 5)))
        await asyncio.to_thread(arrived.wait, 30)
        stopping = asyncio.create_task(served.listener.stop())
        await asyncio.sleep(0.05)
        with pytest.raises(OSError, match=r"refused|failed"):
            await asyncio.open_connection("127.0.0.1", served.listener.port)
        assert not stopping.done()
        go_on.set()
        assert (await asking).status_code == 200
        await stopping
        assert served.store.origin_hashes() == [origin_hash(LOG.origin)]

    run(scenario, store=SlowStore())


def test_a_port_that_is_taken_is_a_clear_error() -> None:
    async def scenario(served: Served) -> None:
        from aiohttp import web

        taken = ("127.0.0.1", served.listener.port)
        for host, port in (taken, ("256.0.0.1", 0), ("127.0.0.1", 70_000), ("a..b", 0), ("a" * 70, 0)):
            with pytest.raises(ConfigError, match="listen"):
                await HttpListener.start(web.Application(), host, port)

    run(scenario)
