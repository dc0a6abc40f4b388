"""A log made with Tessera: `POST /add` with the entry as body answers with its index.

So serve Tessera's own programs (`cmd/conformance/posix` and its siblings), and many personalities like them.
An acknowledged entry has its index, durably; it is in the tree when the next checkpoint says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

import aiohttp

from bench.peer_adapters.adapter import PeerError, Work
from tlog.checkpoint import parse_checkpoint
from tlog.encoding import parse_decimal
from tlog.errors import MalformedError
from tlog.note import parse_note

TIMEOUT_S = 60.0
_SHOWN = 200  # characters of an answer that was none


class TesseraAdapter:
    """Adds entries to one log over HTTP; its checkpoint is read, and not verified."""

    work = Work(
        signatures="no",
        duplicates="while in memory",
        proof="no",
        durable="entry and index",
        in_tree="later",
    )
    largest_batch = 1
    most_in_flight = 1_024

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Connect, and see that there is a checkpoint. Raises PeerError."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)
        )
        await self.tree_size()

    async def close(self) -> None:
        """Let go of the connections."""
        if self._session is not None:
            await self._session.close()

    def encode_request(self, entries: Sequence[bytes]) -> bytes:
        """Return the body, the entry itself. Requires one entry."""
        (entry,) = entries
        return entry

    async def send(self, request: bytes) -> bytes:
        """Post an entry. Raises PeerError when the answer is not 200."""
        return await self._ask("POST", "/add", request)

    def acknowledged(self, reply: bytes) -> int:
        """Return 1 for an index. Raises PeerError for any other answer."""
        try:
            parse_decimal(reply.decode("ascii", "replace").strip(), "the index")
        except MalformedError as error:
            raise PeerError(f"no index: {reply[:_SHOWN]!r}") from error
        return 1

    async def tree_size(self) -> int:
        """Return how many entries the newest checkpoint covers. Raises PeerError."""
        data = await self._ask("GET", "/checkpoint")
        try:
            return parse_checkpoint(parse_note(data)[0]).tree_size
        except MalformedError as error:
            raise PeerError(f"no checkpoint: {error}") from error

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        assert self._session is not None
        try:
            async with self._session.request(method, self._url + path, data=body) as answer:
                data = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise PeerError(f"{method} {path}: {type(error).__name__}: {error}") from error
        if answer.status != HTTPStatus.OK:
            text = data[:_SHOWN].decode("utf-8", "replace")
            raise PeerError(f"{method} {path}: {answer.status} {answer.reason}: {text}")
        return data
