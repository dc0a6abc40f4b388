"""What a node holds of the logs that it follows, and how it judges what others hold. Pure: no I/O, no clock.

For each log there is one newest checkpoint. Everything else that a log ever signed is either proven to be
consistent with it, and then need not be kept; or contradicts it, and then evidence is made; or nobody could
show either, and then it stays in doubt, beside the newest one. Memory is bounded by the number of logs, of
their keys and witnesses, and of doubts: not by peers, nor by what they send.

A checkpoint is compared with the *newest* one, and with the *anchor*, the newest whose whole tree is kept
here. Below the anchor every question is answered from the kept tree, without asking anybody: so two nodes
with trees that saw different histories have evidence after one exchange, whoever is larger.

Whatever is remembered is durable before it is relied on, or told to anybody. A pool belongs to one thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import chain

from tlog.errors import MalformedError, PolicyError, SignatureError, StorageError
from tlog.gossip.compose import HeldOfLog, compose_message
from tlog.gossip.conviction import convict, convict_impossible
from tlog.gossip.convictions import Convictions
from tlog.gossip.followed import MAX_DOUBTS, Doubt, FollowedLog
from tlog.gossip.held import HeldCheckpoint, Relation, hold_checkpoint, is_impossible, ordered, relate
from tlog.gossip.judgement import OFFENCES, Judgement, Outcome
from tlog.gossip.message import (
    MAX_CHECKPOINT_BYTES,
    ConsistencyPath,
    GossipMessage,
    OfferedCheckpoint,
    PeerView,
    WantedPath,
    evidence_digest,
)
from tlog.gossip.state import GossipState, KeptTrees, StoredView, verify_stored
from tlog.policy import Policy

DEFAULT_PATIENCE_S = 600.0
"""How long peers are asked for a path before a doubt becomes an alarm, where the log cannot be asked."""
MAX_REMEMBERED = 1_024
"""Notes, by digest, that were judged consistent and need no second look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """Says what became of a message, what its sender is now known to hold, and how long judging it took."""

    judgements: tuple[Judgement, ...]
    view: PeerView
    spent_s: float = 0.0

    @property
    def is_offensive(self) -> bool:
        """Whether the sender sent what no honest node sends."""
        return any(judgement.outcome in OFFENCES for judgement in self.judgements)


class Pool:
    """Judges checkpoints and evidence for all logs of one policy."""

    def __init__(
        self,
        policy: Policy,
        state: GossipState,
        trees: KeptTrees,
        *,
        patience_s: float = DEFAULT_PATIENCE_S,
        told: Callable[[str], HeldCheckpoint | None] | None = None,
        now_s: float = 0.0,
    ) -> None:
        """Take up what `state` remembers. Raises CorruptionError when that does not verify any more.

        `told`, where given, says what is told of a log in place of the anchor and the newest checkpoint.
        Doubts that were not alarmed yet are not remembered: whoever holds them will send them again.
        """
        self.policy = policy
        self._state = state
        self._trees = trees
        self._patience_s = patience_s
        self._told = told
        self.convictions = Convictions(policy, state)
        self._turn = 0
        self._remembered: OrderedDict[bytes, tuple[str, int]] = OrderedDict()
        self._followed = {log.origin: FollowedLog() for log in policy.logs}
        for origin, followed in self._followed.items():
            view = state.load(origin)
            if view.newest is not None:
                followed.newest = verify_stored(view.newest, policy, hold_checkpoint)
            for note in view.unproven:
                held = verify_stored(note, policy, hold_checkpoint)
                followed.doubts.append(Doubt(held=held, since_s=now_s, alarmed=True))

    @property
    def origins(self) -> tuple[str, ...]:
        """Return the logs that are followed."""
        return tuple(self._followed)

    def newest(self, origin: str) -> HeldCheckpoint | None:
        """Return the newest checkpoint that all others were proven consistent with."""
        return self._views(origin)[0]

    def trusted(self, origin: str) -> HeldCheckpoint | None:
        """Return the newest checkpoint, unless the log is convicted or another view of it is unproven."""
        if self.convictions.is_refused(origin) or self.unproven(origin):
            return None
        return self.newest(origin)

    def unproven(self, origin: str) -> tuple[HeldCheckpoint, ...]:
        """Return the checkpoints that nobody could prove consistent with the newest one in time."""
        return tuple(doubt.held for doubt in self._followed[origin].doubts if doubt.alarmed)

    def receive(self, message: GossipMessage, now_s: float) -> Received:
        """Judge a message whose limits were checked: the evidence first, and nothing after an offence."""
        judgements: list[Judgement] = []
        sizes: dict[str, int] = {}
        steps: Iterator[Judgement] = chain(
            (self.convictions.take(evidence) for evidence in message.evidence),
            (self.judge(offered, now_s) for offered in message.checkpoints),
            (
                judgement
                for given in message.paths
                if given.origin in self._followed
                for judgement in self.settle(given.origin, given.path, now_s)
            ),
        )
        for judgement in steps:
            judgements.append(judgement)
            if judgement.outcome in OFFENCES:
                break
            if judgement.tree_size:
                # The first of a log is the one that its sender can follow a path from.
                sizes.setdefault(judgement.origin, judgement.tree_size)
        held = {*message.evidence_held, *map(evidence_digest, message.evidence)}
        return Received(
            judgements=tuple(judgements),
            view=PeerView(sizes=sizes, evidence=frozenset(held), wanted=message.wanted),
        )

    def judge(self, offered: OfferedCheckpoint, now_s: float) -> Judgement:
        """Judge one checkpoint, from wherever it came. Raises StorageError when it cannot be remembered."""
        if len(offered.note) > MAX_CHECKPOINT_BYTES:
            return Judgement(outcome=Outcome.MALFORMED, reason=f"a note of {len(offered.note)} bytes")
        digest = sha256(offered.note).digest()
        if remembered := self._remembered.get(digest):
            origin, tree_size = remembered
            outcome = Outcome.REFUSED if self.convictions.is_refused(origin) else Outcome.KNOWN
            return Judgement(outcome=outcome, origin=origin, tree_size=tree_size)
        try:
            held = hold_checkpoint(offered.note, self.policy)
        except MalformedError as error:
            return Judgement(outcome=Outcome.MALFORMED, reason=str(error))
        except PolicyError as error:
            return Judgement(outcome=Outcome.IGNORED, reason=str(error))
        except SignatureError as error:
            return Judgement(outcome=Outcome.FORGED, reason=str(error))
        path = None
        if offered.path_start_size:
            path = ConsistencyPath(
                start_size=offered.path_start_size, end_size=held.tree_size, hashes=offered.path
            )
        judgement = self._judge_held(held, path, now_s)
        if judgement.outcome in (Outcome.NEW, Outcome.KNOWN, Outcome.STALE):
            self._remembered[digest] = (held.origin, held.tree_size)
            if len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)
        return judgement

    def wanted(self) -> tuple[WantedPath, ...]:
        """Name the consistency paths that would settle what is in doubt, for whoever can ask for them."""
        paths: dict[WantedPath, None] = {}
        for origin, followed in self._followed.items():
            newest = self.newest(origin)
            if newest is None or self.convictions.is_refused(origin):
                continue
            for doubt in followed.doubts:
                start, end = sorted((newest.tree_size, doubt.held.tree_size))
                paths[WantedPath(origin=origin, start_size=start, end_size=end)] = None
        return tuple(paths)

    def settle(self, origin: str, path: ConsistencyPath, now_s: float) -> list[Judgement]:
        """Judge what is in doubt once more, with a path that somebody gave. Raises StorageError."""
        sizes = (path.start_size, path.end_size)
        doubts = [doubt for doubt in self._followed[origin].doubts if doubt.held.tree_size in sizes]
        return [self._judge_held(doubt.held, path, now_s) for doubt in doubts]

    def deny(self, wanted: WantedPath) -> list[Judgement]:
        """Raise the alarm where the log itself was asked for a path, and answered without it.

        Raises StorageError.
        """
        if wanted not in self.wanted():
            return []
        doubts = self._followed[wanted.origin].doubts
        sizes = (wanted.start_size, wanted.end_size)
        return [
            self._alarm(wanted.origin, doubt)
            for doubt in doubts
            if doubt.held.tree_size in sizes and not doubt.alarmed
        ]

    def recheck(self, origin: str, now_s: float) -> list[Judgement]:
        """Judge what is in doubt once more, after the kept tree grew. Raises StorageError."""
        judgements = []
        for doubt in list(self._followed[origin].doubts):
            judgement = self._judge_held(doubt.held, None, now_s)
            if judgement.outcome not in (Outcome.UNSETTLED, Outcome.UNPROVEN):
                judgements.append(judgement)
        return judgements

    def overdue(self, now_s: float) -> list[Judgement]:
        """Raise the alarm for whatever nobody could prove in time. Raises StorageError."""
        return [
            self._alarm(origin, doubt)
            for origin, followed in self._followed.items()
            for doubt in followed.doubts
            if not doubt.alarmed and now_s - doubt.since_s >= self._patience_s
        ]

    def message_for(self, view: PeerView) -> GossipMessage:
        """Say what a peer should hear, from what it was last seen to hold and to want."""
        # Where not everything fits, another log comes first in the next message.
        origins = self.origins
        self._turn = (self._turn + 1) % max(1, len(origins))
        logs = [
            HeldOfLog(origin=origin, checkpoints=self._tellable(origin))
            for origin in (*origins[self._turn :], *origins[: self._turn])
            if not self.convictions.is_refused(origin)
        ]
        return compose_message(logs, self.convictions, self.wanted(), self._trees, view)

    def _tellable(self, origin: str) -> list[HeldCheckpoint]:
        """Return the anchor, the newest where it is another, and what is in doubt."""
        newest, anchor = self._views(origin)
        views = [newest] if anchor is newest else [anchor, newest]
        if self._told is not None:
            views = [self._told(origin)]
        doubts = [doubt.held for doubt in self._followed[origin].doubts]
        return [*(view for view in views if view is not None), *doubts]

    def _views(self, origin: str) -> tuple[HeldCheckpoint | None, HeldCheckpoint | None]:
        """Return the newest checkpoint and the anchor; one object where they say the same."""
        newest, anchor = self._followed[origin].newest, self._trees.anchor(origin)
        if anchor is None:
            return newest, None
        if newest is None or anchor.tree_size > newest.tree_size:
            return anchor, anchor
        same = (anchor.tree_size, anchor.root_hash) == (newest.tree_size, newest.root_hash)
        return newest, newest if same else anchor

    def _judge_held(self, held: HeldCheckpoint, path: ConsistencyPath | None, now_s: float) -> Judgement:
        origin = held.origin
        if self.convictions.is_refused(origin):
            return self._say(Outcome.REFUSED, held, f"{origin} is convicted; nothing of it is taken")
        if is_impossible(held):
            return self.convictions.keep(convict_impossible(held, self.policy), Outcome.SPLIT_VIEW, held)
        newest, anchor = self._views(origin)
        if newest is None:
            return self._advance(held, now_s)
        views = [newest] if anchor is None or anchor is newest else [anchor, newest]
        doubts = [doubt.held for doubt in self._followed[origin].doubts]
        proven = False
        for view in (*views, *doubts):
            relation, used = self._relate(held, view, path)
            if relation is Relation.CONTRADICTORY:
                return self._contradiction(held, view, used, now_s)
            if relation is Relation.CONSISTENT and (view is newest or view is anchor):
                proven = True
        if not proven:
            return self._doubt(held, now_s)
        if held.tree_size > newest.tree_size:
            return self._advance(held, now_s)
        cleared = self._drop_doubt(held)
        if (held.tree_size, held.root_hash) == (newest.tree_size, newest.root_hash):
            self._merge(newest, held)
        if cleared:
            return self._say(Outcome.CLEARED, held, "it is proven consistent now")
        same_size = held.tree_size in {view.tree_size for view in views}
        return self._say(Outcome.KNOWN if same_size else Outcome.STALE, held)

    def _contradiction(
        self, held: HeldCheckpoint, view: HeldCheckpoint, path: ConsistencyPath | None, now_s: float
    ) -> Judgement:
        """Convict whoever signed both; where that is no key of the log, raise the alarm as well.

        A log whose keys changed may have signed each history with another one: that convicts neither key, and
        is no reason to trust either view.
        """
        smaller, larger = ordered(held, view)
        named: Judgement | None = None
        with suppress(PolicyError):  # nobody signed both
            found = convict(smaller, larger, path, self.policy)
            if not found.convicted <= self.convictions.convicted:
                named = self.convictions.keep(found, Outcome.SPLIT_VIEW, held)
        if named is not None and self.convictions.is_refused(held.origin):
            return named
        followed = self._followed[held.origin]
        if followed.find(held) is None:
            followed.make_room()
        judgement = self._doubt(held, now_s)
        doubt = followed.find(held)
        if doubt is not None and not doubt.alarmed:
            judgement = self._alarm(held.origin, doubt)
        return named or judgement

    def _relate(
        self, held: HeldCheckpoint, view: HeldCheckpoint, offered: ConsistencyPath | None
    ) -> tuple[Relation, ConsistencyPath | None]:
        """Relate two checkpoints: without a path, else with our own, else with the offered one."""
        smaller, larger = ordered(held, view)
        relation = relate(smaller, larger, None)
        if relation is not Relation.UNPROVEN:
            return relation, None
        anchor = self._trees.anchor(held.origin)
        if anchor is not None and larger.tree_size <= anchor.tree_size:
            own = self._trees.path(held.origin, smaller.tree_size, larger.tree_size)
            relation = relate(smaller, larger, own)
            if relation is not Relation.UNPROVEN:
                return relation, own
        return relate(smaller, larger, offered), offered

    def _advance(self, held: HeldCheckpoint, now_s: float) -> Judgement:
        """Make a checkpoint the newest one, and look again at what is in doubt."""
        followed = self._followed[held.origin]
        cleared = self._drop_doubt(held)
        self._save(held.origin, newest=held)
        followed.newest = held
        # What was in doubt may have a path to the new one; none of it is lost if it has not.
        for judgement in self.recheck(held.origin, now_s):
            if judgement.outcome is Outcome.SPLIT_VIEW:
                return judgement
        return self._say(Outcome.CLEARED if cleared else Outcome.NEW, held)

    def _merge(self, newest: HeldCheckpoint, held: HeldCheckpoint) -> None:
        """Add cosignatures that the newest checkpoint lacks: they name witnesses, should it be a lie."""
        if newest.checkpoint != held.checkpoint:
            return
        merged = newest.with_cosignatures_of(held)
        if merged is not newest:
            self._save(held.origin, newest=merged)
            self._followed[held.origin].newest = merged

    def _doubt(self, held: HeldCheckpoint, now_s: float) -> Judgement:
        followed = self._followed[held.origin]
        doubt = followed.find(held)
        if doubt is None:
            if followed.is_full:
                alarmed = any(one.alarmed for one in followed.doubts)
                return self._say(
                    Outcome.UNPROVEN if alarmed else Outcome.UNSETTLED,
                    held,
                    f"{MAX_DOUBTS} others are in doubt already",
                )
            doubt = Doubt(held=held, since_s=now_s)
            followed.doubts.append(doubt)
            if self._patience_s <= 0:
                return self._alarm(held.origin, doubt)
        if doubt.alarmed:
            return self._say(Outcome.UNPROVEN, held, "nobody has proven it since")
        return self._say(Outcome.UNSETTLED, held, "a consistency path is wanted")

    def _alarm(self, origin: str, doubt: Doubt) -> Judgement:
        newest = self.newest(origin)
        doubt.alarmed = True
        try:
            self._save(origin, newest=self._followed[origin].newest)
        except StorageError:
            doubt.alarmed = False  # so that it is tried, and told, again
            raise
        size = 0 if newest is None else newest.tree_size
        judgement = self._say(
            Outcome.UNPROVEN,
            doubt.held,
            f"consistency unproven: {origin} signed trees of size {doubt.held.tree_size} and {size}, and "
            "nobody could show that they are of one history: trust neither, ask other members for the path",
        )
        notes = (doubt.held.note,) if newest is None else (newest.note, doubt.held.note)
        return replace(judgement, checkpoints=notes)

    def _drop_doubt(self, held: HeldCheckpoint) -> bool:
        """Forget a doubt that is settled; returns whether it had been alarmed."""
        followed = self._followed[held.origin]
        if not followed.settle(held):
            return False
        self._save(held.origin, newest=followed.newest)
        return True

    def _save(self, origin: str, *, newest: HeldCheckpoint | None) -> None:
        unproven = tuple(held.note for held in self.unproven(origin))
        self._state.save(
            origin, StoredView(newest=None if newest is None else newest.note, unproven=unproven)
        )

    @staticmethod
    def _say(outcome: Outcome, held: HeldCheckpoint, reason: str = "") -> Judgement:
        return Judgement(outcome=outcome, origin=held.origin, tree_size=held.tree_size, reason=reason)
