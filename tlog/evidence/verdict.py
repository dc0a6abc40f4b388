"""The judge: what a piece of evidence proves, and which keys of a policy it convicts. Pure, without a clock.

A key is convicted by its own signatures only: it must have validly signed every checkpoint that the evidence
needs. Two checkpoints that contradict each other under two different keys convict neither; they still are a
reason to ask.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from tlog.cosignature import CosignerVerifier
from tlog.encoding import shown
from tlog.errors import PolicyError
from tlog.evidence.kinds import (
    EmptyEvidence,
    Evidence,
    EvidenceKind,
    LeafEvidence,
    RuleEvidence,
    SameSizeEvidence,
    SizesEvidence,
    stated_checkpoint,
    stated_origin,
)
from tlog.evidence.rule import verify_rule
from tlog.merkle import verify_fork, verify_inclusion
from tlog.note import Verifier, open_note, parse_note
from tlog.policy import Policy
from tlog.receipt import parse_receipt


class KeyRole(enum.StrEnum):
    """Says as what a policy lists a key."""

    LOG = "log"
    WITNESS = "witness"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvictedKey:
    """Names a key of the policy that signed what contradicts itself, or the rules."""

    role: KeyRole
    name: str
    vkey: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Says what evidence proves: `convicted` are the keys that signed all of it, logs first.

    `tree_sizes` are those of the evidence's checkpoints, `finding` says in a sentence what is wrong. When it
    is `unproven`, everything is as the evidence says, but it leaves a gap; then nobody is convicted.
    """

    kind: EvidenceKind
    origin: str
    tree_sizes: tuple[int, ...]
    finding: str
    convicted: tuple[ConvictedKey, ...]
    unproven: bool = False

    @property
    def convicts_log(self) -> bool:
        """Return whether a key of the log itself is convicted, and not only a witness."""
        return any(key.role == KeyRole.LOG for key in self.convicted)


def verify_evidence(evidence: Evidence, policy: Policy) -> Verdict:
    """Verify a piece of evidence against a policy, whose quorum does not matter, and name whom it convicts.

    Convicts every log key of this origin, and every witness key, that validly signed all checkpoints in it;
    for an entry that breaks a rule only the log, as witnesses see no entries.

    Raises ProofError when it does not prove what it states, PolicyError when no key of the policy signed all
    of it, SignatureError when a signature by a key of the policy is forged; then nobody is convicted.
    """
    origin = stated_origin(evidence)
    # Signatures first: they are cheap, and only who holds signed checkpoints may make us work.
    convicted = _signers_of_all(evidence, policy, origin)
    unproven = False
    match evidence:
        case SameSizeEvidence():
            finding = _finding_of_same_size(evidence)
        case SizesEvidence():
            finding = _finding_of_sizes(evidence)
        case EmptyEvidence():
            root_hash = stated_checkpoint(evidence.checkpoint).root_hash
            finding = f"an empty tree was signed with root {root_hash.hex()}, which no empty tree has"
        case LeafEvidence():
            finding = _finding_of_leaf(evidence)
        case RuleEvidence():
            finding, unproven = verify_rule(evidence, origin)
    return Verdict(
        kind=evidence.kind,
        origin=origin,
        tree_sizes=tuple(stated_checkpoint(note).tree_size for note in evidence.checkpoints),
        finding=finding,
        convicted=() if unproven else convicted,
        unproven=unproven,
    )


def _finding_of_same_size(evidence: SameSizeEvidence) -> str:
    first, second = stated_checkpoint(evidence.first), stated_checkpoint(evidence.second)
    return (
        f"two trees of size {first.tree_size} were signed, with roots {first.root_hash.hex()} and "
        f"{second.root_hash.hex()}"
    )


def _finding_of_sizes(evidence: SizesEvidence) -> str:
    smaller, larger = stated_checkpoint(evidence.smaller), stated_checkpoint(evidence.larger)
    verify_fork(smaller.tree_size, larger.tree_size, evidence.path, smaller.root_hash, larger.root_hash)
    return (
        f"the signed tree of size {larger.tree_size} does not begin with the signed tree of size "
        f"{smaller.tree_size}: it has another root than {smaller.root_hash.hex()} there"
    )


def _finding_of_leaf(evidence: LeafEvidence) -> str:
    for leaf in (evidence.first, evidence.second):
        receipt = parse_receipt(leaf.receipt)
        stated = stated_checkpoint(receipt.checkpoint)
        verify_inclusion(
            leaf.leaf_hash, receipt.leaf_index, stated.tree_size, receipt.proof, stated.root_hash
        )
    return (
        f"leaf {receipt.leaf_index} has two hashes in signed trees, {evidence.first.leaf_hash.hex()} and "
        f"{evidence.second.leaf_hash.hex()}"
    )


def _signers_of_all(evidence: Evidence, policy: Policy, origin: str) -> tuple[ConvictedKey, ...]:
    candidates = list(_candidates(evidence, policy, origin))
    signed = [_signed_by(note, candidates, policy) for note in evidence.checkpoints]
    convicted = tuple(
        ConvictedKey(role=role, name=verifier.name, vkey=verifier.vkey)
        for role, verifier in candidates
        if all((verifier.name, verifier.key_id) in keys for keys in signed)
    )
    if convicted:
        return convicted
    described = "; ".join(
        f"size {stated_checkpoint(note).tree_size} by {', '.join(sorted(map(_shown_key, keys))) or 'none'}"
        for note, keys in list(zip(evidence.checkpoints, signed, strict=True))[:4]
    )
    raise PolicyError(
        f"no key that this policy lists for {shown(origin)} signed all {len(signed)} checkpoints of the "
        f"evidence ({described}), so it convicts nobody by this policy"
    )


def _candidates(
    evidence: Evidence, policy: Policy, origin: str
) -> Iterator[tuple[KeyRole, Verifier | CosignerVerifier]]:
    """Yield the keys whose signatures could convict them: a log's key speaks for its own origin only."""
    for log in policy.logs:
        if log.origin == origin:
            yield KeyRole.LOG, log.verifier
    if not isinstance(evidence, RuleEvidence):
        for witness in policy.witnesses:
            yield KeyRole.WITNESS, witness.verifier


def _signed_by(
    note: bytes, candidates: list[tuple[KeyRole, Verifier | CosignerVerifier]], policy: Policy
) -> set[tuple[str, bytes]]:
    """Return which of the candidates validly signed a note, each as name and key ID."""
    _, signatures = parse_note(note)
    known = {(verifier.name, verifier.key_id) for _, verifier in candidates}
    if not known.intersection((signature.name, signature.key_id) for signature in signatures):
        return set()
    # With every key of the policy: a note with a forged signature by any of them is worth nothing.
    opened = open_note(note, policy.verifiers)
    return known.intersection((signature.name, signature.key_id) for signature in opened.signatures)


def _shown_key(key: tuple[str, bytes]) -> str:
    return f"{shown(key[0])} (key ID {key[1].hex()})"
