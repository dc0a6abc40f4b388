"""The clients of other people's logs, against servers that speak as those do.

Requests are held against bytes written out by hand, and replies are those of real servers: Trillian 1.7.3 and
immudb 1.11.1. So a wrong field number fails here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from typing import TypeVar

import grpc
import pytest
from _support.peer_servers import Method, grpc_peer, tiled_peer
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.peer_adapters.adapter import Adapter, PeerError
from bench.peer_adapters.immudb import ImmudbAdapter
from bench.peer_adapters.messages import Messages
from bench.peer_adapters.tessera import TesseraAdapter
from bench.peer_adapters.trillian import TrillianAdapter

T = TypeVar("T")

ENTRY = b"one entry"
KEY = sha256(ENTRY).digest()

# QueuedLogLeaf: the leaf with its hash, value, identity hash and time; then, for the second, status 6.
QUEUED = bytes.fromhex(
    "125e0a5c0a20d5ec2a8414667f72dcdbebde67009004810006f473b58dbb65ad225e994adf6312096f6e6520656e747279"
    "2a20d5ec2a8414667f72dcdbebde67009004810006f473b58dbb65ad225e994adf63320b08be9c92d80610eed5cf5a"
)
ALREADY_THERE = b"\x12\x7b" + QUEUED[2:] + b"\x12\x1b\x08\x06\x12\x17" + b"leaf already exists: [2"
ROOT_OF_1217 = bytes.fromhex(
    "123f423d000100000000000004c1202949847ba943003077fef0bb6464291b882bc40bd4374ae622b43dc9036b908918eac1f77f"
    "a573a500000000000000000000"
)
# VerifiableTx: transaction 184 with one entry, and a proof from it to itself, as much as is looked at.
_HEADER = bytes.fromhex(
    "08b8011220a8bac22e0e34c0dc6381aaa81aa2b71163e9ea61152d3946f96237112cf7d5fb18bf9c92d80620012a20e7ab2c14f8"
    "a12bc55ab37e0313d86496155232ce84d1fac3fc01603bcece6d4230b7013a208987c7a68894b08c301638c6b0258cbe855850cf"
    "6c94a0caea4eff9ac47cf7c940014a00"
)
_TX = b"\x0a\x7a\x0a\x78" + _HEADER
_PROOF = b"\x12\xf4\x01" + b"\x0a\x78" + _HEADER + b"\x12\x78" + _HEADER
COMMITTED = _TX + _PROOF


OPENED = b"\x0a\x07session"


def refused(code: grpc.StatusCode, why: str) -> Method:
    def method(_request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(code, why)
        raise AssertionError("abort raises")

    return method


def opened(adapter: Adapter, work: Callable[[Adapter], Awaitable[T]]) -> T:
    """Open an adapter, let it work, close it, all in one event loop."""

    async def go() -> T:
        try:
            await adapter.open()
            return await work(adapter)
        finally:
            await adapter.close()

    return asyncio.run(go())


async def add(adapter: Adapter) -> int:
    return adapter.acknowledged(await adapter.send(adapter.encode_request([ENTRY])))


async def look(adapter: Adapter) -> int | None:
    return await adapter.tree_size()


@contextmanager
def trillian(methods: Mapping[str, Method] | None = None) -> Iterator[TrillianAdapter]:
    known: dict[str, Method] = {
        "GetLatestSignedLogRoot": lambda _request, _context: ROOT_OF_1217,
        "QueueLeaf": lambda _request, _context: QUEUED,
        **(methods or {}),
    }
    with grpc_peer("trillian.TrillianLog", known) as address:
        yield TrillianAdapter(address, 5)


@contextmanager
def immudb(methods: Mapping[str, Method] | None = None) -> Iterator[ImmudbAdapter]:
    known: dict[str, Method] = {
        "OpenSession": lambda _request, _context: OPENED,
        "VerifiableSet": lambda _request, _context: COMMITTED,
        "CloseSession": lambda _request, _context: b"",
        **(methods or {}),
    }
    with grpc_peer("immudb.schema.ImmuService", known) as address:
        yield ImmudbAdapter(address)


def test_a_leaf_is_queued_in_trillians_own_words() -> None:
    asked: list[bytes] = []

    def queue(request: bytes, _context: grpc.ServicerContext) -> bytes:
        asked.append(request)
        return QUEUED

    with trillian({"QueueLeaf": queue}) as adapter:
        assert opened(adapter, add) == 1
    assert asked == [b"\x08\x05" + b"\x12\x0b" + b"\x12\x09" + ENTRY]


def test_the_size_of_a_trillian_tree_is_read_from_its_newest_root() -> None:
    asked: list[bytes] = []

    def root(request: bytes, _context: grpc.ServicerContext) -> bytes:
        asked.append(request)
        return ROOT_OF_1217

    with trillian({"GetLatestSignedLogRoot": root}) as adapter:
        assert opened(adapter, look) == 1217
    assert asked == [b"\x08\x05"] * 2  # when it was opened, too


@pytest.mark.parametrize(
    ("method", "answer", "said"),
    [
        ("QueueLeaf", lambda *_: ALREADY_THERE, "not queued: status 6 leaf already exists"),
        ("QueueLeaf", lambda *_: b"", "without a leaf hash"),
        ("QueueLeaf", lambda *_: b"\xff", "no QueueLeafResponse"),
        ("QueueLeaf", refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "quota"), "RESOURCE_EXHAUSTED: quota"),
        (
            "GetLatestSignedLogRoot",
            refused(grpc.StatusCode.NOT_FOUND, "tree 5 not found"),
            "tree 5 not found",
        ),
        ("GetLatestSignedLogRoot", lambda *_: b"", "no log root"),
        ("GetLatestSignedLogRoot", lambda *_: ROOT_OF_1217.replace(b"\x00\x01", b"\x00\x02", 1), "version 2"),
    ],
)
def test_what_trillian_refuses_or_garbles_is_said(method: str, answer: Method, said: str) -> None:
    with trillian({method: answer}) as adapter, pytest.raises(PeerError, match=said):
        opened(adapter, add)


def test_an_entry_is_posted_as_it_is_and_its_index_counts() -> None:
    with tiled_peer() as peer:
        assert opened(TesseraAdapter(peer.url + "/"), add) == 1
        assert peer.entries == [ENTRY]


def test_the_size_of_a_tiled_log_is_that_of_its_checkpoint() -> None:
    with tiled_peer() as peer:
        peer.entries += [ENTRY] * 7
        assert opened(TesseraAdapter(peer.url), look) == 7  # the second look; the first is when it is opened


@pytest.mark.parametrize(
    ("refuses", "checkpoint", "said"),
    [
        ((500, b"pushback"), None, "POST /add: 500 .*pushback"),
        ((200, b"-1"), None, "no index: b'-1'"),
        ((200, b"<html>"), None, "no index"),
        ((200, b""), None, "no index"),
        (None, b"<html>", "no checkpoint"),
    ],
)
def test_what_a_tiled_log_refuses_or_garbles_is_said(
    refuses: tuple[int, bytes] | None, checkpoint: bytes | None, said: str
) -> None:
    with tiled_peer() as peer:
        peer.refuses, peer.checkpoint = refuses, checkpoint
        with pytest.raises(PeerError, match=said):
            opened(TesseraAdapter(peer.url), add)


def test_entries_are_set_in_immudb_under_their_hash_if_they_are_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMMUDB_USERNAME", "bench")
    monkeypatch.setenv("IMMUDB_PASSWORD", "secret")
    asked: list[tuple[str, bytes, str]] = []

    def answer(name: str, reply: bytes) -> Method:
        def method(request: bytes, context: grpc.ServicerContext) -> bytes:
            asked.append((name, request, str(dict(context.invocation_metadata()).get("sessionid", ""))))
            return reply

        return method

    replies = {"OpenSession": OPENED, "VerifiableSet": COMMITTED, "CloseSession": b""}
    with immudb({name: answer(name, reply) for name, reply in replies.items()}) as adapter:
        assert opened(adapter, add) == 1
        assert opened(adapter, look) is None
    key_value = b"\x0a\x2d" + b"\x0a\x20" + KEY + b"\x12\x09" + ENTRY
    must_not_exist = b"\x1a\x24" + b"\x12\x22" + b"\x0a\x20" + KEY
    login = b"\x0a\x05bench" + b"\x12\x06secret" + b"\x1a\x09defaultdb"
    assert asked[:3] == [
        ("OpenSession", login, ""),
        ("VerifiableSet", b"\x0a\x55" + key_value + must_not_exist, "session"),
        ("CloseSession", b"", "session"),
    ]


def test_immudb_is_asked_for_unique_keys_unless_the_user_says_no() -> None:
    with_duplicates = ImmudbAdapter("", is_unique=False)
    assert with_duplicates.work.duplicates == "no"
    key_value = b"\x0a\x2d" + b"\x0a\x20" + KEY + b"\x12\x09" + ENTRY
    assert with_duplicates.encode_request([ENTRY]) == b"\x0a\x2f" + key_value


@pytest.mark.parametrize(
    ("method", "answer", "said"),
    [
        ("OpenSession", refused(grpc.StatusCode.UNKNOWN, "invalid user name or password"), "invalid user"),
        ("OpenSession", lambda *_: b"", "no session"),
        ("OpenSession", lambda *_: b"\xff", "no OpenSessionResponse"),
        ("VerifiableSet", refused(grpc.StatusCode.FAILED_PRECONDITION, "KeyMustNotExist"), "KeyMustNotExist"),
        ("VerifiableSet", lambda *_: b"", "without a transaction"),
        ("VerifiableSet", lambda *_: _TX, "transaction 184 without its proof"),
        ("VerifiableSet", lambda *_: b"\xff", "no VerifiableTx"),
    ],
)
def test_what_immudb_refuses_or_garbles_is_said(method: str, answer: Method, said: str) -> None:
    with immudb({method: answer}) as adapter, pytest.raises(PeerError, match=said):
        opened(adapter, add)


@pytest.mark.parametrize(
    "adapter",
    [TrillianAdapter("127.0.0.1:1", 5), TesseraAdapter("http://127.0.0.1:1"), ImmudbAdapter("127.0.0.1:1")],
)
def test_a_peer_that_is_not_there_is_said(adapter: Adapter) -> None:
    with pytest.raises(PeerError, match=r"UNAVAILABLE|Cannot connect"):
        opened(adapter, add)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_whatever_a_peer_answers_is_an_entry_or_a_peer_error(reply: bytes) -> None:
    for adapter in (TrillianAdapter("", 1), TesseraAdapter(""), ImmudbAdapter("")):
        try:
            assert adapter.acknowledged(reply) >= 1
        except PeerError as error:
            assert str(error)


def test_a_message_is_spelled_as_protobuf_spells_it() -> None:
    messages = Messages(
        "test",
        {
            "Inner": {"text": (1, "string")},
            "Outer": {"number": (3, "uint64"), "inner": (1, "repeated Inner"), "flag": (16, "bool")},
        },
    )
    spelled = messages.encode("Outer", number=300, inner=[{"text": "a"}, {}], flag=True)
    assert spelled == b"\x0a\x03\x0a\x01a" + b"\x0a\x00" + b"\x18\xac\x02" + b"\x80\x01\x01"
    assert messages.of("Outer").FromString(spelled).inner[0].text == "a"


def test_a_message_of_an_unknown_type_is_refused() -> None:
    with pytest.raises(TypeError):
        Messages("test.unknown", {"Outer": {"inner": (1, "Nowhere")}})
