"""The evidence that a node holds: taken from peers or made here, durable, and never forgotten. Pure.

Where a disk takes nothing more, evidence is relied on and told all the same, since it proves itself wherever
it is; it is made durable as soon as that can be done.

A piece is kept when it convicts a key that was not convicted before, or only by evidence that is too long to
be spread. So there are never more than two pieces for each key of a policy, however much a log signs.
"""

from __future__ import annotations

from collections import OrderedDict

from tlog.errors import MalformedError, PolicyError, StorageError, VerificationError
from tlog.gossip.conviction import Conviction, judge_evidence
from tlog.gossip.held import HeldCheckpoint
from tlog.gossip.judgement import Judgement, Outcome
from tlog.gossip.message import MAX_EVIDENCE_BYTES, MAX_EVIDENCE_HELD, evidence_digest
from tlog.gossip.state import GossipState, verify_stored
from tlog.policy import Policy

MAX_NEEDLESS = MAX_EVIDENCE_HELD // 2
"""Pieces that were verified and not needed, by digest, that peers are told not to send again."""


class Convictions:
    """Holds convictions by the digest of their evidence, in the order in which they came."""

    def __init__(self, policy: Policy, state: GossipState) -> None:
        """Take up what `state` remembers. Raises CorruptionError when that does not verify any more."""
        self._policy = policy
        self._state = state
        self._by_digest: dict[bytes, Conviction] = {}
        self._convicted: frozenset[str] = frozenset()
        self._convicted_everywhere: frozenset[str] = frozenset()  # by what is short enough to be spread
        self._needless: OrderedDict[bytes, None] = OrderedDict()
        self._unkept: list[Conviction] = []
        for evidence in state.evidence():
            self._remember(verify_stored(evidence, policy, judge_evidence))

    @property
    def evidence(self) -> tuple[bytes, ...]:
        """Return all evidence that is held."""
        return tuple(conviction.evidence for conviction in self._by_digest.values())

    @property
    def convicted(self) -> frozenset[str]:
        """Return the vkeys of all keys that are convicted, of logs and of witnesses."""
        return self._convicted

    @property
    def digests(self) -> tuple[bytes, ...]:
        """Return the digests of the evidence that is held, and then of what need not be sent here."""
        return (*self._by_digest, *self._needless)[:MAX_EVIDENCE_HELD]

    def is_refused(self, origin: str) -> bool:
        """Whether a key of this log is convicted: it is refused for ever, also after a restart."""
        if not self._convicted:
            return False
        keys = {log.verifier.vkey for log in self._policy.logs if log.origin == origin}
        return not self._convicted.isdisjoint(keys)

    def take(self, evidence: bytes) -> Judgement:
        """Judge a piece of evidence; what convicts somebody anew is kept."""
        digest = evidence_digest(evidence)
        if digest in self._by_digest or digest in self._needless:
            return Judgement(outcome=Outcome.KNOWN)
        if len(evidence) > MAX_EVIDENCE_BYTES:
            return Judgement(outcome=Outcome.MALFORMED, reason=f"evidence of {len(evidence)} bytes")
        try:
            conviction = judge_evidence(evidence, self._policy)
        except MalformedError as error:
            return Judgement(outcome=Outcome.MALFORMED, reason=str(error))
        except PolicyError as error:
            self._decline(digest)
            return Judgement(outcome=Outcome.IGNORED, reason=str(error))
        except VerificationError as error:
            return Judgement(outcome=Outcome.FORGED, reason=str(error))
        if conviction.convicted <= self._convicted_everywhere:
            self._decline(digest)
            return Judgement(
                outcome=Outcome.IGNORED, reason="it convicts nobody who was not convicted before"
            )
        return self.keep(conviction, Outcome.CONVICTED)

    def refresh(self) -> list[Judgement]:
        """Take up evidence that somebody else put where `state` keeps it, and keep what could not be kept.

        Raises StorageError.
        """
        while self._unkept:
            self._state.keep_evidence(self._unkept[0].evidence)
            self._unkept.pop(0)
        judgements = []
        for evidence in self._state.evidence():
            digest = evidence_digest(evidence)
            if digest not in self._by_digest and digest not in self._needless:
                conviction = verify_stored(evidence, self._policy, judge_evidence)
                self._remember(conviction)
                judgements.append(_convicted(conviction, Outcome.CONVICTED, 0))
        return judgements

    def keep(self, conviction: Conviction, outcome: Outcome, held: HeldCheckpoint | None = None) -> Judgement:
        """Make evidence durable, and rely on it; what cannot be written yet, `refresh` writes later."""
        problem = ""
        try:
            self._state.keep_evidence(conviction.evidence)
        except StorageError as error:
            self._unkept.append(conviction)
            problem = f"; NOT KEPT YET, hand it on before this process ends: {error}"
        self._remember(conviction)
        return _convicted(conviction, outcome, 0 if held is None else held.tree_size, problem)

    def _decline(self, digest: bytes) -> None:
        """Note that a piece convicts nobody here, or nobody new: peers need not send it."""
        self._needless[digest] = None
        if len(self._needless) > MAX_NEEDLESS:
            self._needless.popitem(last=False)

    def _remember(self, conviction: Conviction) -> None:
        self._by_digest[evidence_digest(conviction.evidence)] = conviction
        self._convicted |= conviction.convicted
        if len(conviction.evidence) <= MAX_EVIDENCE_BYTES:
            self._convicted_everywhere |= conviction.convicted


def _convicted(conviction: Conviction, outcome: Outcome, tree_size: int, problem: str = "") -> Judgement:
    return Judgement(
        outcome=outcome,
        origin=conviction.origin,
        tree_size=tree_size,
        reason=f"{conviction.finding}; convicted: {', '.join(sorted(conviction.convicted))}{problem}",
        evidence=conviction.evidence,
    )
