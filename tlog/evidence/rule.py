"""Whether an entry that a log took breaks a rule: by the entry alone, or by the membership at its index.

Everything here speaks about one log, whose signed trees the entries were proven to be in. The rules are those
by which the log itself admits entries (`tlog.validate`, `tlog.membership`); nothing is judged anew.
"""

from __future__ import annotations

from tlog.encoding import shown
from tlog.envelope import decode_entry, verify_signatures
from tlog.errors import MalformedError, ProofError, RefusalReason, RefusedError, SignatureError
from tlog.event import Event, parse_event
from tlog.evidence.kinds import LoggedEntry, RuleEvidence, stated_checkpoint
from tlog.governance import is_governance, parse_governance
from tlog.membership import Registry
from tlog.merkle import leaf_hash, verify_inclusion
from tlog.validate import verify_entry


def verify_rule(evidence: RuleEvidence, origin: str) -> tuple[str, bool]:
    """Verify that the accused entry breaks the rule that is named, in the log of this origin.

    Returns a sentence that says how, and whether it is unproven: everything is as stated, but another
    governance entry could stand between those given and the accused one. Signatures of checkpoints are the
    caller's to verify. Raises ProofError when an entry is not in its tree, or the rule is not broken.
    """
    trees = {note: stated_checkpoint(note) for note in evidence.checkpoints}
    for logged in evidence.entries:
        stated = trees[logged.checkpoint]
        verify_inclusion(
            leaf_hash(logged.entry), logged.leaf_index, stated.tree_size, logged.proof, stated.root_hash
        )
    index = evidence.accused.leaf_index
    match evidence.reason:
        case RefusalReason.MALFORMED_ENVELOPE:
            return f"entry {index} is no entry: {_envelope_fault(evidence.accused)}", False
        case RefusalReason.BAD_SIGNATURE:
            return f"entry {index} has a bad signature: {_signature_fault(evidence.accused)}", False
        case RefusalReason.WRONG_ORIGIN:
            event = _event_of(evidence.accused)
            if event.origin == origin:
                raise ProofError(f"entry {index} was made for {shown(origin)}, the log that it is in")
            return f"entry {index} was made for another log, {shown(event.origin)}", False
        case RefusalReason.SOURCE_ID_CONFLICT:
            return _same_identity(evidence), False
    return _refused_at_its_index(evidence, origin)


def _envelope_fault(logged: LoggedEntry) -> str:
    try:
        decode_entry(logged.entry)
    except MalformedError as error:
        return str(error)
    raise ProofError(f"the envelope of entry {logged.leaf_index} is as it has to be")


def _signature_fault(logged: LoggedEntry) -> str:
    try:
        verify_signatures(decode_entry(logged.entry))
    except SignatureError as error:
        return str(error)
    except MalformedError as error:
        raise ProofError(
            f"entry {logged.leaf_index} has no signatures to speak of, it is a "
            f"{RefusalReason.MALFORMED_ENVELOPE}: {error}"
        ) from error
    raise ProofError(f"all signatures of entry {logged.leaf_index} verify")


def _event_of(logged: LoggedEntry) -> Event:
    try:
        return parse_event(decode_entry(logged.entry).payload)
    except MalformedError as error:
        raise ProofError(f"entry {logged.leaf_index} holds no event: {error}") from error


def _same_identity(evidence: RuleEvidence) -> str:
    assert evidence.other is not None
    accused, other = _event_of(evidence.accused), _event_of(evidence.other)
    if (accused.source, accused.id) != (other.source, other.id):
        raise ProofError(
            f"entries {evidence.other.leaf_index} and {evidence.accused.leaf_index} are events of different "
            "source or id"
        )
    return (
        f"entry {evidence.accused.leaf_index} has the source {shown(accused.source)} and id "
        f"{shown(accused.id)} of entry {evidence.other.leaf_index}"
    )


def _refused_at_its_index(evidence: RuleEvidence, origin: str) -> tuple[str, bool]:
    index = evidence.accused.leaf_index
    before = [logged for logged in evidence.governance if logged.leaf_index < index]
    after = [logged for logged in evidence.governance if logged.leaf_index > index]
    if before and before[0].leaf_index != 0:
        raise ProofError(f"the membership proof begins at entry {before[0].leaf_index}, not with the genesis")
    registry = Registry.EMPTY
    for logged in before:
        registry = _apply(registry, logged, origin)
    for logged in after:
        _apply(registry, logged, origin)
    try:
        verified = verify_entry(evidence.accused.entry, origin)
        registry.fold(verified.event, verified.public_keys, verified.leaf_hash)
    except RefusedError as refusal:
        if refusal.reason != evidence.reason:
            raise ProofError(
                f"entry {index} is refused for {refusal.reason}, not for {evidence.reason}: {refusal.message}"
            ) from refusal
        proven = bool(after) or index == 0 or _names_its_place(evidence.accused, registry)
        finding = f"entry {index} is refused by the rules at its index: {refusal.message}"
        return finding, not proven
    raise ProofError(f"entry {index} keeps the rules that the membership proof shows")


def _apply(registry: Registry, logged: LoggedEntry, origin: str) -> Registry:
    try:
        verified = verify_entry(logged.entry, origin)
        return registry.apply(verified.event, verified.public_keys, verified.leaf_hash)
    except RefusedError as refusal:
        raise ProofError(
            f"entry {logged.leaf_index} is not the governance entry of seq {registry.seq + 1}: "
            f"{refusal.message}"
        ) from refusal


def _names_its_place(accused: LoggedEntry, registry: Registry) -> bool:
    """Return whether an entry is governance that itself says to come right after this registry.

    Its `prev` pins the whole chain before it, so that there is no other registry it could be right for: no
    later governance entry is needed, and a log that took it may never have a valid one again.
    """
    try:
        event = _event_of(accused)
        if not is_governance(event):
            return False
        parsed = parse_governance(event)
    except (MalformedError, ProofError):
        return False
    return (parsed.seq, parsed.prev) == (registry.seq + 1, registry.prev)
