"""Questions that another process answers: each has a number, and a future that its answer ends."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Questions(Generic[Answer]):
    """Holds what was asked and not answered yet; belongs to the event loop."""

    def __init__(self) -> None:
        self._next = 0
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._over: Exception | None = None

    def ask(self) -> tuple[int, asyncio.Future[Answer]]:
        """Return the number for a new question, and the future of its answer."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        number = self._next
        if self._over is not None:
            future.set_exception(self._over)
            return number, future
        self._next += 1
        self._waiting[number] = future
        return number, future

    def answer(self, number: int, answer: Answer) -> None:
        """End a question with its answer; nothing happens when nobody waits for it any more."""
        future = self._waiting.pop(number, None)
        if future is not None and not future.done():
            future.set_result(answer)

    def fail(self, number: int, error: Exception) -> None:
        """End a question with an exception."""
        future = self._waiting.pop(number, None)
        if future is not None and not future.done():
            future.set_exception(error)

    def fail_all(self, error: Exception) -> None:
        """End every question with an exception, and all that are asked from now on."""
        self._over = error
        for number in list(self._waiting):
            self.fail(number, error)
