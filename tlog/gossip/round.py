"""One round of gossip: a few random peers, asked at the same time; and the answer to those who ask us.

A contact is one exchange, and a second one at once where the first showed that the peer lacks something: a
piece of evidence, or the path from what it holds to what we hold. So after one contact both sides know all
that either could prove.

Network, clock, randomness and threads come in as roles: the simulation runs this very code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from tlog.errors import MalformedError, RemoteError, SubmitError
from tlog.gossip.judgement import Judgement, Outcome
from tlog.gossip.message import GossipMessage, OfferedCheckpoint, PeerView, WantedPath, check_message
from tlog.gossip.peer_book import Backoff, PeerBook, Randomness
from tlog.gossip.pool import Pool, Received

T = TypeVar("T")
_ROUTINE = frozenset({Outcome.KNOWN, Outcome.STALE, Outcome.IGNORED, Outcome.UNSETTLED, Outcome.REFUSED})
Clock = Callable[[], float]
"""Reads a monotonic clock, in seconds."""


class Transport(Protocol):
    """Carries one exchange to a peer and back."""

    async def exchange(self, address: str, message: GossipMessage) -> GossipMessage:
        """Send what we hold and return what the peer holds.

        Raises RemoteError when the peer does not answer in time, or answers with what is no message, and
        PushbackError when it asks to be left alone for a while.
        """
        ...


class Runner(Protocol):
    """Runs one function on the pool at a time, away from whoever has to answer the network."""

    async def __call__(self, function: Callable[[], T]) -> T:
        """Return what the function returns; raise what it raises."""
        ...


class RunInThread:
    """Runs functions in an executor of one thread, which is what lets a pool belong to one; a Runner."""

    def __init__(self, thread: Executor) -> None:
        self._thread = thread

    async def __call__(self, function: Callable[[], T]) -> T:
        """Run a function there."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)


async def run_here(function: Callable[[], T]) -> T:
    """Run a function at once: the Runner of tests and simulations."""
    return function()


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundReport:
    """Says what one round did."""

    asked: tuple[str, ...]
    answered: tuple[str, ...]
    judgements: tuple[Judgement, ...]


class Gossiper:
    """Owns a pool: asks peers, answers them, and tells of every judgement that is not routine."""

    def __init__(
        self,
        pool: Pool,
        book: PeerBook,
        transport: Transport,
        *,
        fan_out: int,
        clock: Clock,
        randomness: Randomness,
        run: Runner = run_here,
        logs: Mapping[str, str] | None = None,
        on_judgement: Callable[[str, Judgement], None] = lambda who, judgement: None,
    ) -> None:
        """Take over a pool. Requires fan_out >= 1.

        `logs` are the addresses of log servers, each with its log's origin: they are asked in every round,
        and a path that one of them is asked for and does not give is an alarm at once. `on_judgement` hears
        who sent what was judged, and what came of it: never of what is routine.
        """
        assert fan_out >= 1
        self.pool = pool
        self.book = book
        self._transport = transport
        self._fan_out = fan_out
        self._logs = dict(logs or {})
        self._log_book = PeerBook(self._logs, Backoff(first_s=1.0, most_s=30.0))
        self._clock = clock
        self._randomness = randomness
        self._run = run
        self._on_judgement = on_judgement
        self._views: dict[str, PeerView] = {}

    async def gossip_round(self, *, ask_logs: bool = True) -> RoundReport:
        """Contact `fan_out` random peers, and the logs, all at the same time.

        A peer that hangs holds up nobody but its own contact, and that only as long as the transport waits.
        Raises StorageError when something could not be remembered.
        """
        now_s = self._clock()
        chosen = self.book.choose(self._fan_out, now_s, self._randomness)
        logs = self._log_book.choose(len(self._logs), now_s, self._randomness) if ask_logs else []
        asked = (*chosen, *(log for log in logs if log not in chosen))
        known = {*self.book.addresses, *self._logs}
        self._views = {address: view for address, view in self._views.items() if address in known}
        contacts: list[Awaitable[list[Judgement] | None]] = [self.contact(address) for address in asked]
        # A disk that takes nothing more ends a contact: the others, and the clock, are heard all the same.
        ended = await asyncio.gather(*contacts, return_exceptions=True)
        overdue = await self._run(lambda: self.pool.overdue(self._clock()))
        self._tell("", overdue)
        results: list[list[Judgement] | None] = []
        for one in ended:
            if isinstance(one, BaseException):
                raise one
            results.append(one)
        return RoundReport(
            asked=asked,
            answered=tuple(
                address for address, result in zip(asked, results, strict=True) if result is not None
            ),
            judgements=(*(one for result in results for one in result or ()), *overdue),
        )

    async def contact(self, address: str) -> list[Judgement] | None:
        """Exchange with one peer until it holds what we hold, at most twice; None when it did not answer.

        Raises StorageError when something could not be remembered.
        """
        book = self._log_book if address in self._logs else self.book
        view = self._views.get(address, PeerView())
        judgements: list[Judgement] = []
        for exchange in range(2):
            known = view
            message = await self._run(lambda known=known: self.pool.message_for(known))  # type: ignore[misc]
            if exchange and not _is_worth_sending(message):
                break
            try:
                answer = await self._transport.exchange(address, message)
                check_message(answer)
            except MalformedError:
                book.offended(address, self._clock())
                return None
            except (RemoteError, SubmitError):
                book.failed(address, self._clock(), self._randomness)
                return None if not exchange else judgements
            asked = [wanted for wanted in message.wanted if self._logs.get(address) == wanted.origin]
            received = await self._take_in(address, answer, asked)
            judgements += received.judgements
            if received.is_offensive:
                book.offended(address, self._clock())
                return judgements
            view = self._views[address] = received.view
        book.succeeded(address)
        return judgements

    async def answer(self, caller: str, message: GossipMessage) -> tuple[GossipMessage, Received]:
        """Judge what a caller holds, and say what we hold. Raises MalformedError and StorageError."""
        check_message(message)
        received = await self._take_in(caller, message)
        return await self._run(lambda: self.pool.message_for(received.view)), received

    async def ask(self, question: Callable[[Pool], T]) -> T:
        """Ask the pool something, where it lives; the question must change nothing."""
        return await self._run(lambda: question(self.pool))

    async def see(self, who: str, offered: OfferedCheckpoint) -> Judgement:
        """Judge a checkpoint that came in another way than by an exchange. Raises StorageError."""
        judgement = await self._run(lambda: self.pool.judge(offered, self._clock()))
        self._tell(who, [judgement])
        return judgement

    async def tree_grew(self, origin: str) -> None:
        """Judge again what waited for the kept tree. Raises StorageError."""
        self._tell("", await self._run(lambda: self.pool.recheck(origin, self._clock())))

    async def look_for_evidence(self) -> None:
        """Take up the evidence that other processes keep where this one does. Raises StorageError."""
        self._tell("", await self._run(self.pool.convictions.refresh))

    async def _take_in(self, who: str, message: GossipMessage, asked: Sequence[WantedPath] = ()) -> Received:
        """Judge a message; `asked` are the paths that a log had to give with it, or the alarm is raised."""

        def judge() -> Received:
            began_s = self._clock()
            received = self.pool.receive(message, began_s)
            # In one go: another contact may bring again, in between, what these paths have just settled.
            denied = [] if received.is_offensive else [one for path in asked for one in self.pool.deny(path)]
            judgements = (*received.judgements, *denied)
            return replace(received, judgements=judgements, spent_s=self._clock() - began_s)

        received = await self._run(judge)
        self._tell(who, received.judgements)
        return received

    def _tell(self, who: str, judgements: Sequence[Judgement]) -> None:
        for judgement in judgements:
            # An alarm names its checkpoints when it begins; each peer that holds them repeats it.
            repeated = judgement.outcome is Outcome.UNPROVEN and not judgement.checkpoints
            if judgement.outcome not in _ROUTINE and not repeated:
                self._on_judgement(who, judgement)


def _is_worth_sending(message: GossipMessage) -> bool:
    """Whether a second exchange would tell, or ask, the peer anything that the first did not."""
    return bool(
        message.evidence or message.wanted or message.paths or any(one.path for one in message.checkpoints)
    )
