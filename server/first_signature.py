"""What a server does before all else once it may sign: move the log to its new key, then begin publishing.

A log whose key was changed holds a newest checkpoint under the old one. Signing that tree anew is a signature
like any other: nothing is signed before the start checks (server.start_check, server.loss_desk) are passed.
Until then the log shows what the old key signed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor

from server.publisher import CheckpointFeed
from tlog.log import Log


class FirstSignature:
    """Moves a log to its key, and then begins what follows; belongs to the event loop."""

    def __init__(
        self,
        log: Log,
        feed: CheckpointFeed | None,
        writing: Executor,
        then: Callable[[], Awaitable[None]],
    ) -> None:
        """Tell `feed` of what was signed, where that publishes it: without witnesses."""
        self._log = log
        self._feed = feed
        self._writing = writing
        self._then = then

    async def begin(self) -> None:
        """Sign, if the key is new, and go on. Raises StorageError as `Log.move_to_own_key` does."""
        signed = await asyncio.get_running_loop().run_in_executor(self._writing, self._log.move_to_own_key)
        if signed is not None and self._feed is not None:
            self._feed.publish(signed)
        await self._then()
