"""A worker's line to the main process: verified calls and exchanges go out, what became of them comes back.

What was handed over is carried through whatever becomes of this process: entries that were committed without
an answer are there when their client sends them again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from server.questions import Questions
from server.sequencer import Sequenced
from server.wire import (
    Call,
    Exchange,
    Exchanged,
    Failed,
    Taken,
    error_of,
    hand_over,
    outcome_of,
)
from tlog.errors import PushbackError
from tlog.log_view import SignedCheckpoint
from tlog.validate import VerifiedEntry


class RemoteSequencer:
    """Hands calls over to the sequencer of the main process; belongs to the event loop."""

    def __init__(self, send: Callable[[Call | Exchange], None], on_pace: Callable[[float], None]) -> None:
        """Send with `send`; `on_pace` is told how long an entry takes in a commit, with every answer."""
        self._send = send
        self._on_pace = on_pace
        self._calls: Questions[Sequenced] = Questions()
        self._exchanges: Questions[bytes] = Questions()
        self._stopping = False
        self._last: SignedCheckpoint | None = None

    def submit(self, entries: Sequence[VerifiedEntry]) -> asyncio.Future[Sequenced]:
        """Hand over one call of 1 or more verified entries; ends and raises as `Sequencer.submit` does."""
        if self._stopping:
            raise PushbackError("the server is stopping: send the call again", retry_after_s=1.0)
        number, future = self._calls.ask()
        self._send(hand_over(number, entries))
        return future

    def exchange(self, caller: str, request: bytes) -> asyncio.Future[bytes]:
        """Hand over an encoded ExchangeRequest; the future ends with the encoded response, or a TlogError."""
        number, future = self._exchanges.ask()
        self._send(Exchange(number, caller, request))
        return future

    def taken(self, message: Taken) -> None:
        """End a call with its outcome."""
        # Many calls of one commit have the same checkpoint.
        if self._last is None or self._last.note != message.checkpoint:
            self._last = SignedCheckpoint.read(message.checkpoint)
        self._on_pace(message.seconds_per_entry)
        self._calls.answer(message.number, Sequenced(outcome=outcome_of(message), checkpoint=self._last))

    def exchanged(self, message: Exchanged) -> None:
        """End an exchange with its response."""
        self._exchanges.answer(message.number, message.response)

    def failed(self, message: Failed) -> None:
        """End a call or an exchange with its exception."""
        questions = self._exchanges if message.is_exchange else self._calls
        questions.fail(message.number, error_of(message.failure))

    def stop(self) -> None:
        """Refuse new calls; those that were handed over are still answered."""
        self._stopping = True
