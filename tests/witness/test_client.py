"""The client of witnesses: verified cosignatures, or a typed error, whatever answers at the other end."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from _support.signers import cosigner, seed
from _support.submitting_log import SubmittingLog

from tlog.checkpoint import format_checkpoint
from tlog.cosignature import (
    MlDsaCosignatureSigner,
    MlDsaCosignatureVerifier,
    cosigned_message,
    cosigned_tree_message,
    parse_cosigner_vkey,
)
from tlog.errors import (
    ConfigError,
    MalformedError,
    RemoteError,
    SignatureError,
    WitnessConflictError,
    WitnessRefusedError,
)
from tlog.http_client import HttpClient
from tlog.http_listener import HttpListener
from tlog.ml_dsa import MlDsaPrivateKey
from tlog.note import Signature, Verifier, format_signature_line
from tlog.storage.memory_witness_store import MemoryWitnessStore
from tlog.witness.client import MAX_RESPONSE_BYTES, WitnessClient
from tlog.witness.core import WitnessedLog
from tlog.witness.http import witness_application
from tlog.witness.witness import Witness

LOG = SubmittingLog(fork_at=5)
NAME = "witness.example"
ED25519 = cosigner(NAME)
ML_DSA = MlDsaCosignatureSigner(name=NAME, private_key=MlDsaPrivateKey(seed(7)))
VERIFIERS = [parse_cosigner_vkey(key.vkey) for key in (ED25519, ML_DSA)]
TEXT = format_checkpoint(LOG.checkpoint(5))
TIMEOUT_S = 5.0


def line(signature: Signature) -> str:
    return format_signature_line(signature) + "\n"


GOOD = line(ED25519.cosign(TEXT, 5))


@dataclass
class Other:
    """The other end: one canned answer for every connection, and what was asked."""

    answer: bytes
    keep_open: bool = False
    port: int = 0
    asked: list[bytes] = field(default_factory=list)
    serving: set[asyncio.Task[None]] = field(default_factory=set)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.add(asyncio.ensure_future(self.serve(reader, writer)))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            self.asked.append(head + await reader.readexactly(length))
            writer.write(self.answer)
            await writer.drain()
            if self.keep_open:
                await reader.read()
        with suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()


def answering(answer: bytes, *, keep_open: bool = False) -> AbstractAsyncContextManager[Other]:
    return answering_with(Other(answer, keep_open))


@asynccontextmanager
async def answering_with(other: Other) -> AsyncIterator[Other]:
    server = await asyncio.start_server(other.accept, "127.0.0.1", 0)
    other.port = server.sockets[0].getsockname()[1]
    try:
        yield other
    finally:
        await asyncio.wait_for(asyncio.gather(*other.serving), 30)
        server.close()
        await server.wait_closed()


def http(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + body


async def ask(port: int, timeout_s: float = TIMEOUT_S) -> list[Signature]:
    async with WitnessClient(f"http://127.0.0.1:{port}/", VERIFIERS) as client:
        return await client.add_checkpoint(0, [], LOG.note(5), timeout_s)


def asked(answer: bytes, *, timeout_s: float = TIMEOUT_S, keep_open: bool = False) -> list[Signature]:
    async def main() -> list[Signature]:
        async with answering(answer, keep_open=keep_open) as other:
            return await ask(other.port, timeout_s)

    return asyncio.run(main())


def with_witness(scenario: Callable[[WitnessClient], Coroutine[None, None, None]]) -> None:
    async def main() -> None:
        logs = [WitnessedLog(origin=LOG.origin, verifiers=(Verifier.from_vkey(LOG.signer.vkey),))]
        witness = Witness(MemoryWitnessStore(), [ED25519, ML_DSA], logs, now_s=lambda: 1_800_000_000)
        with ThreadPoolExecutor(2) as threads:
            listener = await HttpListener.start(witness_application(witness, threads), "127.0.0.1", 0)
            try:
                async with WitnessClient(f"http://127.0.0.1:{listener.port}", VERIFIERS) as client:
                    await scenario(client)
            finally:
                await listener.stop()

    asyncio.run(main())


# ----- against a real witness


def test_a_witness_cosigns_and_the_next_checkpoint_follows() -> None:
    async def scenario(client: WitnessClient) -> None:
        old_size = 0
        for size in (0, 1, 5, 5, 20, 64):
            found = await client.add_checkpoint(old_size, LOG.proof(old_size, size), LOG.note(size))
            assert [(s.name, s.key_id) for s in found] == [(v.name, v.key_id) for v in VERIFIERS]
            text = format_checkpoint(LOG.checkpoint(size)).encode()
            for verifier, signature in zip(VERIFIERS, found, strict=True):
                verifier.verify(text, signature.signature)
                assert verifier.timestamp_s(signature.signature) == 1_800_000_000
            old_size = size

    with_witness(scenario)


def test_a_conflict_names_the_size_to_prove_from() -> None:
    async def scenario(client: WitnessClient) -> None:
        await client.add_checkpoint(0, [], LOG.note(7))
        with pytest.raises(WitnessConflictError) as conflict:
            await client.add_checkpoint(0, [], LOG.note(9))
        assert conflict.value.tree_size == 7
        assert await client.add_checkpoint(7, LOG.proof(7, 9), LOG.note(9))

    with_witness(scenario)


def test_a_refusal_has_its_status() -> None:
    async def scenario(client: WitnessClient) -> None:
        await client.add_checkpoint(0, [], LOG.note(5))
        for old_size, note, status in (
            (5, LOG.note(9), 422),
            (9, LOG.note(5), 400),
            (0, SubmittingLog(origin="log.example/unknown", size=2).note(1), 404),
            (5, LOG.note(5).replace(b"\n5\n", b"\n6\n"), 403),
        ):
            with pytest.raises(WitnessRefusedError) as refused:
                await client.add_checkpoint(old_size, [], note)
            assert refused.value.status == status

    with_witness(scenario)


def test_one_client_asks_many_times_at_once() -> None:
    async def scenario(client: WitnessClient) -> None:
        await client.add_checkpoint(0, [], LOG.note(5))
        found = await asyncio.gather(*(client.add_checkpoint(5, [], LOG.note(5)) for _ in range(20)))
        assert len(found) == 20

    with_witness(scenario)


# ----- the answer


def test_lines_by_unknown_keys_are_ignored_and_known_ones_come_once() -> None:
    # "The client MUST ignore any cosignatures from unknown keys."
    stranger = line(cosigner("stranger.example", 9).cosign(TEXT, 5))
    junk = line(Signature(NAME, b"\1\2\3\4", b"another key's"))
    found = asked(http("200 OK", (stranger + GOOD + junk + GOOD).encode()))
    assert [line(signature) for signature in found] == [GOOD]


@pytest.mark.parametrize(
    "signature",
    [
        ED25519.cosign(format_checkpoint(LOG.checkpoint(6)), 5),
        Signature(NAME, ED25519.key_id, bytes(72)),
        Signature(NAME, ED25519.key_id, b"short"),
        Signature(NAME, ML_DSA.key_id, ML_DSA.cosign(TEXT, 5).signature[:-1]),
        # "the timestamp MUST NOT be zero"
        Signature(
            NAME, ED25519.key_id, bytes(8) + ED25519.private_key.sign(cosigned_message(TEXT.encode(), 0))
        ),
        Signature(
            NAME,
            ML_DSA.key_id,
            bytes(8) + ML_DSA.private_key.sign(cosigned_tree_message(NAME, LOG.checkpoint(5), 0)),
        ),
    ],
)
def test_a_bad_line_by_a_known_key_spoils_the_answer(signature: Signature) -> None:
    for body in (line(signature), GOOD + line(signature), line(signature) + GOOD):
        with pytest.raises(SignatureError):
            asked(http("200 OK", body.encode()))


def test_an_answer_without_a_known_key_is_no_answer() -> None:
    with pytest.raises(SignatureError, match="none of the 1 lines"):
        asked(http("200 OK", line(cosigner("stranger.example", 9).cosign(TEXT, 5)).encode()))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n",
        GOOD.encode()[:-1],
        GOOD.encode() + b"\n",
        b"\n" + GOOD.encode(),
        LOG.note(5) + GOOD.encode(),
        GOOD.encode().replace("—".encode(), b"-"),
        GOOD.encode().replace(b"\n", b"\r\n"),
        b"\xff" + GOOD.encode(),
        GOOD.encode() * 101,
        b"<html>",
    ],
)
def test_an_answer_that_is_no_signature_lines_breaks_the_protocol(body: bytes) -> None:
    with pytest.raises(RemoteError, match="no signature lines"):
        asked(http("200 OK", body))


@pytest.mark.parametrize("size", ["0", "5", "9223372036854775807"])
def test_a_conflict_is_parsed(size: str) -> None:
    for content_type in ("text/x.tlog.size", "Text/X.Tlog.Size; charset=utf-8"):
        with pytest.raises(WitnessConflictError) as conflict:
            asked(http("409 Conflict", f"{size}\n".encode(), f"Content-Type: {content_type}"))
        assert conflict.value.tree_size == int(size)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"5\n", "text/plain"),
        (b"5\n", ""),
        (b"5", "text/x.tlog.size"),
        (b"", "text/x.tlog.size"),
        (b"\n", "text/x.tlog.size"),
        (b"05\n", "text/x.tlog.size"),
        (b"+5\n", "text/x.tlog.size"),
        (b"5\n5\n", "text/x.tlog.size"),
        (b"9223372036854775808\n", "text/x.tlog.size"),
        (b"9" * 10_000 + b"\n", "text/x.tlog.size"),
        (b"\xff\n", "text/x.tlog.size"),
    ],
)
def test_a_conflict_that_says_no_size_breaks_the_protocol(body: bytes, content_type: str) -> None:
    with pytest.raises(RemoteError, match="no tree size") as error:
        asked(http("409 Conflict", body, f"Content-Type: {content_type}"))
    assert not isinstance(error.value, WitnessConflictError)


@pytest.mark.parametrize("status", ["403 Forbidden", "429 Slow Down", "500 No", "201 Created", "204 Nothing"])
def test_every_other_status_is_a_refusal_with_a_bounded_message(status: str) -> None:
    body = b"" if status.startswith("204") else b"\x1b[31mbecause" + b"x" * 10_000
    with pytest.raises(WitnessRefusedError) as refused:
        asked(http(status, body))
    assert refused.value.status == int(status[:3])
    assert len(str(refused.value)) < 300
    assert "\x1b" not in str(refused.value)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_a_redirect_is_never_followed(status: str) -> None:
    async def main() -> None:
        async with answering(http("200 OK", GOOD.encode())) as elsewhere:
            location = f"Location: http://127.0.0.1:{elsewhere.port}/add-checkpoint"
            async with answering(http(status, b"", location)) as other:
                with pytest.raises(RemoteError, match="redirect"):
                    await ask(other.port)
                assert len(other.asked) == 1
            assert elsewhere.asked == []

    asyncio.run(main())


@pytest.mark.parametrize(
    "location", ["mailto:x", "http:x", "http://xn--a/", "http://[::1", "http://a:99999999/", "//\u00e9", ""]
)
def test_a_redirect_to_nowhere_breaks_the_protocol_and_nothing_else(location: str) -> None:
    with pytest.raises((RemoteError, WitnessRefusedError)):
        asked(http("301 Moved", b"", f"Location: {location}"))


def test_no_cookie_is_kept_or_sent() -> None:
    async def main() -> None:
        # The second one would break every later request: a header has to be ASCII.
        cookies = ("Set-Cookie: a=b", "Set-Cookie: c=\u00fc")
        async with answering(http("200 OK", GOOD.encode(), *cookies)) as other:
            async with WitnessClient(f"http://127.0.0.1:{other.port}", VERIFIERS) as client:
                for _ in range(2):
                    assert await client.add_checkpoint(0, [], LOG.note(5), TIMEOUT_S)
            assert len(other.asked) == 2
            assert not any(b"cookie" in request.lower() for request in other.asked)

    asyncio.run(main())


def test_an_encoded_answer_is_not_unfolded() -> None:
    with pytest.raises(RemoteError, match="encoded"):
        asked(http("200 OK", b"\x1f\x8b", "Content-Encoding: gzip"))


def test_an_answer_that_never_ends_is_cut_off() -> None:
    endless = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + GOOD.encode() * (
        MAX_RESPONSE_BYTES // len(GOOD) + 100
    )
    with pytest.raises(RemoteError, match="more than"):
        asked(endless)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + GOOD.encode(),
        http("200 OK", GOOD.encode())[:-1],
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"220 mail.example ESMTP\r\n",
    ],
)
def test_an_answer_that_breaks_off_is_unreachable(answer: bytes) -> None:
    with pytest.raises(RemoteError, match="cannot be reached"):
        asked(answer)


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + GOOD.encode()],
)
def test_a_witness_that_stalls_is_given_up_in_time(answer: bytes) -> None:
    with pytest.raises(RemoteError, match=r"within 0\.3 s|cannot be reached"):
        asked(answer, timeout_s=0.3, keep_open=True)


def test_a_witness_that_stalls_in_the_tls_handshake_costs_no_socket() -> None:
    async def main() -> list[int]:
        counts = []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"https://127.0.0.1:{listener.getsockname()[1]}"
            async with WitnessClient(url, VERIFIERS) as client:
                for _ in range(3):
                    with pytest.raises(RemoteError):
                        await client.add_checkpoint(0, [], LOG.note(5), 0.2)
                    await asyncio.sleep(0)
                    counts.append(len(list(Path("/proc/self/fd").iterdir())))
        return counts

    gc.collect()
    gc.disable()
    try:
        first, *_, last = asyncio.run(main())
    finally:
        gc.enable()
    assert last == first


def test_a_witness_that_drips_is_given_up_in_time() -> None:
    class Dripping(Other):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                while not reader.at_eof():
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0.05)
            with suppress(ConnectionError):
                writer.close()
                await writer.wait_closed()

    async def main() -> None:
        async with answering_with(Dripping(b"")) as other:
            started = asyncio.get_running_loop().time()
            with pytest.raises(RemoteError, match=r"within 0\.4 s"):
                await ask(other.port, 0.4)
            assert asyncio.get_running_loop().time() - started < 3

    asyncio.run(main())


def test_nobody_there_is_unreachable() -> None:
    async def main() -> None:
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        with pytest.raises(RemoteError, match="cannot be reached"):
            await ask(port)

    asyncio.run(main())


def test_a_caller_that_gives_up_gets_its_cancellation() -> None:
    async def main() -> None:
        async with answering(b"", keep_open=True) as other:
            task: asyncio.Task[list[Signature]] = asyncio.create_task(ask(other.port))
            while not other.asked:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())


# ----- what is asked


def test_the_request_is_the_one_of_the_specification_under_the_prefix() -> None:
    async def main() -> None:
        async with answering(http("200 OK", GOOD.encode())) as other:
            url = f"http://127.0.0.1:{other.port}/some/prefix/"
            async with WitnessClient(url, VERIFIERS) as client:
                await client.add_checkpoint(0, [], LOG.note(5))
            (request,) = other.asked
            head, _, body = request.partition(b"\r\n\r\n")
            assert head.startswith(b"POST /some/prefix/add-checkpoint HTTP/1.1\r\n")
            assert body == LOG.request(0, 5)

    asyncio.run(main())


def test_arguments_that_are_no_request_are_told_before_anything_is_sent() -> None:
    async def main() -> None:
        async with WitnessClient("http://127.0.0.1:1", VERIFIERS) as client:
            for old_size, proof, note in (
                (-1, [], LOG.note(5)),
                (1, [b""], LOG.note(5)),
                (0, [], b"no note"),
            ):
                with pytest.raises(MalformedError):
                    await client.add_checkpoint(old_size, proof, note)

    asyncio.run(main())


@pytest.mark.parametrize(
    "url",
    ["", "witness.example", "ftp://witness.example", "http://", "http://a b", "http://x/?q", "http://x/#f",
     "http://x:99999/", "/add-checkpoint"],
)  # fmt: skip
def test_a_url_that_is_none_is_a_usage_error(url: str) -> None:
    with pytest.raises(ConfigError, match="URL"):
        WitnessClient(url, VERIFIERS)


def test_a_witness_without_a_key_is_a_usage_error() -> None:
    with pytest.raises(ConfigError, match="key"):
        WitnessClient("http://witness.example", [])


def test_a_client_that_was_passed_in_stays_open() -> None:
    async def main() -> None:
        http_client = HttpClient("http://127.0.0.1:1", max_connections=1)
        async with WitnessClient("http://127.0.0.1:1", VERIFIERS, http=http_client):
            pass
        assert not http_client.is_closed
        await http_client.aclose()

    asyncio.run(main())


def test_the_ml_dsa_key_alone_is_enough() -> None:
    async def main() -> Awaitable[None] | None:
        async with answering(http("200 OK", line(ML_DSA.cosign(TEXT, 9)).encode())) as other:
            verifier = MlDsaCosignatureVerifier.from_vkey(ML_DSA.vkey)
            async with WitnessClient(f"http://127.0.0.1:{other.port}", [verifier]) as client:
                (found,) = await client.add_checkpoint(0, [], LOG.note(5))
            assert verifier.timestamp_s(found.signature) == 9
        return None

    asyncio.run(main())
