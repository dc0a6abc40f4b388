"""Ask witnesses and members' nodes, at every start, what this log signed last: below that it never signs.

A store that was put back from an old copy looks whole, and its high-water mark may have been put back with
it. Others know better: what was published, a quorum of witnesses has cosigned. So nothing is signed until
those witnesses that have not answered could not have made a quorum by themselves; until then they are asked
again and again, and reading goes on. Where a policy has no quorum, more than half of the configured nodes
have to answer; where there is nobody to ask, the mark alone decides (server.loss_desk).

What counts is what this log's own key has signed: nobody can stop a log by a number alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

from server.lasting_task import OnFatal, start_lasting
from server.signing_guard import REPLAY_WAY_OUT, ReadOnly, SigningGuard
from tlog.checkpoint import Checkpoint, parse_checkpoint
from tlog.errors import RemoteError, TlogError, WitnessConflictError, WitnessRefusedError
from tlog.log import Log
from tlog.note import Signature, Verifier, open_note
from tlog.policy import Policy, can_form_quorum
from tlog.storage.high_water_mark import Mark

_LOGGER = logging.getLogger("tlog.server")

HOLD = "start check"
MIN_PAUSE_S = 0.5
MAX_PAUSE_S = 15.0
OTHER_HISTORY_WAY_OUT = (
    "stop the server and keep both checkpoints: no entries can be appended that mend this. Put a copy of the "
    "store's directory in its place that contains what was shown (docs/operations.md, Restore)"
)


class TellsNewest(Protocol):
    """Is a witness that can be asked what it cosigned last; a WitnessClient."""

    url: str

    async def newest_checkpoint(self, origin: str, timeout_s: float) -> bytes | None:
        """Return the note that was cosigned last, None when there is none. Raises RemoteError."""
        ...

    async def add_checkpoint(
        self, old_size: int, proof: Sequence[bytes], note: bytes, timeout_s: float
    ) -> Sequence[Signature]:
        """Return cosignatures, or raise WitnessConflictError with the size, or another TlogError."""
        ...


@dataclass(slots=True, kw_only=True)
class _Asked:
    """Is somebody who is asked until there is an answer; `names` are those of a witness in the policy."""

    who: str
    names: tuple[bytes, ...]
    ask: Callable[[], Coroutine[None, None, None]]
    why_not: str | None = "not asked yet"

    @property
    def has_answered(self) -> bool:
        return self.why_not is None


class StartCheck:
    """Holds the signing until enough others were asked; belongs to the event loop."""

    def __init__(
        self,
        log: Log,
        guard: SigningGuard,
        *,
        policy: Policy,
        witnesses: Sequence[TellsNewest],
        nodes: Sequence[str],
        ask_node: Callable[[str], Awaitable[bool]] | None,
        timeout_s: float,
        reading: Executor,
        on_fatal: OnFatal,
    ) -> None:
        """Hold the guard at once, if there is anybody to ask.

        `ask_node` exchanges with a member's node, judges what it holds, and returns whether it answered; each
        answer has `timeout_s`. `reading` runs what reads the store; `on_fatal` is
        told when the questions end by an error.
        """
        self._log = log
        self._guard = guard
        self._policy = policy
        self._timeout_s = timeout_s
        self._reading = reading
        self._on_fatal = on_fatal
        vkeys = dict.fromkeys([log.vkey, *log.registry.log_vkeys])
        self._verifiers = [Verifier.from_vkey(vkey) for vkey in vkeys]
        names_by_url: dict[str, list[bytes]] = {}
        for witness in policy.witnesses:
            if witness.url is not None:
                url = witness.url.decode("ascii", "replace").rstrip("/")
                names_by_url.setdefault(url, []).append(witness.name)
        self._witnesses = [
            _Asked(
                who=f"the witness at {witness.url}",
                names=tuple(names_by_url.get(witness.url, ())),
                ask=self._witness_question(witness),
            )
            for witness in witnesses
        ]
        self._nodes = [
            _Asked(who=f"the node at {address}", names=(), ask=self._node_question(address, ask_node))
            for address in (nodes if ask_node is not None else ())
        ]
        self._task: asyncio.Task[None] | None = None
        self._settle()

    async def start(self) -> None:
        """Ask everybody once, and go on asking in the background those who have not answered."""
        await self._round()
        self._task = start_lasting(self._run(), "start check", self._on_fatal)

    async def stop(self) -> None:
        """End the questions; a second call does nothing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        pause_s = MIN_PAUSE_S
        while self._silent:
            await asyncio.sleep(pause_s)
            pause_s = min(MAX_PAUSE_S, 2 * pause_s)
            await self._round()

    @property
    def _silent(self) -> list[_Asked]:
        return [one for one in (*self._witnesses, *self._nodes) if not one.has_answered]

    async def _round(self) -> None:
        await asyncio.gather(*(self._ask(one) for one in self._silent))
        self._settle()

    async def _ask(self, one: _Asked) -> None:
        try:
            await one.ask()
        except TlogError as error:
            if one.why_not != str(error):
                _LOGGER.warning("%s has not said what this log signed last: %s", one.who, error)
            one.why_not = str(error)
        except Exception as error:
            # Whoever is asked ends nothing but the question, not even by a bug here.
            _LOGGER.exception("asking %s met a bug", one.who)
            one.why_not = type(error).__name__
        else:
            one.why_not = None

    def _settle(self) -> None:
        """Hold the signing, or let it go on, by who has answered so far."""
        silent = self._missing()
        if not silent:
            self._guard.release(HOLD)
            return
        names = ", ".join(f"{one.who} ({one.why_not})" for one in silent)
        self._guard.hold(
            HOLD,
            ReadOnly(
                reason="since its start it has not heard from enough others what it signed last; those that "
                f"have not answered could hold something newer: {names}",
                way_out="it goes on asking; bring them back, or take out of policy and configuration who "
                "will not come back (docs/operations.md, Restore)",
                is_passing=True,
            ),
        )

    def _missing(self) -> list[_Asked]:
        """Return those who have not answered, if their answers are needed."""
        if self._policy.quorum is not None:
            silent = [one for one in self._witnesses if not one.has_answered]
            names = [name for one in silent for name in one.names]
            return silent if can_form_quorum(self._policy, names) else []
        silent = [one for one in self._nodes if not one.has_answered]
        return silent if 2 * len(silent) >= len(self._nodes) else []

    def _witness_question(self, witness: TellsNewest) -> Callable[[], Coroutine[None, None, None]]:
        async def ask() -> None:
            problem = await self._ask_monitoring(witness)
            if problem is not None:
                await self._probe(witness, problem)

        return ask

    async def _ask_monitoring(self, witness: TellsNewest) -> str | None:
        """Ask for the note that was cosigned last, and judge it; returns why that told nothing, or None.

        Raises RemoteError when nobody answers.
        """
        try:
            note = await witness.newest_checkpoint(self._log.origin, self._timeout_s)
        except WitnessRefusedError as error:
            return str(error)
        if note is None:
            return "it shows no checkpoint of this log"
        try:
            checkpoint = parse_checkpoint(open_note(note, self._verifiers).text)
        except TlogError as error:
            return f"what it shows is no checkpoint of this log ({error})"
        if checkpoint.origin != self._log.origin:
            return f"what it shows is of {checkpoint.origin}"
        await self._judge(f"the witness at {witness.url}", checkpoint)
        return None

    async def _probe(self, witness: TellsNewest, problem: str) -> None:
        """Submit what is committed as if it were what the witness cosigned last: 200 says that it is.

        Raises RemoteError when that does not show that the witness holds nothing newer.
        """
        own = self._log.checkpoint()
        try:
            await witness.add_checkpoint(own.tree_size, (), own.note, self._timeout_s)
        except WitnessConflictError as conflict:
            if conflict.tree_size == own.tree_size:
                # Asked from the size that it holds it has nothing to object to but the root.
                raise RemoteError(
                    f"it says that it cosigned another tree of size {own.tree_size} than the one that is "
                    f"here, and {problem}: see what it holds before anything else"
                ) from conflict
            if conflict.tree_size > own.tree_size:
                raise RemoteError(
                    f"it says that it cosigned size {conflict.tree_size}, above the {own.tree_size} that are "
                    f"here, and {problem}: see what it holds before anything else"
                ) from conflict

    def _node_question(
        self, address: str, ask_node: Callable[[str], Awaitable[bool]] | None
    ) -> Callable[[], Coroutine[None, None, None]]:
        async def ask() -> None:
            assert ask_node is not None
            # What it holds is judged where everything is that members bring (server.gossip_service).
            if not await ask_node(address):
                raise RemoteError("no answer")

        return ask

    async def _judge(self, who: str, checkpoint: Checkpoint) -> None:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._reading, self._contradiction, who, checkpoint)
        if found is not None:
            self._guard.stop_signing(*found)

    def _contradiction(self, who: str, checkpoint: Checkpoint) -> tuple[str, str] | None:
        """Say how the store lacks what the log's key has signed, and the way out; None where it has it."""
        shown = Mark(tree_size=checkpoint.tree_size, root_hash=checkpoint.root_hash)
        with self._log.view() as view:
            size = view.tree_size
            if shown.tree_size > size:
                here = Mark(tree_size=size, root_hash=view.root_hash(size))
                return (
                    # The gap first: messages are cut where they are long.
                    f"entries [{size}, {shown.tree_size}) are missing, it is an older copy: {who} holds "
                    f"{shown} under this log's key, and the store holds {here}",
                    REPLAY_WAY_OUT,
                )
            root_hash = view.root_hash(shown.tree_size)
        if root_hash != shown.root_hash:
            return (
                f"{who} holds {shown} under this log's key, and the store has root {root_hash.hex()} "
                "there: these are two histories",
                OTHER_HISTORY_WAY_OUT,
            )
        return None
