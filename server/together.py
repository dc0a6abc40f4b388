"""Verified calls on their way to the sequencer: those of a caller that has more under way go together.

A commit of 1,024 entries costs a third less than four of 256 (docs/performance.md): fewer pages are written,
and the thread that commits and the one that checks signatures fight less for the interpreter. So a large call
waits here while more of the same caller is being verified, and is committed with that. Nobody waits for what
another brought, and a caller who sends one call after the other never waits; there is no timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from server.sequencer import Sequenced
from server.settling import pass_on
from tlog.validate import VerifiedEntry

MIN_CALL_ENTRIES = 64
"""A smaller call is handed over at once, and what is kept back goes with it."""
MAX_ENTRIES = 1_024
"""With so many together nothing is kept back: a larger commit costs hardly less."""


class Together:
    """Hands calls over, each at once or with the next of its caller; belongs to one event loop."""

    def __init__(
        self,
        hand_over: Callable[[Sequence[VerifiedEntry]], asyncio.Future[Sequenced]],
        *,
        to_come: Callable[[str], int],
    ) -> None:
        """Let `hand_over` have them, in the order in which they came.

        `to_come` says how many entries of a caller are still being verified, or wait for that. Whoever makes
        it say less calls `look_again` afterwards.
        """
        self._hand_over = hand_over
        self._to_come = to_come
        self._kept: list[tuple[Sequence[VerifiedEntry], str, asyncio.Future[Sequenced]]] = []
        self._kept_entries = 0

    @property
    def kept_entries(self) -> int:
        """Return how many entries are kept back."""
        return self._kept_entries

    def submit(self, entries: Sequence[VerifiedEntry], caller: str) -> asyncio.Future[Sequenced]:
        """Take one call; the future ends as that of `hand_over` does. Raises what that raises."""
        if (
            len(entries) < MIN_CALL_ENTRIES
            or self._kept_entries + len(entries) >= MAX_ENTRIES
            or not self._has_more(caller)
        ):
            self._let_go()
            return self._hand_over(entries)
        future: asyncio.Future[Sequenced] = asyncio.get_running_loop().create_future()
        self._kept.append((entries, caller, future))
        self._kept_entries += len(entries)
        return future

    def look_again(self) -> None:
        """Hand over what is kept back, unless more of one of its callers is still to come."""
        if not any(self._has_more(caller) for _, caller, _ in self._kept):
            self._let_go()

    def _has_more(self, caller: str) -> bool:
        return self._to_come(caller) >= MIN_CALL_ENTRIES

    def _let_go(self) -> None:
        kept, self._kept, self._kept_entries = self._kept, [], 0
        for entries, _, future in kept:
            try:
                sequenced = self._hand_over(entries)
            except Exception as error:  # noqa: BLE001 - handed to the one whose call it is
                if not future.done():
                    future.set_exception(error)
            else:
                sequenced.add_done_callback(partial(pass_on, future))
