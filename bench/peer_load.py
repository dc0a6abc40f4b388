"""What a load process does with a peer: its adapter, one connection a job, and the wait for the tree."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from time import monotonic

from bench.peer_adapters.adapter import Adapter, PeerError

SETTLE_TIMEOUT_S = 120.0
_LOOK_EVERY_S = 0.02


class PeerCaller:
    """Sends to one peer what a job says; failures are counted by what was wrong, and raise nothing."""

    def __init__(self, adapter: Adapter, batch: int) -> None:
        self._adapter = adapter
        self._batch = batch
        self._size_before: int | None = None
        self.requests: Sequence[bytes] = ()
        self.replies: list[bytes] = []
        self.failures: Counter[str] = Counter()

    async def open(self) -> None:
        """Connect. Raises PeerError."""
        await self._adapter.open()

    async def close(self) -> None:
        """Let go of the connection."""
        await self._adapter.close()

    def load(self, batches: Sequence[list[bytes]]) -> None:
        """Make the requests of what is sent next."""
        self.requests = [self._adapter.encode_request(batch) for batch in batches]
        self.replies = [b""] * len(self.requests)
        self.failures.clear()

    async def look(self) -> None:
        """Take down how large the tree is, when nothing is on the way. Raises PeerError."""
        self._size_before = await self._adapter.tree_size()

    async def __call__(self, number: int) -> None:
        """Send request `number`."""
        try:
            self.replies[number] = await self._adapter.send(self.requests[number])
        except PeerError as error:
            self.failures[str(error)] += 1

    def acknowledged(self) -> int:
        """Return for how many new entries there is the right answer; what is wrong with one is a failure."""
        count, faults = self._read_replies()
        self.failures += faults
        return count

    async def settle(self) -> None:
        """Wait until a root covers all that was acknowledged since `look`. Raises PeerError if none comes."""
        if self._size_before is None:
            return
        wanted = self._size_before + self._read_replies()[0]
        end_s = monotonic() + SETTLE_TIMEOUT_S
        while (size := await self._adapter.tree_size()) is not None and size < wanted:
            if monotonic() > end_s:
                raise PeerError(f"the tree has {size} entries, not {wanted}, after {SETTLE_TIMEOUT_S:.0f} s")
            await asyncio.sleep(_LOOK_EVERY_S)

    def _read_replies(self) -> tuple[int, Counter[str]]:
        count = 0
        faults: Counter[str] = Counter()
        for reply in self.replies:
            if not reply:
                continue  # the call failed, and was counted
            try:
                acknowledged = self._adapter.acknowledged(reply)
            except PeerError as error:
                faults[str(error)] += 1
                continue
            if acknowledged == self._batch:
                count += acknowledged
            else:
                faults[f"{acknowledged} entries acknowledged of {self._batch}"] += 1
        return count, faults
