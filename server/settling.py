"""How those who wait are told what became of it, unless they went away meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

Result = TypeVar("Result")


def settle(futures: Sequence[asyncio.Future[Result]], results: Sequence[Result | BaseException]) -> None:
    """End each future with its result, or with the exception that stands in its place."""
    for future, result in zip(futures, results, strict=True):
        if future.done():  # its client went away
            continue
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)


def pass_on(future: asyncio.Future[Result], done: asyncio.Future[Result]) -> None:
    """End a future as another one has ended, whose exception counts as seen from here on."""
    if done.cancelled():
        future.cancel()
        return
    error = done.exception()
    settle([future], [done.result() if error is None else error])
