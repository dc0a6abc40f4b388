"""A Trillian log: `QueueLeaf` of `trillian.TrillianLog`, then the newest root until it covers that.

The tree is one of type LOG that exists already (`createtree`). An acknowledged leaf is durable and in a
queue; the log signer, another process, puts it into the tree later. Without TLS.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from google.protobuf.message import DecodeError

from bench.peer_adapters.adapter import PeerError, Work
from bench.peer_adapters.grpc_calls import GrpcCalls
from bench.peer_adapters.messages import Messages

SERVICE = "trillian.TrillianLog"

MESSAGES = Messages(
    "trillian",
    {
        "LogLeaf": {"merkle_leaf_hash": (1, "bytes"), "leaf_value": (2, "bytes")},
        "Status": {"code": (1, "int32"), "message": (2, "string")},
        "QueuedLogLeaf": {"leaf": (1, "LogLeaf"), "status": (2, "Status")},
        "QueueLeafRequest": {"log_id": (1, "int64"), "leaf": (2, "LogLeaf")},
        "QueueLeafResponse": {"queued_leaf": (2, "QueuedLogLeaf")},
        "SignedLogRoot": {"log_root": (8, "bytes")},
        "GetLatestSignedLogRootRequest": {"log_id": (1, "int64")},
        "GetLatestSignedLogRootResponse": {"signed_log_root": (2, "SignedLogRoot")},
    },
)

_HASH_BYTES = 32
_ROOT = struct.Struct(">HQ")  # a log root begins with its version and the tree's size
_ROOT_VERSION = 1


class TrillianAdapter:
    """Adds leaves to one tree of a Trillian log server."""

    work = Work(
        signatures="no",
        duplicates="by entry",
        proof="no",
        durable="the queue",
        in_tree="later",
    )
    largest_batch = 1
    most_in_flight = 1_024

    def __init__(self, address: str, tree_id: int) -> None:
        self._address = address
        self._tree_id = tree_id
        self._calls: GrpcCalls | None = None

    async def open(self) -> None:
        """Connect, and see that the tree is there. Raises PeerError."""
        self._calls = GrpcCalls(self._address, SERVICE)
        await self.tree_size()

    async def close(self) -> None:
        """Let go of the connection."""
        if self._calls is not None:
            await self._calls.close()

    def encode_request(self, entries: Sequence[bytes]) -> bytes:
        """Make a QueueLeafRequest. Requires one entry."""
        (entry,) = entries
        return MESSAGES.encode("QueueLeafRequest", log_id=self._tree_id, leaf={"leaf_value": entry})

    async def send(self, request: bytes) -> bytes:
        """Queue a leaf. Raises PeerError."""
        assert self._calls is not None
        return await self._calls.call("QueueLeaf", request)

    def acknowledged(self, reply: bytes) -> int:
        """Return 1 for a leaf that was queued. Raises PeerError for any other answer."""
        try:
            queued = MESSAGES.of("QueueLeafResponse").FromString(reply).queued_leaf
        except DecodeError as error:
            raise PeerError(f"no QueueLeafResponse: {error}") from error
        if queued.status.code:
            raise PeerError(f"a leaf was not queued: status {queued.status.code} {queued.status.message}")
        if len(queued.leaf.merkle_leaf_hash) != _HASH_BYTES:
            raise PeerError("a reply without a leaf hash of 32 bytes")
        return 1

    async def tree_size(self) -> int:
        """Return how many leaves the newest log root covers. Raises PeerError."""
        assert self._calls is not None
        request = MESSAGES.encode("GetLatestSignedLogRootRequest", log_id=self._tree_id)
        reply = await self._calls.call("GetLatestSignedLogRoot", request)
        try:
            root = MESSAGES.of("GetLatestSignedLogRootResponse").FromString(reply).signed_log_root.log_root
            version, tree_size = _ROOT.unpack_from(root)
        except (DecodeError, struct.error) as error:
            raise PeerError(f"no log root: {error}") from error
        if version != _ROOT_VERSION:
            raise PeerError(f"a log root of version {version}, not {_ROOT_VERSION}")
        return int(tree_size)
