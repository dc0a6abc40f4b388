"""What two nodes tell each other in one exchange, and how much of it. Pure: `grpc_wire` encodes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from tlog.encoding import MAX_SIZE, encode_utf8
from tlog.errors import MalformedError
from tlog.evidence import MAX_SPREAD_BYTES

MAX_MESSAGE_BYTES = 3 * 2**20
"""The largest message of evidence, checkpoints and paths together: 3 MiB."""
MAX_EVIDENCE_PIECES = 8
"""Most pieces of evidence in one message."""
MAX_EVIDENCE_BYTES = MAX_SPREAD_BYTES
"""The longest piece of evidence in a message."""
MAX_EVIDENCE_HELD = 256
"""Most digests of evidence in one message."""
MAX_CHECKPOINTS = 64
"""Most checkpoints in one message."""
MAX_CHECKPOINT_BYTES = 100_000
"""The longest signed note of a checkpoint, which is what signed-note asks everybody to accept."""
MAX_PATHS = 16
"""Most paths asked for, and most given, in one message."""
MAX_ORIGIN_BYTES = 255
"""The longest origin."""
MAX_PATH_HASHES = 64
"""The longest consistency path between two sizes below 2**63, its first node included."""
DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsistencyPath:
    """Leads from the tree of `start_size` leaves to that of `end_size`; the first node is always written out.

    `tlog.merkle.roots_from_consistency_path` computes both roots from it. Requires 0 < start_size < end_size.
    """

    start_size: int
    end_size: int
    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedCheckpoint:
    """Holds a signed note as it was sent, and where the sender can give it, the path from a smaller size.

    `path_start_size` is 0, and `path` empty, where no path is given.
    """

    note: bytes
    path_start_size: int = 0
    path: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedPath:
    """Names a consistency path that would settle a doubt. 0 < start_size < end_size."""

    origin: str
    start_size: int
    end_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenPath:
    """Holds a path in the tree of one log; it proves something only to who holds its larger root."""

    origin: str
    path: ConsistencyPath


@dataclass(frozen=True, slots=True, kw_only=True)
class GossipMessage:
    """Holds one side of an exchange: evidence, the digests of all evidence held, checkpoints, paths."""

    evidence: tuple[bytes, ...] = ()
    evidence_held: tuple[bytes, ...] = ()
    checkpoints: tuple[OfferedCheckpoint, ...] = ()
    wanted: tuple[WantedPath, ...] = ()
    paths: tuple[GivenPath, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerView:
    """Says what a peer was last seen to hold: a tree size for each origin, digests of evidence; and to want.

    Only a hint for what to send: a peer that misleads gets less, or more than it needs, from us.
    """

    sizes: Mapping[str, int] = field(default_factory=dict)
    evidence: frozenset[bytes] = frozenset()
    wanted: tuple[WantedPath, ...] = ()


def evidence_digest(evidence: bytes) -> bytes:
    """Name a piece of evidence by the SHA-256 of its bytes."""
    return sha256(evidence).digest()


def check_message(message: GossipMessage) -> None:
    """Check a message against every limit, before any of it is parsed. Raises MalformedError."""
    _check_count(message.evidence, MAX_EVIDENCE_PIECES, "pieces of evidence")
    _check_count(message.evidence_held, MAX_EVIDENCE_HELD, "digests of evidence")
    _check_count(message.checkpoints, MAX_CHECKPOINTS, "checkpoints")
    _check_count(message.wanted, MAX_PATHS, "wanted paths")
    _check_count(message.paths, MAX_PATHS, "paths")
    for digest in message.evidence_held:
        if len(digest) != DIGEST_BYTES:
            raise MalformedError(f"a digest of evidence has {len(digest)} bytes, not {DIGEST_BYTES}")
    for evidence in message.evidence:
        if len(evidence) > MAX_EVIDENCE_BYTES:
            raise MalformedError(
                f"a piece of evidence has {len(evidence)} bytes; at most {MAX_EVIDENCE_BYTES} are taken"
            )
    for offered in message.checkpoints:
        if len(offered.note) > MAX_CHECKPOINT_BYTES:
            raise MalformedError(
                f"a checkpoint has {len(offered.note)} bytes; at most {MAX_CHECKPOINT_BYTES} are taken"
            )
        _check_count(offered.path, MAX_PATH_HASHES, "hashes in a consistency path")
    for wanted in message.wanted:
        _check_sizes(wanted.origin, wanted.start_size, wanted.end_size)
    for given in message.paths:
        _check_sizes(given.origin, given.path.start_size, given.path.end_size)
        _check_count(given.path.hashes, MAX_PATH_HASHES, "hashes in a consistency path")
    size = message_bytes(message)
    if size > MAX_MESSAGE_BYTES:
        raise MalformedError(f"the message has {size} bytes; at most {MAX_MESSAGE_BYTES} are taken")


def message_bytes(message: GossipMessage) -> int:
    """Count the bytes of a message's parts, without what the wire adds to them."""
    return (
        sum(map(len, message.evidence))
        + sum(map(len, message.evidence_held))
        + sum(map(offered_bytes, message.checkpoints))
        + sum(len(value) for given in message.paths for value in given.path.hashes)
    )


def offered_bytes(offered: OfferedCheckpoint) -> int:
    """Count the bytes of one offered checkpoint with its path."""
    return len(offered.note) + sum(map(len, offered.path))


def _check_count(items: Sequence[object], most: int, what: str) -> None:
    if len(items) > most:
        raise MalformedError(f"the message holds {len(items)} {what}; at most {most} are taken")


def _check_sizes(origin: str, start_size: int, end_size: int) -> None:
    if len(encode_utf8(origin, "the origin of a path")) > MAX_ORIGIN_BYTES:
        raise MalformedError(f"the origin of a path has more than {MAX_ORIGIN_BYTES} bytes")
    if not 0 < start_size < end_size <= MAX_SIZE:
        raise MalformedError(f"there is no consistency path from size {start_size} to {end_size}")
