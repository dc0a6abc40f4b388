"""A task of the event loop that must not end by itself: where it does, the server stops, and says why."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TypeAlias

_LOGGER = logging.getLogger("tlog.server")

OnFatal: TypeAlias = Callable[[BaseException], None]


def start_lasting(work: Coroutine[None, None, None], name: str, on_fatal: OnFatal) -> asyncio.Task[None]:
    """Start work that goes on until it is cancelled, or has done everything; belongs to the event loop.

    An error that ends it is logged, and told to `on_fatal`: nobody would notice that it is not done any more.
    """
    task = asyncio.get_running_loop().create_task(work, name=name)

    def ended(task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _LOGGER.critical("the %s ended by itself, so the server stops", name, exc_info=error)
            on_fatal(error)

    task.add_done_callback(ended)
    return task
