"""Evidence as the pool uses it: made from what is held, verified when it comes in."""

from __future__ import annotations

from dataclasses import dataclass

from tlog.errors import PolicyError
from tlog.evidence import format_evidence, make_from_checkpoints, parse_evidence, verify_evidence
from tlog.gossip.held import HeldCheckpoint
from tlog.gossip.message import ConsistencyPath
from tlog.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Conviction:
    """Holds evidence that was verified: whom it convicts, by vkey, and what it shows in a sentence."""

    evidence: bytes
    origin: str
    convicted: frozenset[str]
    finding: str


def convict(
    smaller: HeldCheckpoint, larger: HeldCheckpoint, path: ConsistencyPath | None, policy: Policy
) -> Conviction:
    """Make evidence of two checkpoints that `relate` found contradictory with this path.

    Raises what `judge_evidence` raises, which after such a finding is a bug.
    """
    made = make_from_checkpoints((smaller.note, larger.note), None if path is None else path.hashes)
    assert made is not None
    return judge_evidence(format_evidence(made), policy)


def convict_impossible(held: HeldCheckpoint, policy: Policy) -> Conviction:
    """Make evidence of a checkpoint that `is_impossible`. Raises what `judge_evidence` raises."""
    made = make_from_checkpoints((held.note,))
    assert made is not None
    return judge_evidence(format_evidence(made), policy)


def judge_evidence(evidence: bytes, policy: Policy) -> Conviction:
    """Verify evidence against a policy, whoever made it.

    Raises MalformedError for what is no evidence; ProofError or SignatureError for what is false; PolicyError
    where it convicts nobody whom the policy lists, or proves too little to convict.
    """
    verdict = verify_evidence(parse_evidence(evidence), policy)
    if verdict.unproven or not verdict.convicted:
        raise PolicyError(f"this evidence leaves a gap, so it convicts nobody: {verdict.finding}")
    return Conviction(
        evidence=evidence,
        origin=verdict.origin,
        convicted=frozenset(key.vkey for key in verdict.convicted),
        finding=verdict.finding,
    )
