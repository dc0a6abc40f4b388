"""What the main process and its workers tell each other, and its one encoding. Pure.

A message is one MessagePack array, its kind first (`["call", 7, …]`); decoding is typed, and refuses what is
not exactly of one kind. Both ends are the same release, started one by the other, so there are no versions.
Frames and sockets are `server.link`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct

from server.config import Config
from tlog.errors import (
    AccessError,
    BatchRefusedError,
    ConfigError,
    ConflictError,
    CorruptionError,
    MalformedError,
    NotCheckedError,
    NotFoundError,
    OutOfRangeError,
    PushbackError,
    QuotaError,
    ReadOnlyError,
    RefusalReason,
    RefusedError,
    SignerAwayError,
    SignerRefusedError,
    StateUnknownError,
    StorageError,
    StoreFullError,
    TlogError,
)
from tlog.validate import CallOutcome, VerifiedEntry

Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]
BusinessKey = Annotated[bytes, Meta(min_length=16, max_length=16)]


class _Array(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Is encoded as an array of exactly its fields."""


class HandedEvent(_Array, frozen=True):
    """Holds what admission asks of an event; is a `tlog.event.EventFacts`."""

    id: str
    source: str
    type: str
    origin: str


class HandedEntry(_Array, frozen=True):
    """Holds an entry that a worker verified; is a `tlog.validate.AdmissibleEntry`."""

    entry: bytes
    leaf_hash: Hash
    event: HandedEvent
    public_keys: tuple[Hash, ...]
    identity: Hash
    business_keys: tuple[BusinessKey, ...]


class Refusal(_Array, frozen=True):
    """Says why one entry of a batch was refused."""

    position: Number
    reason: RefusalReason
    message: str
    existing_leaf_index: Number | None


class Failure(_Array, frozen=True):
    """Holds an exception as a value; `kind` is "" for a bug, whose text stays where it happened."""

    kind: str
    message: str
    retry_after_s: float
    refusals: tuple[Refusal, ...]
    limit: str = ""
    member: str = ""


class Sample(_Array, frozen=True):
    """Holds one value of one metric, as Prometheus names it."""

    family: str
    name: str
    labels: tuple[tuple[str, str], ...]
    value: float


class Welcome(_Array, frozen=True, tag="welcome"):
    """Tells a new worker everything that it needs; no key is among it."""

    config: Config
    origin: str
    port: Number
    published: bytes
    refusal: str
    """Why the log takes no more entries; "" when it does."""
    is_ready: bool


class Taken(_Array, frozen=True, tag="taken"):
    """Says where a call's entries are, under which durable checkpoint, and how long commits take now."""

    number: Number
    leaf_indices: tuple[Number, ...]
    already_present: tuple[bool, ...]
    new_range: tuple[Number, Number] | None
    checkpoint: bytes
    seconds_per_entry: float


class Failed(_Array, frozen=True, tag="failed"):
    """Says that a call, or an exchange, ended with an exception."""

    number: Number
    is_exchange: bool
    failure: Failure


class Exchanged(_Array, frozen=True, tag="exchanged"):
    """Answers an Exchange: an ExchangeResponse, encoded."""

    number: Number
    response: bytes


class Published(_Array, frozen=True, tag="published"):
    """Tells a newly published checkpoint."""

    checkpoint: bytes


class RefuseAll(_Array, frozen=True, tag="refuse_all"):
    """Says that the log takes no more entries, and why."""

    reason: str


class Ready(_Array, frozen=True, tag="ready"):
    """Says whether the log is ready, for the worker's health."""

    is_ready: bool


class Count(_Array, frozen=True, tag="count"):
    """Asks for the worker's metrics."""

    number: Number


class Stop(_Array, frozen=True, tag="stop"):
    """Says that nothing more is taken; what is under way goes on."""


class End(_Array, frozen=True, tag="end"):
    """Says that everything is answered that will be: end."""


class Listening(_Array, frozen=True, tag="listening"):
    """Says that the worker answers calls."""


class Call(_Array, frozen=True, tag="call"):
    """Hands over the verified entries of one Append."""

    number: Number
    entries: tuple[HandedEntry, ...]


class Exchange(_Array, frozen=True, tag="exchange"):
    """Hands over an ExchangeRequest, encoded; `caller` is the connection it came over."""

    number: Number
    caller: str
    request: bytes


class Counted(_Array, frozen=True, tag="counted"):
    """Tells the worker's metrics."""

    number: Number
    samples: tuple[Sample, ...]


Decoded = TypeVar("Decoded")

FromMain: TypeAlias = (
    Welcome | Taken | Failed | Exchanged | Published | RefuseAll | Ready | Count | Stop | End
)
FromWorker: TypeAlias = Listening | Call | Exchange | Counted

_ENCODER = msgspec.msgpack.Encoder()
_FROM_MAIN: msgspec.msgpack.Decoder[FromMain] = msgspec.msgpack.Decoder(FromMain)
_FROM_WORKER: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)

# The most specific class of an exception decides; a subclass that is not here arrives as its base.
_KINDS: dict[str, type[TlogError]] = {
    kind.__name__: kind
    for kind in (
        AccessError,
        ConfigError,
        ConflictError,
        CorruptionError,
        MalformedError,
        NotCheckedError,
        NotFoundError,
        OutOfRangeError,
        ReadOnlyError,
        StoreFullError,
        SignerAwayError,
        SignerRefusedError,
        StateUnknownError,
        StorageError,
        TlogError,
    )
}


class FailedElsewhereError(Exception):
    """Says that another process ran into a bug; its log has the details."""


def encode_message(message: FromMain | FromWorker) -> bytes:
    """Encode a message of either side."""
    return _ENCODER.encode(message)


def decode_from_main(data: bytes) -> FromMain:
    """Decode what the main process tells a worker. Raises MalformedError."""
    return _decode(_FROM_MAIN, data)


def decode_from_worker(data: bytes) -> FromWorker:
    """Decode what a worker tells the main process. Raises MalformedError."""
    return _decode(_FROM_WORKER, data)


def hand_over(number: int, entries: Sequence[VerifiedEntry]) -> Call:
    """Make the message that carries one call's verified entries."""
    return Call(
        number,
        tuple([
            HandedEntry(
                entry.entry,
                entry.leaf_hash,
                HandedEvent(entry.event.id, entry.event.source, entry.event.type, entry.event.origin),
                entry.public_keys,
                entry.identity,
                entry.business_keys,
            )
            for entry in entries
        ]),
    )  # fmt: skip


def outcome_of(taken: Taken) -> CallOutcome:
    """Return the outcome that a call's answer tells."""
    return CallOutcome(
        leaf_indices=taken.leaf_indices, already_present=taken.already_present, new_range=taken.new_range
    )


def failure_of(error: BaseException) -> Failure:
    """Make a value of an exception, for the other process to raise."""
    if isinstance(error, BatchRefusedError):
        refusals = tuple(
            Refusal(position, refused.reason, _text(refused.message), refused.existing_leaf_index)
            for position, refused in error.refusals.items()
        )
        return Failure(BatchRefusedError.__name__, "", 0.0, refusals)
    if isinstance(error, PushbackError):
        if isinstance(error, QuotaError):
            told = _text(str(error))
            return Failure(QuotaError.__name__, told, error.retry_after_s, (), error.limit, error.member)
        return Failure(PushbackError.__name__, _text(str(error)), error.retry_after_s, ())
    for kind in type(error).__mro__:
        if _KINDS.get(kind.__name__) is kind:
            return Failure(kind.__name__, _text(str(error)), 0.0, ())
    return Failure("", "", 0.0, ())


def error_of(failure: Failure) -> Exception:
    """Make the exception again that a value tells of; a FailedElsewhereError for a bug."""
    if failure.kind == BatchRefusedError.__name__ and failure.refusals:
        return BatchRefusedError({
            refusal.position: RefusedError(
                refusal.reason, refusal.message, existing_leaf_index=refusal.existing_leaf_index
            )
            for refusal in failure.refusals
        })  # fmt: skip
    if failure.kind == QuotaError.__name__:
        return QuotaError(
            failure.message,
            retry_after_s=failure.retry_after_s,
            limit=failure.limit,
            member=failure.member,
        )
    if failure.kind == PushbackError.__name__:
        return PushbackError(failure.message, retry_after_s=failure.retry_after_s)
    if failure.kind in _KINDS:
        return _KINDS[failure.kind](failure.message)
    return FailedElsewhereError("the main process failed with a bug: its log has the details")


def _text(message: str) -> str:
    """Return a message that UTF-8 can carry, whatever bytes it quotes."""
    return message.encode("utf-8", "backslashreplace").decode("utf-8")


def _decode(decoder: msgspec.msgpack.Decoder[Decoded], data: bytes) -> Decoded:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MalformedError(
            f"a frame between two processes of this server is no message: {error}"
        ) from error
