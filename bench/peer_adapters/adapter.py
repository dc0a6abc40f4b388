"""What the bench asks of a peer, and what a peer says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol


class PeerError(Exception):
    """Is raised when a peer does not answer as it should; says what it answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Says what somebody does for an entry before he acknowledges it: a table must not hide that it differs.

    Each is "no", or says in a word how: whether signatures are checked, whether an entry that is there
    already is noticed, what of a proof is in the reply, what is durable by then, whether it is in the tree.
    """

    signatures: str
    duplicates: str
    proof: str
    durable: str
    in_tree: str

    def as_settings(self) -> dict[str, str]:
        """Return it by name, for the heading of a row."""
        return asdict(self)


class Adapter(Protocol):
    """Is the client of one peer. Requests are made before the clock runs, replies looked at after it.

    All of it belongs to one event loop. `largest_batch` is how many entries fit a call, `most_in_flight`
    how many calls the peer takes at a time.
    """

    work: Work
    largest_batch: int
    most_in_flight: int

    async def open(self) -> None:
        """Connect, and log in where that is needed. Raises PeerError."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...

    def encode_request(self, entries: Sequence[bytes]) -> bytes:
        """Make the request that adds some entries. Requires 1 <= len(entries) <= largest_batch."""
        ...

    async def send(self, request: bytes) -> bytes:
        """Send it, and return the reply. Raises PeerError when it was refused or not answered."""
        ...

    def acknowledged(self, reply: bytes) -> int:
        """Return how many new entries a reply acknowledges. Raises PeerError when it is no such reply."""
        ...

    async def tree_size(self) -> int | None:
        """Return how many entries the newest root covers; None where that is all that was acknowledged.

        Raises PeerError.
        """
        ...
