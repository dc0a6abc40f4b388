"""From what a monitor saw to evidence that convinces a third party (`tlog.evidence`), where there is any.

Nothing leaves here that the judge of evidence does not accept: what does not convict is no evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tlog.client.trusted_log import VerifiedCheckpoint
from tlog.errors import MalformedError, NotFoundError, RefusalReason, VerificationError
from tlog.evidence import (
    Evidence,
    LoggedEntry,
    RuleEvidence,
    format_evidence,
    make_from_checkpoints,
    make_rule,
    parse_evidence,
    stated_checkpoint,
    verify_evidence,
)
from tlog.evidence.find import broken_alone
from tlog.evidence.kinds import WITH_MEMBERSHIP
from tlog.merkle import leaf_hash
from tlog.monitor.cursor import Lookups
from tlog.monitor.judge import Finding, JudgedEntry
from tlog.monitor.prefix_tree import PrefixTree
from tlog.monitor.replay import CheckedRun
from tlog.policy import Policy

FetchEntry = Callable[[int, VerifiedCheckpoint], bytes | None]
"""Reads an entry again from where the log is read, under a checkpoint; None when it is not shown."""


def contradiction_evidence(
    policy: Policy, notes: Sequence[bytes], path: Sequence[bytes] | None
) -> bytes | None:
    """Make evidence of checkpoint notes that contradict each other, with the whole path between them.

    Returns None when they, and the path, do not convict anybody.
    """
    try:
        evidence = make_from_checkpoints(notes, path or None)
    except MalformedError:
        return None
    return None if evidence is None else _sound(evidence, policy)


def rule_evidence(
    finding: Finding,
    judged: JudgedEntry,
    *,
    checked: CheckedRun,
    lookups: Lookups,
    fetch: FetchEntry,
    policy: Policy,
) -> bytes | None:
    """Make evidence of an entry that breaks a rule, with what shows that it does.

    For a rule of membership the proof lacks the governance entry after the accused one, until there is one:
    `with_next_governance` adds it. Returns None when the entry that was first cannot be had any more.
    """
    tree = checked.tree(lookups)
    accused = _logged(judged.leaf_index, judged.entry, tree, checked.under)
    # What it breaks by itself convicts at once, whatever the members were.
    reason = broken_alone(judged.entry, stated_checkpoint(checked.under.note).origin) or finding.reason
    other: LoggedEntry | None = None
    governance: list[LoggedEntry] = []
    if reason is RefusalReason.SOURCE_ID_CONFLICT and finding.first_index is not None:
        first = _entry(finding.first_index, checked, lookups, fetch)
        if first is None:
            return None
        other = _logged(finding.first_index, first, tree, checked.under)
    elif reason in WITH_MEMBERSHIP:
        governance = [
            _logged(index, lookups.entry(index), tree, checked.under)
            for index in lookups.governance_indices()
            if index < judged.leaf_index
        ]
    try:
        return _sound(make_rule(reason, accused, other=other, governance=governance), policy)
    except MalformedError:
        return None


def awaits_governance(evidence: bytes) -> bool:
    """Tell whether a piece of evidence lacks the governance entry after the accused one."""
    try:
        parsed = parse_evidence(evidence)
    except MalformedError:
        return False
    return (
        isinstance(parsed, RuleEvidence)
        and parsed.reason in WITH_MEMBERSHIP
        and not any(one.leaf_index > parsed.accused.leaf_index for one in parsed.governance)
    )


def with_next_governance(
    evidence: bytes, judged: JudgedEntry, *, checked: CheckedRun, lookups: Lookups, policy: Policy
) -> bytes | None:
    """Complete a membership proof by the governance entry that came next; None when it does not fit."""
    try:
        parsed = parse_evidence(evidence)
        if not isinstance(parsed, RuleEvidence) or judged.leaf_index <= parsed.accused.leaf_index:
            return None
        following = _logged(judged.leaf_index, judged.entry, checked.tree(lookups), checked.under)
        whole = make_rule(parsed.reason, parsed.accused, governance=[*parsed.governance, following])
    except MalformedError:
        return None
    return _sound(whole, policy)


def _sound(evidence: Evidence, policy: Policy) -> bytes | None:
    try:
        verify_evidence(evidence, policy)
        return format_evidence(evidence)
    except (VerificationError, MalformedError):
        return None


def _logged(index: int, entry: bytes, tree: PrefixTree, under: VerifiedCheckpoint) -> LoggedEntry:
    return LoggedEntry(
        entry=entry, leaf_index=index, proof=tree.prove_inclusion(index), checkpoint=under.note
    )


def _entry(index: int, checked: CheckedRun, lookups: Lookups, fetch: FetchEntry) -> bytes | None:
    """Return an entry that was checked before: kept here, or read again and the same."""
    try:
        return lookups.entry(index)
    except NotFoundError:
        entry = fetch(index, checked.under)
    if entry is None or leaf_hash(entry) != lookups.node_reader(checked.grown)(0, index):
        return None
    return entry
