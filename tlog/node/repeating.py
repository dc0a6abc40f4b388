"""Work that is done again and again, at random times: what fails is told once, and tried again."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from tlog.errors import TlogError

_LOGGER = logging.getLogger("tlog.node")


async def repeat(
    what: str,
    work: Callable[[], Awaitable[object]],
    *,
    period_s: float,
    hurry: asyncio.Event | None = None,
) -> None:
    """Do some work until cancelled, with pauses between half and one and a half of `period_s`.

    `hurry` ends a pause early; it is cleared before the work begins, so that nothing set meanwhile is lost.
    Jitter keeps nodes that were started together from calling together.
    """
    hurry = hurry or asyncio.Event()
    failing = False
    while True:
        hurry.clear()
        try:
            await work()
        except TlogError as error:
            if not failing:
                _LOGGER.warning("%s does not work, and is tried again: %s", what, error)
            failing = True
        else:
            if failing:
                _LOGGER.info("%s works again", what)
            failing = False
        pause_s = period_s * (0.5 + random.random())  # noqa: S311 - spreads the load, hides nothing
        try:
            await asyncio.wait_for(hurry.wait(), pause_s)
        except TimeoutError:
            continue
