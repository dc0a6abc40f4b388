"""From committed to published: witnesses cosign the newest checkpoint, and the quorum lets it out.

One round at a time. A round takes the newest committed checkpoint, asks every witness that is due, and ends
when the policy's quorum is met, or when nobody is left to answer. What was committed meanwhile is the next
round's, so a slow witness delays no commit, and rounds never queue up. Fail closed: without the quorum the
published checkpoint stays what it was, and its age shows it.

A witness that is still busy with an earlier round is not asked twice: its late answer is added to the
published checkpoint if that is still the one it cosigned. One that has answered is left in peace while others
are waited for, as long as its answer is not older than `refresh_s`. When nothing is appended, the newest
checkpoint is cosigned again that often, so that readers can tell "nothing new as of t" from "withheld"; who
does not answer then is still shown with what he cosigned before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from time import monotonic, time
from typing import Protocol

from server.cosigned_note import add_newer_signatures
from server.metrics import Metrics
from server.own_cosigner import OwnCosigner
from server.publisher import CheckpointFeed
from server.round_proofs import RoundProofs
from tlog.errors import (
    PolicyError,
    RemoteError,
    StateUnknownError,
    StorageError,
    TlogError,
    WitnessConflictError,
)
from tlog.freshness import MAX_SKEW_S
from tlog.log import Log
from tlog.log_view import SignedCheckpoint
from tlog.note import Signature, add_signatures, parse_note
from tlog.policy import Policy, can_form_quorum, open_checkpoint

_LOGGER = logging.getLogger("tlog.publisher")

MIN_BACKOFF_S = 0.2
MAX_BACKOFF_S = 30.0
MAX_RESYNCS = 3
"""How often one call follows a witness to the size that it says it holds."""


class AsksWitness(Protocol):
    """Asks one witness over the network; `tlog.witness.client.WitnessClient` does."""

    url: str

    async def newest_checkpoint(self, origin: str, timeout_s: float) -> bytes | None:
        """Return the note that was cosigned last, None when there is none. Raises RemoteError."""
        ...

    async def add_checkpoint(
        self, old_size: int, proof: Sequence[bytes], note: bytes, timeout_s: float
    ) -> Sequence[Signature]:
        """Return verified cosignatures, or raise WitnessConflictError or another TlogError."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """Holds what a witness has cosigned, and when that came."""

    signatures: tuple[Signature, ...]
    at_s: float


@dataclass(slots=True, kw_only=True)
class _Witness:
    """Holds what the publisher knows of one witness: how far it is, and when it may be asked again."""

    client: AsksWitness
    tree_size: int = 0
    failures: int = 0
    due_at_s: float = 0.0
    asking: asyncio.Task[tuple[Signature, ...]] | None = field(default=None)

    @property
    def is_free(self) -> bool:
        return self.asking is None or self.asking.done()


class WitnessedPublisher:
    """Publishes committed checkpoints once they meet the policy; `committed` is for any thread."""

    def __init__(
        self,
        log: Log,
        feed: CheckpointFeed,
        metrics: Metrics,
        *,
        policy: Policy,
        witnesses: Iterable[AsksWitness],
        cosigner: OwnCosigner | None,
        timeout_s: float,
        refresh_s: float,
        reading: Executor,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        """Publish for `log` into `feed`; the witness clients are the publisher's to close.

        `cosigner` is the log's own, which says "not later than" on every published checkpoint.
        """
        self._log = log
        self._feed = feed
        self._metrics = metrics
        self._policy = policy
        self._witnesses = [_Witness(client=client) for client in witnesses]
        self._asked_for: SignedCheckpoint | None = None
        self._answers: dict[str, _Answer] = {}
        """What was answered for `_asked_for` since the quorum was met last, by the witness's URL."""
        self._cosigner = cosigner
        self._timeout_s = timeout_s
        self._refresh_s = refresh_s
        self._reading = reading
        self._on_fatal = on_fatal
        self._loop = asyncio.get_running_loop()
        self._wakeup = asyncio.Event()
        self._published_at_s = -refresh_s
        self._task: asyncio.Task[None] | None = None
        self._first_round_over = asyncio.Event()
        self._publishing = asyncio.Lock()
        self._late: set[asyncio.Task[None]] = set()

    @property
    def clients(self) -> Sequence[AsksWitness]:
        """Return the clients of all witnesses; they are closed by `stop`."""
        return [witness.client for witness in self._witnesses]

    async def begin(self) -> None:
        """Start, and wait for the first round."""
        self.start()
        await self.first_round()

    def start(self) -> None:
        """Begin: what was committed and not published before the start is taken up at once."""
        self._task = self._loop.create_task(self._run(), name="publisher")

    async def first_round(self) -> None:
        """Wait until the witnesses were asked once, at most as long as they are given to answer.

        A log that got its witnesses only now has a published checkpoint that does not meet the policy; it is
        better not shown to anybody before this.
        """
        try:
            async with asyncio.timeout(2 * self._timeout_s):
                await self._first_round_over.wait()
        except TimeoutError:
            _LOGGER.warning("serving begins without the quorum: the witnesses have not answered yet")

    def committed(self, signed: SignedCheckpoint) -> None:
        """Take note of a newer committed checkpoint; it is read from the log when its turn comes."""
        self._loop.call_soon_threadsafe(self._wakeup.set)

    async def stop(self) -> None:
        """Give the newest commit one last chance to be published, then end and close the connections.

        A second call does nothing.
        """
        if self._task is None:
            for witness in self._witnesses:
                await witness.client.aclose()
            return
        task, self._task = self._task, None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self._end_calls()
        try:
            async with asyncio.timeout(2 * self._timeout_s):
                await self._round()
        except (TimeoutError, StorageError):
            _LOGGER.warning("stopped before the newest checkpoint met the quorum: the next start goes on")
        await self._end_calls()
        for witness in self._witnesses:
            await witness.client.aclose()

    async def _end_calls(self) -> None:
        calls = [witness.asking for witness in self._witnesses if witness.asking is not None]
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while True:
                self._wakeup.clear()
                is_published = await self._round_or_not()
                self._first_round_over.set()
                await self._wait(self._refresh_s if is_published else self._backoff_s())
        except Exception as error:  # noqa: BLE001 - ends the process: nothing would be published any more
            self._on_fatal(error)

    async def _round_or_not(self) -> bool:
        """Run one round; what surely was not written is tried again by the next one."""
        try:
            return await self._round()
        except StateUnknownError:
            raise
        except StorageError as error:
            self._metrics.round_failed()
            _LOGGER.warning("the newest checkpoint is not published yet: %s", error)
            return False

    async def _wait(self, seconds: float) -> None:
        """Sleep until a commit, or for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._wakeup.wait()
        except TimeoutError:
            return

    def _backoff_s(self) -> float:
        """Return how long nobody is worth asking: until one who has not answered is due, or answers age."""
        missing = (witness for witness in self._witnesses if witness.client.url not in self._answers)
        pause_s = min((witness.due_at_s - monotonic() for witness in missing), default=self._refresh_s)
        return max(MIN_BACKOFF_S, min(pause_s, self._refresh_s))

    async def _round(self) -> bool:
        """Ask for the newest committed checkpoint; returns whether it is published now, freshly enough."""
        target = self._log.checkpoint()
        fresh_until_s = self._published_at_s + self._refresh_s
        if target.tree_size == self._feed.newest.tree_size and monotonic() < fresh_until_s:
            return True
        started_s = monotonic()
        answers = self._answers_for(target)
        proofs = RoundProofs(self._log, target.tree_size, self._reading)
        asking = {self._ask_in_task(witness, target, proofs, answers) for witness in self._due_witnesses()}
        while not await self._publish_if_quorum(target, answers):
            if not asking:
                self._metrics.round_failed()
                return False
            _, asking = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        self._asked_for = None
        self._metrics.round_done(monotonic() - started_s)
        for late in asking:
            late.add_done_callback(lambda task: self._take_late(task, target))
        return True

    def _answers_for(self, target: SignedCheckpoint) -> dict[str, _Answer]:
        """Return what is answered for this checkpoint, and not so old that it is asked for again."""
        if self._asked_for != target:
            # Who is still busy with the one before writes into the other dict.
            self._asked_for, self._answers = target, {}
        expired_at_s = monotonic() - self._refresh_s
        for url in [url for url, answer in self._answers.items() if answer.at_s <= expired_at_s]:
            del self._answers[url]
        return self._answers

    def _due_witnesses(self) -> list[_Witness]:
        now = monotonic()
        return [
            witness
            for witness in self._witnesses
            if witness.is_free and witness.due_at_s <= now and witness.client.url not in self._answers
        ]

    def _ask_in_task(
        self, witness: _Witness, target: SignedCheckpoint, proofs: RoundProofs, answers: dict[str, _Answer]
    ) -> asyncio.Task[tuple[Signature, ...]]:
        witness.asking = self._loop.create_task(self._ask(witness, target, proofs, answers))
        return witness.asking

    async def _ask(
        self, witness: _Witness, target: SignedCheckpoint, proofs: RoundProofs, answers: dict[str, _Answer]
    ) -> tuple[Signature, ...]:
        """Ask one witness; no answer, whatever the reason, is an empty one, and puts it off for a while."""
        try:
            signatures = tuple(await self._ask_in_sync(witness, target, proofs))
        except Exception as error:
            witness.failures += 1
            pause_s = min(MAX_BACKOFF_S, MIN_BACKOFF_S * 2 ** min(witness.failures - 1, 16))
            witness.due_at_s = monotonic() + pause_s
            self._metrics.witness_asked(witness.client.url, type(error).__name__)
            if isinstance(error, TlogError):
                _LOGGER.warning("no cosignature for size %d: %s", target.tree_size, error)
            else:
                # No answer of one witness may end the log, not even one that meets a bug here.
                _LOGGER.exception("asking the witness at %s met a bug", witness.client.url)
            return ()
        answers[witness.client.url] = _Answer(signatures=signatures, at_s=monotonic())
        witness.failures = 0
        witness.tree_size = target.tree_size
        self._metrics.witness_asked(witness.client.url, "cosigned")
        return signatures

    async def _ask_in_sync(
        self, witness: _Witness, target: SignedCheckpoint, proofs: RoundProofs
    ) -> Sequence[Signature]:
        for _ in range(MAX_RESYNCS):
            old_size = witness.tree_size
            proof = await proofs.prove(old_size)
            try:
                return await witness.client.add_checkpoint(old_size, proof, target.note, self._timeout_s)
            except WitnessConflictError as conflict:
                witness.tree_size = conflict.tree_size
                if conflict.tree_size > target.tree_size:
                    committed = self._log.checkpoint().tree_size
                    witness.tree_size = min(conflict.tree_size, committed)
                    raise RemoteError(
                        f"the witness at {witness.client.url} has cosigned size {conflict.tree_size} "
                        f"already, above {target.tree_size}; this log holds {committed}: if that is less, an "
                        "older database was restored, and must not sign"
                    ) from conflict
        raise RemoteError(
            f"the witness at {witness.client.url} changed its size {MAX_RESYNCS} times in one call: does "
            "another server of this log ask it as well?"
        )

    async def _publish_if_quorum(self, target: SignedCheckpoint, answers: Mapping[str, _Answer]) -> bool:
        answered = [signature for answer in answers.values() for signature in answer.signatures]
        if not self._may_suffice(answered):
            return False
        note = add_signatures(target.note, [*await self._own_cosignature(target), *answered])
        try:
            open_checkpoint(note, self._policy)
        except PolicyError:
            return False
        async with self._publishing:
            newest = self._feed.newest
            if newest.checkpoint == target.checkpoint:
                note = self._add_newer(newest.note, parse_note(note)[1])
            await self._publish(note)
        self._published_at_s = monotonic()
        return True

    def _may_suffice(self, answered: Sequence[Signature]) -> bool:
        """Return whether the policy may be met by now: it costs a check of every signature to find out."""
        signed = {(signature.name, signature.key_id) for signature in answered}
        return can_form_quorum(
            self._policy,
            [
                witness.name
                for witness in self._policy.witnesses
                if (witness.verifier.name, witness.verifier.key_id) in signed
            ],
        )

    def _add_newer(self, note: bytes, signatures: Sequence[Signature]) -> bytes:
        verifiers = [witness.verifier for witness in self._policy.witnesses]
        return add_newer_signatures(note, signatures, verifiers, not_after_s=int(time()) + MAX_SKEW_S)

    async def _publish(self, note: bytes) -> None:
        # A publish on the way must not be torn from its note by a stop.
        published = await asyncio.shield(self._loop.run_in_executor(self._reading, self._log.publish, note))
        self._feed.publish(published)

    async def _own_cosignature(self, target: SignedCheckpoint) -> list[Signature]:
        if self._cosigner is None:
            return []
        text, _ = parse_note(target.note)
        # In a thread: the key may be in another process.
        return [await self._loop.run_in_executor(self._reading, self._cosigner.cosign, text)]

    def _take_late(self, task: asyncio.Task[tuple[Signature, ...]], target: SignedCheckpoint) -> None:
        if task.cancelled() or task.exception() is not None or not task.result():
            return
        late = self._loop.create_task(self._add_late(task.result(), target))
        self._late.add(late)
        late.add_done_callback(self._late.discard)

    async def _add_late(self, signatures: Sequence[Signature], target: SignedCheckpoint) -> None:
        """Add late cosignatures to the published checkpoint, if that is still the one they are for."""
        try:
            # One at a time: each adds to what the one before it has published.
            async with self._publishing:
                newest = self._feed.newest
                if newest.checkpoint == target.checkpoint:
                    await self._publish(self._add_newer(newest.note, signatures))
        except StateUnknownError as error:
            self._on_fatal(error)
        except StorageError as error:
            _LOGGER.warning("a late cosignature is not published: %s", error)
