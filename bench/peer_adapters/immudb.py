"""An immudb database: `VerifiableSet` of `immudb.schema.ImmuService`, the entry under its SHA-256.

User and password come from the environment (IMMUDB_USERNAME, IMMUDB_PASSWORD), and are "immudb" where they
are not set, as they are in a new immudb. Without TLS.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

from google.protobuf.message import DecodeError

from bench.peer_adapters.adapter import PeerError, Work
from bench.peer_adapters.grpc_calls import GrpcCalls
from bench.peer_adapters.messages import Messages

SERVICE = "immudb.schema.ImmuService"
DATABASE = "defaultdb"
SESSION = "sessionid"

MESSAGES = Messages(
    "immudb.schema",
    {
        "Empty": {},
        "OpenSessionRequest": {
            "username": (1, "bytes"),
            "password": (2, "bytes"),
            "databaseName": (3, "string"),
        },
        "OpenSessionResponse": {"sessionID": (1, "string")},
        "KeyValue": {"key": (1, "bytes"), "value": (2, "bytes")},
        "KeyMustNotExist": {"key": (1, "bytes")},
        "Precondition": {"keyMustNotExist": (2, "KeyMustNotExist")},
        "SetRequest": {"KVs": (1, "repeated KeyValue"), "preconditions": (3, "repeated Precondition")},
        "VerifiableSetRequest": {"setRequest": (1, "SetRequest"), "proveSinceTx": (2, "uint64")},
        "TxHeader": {"id": (1, "uint64"), "nentries": (4, "int32")},
        "Tx": {"header": (1, "TxHeader")},
        "DualProof": {"sourceTxHeader": (1, "TxHeader"), "targetTxHeader": (2, "TxHeader")},
        "VerifiableTx": {"tx": (1, "Tx"), "dualProof": (2, "DualProof")},
    },
)


class ImmudbAdapter:
    """Sets keys in one database; a unique one only if it does not exist yet."""

    largest_batch = 1_024  # entries that a transaction may have, by default
    most_in_flight = 15  # of 30 transactions that may be open by default, a call takes two

    def __init__(self, address: str, *, is_unique: bool = True) -> None:
        self.work = Work(
            signatures="no",
            duplicates="by entry" if is_unique else "no",
            proof="of the transaction",
            durable="yes",
            in_tree="yes",
        )
        self._address = address
        self._is_unique = is_unique
        self._calls: GrpcCalls | None = None
        self._session: list[tuple[str, str]] = []

    async def open(self) -> None:
        """Connect and log in. Raises PeerError."""
        self._calls = GrpcCalls(self._address, SERVICE)
        request = MESSAGES.encode(
            "OpenSessionRequest",
            username=os.environ.get("IMMUDB_USERNAME", "immudb").encode(),
            password=os.environ.get("IMMUDB_PASSWORD", "immudb").encode(),
            databaseName=DATABASE,
        )
        reply = await self._calls.call("OpenSession", request)
        try:
            session = MESSAGES.of("OpenSessionResponse").FromString(reply).sessionID
        except DecodeError as error:
            raise PeerError(f"no OpenSessionResponse: {error}") from error
        if not session:
            raise PeerError("immudb opened no session")
        self._session = [(SESSION, session)]

    async def close(self) -> None:
        """End the session, and let go of the connection."""
        if self._calls is not None:
            try:
                if self._session:
                    await self._calls.call("CloseSession", MESSAGES.encode("Empty"), self._session)
            finally:
                await self._calls.close()

    def encode_request(self, entries: Sequence[bytes]) -> bytes:
        """Make a VerifiableSetRequest. Requires 1 to `largest_batch` different entries."""
        keys = [hashlib.sha256(entry).digest() for entry in entries]
        return MESSAGES.encode(
            "VerifiableSetRequest",
            setRequest={
                "KVs": [{"key": key, "value": entry} for key, entry in zip(keys, entries, strict=True)],
                "preconditions": [{"keyMustNotExist": {"key": key}} for key in keys if self._is_unique],
            },
        )

    async def send(self, request: bytes) -> bytes:
        """Commit a transaction. Raises PeerError."""
        assert self._calls is not None
        return await self._calls.call("VerifiableSet", request, self._session)

    def acknowledged(self, reply: bytes) -> int:
        """Return how many entries a transaction has. Raises PeerError when it was not proven."""
        try:
            verifiable = MESSAGES.of("VerifiableTx").FromString(reply)
        except DecodeError as error:
            raise PeerError(f"no VerifiableTx: {error}") from error
        header = verifiable.tx.header
        if not header.id or header.nentries < 1:
            raise PeerError("a reply without a transaction")
        if verifiable.dualProof.targetTxHeader.id != header.id:
            raise PeerError(f"transaction {header.id} without its proof")
        return int(header.nentries)

    async def tree_size(self) -> None:
        """Return None: what is acknowledged is committed."""
        return
