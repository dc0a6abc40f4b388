"""The main process's side of one worker: takes its calls to the sequencer, and answers them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from server.backlog import CommitPace
from server.link import Link
from server.questions import Questions
from server.sequencer import Sequenced, SequencesCalls
from server.wire import (
    Call,
    Count,
    Counted,
    Exchange,
    Exchanged,
    Failed,
    FromMain,
    FromWorker,
    Listening,
    Sample,
    Taken,
    failure_of,
)
from tlog.errors import MalformedError, PushbackError, RemoteError

_LOGGER = logging.getLogger("tlog.server")

AnswersExchange = Callable[[str, bytes], Awaitable[bytes]]
"""Answers an encoded ExchangeRequest that came over the named connection. Raises TlogError."""


class WorkerDesk:
    """Answers one worker for as long as it lives; belongs to the event loop."""

    def __init__(
        self,
        link: Link[FromMain, FromWorker],
        sequencer: SequencesCalls,
        pace: CommitPace,
        exchange: AnswersExchange | None,
    ) -> None:
        """Answer over `link`; without `exchange` the worker has no gossip service to ask it."""
        self._link = link
        self._sequencer = sequencer
        self._pace = pace
        self._exchange = exchange
        self._calls: set[asyncio.Future[Sequenced]] = set()
        self._exchanges: set[asyncio.Task[None]] = set()
        self._counts: Questions[tuple[Sample, ...]] = Questions()
        self.listening = asyncio.Event()
        self.samples: tuple[Sample, ...] = ()
        """What the worker had counted when it was last asked."""

    async def run(self) -> None:
        """Answer until the worker is gone."""
        try:
            while (message := await self._link.receive()) is not None:
                self._take(message)
        except MalformedError as error:
            _LOGGER.error("a worker is given up: %s", error)  # noqa: TRY400 - what it sent says it all
        finally:
            self._counts.fail_all(RemoteError("the worker is gone"))
            await self._link.close()

    def tell(self, message: FromMain) -> None:
        """Send the worker what it did not ask for."""
        self._link.send(message)

    async def count(self) -> None:
        """Ask the worker for its metrics; returns when they are here. Raises RemoteError when it is gone."""
        number, future = self._counts.ask()
        self._link.send(Count(number))
        await future

    async def idle(self) -> None:
        """Wait until everything that the worker handed over is dealt with."""
        if self._calls:
            await asyncio.wait(self._calls)

    def _take(self, message: FromWorker) -> None:
        match message:
            case Call():
                self._submit(message)
            case Exchange():
                task = asyncio.create_task(self._answer_exchange(message))
                self._exchanges.add(task)
                task.add_done_callback(self._exchanges.discard)
            case Counted():
                self.samples = message.samples
                self._counts.answer(message.number, message.samples)
            case Listening():
                self.listening.set()

    def _submit(self, call: Call) -> None:
        try:
            future = self._sequencer.submit(call.entries)
        except PushbackError as error:
            self._link.send(Failed(call.number, False, failure_of(error)))
            return
        self._calls.add(future)
        future.add_done_callback(partial(self._answer_call, call.number))

    def _answer_call(self, number: int, future: asyncio.Future[Sequenced]) -> None:
        self._calls.discard(future)
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self._link.send(Failed(number, False, failure_of(error)))
            return
        sequenced = future.result()
        outcome = sequenced.outcome
        self._link.send(
            Taken(
                number,
                outcome.leaf_indices,
                outcome.already_present,
                outcome.new_range,
                sequenced.checkpoint.note,
                self._pace.seconds_per_entry,
            )
        )

    async def _answer_exchange(self, message: Exchange) -> None:
        assert self._exchange is not None, "the worker has no gossip service"
        try:
            self._link.send(Exchanged(message.number, await self._exchange(message.caller, message.request)))
        except Exception as error:
            failure = failure_of(error)
            if not failure.kind:
                _LOGGER.exception("an exchange failed with a bug")
            self._link.send(Failed(message.number, True, failure))
