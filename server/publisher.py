"""The published checkpoint, and those who wait for the next one.

Without a witness quorum a checkpoint is published by the commit that made it durable; with one,
`server.witnessed_publisher` decides. The feed only tells the watchers; it keeps no queue, so a slow watcher
skips to the newest and holds nobody up.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from time import monotonic

from server.metrics import Metrics
from tlog.log_view import SignedCheckpoint


class CheckpointFeed:
    """Holds the newest published checkpoint; `publish` may be called from any thread."""

    def __init__(self, newest: SignedCheckpoint, metrics: Metrics) -> None:
        self._newest = newest
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._closed = False
        self._waiting = 0
        self._publishing = threading.Lock()
        self._published_at_s = monotonic()
        metrics.published(newest.tree_size)

    @property
    def newest(self) -> SignedCheckpoint:
        """Return the newest published checkpoint."""
        return self._newest

    @property
    def published_at_s(self) -> float:
        """Return when the newest one came, or came again with newer cosignatures, by the monotonic clock."""
        return self._published_at_s

    def publish(self, signed: SignedCheckpoint) -> None:
        """Make a durable checkpoint the newest published one; sizes never go back.

        One of the same size replaces the other: it carries newer cosignatures, and the watchers get it too.
        """
        with self._publishing:
            if signed.tree_size < self._newest.tree_size or signed.note == self._newest.note:
                return
            self._newest = signed
            self._published_at_s = monotonic()
        self._metrics.published(signed.tree_size)
        # Whoever waits counted itself before it looked at what is newest: nobody is missed.
        if self._waiting:
            self._loop.call_soon_threadsafe(self._wake)

    def close(self) -> None:
        """End every wait; belongs to the event loop."""
        self._closed = True
        self._wake()

    async def wait_beyond(self, tree_size: int) -> SignedCheckpoint | None:
        """Wait for a checkpoint larger than `tree_size` leaves; None when the feed closed before one came."""
        return await self._wait_until(lambda newest: newest.tree_size > tree_size)

    async def wait_for_other(self, shown: SignedCheckpoint) -> SignedCheckpoint | None:
        """Wait for a larger checkpoint than the one shown, or for the same one with newer cosignatures.

        None when the feed closed before one came.
        """
        return await self._wait_until(lambda newest: newest.note != shown.note)

    async def _wait_until(self, is_awaited: Callable[[SignedCheckpoint], bool]) -> SignedCheckpoint | None:
        self._waiting += 1
        try:
            while not is_awaited(self._newest):
                if self._closed:
                    return None
                await self._changed.wait()
            return self._newest
        finally:
            self._waiting -= 1

    def _wake(self) -> None:
        # Waiters hold the old event; each wave of watchers gets one of its own.
        self._changed.set()
        self._changed = asyncio.Event()
