"""One view of the log for all that is read in one turn of the event loop.

Answers to calls of one commit are made one after the other, and neighbours' proofs share most of their nodes:
so they share the view, and what it has read. Nobody is shown an older log than it was told of: the view is
closed by the loop itself, before anything is heard that was told to the loop after it was opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from tlog.log_view import LogView


class ViewOfTurn:
    """Opens views and closes them; belongs to the event loop that made it."""

    def __init__(self, open_view: Callable[[], AbstractContextManager[LogView]], *, max_uses: int) -> None:
        """Share what `open_view` opens `max_uses` times a turn, so that others are heard between many."""
        self._open_view = open_view
        self._max_uses = max_uses
        self._uses = 0
        self._is_begun = False
        self._view: LogView | None = None
        self._closing = ExitStack()
        self._loop = asyncio.get_running_loop()

    async def get(self) -> LogView:
        """Return the view of this turn, or of a later one; it is not to be used after the next `await`.

        Raises what opening it raises.
        """
        await self.count_in()
        return self.at_once()

    async def count_in(self) -> None:
        """Count one who reads `at_once` next, if it has to read at all; waits for a turn that has room."""
        while self._uses >= self._max_uses:
            await asyncio.sleep(0)
        self._begin()
        self._uses += 1

    def at_once(self) -> LogView:
        """Return the view of this turn, for what is not counted; otherwise as `get`.

        Whatever reads in the event loop takes this one: where another process has made the store larger than
        its map here, a second view could only be opened after the first is closed.
        """
        if self._view is None:
            self._view = self._closing.enter_context(self._open_view())
            self._begin()
        return self._view

    @contextmanager
    def briefly(self) -> Iterator[LogView]:
        """Return the view of this turn where one is open, else one that ends with the block.

        That is for who hands over to another thread next: a view that is closed in the loop while that one
        begins has both stand in line for the interpreter.
        """
        if self._view is not None:
            yield self._view
        else:
            with self._open_view() as view:
                yield view

    def _begin(self) -> None:
        if not self._is_begun:
            self._is_begun = True
            self._loop.call_soon(self._end)

    def _end(self) -> None:
        self._view, self._uses, self._is_begun = None, 0, False
        self._closing.close()
