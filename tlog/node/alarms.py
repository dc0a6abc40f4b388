"""Turns what gossip finds into alerts. They go where a monitor's go: journal, log, file, command, webhook."""

from __future__ import annotations

from tlog.evidence import RuleEvidence, parse_evidence
from tlog.gossip.judgement import ALARMS, Judgement, Outcome
from tlog.gossip.message import evidence_digest
from tlog.monitor.alerts import Alert, AlertKind


def alert_of(who: str, judgement: Judgement) -> Alert | None:
    """Say what a person should hear of a judgement; None where that is nothing.

    Two judgements about the same thing give alerts of one identity, so it is told once. `who` sent what was
    judged; "" means that it came of what is held here.
    """
    origin = judgement.origin
    facts: dict[str, str | int] = {"origin": origin, "tree_size": judgement.tree_size, "from": who or "here"}
    about_size = f"{origin}: size {judgement.tree_size}"
    if judgement.outcome is Outcome.CLEARED:
        return Alert(
            kind=AlertKind.CONSISTENCY_UNPROVEN,
            subject=about_size,
            message=f"{about_size}: {judgement.reason}",
            facts=facts,
            resolved=True,
        )
    if judgement.outcome not in ALARMS:
        return None
    if judgement.evidence is None:
        notes = dict(zip(("checkpoint_held", "checkpoint"), judgement.checkpoints, strict=False))
        return Alert(
            kind=AlertKind.CONSISTENCY_UNPROVEN,
            subject=about_size,
            message=f"{about_size} (from {who or 'here'}): {judgement.reason}",
            facts={**facts, **{name: note.decode() for name, note in notes.items()}},
        )
    breaks_a_rule = isinstance(parse_evidence(judgement.evidence), RuleEvidence)
    return Alert(
        kind=AlertKind.RULE_BROKEN if breaks_a_rule else AlertKind.SPLIT_VIEW,
        subject=f"{origin}: evidence {evidence_digest(judgement.evidence).hex()[:32]}",
        message=f"{origin} (from {who or 'here'}): {judgement.reason}",
        facts=facts,
        evidence=judgement.evidence,
    )
