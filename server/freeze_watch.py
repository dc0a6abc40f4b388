"""Looks whether the operator asks for the end of the log, and freezes it between two commits.

`tlog freeze` leaves its request beside the store (`tlog.freezing`). What the log holds is still published,
cosigned again and read; new entries are refused by the log itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

from server.metrics import Metrics
from server.publisher import CheckpointFeed
from tlog.errors import StateUnknownError, StorageError
from tlog.freezing import is_requested, withdraw_request
from tlog.log import Log

_LOGGER = logging.getLogger("tlog.server")

LOOK_EVERY_S = 0.5


class FreezeWatch:
    """Freezes one log when that is asked for; belongs to the event loop."""

    def __init__(
        self,
        log: Log,
        feed: CheckpointFeed,
        metrics: Metrics,
        *,
        store_path: Path,
        publishes_at_commit: bool,
        writing: Executor,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self._log = log
        self._feed = feed
        self._metrics = metrics
        self._store_path = store_path
        self._publishes_at_commit = publishes_at_commit
        self._writing = writing
        self._on_fatal = on_fatal
        self._told: str | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._metrics.frozen(self._log.is_frozen)
        self._task = asyncio.get_running_loop().create_task(self._run(), name="freeze watch")

    async def stop(self) -> None:
        """End; what is being written is written."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while True:
                if is_requested(self._store_path):
                    await self._freeze()
                await asyncio.sleep(LOOK_EVERY_S)
        except Exception as error:  # noqa: BLE001 - ends the process: the state of the log is not known
            self._on_fatal(error)

    async def _freeze(self) -> None:
        """Freeze the log; what surely was not written is tried again."""
        loop = asyncio.get_running_loop()
        try:
            final = await asyncio.shield(loop.run_in_executor(self._writing, self._log.freeze))
        except StateUnknownError:
            raise
        except StorageError as error:
            if str(error) != self._told:
                self._told = str(error)
                _LOGGER.error("the log is to be frozen, and is not yet: %s", error)  # noqa: TRY400
            return
        if self._publishes_at_commit:
            self._feed.publish(final)
        self._metrics.frozen(True)
        withdraw_request(self._store_path)
        _LOGGER.warning(
            "THIS LOG IS FROZEN at size %d, root %s: it takes no new entry; reading goes on",
            final.tree_size,
            final.checkpoint.root_hash.hex(),
        )
