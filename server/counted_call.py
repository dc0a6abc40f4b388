"""One Append call, from when it is let in until the log has dealt with it.

As long as it counts, its entries are outstanding at its caller's account (`server.caller_gate`), wait in the
backlog (`server.backlog`), and have, or wait for, a turn among its caller's others (`server.turns`).
"""

from __future__ import annotations

from server.backlog import Backlog
from server.caller_gate import CallerGate
from server.callers import Caller
from server.turns import Turns


class CountedCall:
    """Counts a call in all three places, until `let_go`; belongs to the event loop."""

    __slots__ = ("_backlog", "_caller", "_entries", "_has_turn", "_held", "_outstanding", "_turns")

    def __init__(
        self,
        gate: CallerGate,
        backlog: Backlog,
        turns: Turns,
        caller: Caller,
        entries: int,
        size_bytes: int,
    ) -> None:
        """Let a call in. Raises QuotaError and PushbackError, and has counted nothing then."""
        self._outstanding = gate.entries(caller, entries, size_bytes)
        try:
            self._held = backlog.holding(entries, size_bytes)
        except BaseException:
            self._outstanding.let_go()
            raise
        self._backlog = backlog
        self._turns = turns
        self._caller = caller.name
        self._entries = entries
        self._has_turn = False

    @property
    def is_all_of_its_caller(self) -> bool:
        """Return whether its caller had nothing else under way when it came."""
        return self._outstanding.is_all

    def begin_turn_at_once(self) -> bool:
        """Begin the call's turn where it need not wait; else returns False."""
        self._has_turn = self._turns.take_at_once(self._caller, self._entries)
        return self._has_turn

    async def begin_turn(self) -> None:
        """Wait for the call's turn."""
        with self._backlog.set_aside(self._held):
            await self._turns.take(self._caller, self._entries)
        self._has_turn = True

    def let_go(self) -> None:
        """Count the call no more. Requires that this was not done before."""
        if self._has_turn:
            self._turns.give_back(self._caller, self._entries)
        self._held.let_go()
        self._outstanding.let_go()
