"""Begin something when the server may, which can be long after its start."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

LOOK_EVERY_S = 0.2


class BeginLate:
    """Begins something at once where it may, else as soon as it may; belongs to the event loop."""

    def __init__(
        self,
        may_begin: Callable[[], bool],
        begin: Callable[[], Awaitable[None]],
        *,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        """Take what is to begin; `on_fatal` is told when beginning late fails."""
        self._may_begin = may_begin
        self._begin = begin
        self._on_fatal = on_fatal
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin, and return when that is done; where it may not be yet, return at once and wait elsewhere."""
        if self._may_begin():
            await self._begin()
        else:
            self._task = asyncio.get_running_loop().create_task(self._wait(), name="begin late")

    async def stop(self) -> None:
        """Do not begin any more; what has begun is not ended here."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _wait(self) -> None:
        while not self._may_begin():
            await asyncio.sleep(LOOK_EVERY_S)
        try:
            await self._begin()
        except Exception as error:  # noqa: BLE001 - nothing would be published, and nobody would know
            self._on_fatal(error)
