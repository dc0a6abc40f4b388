"""What checkpoints and receipts of one log, with their entries, are enough to convict it of.

Whoever has a tree says what path it makes. What is found has the right form only; whether it convicts anybody
is for `verify_evidence` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations

from tlog.envelope import decode_entry, verify_signatures
from tlog.errors import MalformedError, RefusalReason, RefusedError, SignatureError
from tlog.event import parse_event
from tlog.evidence.kinds import WITHOUT_CONTEXT, Evidence, LoggedEntry, stated_checkpoint
from tlog.evidence.make import make_empty, make_from_checkpoints, make_leaf, make_rule
from tlog.merkle import EMPTY_ROOT, leaf_hash
from tlog.receipt import parse_receipt
from tlog.validate import verify_entry

FindPath = Callable[[int, int], Sequence[bytes] | None]
"""Makes the whole consistency path from a tree size to a larger one; None where it cannot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedLeaf:
    """Holds a receipt with the leaf hash that it proves, and the entry where that is at hand."""

    receipt: bytes
    leaf_hash: bytes
    entry: bytes | None = None

    @classmethod
    def of_entry(cls, entry: bytes, receipt: bytes) -> ReceivedLeaf:
        """Take an entry with its receipt. Raises MalformedError for what is no receipt."""
        parse_receipt(receipt)
        return cls(receipt=receipt, leaf_hash=leaf_hash(entry), entry=entry)


def find_evidence(
    notes: Sequence[bytes], leaves: Sequence[ReceivedLeaf], find_path: FindPath = lambda size1, size2: None
) -> Iterator[Evidence]:
    """Yield every piece of evidence that can be made of notes and receipts, the simplest kinds first.

    Statements of different logs are never held against each other. Raises MalformedError for what is no
    checkpoint or receipt.
    """
    signed = list(dict.fromkeys([*notes, *(parse_receipt(leaf.receipt).checkpoint for leaf in leaves)]))
    stated = {note: stated_checkpoint(note) for note in signed}
    for note in signed:
        if stated[note].tree_size == 0 and stated[note].root_hash != EMPTY_ROOT:
            yield make_empty(note)
    pairs = [
        (one, other) for one, other in combinations(signed, 2) if stated[one].origin == stated[other].origin
    ]
    for one, other in pairs:
        if stated[one].tree_size == stated[other].tree_size and (made := make_from_checkpoints((one, other))):
            yield made
    for leaf, another in combinations(leaves, 2):
        # Two origins, two indices, or one leaf: no contradiction.
        with suppress(MalformedError):
            yield make_leaf(leaf.leaf_hash, leaf.receipt, another.leaf_hash, another.receipt)
    for one, other in pairs:
        size1, size2 = sorted((stated[one].tree_size, stated[other].tree_size))
        if 0 < size1 < size2 and (path := find_path(size1, size2)) is not None:
            with suppress(MalformedError):
                made = make_from_checkpoints((one, other), path)
                if made is not None:
                    yield made
    yield from _find_rules(leaves)


def _find_rules(leaves: Sequence[ReceivedLeaf]) -> Iterator[Evidence]:
    logged: list[LoggedEntry] = []
    for leaf in leaves:
        if leaf.entry is not None:
            # An entry that is too long for evidence is one that nobody can show.
            with suppress(MalformedError):
                logged.append(LoggedEntry.from_receipt(leaf.entry, leaf.receipt))
    for one in logged:
        reason = broken_alone(one.entry, stated_checkpoint(one.checkpoint).origin)
        if reason is not None:
            yield make_rule(reason, one)
    for one, another in combinations(logged, 2):
        name = _name(one.entry)
        if name is not None and name == _name(another.entry) and one.leaf_index != another.leaf_index:
            with suppress(MalformedError):
                yield make_rule(RefusalReason.SOURCE_ID_CONFLICT, one, other=another)


def broken_alone(entry: bytes, origin: str) -> RefusalReason | None:
    """Return the rule that an entry in the log of this origin breaks by itself; None if it breaks none."""
    try:
        verify_entry(entry, origin)
    except RefusedError as error:
        if error.reason in WITHOUT_CONTEXT:
            return error.reason
    try:
        verify_signatures(decode_entry(entry))
    except SignatureError:
        # Whatever else is wrong with the event, and would take a membership proof.
        return RefusalReason.BAD_SIGNATURE
    except MalformedError:
        # What is too long for a log has no envelope for those who judge it alone.
        return RefusalReason.MALFORMED_ENVELOPE
    return None


def _name(entry: bytes) -> tuple[str, str] | None:
    try:
        event = parse_event(decode_entry(entry).payload)
    except MalformedError:
        return None
    return event.source, event.id
